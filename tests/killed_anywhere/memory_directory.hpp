// A directory where syncing costs nothing: what is on the disk is not what these tests are about.
#pragma once

#include <unistd.h>

#include <cstdlib>

#include "../temporary_directory.hpp"

namespace killed {

struct prefers_memory {
  prefers_memory() {
    if (::access("/dev/shm", W_OK) == 0) ::setenv("TMPDIR", "/dev/shm", 0);  // unless the user says otherwise
  }
};

class memory_directory : private prefers_memory, public temporary_directory {};

}  // namespace killed
