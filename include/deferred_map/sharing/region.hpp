// Where the parts of a shared arena lie in this process's memory, and what is in them.
//
// All of it is words of 64 bits (32 where said) that every process may change at any moment, accessed through the
// atomics of a policy (atomics.hpp) and in no other way. Little-endian, zero where never used, no pointers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/sharing/slot_word.hpp"

namespace dm::sharing {

using shared_layout::attachment_record;
using shared_layout::lease_head;

/// Addresses in one process's mapping. `const` data of it may be mapped read-only. By default there are no slots, and
/// looking finds nothing.
struct region {
  static inline std::uint64_t none = 0;  // never stored to

  std::byte* slots = nullptr;
  std::size_t stride_bytes = 0;
  std::size_t value_offset = 0;
  std::size_t value_words = 0;       ///< a value's bytes, rounded up to whole words
  std::uint64_t* taken = nullptr;    ///< level 0 of the vacancy index: a bit a slot, 1 = owned or occupied
  std::uint64_t* hints = nullptr;    ///< level 1: a bit a word of `taken`, 1 = may have something vacant
  std::uint64_t* slots_now = &none;  ///< slots that have memory; only ever grows
  std::uint64_t slots_max = 0;
  attachment_record* attachments = nullptr;  ///< attachments_max of them
  std::byte* scratch = nullptr;              ///< leases_max areas
  std::size_t scratch_stride_bytes = 0;

  std::uint64_t& word(std::uint32_t index) const noexcept {
    return *reinterpret_cast<std::uint64_t*>(slots + index * stride_bytes);
  }
  std::uint64_t* value(std::uint32_t index) const noexcept {
    return reinterpret_cast<std::uint64_t*>(slots + index * stride_bytes + value_offset);
  }
  lease_head& lease(std::uint32_t number) const noexcept {
    return *reinterpret_cast<lease_head*>(scratch + number * scratch_stride_bytes);
  }
  std::uint64_t* lease_value(std::uint32_t number) const noexcept {
    return reinterpret_cast<std::uint64_t*>(scratch + number * scratch_stride_bytes + sizeof(lease_head));
  }
};

}  // namespace dm::sharing
