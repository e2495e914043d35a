// The disk under a directory: which it is, what has been written to it, and whether it is one at all.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <system_error>

namespace bench {

/// What has reached, so far, the block device that holds a directory: from everybody who writes to it. The kernel counts for
/// whole devices and partitions only.
class disk {
 public:
  /// Errors: where the directory is in memory, since nothing that is written there is durable.
  explicit disk(const std::filesystem::path& directory) {
    struct statfs system {};
    struct stat file {};
    if (::statfs(directory.c_str(), &system) != 0 || ::stat(directory.c_str(), &file) != 0)
      throw std::system_error(errno, std::generic_category(), directory.string());
    constexpr long tmpfs = 0x01021994, ramfs = static_cast<long>(0x858458f6);
    if (system.f_type == tmpfs || system.f_type == ramfs)
      throw std::runtime_error(directory.string() +
                               " is in memory (tmpfs), where nothing is durable. Set BENCH_DIRECTORY to one on a disk");
    const std::filesystem::path device =
        "/sys/dev/block/" + std::to_string(::major(file.st_dev)) + ":" + std::to_string(::minor(file.st_dev));
    std::error_code none;  // overlays and some other file systems have no device of their own
    if (const auto found = std::filesystem::canonical(device, none); !none) {
      name_ = found.filename().string();
      counters_ = found / "stat";
    }
  }

  /// As in /dev. Empty where there is none that could be asked.
  const std::string& name() const { return name_; }

  std::uint64_t written_bytes() const {
    std::uint64_t reads = 0, merged = 0, sectors = 0, ms = 0, writes = 0, writes_merged = 0, sectors_written = 0;
    if (!counters_.empty())
      std::ifstream(counters_) >> reads >> merged >> sectors >> ms >> writes >> writes_merged >> sectors_written;
    return sectors_written * 512;
  }

 private:
  std::string name_;
  std::filesystem::path counters_;
};

/// Asks that this thread runs as soon as the disk has answered it, for as long as the program runs. A kernel may else let it
/// wait until another program's turn ends (4 ms, where a commit takes a tenth of one), and whoever syncs most suffers most.
/// Returns whether it could: it takes root's rights. Threads and processes that begin later are as others.
inline bool take_priority() {
  sched_param first{};
  first.sched_priority = 1;
  return ::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first) == 0;
}

/// Waits until the disk has all that was written to the files whose paths begin so, and no other.
inline void sync_files(const std::filesystem::path& prefix) {
  const auto sync_one = [](const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return;  // a background thread has removed it since it was listed
    const int failed = ::fdatasync(descriptor);
    ::close(descriptor);
    if (failed != 0) throw std::system_error(errno, std::generic_category(), path.string());
  };
  if (std::filesystem::is_directory(prefix)) {
    for (const auto& entry : std::filesystem::directory_iterator(prefix))
      if (entry.is_regular_file()) sync_one(entry.path());
    return;
  }
  for (const char* suffix : {"", "-journal", "-wal"}) sync_one(prefix.string() + suffix);
}

}  // namespace bench
