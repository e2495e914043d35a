// A child process, one instruction at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "image.hpp"

namespace killed {

struct stepped {
  std::vector<image> images;       ///< the first before the first instruction, each other different from the one before
  std::uint64_t instructions = 0;  ///< how many were executed
};

/// Forks. The child runs `prepare` at full speed and then `act` with the parent looking at the file at `path` after
/// every instruction (PTRACE_SINGLESTEP; a repeated string instruction counts at each repetition). `act` may take the
/// file's name away or give it one: `look` is called too, after every instruction, where it is given.
/// Errors: std::runtime_error where the child fails. x86-64 Linux.
stepped single_step(const std::filesystem::path& path, const std::function<void()>& prepare,
                    const std::function<void()>& act, const std::function<void()>& look = {});

}  // namespace killed
