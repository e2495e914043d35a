// The arena's door to the operating system: every system call on files is here, and errno is read nowhere else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "deferred_map/error.hpp"
#include "deferred_map/memory/mapped_block.hpp"

namespace dm::posix {

enum class lock_mode { shared, exclusive };

/// An open file. Move-only; closes on destruction, which drops its locks.
/// Every member that fails throws dm::error with the path, the operation and what the system said.
class file {
 public:
  file() noexcept = default;
  file(file&& other) noexcept;
  file& operator=(file&& other) noexcept;
  ~file();

  /// Opens what `path` names, which must be a regular file and no symbolic link.
  static file open(const std::filesystem::path& path, bool writable);
  /// A new empty file in the directory of `path` without a name of its own, or with a hidden one where the
  /// file system cannot do without.
  static file create_unnamed(const std::filesystem::path& path, std::uint32_t permissions);
  /// Gives a file from `create_unnamed` its name. Errors: errc::exists; an existing file is never replaced.
  void give_name();
  /// Gives it the name that `replaced` has. At every moment that name leads to one of the two. The kernel gives a
  /// file its first name only where there is none, so a kill can leave it under a hidden name, the stand-in.
  void take_name_of(const file& replaced);
  /// Removes what a kill within `take_name_of(*this)` left. Requires: this file is locked exclusively.
  void remove_stand_in() const;
  /// Owner and group of `other`, as far as this process may give them, and `permissions`, or those `other` has: mode and
  /// list (ACL).
  void take_rights_of(const file& other, std::optional<std::uint32_t> permissions) const;
  /// Takes the name away again, if it still leads to this file.
  void take_back_name() const noexcept;

  explicit operator bool() const noexcept { return descriptor_ >= 0; }
  int descriptor() const noexcept { return descriptor_; }
  const std::filesystem::path& path() const noexcept { return path_; }

  /// The same file, opened once more, to be mapped by. A mapping holds its open file description, locks included, and may
  /// outlive its process's end: for as long as another reads /proc/PID/cmdline of it, as `ps` does. What is mapped by a
  /// description without locks keeps none. Where there is no /proc to open it by, a duplicate of the descriptor.
  file opened_again(bool writable) const;

  std::uint64_t size_bytes() const;
  /// Bytes that have real blocks.
  std::uint64_t allocated_bytes() const;
  /// Bytes that may hold anything but zeros: all that lies between holes. Cost: a call for each hole.
  std::uint64_t data_bytes() const;
  /// The first offset from `offset` on that may hold anything but zeros; the size where there is none.
  std::uint64_t next_data(std::uint64_t offset) const;
  /// The first offset from `offset` on that is in a hole; the size where there is none.
  std::uint64_t next_hole(std::uint64_t offset) const;
  /// Whether the name still leads to this file: it may have been removed or replaced while it was being opened.
  bool name_leads_here() const noexcept;

  /// Takes an open-file-description lock on the whole file, or returns false where another open holds one.
  /// The kernel drops it when the last descriptor and the last mapping made by it go, however the process ends.
  bool try_lock(lock_mode mode) const;
  /// The same for one byte at `offset`, exclusively. The file need not reach that far: such bytes stand for things.
  bool try_lock_byte(std::uint64_t offset) const;
  /// Waits until it has the lock; for as long as another holds it and lives.
  void lock_byte(std::uint64_t offset) const;
  void unlock_byte(std::uint64_t offset) const noexcept;
  /// The same for `count` bytes, in either mode. A shared lock needs no right to write.
  bool try_lock_range(lock_mode mode, std::uint64_t offset, std::uint64_t count) const;
  void lock_range(lock_mode mode, std::uint64_t offset, std::uint64_t count) const;
  void unlock_range(std::uint64_t offset, std::uint64_t count) const noexcept;
  /// Whether another open file description holds a lock on one of the bytes [offset, offset + count). Takes none.
  bool is_locked(std::uint64_t offset, std::uint64_t count) const;

  /// Real blocks for [offset, offset + size), so that storing there through a mapping cannot fail later.
  /// Errors: errc::full, with the file possibly longer than before.
  void allocate(std::uint64_t offset, std::uint64_t size) const;
  void set_size(std::uint64_t size) const;
  void write_all(std::uint64_t offset, std::span<const std::byte> bytes) const;
  /// Reads until `bytes` is full or the file ends; returns how many.
  std::size_t read_some(std::uint64_t offset, std::span<std::byte> bytes) const;
  /// Free bytes of its file system that this user may have.
  std::uint64_t available_bytes() const;
  /// Returns when all that was written or stored so far, and the size, is on the disk. After a failure some of it may
  /// be lost for good: asking again would report success (the kernel reports an error once) and prove nothing.
  void sync() const;
  /// Lets the kernel begin to write what was written there, and does not wait.
  void start_writing(std::uint64_t offset, std::uint64_t size_bytes) const noexcept;
  void sync_directory() const;
  /// Closes now, so that errors can be seen.
  void close();
  /// Closes without a word, in a child that was just forked: its parent's locks are to go with its parent.
  void close_in_child() noexcept;

 private:
  [[noreturn]] void fail(int code, const char* doing) const;
  std::filesystem::path stand_in_name() const;

  int descriptor_ = -1;
  std::filesystem::path path_;
  std::filesystem::path temporary_name_;  // empty where the kernel gives unnamed files
};

/// The processes that hold a lock on the file, as "process 4711 (name)", or empty where none can be seen.
/// From /proc/*/fdinfo, since the kernel does not tell the owner of such a lock.
std::string lock_holders(const file& locked);

/// As `sync`, for the page at `address` of a shared mapping alone.
void sync_page(const std::filesystem::path& path, void* address, std::size_t size_bytes);

/// Processes that are forked from here on do not have this memory. Does nothing where the kernel cannot.
void keep_from_children(void* address, std::size_t size_bytes) noexcept;

/// Makes mapped memory unwritable, or writable again.
void protect_read_only(void* address, std::size_t size_bytes);
void allow_writing(void* address, std::size_t size_bytes);
/// The file's bytes from `offset` on, privately, over memory from `reserve_zeros`: stores there reach nobody else. (Boost's
/// mapped_region cannot map over what it did not map.) Errors: the system's.
void map_private_at(void* address, std::size_t size_bytes, const file& mapped, std::uint64_t offset);
inline constexpr std::size_t huge_page_bytes = detail::mapped_block::huge_page_bytes;
/// Copies so many bytes of a private mapping into a huge page, which takes their place; into small ones that lie together,
/// where the machine has no huge ones. Returns false where it cannot, and then nothing has changed. Requires: an address that
/// is a multiple of that size; nobody uses it meanwhile.
bool move_to_huge_page(void* address) noexcept;
/// Pages of a private mapping become those of the file, or zeros, again.
void discard_pages(void* address, std::size_t size_bytes) noexcept;
/// Memory full of zeros that costs nothing until it is stored to, at an address that is a multiple of `huge_page_bytes`.
/// Errors: the system's.
void* reserve_zeros(std::size_t size_bytes);
void give_back(void* address, std::size_t size_bytes) noexcept;

/// The machine's boot id, folded to 64 bits, never 0; changes at each start of the machine.
std::uint64_t boot_id();
std::uint32_t process_id() noexcept;
/// When this process was started, in clock ticks since the machine was; 0 where /proc does not tell.
std::uint64_t process_start_ticks();
/// The process's name, at most 15 characters.
std::string process_name();
std::int64_t now_unix_ns() noexcept;
/// 16 random bytes.
void random_bytes(std::span<std::uint8_t, 16> bytes);

}  // namespace dm::posix
