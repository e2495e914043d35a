// Sizes in a shared arena's file: the table of attachments, and the scratch areas of its leases, which together take
// the place that one value's scratch area has in the files of other kinds.
//
//   scratch_offset
//  +----------------------------+-----------------+-----------------+----     ----+-------------------+
//  | table, 128 entries of 128  | attachment 0:   | attachment 1:   |    ...      | attachment 127:   |
//  | bytes                      | 8 scratch areas | 8 scratch areas |             | 8 scratch areas   |
//  +----------------------------+-----------------+-----------------+----     ----+-------------------+
//
// The table has disk blocks from the start, an attachment's scratch areas since somebody first was that attachment.
#pragma once

#include <cstdint>

namespace dm::shared_layout {

// Fixed for ever: a file has as many.
inline constexpr std::uint64_t attachments = 128;
inline constexpr std::uint64_t attachment_bytes = 128;
inline constexpr std::uint64_t leases_per_attachment = 8;
inline constexpr std::uint64_t lease_head_bytes = 32;
inline constexpr std::uint64_t table_bytes = attachments * attachment_bytes;
static_assert(table_bytes % 4096 == 0, "the table is whole pages, so the scratch areas begin on one");

/// Within a slot: the word is eight bytes, its lower half the version, its upper half the sequence number.
inline constexpr std::uint32_t sequence_offset = 4;

/// Words of 64 bits that a value is copied as.
constexpr std::uint64_t value_words(std::uint64_t value_size_bytes) noexcept { return (value_size_bytes + 7) / 8; }
/// From one scratch area to the next: whole cache lines, so that two updates never write to one.
constexpr std::uint64_t lease_stride_bytes(std::uint64_t value_size_bytes) noexcept {
  return (lease_head_bytes + value_words(value_size_bytes) * 8 + 63) / 64 * 64;
}
/// The table and all scratch areas.
constexpr std::uint64_t scratch_bytes(std::uint64_t value_size_bytes) noexcept {
  return table_bytes + attachments * leases_per_attachment * lease_stride_bytes(value_size_bytes);
}

}  // namespace dm::shared_layout
