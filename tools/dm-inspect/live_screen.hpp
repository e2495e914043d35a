// The terminal while a program draws on all of it: its other screen, keys as they are pressed, no cursor.
//
// Invariant: however the program ends, short of SIGKILL, the terminal is as it was: on return, on exceptions, on signals that
// end it, and while it is stopped by ^Z.
//
// One at a time. Threads: none but the main one.
#pragma once

#include <chrono>
#include <cstddef>
#include <string_view>

namespace tool {

/// What ended a wait.
enum class live_event {
  time_passed,
  quit_key,     ///< q
  interrupted,  ///< SIGINT, as by ^C
  redraw,       ///< the terminal's size may be another
  gone,         ///< nobody is there to see it
};

class live_screen {
 public:
  /// Requires: standard output is a terminal. Errors: std::system_error.
  live_screen();
  live_screen(const live_screen&) = delete;
  live_screen& operator=(const live_screen&) = delete;
  ~live_screen();

  /// Waits until then, or for one of the other events. Signals that are to end the program do so in here.
  live_event wait(std::chrono::steady_clock::time_point until);

  /// Puts `lines`, each ended by a line end, in the place of what was there. False where they cannot be written.
  bool show(std::string_view lines);

 private:
  void enter();
  void leave() noexcept;
  live_event stop_and_go_on();
};

}  // namespace tool
