// What may be believed of an arena and its journal together, and what is said where it may not: for whoever opens a durable
// map, and for whoever only looks. Knows no files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "deferred_map/error.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/format/journal.hpp"

namespace dm::journal_rules {

/// How far behind the end of a journal a record is looked for that says that it is no end.
inline constexpr std::uint64_t damage_search_bytes = std::uint64_t{1} << 20;

/// The generations of a journal in the order in which they are replayed.
struct generations {
  std::optional<journal_header> older;    ///< only beside `current`
  std::optional<journal_header> current;  ///< the only one, or the younger
  std::optional<fault> reason;            ///< why one that should count does not: the journal is refused
  bool follow_each_other = true;          ///< false: not even salvage can tell which is which
};
/// From what `check_journal_header` says of both places.
generations judge(const journal_header_result& even, const journal_header_result& odd);

/// The arena alone has everything up to its commit, whatever is beside it.
bool was_closed(const control_block& in_file) noexcept;

/// Whether the older generation's chain, of which `older` is at the end, ends where the younger says that it begins.
bool follows(const journal_header& younger, const journal_cursor& older) noexcept;

/// Whether a commit may change these bytes: counts, index, or slots, up to the last there can be: the arena's
/// counts may be of a later moment, when there was less room already.
bool is_sound(const journal_range& range, const arena_header& header) noexcept;

/// Growth that nothing in the journal fills (a head start, room that was reserved) and that is believed all the same, though
/// the file lost it with the power. Whoever commits more waits for the file first.
inline constexpr std::uint64_t growth_believed_bytes = std::uint64_t{512} << 20;

/// Whether an arena that has bytes for `slots_there` slots can have room for `slots`: what was made room for was filled by
/// commits, but for a head start. A few bytes that say otherwise are damage, not a reason to fill the disk or to take memory.
bool is_credible_room(std::uint64_t slots, std::uint64_t slots_there, const arena_header& header,
                      std::uint64_t arena_bytes, std::uint64_t journal_bytes) noexcept;

// What is said where a rule does not hold: a sentence for people, without the arena's name. `name`: of the journal.

std::string missing(const std::string& name);
std::string unusable_header(const std::string& name, const fault& reason, bool arena_was_closed);
std::string not_following(const std::string& name);
std::string damaged_behind(const std::string& name, std::uint64_t commit);
std::string of_another_time(const std::string& name, std::uint64_t arena_commit, std::uint64_t first_commit,
                            std::uint64_t last_commit);
std::string changes_what_no_commit_changes(std::uint64_t commit, std::uint64_t offset);
std::string incredible_room(std::uint64_t slots, std::uint64_t slots_there);

}  // namespace dm::journal_rules
