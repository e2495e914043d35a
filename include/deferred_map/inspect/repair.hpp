// Mends arena files: makes of one with faults another that any map opens, with the values that are there.
//
// What can be rebuilt is rebuilt from what is true: the versions of the slots, and the sizes in the header. Values are never
// changed but by finishing an update that was committed, as opening does. What is done about each rule that `check` has is
// told in docs/INSPECT.md.
//
// Invariants:
//  1. The file that is repaired is not written to: the mended one is another, and in place it takes the name of the first
//     when it is whole and on the disk. A repair that is killed, or fails, leaves what there was.
//  2. No key that was dead at the moment that a slot's bytes are of comes alive (in a file of several moments that may not be
//     the last); where generations are lost, slots are retired or begin far behind all that is known.
//  3. Repairing again finds nothing to do.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "deferred_map/inspect/arena_file.hpp"
#include "deferred_map/inspect/check.hpp"

namespace dm::inspect {

struct repair_options {
  std::size_t listed_per_rule_max = 20;
  std::function<void(std::uint64_t done, std::uint64_t of)> progress = {};
};

struct repair_report {
  check_report before;                ///< what is wrong; findings say whether they are repairable
  bool is_needed = false;             ///< something is wrong that the next to open the file would not pass over
  std::string refusal;                ///< why nothing can be done; empty where something can
  std::optional<check_report> after;  ///< of the mended file; nothing where none was made
  std::uint64_t slots_lost = 0;       ///< with a value maybe, that cannot be read or lies behind the file's end

  bool is_clean() const noexcept { return after ? after->is_clean() : before.is_clean(); }
};

/// What `repair` does about findings of this rule, in a sentence without an end; empty where it does nothing.
std::string_view mending_of(std::string_view rule) noexcept;

/// What is wrong and whether it can be put right. Changes nothing. Cost: as `check`.
repair_report plan_repair(const arena_file& arena, const repair_options& options = {});

/// Makes a mended copy under a new name, unless nothing is wrong or nothing can be done.
/// Of a durable map's arena, the copy has the commits of its journal, and needs none.
/// Errors: errc::exists, in_use (it is open for writing), damaged (a few bytes of it say that it is far longer than what it
/// has), full, the system's; then there is no copy.
repair_report repair_to(const arena_file& arena, const std::filesystem::path& output,
                        const repair_options& options = {});

/// Puts a mended copy in the file's place; the file as it was stays under the name `backup`, if one is given, and a durable
/// map's journal beside that (a kill may leave the old journal beside the mended file too: then opening says so).
/// Errors: as `repair_to`, also where the file is open for reading, or `backup` exists (but as a second name of this very
/// file, as a repair that was killed leaves it), or lies on another file system; then the file is as it was.
/// The last error there can be, its directory not reaching the disk, says itself that the file is repaired all the same.
repair_report repair_in_place(const std::filesystem::path& file, const std::filesystem::path& backup,
                              const repair_options& options = {});

}  // namespace dm::inspect
