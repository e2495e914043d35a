// The test is the disk: this program's file and sync calls go through a script, which may look on, or make one fail.
//
// interpose.cpp defines open, fdatasync and their like for the whole program, the libraries in it included.
#pragma once

#include <functional>

#include "../effort.hpp"

namespace disk {

enum class call { open, lock, read, write, allocate, truncate, sync, sync_directory, sync_page, link, unlink, close };

constexpr const char* to_string(call made) noexcept {
  constexpr const char* names[] = {"open", "lock",           "read",      "write", "allocate", "truncate",
                                   "sync", "sync_directory", "sync_page", "link",  "unlink",   "close"};
  return names[static_cast<int>(made)];
}

constexpr bool is_sync(call made) noexcept {
  return made == call::sync || made == call::sync_directory || made == call::sync_page;
}

/// Asked before each call, with its descriptor (-1 where it has none). 0: let it be done; `done`: do nothing and say
/// that it succeeded; else the errno to fail with. Its own calls go to the kernel unasked.
using script = std::function<int(call made, int descriptor)>;
inline constexpr int done = -1;

/// While it lives, calls of this process go through the script. One at a time.
class scripted {
 public:
  explicit scripted(script asked);
  scripted(const scripted&) = delete;
  scripted& operator=(const scripted&) = delete;
  ~scripted();
};

}  // namespace disk
