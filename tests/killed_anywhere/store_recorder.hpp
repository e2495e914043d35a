// Every state that the stores and system calls of a function leave a file in, one after the other.
//
// The file's shared mapping is made unwritable. A store to it is then a SIGSEGV, whose handler makes the mapping
// writable and sets the processor's trap flag; the one instruction is executed, and the SIGTRAP that follows takes
// an image and makes the mapping unwritable again. String instructions (`rep movs`) trap at each repetition. Calls that
// change a file by other means (pwrite, ftruncate, posix_fallocate) are the recorder's own functions, which take an
// image after the real one. Between two stores and calls nothing can change the file, so these are all the images that
// a kill at any instruction can leave: `single_step` visits every instruction and makes sure of it.
//
// x86-64 Linux. One recorder at a time, in the thread that uses the file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <vector>

#include "image.hpp"

namespace killed {

/// Runs `work`, which uses the file at `path` through a mapping that exists already or through one it makes, and
/// returns the images: the first as it was before, each other different from the one before it. `keys_told` is asked
/// at each. Growth by a system call counts as growth page by page: that is how far a kill within the call can get.
std::vector<image> record_stores(const std::filesystem::path& path, const std::function<std::size_t()>& keys_told,
                                 const std::function<void()>& work);

}  // namespace killed
