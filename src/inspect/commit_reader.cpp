#include "deferred_map/inspect/commit_reader.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>

#include "../arena/posix_storage.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/format/journal_rules.hpp"
#include "head_checks.hpp"

namespace dm::inspect {
namespace {

/// The changes that lead from one version of a slot to another.
void add_changes(std::vector<slot_change>& changes, std::uint32_t slot, std::uint32_t was, std::uint32_t is,
                 std::span<const std::byte> value) {
  slot_change change;
  change.slot = slot;
  change.old_state = version::state(was);
  change.old_generation = version::generation(was);
  const auto add = [&](change_kind kind, std::uint32_t generation) {
    change.kind = kind;
    change.generation = generation;
    change.value = kind == change_kind::insert || kind == change_kind::update ? value : std::span<const std::byte>();
    changes.push_back(change);
  };
  const std::uint32_t before = version::generation(was), after = version::generation(is);
  if (!version::is_possible(is)) return add(change_kind::impossible, after);
  const bool same_life = before == after && !version::is_vacant(is) && !version::is_vacant(was);
  if (version::is_occupied(was) && !(same_life && version::is_occupied(is))) add(change_kind::remove, before);
  if (version::is_reserved(was) && !same_life) add(change_kind::release, before);
  if (version::is_occupied(is))
    add(same_life && version::is_occupied(was) ? change_kind::update : change_kind::insert, after);
  if (version::is_reserved(is) && !(same_life && version::is_reserved(was))) add(change_kind::reserve, after);
  // The generation that follows from what is told already.
  const std::uint32_t expected = version::is_vacant(was) ? std::max(before, version::first_generation) : before + 1;
  if (version::is_vacant(is) && after != expected) add(change_kind::skip, after);
}

}  // namespace

const char* to_string(change_kind kind) noexcept {
  switch (kind) {
    case change_kind::insert:
      return "insert";
    case change_kind::update:
      return "update";
    case change_kind::remove:
      return "remove";
    case change_kind::reserve:
      return "reserve";
    case change_kind::release:
      return "release";
    case change_kind::skip:
      return "skip";
    case change_kind::truncate:
      return "truncate";
    case change_kind::impossible:
      return "impossible";
  }
  return "unknown";
}

struct commit_reader::state {
  state(const std::filesystem::path& arena_path, const commit_reader_options& how)
      : path(arena_path), journal_path(journal_path_of(arena_path)), options(how), arena(open_file(arena_path)) {
    std::array<std::byte, sizeof(arena_header)> head{};
    const header_examination examined =
        examine_header(path, std::span(head).first(arena->read(0, head)), arena->size_bytes());
    if (examined.newer_format) throw error(errc::newer_format, path, examined.findings.front().text);
    if (examined.header.kind != static_cast<std::uint32_t>(arena_kind::durable))
      throw error(errc::wrong_kind, path, "this is no durable map: only those have a journal, and with it a history");
    if (!examined.layout)
      throw error(errc::damaged, path,
                  "the header is damaged so that the slots cannot be found. Run 'dm-inspect check'");
    layout = *examined.layout;
    // Before the journal is looked for: from here on nothing of it is retired.
    pin(0);
    const control_block control = read_control();
    last_commit = control.durable_commit;
    last_chain = control.durable_chain;
    vouched = control.durable_commit;
    slot_count = control.slot_count;
    slot_count_commit = control.durable_commit;
    begin();
  }

  ~state() { unpin(); }

  control_block read_control() const {
    control_block control;
    if (arena->read(layout.control_offset, std::as_writable_bytes(std::span(&control, 1))) != sizeof control)
      throw error(errc::damaged, path, "the file ends before its counts do");
    return control;
  }

  void pin(std::uint64_t generation) {
    if (!options.pin) return;
    // First the one, then the other: there is no moment in which nothing holds the writer back.
    (void)arena->pin(durable_reader_lock_offset + generation);
    if (pinned && *pinned != generation) arena->unpin(durable_reader_lock_offset + *pinned);
    pinned = generation;
  }
  void unpin() {
    if (pinned) arena->unpin(durable_reader_lock_offset + *pinned);
    pinned.reset();
  }

  /// Nothing where a header is being written, or the journal cannot be believed: opening the arena would tell.
  std::optional<journal_rules::generations> headers() const {
    for (int tries = 0; tries < 100; ++tries) {
      journal_header_result each[2];
      for (std::uint64_t place = 0; place < 2; ++place) {
        std::array<std::byte, sizeof(journal_header)> bytes{};
        const std::size_t got = journal->read(journal_header_offset(place), bytes);
        each[place] = check_journal_header(std::span(bytes).first(got), place, layout.uuid);
      }
      journal_rules::generations found = journal_rules::judge(each[0], each[1]);
      if (!found.reason && found.follow_each_other) return found;
      why_not = found.reason ? journal_rules::unusable_header(journal_path.filename().string(), *found.reason, false)
                             : journal_rules::not_following(journal_path.filename().string());
    }
    return std::nullopt;
  }

