// Where the levels of the vacancy index lie in a file: level 0 first, one bit a slot, each further level one
// bit a word of 64 bits of the level before, until a level is one word; at least two levels.
#pragma once

#include <array>
#include <cstdint>

namespace dm {

/// The same arithmetic as the container's `index_shape`, restated so that the format stands by itself; a test
/// compares the two.
struct index_levels {
  std::uint32_t levels = 0;
  std::array<std::uint64_t, 7> words{};   // of 64 bits, in each level
  std::array<std::uint64_t, 7> offset{};  // of each level's first word, in words
  std::uint64_t words_total = 0;

  explicit constexpr index_levels(std::uint64_t slots) noexcept {
    std::uint64_t bits = slots;
    do {
      words[levels] = bits == 0 ? 1 : (bits + 63) / 64;
      offset[levels] = words_total;
      words_total += words[levels];
      bits = words[levels];
      ++levels;
    } while (bits > 1 || levels < 2);
  }
};

}  // namespace dm
