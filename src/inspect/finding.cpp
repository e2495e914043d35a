#include "deferred_map/inspect/finding.hpp"

#include <utility>

namespace dm::inspect {

const char* to_string(severity level) noexcept {
  switch (level) {
    case severity::note:
      return "note";
    case severity::warning:
      return "warning";
    case severity::error:
      return "error";
  }
  return "unknown";
}

void finding_list::add(finding found) {
  if (count(found.rule, found.level)) listed_.push_back(std::move(found));
}

std::uint64_t finding_list::not_listed() const noexcept {
  return totals_[0] + totals_[1] + totals_[2] - listed_.size();
}

}  // namespace dm::inspect