  bool open_journal() {
    journal.reset();
    cursor.reset();
    try {
      journal = open_file(journal_path);
    } catch (const error& e) {
      if (e.code() != errc::not_found) throw;
    }
    return journal != nullptr;
  }

  void walk(const journal_header& header) {
    pin(header.generation);
    cursor.emplace([this](std::uint64_t offset, std::span<std::byte> out) { return journal->read(offset, out); },
                   header);
    vouched = std::max(vouched, header.first_commit - 1);
  }

  /// The first look: all that there is.
  void begin() {
    if (!open_journal()) {
      if (options.from != 0 && options.from <= last_commit)
        say_gap(options.from - 1, last_commit + 1, "not in a journal any more");
      return;
    }
    const auto found = headers();
    if (!found) throw error(errc::damaged, path, why_not);
    walk(found->older ? *found->older : *found->current);
    last_commit = cursor->last_commit();
    last_chain = cursor->last_commit_chain();
    if (last_commit != slot_count_commit) slot_count.reset();
    if (options.from != 0 && options.from <= last_commit)
      say_gap(options.from - 1, last_commit + 1, "not in the journal any more");
  }

  void say_gap(std::uint64_t after, std::uint64_t next, const char* reason) {
    commit_event event;
    event.gap = commit_gap{after, next, reason};
    ready.push_back({std::move(event), {}, next - 1});
  }

  void go_on_behind(std::uint64_t commit, std::uint64_t chain, const char* reason) {
    say_gap(last_commit, commit + 1, reason);
    last_commit = commit;
    last_chain = chain;
    slot_count.reset();
  }

  /// Where the journal is another one, or the generation that was read is gone from it: goes on where the last commit was.
  /// Returns whether there is something to walk.
  bool find_place() {
    const auto found = headers();
    if (!found) return false;
    const journal_header& first = found->older ? *found->older : *found->current;
    walk(first);
    if (first.first_commit > last_commit + 1) {
      go_on_behind(first.first_commit - 1, first.seed, "retired before they were read");
      return true;
    }
    const journal_header* then = found->older ? &*found->current : nullptr;
    while (cursor->last_commit() < last_commit) {
      if (cursor->next() != nullptr) continue;
      if (then != nullptr && journal_rules::follows(*then, *cursor)) {
        walk(*then);
        then = nullptr;
        continue;
      }
      break;
    }
    if (cursor->last_commit() < last_commit)
      go_on_behind(cursor->last_commit(), cursor->last_commit_chain(), "history went back: these commits are gone");
    else if (cursor->last_commit_chain() != last_chain)
      go_on_behind(cursor->last_commit(), cursor->last_commit_chain(), "history is another one: files were exchanged");
    return true;
  }

  /// At the end of a chain: whether there may be more to read now.
  bool move_on() {
    if (!arena->name_leads_here())
      throw error(errc::not_found, path, "this arena was removed or replaced while it was being followed");
    if (journal && !journal->name_leads_here()) {
      journal.reset();
      cursor.reset();
    }
    if (!journal) {
      // What was committed and closed meanwhile is in the arena alone.
      const control_block control = read_control();
      if (open_journal()) return find_place();
      if (!journal_rules::was_closed(control) || control.durable_chain == last_chain) return false;
      go_on_behind(control.durable_commit, control.durable_chain, "closed, and not in a journal any more");
      slot_count = control.slot_count;
      return true;
    }
    if (!cursor) return find_place();
    const std::uint64_t generation = cursor->header().generation;
    const auto found = headers();
    if (!found) return false;
    if (found->current->generation == generation) return is_damaged();
    if (found->older && found->older->generation == generation) {
      const journal_header& next = *found->current;
      if (journal_rules::follows(next, *cursor)) {
        walk(next);
        return true;
      }
      // It was begun when all before it was there: what was written since the end was met, or nothing that can be read.
      cursor->forget_read_ahead();
      if (read_one()) return true;
      throw error(errc::damaged, path,
                  journal_rules::damaged_behind(journal_path.filename().string(), cursor->last_commit()));
    }
    return find_place();
  }

  /// Looked for once at each end.
  bool is_damaged() {
    if (looked_at == cursor->position()) return false;
    if (!cursor->is_damaged_here(journal_rules::damage_search_bytes)) {
      looked_at = cursor->position();
      return false;
    }
    // What says that this is no end may have been written since.
    cursor->forget_read_ahead();
    const std::uint64_t at = cursor->position();
    if (read_one()) return true;
    if (cursor->position() != at) return true;
    throw error(errc::damaged, path,
                journal_rules::damaged_behind(journal_path.filename().string(), cursor->last_commit()));
  }

