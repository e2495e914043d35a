// What opening an arena found and did, in numbers and in words.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "deferred_map/format/control_block.hpp"

namespace dm {

/// `recovery()` of a map: how the file had been left, and what was done about it.
struct recovery_report {
  recovery_outcome outcome = recovery_outcome::clean;
  std::uint32_t slots_examined = 0;
  std::uint32_t reserved_given_back = 0;  ///< slots whose handles died with their process
  std::uint32_t updates_finished = 0;     ///< an `update` that was committed but not yet copied into its slot
  std::uint32_t impossible_mended = 0;    ///< by salvage: slots whose version no history leaves, now vacant
  std::uint32_t owners_reaped = 0;        ///< of a shared map: who had died with it open
  std::uint64_t commits_replayed = 0;     ///< of a durable map: from its journal
  std::uint64_t journal_bytes = 0;        ///< that those commits had
  std::uint32_t killed_pid = 0;           ///< who had it open; 0 where it was closed
  std::string killed_program;
  std::int64_t duration_ns = 0;

  /// One sentence for people.
  std::string to_string() const;
};

namespace detail {

/// Keeps the report in the arena, where dm-inspect finds it.
void record(control_block& control, const recovery_report& report);

/// Whether a process that was killed left more to mend than nothing. Cost: constant.
bool needs_recovery(const control_block& control) noexcept;

[[noreturn]] void refuse_impossible_version(const std::filesystem::path& arena, std::uint32_t slot);
[[noreturn]] void refuse_unsound(const std::filesystem::path& arena, const std::string& fault);
/// `arena`: null where the map is not open.
[[noreturn]] void refuse_writing(const std::filesystem::path* arena);

std::int64_t monotonic_ns() noexcept;

}  // namespace detail
}  // namespace dm
