#include "posix_file.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <random>
#include <utility>

namespace dm::posix {
namespace {

std::filesystem::path directory_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

std::error_code system_code(int code) { return {code, std::generic_category()}; }

/// What the kernel's number means for an arena, with what to do about it.
[[noreturn]] void raise(const std::filesystem::path& path, int code, const std::string& doing) {
  const std::string said = std::generic_category().message(code);
  switch (code) {
    case ENOENT:
      throw error(errc::not_found, path, "there is no such file. Check the path, or create the arena (" + doing + ")");
    case EEXIST:
      throw error(errc::exists, path, "the file exists already. Open it, or choose another name");
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      throw error(errc::full, path,
                  (code == ENOSPC   ? "the disk is full"
                   : code == EDQUOT ? "the disk quota is used up"
                                    : "the limit on the size of files is reached") +
                      std::string(": ") + doing + " failed. The arena is whole and unchanged; make room and try again");
    case EROFS:
      throw error(errc::read_only, path,
                  "the file system is mounted read-only: " + doing + " failed. Use open_read_only, or another place");
    case ELOOP:
      throw error(system_code(code), path,
                  "this is a symbolic link, which arenas are not opened through. Name the file itself");
    case EACCES:
    case EPERM:
      throw error(system_code(code), path,
                  doing + " is not permitted. Check the owner and the mode of the file and of its directory");
    case EMFILE:
    case ENFILE:
      throw error(system_code(code), path,
                  doing + " failed: too many files are open. Raise the limit (ulimit -n) or close some");
    case ENOTDIR:
      throw error(errc::not_found, path, "a part of the path is no directory. Check the path (" + doing + ")");
    default:
      throw error(system_code(code), path, doing + " failed: " + said);
  }
}

template <class Call>
auto retry(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

[[noreturn]] void raise_sync(const std::filesystem::path& path, int code) {
  throw error(system_code(code), path,
              "writing it to the disk failed: " + std::generic_category().message(code) +
                  ". What was changed since it was last synced may not be on the disk, and trying again cannot tell. "
                  "The values in memory are good: copy them to another file, and look at the disk");
}

/// Where the file system takes a new block for each change of an old one (btrfs), asks it not to for this new and empty
/// file: a store that found no room for its block would be a SIGBUS, though the file has all its blocks.
void store_in_place(int descriptor) noexcept {
#if defined(FS_IOC_SETFLAGS) && defined(FS_NOCOW_FL)
  int flags = 0;  // an int, whatever the names of these calls say
  struct statfs status {};
  if (::fstatfs(descriptor, &status) != 0 || status.f_type != BTRFS_SUPER_MAGIC) return;
  if (::ioctl(descriptor, FS_IOC_GETFLAGS, &flags) != 0) return;
  flags |= FS_NOCOW_FL;
  (void)::ioctl(descriptor, FS_IOC_SETFLAGS, &flags);  // a wish: without it everything else holds all the same
#endif
}

/// Gives one file the list of rights that another has, if it has one. False where that cannot be.
bool take_list_of_rights(int descriptor, int from) noexcept {
  constexpr const char* list = "system.posix_acl_access";
  std::array<char, 4096> bytes;
  const ssize_t size = ::fgetxattr(from, list, bytes.data(), bytes.size());
  if (size < 0) return errno == ENODATA || errno == EOPNOTSUPP;
  return ::fsetxattr(descriptor, list, bytes.data(), static_cast<std::size_t>(size), 0) == 0;
}

struct stat status_of(int descriptor, const std::filesystem::path& path) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) raise(path, errno, "asking for the file's status");
  return status;
}

}  // namespace

