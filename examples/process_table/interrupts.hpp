// Waiting that ends when the user, or the system, asks the program to stop.
#pragma once

#include <chrono>

namespace process_table {

/// From its construction on SIGINT, SIGTERM and SIGHUP no longer end the program; `wait` tells of them. One in a program.
/// Where they were ignored they stay so, as in the background of a script.
class interrupts {
 public:
  interrupts();
  ~interrupts();
  interrupts(const interrupts&) = delete;
  interrupts& operator=(const interrupts&) = delete;

  enum class woken { in_time, by_input, to_stop };
  /// Returns when the time is over, when there is something to read from `input` (or its end), or when asked to stop.
  woken wait(std::chrono::nanoseconds time, int input = -1) const;

 private:
  int signals_;
};

}  // namespace process_table
