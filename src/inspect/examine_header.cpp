#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "head_checks.hpp"

namespace dm::inspect {
namespace {

constexpr std::uint32_t value_size_max = 1u << 30;
constexpr std::uint64_t slots_limit = 0xffff'ffffu;

struct offset_field {
  const char* name;
  std::uint64_t arena_header::*member;
  std::size_t at;
};

// Everything in the header that follows from the sizes in it.
constexpr offset_field derived_fields[] = {
    {"schema_offset", &arena_header::schema_offset, offsetof(arena_header, schema_offset)},
    {"control_offset", &arena_header::control_offset, offsetof(arena_header, control_offset)},
    {"control_size_bytes", &arena_header::control_size_bytes, offsetof(arena_header, control_size_bytes)},
    {"scratch_offset", &arena_header::scratch_offset, offsetof(arena_header, scratch_offset)},
    {"scratch_size_bytes", &arena_header::scratch_size_bytes, offsetof(arena_header, scratch_size_bytes)},
    {"index_offset", &arena_header::index_offset, offsetof(arena_header, index_offset)},
    {"index_size_bytes", &arena_header::index_size_bytes, offsetof(arena_header, index_size_bytes)},
    {"slots_offset", &arena_header::slots_offset, offsetof(arena_header, slots_offset)},
};

/// Whether a file that does not begin with the magic number is an arena nonetheless, with its first bytes damaged.
bool is_arena_but_for_its_magic(const arena_header& header) {
  return header.byte_order == arena_header::byte_order_tag && header.kind >= 1 && header.kind <= 3 &&
         header.format_version == arena_header::format_version_now && header.schema_offset == sizeof(arena_header) &&
         header.control_size_bytes == sizeof(control_block);
}

bool values_are_possible(const arena_header& header) {
  return header.value_size_bytes != 0 && header.value_size_bytes <= value_size_max &&
         std::has_single_bit(header.value_align_bytes) && header.value_align_bytes <= arena_page_bytes;
}

bool slot_layout_is_possible(const arena_header& header) {
  const std::uint64_t value_end = std::uint64_t{header.value_offset} + header.value_size_bytes;
  return header.version_offset == 0 && header.value_offset >= 4 &&
         header.value_offset % header.value_align_bytes == 0 && value_end <= header.slot_stride_bytes &&
         header.slot_stride_bytes <= std::uint64_t{value_size_max} * 2 &&
         header.slot_stride_bytes % std::max<std::uint32_t>(header.value_align_bytes, 4) == 0;
}

/// The same header with the offsets `make_header` gives.
arena_header laid_out(const arena_header& header) {
  const slot_layout slot{header.slot_stride_bytes, header.version_offset, header.value_offset, header.value_size_bytes,
                         header.value_align_bytes};
  const std::vector<std::byte> as_long_as_the_schema(header.schema_size_bytes);
  const arena_header made = make_header(static_cast<arena_kind>(header.kind), slot, header.slots_max, {},
                                        header.schema_version, as_long_as_the_schema);
  arena_header result = header;
  for (const offset_field& field : derived_fields) result.*field.member = made.*field.member;
  return result;
}

}  // namespace

header_examination examine_header(const std::filesystem::path& path, std::span<const std::byte> bytes,
                                  std::uint64_t file_size_bytes) {
  header_examination result;
  arena_header& header = result.header;
  header = arena_header{};
  std::memset(static_cast<void*>(&header), 0, sizeof header);
  std::memcpy(static_cast<void*>(&header), bytes.data(), std::min(bytes.size(), sizeof header));
  const auto bad = [&](std::string_view rule, std::uint64_t at, std::string text, severity level = severity::error) {
    result.findings.push_back({rule, level, at, std::nullopt, std::move(text)});
  };

  const std::optional<fault> first = check_header(bytes);
  if (bytes.size() < arena_header::magic_bytes.size())
    throw error(errc::not_an_arena, path,
                bytes.empty() ? "the file is empty, so it is no arena"
                              : "this file of " + std::to_string(bytes.size()) + " bytes is no arena");
  if (header.magic != arena_header::magic_bytes) {
    if (bytes.size() < sizeof header || !is_arena_but_for_its_magic(header))
      throw error(errc::not_an_arena, path, first ? first->message : "this file is no arena");
    bad("header-magic", 0, "the file does not begin with an arena's magic number, though all that follows is one's");
  }
  if (bytes.size() < sizeof header) {
    bad("header-short", bytes.size(),
        "the file ends after " + std::to_string(bytes.size()) + " bytes, within its header");
    return result;
  }
  if (header.byte_order == 0x0102'0304u) {
    throw error(errc::not_an_arena, path, "this arena was written by a big-endian machine, and can be read there only");
  }
  if (first && first->code == errc::newer_format) {
    result.newer_format = true;
    bad("header-newer-format", offsetof(arena_header, format_version), first->message);
    return result;
  }

  if (header.checksum != header.computed_checksum())
    bad("header-checksum", offsetof(arena_header, checksum),
        "the header does not have the checksum it should have: a part of it was changed");
  if (header.byte_order != arena_header::byte_order_tag)
    bad("header-byte-order", offsetof(arena_header, byte_order), "the order of bytes is none that there is");
  if (header.format_version != arena_header::format_version_now)
    bad("header-version", offsetof(arena_header, format_version),
        "format version " + std::to_string(header.format_version) + " was never used");
  if (header.kind < 1 || header.kind > 3)
    bad("header-kind", offsetof(arena_header, kind), "kind " + std::to_string(header.kind) + " is unknown");
  const bool name_ends = header.type_name.back() == '\0';
  if (!name_ends) bad("header-type-name", offsetof(arena_header, type_name), "the type name has no end");
  // What such a feature keeps may be kept there.
  if (header.compatible_features != 0)
    bad("header-features", offsetof(arena_header, compatible_features),
        "the file has features that this version does not know, and may ignore: what they keep is not examined",
        severity::note);
  else if (std::any_of(header.unused.begin(), header.unused.end(), [](std::uint8_t byte) { return byte != 0; }))
    bad("header-reserved", offsetof(arena_header, unused), "bytes that must be 0 are not", severity::warning);

  bool can_be_laid_out = true;
  const auto must = [&](bool met, std::string_view rule, std::uint64_t at, std::string text) {
    if (met) return;
    can_be_laid_out = false;
    bad(rule, at, std::move(text));
  };
  must(values_are_possible(header), "header-value", offsetof(arena_header, value_size_bytes),
       "values of " + std::to_string(header.value_size_bytes) + " bytes aligned to " +
           std::to_string(header.value_align_bytes) + " are impossible");
  // Of values that are impossible there is nothing to say about where they lie.
  if (can_be_laid_out)
    must(slot_layout_is_possible(header), "header-slot-layout", offsetof(arena_header, slot_stride_bytes),
         "slots of " + std::to_string(header.slot_stride_bytes) + " bytes with a version at " +
             std::to_string(header.version_offset) + " and a value of " + std::to_string(header.value_size_bytes) +
             " bytes at " + std::to_string(header.value_offset) + " are impossible");
  must(header.slots_max != 0 && header.slots_max <= slots_limit, "header-slots-max", offsetof(arena_header, slots_max),
       "a maximum of " + std::to_string(header.slots_max) + " slots is impossible");
  must(header.schema_size_bytes <= file_size_bytes && header.schema_size_bytes <= std::uint64_t{1} << 26,
       "header-schema-size", offsetof(arena_header, schema_size_bytes),
       "a schema of " + std::to_string(header.schema_size_bytes) + " bytes is impossible here");
  if (can_be_laid_out) {
    result.layout = laid_out(header);
    for (const offset_field& field : derived_fields)
      if (header.*field.member != (*result.layout).*field.member)
        bad("header-layout", field.at,
            std::string(field.name) + " is " + std::to_string(header.*field.member) + " where " +
                std::to_string((*result.layout).*field.member) + " follows from the sizes");
  }
  // What opening refuses must not pass here, whatever rule it learns.
  const bool has_error = std::any_of(result.findings.begin(), result.findings.end(),
                                     [](const finding& found) { return found.level == severity::error; });
  if (first && !has_error) bad("header-layout", 0, first->message);
  return result;
}

}  // namespace dm::inspect