file::file(file&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      path_(std::move(other.path_)),
      temporary_name_(std::exchange(other.temporary_name_, {})) {}

file& file::operator=(file&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  std::swap(temporary_name_, other.temporary_name_);
  return *this;
}

file::~file() {
  if (!temporary_name_.empty()) ::unlink(temporary_name_.c_str());
  if (descriptor_ >= 0) ::close(descriptor_);
}

void file::fail(int code, const char* doing) const { raise(path_, code, doing); }

file file::open(const std::filesystem::path& path, bool writable) {
  file opened;
  opened.path_ = path;
  // O_NONBLOCK: a FIFO must not make us wait before we can refuse it; it means nothing for regular files.
  const int flags = (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
  opened.descriptor_ = retry([&] { return ::open(path.c_str(), flags); });
  if (opened.descriptor_ < 0) {
    if (errno == EISDIR) throw error(errc::not_an_arena, path, "this is a directory, not an arena file");
    if (errno == ENXIO) throw error(errc::not_an_arena, path, "this is a device or a socket, not an arena file");
    raise(path, errno, writable ? "opening it for writing" : "opening it for reading");
  }
  const mode_t mode = status_of(opened.descriptor_, path).st_mode;
  if (!S_ISREG(mode))
    throw error(errc::not_an_arena, path,
                S_ISDIR(mode)    ? "this is a directory, not an arena file"
                : S_ISFIFO(mode) ? "this is a FIFO, not an arena file"
                                 : "this is a device or a socket, not an arena file");
  return opened;
}

file file::opened_again(bool writable) const {
  file again;
  again.path_ = path_;
  // By descriptor: it may have no name, or another file may have it by now.
  const std::string by_descriptor = "/proc/self/fd/" + std::to_string(descriptor_);
  again.descriptor_ = retry([&] { return ::open(by_descriptor.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC); });
  if (again.descriptor_ < 0 && (errno == ENOENT || errno == EACCES))
    again.descriptor_ = ::fcntl(descriptor_, F_DUPFD_CLOEXEC, 0);
  if (again.descriptor_ < 0) fail(errno, "opening it once more");
  return again;
}

file file::create_unnamed(const std::filesystem::path& path, std::uint32_t permissions) {
  file created;
  created.path_ = path;
  const std::filesystem::path directory = directory_of(path);
#ifdef O_TMPFILE
  created.descriptor_ = retry(
      [&] { return ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, static_cast<mode_t>(permissions)); });
  if (created.descriptor_ >= 0) {
    store_in_place(created.descriptor_);
    return created;
  }
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT)
    raise(path, errno, "creating a file in this directory");
#endif
  for (int tries = 0; tries < 16; ++tries) {
    std::random_device random;
    const std::filesystem::path name = directory / (".deferred-map-" + std::to_string(random()) + ".new");
    created.descriptor_ = retry([&] {
      return ::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, static_cast<mode_t>(permissions));
    });
    if (created.descriptor_ >= 0) {
      created.temporary_name_ = name;
      store_in_place(created.descriptor_);
      return created;
    }
    if (errno != EEXIST) break;
  }
  if (errno == ENOENT) throw error(errc::not_found, path, "its directory does not exist. Create the directory first");
  raise(path, errno, "creating a file in this directory");
}

void file::give_name() {
  if (temporary_name_.empty()) {
    const std::string self = "/proc/self/fd/" + std::to_string(descriptor_);
    if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) != 0)
      fail(errno, "giving the new file its name");
    return;
  }
  // link, not rename: it does not replace what another process has put there meanwhile.
  if (::link(temporary_name_.c_str(), path_.c_str()) != 0) fail(errno, "giving the new file its name");
  ::unlink(std::exchange(temporary_name_, {}).c_str());
}

// By the number of the file that is to be replaced: whoever has that file locked can tell whose it was.
std::filesystem::path file::stand_in_name() const {
  return directory_of(path_) /
         (".deferred-map-" + std::to_string(status_of(descriptor_, path_).st_ino) + ".replacement");
}

void file::remove_stand_in() const {
  if (::unlink(stand_in_name().c_str()) != 0 && errno != ENOENT)
    fail(errno, "removing what an interrupted replacement left");
}

