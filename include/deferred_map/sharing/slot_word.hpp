// The word of a shared slot: its version and who or what it is about, in one 64-bit atomic.
//
//   63                32 31                  2 1  0
//  +--------------------+---------------------+----+
//  |      auxiliary     |      generation     | st |
//  +--------------------+---------------------+----+
//
//   st        auxiliary
//   vacant    0
//   reserved  bits 0-15 the owner; bit 31: in the owner's cache, and no handle's
//   occupied  how often the value was changed by `update` in this life, modulo 2^32
//   updating  bits 0-9 the lease whose scratch area holds the new value, bits 10-31 the lease's ticket
//
// *Every operation on a shared map takes effect by one atomic change of this word*: nothing else says what a slot is.
//
// Invariants:
//  1. A reserved slot is changed by its owner alone; or, once its owner is dead, by whoever reaps it.
//  2. An updating slot is changed by its updater alone; or, once that is dead, by whoever reaps it.
//  3. While a slot is updating, the scratch area of its lease holds the new value, whole.
//  4. A word never comes back: a life has its own generation, and within a life each change has its own number.
//     (Within one copy of a value, 2^32 updates of it, or 2^22 leases of one scratch area for it, would be missed.)
#pragma once

#include <cstdint>

#include "deferred_map/container/version.hpp"

namespace dm::sharing {

/// Attachments there can be at once, and updates under way in each.
inline constexpr std::uint32_t attachments_max = 128;
inline constexpr std::uint32_t leases_per_attachment = 8;
inline constexpr std::uint32_t leases_max = attachments_max * leases_per_attachment;

namespace word {

inline constexpr std::uint32_t cached_flag = 1u << 31;
inline constexpr std::uint32_t lease_bits = 10;
inline constexpr std::uint32_t ticket_mask = (1u << (32 - lease_bits)) - 1;
static_assert(leases_max == 1u << lease_bits);

constexpr std::uint64_t make(std::uint32_t version_word, std::uint32_t auxiliary) noexcept {
  return std::uint64_t{auxiliary} << 32 | version_word;
}
constexpr std::uint32_t version_of(std::uint64_t w) noexcept { return static_cast<std::uint32_t>(w); }
constexpr std::uint32_t auxiliary_of(std::uint64_t w) noexcept { return static_cast<std::uint32_t>(w >> 32); }
constexpr std::uint32_t generation_of(std::uint64_t w) noexcept { return version::generation(version_of(w)); }

constexpr std::uint64_t vacant(std::uint32_t generation) noexcept { return make(version::vacant(generation), 0); }
/// Of a handle. `owner` is an attachment.
constexpr std::uint64_t held(std::uint32_t generation, std::uint32_t owner) noexcept {
  return make(version::reserved(generation), owner);
}
/// In the cache of a thread of `owner`.
constexpr std::uint64_t cached(std::uint32_t generation, std::uint32_t owner) noexcept {
  return make(version::reserved(generation), owner | cached_flag);
}
constexpr std::uint64_t occupied(std::uint32_t generation, std::uint32_t changes) noexcept {
  return make(version::occupied(generation), changes);
}
constexpr std::uint64_t updating(std::uint32_t generation, std::uint32_t lease, std::uint32_t ticket) noexcept {
  return make(generation << 2 | version::updating_bits, lease | (ticket & ticket_mask) << lease_bits);
}

constexpr bool is_vacant(std::uint64_t w) noexcept { return version::is_vacant(version_of(w)); }
constexpr bool is_reserved(std::uint64_t w) noexcept { return version::is_reserved(version_of(w)); }
constexpr bool is_occupied(std::uint64_t w) noexcept { return version::is_occupied(version_of(w)); }
constexpr bool is_updating(std::uint64_t w) noexcept {
  return (version_of(w) & version::state_mask) == version::updating_bits;
}
/// Whether there is a value: occupied is 0b11, updating 0b10.
constexpr bool is_alive(std::uint64_t w) noexcept { return (w & 0b10) != 0; }
/// Requires: is_reserved(w).
constexpr std::uint32_t owner_of(std::uint64_t w) noexcept { return auxiliary_of(w) & 0xffffu; }
constexpr bool is_cached(std::uint64_t w) noexcept { return (auxiliary_of(w) & cached_flag) != 0; }
/// Requires: is_updating(w).
constexpr std::uint32_t lease_of(std::uint64_t w) noexcept { return auxiliary_of(w) & (leases_max - 1); }
constexpr std::uint32_t updater_of(std::uint64_t w) noexcept { return lease_of(w) / leases_per_attachment; }

}  // namespace word
}  // namespace dm::sharing
