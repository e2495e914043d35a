#include "image.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>

#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"

namespace killed {

file_view::file_view(const std::filesystem::path& path) : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (descriptor_ < 0) throw std::runtime_error("cannot open " + path.string());
  void* mapped = ::mmap(nullptr, mapped_bytes, PROT_READ, MAP_SHARED, descriptor_, 0);
  if (mapped == MAP_FAILED) throw std::runtime_error("cannot map " + path.string());
  base_ = static_cast<const char*>(mapped);
}

file_view::~file_view() {
  ::munmap(const_cast<char*>(base_), mapped_bytes);
  ::close(descriptor_);
}

std::size_t file_view::size_bytes() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) throw std::runtime_error("fstat");
  return static_cast<std::size_t>(status.st_size);
}

bool file_view::is(const std::string& bytes) const {
  return size_bytes() == bytes.size() && std::memcmp(base_, bytes.data(), bytes.size()) == 0;
}

std::string file_view::bytes() const { return {base_, size_bytes()}; }

void restore(const std::filesystem::path& path, const std::string& bytes) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const auto size = static_cast<off_t>(bytes.size());
  // Cut short first, so that nothing is left behind its end for a file that grows again.
  const bool done = descriptor >= 0 && ::ftruncate(descriptor, 0) == 0 &&
                    ::pwrite(descriptor, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(size);
  ::close(descriptor);
  if (!done) throw std::runtime_error("cannot write " + path.string());
}

std::string without_notes(std::string bytes) {
  dm::arena_header header;
  dm::control_block control;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::memcpy(&control, bytes.data() + header.control_offset, sizeof control);
  control.opened_unix_ns = 0;
  control.owner_pid = 0;
  std::memset(control.owner_program, 0, sizeof control.owner_program);
  // A mark is the checksum of these among others: where there is one, they are not only for people.
  if (control.closed == 0 && control.synced == 0) control.last_recovery = dm::recovery_record();
  std::memcpy(bytes.data() + header.control_offset, &control, sizeof control);
  return bytes;
}

}  // namespace killed
