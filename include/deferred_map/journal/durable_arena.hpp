// A durable arena: the file NAME, its journal NAME-journal, and a private view of what they say together.
//
//     program --stores--> view (private, copy on write)
//                           |  commit: what changed, as one record
//                           v
//                        journal  --(later, in whole pages)-->  arena file
//
// Invariants:
//  1. Nothing the program stores reaches a file before it is committed: the view is private, and pages are written to the
//     arena right after a commit, when the view is exactly that commit.
//  2. A page is written to the arena only when the journal, on the disk, holds every change in it. (Write-ahead.)
//  3. A generation of the journal is retired only when every page that it changed was written to the arena after the
//     generation's end, and the arena synced since. So arena and journal together always hold the last commit: replaying
//     all that is there over whatever mixture of pages the arena holds gives exactly it.
//  4. The control block in the arena names the commit it was written at, which is one of the journal's or the one before
//     its first: an arena and a journal of different times are told apart.
//  5. Readers that have pinned a generation, or none yet (0), find its records and the arena as they were: pages are written
//     and generations retired only while readers are kept out.
//  6. After a sync that failed nothing is written any more, by anybody who has this open.
//
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "deferred_map/arena/arena.hpp"
#include "deferred_map/arena/storage.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/format/journal.hpp"
#include "deferred_map/journal/change_log.hpp"
#include "deferred_map/journal/durable_options.hpp"
#include "deferred_map/journal/journal_writer.hpp"
#include "deferred_map/journal/page_set.hpp"
#include "deferred_map/journal/private_pages.hpp"

namespace dm {

/// What opening found in the journal.
struct replay_report {
  bool was_closed = false;    ///< the arena had been closed: nothing to replay
  bool salvaged = false;      ///< something was missing, and `salvage` was given
  std::uint64_t commits = 0;  ///< replayed
  std::uint64_t bytes = 0;    ///< of their records
};

class durable_arena {
 public:
  /// Makes a new arena, which appears under its name only when it is complete, and opens it. An existing file is never
  /// replaced. Errors: errc::exists, not_found (the directory), full, read_only, bad_options, the system's.
  static std::unique_ptr<durable_arena> create(const std::filesystem::path& path, const stored_type& type,
                                               const durable_options& how);
  /// Opens an arena at its last commit. Errors: errc::not_found, not_an_arena, damaged (also: its journal is missing, or of
  /// another arena, or of another time), newer_format, wrong_kind, type_mismatch, in_use, full, the system's.
  static std::unique_ptr<durable_arena> open(const std::filesystem::path& path, const stored_type& type,
                                             const durable_options& how, arena_access access);
  /// The same for files that are open, and locked where they are to be written to.
  static std::unique_ptr<durable_arena> attach(std::unique_ptr<storage> disk, const arena_header& header,
                                               const durable_options& how, arena_access access);

  durable_arena(const durable_arena&) = delete;
  durable_arena& operator=(const durable_arena&) = delete;
  /// Lets go of the files as they are, as a process that is killed does.
  ~durable_arena();

  const std::filesystem::path& path() const noexcept { return disk_->path(); }
  const arena_header& header() const noexcept { return header_; }
  bool writable() const noexcept { return writable_; }
  bool is_ours() const noexcept { return disk_->is_ours(); }
  const replay_report& found() const noexcept { return found_; }
  std::uint32_t last_owner_pid() const noexcept { return last_owner_pid_; }
  const std::string& last_owner_program() const noexcept { return last_owner_program_; }

  control_block& control() noexcept { return *control_; }
  std::byte* slots() noexcept { return slots_; }
  std::uint64_t* index_words() noexcept { return index_; }

  /// See watching_allocator. Where it is open read-only they do nothing: there is nothing to take back.
  void before_change(std::uint32_t slot) noexcept {
    if (changes_) changes_->before_change(slot);
  }
  void before_index_change(const std::uint64_t& word) noexcept {
    if (changes_) changes_->before_index_change(word);
  }
  /// The generation that a slot which leaves a life has next: `next`, unless a transaction that was taken back had given
  /// out higher ones.
  std::uint32_t next_generation(std::uint32_t slot, std::uint32_t next) const noexcept {
    if (given_out_.empty()) [[likely]]
      return next;
    const auto at = given_out_.find(slot);
    return at == given_out_.end() || at->second <= next ? next : at->second;
  }

  /// Room for `slots` slots at least, and somewhat more, with real disk blocks. Errors: errc::full, and then nothing has
  /// changed.
  void expand(std::uint64_t slots);
  void truncate(std::uint64_t slots) noexcept;

