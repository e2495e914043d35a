#include "deferred_map/shared_map.hpp"

namespace dm::detail {

recovery_report report_of(const sharing::shared_arena& arena) {
  recovery_report report;
  report.owners_reaped = arena.reaped_at_open();
  if (arena.found() == left_as::machine_stopped) {
    const sharing::rebuild_counts& counts = arena.salvaged();
    report.outcome = recovery_outcome::salvaged;
    report.slots_examined = static_cast<std::uint32_t>(counts.slots_examined);
    report.reserved_given_back = static_cast<std::uint32_t>(counts.reserved_given_back);
    report.updates_finished = static_cast<std::uint32_t>(counts.updates_finished);
    report.impossible_mended = static_cast<std::uint32_t>(counts.impossible_mended);
  } else if (arena.reaped_at_open() != 0) {
    report.outcome = recovery_outcome::recovered;
  } else if (arena.found() == left_as::killed) {
    report.outcome = recovery_outcome::nothing_under_way;
  }
  return report;
}

}  // namespace dm::detail
