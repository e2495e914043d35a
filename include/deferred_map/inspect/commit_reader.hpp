// The commits of a durable arena, one after the other, as its journal has them; and those that come, as they are made.
//
//   commit_reader reader("stock.arena", {.from = 17});
//   while (const commit_event* event = reader.next()) ...
//   reader.next() again, later: what was committed since
//
// Invariants:
//  1. Commits come in the order of their numbers, each once, and each belongs to the history of the one before it: or there is
//     a gap in between, which says what is missing.
//  2. With a pin, what was not yet read is not retired: there are no gaps but those that a loss of power, a salvage or
//     somebody who exchanges files makes. The writer commits as ever; its journal grows while this is not asked for `next`.
//
// A commit is seen once its record is whole, as readers of the map see it: with `sync::later`, and for a moment in any case,
// before it is on the disk. `only_vouched` keeps it back until a later record (or the arena) says that it is.
//
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "deferred_map/container/version.hpp"
#include "deferred_map/inspect/byte_source.hpp"
#include "deferred_map/inspect/journal_state.hpp"

namespace dm::inspect {

/// What happened to a slot between one commit and the next. What came and went within one is not told.
enum class change_kind : std::uint8_t {
  insert,      ///< a value, under a new key or one that was reserved
  update,      ///< another value under the same key
  remove,      ///< the key is dead, or (where `reserve` of it follows) without its value for now
  reserve,     ///< a key was given out, its value is to come
  release,     ///< a reserved key was given up, and is dead
  skip,        ///< keys below `generation` came and went within the commit; the slot's next one has it
  truncate,    ///< slots from `slot` on were given back: their keys are dead
  impossible,  ///< a version that no operation leaves
};

const char* to_string(change_kind kind) noexcept;

struct slot_change {
  change_kind kind = change_kind::insert;
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;  ///< with `slot` the key; of `skip` that of the slot's next life
  slot_state old_state = slot_state::vacant;
  std::uint32_t old_generation =
      0;  ///< before the commit; of a slot that was vacant, what its next life would have had
  std::span<const std::byte> value;  ///< of insert and update
};

struct commit_view {
  std::uint64_t number = 0;
  std::int64_t unix_ns = 0;
  std::uint64_t record_bytes = 0;
  std::uint64_t generation = 0;      ///< of the journal
  std::uint64_t vouched_commit = 0;  ///< the last commit that was known to be on the disk when this one was written
  std::uint64_t slots_changed = 0;
  std::optional<std::uint32_t>
      slot_count;  ///< after it; keys from there on are dead. Nothing where it is not known yet
  std::vector<slot_change> changes;
};

/// Commits that cannot be shown, or a history that is not the one that was shown so far. Whoever keeps a copy takes a new one.
struct commit_gap {
  std::uint64_t after = 0;  ///< the last commit before it
  std::uint64_t next =
      0;  ///< the number of the next commit that can be shown; not more than `after` where history went back
  std::string reason;
};

struct commit_event {
  std::optional<commit_gap> gap;  ///< else `commit`
  commit_view commit;
};

struct commit_reader_options {
  std::uint64_t from = 0;     ///< the first commit to show; 0: all that the journal has
  bool pin = true;            ///< see invariant 2
  bool only_vouched = false;  ///< only what is known to be on the disk
};

class commit_reader {
 public:
  /// Errors: dm::error with errc::not_found, not_an_arena, wrong_kind (no durable arena), damaged (its header), newer_format,
  /// the system's.
  commit_reader(const std::filesystem::path& path, const commit_reader_options& options);
  commit_reader(const commit_reader&) = delete;
  commit_reader& operator=(const commit_reader&) = delete;
  ~commit_reader();

  /// The next commit, or null where there is none for now. References: until the next call. Memory: the largest record; with
  /// `only_vouched` those that are kept back. Errors: dm::error with errc::damaged, where later commits are known to have been
  /// made and cannot be read; errc::not_found where the arena was removed or replaced; the system's.
  const commit_event* next();

  /// The last commit that was shown or passed over, or the one the journal begins behind.
  std::uint64_t position() const noexcept;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace dm::inspect