void file::take_name_of(const file& replaced) {
  if (temporary_name_.empty()) {
    const std::filesystem::path stand_in = replaced.stand_in_name();
    const std::string self = "/proc/self/fd/" + std::to_string(descriptor_);
    if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, stand_in.c_str(), AT_SYMLINK_FOLLOW) != 0)
      fail(errno, "giving the new file a name");
    temporary_name_ = stand_in;
  }
  if (::rename(temporary_name_.c_str(), path_.c_str()) != 0) fail(errno, "replacing the file by the new one");
  temporary_name_.clear();
}

void file::take_rights_of(const file& other, std::optional<std::uint32_t> permissions) const {
  const struct stat theirs = status_of(other.descriptor_, other.path_);
  auto mode = static_cast<mode_t>(permissions.value_or(theirs.st_mode & 0777));
  // Rights meant for their group are not for whatever group we happen to have.
  if (::fchown(descriptor_, theirs.st_uid, theirs.st_gid) != 0 &&
      ::fchown(descriptor_, static_cast<uid_t>(-1), theirs.st_gid) != 0)
    mode &= ~static_cast<mode_t>(070);
  // With such a list the group's bits are a mask for all that it names; without it they would be rights of the group.
  if (!permissions && !take_list_of_rights(descriptor_, other.descriptor_)) mode &= ~static_cast<mode_t>(070);
  if (::fchmod(descriptor_, mode) != 0) fail(errno, "setting its access rights");
}

void file::take_back_name() const noexcept {
  if (name_leads_here()) ::unlink(path_.c_str());
}

std::uint64_t file::size_bytes() const { return static_cast<std::uint64_t>(status_of(descriptor_, path_).st_size); }

std::uint64_t file::allocated_bytes() const {
  return static_cast<std::uint64_t>(status_of(descriptor_, path_).st_blocks) * 512;  // st_blocks counts 512 bytes
}

std::uint64_t file::next_data(std::uint64_t offset) const {
  const auto from = static_cast<off_t>(offset);
  const off_t data = ::lseek(descriptor_, from, SEEK_DATA);
  if (data >= 0) return static_cast<std::uint64_t>(data);
  // Either there is no more data, and then a hole begins right here, or the file system does not tell.
  return ::lseek(descriptor_, from, SEEK_HOLE) == from ? size_bytes() : offset;
}

std::uint64_t file::next_hole(std::uint64_t offset) const {
  const off_t hole = ::lseek(descriptor_, static_cast<off_t>(offset), SEEK_HOLE);
  return hole >= 0 ? static_cast<std::uint64_t>(hole) : size_bytes();
}

std::uint64_t file::data_bytes() const {
  const std::uint64_t size = size_bytes();
  std::uint64_t total = 0;
  for (std::uint64_t at = next_data(0); at < size;) {
    const std::uint64_t end = std::max(next_hole(at), at + 1);  // ends, whatever the file system says
    total += end - at;
    at = end < size ? next_data(end) : size;
  }
  return total;
}