  bool read_one() {
    const journal_commit* commit = cursor->next();
    if (commit == nullptr) return false;
    last_commit = commit->head.commit;
    last_chain = commit->head.checksum;
    vouched = std::max(vouched, commit->head.durable_commit);
    take(*commit);
    return true;
  }

  void take(const journal_commit& commit) {
    const journal_record& head = commit.head;
    held one;
    one.number = head.commit;
    one.bytes.assign(commit.ranges.begin(), commit.ranges.end());
    commit_view& view = one.event.commit;
    view.number = head.commit;
    view.unix_ns = head.unix_ns;
    view.record_bytes = head.size_bytes;
    view.generation = cursor->header().generation;
    view.vouched_commit = head.durable_commit;
    const std::uint64_t stride = layout.slot_stride_bytes;
    const journal_commit own{head, one.bytes};
    std::optional<std::uint32_t> count = slot_count;
    (void)own.for_each_range([&](const journal_range& range, std::span<const std::byte> bytes) {
      const std::uint64_t count_offset = layout.control_offset + offsetof(control_block, slot_count);
      if (range.offset <= count_offset && range.offset + bytes.size() >= count_offset + sizeof(std::uint32_t)) {
        std::uint32_t now = 0;
        std::memcpy(&now, bytes.data() + (count_offset - range.offset), sizeof now);
        count = now;
      }
      if (range.offset < layout.slots_offset || bytes.size() != stride ||
          (range.offset - layout.slots_offset) % stride != 0 ||
          (range.offset - layout.slots_offset) / stride >= layout.slots_max)
        return;
      ++view.slots_changed;
      std::uint32_t is = 0;
      std::memcpy(&is, bytes.data(), sizeof is);
      if (head.commit < options.from) return;
      const auto slot = static_cast<std::uint32_t>((range.offset - layout.slots_offset) / stride);
      // What lies behind the last slot may be left over from before it was given back, and is nobody's.
      const bool was_there = !slot_count || slot < *slot_count;
      add_changes(view.changes, slot, was_there ? range.old_version : 0, is,
                  bytes.subspan(layout.value_offset, layout.value_size_bytes));
    });
    if (slot_count && count && *count < *slot_count) {
      slot_change given_back;
      given_back.kind = change_kind::truncate;
      given_back.slot = *count;
      view.changes.push_back(given_back);
    }
    slot_count = view.slot_count = count;
    if (head.commit >= options.from) ready.push_back(std::move(one));
  }

  const commit_event* next() {
    ready_event.reset();
    for (;;) {
      if (!ready.empty() && (ready.front().event.gap || !options.only_vouched || ready.front().number <= vouched)) {
        ready_event.emplace(std::move(ready.front()));
        ready.pop_front();
        return &ready_event->event;
      }
      if (cursor && read_one()) continue;
      if (cursor) cursor->forget_read_ahead();
      if (cursor && read_one()) continue;
      const std::size_t waiting = ready.size();
      const std::uint64_t vouched_before = vouched;
      const bool more = move_on();
      if (options.only_vouched) vouched = std::max(vouched, vouched_by_arena());
      if (!more && ready.size() == waiting && vouched == vouched_before) return nullptr;
    }
  }

  /// The arena names a commit only once the journal, on the disk, has it.
  std::uint64_t vouched_by_arena() const {
    const control_block control = read_control();
    return control.durable_commit;
  }

  struct held {
    commit_event event;
    std::vector<std::byte> bytes;  // what the event's values point into
    std::uint64_t number = 0;
  };

  std::filesystem::path path;
  std::filesystem::path journal_path;
  commit_reader_options options;
  std::unique_ptr<byte_source> arena;
  std::unique_ptr<byte_source> journal;
  arena_header layout;
  std::optional<journal_cursor> cursor;
  std::optional<std::uint64_t> pinned;
  mutable std::string why_not;
  std::uint64_t last_commit = 0;
  std::uint64_t last_chain = 0;
  std::uint64_t vouched = 0;
  std::optional<std::uint32_t> slot_count;  // after the last commit
  std::uint64_t slot_count_commit = 0;      // which commit the arena's own count is of
  std::uint64_t looked_at = 0;              // where no damage was found
  std::deque<held> ready;                   // read, and not yet given out
  std::optional<held> ready_event;
};

commit_reader::commit_reader(const std::filesystem::path& path, const commit_reader_options& options)
    : state_(std::make_unique<state>(path, options)) {}
commit_reader::~commit_reader() = default;

const commit_event* commit_reader::next() { return state_->next(); }
std::uint64_t commit_reader::position() const noexcept { return state_->last_commit; }

}  // namespace dm::inspect