  /// Errors: errc::poisoned after a failed sync, with what failed.
  void require_usable() const;
  bool is_poisoned() const noexcept { return !poison_.empty(); }

  /// Writes what changed to the journal, and waits or not. Returns the commit's number. Errors: errc::full, and then it is
  /// as if this had not been called; the system's, and then it is unknown whether the commit happened, and the arena is
  /// poisoned.
  std::uint64_t commit(sync how);
  /// Back to the last commit. Keys and handles given out since then never become valid in this process. Returns whether
  /// the map must count anew (a slot has used up its generations). Cost: what changed.
  [[nodiscard]] bool rollback();
  /// Brings all that was committed into the arena and begins the journal anew. Requires: nothing is uncommitted. Does less
  /// where a reader in another process still needs the arena as it is; returns whether it did all.
  bool checkpoint();
  /// Open read-only: moves on to the newest whole commit. Returns whether there was a newer one.
  bool refresh();

  std::uint64_t last_commit() const noexcept { return control_->durable_commit; }
  /// Whether the view differs from the last commit. Cost: what was marked.
  bool has_changes();

  /// Requires: nothing is uncommitted, and no slot reserved. Brings everything into the arena, marks it as closed and
  /// removes the journal; where a reader still needs it, leaves both as they are, which is as durable. Afterwards nothing
  /// may be done but to destroy it. Errors: the system's, errc::poisoned.
  void close();

 private:
  durable_arena(std::unique_ptr<storage> disk, const arena_header& header, const durable_options& how,
                arena_access access);

  void load();
  journal_header_result read_journal_header(std::uint64_t place);
  void replay(const control_block& in_file);
  void walk(journal_cursor& cursor, const control_block& in_file, bool& arena_fits, journal::page_set& pages);
  void apply(const journal_commit& commit, std::uint64_t generation, journal::page_set& pages);
  void begin_use();
  void grow_file(std::uint64_t slots);
  void sync_growth();
  void sync_arena();
  void build_record();
  void note_stored(journal::page_set& pages, std::uint64_t offset, std::uint64_t size_bytes) {
    pages.add(offset, size_bytes);
    if (writable_) private_pages_.add(offset, size_bytes);
  }
  void add_range(std::uint64_t offset, const std::byte* bytes, std::uint64_t size, std::uint32_t old_version);
  [[noreturn]] void fail_and_poison(const error& e);
  void poison(const std::string& why) noexcept;

  std::uint64_t generation_bytes_max() const noexcept;
  std::uint64_t extent_bytes() const noexcept;
  void checkpoint_a_little() noexcept;
  bool write_older_pages(std::uint64_t until);
  bool retire_older();
  void begin_generation();
  void write_pages(const std::vector<std::uint64_t>& pages, std::uint64_t first, std::uint64_t count);
  [[noreturn]] void refuse(const std::string& why) const;
  [[noreturn]] void refuse_damaged_behind(std::uint64_t commit) const;
  void follow();
  journal_cursor cursor_for(const journal_header& header);

  std::unique_ptr<storage> disk_;
  arena_header header_;
  durable_options options_;
  bool writable_;
  replay_report found_;
  std::uint32_t last_owner_pid_ = 0;
  std::string last_owner_program_;
  std::string poison_;

  std::byte* base_ = nullptr;
  control_block* control_ = nullptr;
  std::byte* slots_ = nullptr;
  std::uint64_t* index_ = nullptr;

  // Of a writer.
  std::unique_ptr<journal::change_log> changes_;
  std::optional<journal::journal_writer> journal_;
  control_block committed_;             // the control block of the last commit
  std::uint64_t capacity_on_disk_ = 0;  // slots for which the file has blocks
  std::uint64_t capacity_synced_ = 0;   // and had when it was last synced
  std::vector<std::byte> record_;       // built by every commit, kept for its memory
  std::uint64_t range_count_ = 0;
  journal::page_set changed_pages_;                             // by the journal's current generation
  journal::page_set older_pages_;                               // by the one before: on their way into the arena
  journal::private_pages private_pages_;                        // of either, and what memory they take
  std::uint64_t older_written_ = 0;                             // how many of them were written
  std::unordered_map<std::uint32_t, std::uint32_t> given_out_;  // slots, and the first generation not given out

  // Of a reader.
  std::optional<journal_cursor> following_;
  std::uint64_t pinned_ = 0;
};

}  // namespace dm