std::uint64_t file::available_bytes() const {
  struct statvfs status {};
  if (::fstatvfs(descriptor_, &status) != 0) fail(errno, "asking for the free space");
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

bool file::name_leads_here() const noexcept {
  struct stat here {};
  struct stat there {};
  return ::fstat(descriptor_, &here) == 0 && ::lstat(path_.c_str(), &there) == 0 && here.st_dev == there.st_dev &&
         here.st_ino == there.st_ino;
}

bool file::try_lock(lock_mode mode) const {
  struct flock lock {};
  lock.l_type = mode == lock_mode::exclusive ? F_WRLCK : F_RDLCK;
  lock.l_whence = SEEK_SET;  // from 0, length 0: all of it, however it grows
  // Locks of the open file description, not of the process: closing some other descriptor of the file does
  // not drop them, and two maps of one process exclude each other as those of two processes do.
  if (retry([&] { return ::fcntl(descriptor_, F_OFD_SETLK, &lock); }) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  fail(errno, "locking it");
}

namespace {

struct flock byte_range(short type, std::uint64_t offset, std::uint64_t count) noexcept {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(offset);
  lock.l_len = static_cast<off_t>(count);
  return lock;
}

}  // namespace

bool file::try_lock_byte(std::uint64_t offset) const {
  struct flock lock = byte_range(F_WRLCK, offset, 1);
  if (retry([&] { return ::fcntl(descriptor_, F_OFD_SETLK, &lock); }) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  fail(errno, "locking a part of it");
}

void file::lock_byte(std::uint64_t offset) const {
  struct flock lock = byte_range(F_WRLCK, offset, 1);
  if (retry([&] { return ::fcntl(descriptor_, F_OFD_SETLKW, &lock); }) != 0) fail(errno, "waiting for a lock on it");
}

void file::unlock_byte(std::uint64_t offset) const noexcept {
  struct flock lock = byte_range(F_UNLCK, offset, 1);
  (void)::fcntl(descriptor_, F_OFD_SETLK, &lock);
}

bool file::try_lock_range(lock_mode mode, std::uint64_t offset, std::uint64_t count) const {
  struct flock lock = byte_range(mode == lock_mode::exclusive ? F_WRLCK : F_RDLCK, offset, count);
  if (retry([&] { return ::fcntl(descriptor_, F_OFD_SETLK, &lock); }) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  fail(errno, "locking a part of it");
}

void file::lock_range(lock_mode mode, std::uint64_t offset, std::uint64_t count) const {
  struct flock lock = byte_range(mode == lock_mode::exclusive ? F_WRLCK : F_RDLCK, offset, count);
  if (retry([&] { return ::fcntl(descriptor_, F_OFD_SETLKW, &lock); }) != 0) fail(errno, "waiting for a lock on it");
}

void file::unlock_range(std::uint64_t offset, std::uint64_t count) const noexcept {
  struct flock lock = byte_range(F_UNLCK, offset, count);
  (void)::fcntl(descriptor_, F_OFD_SETLK, &lock);
}

bool file::is_locked(std::uint64_t offset, std::uint64_t count) const {
  // As a reader, which needs no right to write: it would have to wait for a writer's lock all the same.
  struct flock lock = byte_range(F_RDLCK, offset, count);
  if (retry([&] { return ::fcntl(descriptor_, F_OFD_GETLK, &lock); }) != 0) fail(errno, "asking for locks on it");
  return lock.l_type != F_UNLCK;
}

void file::allocate(std::uint64_t offset, std::uint64_t size) const {
  // Past the limit the kernel does not only refuse, it kills the process by SIGXFSZ.
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && offset + size > limit.rlim_cur)
    fail(EFBIG, "making the file longer");
  // In one call: where there are blocks already, as there are whenever a file is opened, it takes no longer for a large file.
  // When a signal comes, in pieces: tmpfs undoes a whole call then, and with a profiler's timer a large one never ends.
  constexpr std::uint64_t piece_if_interrupted = std::uint64_t{8} << 20;
  std::uint64_t piece_max = size;
  for (std::uint64_t done = 0; done < size;) {
    const std::uint64_t piece = std::min(piece_max, size - done);
    const int code = ::posix_fallocate(descriptor_, static_cast<off_t>(offset + done), static_cast<off_t>(piece));
    if (code == EINTR) {
      piece_max = piece_if_interrupted;
      continue;
    }
    if (code != 0) fail(code, "making the file longer");
    done += piece;
  }
}

void file::set_size(std::uint64_t size) const {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && size > limit.rlim_cur &&
      size > size_bytes())
    fail(EFBIG, "setting the file's size");
  if (retry([&] { return ::ftruncate(descriptor_, static_cast<off_t>(size)); }) != 0)
    fail(errno, "setting the file's size");
}

void file::write_all(std::uint64_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t written =
        retry([&] { return ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset)); });
    if (written < 0) fail(errno, "writing to it");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
}

std::size_t file::read_some(std::uint64_t offset, std::span<std::byte> bytes) const {
  std::size_t total = 0;
  while (total < bytes.size()) {
    const ssize_t got = retry([&] {
      return ::pread(descriptor_, bytes.data() + total, bytes.size() - total, static_cast<off_t>(offset + total));
    });
    if (got < 0) fail(errno, "reading it");
    if (got == 0) break;
    total += static_cast<std::size_t>(got);
  }
  return total;
}

