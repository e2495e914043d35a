#include "deferred_map/maps/recovery_report.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "deferred_map/error.hpp"

namespace dm {

std::string recovery_report::to_string() const {
  if (outcome == recovery_outcome::clean) return "it had been closed: nothing to do";
  if (outcome == recovery_outcome::replayed)
    return std::to_string(commits_replayed) + (commits_replayed == 1 ? " commit (" : " commits (") +
           std::to_string(journal_bytes) + " bytes) replayed from the journal" +
           (reserved_given_back == 0 ? "" : ", " + std::to_string(reserved_given_back) + " reserved slots given back");
  // Of shared slots none is lost sight of: there is nothing to rebuild, and nobody counts what was given back.
  if (outcome == recovery_outcome::recovered && owners_reaped != 0)
    return std::to_string(owners_reaped) + (owners_reaped == 1 ? " user" : " users") +
           " had been killed with it open: what they had begun was finished, what they held was given back";
  const std::string who = killed_pid == 0 ? "its last user"
                                          : "process " + std::to_string(killed_pid) +
                                                (killed_program.empty() ? "" : " (" + killed_program + ")");
  if (outcome == recovery_outcome::nothing_under_way) return who + " was killed between two operations: nothing to do";
  std::string text = outcome == recovery_outcome::salvaged
                         ? "the machine stopped while " + who + " had it open: rebuilt from what had reached the disk; "
                         : who + " was killed while it had it open: ";
  text += std::to_string(slots_examined) + " slots examined, counts and index rebuilt";
  if (reserved_given_back != 0) text += ", " + std::to_string(reserved_given_back) + " reserved slots given back";
  if (updates_finished != 0) text += ", a half-done update finished";
  if (impossible_mended != 0) text += ", " + std::to_string(impossible_mended) + " unreadable slots made vacant";
  return text;
}

namespace detail {

void record(control_block& control, const recovery_report& report) {
  recovery_record& kept = control.last_recovery;
  recovery_record fresh;
  fresh.unix_ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  fresh.outcome = static_cast<std::uint32_t>(report.outcome);
  fresh.slots_examined = report.slots_examined;
  fresh.reserved_given_back = report.reserved_given_back;
  fresh.updates_finished = report.updates_finished;
  fresh.impossible_mended = report.impossible_mended;
  fresh.killed_pid = report.killed_pid;
  report.killed_program.copy(fresh.killed_program, sizeof fresh.killed_program - 1);
  fresh.recoveries_total = kept.recoveries_total + 1;
  kept = fresh;
}

bool needs_recovery(const control_block& control) noexcept {
  return !control.nothing_under_way() || control.reserved != 0;
}

void refuse_impossible_version(const std::filesystem::path& arena, std::uint32_t slot) {
  throw error(errc::damaged, arena,
              "this arena is damaged: slot " + std::to_string(slot) +
                  " has a version that no operation leaves. Nothing was changed. Restore a copy, or look at what is "
                  "left with dm-inspect check");
}

void refuse_unsound(const std::filesystem::path& arena, const std::string& fault) {
  throw error(errc::damaged, arena,
              "this arena is damaged: " + fault + ". Restore a copy, or look at what is left with dm-inspect check");
}

void refuse_writing(const std::filesystem::path* arena) {
  if (arena == nullptr)
    throw error(errc::bad_options, "", "this map is not open: it was closed or moved from, or never opened");
  throw error(errc::read_only, *arena, "this map was opened with open_read_only and cannot be changed");
}

std::int64_t monotonic_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace detail
}  // namespace dm
