// What dm-inspect says to the shell: as fsck, bits that are added up.
#pragma once

#include <stdexcept>

namespace tool {

inline constexpr int exit_clean = 0;
inline constexpr int exit_corrected = 1;      ///< for verbs that repair: something was put right
inline constexpr int exit_faults_left = 4;    ///< errors in the file, or a key that is not live
inline constexpr int exit_could_not_run = 8;  ///< no such file, no arena, not readable, output not writable
inline constexpr int exit_usage = 16;         ///< the command line
inline constexpr int exit_interrupted = 32;   ///< SIGINT

/// What is wrong with the command line, where the parser cannot see it.
class usage_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace tool
