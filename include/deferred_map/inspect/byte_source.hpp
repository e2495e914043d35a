// Where an inspection gets its bytes: a file read with pread, or what a test puts in its place.
//
// Never a mapping: a file that is cut short while it is looked at would be a SIGBUS, and a page that the disk
// cannot give another. Never a lock that keeps anybody from using the file: of a durable arena a reader's pin, while which
// its writer commits as ever, and brings commits into the arena later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dm::inspect {

/// Who has the file open, as its locks tell.
struct lock_state {
  enum class mode : std::uint8_t {
    none,     ///< nobody, through this library
    reading,  ///< one or more, to read
    writing,  ///< one, to change it
    unknown,  ///< the file system does not say
  };
  mode held = mode::none;
  std::string holders;  ///< "process 4711 (name)"; empty where they cannot be seen
};

/// Bytes by offset. Read-only by nature: there is nothing here that writes.
class byte_source {
 public:
  virtual ~byte_source() = default;

  /// Reads until `out` is full or the bytes end; returns how many. Errors: dm::error where the medium fails.
  virtual std::size_t read(std::uint64_t offset, std::span<std::byte> out) const = 0;
  virtual std::uint64_t size_bytes() const = 0;
  /// Bytes that have blocks on the disk.
  virtual std::uint64_t allocated_bytes() const { return size_bytes(); }
  /// The first offset from `offset` on that may hold anything but zeros; the size where there is none.
  virtual std::uint64_t next_data(std::uint64_t offset) const { return offset; }
  /// Asks for locks and takes none.
  virtual lock_state locks() const { return {}; }
  /// Whether somebody else holds a lock on one of so many bytes. Nothing where that cannot be told.
  virtual std::optional<bool> is_locked(std::uint64_t offset, std::uint64_t count) const {
    static_cast<void>(offset), static_cast<void>(count);
    return std::nullopt;
  }
  /// Holds a shared lock on one byte, far behind the end, until `unpin` or the end of this; waits for who holds it
  /// exclusively. Returns whether it could.
  virtual bool pin(std::uint64_t byte) const {
    static_cast<void>(byte);
    return false;
  }
  virtual void unpin(std::uint64_t byte) const noexcept { static_cast<void>(byte); }
  /// Whether its name still leads here: it may have been removed or replaced.
  virtual bool name_leads_here() const noexcept { return true; }
};

/// Opens a regular file to read; through symbolic links, since reading does no harm. Errors: dm::error with
/// errc::not_found, not_an_arena (no regular file), or the system's.
std::unique_ptr<byte_source> open_file(const std::filesystem::path& path);

struct byte_range {
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
};

/// Reads as `byte_source::read` does, but goes on behind what the medium cannot give: those pages become
/// zeros, and are added to `unreadable`.
std::size_t read_around_errors(const byte_source& source, std::uint64_t offset, std::span<std::byte> out,
                               std::vector<byte_range>& unreadable);

}  // namespace dm::inspect
