// Reading the versions of 64 slots at once, near the speed of memory: recovery looks at every slot there is.
//
// Almost all slots are occupied or vacant in some life; only which of the two is wanted of those, and one bit for each says
// it without a branch. Whatever else there is (reserved, retired, never used, impossible) is rare, and is looked at again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "deferred_map/container/version.hpp"

namespace dm::detail {

/// A bit for each of 64 slots, the first in the lowest.
struct version_bits {
  std::uint64_t occupied = 0;  ///< occupied, and possibly so
  std::uint64_t rare = 0;      ///< neither that nor vacant with a life before and a life to come
};

/// Eight bytes that are 0 or 1 as eight bits, the first byte in the lowest.
inline std::uint64_t bits_of_bytes(const std::uint8_t* bytes) noexcept {
  std::uint64_t eight = 0;
  std::memcpy(&eight, bytes, sizeof eight);
  return (eight * 0x0102'0408'1020'4080u) >> 56;
}

/// Asks for the versions that follow those of these 64 slots. Processors stop their own prefetching at each page of 4 KiB, and
/// a scan without this takes half as long again (10 M slots of 16 bytes: 30 ms, with it 20).
// Inlined whatever it takes: g++ takes a function that only prefetches for one without effects, and drops calls of it.
template <class Slot>
[[gnu::always_inline]] inline void prefetch_behind(const Slot* slots) noexcept {
  constexpr std::size_t line_bytes = 64;
  constexpr std::size_t step = sizeof(Slot) < line_bytes ? line_bytes : sizeof(Slot);
  constexpr std::size_t ahead = (2048 + sizeof(Slot) - 1) / sizeof(Slot) * sizeof(Slot);
  // As a number: behind the last slot this is no address of anything, and prefetching does not mind.
  const auto from = reinterpret_cast<std::uintptr_t>(slots) + ahead;
  for (std::size_t offset = 0; offset < 64 * sizeof(Slot); offset += step)
    __builtin_prefetch(reinterpret_cast<const void*>(from + offset));
}

/// The bits of the slots [slots, slots + 64).
template <class Slot>
inline version_bits read_versions(const Slot* slots) noexcept {
  // The last generation whose slot may be taken is one below the retired one, the first one above 0: one comparison.
  constexpr std::uint32_t first = version::vacant(version::first_generation);
  constexpr std::uint32_t lives = version::vacant(version::retired_generation) - first;
  prefetch_behind(slots);
  std::uint8_t occupied[64];
  std::uint8_t rare[64];
  for (unsigned i = 0; i < 64; ++i) {
    const std::uint32_t v = slots[i].version;
    const bool alive = v - first < lives;
    const bool is_occupied = alive & version::is_occupied(v);
    occupied[i] = is_occupied;
    rare[i] = !(is_occupied | (alive & version::is_vacant(v)));
  }
  version_bits bits;
  for (unsigned i = 0; i < 64; i += 8) {
    bits.occupied |= bits_of_bytes(occupied + i) << i;
    bits.rare |= bits_of_bytes(rare + i) << i;
  }
  return bits;
}

}  // namespace dm::detail
