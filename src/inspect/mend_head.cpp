// The header never changes and a checksum of 64 bits vouches for it: of all the headers that differ from the damaged one in
// one byte, the one that fits the checksum is the one that was. Where more is damaged, what follows from the rest is set
// right, and the whole believed only if everything that is said twice is said the same.
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "deferred_map/format/control_block.hpp"
#include "deferred_map/format/schema.hpp"
#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/inspect/arena_builder.hpp"
#include "repair_parts.hpp"

namespace dm::inspect {
namespace {

using header_bytes = std::array<std::byte, sizeof(arena_header)>;

// To try all its bytes takes time with the square of its length.
constexpr std::size_t searched_schema_bytes_max = 8192;

header_bytes bytes_of(const arena_header& header) {
  header_bytes bytes;
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

bool is_sound(const arena_header& header) { return !check_header(bytes_of(header)); }

/// Changes one of the first `searched` bytes such that all have this checksum. False, and nothing is changed, where none does.
bool restore_one_byte(std::span<std::byte> bytes, std::size_t searched, std::uint64_t checksum) {
  for (std::byte& byte : bytes.first(searched)) {
    const std::byte found = byte;
    for (unsigned value = 0; value < 256; ++value) {
      byte = static_cast<std::byte>(value);
      if (byte != found && XXH3_64bits(bytes.data(), bytes.size()) == checksum) return true;
    }
    byte = found;
  }
  return false;
}

std::vector<std::byte> read_region(const arena_file& arena, const arena_header& header) {
  std::vector<byte_range> unreadable;
  std::vector<std::byte> region;
  if (header.control_offset <= sizeof header || header.control_offset > arena.size_bytes()) return region;
  region.resize(static_cast<std::size_t>(header.control_offset - sizeof header));
  read_around_errors(arena.bytes(), sizeof header, region, unreadable);
  return region;
}

std::optional<schema> schema_in(const arena_header& header, std::span<const std::byte> region) {
  const std::size_t size = std::min<std::size_t>(region.size(), header.schema_size_bytes);
  return decode(region.first(size), header.value_size_bytes).value;
}

/// What is the same in every header of this format.
arena_header with_constants(arena_header header) {
  header.magic = arena_header::magic_bytes;
  header.byte_order = arena_header::byte_order_tag;
  header.format_version = arena_header::format_version_now;
  header.schema_offset = sizeof(arena_header);
  header.control_size_bytes = sizeof(control_block);
  return header;
}

/// Sets right what follows from the rest, if no more than one thing does not. Nothing where more is wrong.
std::optional<arena_header> with_what_follows(const arena_file& arena, arena_header header) {
  if (!arena.has_layout() || header.incompatible_features != 0) return std::nullopt;
  const auto kind = static_cast<arena_kind>(header.kind);
  if (kind != arena_kind::mapped && kind != arena_kind::shared && kind != arena_kind::durable) return std::nullopt;
  unsigned wrong = 0;
  const auto follows = [&](auto& field, auto should_be) {
    if (field == should_be) return;
    field = should_be;
    ++wrong;
  };
  const arena_header& layout = arena.layout();
  follows(header.control_offset, layout.control_offset);
  follows(header.scratch_offset, layout.scratch_offset);
  follows(header.scratch_size_bytes, layout.scratch_size_bytes);
  follows(header.index_offset, layout.index_offset);
  follows(header.index_size_bytes, layout.index_size_bytes);
  follows(header.slots_offset, layout.slots_offset);
  const slot_layout slot = slot_layout_of(kind, header.value_size_bytes, header.value_align_bytes);
  follows(header.slot_stride_bytes, slot.stride_bytes);
  follows(header.value_offset, slot.value_offset);
  follows(header.version_offset, slot.version_offset);
  follows(header.sequence_offset,
          kind == arena_kind::shared ? shared_layout::sequence_offset : arena_header::no_offset);
  // Two that do not are more likely two that follow from something else that is wrong.
  if (wrong > 1) return std::nullopt;
  return header;
}

/// The last resort: nothing tells what the header was, but all that it says agrees, with itself and with the schema.
std::optional<arena_header> believed(const arena_file& arena, const arena_header& damaged) {
  auto header = with_what_follows(arena, with_constants(damaged));
  if (!header) return std::nullopt;
  const std::vector<std::byte> region = read_region(arena, *header);
  const auto described = schema_in(*header, region);
  if (!described) return std::nullopt;
  header->schema_checksum = XXH3_64bits(region.data(), region.size());
  header->schema_version = described->version;
  header->type_name = {};
  described->fields.front().type_name.copy(header->type_name.data(), header->type_name.size() - 1);
  // A feature that is not known here may keep something there.
  if (header->compatible_features == 0) header->unused = {};
  header->checksum = header->computed_checksum();
  return is_sound(*header) ? header : std::nullopt;
}

std::optional<arena_header> mend_header(const arena_file& arena) {
  const arena_header& found = arena.header();
  if (is_sound(found)) return found;
  if (found.checksum == found.computed_checksum()) return std::nullopt;  // as whoever wrote it meant it
  if (const arena_header constant = with_constants(found); is_sound(constant)) return constant;
  header_bytes bytes = bytes_of(found);
  if (restore_one_byte(std::span(bytes).first(offsetof(arena_header, checksum)), offsetof(arena_header, checksum),
                       found.checksum)) {
    arena_header restored;
    std::memcpy(static_cast<void*>(&restored), bytes.data(), sizeof restored);
    if (is_sound(restored)) return restored;
  }
  if (arena.has_newer_format()) return std::nullopt;
  return believed(arena, found);
}

/// Whether the region is what the header vouches for, or was made so.
bool mend_schema(const arena_header& header, std::vector<std::byte>& region) {
  if (region.empty()) return false;
  const auto fits = [&] { return !check_schema_region(header, region) && schema_in(header, region); };
  if (fits()) return true;
  const std::vector<std::byte> found = region;
  const std::size_t encoded = std::min<std::size_t>(header.schema_size_bytes, region.size());
  std::fill(region.begin() + static_cast<std::ptrdiff_t>(encoded), region.end(), std::byte{0});
  if (fits()) return true;
  // Behind the schema there is nothing but zeros, as there is now: if it is one byte, it is within it.
  if (region.size() <= searched_schema_bytes_max && restore_one_byte(region, encoded, header.schema_checksum) && fits())
    return true;
  region = found;
  return false;
}

}  // namespace

mended_head mend_head(const arena_file& arena) {
  mended_head mended;
  mended.header = arena.header();
  const auto header = mend_header(arena);
  if (!header) return mended;
  mended.header = *header;
  mended.header_is_sound = true;
  mended.schema_region = read_region(arena, *header);
  mended.schema_is_sound = mend_schema(*header, mended.schema_region);
  return mended;
}

repair_judge::repair_judge(const arena_file& arena) {
  const bool head_is_wrong = std::any_of(arena.findings().begin(), arena.findings().end(), [](const finding& found) {
    return found.level != severity::note && (found.rule.starts_with("header-") || found.rule.starts_with("schema-"));
  });
  std::uint32_t kind = arena.header().kind;
  if (head_is_wrong) {
    const mended_head mended = mend_head(arena);
    header_was_damaged_ = !is_sound(arena.header());
    header_is_sound_ = mended.header_is_sound;
    schema_is_sound_ = mended.schema_is_sound;
    kind = mended.header.kind;
  }
  mends_when_opened_ = arena.control() && arena.mends_when_opened();
  kind_is_known_ = false;
  for (const arena_kind known : {arena_kind::mapped, arena_kind::shared, arena_kind::durable})
    kind_is_known_ |= kind == static_cast<std::uint32_t>(known);
}

bool repair_judge::is_repairable(const finding& found) const {
  // Without a header that can be believed nothing can be found.
  if (!header_is_sound_ || !kind_is_known_) return false;
  // Not faults, and nothing is done about them; or only their end helps.
  for (const std::string_view rule : {"in-use", "file-longer", "schema-cut-short", "header-features", "journal-torn",
                                      "journal-left", "journal-unreadable", "journal-newer-format"})
    if (found.rule == rule) return false;
  if (found.rule == "not-closed") return mends_when_opened_;  // else there is nothing to mend
  // A checksum that vouches for what a later version may mean.
  if (found.rule == "header-reserved" || found.rule == "schema-type-name") return header_was_damaged_;
  return !found.rule.starts_with("schema-") || schema_is_sound_;
}

std::size_t patched_source::read(std::uint64_t offset, std::span<std::byte> out) const {
  const std::size_t patched =
      offset >= first_bytes_.size() ? 0 : std::min<std::size_t>(first_bytes_.size() - offset, out.size());
  std::copy_n(first_bytes_.begin() + static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(offset, first_bytes_.size())),
              patched, out.begin());
  return patched + (patched == out.size() ? 0 : below_.read(offset + patched, out.subspan(patched)));
}

}  // namespace dm::inspect
