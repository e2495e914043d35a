#include "deferred_map/journal/durable_arena.hpp"

#include <algorithm>
#include <cstring>

#include "arena_parts.hpp"
#include "deferred_map/container/version.hpp"
#include "deferred_map/format/journal_rules.hpp"

namespace dm {
namespace {

constexpr std::uint64_t generation_bytes_least = std::uint64_t{8} << 20;
constexpr std::uint64_t generation_bytes_most = std::uint64_t{128} << 20;
constexpr std::uint64_t extent_bytes_least = arena_page_bytes;
constexpr std::uint64_t extent_bytes_most = std::uint64_t{1} << 20;
// Pages that are written to the arena by one call, where they are neighbours.
constexpr std::uint64_t pages_per_write = 64;

/// Stretches of the control block that a commit writes if they differ: the marks are not the journal's, and what names
/// the commit follows from its record.
struct stretch {
  std::uint32_t offset;
  std::uint32_t size_bytes;
};
constexpr stretch control_stretches[] = {
    {64, 64}, {256, 64}, {320, 64}, {384, 64}, {448, 64}, {512, 64}, {576, 64}, {640, 64}, {704, 64},
};
// What the last opening found goes along with a commit, but is no reason for one.
constexpr stretch recovery_stretch{128, 72};
static_assert(offsetof(control_block, slot_count) == 64 && offsetof(control_block, last_recovery) == 128 &&
              sizeof(recovery_record) == 72 && offsetof(control_block, buffer) == 256 && sizeof(control_block) == 768);

std::uint32_t version_at(const std::byte* slot) noexcept {
  std::uint32_t word = 0;
  std::memcpy(&word, slot, sizeof word);
  return word;
}

/// The first generation that was never given out in a slot with this version.
std::uint32_t first_not_given_out(std::uint32_t word) noexcept {
  const std::uint32_t generation = version::generation(word);
  return version::is_vacant(word) ? std::max(generation, version::first_generation) : generation + 1;
}

}  // namespace

void durable_arena::expand(std::uint64_t slots) {
  if (slots <= control_->capacity) return;
  require_slots_fit(path(), header_, slots);
  std::uint64_t wanted = slots_with_head_start(header_, control_->capacity, slots);
  if (wanted > capacity_on_disk_) {
    // What failed leaves the file longer than need be, which harms nobody: it is what capacity says that counts.
    try {
      disk_->allocate_slots(capacity_on_disk_, wanted);
    } catch (const error& e) {
      if (e.code() != errc::full || wanted == slots) throw;
      wanted = slots;  // no head start, then: just what is needed
      if (wanted > capacity_on_disk_) disk_->allocate_slots(capacity_on_disk_, wanted);
    }
    capacity_on_disk_ = std::max(capacity_on_disk_, wanted);
    sync_growth();
  }
  control_->capacity = static_cast<std::uint32_t>(wanted);
}

/// The file's length is not the journal's, and a loss of power may take it back. Opening makes the file as long again, but
/// believes no more than a journal can have filled: room beyond that is on the disk before a commit can tell of it.
void durable_arena::sync_growth() {
  if ((capacity_on_disk_ - capacity_synced_) * header_.slot_stride_bytes <= journal_rules::growth_believed_bytes / 2)
    return;
  try {
    sync_arena();
  } catch (const error& e) {
    fail_and_poison(e);
  }
}

void durable_arena::sync_arena() {
  disk_->arena().sync();
  capacity_synced_ = capacity_on_disk_;
}

void durable_arena::truncate(std::uint64_t slots) noexcept {
  // The file is made shorter when it is closed: until then the last commit, and readers, may need what is there.
  slots = std::max<std::uint64_t>(slots, control_->slot_count);
  if (slots < control_->capacity) control_->capacity = static_cast<std::uint32_t>(slots);
}

void durable_arena::require_usable() const {
  if (!poison_.empty())
    throw error(
        errc::poisoned, path(),
        "writing to the disk failed earlier (" + poison_ +
            "), so nothing more is written. What is in memory can be read. Look at the disk, then open it again: "
            "it will be at the last commit that returned, or at the one that failed");
}

void durable_arena::poison(const std::string& why) noexcept {
  if (!poison_.empty()) return;
  try {
    poison_ = why.empty() ? "the reason is unknown" : why;
  } catch (...) {
    poison_.push_back('?');  // fits into the string itself
  }
}

void durable_arena::fail_and_poison(const error& e) {
  poison(e.what());
  throw e;
}

bool durable_arena::has_changes() {
  build_record();
  return range_count_ != 0;
}

void durable_arena::add_range(std::uint64_t offset, const std::byte* bytes, std::uint64_t size,
                              std::uint32_t old_version) {
  const journal_range range{offset, static_cast<std::uint32_t>(size), old_version};
  const std::size_t at = record_.size();
  record_.resize(at + sizeof range + journal_padded(size));
  std::memcpy(record_.data() + at, &range, sizeof range);
  std::memcpy(record_.data() + at + sizeof range, bytes, size);
  ++range_count_;
}

/// What differs from the last commit, counts first: replay must know how much room there is.
void durable_arena::build_record() {
  record_.assign(sizeof(journal_record), std::byte{0});
  range_count_ = 0;
  const auto* now = reinterpret_cast<const std::byte*>(control_);
  const auto* before = reinterpret_cast<const std::byte*>(&committed_);
  for (const stretch& part : control_stretches)
    if (std::memcmp(now + part.offset, before + part.offset, part.size_bytes) != 0)
      add_range(header_.control_offset + part.offset, now + part.offset, part.size_bytes, 0);

  const std::uint64_t stride = header_.slot_stride_bytes;
  changes_->for_each_slot([&](std::uint32_t slot, const std::byte* was) {
    // Made, and given back at once. But one that a commit had, and that was given back now, is to be vacant behind the last.
    if (slot >= control_->capacity && slot >= committed_.slot_count) return;
    const std::byte* is = slots_ + slot * stride;
    if (std::memcmp(is, was, stride) == 0) return;  // somebody could have stored to it, and did not
    add_range(header_.slots_offset + slot * stride, is, stride, version_at(was));
  });

  // Neighbouring words in one range.
  const auto& words = changes_->index_words();
  for (std::size_t i = 0; i < words.size();) {
    if (index_[words[i].position] == words[i].before) {
      ++i;
      continue;
    }
    std::size_t end = i + 1;
    while (end < words.size() && words[end].position == words[end - 1].position + 1 && end - i < 512 &&
           index_[words[end].position] != words[end].before)
      ++end;
    add_range(header_.index_offset + words[i].position * 8,
              reinterpret_cast<const std::byte*>(index_ + words[i].position), (end - i) * 8, 0);
    i = end;
  }
  if (range_count_ != 0 &&
      std::memcmp(now + recovery_stretch.offset, before + recovery_stretch.offset, recovery_stretch.size_bytes) != 0)
    add_range(header_.control_offset + recovery_stretch.offset, now + recovery_stretch.offset,
              recovery_stretch.size_bytes, 0);
  std::memcpy(record_.data() + offsetof(journal_record, range_count), &range_count_, sizeof range_count_);
}

std::uint64_t durable_arena::commit(sync how) {
  require_usable();
  if (!is_ours())
    throw error(errc::bad_options, path(),
                "this map was opened by another process, which forked this one. Open it anew");
  build_record();
  if (range_count_ != 0) {
    try {
      journal_->append(record_);
    } catch (const error& e) {
      // For want of room nothing was begun, or what was begun will be written over; nobody was told of it.
      if (e.code() == errc::full) throw;
      fail_and_poison(e);
    }
  }
  if (how == sync::now && !journal_->is_synced()) {
    try {
      journal_->sync();
    } catch (const error& e) {
      fail_and_poison(e);
    }
  }
  if (range_count_ != 0) {
    control_->durable_commit = journal_->last_commit();
    control_->durable_chain = journal_->last_commit_chain();
    control_->durable_generation = journal_->generation();
    // Of the record, not of what was touched: these are what the file does not have yet.
    std::span<const std::byte> rest = std::span(record_).subspan(sizeof(journal_record));
    for (std::uint64_t i = 0; i < range_count_; ++i) {
      journal_range range;
      std::memcpy(&range, rest.data(), sizeof range);
      note_stored(changed_pages_, range.offset, range.size_bytes);
      rest = rest.subspan(sizeof range + journal_padded(range.size_bytes));
    }
    note_stored(changed_pages_, header_.control_offset, sizeof(control_block));
  }
  committed_ = *control_;
  changes_->clear();
  if (record_.capacity() > std::size_t{16} << 20) std::vector<std::byte>().swap(record_);
  checkpoint_a_little();
  private_pages_.gather(1);
  return control_->durable_commit;
}

bool durable_arena::rollback() {
  require_usable();
  std::vector<std::pair<std::uint32_t, std::uint32_t>> burned;  // slots, and their first generation not given out
  // Shrinking may have raised it, for slots that were given out and are gone.
  std::uint32_t floor = control_->generation_floor;
  const std::uint64_t stride = header_.slot_stride_bytes;
  changes_->for_each_slot([&](std::uint32_t slot, const std::byte* was) {
    std::byte* is = slots_ + slot * stride;
    const std::uint32_t fresh = first_not_given_out(version_at(is));
    if (slot >= committed_.slot_count) {
      floor = std::max(floor, std::min(fresh, version::last_generation));
    } else if (fresh > first_not_given_out(version_at(was))) {
      burned.emplace_back(slot, fresh);
    }
    std::memcpy(is, was, stride);
  });
  for (const auto& word : changes_->index_words()) index_[word.position] = word.before;
  const recovery_record found = control_->last_recovery;
  std::memcpy(reinterpret_cast<std::byte*>(control_) + 64, reinterpret_cast<const std::byte*>(&committed_) + 64,
              sizeof(control_block) - 64);
  control_->last_recovery = found;
  changes_->clear();

  // What was given out and taken back must not be given out again. From here on these are changes of the next commit.
  if (control_->generation_floor < floor) control_->generation_floor = floor;
  bool used_up = false;
  for (const auto& [slot, fresh] : burned) {
    std::byte* at = slots_ + slot * stride;
    const std::uint32_t was = version_at(at);
    std::uint32_t& known = given_out_[slot];
    known = std::max(known, fresh);
    if (!version::is_vacant(was) || version::is_retired(was)) continue;  // `next_generation` sees to it
    changes_->before_change(slot);
    const std::uint32_t next = version::vacant(fresh);
    std::memcpy(at, &next, sizeof next);
    used_up |= version::is_retired(next);
  }
  return used_up;
}

// Checkpoints -------------------------------------------------------------------------------------------------------

std::uint64_t durable_arena::generation_bytes_max() const noexcept {
  if (options_.journal_bytes != 0) return options_.journal_bytes;
  return std::clamp(std::uint64_t{control_->slot_count} * header_.slot_stride_bytes, generation_bytes_least,
                    generation_bytes_most);
}

/// A few extents in each generation, where it is to be small.
std::uint64_t durable_arena::extent_bytes() const noexcept {
  return std::clamp(generation_bytes_max() / 8 / arena_page_bytes * arena_page_bytes, extent_bytes_least,
                    extent_bytes_most);
}

void durable_arena::write_pages(const std::vector<std::uint64_t>& pages, std::uint64_t first, std::uint64_t count) {
  storage_file& arena = disk_->arena();
  for (std::uint64_t i = first; i < first + count;) {
    std::uint64_t end = i + 1;
    while (end < first + count && pages[end] == pages[end - 1] + 1 && end - i < pages_per_write) ++end;
    const std::uint64_t offset = pages[i] * arena_page_bytes;
    const std::uint64_t size = (end - i) * arena_page_bytes;
    arena.write(offset, std::span(base_ + offset, size));
    arena.start_writing(offset, size);
    i = end;
  }
}

/// Writes pages of the older generation until so many of them were. Returns whether it could: readers may need the arena
/// as it is. Requires: invariant 2.
bool durable_arena::write_older_pages(std::uint64_t until) {
  until = std::min(until, older_pages_.count());
  if (until <= older_written_) return true;
  const std::uint64_t generation = journal_->generation() - 1;
  if (!disk_->try_keep_out_readers(generation)) return false;
  try {
    // First what names the commit that these pages are of. Should the journal be damaged before that commit, where no record
    // vouches for it, the arena is known to be of another time, and is not taken for an older commit's.
    disk_->arena().write(header_.control_offset, std::as_bytes(std::span(control_, 1)));
    write_pages(older_pages_.sorted(), older_written_, until - older_written_);
  } catch (...) {
    disk_->let_in_readers(generation);
    throw;
  }
  disk_->let_in_readers(generation);
  older_written_ = until;
  return true;
}

/// Returns whether it could: a reader that came after the pages were written may be walking the generation's records.
bool durable_arena::retire_older() {
  sync_arena();
  const std::uint64_t generation = journal_->generation() - 1;
  if (!disk_->try_keep_out_readers(generation)) return false;
  try {
    journal_->retire_older();
  } catch (...) {
    disk_->let_in_readers(generation);
    throw;
  }
  disk_->let_in_readers(generation);
  private_pages_.give_back(older_pages_.sorted(), changed_pages_);
  older_pages_.clear();
  older_written_ = 0;
  return true;
}

void durable_arena::begin_generation() {
  journal_->begin_generation();
  older_pages_.swap(changed_pages_);
  older_written_ = 0;
}

/// A part of a checkpoint, after a commit: as much as keeps it in step with the growth of the journal. The pages of the
/// older generation are written during the first half of the current one, then the kernel has a quarter of it to bring
/// them to the disk before that is waited for. The commit itself is done: what fails here is remembered for the next.
void durable_arena::checkpoint_a_little() noexcept {
  try {
    const std::uint64_t limit = generation_bytes_max();
    const std::uint64_t used = journal_->generation_bytes();
    if (used >= limit && !journal_->is_synced()) journal_->sync();
    if (!journal_->is_synced()) return;
    if (journal_->has_older()) {
      const std::uint64_t all = older_pages_.count();
      if (older_written_ < all) {
        // Some at once: a disk that is busy with a few pages keeps the next commits waiting for as long as one with many.
        const std::uint64_t share = used >= limit / 2 ? all : all * used * 2 / limit;
        if (share != all && share < older_written_ + pages_per_write) return;
        if (!write_older_pages(share)) return;
      }
      if (used >= limit / 4 * 3 && !retire_older()) return;  // all were written by half of it
    }
    if (!journal_->has_older() && used >= limit && journal_->is_synced()) begin_generation();
  } catch (const error& e) {
    // For want of room (where a file system takes a new block for each write) the journal goes on growing, and this is
    // tried again. Anything else may have lost what was written.
    if (e.code() != errc::full) poison(e.what());
  } catch (...) {
    poison("not enough memory for a checkpoint");
  }
}

bool durable_arena::checkpoint() {
  require_usable();
  try {
    if (!journal_->is_synced()) journal_->sync();
    // Twice at most: what is on its way already, and what has changed since.
    while (journal_->has_older() || !changed_pages_.empty()) {
      if (!journal_->has_older()) {
        begin_generation();
        journal_->sync();
      }
      if (!write_older_pages(older_pages_.count())) return false;
      if (!retire_older()) return false;
      journal_->sync();
    }
  } catch (const error& e) {
    if (e.code() == errc::full) throw;
    fail_and_poison(e);
  }
  return true;
}

void durable_arena::close() {
  if (!writable_ || !is_ours()) return;
  if (!poison_.empty()) require_usable();
  try {
    if (!journal_->is_synced()) journal_->sync();
    // Readers of any generation, this one too: what they look at stays as it is.
    const std::uint64_t generation = journal_->generation();
    if (!disk_->try_keep_out_readers(generation)) return;
    write_pages(older_pages_.sorted(), 0, older_pages_.count());
    write_pages(changed_pages_.sorted(), 0, changed_pages_.count());
    disk_->arena().set_size(header_.file_size_for(control_->capacity));
    disk_->arena().sync();
    // The marks vouch for what was just waited for.
    const std::uint64_t mark = control_->checksum();
    control_->synced = control_->closed = mark;
    disk_->arena().write(header_.control_offset, std::as_bytes(std::span(control_, 1)));
    disk_->arena().sync();
    disk_->remove_journal();
    disk_->let_in_readers(generation);
  } catch (const error& e) {
    fail_and_poison(e);
  }
}

}  // namespace dm
