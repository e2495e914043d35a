#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <span>

#include "deferred_map/error.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/sharing/place.hpp"
#include "deferred_map/sharing/region.hpp"
#include "lock_bytes.hpp"

namespace dm {
namespace {

constexpr const char* directory = "/dev/shm";
constexpr const char* prefix = "deferred-map.";
constexpr std::size_t name_bytes_max = 200;

bool is_name(const std::string& name) {
  return !name.empty() && name.size() <= name_bytes_max && std::none_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return c == '/' || byte < 0x20 || byte == 0x7f;
  });
}

using sharing::attachment_record;

/// What a segment's own bytes say of it. Requires: a header that passed.
class open_segment {
 public:
  explicit open_segment(const posix::file& file) : file_(file) {
    std::array<std::byte, sizeof(arena_header)> head{};
    fault_ = check_header(std::span(head).first(file_.read_some(0, head)));
    if (!fault_) std::memcpy(&header_, head.data(), sizeof header_);
  }

  const std::optional<fault>& found_fault() const noexcept { return fault_; }
  const arena_header& header() const noexcept { return header_; }
  bool is_shared() const noexcept { return header_.kind == static_cast<std::uint32_t>(arena_kind::shared); }

  std::optional<control_block> control() const {
    control_block control;
    if (file_.read_some(header_.control_offset, std::as_writable_bytes(std::span(&control, 1))) != sizeof control)
      return std::nullopt;
    return control;
  }
  /// Of a shared map's. Where the file ends before them, the rest are free.
  std::array<attachment_record, sharing::attachments_max> attachments() const {
    std::array<attachment_record, sharing::attachments_max> entries;
    file_.read_some(header_.scratch_offset, std::as_writable_bytes(std::span(entries)));
    return entries;
  }
  std::int64_t last_opened_unix_ns() const {
    std::int64_t last = header_.created_unix_ns;
    if (const auto block = control()) last = std::max(last, block->opened_unix_ns);
    // A free entry still says when it was last taken.
    if (is_shared())
      for (const attachment_record& entry : attachments()) last = std::max(last, entry.attached_unix_ns);
    return last;
  }
  bool is_alive(std::uint32_t attachment) const { return file_.is_locked(sharing::lock_byte::life_of(attachment), 1); }

 private:
  const posix::file& file_;
  std::optional<fault> fault_;
  arena_header header_;
};

void look_at(shm_info& info) {
  const posix::file file = posix::file::open(info.path, false);
  info.size_bytes = file.size_bytes();
  info.allocated_bytes = file.allocated_bytes();
  const open_segment segment(file);
  if (segment.found_fault()) {
    info.fault = segment.found_fault()->message;
    return;
  }
  const arena_header& header = segment.header();
  info.kind = to_string(static_cast<arena_kind>(header.kind));
  info.type_name.assign(header.type_name.data(), ::strnlen(header.type_name.data(), header.type_name.size()));
  info.last_opened_unix_ns = segment.last_opened_unix_ns();
  if (const auto control = segment.control())
    info.slot_count = control->slot_count;
  else
    info.fault = "it ends within its control block";
  if (!segment.is_shared()) {
    info.attached = file.is_locked(0, 1);
    return;
  }
  const auto entries = segment.attachments();
  for (std::uint32_t i = 0; i < sharing::attachments_max; ++i) {
    if (segment.is_alive(i))
      ++info.attached;
    else if (entries[i].state != attachment_record::free)
      ++info.dead;
  }
}

}  // namespace

shm::shm(std::string name) : name_(std::move(name)) {
  if (!is_name(name_))
    throw error(errc::bad_options, name_,
                "a segment's name is 1 to " + std::to_string(name_bytes_max) +
                    " bytes, with no '/' and no control character among them, such as \"quotes\"");
}

std::filesystem::path shm::path() const { return std::filesystem::path(directory) / (prefix + name_); }

std::vector<shm_info> shm::list() {
  std::vector<shm_info> found;
  std::error_code code;
  std::filesystem::directory_iterator entry(directory, code);
  if (code) throw error(code, directory, "the directory of shared-memory segments cannot be read: " + code.message());
  for (const std::filesystem::directory_iterator end; entry != end; entry.increment(code)) {
    const std::string file_name = entry->path().filename().string();
    if (!file_name.starts_with(prefix)) continue;
    shm_info info;
    info.name = file_name.substr(std::strlen(prefix));
    info.path = entry->path();
    try {
      look_at(info);
    } catch (const error& e) {
      if (e.code() == errc::not_found) continue;  // gone meanwhile
      info.fault = e.what();
    }
    found.push_back(std::move(info));
  }
  std::sort(found.begin(), found.end(), [](const shm_info& a, const shm_info& b) { return a.name < b.name; });
  return found;
}

bool shm::remove(const std::string& name) {
  const std::filesystem::path path = shm(name).path();
  std::error_code code;
  const bool removed = std::filesystem::remove(path, code);
  if (code) throw error(code, path, "removing this segment failed: " + code.message());
  return removed;
}

shm::removal shm::remove_unused(const std::string& name, std::optional<std::int64_t> not_since_unix_ns) {
  const std::filesystem::path path = shm(name).path();
  posix::file file;
  try {
    file = posix::file::open(path, true);
  } catch (const error& e) {
    if (e.code() == errc::not_found) return removal::none;
    throw;
  }
  const open_segment segment(file);
  if (segment.found_fault()) throw error(segment.found_fault()->code, path, segment.found_fault()->message);
  if (!segment.is_shared())
    throw error(errc::wrong_kind, path,
                "this segment is no shared map's, and who has it open to read cannot be told. Remove it by its name");
  // Whoever attaches holds this lock, and looks, still under it, whether the name leads to what it has opened. So nobody
  // attaches from here on, and who waits finds that the segment is gone. Not waited for: who has it is about to use it.
  const sharing::held_byte table(file, sharing::lock_byte::table, false);
  if (!table || sharing::others_are_attached(file)) return removal::in_use;
  if (not_since_unix_ns && segment.last_opened_unix_ns() > *not_since_unix_ns) return removal::used_since;
  if (!file.name_leads_here()) return removal::none;
  return remove(name) ? removal::removed : removal::none;
}

}  // namespace dm
