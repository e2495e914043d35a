// One pass over the words of all slots of a file that is being made or mended: each is settled, and the vacancy index
// written as they then are. Memory: constant.
#pragma once

#include <cstdint>
#include <functional>

#include "../arena/posix_file.hpp"
#include "deferred_map/format/arena_header.hpp"

namespace dm::inspect {

struct settled_counts {
  std::uint64_t occupied = 0;
  std::uint64_t vacant = 0;
  std::uint64_t retired = 0;
};

/// A slot's word: the version, and in a shared arena the other half of its word in the upper 32 bits.
using settle_word = std::function<void(std::uint32_t slot, std::uint64_t& word)>;

/// Calls `settle` for the word of each slot in [0, slot_count) and stores what it made of it: vacant, retired or occupied.
/// Then writes the levels of the index as far as `capacity` slots need, in the way of the arena's kind.
/// Requires: the file reaches to the last of these slots.
settled_counts settle_slots(const posix::file& file, const arena_header& header, std::uint64_t slot_count,
                            std::uint64_t capacity, const settle_word& settle);

inline bool is_shared(const arena_header& header) noexcept {
  return header.kind == static_cast<std::uint32_t>(arena_kind::shared);
}

}  // namespace dm::inspect
