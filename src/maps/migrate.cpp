#include "deferred_map/migrate.hpp"

#include <algorithm>

namespace dm {

std::string migration_report::to_string() const {
  std::string text = std::to_string(values) + " values in " + std::to_string(slots) + " slots migrated";
  if (dropped != 0) text += ", " + std::to_string(dropped) + " dropped";
  if (retired != 0) text += ", " + std::to_string(retired) + " slots retired";
  if (reserved_given_back != 0) text += ", " + std::to_string(reserved_given_back) + " reserved slots given back";
  return text;
}

namespace detail {

bool is_same_name(const std::filesystem::path& a, const std::filesystem::path& b) {
  if (a.filename() != b.filename()) return false;
  const auto directory_of = [](const std::filesystem::path& path) {
    return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  };
  // Of the directories, not of the files: a link to `from` is a name of its own, which must not be replaced.
  std::error_code missing;
  return std::filesystem::equivalent(directory_of(a), directory_of(b), missing);
}

void require_free_name(const std::filesystem::path& to) {
  std::error_code ignored;  // whatever else is wrong with the path, making the file will say
  if (std::filesystem::exists(std::filesystem::symlink_status(to, ignored)))
    throw error(errc::exists, to, "the file exists already. Remove it, or choose another name");
}

std::unique_ptr<arena> make_successor(const std::filesystem::path& to, arena& old, const stored_type& type,
                                      const migration_options& how) {
  const arena_header& header = old.header();
  const std::uint64_t slot_count = old.control().slot_count;
  std::uint64_t max_slots = how.max_slots;
  if (max_slots != 0 && max_slots < slot_count)
    throw error(errc::bad_options, to,
                "max_slots is " + std::to_string(max_slots) + ", but " + old.path().string() + " has " +
                    std::to_string(slot_count) + " slots, and each keeps its place");
  if (max_slots == 0) {
    const slot_layout old_slot{header.slot_stride_bytes, header.version_offset, header.value_offset,
                               header.value_size_bytes, header.value_align_bytes};
    // The default is a size of address space; as a number of slots it would mean another with slots of another size.
    const bool was_default = header.slots_max == arena::default_slots_max(old_slot);
    max_slots = std::max(was_default ? arena::default_slots_max(type.slot) : header.slots_max, slot_count);
  }
  std::unique_ptr<arena> made = arena::create_unnamed(
      to, arena_kind::mapped, type, {.max_slots = max_slots, .reserve_slots = slot_count, .permissions = 0600});
  made->take_rights_of(old, how.permissions);
  return made;
}

}  // namespace detail
}  // namespace dm
