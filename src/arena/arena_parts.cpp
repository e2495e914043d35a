#include "arena_parts.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "deferred_map/format/index_layout.hpp"

namespace dm {
namespace {

constexpr std::uint64_t growth_bytes_min = std::uint64_t{64} << 10;
constexpr std::uint64_t growth_bytes_max = std::uint64_t{256} << 20;

constexpr std::uint64_t page_floor(std::uint64_t bytes) noexcept { return bytes / arena_page_bytes * arena_page_bytes; }
constexpr std::uint64_t page_ceil(std::uint64_t bytes) noexcept { return page_floor(bytes + arena_page_bytes - 1); }

void check_type(const arena_header& header, std::span<const std::byte> schema_bytes, arena_kind kind,
                const stored_type& type, const std::filesystem::path& path) {
  if (header.kind != static_cast<std::uint32_t>(kind))
    throw error(errc::wrong_kind, path,
                std::string("this arena was made by ") + to_string(static_cast<arena_kind>(header.kind)) +
                    " and cannot be opened by " + to_string(kind) +
                    ". Open it with dm::" + to_string(static_cast<arena_kind>(header.kind)));
  const schema_result found = decode(schema_bytes, header.value_size_bytes);
  if (!found)
    throw error(errc::damaged, path,
                "this arena is damaged: its schema cannot be read (" + found.reason +
                    "). Nothing was changed. Restore a copy, or look at what is left with dm-inspect check");
  if (const auto difference = first_difference(*found.value, type.description))
    throw error(errc::type_mismatch, path,
                "this arena holds another type than the program asks for: " + *difference +
                    ". Nothing was changed. Open it with the type it was made with, or migrate it (dm::migrate)");
  if (header.schema_version != type.schema_version)
    throw error(errc::type_mismatch, path,
                "this arena holds schema version " + std::to_string(header.schema_version) + " of '" +
                    header.type_name.data() + "', the program has version " + std::to_string(type.schema_version) +
                    ". Open it with the version it was made with, or migrate it (dm::migrate)");
  const slot_layout& slot = type.slot;
  if (header.slot_stride_bytes != slot.stride_bytes || header.value_offset != slot.value_offset ||
      header.value_size_bytes != slot.value_size_bytes || header.value_align_bytes != slot.value_align_bytes)
    throw error(errc::type_mismatch, path,
                "this arena's slots have " + std::to_string(header.slot_stride_bytes) + " bytes with a value of " +
                    std::to_string(header.value_size_bytes) + " aligned to " +
                    std::to_string(header.value_align_bytes) + ", the program's have " +
                    std::to_string(slot.stride_bytes) + ", " + std::to_string(slot.value_size_bytes) + " and " +
                    std::to_string(slot.value_align_bytes) +
                    ". Open it with the type it was made with, or migrate it (dm::migrate)");
}

}  // namespace

void require(bool met, const std::filesystem::path& path, const std::string& otherwise) {
  if (!met) throw error(errc::bad_options, path, otherwise);
}

void require_no_fault(const std::optional<fault>& found, const std::filesystem::path& path) {
  if (found) throw error(found->code, path, found->message);
}

arena_head head_of_new_arena(const std::filesystem::path& path, arena_kind kind, const stored_type& type,
                             const arena_options& options) {
  require(!path.empty(), path, "an arena needs a path");
  require(options.max_slots <= 0xffff'ffffu, path, "max_slots is at most 2^32 - 1, a key has 32 bits for the slot");
  require((options.permissions & ~0777u) == 0, path, "permissions are an access mode such as 0600");
  const std::uint64_t slots_max = options.max_slots != 0 ? options.max_slots : arena::default_slots_max(type.slot);
  require(options.reserve_slots <= slots_max, path,
          "reserve_slots is " + std::to_string(options.reserve_slots) + ", but there can be at most " +
              std::to_string(slots_max) + " slots (max_slots)");

  // What `open` would refuse is not made.
  const auto unsound = first_fault(type.description, type.slot.value_size_bytes);
  require(!unsound, path, "this type cannot be described in a file: " + unsound.value_or(""));
  const std::vector<std::byte> encoded = encode(type.description);
  arena_head made;
  made.header =
      make_header(kind, type.slot, slots_max, type.description.fields.front().type_name, type.schema_version, encoded);
  arena_header& header = made.header;
  made.bytes.resize(header.control_offset);
  std::copy(encoded.begin(), encoded.end(), made.bytes.begin() + static_cast<std::ptrdiff_t>(header.schema_offset));
  posix::random_bytes(header.uuid);
  header.uuid[6] = static_cast<std::uint8_t>((header.uuid[6] & 0x0f) | 0x40);
  header.uuid[8] = static_cast<std::uint8_t>((header.uuid[8] & 0x3f) | 0x80);
  header.created_unix_ns = posix::now_unix_ns();
  seal(header, std::span(made.bytes).subspan(sizeof(arena_header)));
  std::memcpy(made.bytes.data(), &header, sizeof header);
  const auto impossible = check_header(std::span(made.bytes).first(sizeof header));
  require(!impossible, path, "an arena cannot hold this type: " + (impossible ? impossible->message : ""));
  return made;
}

arena_header read_and_check_head(const posix::file& file, arena_kind kind, const stored_type& type) {
  arena_header header;
  std::array<std::byte, sizeof(arena_header)> head{};
  const std::size_t head_size = file.read_some(0, head);
  require_no_fault(check_header(std::span(head).first(head_size)), file.path());
  std::memcpy(&header, head.data(), sizeof header);
  std::vector<std::byte> schema_region(std::min(header.control_offset, file.size_bytes()) - sizeof(arena_header));
  schema_region.resize(file.read_some(sizeof(arena_header), schema_region));
  require_no_fault(check_schema_region(header, schema_region), file.path());
  check_type(header, std::span(schema_region).first(header.schema_size_bytes), kind, type, file.path());
  return header;
}

left_as how_it_was_left(const control_block& control) {
  // After another start of the machine only what was synced counts; within one, what was closed.
  if (control.boot_id != posix::boot_id())
    return control.synced != 0 && control.synced == control.checksum() ? left_as::closed : left_as::machine_stopped;
  if (control.recovering == recovering_salvage) return left_as::machine_stopped;
  return control.closed != 0 ? left_as::closed : left_as::killed;
}

void say_in_use(control_block& c) {
  // From the first store on, a kill leaves: this boot and closed, which is true; then not closed with nothing
  // under way, which is true. `synced` goes last and its going is waited for: until then the disk still has
  // the state it vouches for, whichever of these stores have reached it.
  c.boot_id = posix::boot_id();
  order_stores();
  c.closed = 0;
  order_stores();
  c.opened_unix_ns = posix::now_unix_ns();
  c.owner_pid = posix::process_id();
  std::memset(c.owner_program, 0, sizeof c.owner_program);
  posix::process_name().copy(c.owner_program, sizeof c.owner_program - 1);
  // Always, also where it is 0 already: who cleared it may have died before that reached the disk.
  c.synced = 0;
  order_stores();
}

void refuse_unclean(const std::filesystem::path& path) {
  throw error(
      errc::unclean_after_reboot, path,
      "this arena was open when the machine stopped, and what of it had reached the disk by then may be of "
      "different moments. Nothing was changed. Restore a copy, or open it with salvage to keep what can be kept");
}

void refuse_after_failure(const std::filesystem::path& path) {
  throw error(errc::poisoned, path,
              "a write to the disk failed while this arena was open, so what is on the disk is unknown. It can be used "
              "until the machine stops: copy its values to another file before, and look at the disk");
}

void refuse_cut_short(const std::filesystem::path& path, const arena_header& header, std::uint64_t size_bytes) {
  throw error(errc::damaged, path,
              "this arena is damaged: it was cut short: its slots begin at byte " +
                  std::to_string(header.slots_offset) + ", and it has " + std::to_string(size_bytes) +
                  " bytes. Nothing was changed. Restore a copy");
}

void require_slots_fit(const std::filesystem::path& path, const arena_header& header, std::uint64_t slots) {
  if (slots <= header.slots_max) return;
  throw error(errc::full, path,
              "this arena holds at most " + std::to_string(header.slots_max) +
                  " slots, as fixed when it was made (max_slots), and " + std::to_string(slots) +
                  " were asked for. Remove values, or make a larger arena");
}

void allocate_slots(const posix::file& file, const arena_header& header, std::uint64_t slots_before,
                    std::uint64_t slots) {
  if (slots == 0) return;
  allocate_index(file, header, 0, slots_before, slots);
  const std::uint64_t from = page_floor(header.slots_offset + slots_before * header.slot_stride_bytes);
  file.allocate(from, header.file_size_for(slots) - from);
}

void allocate_index(const posix::file& file, const arena_header& header, std::uint32_t first_level,
                    std::uint64_t slots_before, std::uint64_t slots) {
  if (slots == 0) return;
  const index_levels levels(header.slots_max);
  std::uint64_t before = slots_before;
  std::uint64_t after = slots;
  for (std::uint32_t level = 0; level < levels.levels; ++level) {
    before = (before + 63) / 64;  // words of this level
    after = std::max<std::uint64_t>((after + 63) / 64, 1);
    if (level < first_level) continue;
    const std::uint64_t from = header.index_offset + (levels.offset[level] + before) * sizeof(std::uint64_t);
    const std::uint64_t to = header.index_offset + (levels.offset[level] + after) * sizeof(std::uint64_t);
    // The page in which the words so far end has its block, unless there were none.
    const std::uint64_t begin = before == 0 ? page_floor(from) : page_ceil(from);
    if (begin < to) file.allocate(begin, page_ceil(to) - begin);
  }
}

std::uint64_t missing_bytes(const posix::file& file, std::uint64_t wanted) {
  const std::uint64_t there = file.allocated_bytes();
  return wanted > there ? wanted - there : 0;
}

bool may_be_filled(const posix::file& file, std::uint64_t wanted) {
  const std::uint64_t missing = missing_bytes(file, wanted);
  const std::uint64_t there = file.allocated_bytes();
  if (missing <= std::max(there, growth_bytes_max)) return true;
  // File systems that compress have fewer blocks than data.
  const std::uint64_t data = file.data_bytes();
  return missing + there <= data || missing + there - data <= std::max(data, growth_bytes_max);
}

void require_few_holes(const posix::file& file, std::uint64_t wanted, std::uint64_t slots) {
  if (!may_be_filled(file, wanted))
    throw error(
        errc::damaged, file.path(),
        "this arena is damaged: most of its " + std::to_string(slots) + " slots are holes without disk blocks (" +
            std::to_string(missing_bytes(file, wanted)) +
            " bytes of them). Nothing was changed. Restore a copy, or, if it is a copy that left out zeros, copy "
            "it again with them (cp --sparse=never)");
}

void require_room(const posix::file& file, std::uint64_t wanted, std::uint64_t slots) {
  if (const std::uint64_t missing = missing_bytes(file, wanted); missing != 0 && missing > file.available_bytes())
    throw error(errc::full, file.path(),
                "this arena has holes where its " + std::to_string(slots) +
                    " slots should have disk blocks, as copies have that leave out zeros, and the disk has no room for "
                    "them. Nothing was changed. Make room, or open it with open_read_only");
}

std::uint64_t slots_with_head_start(const arena_header& header, std::uint64_t now, std::uint64_t needed) noexcept {
  const std::uint64_t now_bytes = now * header.slot_stride_bytes;
  const std::uint64_t step = std::clamp(now_bytes / 4, growth_bytes_min, growth_bytes_max);
  return std::min(std::max((now_bytes + step) / header.slot_stride_bytes, needed), header.slots_max);
}

}  // namespace dm
