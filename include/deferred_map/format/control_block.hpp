// The control block: what changes all the time. 768 bytes at `control_offset`, in a page of its own.
//
//     0  marks: how the file was left, and by whom         changed when it is opened and closed
//    64  counts, and what is under way                      changed by every operation
//   128  what the last recovery found                       changed by recoveries
//   200  durable arenas: which commit this is               changed by every commit
//   256  the vacancy buffer, 128 slot indices               changed by every operation
//
// Invariants:
//  1. occupied + reserved + vacant + retired == slot_count, except while an operation is under way. (Of shared arenas
//     these are not kept, and 0.)
//  2. slot_count <= capacity <= the slots for which the file has real blocks, in the slots and in the index.
//  3. `closed` is 0 while the arena is open for writing; else it is `checksum()`, and no operation is under way.
//  4. `synced` is 0, or `checksum()` of a state all of which had reached the disk before `synced` was stored.
//     So `synced` without `closed` is a file that was opened and not yet changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace dm {

/// What the last opening that found the file not closed did about it. Kept for people who look later.
struct recovery_record {
  std::int64_t unix_ns = 0;   // when; 0: never
  std::uint32_t outcome = 0;  // a recovery_outcome
  std::uint32_t slots_examined = 0;
  std::uint32_t reserved_given_back = 0;
  std::uint32_t updates_finished = 0;
  std::uint32_t impossible_mended = 0;
  std::uint32_t killed_pid = 0;  // of the process that had it open
  char killed_program[32] = {};
  std::uint64_t recoveries_total = 0;
};

/// Values of `control_block::recovering`. A salvage that was interrupted must go on as one.
inline constexpr std::uint32_t recovering_not = 0;
inline constexpr std::uint32_t recovering_crash = 1;
inline constexpr std::uint32_t recovering_salvage = 2;

struct control_block {
  // 0: marks
  std::uint64_t boot_id = 0;  // of the machine when it was last opened for writing, folded to 64 bits
  std::uint64_t closed = 0;
  std::uint64_t synced = 0;
  std::int64_t opened_unix_ns = 0;
  std::uint32_t owner_pid = 0;  // who has, or last had, it open for writing; for messages only
  char owner_program[28] = {};  // its name, NUL-padded

  // 64: counts
  std::uint32_t slot_count = 0;
  std::uint32_t occupied = 0;
  std::uint32_t reserved = 0;
  std::uint32_t vacant = 0;
  std::uint32_t retired = 0;
  std::uint32_t generation_floor = 0;
  std::uint32_t buffer_count = 0;
  std::uint32_t capacity = 0;
  std::uint32_t recovering = 0;      // not 0 while a recovery rewrites counts and index
  std::uint32_t update_pending = 0;  // 1: the scratch area holds the new value of ...
  std::uint32_t update_index = 0;    // ... this slot, ...
  std::uint32_t update_version = 0;  // ... provided its version still is this
  std::uint32_t disk_failed = 0;     // 1: a sync failed, so what is on the disk is unknown; never synced again
  std::uint32_t unused_counts[1] = {};
  // Shared arenas only, where it is an atomic: slots that exist. slot_count and capacity follow it, for tools; the
  // other counts stay 0, and the slots' words alone say what they are.
  std::uint64_t shared_slots = 0;

  // 128
  recovery_record last_recovery;
  // Durable arenas only: which commit these bytes are of, so that a journal can be told from one of another time. Not
  // before the journal vouches for that commit are they written here.
  std::uint64_t durable_commit = 0;      // its number; 0: none yet
  std::uint64_t durable_chain = 0;       // the checksum of its record, which depends on all records before it
  std::uint64_t durable_generation = 0;  // the journal's, when it was written; they ascend for the arena's life
  std::uint8_t unused_recovery[32] = {};

  // 256
  std::uint32_t buffer[128] = {};

  /// XXH3 of the bytes from 64 on, never 0.
  std::uint64_t checksum() const noexcept;

  /// Invariant 1, and nothing else begun: whether a process that was killed here was between two operations.
  bool nothing_under_way() const noexcept {
    const std::uint64_t sum = std::uint64_t{occupied} + reserved + vacant + retired;
    return sum == slot_count && recovering == 0 && update_pending == 0;
  }
};

// The bytes of the file (docs/FORMAT.md). No padding: the checksum is taken over all of them, and a byte nobody stores would
// be as it comes.
static_assert(std::is_trivially_copyable_v<control_block> && std::is_standard_layout_v<control_block>);
static_assert(std::is_trivially_copyable_v<recovery_record> && std::is_standard_layout_v<recovery_record>);
static_assert(std::has_unique_object_representations_v<control_block>);
static_assert(std::has_unique_object_representations_v<recovery_record>);
static_assert(sizeof(recovery_record) == 72 && alignof(recovery_record) == 8);
static_assert(alignof(control_block) == 8 && offsetof(control_block, closed) == 8);
static_assert(offsetof(control_block, synced) == 16 && offsetof(control_block, opened_unix_ns) == 24);
static_assert(offsetof(control_block, recovering) == 96 && offsetof(control_block, disk_failed) == 112);
static_assert(offsetof(control_block, owner_pid) == 32 && offsetof(control_block, owner_program) == 36);
static_assert(offsetof(control_block, slot_count) == 64 && offsetof(control_block, capacity) == 92);
static_assert(offsetof(control_block, shared_slots) == 120, "an atomic of 64 bits, aligned as one");
static_assert(offsetof(control_block, last_recovery) == 128);
static_assert(offsetof(control_block, durable_commit) == 200 && offsetof(control_block, durable_generation) == 216);
static_assert(offsetof(control_block, buffer) == 256);
static_assert(sizeof(control_block) == 768);

/// Numbers in files: never renumber.
enum class recovery_outcome : std::uint32_t {
  clean = 0,              ///< it was closed; nothing to do
  nothing_under_way = 1,  ///< killed between two operations: nothing to do but to note it
  recovered = 2,          ///< killed within one, or with slots reserved: one pass over the versions
  salvaged = 3,           ///< the machine stopped; rebuilt from whatever had reached the disk
  replayed = 4,           ///< a durable map that was not closed: brought to its last commit by its journal
};

constexpr const char* to_string(recovery_outcome outcome) noexcept {
  switch (outcome) {
    case recovery_outcome::clean:
      return "clean";
    case recovery_outcome::nothing_under_way:
      return "nothing under way";
    case recovery_outcome::recovered:
      return "recovered";
    case recovery_outcome::salvaged:
      return "salvaged";
    case recovery_outcome::replayed:
      return "replayed";
  }
  return "unknown";
}

}  // namespace dm
