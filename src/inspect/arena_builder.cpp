#include "deferred_map/inspect/arena_builder.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "../arena/arena_parts.hpp"
#include "../arena/posix_file.hpp"
#include "deferred_map/container/version.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/inspect/journal_state.hpp"
#include "settle_slots.hpp"

namespace dm::inspect {
namespace {

constexpr std::uint64_t window_bytes = 1 << 20;

stored_type type_of(const std::filesystem::path& path, const arena_plan& plan) {
  require(plan.kind == arena_kind::mapped || plan.kind == arena_kind::shared || plan.kind == arena_kind::durable, path,
          std::string("a new arena is of kind mapped_map, shared_map or durable_map, not ") + to_string(plan.kind));
  // Before anything is computed from them; whether they fit the type is asked when the head is made.
  require(plan.value_size_bytes != 0 && plan.value_size_bytes <= 1u << 30, path,
          "values of " + std::to_string(plan.value_size_bytes) + " bytes are impossible");
  require(std::has_single_bit(plan.value_align_bytes) && plan.value_align_bytes <= arena_page_bytes, path,
          "values cannot be aligned to " + std::to_string(plan.value_align_bytes) + " bytes");
  const auto unsound = first_fault(plan.description, plan.value_size_bytes);
  require(!unsound, path, "this type cannot be described in a file: " + unsound.value_or(""));
  stored_type type;
  type.slot = slot_layout_of(plan.kind, plan.value_size_bytes, plan.value_align_bytes);
  type.description = plan.description;
  type.schema_version = plan.description.version;
  return type;
}

}  // namespace

struct arena_builder::state {
  std::filesystem::path path;
  posix::file file;
  arena_header header;
  // The slots [window_first, window_first + window_slots) as they are to be; those behind the last set are not written.
  std::uint64_t window_first = 0;
  std::uint64_t window_slots = 1;
  std::uint64_t window_used = 0;
  std::vector<std::byte> window;
  std::uint64_t slots_set = 0;  // up to the last that was

  std::uint64_t offset_of(std::uint64_t slot) const { return header.slots_offset + slot * header.slot_stride_bytes; }

  void flush() {
    if (window_used != 0)
      file.write_all(offset_of(window_first),
                     std::span(window).first(static_cast<std::size_t>(window_used * header.slot_stride_bytes)));
    window_used = 0;
  }
  void move_window_to(std::uint64_t slot) {
    flush();
    window_first = slot / window_slots * window_slots;
    window.assign(static_cast<std::size_t>(window_slots * header.slot_stride_bytes), std::byte{0});
    if (window_first >= slots_set) return;  // nothing is there yet
    file.read_some(offset_of(window_first), window);
    window_used = std::min(window_slots, slots_set - window_first);
  }
};

arena_builder::arena_builder(const std::filesystem::path& path, const arena_plan& plan)
    : state_(std::make_unique<state>()) {
  state& s = *state_;
  const arena_head head = head_of_new_arena(path, plan.kind, type_of(path, plan),
                                            {.max_slots = plan.slots_max, .permissions = plan.permissions});
  const auto is_there = [](const std::filesystem::path& name) {
    std::error_code ignored;  // whatever else is wrong with the path, making the file will say
    return std::filesystem::exists(std::filesystem::symlink_status(name, ignored));
  };
  if (is_there(path)) throw error(errc::exists, path, "the file exists already. Remove it, or choose another name");
  if (const auto journal = journal_path_of(path); plan.kind == arena_kind::durable && is_there(journal))
    throw error(errc::exists, journal,
                "there is a journal where the new arena's will be. Bring it to its arena, or choose another name");
  s.path = path;
  s.header = head.header;
  s.file = posix::file::create_unnamed(path, plan.permissions);
  s.file.write_all(0, head.bytes);
  s.file.set_size(s.header.slots_offset);
  s.window_slots = std::max<std::uint64_t>(window_bytes / s.header.slot_stride_bytes, 1);
  s.move_window_to(0);
}

arena_builder::~arena_builder() = default;

std::uint64_t arena_builder::slots_max() const noexcept { return state_->header.slots_max; }

void arena_builder::set(std::uint32_t slot, std::uint32_t version, std::span<const std::byte> value) {
  state& s = *state_;
  require(slot < s.header.slots_max, s.path,
          "slot " + std::to_string(slot) + " is behind the last of " + std::to_string(s.header.slots_max) +
              " slots there can be (max_slots)");
  if (slot < s.window_first || slot >= s.window_first + s.window_slots) s.move_window_to(slot);
  std::byte* const place = s.window.data() + (slot - s.window_first) * s.header.slot_stride_bytes;
  std::uint32_t before = 0;
  std::memcpy(&before, place, sizeof before);
  require(before == 0, s.path, "slot " + std::to_string(slot) + " is there twice");
  std::memcpy(place, &version, sizeof version);
  if (!value.empty())
    std::memcpy(place + s.header.value_offset, value.data(),
                std::min<std::size_t>(value.size(), s.header.value_size_bytes));
  s.window_used = std::max(s.window_used, slot - s.window_first + 1);
  s.slots_set = std::max<std::uint64_t>(s.slots_set, std::uint64_t{slot} + 1);
}

void arena_builder::publish(std::uint64_t slot_count, std::uint32_t generation_floor) {
  const std::unique_ptr<state> done = std::move(state_);
  state& s = *done;
  const arena_header& header = s.header;
  const bool shared = is_shared(header);
  slot_count = std::max(slot_count, s.slots_set);
  require(slot_count <= header.slots_max, s.path,
          std::to_string(slot_count) + " slots do not fit where there can be " + std::to_string(header.slots_max) +
              " (max_slots)");
  require(generation_floor <= version::last_generation, s.path,
          "a generation floor of " + std::to_string(generation_floor) + " is past the last generation");
  require(!shared || generation_floor <= version::first_generation, s.path,
          "a shared map keeps no generation floor, and " + std::to_string(generation_floor) +
              " is asked for: keys of slots that were given back could name new values");
  if (shared) slot_count = std::min((slot_count + 63) / 64 * 64, header.slots_max);
  s.flush();

  // Blocks for all that a map stores to without asking.
  s.file.allocate(0, shared ? header.scratch_offset + shared_layout::table_bytes : header.index_offset);
  allocate_slots(s.file, header, 0, slot_count);
  const std::uint32_t floor = std::max(generation_floor, version::first_generation);
  const settled_counts counts =
      settle_slots(s.file, header, slot_count, slot_count, [&](std::uint32_t, std::uint64_t& word) {
        if (word == 0 && !shared) word = version::vacant(floor);  // of a shared one, zero is vacant in the first
      });

  control_block control;
  control.slot_count = control.capacity = static_cast<std::uint32_t>(slot_count);
  if (shared) {
    control.shared_slots = slot_count;
  } else {
    control.occupied = static_cast<std::uint32_t>(counts.occupied);
    control.vacant = static_cast<std::uint32_t>(counts.vacant);
    control.retired = static_cast<std::uint32_t>(counts.retired);
    control.generation_floor = generation_floor;
  }
  control.boot_id = posix::boot_id();
  control.synced = control.closed = control.checksum();
  s.file.write_all(header.control_offset, std::as_bytes(std::span(&control, 1)));
  // Its name is to lead to a whole file, also after a power failure.
  s.file.sync();
  s.file.give_name();
  try {
    s.file.sync_directory();
  } catch (const error&) {
    s.file.take_back_name();
    throw;
  }
}

}  // namespace dm::inspect
