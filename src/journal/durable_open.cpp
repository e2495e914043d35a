// Opening a durable arena: the files, replay, what is refused; and how a reader follows.
#include <algorithm>
#include <cstring>

#include "arena_parts.hpp"
#include "deferred_map/format/journal_rules.hpp"
#include "deferred_map/journal/durable_arena.hpp"
#include "posix_file.hpp"
#include "posix_storage.hpp"

namespace dm {
namespace {

arena_options as_arena_options(const durable_options& how) {
  arena_options options;
  options.max_slots = how.max_slots;
  options.reserve_slots = how.reserve_slots;
  options.permissions = how.permissions;
  return options;
}

std::uint64_t new_nonce() {
  std::array<std::uint8_t, 16> random{};
  posix::random_bytes(random);
  std::uint64_t nonce = 0;
  std::memcpy(&nonce, random.data(), sizeof nonce);
  return nonce;
}

[[noreturn]] void refuse_in_use(const posix::file& file) {
  const std::string holders = posix::lock_holders(file);
  throw error(errc::in_use, file.path(),
              "this arena is in use by " + (holders.empty() ? "a process that cannot be seen from here" : holders) +
                  ". One process at a time may open it for writing; open_read_only works beside it");
}

using journal_rules::damage_search_bytes;

}  // namespace

std::unique_ptr<durable_arena> durable_arena::create(const std::filesystem::path& path, const stored_type& type,
                                                     const durable_options& how) {
  const arena_options options = as_arena_options(how);
  const arena_head head = head_of_new_arena(path, arena_kind::durable, type, options);
  const arena_header& header = head.header;
  // A journal that lies there already is of an arena that is gone, or was moved away without it.
  const std::filesystem::path beside = journal_path(path);
  if (std::error_code unseen; std::filesystem::exists(std::filesystem::symlink_status(beside, unseen)))
    throw error(errc::exists, path,
                "there is no such arena yet, but a journal of one (" + beside.filename().string() +
                    "). It may hold the last commits of an arena that was moved: bring both together, or remove it");

  posix::file file = posix::file::create_unnamed(path, how.permissions);
  if (!file.try_lock_range(posix::lock_mode::exclusive, 0, durable_writer_lock_bytes))
    throw error(errc::in_use, path, "a file that was just made is locked already");
  file.allocate(0, header.index_offset);
  file.write_all(0, head.bytes);
  control_block empty;
  if (how.reserve_slots != 0) {
    allocate_slots(file, header, 0, how.reserve_slots);
    empty.capacity = static_cast<std::uint32_t>(how.reserve_slots);
  }
  empty.boot_id = posix::boot_id();
  empty.synced = empty.closed = empty.checksum();
  file.write_all(header.control_offset, std::as_bytes(std::span(&empty, 1)));
  file.set_size(header.file_size_for(how.reserve_slots));
  file.sync();
  const posix::file to_take_back = file.opened_again(false);
  file.give_name();
  try {
    file.sync_directory();
    return attach(make_posix_storage(std::move(file), header, true, how.permissions), header, how,
                  arena_access::read_write);
  } catch (...) {
    to_take_back.take_back_name();
    std::error_code unseen;
    std::filesystem::remove(beside, unseen);  // there was none before
    throw;
  }
}

std::unique_ptr<durable_arena> durable_arena::open(const std::filesystem::path& path, const stored_type& type,
                                                   const durable_options& how, arena_access access) {
  require(!path.empty(), path, "an arena needs a path");
  const bool writable = access == arena_access::read_write;
  posix::file file = posix::file::open(path, writable);
  const arena_header header = read_and_check_head(file, arena_kind::durable, type);
  if (writable && !file.try_lock_range(posix::lock_mode::exclusive, 0, durable_writer_lock_bytes)) refuse_in_use(file);
  if (!file.name_leads_here())
    throw error(errc::not_found, path, "this file was removed or replaced while it was being opened. Try again");
  if (file.size_bytes() < header.slots_offset) refuse_cut_short(path, header, file.size_bytes());
  // Before the journal is looked for: from here on neither it nor the arena goes away under us.
  if (!writable) file.lock_range(posix::lock_mode::shared, durable_reader_lock_offset, 1);
  return attach(make_posix_storage(std::move(file), header, writable, how.permissions), header, how, access);
}

std::unique_ptr<durable_arena> durable_arena::attach(std::unique_ptr<storage> disk, const arena_header& header,
                                                     const durable_options& how, arena_access access) {
  std::unique_ptr<durable_arena> opened(new durable_arena(std::move(disk), header, how, access));
  opened->load();
  return opened;
}

durable_arena::durable_arena(std::unique_ptr<storage> disk, const arena_header& header, const durable_options& how,
                             arena_access access)
    : disk_(std::move(disk)),
      header_(header),
      options_(how),
      writable_(access == arena_access::read_write),
      private_pages_(*disk_) {}

durable_arena::~durable_arena() = default;

void durable_arena::refuse(const std::string& why) const {
  throw error(errc::damaged, path(), why + ". Nothing was changed");
}

journal_cursor durable_arena::cursor_for(const journal_header& header) {
  return {[this](std::uint64_t offset, std::span<std::byte> out) { return disk_->journal()->read(offset, out); },
          header};
}

journal_header_result durable_arena::read_journal_header(std::uint64_t place) {
  std::array<std::byte, sizeof(journal_header)> bytes{};
  const std::size_t got = disk_->journal()->read(journal_header_offset(place), bytes);
  return check_journal_header(std::span(bytes).first(got), place, header_.uuid);
}

void durable_arena::load() {
  control_block in_file;
  const std::size_t got = disk_->arena().read(header_.control_offset, std::as_writable_bytes(std::span(&in_file, 1)));
  if (got != sizeof in_file) refuse("this arena is damaged: it ends within its counts");
  last_owner_pid_ = in_file.owner_pid;
  last_owner_program_.assign(in_file.owner_program, ::strnlen(in_file.owner_program, sizeof in_file.owner_program));

  base_ = disk_->view();
  control_ = reinterpret_cast<control_block*>(base_ + header_.control_offset);
  slots_ = base_ + header_.slots_offset;
  index_ = reinterpret_cast<std::uint64_t*>(base_ + header_.index_offset);
  // As it was just read: what a reader sees of it never changes under it.
  std::memcpy(control_, &in_file, sizeof in_file);

  const std::uint64_t slots_in_file =
      (std::max(disk_->arena().size_bytes(), header_.slots_offset) - header_.slots_offset) / header_.slot_stride_bytes;
  capacity_on_disk_ = std::min<std::uint64_t>(in_file.capacity, slots_in_file);
  if (in_file.capacity > capacity_on_disk_) {
    // The page with the counts reached the disk, the file's new length did not. Only beside a journal that can be.
    if (disk_->journal() == nullptr) {
      control_block unmarked = in_file;
      unmarked.closed = unmarked.synced = 0;
      require_no_fault(check_control(header_, unmarked, disk_->arena().size_bytes()), path());
    }
    grow_file(in_file.capacity);
  }

  if (disk_->journal() != nullptr) {
    replay(in_file);
  } else if (journal_rules::was_closed(in_file)) {
    found_.was_closed = true;
  } else if (options_.salvage) {
    found_.salvaged = true;
  } else {
    refuse(journal_rules::missing(journal_path(path()).filename().string()));
  }

  control_block now = *control_;
  now.closed = now.synced = 0;
  require_no_fault(
      check_control(header_, now, std::max(disk_->arena().size_bytes(), header_.file_size_for(now.capacity))), path());
  if (writable_)
    begin_use();
  else
    disk_->protect(false);
}

/// Where the file lost its growth with the power, it grows again.
void durable_arena::grow_file(std::uint64_t slots) {
  if (slots <= capacity_on_disk_) return;
  const std::uint64_t in_journal = disk_->journal() == nullptr ? 0 : disk_->journal()->size_bytes();
  if (!journal_rules::is_credible_room(slots, capacity_on_disk_, header_, disk_->arena().size_bytes(), in_journal))
    refuse(journal_rules::incredible_room(slots, capacity_on_disk_));
  if (writable_) disk_->allocate_slots(capacity_on_disk_, slots);
  capacity_on_disk_ = slots;
}

/// Brings the view to the last commit of the journal. Whatever mixture of pages of later moments the arena holds, each byte
/// that any of the journal's commits changed is written here, in order.
void durable_arena::replay(const control_block& in_file) {
  journal_rules::generations found;
  // A writer beside this reader may be writing one of them: what was read in its midst is read again.
  for (int tries = 0; tries == 0 || (!writable_ && found.reason && tries < 1000); ++tries) {
    const journal_header_result even = read_journal_header(0);
    found = journal_rules::judge(even, read_journal_header(1));
  }
  const std::string name = journal_path(path()).filename().string();
  // One that counts is not enough: a header lies in one sector, so no loss of power leaves half of one, and what is missing
  // is either the newest commits or those that the arena does not have yet.
  if (found.reason && !options_.salvage) {
    if (found.reason->code == errc::newer_format)
      throw error(found.reason->code, path(), name + ": " + found.reason->message);
    refuse(journal_rules::unusable_header(name, *found.reason, journal_rules::was_closed(in_file)));
  }
  if (found.reason) found_.salvaged = true;
  if (!found.current) return;
  if (!found.follow_each_other) refuse(journal_rules::not_following(name));
  std::optional<journal_header> first = found.older, second = found.current;

  bool arena_fits = false;
  bool went_back = false;
  std::optional<journal_cursor> older;
  if (first) {
    older.emplace(cursor_for(*first));
    walk(*older, in_file, arena_fits, older_pages_);
    // What a younger one follows was on the disk before it was begun.
    if (!journal_rules::follows(*second, *older)) {
      if (!options_.salvage) refuse_damaged_behind(older->last_commit());
      found_.salvaged = went_back = true;
      second = first;
      first.reset();
    }
  }
  journal_cursor current = cursor_for(*second);
  if (went_back) {
    current = std::move(*older);
    older.reset();
    changed_pages_.swap(older_pages_);
  } else {
    walk(current, in_file, arena_fits, changed_pages_);
  }
  if (writable_ && !went_back && current.is_damaged_here(damage_search_bytes)) {
    if (!options_.salvage) refuse_damaged_behind(current.last_commit());
    found_.salvaged = true;
  }
  if (!arena_fits) {
    if (!options_.salvage)
      refuse(journal_rules::of_another_time(name, in_file.durable_commit, (first ? *first : *second).first_commit,
                                            current.last_commit()));
    found_.salvaged = true;
  }
  if (writable_) {
    journal_ = journal::journal_writer::resume(*disk_->journal(), older ? &*older : nullptr, current, new_nonce(),
                                               extent_bytes());
  } else {
    // First the one, then the other: there is no moment in which nothing holds the writer back.
    disk_->pin(current.header().generation);
    disk_->unpin(0);
    pinned_ = current.header().generation;
    following_.emplace(std::move(current));
    follow();
    // What says that this is no end may have been written since, by a writer beside us. Then it can be followed.
    while (!went_back && following_->is_damaged_here(damage_search_bytes)) {
      const std::uint64_t at = control_->durable_commit;
      follow();
      if (control_->durable_commit == at) refuse_damaged_behind(at);
    }
  }
}

void durable_arena::refuse_damaged_behind(std::uint64_t commit) const {
  refuse(journal_rules::damaged_behind(journal_path(path()).filename().string(), commit));
}

/// A reader goes on to the newest commit there is, through as many generations as there are.
void durable_arena::follow() {
  journal::page_set unused;
  bool fits = true;
  for (;;) {
    following_->forget_read_ahead();
    walk(*following_, *control_, fits, unused);
    const std::uint64_t next = following_->header().generation + 1;
    const std::optional<journal_header> header = read_journal_header(next % 2).value;
    if (!header || header->generation != next || !journal_rules::follows(*header, *following_)) return;
    disk_->pin(next);
    disk_->unpin(pinned_);
    pinned_ = next;
    following_.emplace(cursor_for(*header));
  }
}

void durable_arena::walk(journal_cursor& cursor, const control_block& in_file, bool& arena_fits,
                         journal::page_set& pages) {
  const auto look = [&](std::uint64_t commit, std::uint64_t chain) {
    if (commit == in_file.durable_commit && chain == in_file.durable_chain) arena_fits = true;
  };
  look(cursor.last_commit(), cursor.last_commit_chain());
  while (const journal_commit* commit = cursor.next()) {
    apply(*commit, cursor.header().generation, pages);
    look(commit->head.commit, commit->head.checksum);
    ++found_.commits;
    found_.bytes += commit->head.size_bytes;
  }
}

void durable_arena::apply(const journal_commit& commit, std::uint64_t generation, journal::page_set& pages) {
  (void)commit.for_each_range([&](const journal_range& range, std::span<const std::byte> bytes) {
    if (!journal_rules::is_sound(range, header_))
      refuse(journal_rules::changes_what_no_commit_changes(commit.head.commit, range.offset));
    if (range.offset >= header_.slots_offset)
      grow_file((range.offset + range.size_bytes - header_.slots_offset + header_.slot_stride_bytes - 1) /
                header_.slot_stride_bytes);
    std::memcpy(base_ + range.offset, bytes.data(), bytes.size());
    note_stored(pages, range.offset, range.size_bytes);
    if (range.offset < header_.index_offset) grow_file(control_->capacity);  // a commit's counts come before its slots
  });
  control_->durable_commit = commit.head.commit;
  control_->durable_chain = commit.head.checksum;
  control_->durable_generation = generation;
  note_stored(pages, header_.control_offset, sizeof(control_block));
}

/// From here on it is written to.
void durable_arena::begin_use() {
  // A copy made by tools that leave out zeros has holes, where writing later on a full disk would fail.
  disk_->allocate_slots(0, control_->capacity);
  capacity_on_disk_ = std::max<std::uint64_t>(capacity_on_disk_, control_->capacity);
  if (journal_) {
    // It may be in the page cache only, where a process left it that was killed. What is built on it must not outlive it.
    // (What of it nobody vouches for was written again: see journal_writer.)
    journal_->sync();
  } else {
    if (disk_->journal() != nullptr) disk_->remove_journal();  // salvaged, and nothing in it could be read
    journal_ = journal::journal_writer::make(
        disk_->create_journal(),
        {header_.uuid, control_->durable_generation + 1, control_->durable_commit, control_->durable_chain},
        new_nonce(), extent_bytes());
    disk_->publish_journal();
  }
  // Only now: an arena that does not say that it was closed must have a journal. Its counts are not touched.
  say_in_use(*control_);
  constexpr std::size_t marks_bytes = offsetof(control_block, slot_count);
  disk_->arena().write(header_.control_offset, std::as_bytes(std::span(control_, 1)).first(marks_bytes));
  sync_arena();
  note_stored(changed_pages_, header_.control_offset, sizeof(control_block));
  committed_ = *control_;
  changes_ = std::make_unique<journal::change_log>(slots_, header_.slot_stride_bytes, header_.slots_max, index_);
}

bool durable_arena::refresh() {
  if (writable_) return false;
  const control_block before = *control_;
  disk_->protect(true);
  const struct protect_again {
    storage& disk;
    ~protect_again() { disk.protect(false); }
  } whatever_happens{*disk_};
  if (following_) {
    follow();
  } else {
    // There was no journal when this was opened; whoever wrote since has made one, and waits for us with the rest.
    disk_->look_for_journal();
    if (disk_->journal() != nullptr) replay(before);
  }
  return control_->durable_commit != before.durable_commit;
}

}  // namespace dm
