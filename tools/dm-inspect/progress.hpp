// How far a long verb has come, for who waits at a terminal. Says nothing in the first second, nothing where stderr is no
// terminal, and nothing to who asked for quiet.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include <unistd.h>

namespace tool {

class progress {
 public:
  progress(std::string what, std::uint64_t total, bool quiet)
      : what_(std::move(what)), total_(total), is_shown_(!quiet && total != 0 && ::isatty(STDERR_FILENO) != 0) {}
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;
  ~progress() { clear(); }

  /// So much of the total is done.
  void at(std::uint64_t done) {
    // Not even the clock is asked but now and then.
    if (!is_shown_ || ++calls_ % 16 != 0) return;
    const auto now = std::chrono::steady_clock::now();
    if (now - shown_ < std::chrono::seconds(1)) return;
    shown_ = now;
    has_line_ = true;
    const double percent = 100.0 * static_cast<double>(done) / static_cast<double>(total_);
    std::fprintf(stderr, "\r%s: %.0f %%\x1b[K", what_.c_str(), percent > 100 ? 100.0 : percent);
  }
  /// Takes the line away again, so that what is printed next begins one.
  void clear() {
    if (has_line_) std::fputs("\r\x1b[K", stderr);
    has_line_ = false;
  }

 private:
  std::string what_;
  std::uint64_t total_;
  bool is_shown_;
  bool has_line_ = false;
  unsigned calls_ = 0;
  std::chrono::steady_clock::time_point shown_ = std::chrono::steady_clock::now();
};

}  // namespace tool
