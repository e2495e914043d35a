// What happened to an arena between two looks at it, as far as versions tell.
//
// A sample is the words of the slots at about one moment. Two of them tell how many lives began and ended in between, since a
// slot's generation goes up by one with each life, and, in shared maps, how often values were updated, since the word counts
// that. Nothing is asked of those who use the arena, and nothing in it is changed.
//
// What it cannot tell: a handle that was released without an insert counts as one life, so as an insert and a remove; changes
// of values in the files of one process leave the slot's word as it is; of a value that was updated and then removed, the
// updates are not seen.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "deferred_map/inspect/arena_file.hpp"
#include "deferred_map/inspect/survey.hpp"

namespace dm::inspect {

/// How much a sample may look at. Of an arena that has more, evenly spread blocks are looked at, and numbers are estimated.
struct sample_limits {
  std::uint64_t slots = std::uint64_t{4} << 20;
  std::uint64_t bytes = std::uint64_t{256} << 20;
};

/// The words of an arena's slots, or of some of them. Memory: 8 bytes for each that is looked at.
class slot_sample {
 public:
  slot_sample() = default;
  /// Requires: arena.has_layout(). Cost: reads the slots it looks at, once. Errors: none.
  explicit slot_sample(const arena_file& arena, const sample_limits& limits = {});

  std::uint64_t slot_count() const noexcept { return slot_count_; }
  /// Slots that were looked at.
  std::uint64_t looked_at() const noexcept { return words_.size(); }
  bool is_whole() const noexcept { return looked_at() == slot_count_; }
  /// What the slots are that were looked at.
  const slot_counts& counts() const noexcept { return counts_; }

 private:
  friend class sample_comparison;

  struct word {
    std::uint32_t version = 0;
    std::uint32_t auxiliary = 0;
  };
  static constexpr std::uint64_t block_slots = 256;

  /// The word that an updating slot has when its update is done, which counts it.
  static word finished(const arena_file& arena, std::uint32_t slot, word during);

  /// The slot that word number `at` is of.
  std::uint64_t slot_of(std::uint64_t at) const noexcept {
    return at / block_slots * block_slots * spread_ + at % block_slots;
  }

  std::array<std::uint8_t, 16> uuid_{};
  std::uint64_t slot_count_ = 0;
  std::uint64_t spread_ =
      1;  // of so many blocks one is looked at: a power of two, so that a wider sample has the same ones
  std::uint32_t first_generation_ = 1;
  bool is_shared_ = false;
  std::vector<word> words_;
  slot_counts counts_;
};

/// Changes in the words of slots [first, first + slots).
struct region_activity {
  std::uint64_t first = 0;
  std::uint64_t slots = 0;
  std::uint64_t changed = 0;
};

struct activity {
  std::uint64_t inserts = 0;
  std::uint64_t removes = 0;
  std::optional<std::uint64_t> updates;  ///< nothing where the kind of file does not tell
  std::uint64_t changed = 0;             ///< slots whose word is another
  std::vector<region_activity> regions;  ///< in order, and together all slots
  bool is_estimated = false;             ///< from a part of the slots
};

/// What happened between `before` and `after`. Nothing where they are of different arenas: the file was replaced.
std::optional<activity> compare(const slot_sample& before, const slot_sample& after, std::uint64_t regions);

}  // namespace dm::inspect
