// All slots of an arena counted in one pass: by state, by generation, by region, and the holes between them.
//
// The files of shared maps keep no counts, and those of files that were left open may be out of step: here only the slots
// themselves are asked. Of a file in use they are of slightly different moments.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "deferred_map/inspect/arena_file.hpp"

namespace dm::inspect {

/// Every slot is counted once in `slots` and once in what it is.
struct slot_counts {
  std::uint64_t slots = 0;
  std::uint64_t occupied = 0;  ///< those that are `updating` too: they have a value
  std::uint64_t reserved = 0;  ///< those that are `cached` too
  std::uint64_t vacant = 0;
  std::uint64_t retired = 0;
  std::uint64_t impossible = 0;  ///< of a version that no operation leaves
  std::uint64_t unreadable = 0;  ///< the medium cannot give them

  std::uint64_t updating = 0;    ///< of the occupied: a new value is being copied into them (shared maps)
  std::uint64_t cached = 0;      ///< of the reserved: kept ready by an attachment, no handle's (shared maps)
  std::uint64_t never_used = 0;  ///< of the vacant: all zeros

  void add(const slot_counts& other) noexcept;
};

/// Slots [first, first + slots) of an arena.
struct slot_region : slot_counts {
  std::uint64_t first = 0;
};

/// How many of something there are of each size from `low` to `high`, both included.
struct histogram_bar {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  std::uint64_t count = 0;
};

/// Counts numbers in constant memory: one by one while all are small, else by powers of two.
class histogram {
 public:
  void add(std::uint64_t number, std::uint64_t times = 1) noexcept;

  std::uint64_t count() const noexcept { return count_; }
  /// Of what was added; 0 where nothing was.
  std::uint64_t min() const noexcept { return count_ == 0 ? 0 : min_; }
  std::uint64_t max() const noexcept { return max_; }
  double mean() const noexcept;
  /// From the first that has something to the last, with those between that have not.
  std::vector<histogram_bar> bars() const;

 private:
  static constexpr std::uint64_t small_end = 16;

  std::uint64_t small_[small_end] = {};
  std::uint64_t doubling_[65] = {};  // by how many bits the number has
  std::uint64_t count_ = 0;
  std::uint64_t min_ = ~std::uint64_t{0};
  std::uint64_t max_ = 0;
  double sum_ = 0;
};

struct survey_options {
  /// At most so many, of the same length each but for the last. At least 1.
  std::uint64_t regions = 1;
  std::function<void(std::uint64_t done, std::uint64_t of)> progress = {};
};

struct survey {
  slot_counts total;
  /// In order, and together all slots. Empty where there are none.
  std::vector<slot_region> regions;
  std::uint64_t slots_per_region = 0;
  /// Of each slot with a possible version that was ever used, as `slots` shows it: a vacant one's is that of its next life.
  histogram generations;
  std::uint32_t generation_max_slot = 0;  ///< the first slot that has the greatest
  /// Lengths of runs of vacant slots.
  histogram holes;
  std::uint64_t longest_hole_first = 0;
  /// How often the values that there are were changed by `update` in their life (shared maps; of others nothing tells).
  histogram updates;
  std::vector<byte_range> unreadable;
};

/// Requires: arena.has_layout(). Cost: reads every slot once; memory: the regions. Errors: none.
survey take_survey(const arena_file& arena, const survey_options& options = {});

}  // namespace dm::inspect
