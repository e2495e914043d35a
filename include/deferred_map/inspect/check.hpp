// Holds an arena file against every rule of its format, and says everything that is wrong.
//
// The rules, by the names findings have. Severity is error unless said otherwise. "between": holds between
// operations only, so that it is a note in a file that is in use or waits for recovery.
//
//   header-magic, -short, -checksum, -byte-order, -version, -newer-format, -kind, -value, -slot-layout,
//   -slots-max, -schema-size, -type-name, -layout; -reserved (warning) schema-cut-short, schema-checksum,
//   schema-undecodable; schema-type-name (warning) control-cut-short, unreadable closed-mark, synced-mark a
//   mark that does not fit the state it stands for closed-under-way                closed in the midst of
//   something machine-stopped                 not closed when the machine stopped: needs salvage
//   capacity-over-maximum, count-over-capacity, file-cut-short; file-longer (note)
//   count-sum                       between: the four counts make up the slot count
//   count-occupied, -reserved, -vacant, -retired   between: as the versions say
//   generation-floor, recovering-mark, update-mark; update-pending, reserved-left (notes)
//   control-reserved, recovery-record, owner-program (warnings)
//   version-impossible              a version that no operation leaves
//   slot-never-made                 between: a slot that counts and is all zeros
//   leftover-slot                   behind the last slot: taken, or (warning) of a generation past the floor
//   buffer-too-long; buffer-out-of-range, buffer-not-vacant, buffer-duplicate   between
//   index-listed-twice, index-not-listed, index-taken-as-vacant, index-behind-last, index-summary   between
//   Of shared arenas only: word-impossible       a word whose other half does not fit its version
//   slot-owned                      between: reserved or updating, and nobody is attached
//   attachment-left, shared-counts (warnings)   an entry of somebody who is gone; counts where none are kept
//
// What `repair` does about each: docs/INSPECT.md.
#pragma once

#include <cstdint>
#include <functional>

#include "deferred_map/inspect/arena_file.hpp"
#include "deferred_map/inspect/finding.hpp"

namespace dm::inspect {

struct check_options {
  std::size_t listed_per_rule_max = 20;
  std::function<void(std::uint64_t slots_done, std::uint64_t slots)> progress = {};
};

struct check_report {
  finding_list findings;
  bool is_complete = false;  ///< false where the header left no way to find the slots
  std::uint64_t slots_examined = 0;
  /// As the versions say.
  std::uint64_t occupied = 0;
  std::uint64_t reserved = 0;
  std::uint64_t vacant = 0;
  std::uint64_t retired = 0;
  std::uint64_t impossible = 0;

  bool is_clean() const noexcept { return findings.total(severity::error) == 0; }
};

/// Cost: reads every slot and the index in use, once; where header or schema are damaged, some tenths of a second to find
/// out whether they can be mended. Memory: constant.
/// Errors: none; what cannot be read is a finding.
check_report check(const arena_file& arena, const check_options& options = {});

}  // namespace dm::inspect
