// The header and the layout of an arena file: written once, never changed.
//
//   0            512        control_offset  scratch_offset  index_offset        slots_offset
//  +------------+----------+---------------+---------------+-------------------+---------------------
//  | header     | schema   | control block | scratch       | vacancy index     | slots, to the end ...
//  +------------+----------+---------------+---------------+-------------------+---------------------
//                           \______________ each begins on a page of 4096 bytes ______________/
//
// All numbers little-endian, of fixed width, at fixed offsets; no pointers. The header's checksum covers the
// header, the schema's checksum everything between the header and the control block.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <variant>

#include "deferred_map/error.hpp"

namespace dm {

static_assert(std::endian::native == std::endian::little,
              "arena files are little-endian and mapped as they are: this machine cannot use them");

/// Numbers in files: never renumber.
enum class arena_kind : std::uint32_t { mapped = 1, durable = 2, shared = 3 };

constexpr const char* to_string(arena_kind kind) noexcept {
  switch (kind) {
    case arena_kind::mapped:
      return "mapped_map";
    case arena_kind::durable:
      return "durable_map";
    case arena_kind::shared:
      return "shared_map";
  }
  return "unknown kind";
}

inline constexpr std::uint64_t arena_page_bytes = 4096;

/// 512 bytes at offset 0.
struct arena_header {
  // A byte over 127, a line end of each convention and an end-of-file mark: transfers that mangle show.
  static constexpr std::array<std::uint8_t, 8> magic_bytes{0x89, 'D', 'M', 'A', 0x0d, 0x0a, 0x1a, 0x0a};
  static constexpr std::uint32_t format_version_now = 1;
  static constexpr std::uint32_t byte_order_tag = 0x0403'0201;
  static constexpr std::uint32_t no_offset = 0xffff'ffffu;

  std::array<std::uint8_t, 8> magic = magic_bytes;    //   0
  std::uint32_t format_version = format_version_now;  //   8
  std::uint32_t byte_order = byte_order_tag;          //  12  bytes 01 02 03 04 in the file
  std::uint32_t kind = 0;                             //  16  an arena_kind
  std::uint32_t schema_version = 0;                   //  20  the program's own number for its type
  std::uint64_t compatible_features = 0;              //  24  may be ignored by those who do not know them
  std::uint64_t incompatible_features = 0;            //  32  must be understood to open the file at all
  std::array<std::uint8_t, 16> uuid{};                //  40  random, RFC 9562 version 4
  std::int64_t created_unix_ns = 0;                   //  56
  std::uint32_t slot_stride_bytes = 0;                //  64
  std::uint32_t version_offset = 0;                   //  68  within a slot
  std::uint32_t sequence_offset = no_offset;          //  72  within a slot; no_offset: there is none
  std::uint32_t value_offset = 0;                     //  76  within a slot
  std::uint32_t value_size_bytes = 0;                 //  80
  std::uint32_t value_align_bytes = 0;                //  84
  std::uint64_t slots_max = 0;                        //  88
  std::uint64_t schema_offset = 0;                    //  96
  std::uint64_t schema_size_bytes = 0;                // 104
  std::uint64_t schema_checksum = 0;                  // 112  XXH3 of [512, control_offset)
  std::uint64_t control_offset = 0;                   // 120
  std::uint64_t control_size_bytes = 0;               // 128
  std::uint64_t scratch_offset = 0;                   // 136
  std::uint64_t scratch_size_bytes = 0;               // 144
  std::uint64_t index_offset = 0;                     // 152
  std::uint64_t index_size_bytes = 0;                 // 160
  std::uint64_t slots_offset = 0;                     // 168
  std::array<char, 128> type_name{};                  // 176  NUL-padded; the whole name stands in the schema
  std::array<std::uint8_t, 200> unused{};             // 304  zero
  std::uint64_t checksum = 0;                         // 504  XXH3 of bytes [0, 504)

