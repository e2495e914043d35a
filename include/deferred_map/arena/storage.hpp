// What a durable map asks of the machine: two files, and a private view of one of them. The seam at which a test can be the
// disk.
//
// Every call that fails throws dm::error. After a `sync` that failed nothing is known of what was written before it; it is
// never tried again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace dm {

/// A file that is read and written by calls, never through a mapping: what has reached it, and when it may reach the
/// disk, is then ours to say.
class storage_file {
 public:
  virtual ~storage_file() = default;

  virtual std::uint64_t size_bytes() const = 0;
  /// Reads until `out` is full or the file ends; returns how many bytes.
  virtual std::size_t read(std::uint64_t offset, std::span<std::byte> out) const = 0;
  /// All of it, or an exception, and then any part of it. Errors: errc::full; the system's.
  virtual void write(std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  /// Returns when all that was written, and the size, is on the disk.
  virtual void sync() = 0;
  /// A hint: what was written there will be synced soon.
  virtual void start_writing(std::uint64_t offset, std::uint64_t size_bytes) noexcept = 0;
  virtual void set_size(std::uint64_t size_bytes) = 0;
};

class storage {
 public:
  virtual ~storage() = default;

  virtual const std::filesystem::path& path() const noexcept = 0;
  /// Whether this process opened it, and not one that forked it.
  virtual bool is_ours() const noexcept = 0;
  virtual storage_file& arena() = 0;
  /// Real blocks for slots [slots_before, slots) and for what of the index stands for them. Errors: errc::full, and then
  /// the file may be longer than before.
  virtual void allocate_slots(std::uint64_t slots_before, std::uint64_t slots) = 0;

  /// The journal, or null where there is none.
  virtual storage_file* journal() = 0;
  /// A journal without a name: nobody finds it yet.
  virtual storage_file& create_journal() = 0;
  /// Gives it its name, and returns when that is on the disk. Requires: what is in it is on the disk.
  virtual void publish_journal() = 0;
  /// Takes the journal away. Whether that reaches the disk is not waited for, nor does it matter whether it can be done: beside
  /// an arena that was closed the journal has nothing new.
  virtual void remove_journal() = 0;

  /// The arena's bytes, up to its largest size, in memory of our own: stores reach nobody. Bytes that were not stored to
  /// are the file's, and those behind its end must not be touched, until the file is made longer.
  virtual std::byte* view() = 0;
  /// Whole pages of the view become the file's again, and cost no memory. Requires: they are the same there.
  virtual void discard(std::uint64_t offset, std::uint64_t size_bytes) noexcept = 0;
  /// The view's n-th stretch of so many bytes can be gathered: a power of two, of pages.
  virtual std::uint64_t stretch_bytes() const noexcept = 0;
  /// The stretch comes to lie together in memory of our own, and costs that memory. Its addresses and bytes stay what they
  /// are. Returns false where that cannot be, and then nothing has changed.
  virtual bool gather(std::uint64_t stretch) noexcept = 0;
  /// A gathered stretch becomes the file's again, as with `discard`, which is not for such stretches. Returns false where that
  /// cannot be, and then nothing has changed.
  virtual bool scatter(std::uint64_t stretch) noexcept = 0;

  // Readers in other processes. Each pins the generation of the journal that it has not yet seen the end of (0: it has seen
  // no journal); what that generation and later ones changed must not reach the arena before it has gone on.

  /// Keeps readers from pinning generations up to this one, if none does at the moment.
  virtual bool try_keep_out_readers(std::uint64_t generation) = 0;
  virtual void let_in_readers(std::uint64_t generation) noexcept = 0;
  /// A reader's own. Waits for whoever keeps readers out.
  virtual void pin(std::uint64_t generation) = 0;
  virtual void unpin(std::uint64_t generation) noexcept = 0;
  /// For a reader that had none: looks again for a journal.
  virtual void look_for_journal() = 0;
  /// For a reader: makes the view writable to itself for a while, or unwritable.
  virtual void protect(bool writable) = 0;
};

}  // namespace dm
