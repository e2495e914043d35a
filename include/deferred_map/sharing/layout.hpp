// How a value lies in a slot of a shared arena.
//
//   0         8 ..  value_offset                        stride_bytes
//  +---------+-----+-----------------------+-----------+
//  |  word   |     |  value, in whole words of 8 bytes  |
//  +---------+-----+-----------------------+-----------+
#pragma once

#include <algorithm>
#include <cstdint>

#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/sharing/region.hpp"

namespace dm::sharing {

static_assert(attachments_max == shared_layout::attachments, "the file's table has an entry for each");
static_assert(leases_per_attachment == shared_layout::leases_per_attachment);
static_assert(word::cached_flag == shared_layout::cached_flag);
static_assert(word::owner_of(word::make(0, ~0u)) == shared_layout::owner_mask);
static_assert(sizeof(lease_head) == shared_layout::lease_head_bytes);

/// Requires: the size is at most 2^30, the alignment a power of two of at most 4096.
constexpr slot_layout shared_slot_layout(std::uint32_t value_size_bytes, std::uint32_t value_align_bytes) noexcept {
  const std::uint32_t align = std::max<std::uint32_t>(8, value_align_bytes);
  slot_layout slot;
  slot.version_offset = 0;
  slot.value_offset = align;  // behind the word, and as aligned as the value
  const auto value_bytes = static_cast<std::uint32_t>(shared_layout::value_words(value_size_bytes) * 8);
  slot.stride_bytes = (slot.value_offset + value_bytes + align - 1) / align * align;
  slot.value_size_bytes = value_size_bytes;
  slot.value_align_bytes = value_align_bytes;
  return slot;
}
static_assert(shared_slot_layout(1, 1).stride_bytes == 16);
static_assert(shared_slot_layout(12, 4).stride_bytes == 24);
static_assert(shared_slot_layout(64, 64).value_offset == 64 && shared_slot_layout(64, 64).stride_bytes == 128);

}  // namespace dm::sharing