  std::uint64_t computed_checksum() const noexcept;
  /// Bytes from the start of the file to behind slot `slots - 1`, in whole pages.
  std::uint64_t file_size_for(std::uint64_t slots) const noexcept;
};

// The bytes of the file (docs/FORMAT.md), on every compiler: size, alignment, no padding, and the places from which all
// others follow. A test holds every field against the document.
static_assert(std::is_trivially_copyable_v<arena_header> && std::is_standard_layout_v<arena_header>);
static_assert(sizeof(arena_header) == 512 && alignof(arena_header) == 8);
static_assert(std::has_unique_object_representations_v<arena_header>, "a byte of padding would be written as it comes");
static_assert(offsetof(arena_header, magic) == 0 && offsetof(arena_header, format_version) == 8);
static_assert(offsetof(arena_header, byte_order) == 12 && offsetof(arena_header, kind) == 16);
static_assert(offsetof(arena_header, incompatible_features) == 32);
static_assert(offsetof(arena_header, value_size_bytes) == 80 && offsetof(arena_header, control_offset) == 120);
static_assert(offsetof(arena_header, uuid) == 40 && offsetof(arena_header, slot_stride_bytes) == 64);
static_assert(offsetof(arena_header, slots_max) == 88 && offsetof(arena_header, slots_offset) == 168);
static_assert(offsetof(arena_header, type_name) == 176 && offsetof(arena_header, checksum) == 504);

/// What an arena must know of the values it holds.
struct slot_layout {
  std::uint32_t stride_bytes = 0;
  std::uint32_t version_offset = 0;
  std::uint32_t value_offset = 0;
  std::uint32_t value_size_bytes = 0;
  std::uint32_t value_align_bytes = 0;
};

/// How a value lies in a slot of an arena of this kind: behind the version, or in shared arenas behind a word of 8 bytes and
/// in whole such words; aligned as it asks for. Requires: the size is at most 2^30, the alignment a power of two of at
/// most 4096.
constexpr slot_layout slot_layout_of(arena_kind kind, std::uint32_t value_size_bytes,
                                     std::uint32_t value_align_bytes) noexcept {
  const std::uint32_t unit = kind == arena_kind::shared ? 8 : 4;
  const std::uint32_t align = value_align_bytes > unit ? value_align_bytes : unit;
  slot_layout slot;
  slot.version_offset = 0;
  slot.value_offset = align;
  slot.stride_bytes = align + (value_size_bytes + align - 1) / align * align;
  slot.value_size_bytes = value_size_bytes;
  slot.value_align_bytes = value_align_bytes;
  return slot;
}
static_assert(slot_layout_of(arena_kind::mapped, 1, 1).stride_bytes == 8);
static_assert(slot_layout_of(arena_kind::mapped, 8, 8).stride_bytes == 16);
static_assert(slot_layout_of(arena_kind::shared, 1, 1).stride_bytes == 16);
static_assert(slot_layout_of(arena_kind::shared, 12, 4).stride_bytes == 24);
static_assert(slot_layout_of(arena_kind::shared, 64, 64).stride_bytes == 128);

/// A header with everything but uuid and time: offsets computed, checksums set by `seal`.
/// Requires: slots_max in [1, 2^32 - 1].
arena_header make_header(arena_kind kind, const slot_layout& slot, std::uint64_t slots_max, std::string_view type_name,
                         std::uint32_t schema_version, std::span<const std::byte> encoded_schema);

/// Sets the checksums. `head` is the file's content up to the control block.
void seal(arena_header& header, std::span<const std::byte> schema_region);

/// Slots that fit into `bytes` of address space, at most 2^32 - 1.
std::uint64_t slots_in(std::uint64_t bytes, const slot_layout& slot) noexcept;

/// Everything that can be said of a header without knowing the type: magic, order of bytes, version,
/// features, checksum, and that every offset and size is exactly what `make_header` gives. Returns the first
/// fault. `bytes` are the first bytes of a file, as many as it has, up to 512.
std::optional<fault> check_header(std::span<const std::byte> bytes);

/// Whether `control_offset - 512` bytes behind the header are what the header vouches for.
std::optional<fault> check_schema_region(const arena_header& header, std::span<const std::byte> schema_region);

struct control_block;

/// Whether the control block can be believed: counts within the capacity, the capacity within
/// `file_size_bytes`, the marks what they must be. A block that was not closed may have any counts that are
/// within bounds.
std::optional<fault> check_control(const arena_header& header, const control_block& control,
                                   std::uint64_t file_size_bytes);

}  // namespace dm