void file::sync() const {
  // Covers what was stored through a mapping too: Linux tracks dirty pages by file.
  if (retry([&] { return ::fdatasync(descriptor_); }) != 0) raise_sync(path_, errno);
}

void file::start_writing(std::uint64_t offset, std::uint64_t size_bytes) const noexcept {
#ifdef SYNC_FILE_RANGE_WRITE
  (void)::sync_file_range(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(size_bytes),
                          SYNC_FILE_RANGE_WRITE);
#endif
}

void file::sync_directory() const {
  const std::filesystem::path directory = directory_of(path_);
  const int descriptor = retry([&] { return ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (descriptor < 0) {
    // A directory that may be written to but not read cannot be synced; its owner chose that.
    if (errno == EACCES || errno == EPERM) return;
    fail(errno, "opening its directory");
  }
  const int result = retry([&] { return ::fsync(descriptor); });
  const int code = errno;
  ::close(descriptor);
  if (result != 0 && code != EINVAL) fail(code, "writing its directory to the disk");
}

void file::close() {
  // Not retried on EINTR: Linux has closed the descriptor by then.
  if (descriptor_ >= 0 && ::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) fail(errno, "closing it");
}

void file::close_in_child() noexcept {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

void sync_page(const std::filesystem::path& path, void* address, std::size_t size_bytes) {
  if (retry([&] { return ::msync(address, size_bytes, MS_SYNC); }) != 0) raise_sync(path, errno);
}

void keep_from_children(void* address, std::size_t size_bytes) noexcept {
#ifdef MADV_DONTFORK
  (void)::madvise(address, size_bytes, MADV_DONTFORK);
#endif
}

void protect_read_only(void* address, std::size_t size_bytes) {
  if (::mprotect(address, size_bytes, PROT_READ) != 0) raise({}, errno, "protecting the mapping");
}

void allow_writing(void* address, std::size_t size_bytes) {
  if (::mprotect(address, size_bytes, PROT_READ | PROT_WRITE) != 0) raise({}, errno, "making the mapping writable");
}

void map_private_at(void* address, std::size_t size_bytes, const file& mapped, std::uint64_t offset) {
  if (::mmap(address, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, mapped.descriptor(),
             static_cast<off_t>(offset)) == MAP_FAILED)
    raise(mapped.path(), errno, "mapping it");
}

namespace {

/// Null where the system has none.
void* try_reserve_zeros(std::size_t size_bytes) noexcept {
  const auto page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  size_bytes = std::max((size_bytes + page_bytes - 1) / page_bytes * page_bytes, page_bytes);
  std::byte* const memory = detail::mapped_block::reserve(size_bytes);
  if (memory == nullptr || ::mprotect(memory, size_bytes, PROT_READ | PROT_WRITE) == 0) return memory;
  ::munmap(memory, size_bytes);
  return nullptr;
}

}  // namespace

void discard_pages(void* address, std::size_t size_bytes) noexcept {
  (void)::madvise(address, size_bytes, MADV_DONTNEED);
}

void* reserve_zeros(std::size_t size_bytes) {
  void* const memory = try_reserve_zeros(size_bytes);
  if (memory == nullptr) raise({}, errno, "reserving memory");
  return memory;
}
bool move_to_huge_page(void* address) noexcept {
  constexpr std::size_t size_bytes = huge_page_bytes;
  void* const huge = try_reserve_zeros(size_bytes);
  if (huge == nullptr) return false;
  (void)::madvise(huge, size_bytes, MADV_HUGEPAGE);
  std::memcpy(huge, address, size_bytes);
  if (::mremap(huge, size_bytes, size_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, address) != MAP_FAILED) return true;
  ::munmap(huge, size_bytes);
  return false;
}

void give_back(void* address, std::size_t size_bytes) noexcept {
  if (address != nullptr) ::munmap(address, std::max<std::size_t>(size_bytes, 1));
}

std::uint32_t process_id() noexcept { return static_cast<std::uint32_t>(::getpid()); }

}  // namespace dm::posix
