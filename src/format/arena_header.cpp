#include "deferred_map/format/arena_header.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "deferred_map/format/control_block.hpp"
#include "deferred_map/format/index_layout.hpp"
#include "deferred_map/format/shared_layout.hpp"

namespace dm {
namespace {

constexpr std::uint64_t in_pages(std::uint64_t bytes) noexcept {
  return (bytes + arena_page_bytes - 1) / arena_page_bytes * arena_page_bytes;
}

constexpr std::uint64_t slots_limit = 0xffff'ffffu;
// Far more than any value a slot should hold; keeps every product below 2^64.
constexpr std::uint32_t value_size_max = 1u << 30;
constexpr std::uint64_t schema_size_max = 1u << 26;

fault damaged(std::string what) {
  return {errc::damaged, "this arena is damaged: " + std::move(what) +
                             ". Nothing was changed. Restore a copy, or look at what is left with dm-inspect check"};
}

bool is_shared(const arena_header& header) noexcept {
  return header.kind == static_cast<std::uint32_t>(arena_kind::shared);
}

/// Offsets and sizes from what the header says of the kind and the type; all else follows from it.
void lay_out(arena_header& header) noexcept {
  header.schema_offset = sizeof(arena_header);
  header.control_offset = in_pages(header.schema_offset + header.schema_size_bytes);
  header.control_size_bytes = sizeof(control_block);
  header.scratch_offset = header.control_offset + in_pages(header.control_size_bytes);
  header.scratch_size_bytes = is_shared(header) ? in_pages(shared_layout::scratch_bytes(header.value_size_bytes))
                                                : in_pages(std::max<std::uint32_t>(header.value_size_bytes, 1));
  header.index_offset = header.scratch_offset + header.scratch_size_bytes;
  header.index_size_bytes = in_pages(index_levels(header.slots_max).words_total * sizeof(std::uint64_t));
  header.slots_offset = header.index_offset + header.index_size_bytes;
}

}  // namespace

std::uint64_t control_block::checksum() const noexcept {
  const std::uint64_t hash = XXH3_64bits(reinterpret_cast<const char*>(this) + offsetof(control_block, slot_count),
                                         sizeof(control_block) - offsetof(control_block, slot_count));
  return hash == 0 ? 1 : hash;
}

std::uint64_t arena_header::computed_checksum() const noexcept {
  return XXH3_64bits(this, offsetof(arena_header, checksum));
}

std::uint64_t arena_header::file_size_for(std::uint64_t slots) const noexcept {
  return slots_offset + in_pages(slots * slot_stride_bytes);
}

std::uint64_t slots_in(std::uint64_t bytes, const slot_layout& slot) noexcept {
  // The slots alone: their index, a bit for each, lies beside this and is small.
  return std::clamp<std::uint64_t>(bytes / slot.stride_bytes, 1, slots_limit);
}

arena_header make_header(arena_kind kind, const slot_layout& slot, std::uint64_t slots_max, std::string_view type_name,
                         std::uint32_t schema_version, std::span<const std::byte> encoded_schema) {
  arena_header header;
  header.kind = static_cast<std::uint32_t>(kind);
  header.schema_version = schema_version;
  header.slot_stride_bytes = slot.stride_bytes;
  header.version_offset = slot.version_offset;
  if (kind == arena_kind::shared) header.sequence_offset = shared_layout::sequence_offset;
  header.value_offset = slot.value_offset;
  header.value_size_bytes = slot.value_size_bytes;
  header.value_align_bytes = slot.value_align_bytes;
  header.slots_max = slots_max;
  header.schema_size_bytes = encoded_schema.size();
  // The last byte stays NUL: whoever prints it needs no length.
  type_name.copy(header.type_name.data(), header.type_name.size() - 1);
  lay_out(header);
  return header;
}

void seal(arena_header& header, std::span<const std::byte> schema_region) {
  header.schema_checksum = XXH3_64bits(schema_region.data(), schema_region.size());
  header.checksum = header.computed_checksum();
}

std::optional<fault> check_header(std::span<const std::byte> bytes) {
  if (bytes.empty())
    return fault{errc::not_an_arena, "the file is empty, so it is no arena. Remove it, or create another"};
  const std::size_t magic_size = arena_header::magic_bytes.size();
  if (std::memcmp(bytes.data(), arena_header::magic_bytes.data(), std::min(bytes.size(), magic_size)) != 0)
    return fault{errc::not_an_arena, "this file is no arena: it does not begin with an arena's magic number"};
  if (bytes.size() < sizeof(arena_header))
    return damaged("it ends after " + std::to_string(bytes.size()) + " bytes, within its header");

  arena_header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.byte_order == 0x0102'0304u)
    return fault{errc::not_an_arena, "this arena was written by a big-endian machine; this one cannot map it"};
  if (header.checksum != header.computed_checksum()) {
    // A later version may have moved the checksum, but not the version's own place.
    if (header.format_version > arena_header::format_version_now && header.format_version < 1000)
      return fault{errc::newer_format, "this arena has format version " + std::to_string(header.format_version) +
                                           "; this program knows versions up to " +
                                           std::to_string(arena_header::format_version_now) +
                                           ". Use a newer deferred-map"};
    return damaged("the header does not have the checksum it should have");
  }
  if (header.format_version > arena_header::format_version_now || header.incompatible_features != 0)
    return fault{errc::newer_format,
                 "this arena has format version " + std::to_string(header.format_version) + " with features " +
                     std::to_string(header.incompatible_features) + "; this program knows version " +
                     std::to_string(arena_header::format_version_now) + " without any. Use a newer deferred-map"};

  // The checksum holds, so these were written so; still, nothing below may be relied on before it was looked at.
  if (header.format_version == 0) return damaged("format version 0 was never used");
  if (header.kind < 1 || header.kind > 3) return damaged("its kind is unknown");
  if (header.value_size_bytes == 0 || header.value_size_bytes > value_size_max)
    return damaged("it says its values have " + std::to_string(header.value_size_bytes) + " bytes");
  if (!std::has_single_bit(header.value_align_bytes) || header.value_align_bytes > arena_page_bytes)
    return damaged("it says its values are aligned to " + std::to_string(header.value_align_bytes) + " bytes");
  const std::uint64_t value_end = std::uint64_t{header.value_offset} + header.value_size_bytes;
  if (header.version_offset != 0 || header.value_offset < 4 || header.value_offset % header.value_align_bytes != 0 ||
      value_end > header.slot_stride_bytes || header.slot_stride_bytes > std::uint64_t{value_size_max} * 2 ||
      header.slot_stride_bytes % std::max<std::uint32_t>(header.value_align_bytes, 4) != 0)
    return damaged("its slot layout is impossible");
  if (header.sequence_offset != (is_shared(header) ? shared_layout::sequence_offset : arena_header::no_offset))
    return damaged("its slots have a sequence number where they have none, or none where they have one");
  // A shared slot is a word of 64 bits and a value of such words: they are what is loaded and stored as a whole.
  if (is_shared(header) &&
      (header.value_offset % 8 != 0 || header.slot_stride_bytes % 8 != 0 ||
       header.value_offset + shared_layout::value_words(header.value_size_bytes) * 8 > header.slot_stride_bytes))
    return damaged("its slots are not made of whole words");
  if (header.slots_max == 0 || header.slots_max > slots_limit)
    return damaged("it says it may have " + std::to_string(header.slots_max) + " slots");
  if (header.schema_size_bytes > schema_size_max) return damaged("its schema is impossibly large");
  if (header.type_name.back() != '\0') return damaged("its type name has no end");
  arena_header expected = header;
  lay_out(expected);
  if (std::memcmp(&expected, &header, sizeof header) != 0) return damaged("its parts do not lie where they must");
  return std::nullopt;
}

std::optional<fault> check_schema_region(const arena_header& header, std::span<const std::byte> schema_region) {
  if (schema_region.size() != header.control_offset - sizeof(arena_header)) return damaged("it ends within its schema");
  if (XXH3_64bits(schema_region.data(), schema_region.size()) != header.schema_checksum)
    return damaged("the schema does not have the checksum it should have");
  return std::nullopt;
}

std::optional<fault> check_control(const arena_header& header, const control_block& control,
                                   std::uint64_t file_size_bytes) {
  if (control.closed != 0 && control.closed != control.checksum())
    return damaged("it was closed, but its control block was changed since");
  if (control.synced != 0 && control.synced != control.checksum())
    return damaged("it says that all of it is on the disk, but its control block was changed since");
  if (control.capacity > header.slots_max)
    return damaged("it says it has room for " + std::to_string(control.capacity) + " slots of at most " +
                   std::to_string(header.slots_max));
  const std::uint64_t needed = header.slots_offset + std::uint64_t{control.capacity} * header.slot_stride_bytes;
  if (file_size_bytes < needed)
    return damaged("it was cut short: it needs " + std::to_string(needed) + " bytes and has " +
                   std::to_string(file_size_bytes));
  if (is_shared(header)) {
    // The counts are the slots' own there, and `shared_slots` is what everybody goes by.
    if (control.shared_slots > control.slot_count)
      return damaged("it says it has " + std::to_string(control.shared_slots) + " slots and room for " +
                     std::to_string(control.slot_count));
    if (control.shared_slots % 64 != 0 && control.shared_slots != header.slots_max)
      return damaged("it has " + std::to_string(control.shared_slots) + " slots, and only ever grows by 64");
  }
  if (control.slot_count > control.capacity)
    return damaged("it says it has " + std::to_string(control.slot_count) + " slots and room for " +
                   std::to_string(control.capacity));
  if (control.buffer_count > std::size(control.buffer)) return damaged("its vacancy buffer is longer than it can be");
  if (control.generation_floor > (1u << 30) - 2) return damaged("its generation floor is past the last generation");
  if ((control.closed | control.synced) != 0 && !is_shared(header) &&
      (!control.nothing_under_way() || control.reserved != 0))
    return damaged("it was closed, but says that something was under way");
  if ((control.closed | control.synced) != 0 && is_shared(header) && control.recovering != 0)
    return damaged("it was closed, but says that it was being salvaged");
  return std::nullopt;
}

}  // namespace dm
