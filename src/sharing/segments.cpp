#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "deferred_map/error.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/sharing/place.hpp"
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

std::uint32_t count_attached(const posix::file& file) {
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < sharing::attachments_max; ++i)
    count += file.is_locked(sharing::lock_byte::life_of(i), 1);
  return count;
}

void look_at(shm_info& info) {
  const posix::file file = posix::file::open(info.path, false);
  info.size_bytes = file.size_bytes();
  info.allocated_bytes = file.allocated_bytes();
  std::array<std::byte, sizeof(arena_header)> head{};
  if (const auto fault = check_header(std::span(head).first(file.read_some(0, head)))) {
    info.fault = fault->message;
    return;
  }
  arena_header header;
  std::memcpy(&header, head.data(), sizeof header);
  info.kind = to_string(static_cast<arena_kind>(header.kind));
  info.type_name.assign(header.type_name.data(), ::strnlen(header.type_name.data(), header.type_name.size()));
  control_block control;
  if (file.read_some(header.control_offset, std::as_writable_bytes(std::span(&control, 1))) != sizeof control)
    info.fault = "it ends within its control block";
  else
    info.slot_count = control.slot_count;
  info.attached = count_attached(file);
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

}  // namespace dm
