// A slot's version: two bits of state and thirty of generation in one 32-bit word.
//
//   31                             2 1  0
//  +--------------------------------+----+
//  |           generation           | st |     st: 0b00 vacant  0b01 reserved  0b11 occupied
//  +--------------------------------+----+         0b10 updating (only in maps shared by processes)
//
// Invariants:
//  1. All bits zero is a slot that was never used, so fresh memory and fresh files need no initialising.
//  2. The first life of a slot has generation 1; the last has `last_generation`.
//  3. The generation of a vacant slot is the one its *next* life will have. Leaving `reserved` or `occupied`
//     for `vacant` therefore moves to the next generation, on every path, and no two lives of a slot share one.
//  4. A vacant slot whose generation is past the last is *retired*: it has no next life.
#pragma once

#include <cstdint>

namespace dm {

/// What a slot is at the moment. `retired` is a vacant slot that has used up its generations.
enum class slot_state : std::uint8_t { vacant, reserved, occupied, retired, updating };

/// The name of a state, as tools print it.
constexpr const char* to_string(slot_state state) noexcept {
  switch (state) {
    case slot_state::vacant:
      return "vacant";
    case slot_state::reserved:
      return "reserved";
    case slot_state::occupied:
      return "occupied";
    case slot_state::retired:
      return "retired";
    case slot_state::updating:
      return "updating";
  }
  return "unknown";
}

/// Version words: how they are put together and taken apart. Knows nothing of slots, maps or files.
namespace version {

inline constexpr std::uint32_t vacant_bits = 0b00;
inline constexpr std::uint32_t reserved_bits = 0b01;
inline constexpr std::uint32_t updating_bits = 0b10;
inline constexpr std::uint32_t occupied_bits = 0b11;
inline constexpr std::uint32_t state_mask = 0b11;

inline constexpr std::uint32_t first_generation = 1;
inline constexpr std::uint32_t last_generation = (1u << 30) - 2;
inline constexpr std::uint32_t retired_generation = last_generation + 1;

constexpr std::uint32_t generation(std::uint32_t word) noexcept { return word >> 2; }
constexpr std::uint32_t vacant(std::uint32_t generation) noexcept { return generation << 2 | vacant_bits; }
constexpr std::uint32_t reserved(std::uint32_t generation) noexcept { return generation << 2 | reserved_bits; }
constexpr std::uint32_t occupied(std::uint32_t generation) noexcept { return generation << 2 | occupied_bits; }

constexpr bool is_vacant(std::uint32_t word) noexcept { return (word & state_mask) == vacant_bits; }
constexpr bool is_reserved(std::uint32_t word) noexcept { return (word & state_mask) == reserved_bits; }
constexpr bool is_occupied(std::uint32_t word) noexcept { return (word & state_mask) == occupied_bits; }
constexpr bool is_retired(std::uint32_t word) noexcept { return word == vacant(retired_generation); }

/// The vacant word that follows a reserved or occupied one.
constexpr std::uint32_t next_vacant(std::uint32_t word) noexcept { return (word | state_mask) + 1; }

/// Whether some history of operations can have left this word in a slot of a map that is used by one process
/// at a time: generation 0 is only ever vacant, the retired generation too, and nothing is `updating`.
constexpr bool is_possible(std::uint32_t word) noexcept {
  if (is_vacant(word)) return true;
  const std::uint32_t g = generation(word);
  return (word & state_mask) != updating_bits && g >= first_generation && g <= last_generation;
}

constexpr slot_state state(std::uint32_t word) noexcept {
  switch (word & state_mask) {
    case vacant_bits:
      return is_retired(word) ? slot_state::retired : slot_state::vacant;
    case reserved_bits:
      return slot_state::reserved;
    case updating_bits:
      return slot_state::updating;
    default:
      return slot_state::occupied;
  }
}

}  // namespace version
}  // namespace dm
