// The inspection's only system calls. None of them changes anything, and where one fails, less is known
// and no more.
#include "deferred_map/inspect/byte_source.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <system_error>

#include "../arena/posix_file.hpp"

namespace dm::inspect {
namespace {

constexpr std::size_t page_bytes = 4096;

enum class answer { free, held, unknown };

/// Whether a lock of this type on the whole file would have to wait. Asks only.
answer lock_is_held(int descriptor, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  if (::fcntl(descriptor, F_OFD_GETLK, &lock) != 0) return answer::unknown;
  return lock.l_type == F_UNLCK ? answer::free : answer::held;
}

class file_source final : public byte_source {
 public:
  explicit file_source(posix::file file) noexcept : file_(std::move(file)) {}

  std::size_t read(std::uint64_t offset, std::span<std::byte> out) const override {
    return file_.read_some(offset, out);
  }
  std::uint64_t size_bytes() const override { return file_.size_bytes(); }
  std::uint64_t allocated_bytes() const override { return file_.allocated_bytes(); }

  std::uint64_t next_data(std::uint64_t offset) const override { return file_.next_data(offset); }

  lock_state locks() const override {
    lock_state found;
    // A reader's lock would have to wait for a writer only, a writer's for anybody.
    const answer writer = lock_is_held(file_.descriptor(), F_RDLCK);
    const answer anybody = lock_is_held(file_.descriptor(), F_WRLCK);
    if (writer == answer::held)
      found.held = lock_state::mode::writing;
    else if (writer == answer::unknown || anybody == answer::unknown)
      found.held = lock_state::mode::unknown;
    else if (anybody == answer::held)
      found.held = lock_state::mode::reading;
    if (found.held == lock_state::mode::writing || found.held == lock_state::mode::reading) {
      try {
        found.holders = posix::lock_holders(file_);
      } catch (const std::system_error&) {
        found.holders.clear();  // /proc is there for the names only
      }
    }
    return found;
  }

  std::optional<bool> is_locked(std::uint64_t offset, std::uint64_t count) const override {
    try {
      return file_.is_locked(offset, count);
    } catch (const std::system_error&) {
      return std::nullopt;
    }
  }

  bool pin(std::uint64_t byte) const override {
    try {
      file_.lock_range(posix::lock_mode::shared, byte, 1);
      return true;
    } catch (const std::system_error&) {
      return false;
    }
  }
  void unpin(std::uint64_t byte) const noexcept override { file_.unlock_range(byte, 1); }
  bool name_leads_here() const noexcept override { return file_.name_leads_here(); }

 private:
  posix::file file_;
};

}  // namespace

std::unique_ptr<byte_source> open_file(const std::filesystem::path& path) {
  std::error_code unseen;
  // Whatever is wrong with the link, opening it says it better.
  const auto real = std::filesystem::is_symlink(path, unseen) ? std::filesystem::canonical(path, unseen) : path;
  return std::make_unique<file_source>(posix::file::open(real.empty() ? path : real, false));
}

std::size_t read_around_errors(const byte_source& source, std::uint64_t offset, std::span<std::byte> out,
                               std::vector<byte_range>& unreadable) {
  try {
    return source.read(offset, out);
  } catch (const std::system_error&) {
  }
  // Again, page by page of the file, to lose no more than what is lost.
  std::size_t done = 0;
  while (done < out.size()) {
    const std::uint64_t at = offset + done;
    const auto page_rest = static_cast<std::size_t>(page_bytes - at % page_bytes);
    const auto part = out.subspan(done, std::min(page_rest, out.size() - done));
    try {
      const std::size_t got = source.read(at, part);
      done += got;
      if (got < part.size()) return done;
    } catch (const std::system_error&) {
      std::memset(part.data(), 0, part.size());
      if (!unreadable.empty() && unreadable.back().offset + unreadable.back().size_bytes == at)
        unreadable.back().size_bytes += part.size();
      else
        unreadable.push_back({at, part.size()});
      done += part.size();
    }
  }
  return done;
}

}  // namespace dm::inspect
