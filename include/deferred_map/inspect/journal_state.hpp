// The journal beside a durable arena, as somebody finds it who trusts nothing in it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deferred_map/format/journal.hpp"
#include "deferred_map/inspect/byte_source.hpp"
#include "deferred_map/inspect/finding.hpp"

namespace dm::inspect {

/// What an inspection does with a journal.
enum class journal_use : std::uint8_t {
  apply,   ///< shows the arena as its journal's whole commits make it
  ignore,  ///< shows the arena's own bytes, which may be of several commits
};

/// What opening the arena would make of its journal.
enum class journal_condition : std::uint8_t {
  not_needed,  ///< there is none, and the arena was closed
  whole,       ///< it is replayed
  missing,     ///< there is none, and the arena was not closed
  unusable,    ///< no journal, another arena's, of a newer format, or its headers are damaged
  other_time,  ///< of this arena, but not of what the arena is at
  damaged,     ///< commits can be read up to where it is damaged, and later ones are known to have been made
};

const char* to_string(journal_condition condition) noexcept;

/// One generation that counts.
struct journal_generation {
  journal_header header;
  std::uint64_t commits = 0;
  std::uint64_t record_bytes = 0;  ///< of its commits
  std::uint64_t last_commit = 0;   ///< `header.first_commit - 1` where it has none
  std::uint64_t end_offset = 0;    ///< where its chain ends
};

/// Everything about a journal but what its commits changed (commit_reader.hpp).
struct journal_state {
  std::filesystem::path path;
  journal_condition condition = journal_condition::not_needed;
  std::string reason;  ///< what opening says where it refuses; empty where it does not
  bool is_there = false;
  std::uint64_t size_bytes = 0;
  std::uint64_t allocated_bytes = 0;
  std::vector<journal_generation> generations;  ///< those that count, in the order of replay: at most two

  std::uint64_t first_commit = 0;  ///< in the journal; 0: it has none
  std::uint64_t last_commit = 0;   ///< the last that can be read, or the one its first generation follows
  std::uint64_t commits = 0;
  std::uint64_t record_bytes = 0;
  std::int64_t last_unix_ns = 0;     ///< when the last commit was made; 0: there is none
  std::uint64_t vouched_commit = 0;  ///< known to be on the disk: the last that a record, or the arena, says so of
  bool is_torn = false;              ///< behind the last commit lies a part of another: cut off, or on its way

  std::uint64_t arena_commit = 0;       ///< the commit that the arena's own counts are of
  std::uint64_t commits_to_replay = 0;  ///< by the next to open the arena; 0 where that would be refused
  bool is_applied = false;              ///< whether what is shown is the arena with these commits
  std::uint64_t shown_commit = 0;  ///< the commit that what is shown is of; 0 before the first, or where nobody knows

  std::vector<finding> findings;
};

/// "NAME-journal": beside the file itself, where `arena` is a symbolic link to it.
std::filesystem::path journal_path_of(const std::filesystem::path& arena);

}  // namespace dm::inspect
