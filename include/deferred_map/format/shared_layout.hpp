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

/// One process's (more exactly: one open map's) entry in the table of attachments. 128 bytes.
///
/// Who is attached is not told by these bytes but by a lock that the kernel drops when its holder dies; they say how far
/// taking an entry, or giving it back, has got, and for people who it was.
struct attachment_record {
  static constexpr std::uint32_t free = 0;      ///< nobody's, and no slot names it
  static constexpr std::uint32_t attached = 1;  ///< somebody's; of a dead one until it has been reaped

  std::uint32_t state = free;
  std::uint32_t pid = 0;
  std::int64_t attached_unix_ns = 0;
  std::uint64_t process_start = 0;  ///< of the process, in clock ticks since boot (/proc/PID/stat)
  char program[32] = {};            ///< its name, NUL-padded
  std::uint64_t unused[9] = {};
};
static_assert(sizeof(attachment_record) == attachment_bytes);

/// The head of a lease's scratch area; the new value follows it, in whole words.
struct lease_head {
  std::uint64_t ticket = 0;   ///< how often it was leased
  std::uint64_t target = 0;   ///< the slot's index
  std::uint64_t changes = 0;  ///< what the slot's word had as its count of changes before
  std::uint64_t unused = 0;
};
static_assert(sizeof(lease_head) == lease_head_bytes);

/// Bytes that stand for something when they are locked. Far behind any data; no file system reaches so far, and none need
/// to: the kernel keeps such locks by number alone.
namespace lock_byte {

inline constexpr std::uint64_t base = std::uint64_t{1} << 62;
/// Held while somebody attaches, detaches or reaps.
inline constexpr std::uint64_t table = base;
/// Held while somebody makes the file longer.
inline constexpr std::uint64_t growth = base + 1;
/// Held by an attachment for as long as it lives, and dropped by the kernel when it dies.
constexpr std::uint64_t life_of(std::uint32_t attachment) noexcept { return base + 64 + attachment; }

}  // namespace lock_byte

/// Within a slot: the word is eight bytes, its lower half the version, its upper half the sequence number.
inline constexpr std::uint32_t sequence_offset = 4;
/// In the upper half of a reserved slot's word: kept ready by its owner, and no handle's. The owner is in the lower bits.
inline constexpr std::uint32_t cached_flag = 1u << 31;
inline constexpr std::uint32_t owner_mask = 0xffffu;
/// In the upper half of an updating slot's word: the lease in the lower bits, its ticket in the others.
inline constexpr std::uint32_t lease_bits = 10;
static_assert(attachments * leases_per_attachment == 1u << lease_bits);

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
