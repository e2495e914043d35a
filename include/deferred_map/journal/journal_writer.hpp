// Appends commits to a journal: where records go, which space may be used again, and when.
//
// Invariants:
//  1. `position + a jump` never lies behind the end of the extent written to: there is always room to say where it goes on.
//  2. An extent that a retired generation used is written to again only after the disk has the clearing of its header.
//  3. A generation is begun only when all of the one before is on the disk, and the one before that is retired.
//  4. Where the next record will be, no record of the past lies: not behind the last one when a journal is gone on with, nor at
//     the start of a generation.
//  5. What an earlier process left without anybody vouching for it is written again before it is synced: where that
//     process's sync failed, the kernel may hold it as clean though the disk never had it, and syncing it would say nothing.
//
// Space comes from extents: stretches of the file, a mebibyte or more (less where the journal is to be small), filled with
// zeros when they are made, so that syncing a record later has to write that record alone and not the file system's notes
// about a longer file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "deferred_map/arena/storage.hpp"
#include "deferred_map/format/journal.hpp"

namespace dm::journal {

class journal_writer {
 public:
  /// What a new journal begins with.
  struct beginning {
    std::array<std::uint8_t, 16> arena_uuid{};
    std::uint64_t generation = 0;
    std::uint64_t last_commit = 0;
    std::uint64_t last_commit_chain = 0;
  };
  /// Writes and syncs a journal of no commits. Errors: errc::full; the system's.
  static journal_writer make(storage_file& file, const beginning& with, std::uint64_t nonce,
                             std::uint64_t extent_bytes);
  /// Goes on behind what was replayed: `older` (or null) and `current`. To be synced before anything is built on it.
  static journal_writer resume(storage_file& file, const journal_cursor* older, const journal_cursor& current,
                               std::uint64_t nonce, std::uint64_t extent_bytes);

  /// Writes a commit: `record` begins with room for a journal_record, of which `range_count` is set; the rest is filled in.
  /// Errors: errc::full, and then it is as if this had not been called, though the file may be longer; the system's.
  void append(std::vector<std::byte>& record);
  /// Returns when the disk has all of it.
  void sync();

  std::uint64_t generation() const noexcept { return header_.generation; }
  std::uint64_t last_commit() const noexcept { return last_commit_; }
  std::uint64_t last_commit_chain() const noexcept { return last_commit_chain_; }
  std::uint64_t durable_commit() const noexcept { return durable_commit_; }
  /// Whether something was written since the last sync.
  bool is_synced() const noexcept { return synced_; }
  /// Bytes of records in this generation.
  std::uint64_t generation_bytes() const noexcept { return generation_bytes_; }

  /// From the next commit on there is a new generation. Waits for the disk. Requires: is_synced(), and no older one that is
  /// not retired.
  void begin_generation();
  bool has_older() const noexcept { return has_older_; }
  /// What the older generation changed is in the arena, on the disk. Requires: is_synced().
  void retire_older();

 private:
  struct extent {
    std::uint64_t offset;
    std::uint64_t end;
  };
  journal_writer(storage_file& file, std::uint64_t nonce, std::uint64_t extent_bytes) noexcept
      : file_(&file), nonce_(nonce), extent_bytes_(extent_bytes) {}
  extent take_extent(std::uint64_t bytes);
  void write_header();

  storage_file* file_;
  std::uint64_t nonce_;
  std::uint64_t extent_bytes_;  // the least of a new one
  journal_header header_;
  std::uint64_t position_ = 0;
  std::uint64_t extent_end_ = 0;
  std::uint64_t chain_ = 0;
  std::uint64_t last_commit_ = 0;
  std::uint64_t last_commit_chain_ = 0;
  std::uint64_t durable_commit_ = 0;
  std::uint64_t generation_bytes_ = 0;
  bool synced_ = true;
  bool has_older_ = false;
  std::vector<extent> now_;      // of the current generation
  std::vector<extent> older_;    // of the one before
  std::vector<extent> freeing_;  // of retired ones whose header the disk may still have
  std::vector<extent> free_;
};

}  // namespace dm::journal
