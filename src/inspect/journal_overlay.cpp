#include "journal_overlay.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string>

#include "deferred_map/format/journal_rules.hpp"

namespace dm::inspect {
namespace {

/// Whether what lies where the chain ends is a part of the record that would go on from there.
bool is_torn_at(const journal_cursor& cursor, const byte_source& journal) {
  journal_record head;
  if (journal.read(cursor.position(), std::as_writable_bytes(std::span(&head, 1))) != sizeof head) return false;
  return head.magic == journal_record::right_magic && head.previous == cursor.chain();
}

/// Stands for a file that is there and cannot be opened.
class unreadable_source final : public byte_source {
 public:
  explicit unreadable_source(error why) : why_(std::move(why)) {}
  std::size_t read(std::uint64_t, std::span<std::byte>) const override { throw why_; }
  std::uint64_t size_bytes() const override { return 0; }

 private:
  error why_;
};

class reading {
 public:
  reading(const byte_source& arena, const byte_source& journal, const arena_header& layout,
          const std::optional<control_block>& control, journal_reading& result)
      : arena_(arena),
        journal_(journal),
        layout_(layout),
        control_(control.value_or(control_block{})),
        in_file_(control_),
        has_control_(control.has_value()),
        result_(result),
        state_(result.state),
        name_(state_.path.filename().string()),
        enough_bytes_(journal.size_bytes()),
        slots_there_((std::max(arena.size_bytes(), layout.slots_offset) - layout.slots_offset) /
                     layout.slot_stride_bytes) {}

  void run() {
    const journal_rules::generations found = headers();
    if (found.reason) {
      refuse(journal_condition::unusable, rule_of(found), std::nullopt,
             found.reason->code == errc::newer_format
                 ? name_ + ": " + found.reason->message
                 : journal_rules::unusable_header(name_, *found.reason, journal_rules::was_closed(in_file_)));
    }
    if (!found.current || (has_control_ && !has_room(control_.capacity))) return;
    if (!found.follow_each_other)
      return refuse(journal_condition::unusable, "journal-generations", std::nullopt,
                    journal_rules::not_following(name_));
    walk_all(found);
    judge_time();
    finish();
  }

 private:
  journal_header_result header_at(std::uint64_t place) const {
    std::array<std::byte, sizeof(journal_header)> bytes{};
    const std::size_t got = journal_.read(journal_header_offset(place), bytes);
    return check_journal_header(std::span(bytes).first(got), place, layout_.uuid);
  }

  journal_rules::generations headers() const {
    journal_rules::generations found;
    // A writer may be writing one of them: what was read in its midst is read again.
    for (int tries = 0; tries == 0 || (found.reason && tries < 100); ++tries) {
      const journal_header_result even = header_at(0);
      found = journal_rules::judge(even, header_at(1));
    }
    return found;
  }

  static std::string_view rule_of(const journal_rules::generations& found) {
    if (found.reason->code == errc::newer_format) return "journal-newer-format";
    if (found.reason->code == errc::not_an_arena) return "journal-magic";
    return found.reason->message.find("another arena") != std::string::npos ? "journal-foreign" : "journal-header";
  }

  /// The first reason stays: it is the one that opening gives.
  void refuse(journal_condition condition, std::string_view rule, std::optional<std::uint64_t> offset,
              std::string why) {
    state_.findings.push_back({rule, severity::error, offset, std::nullopt, why});
    if (!state_.reason.empty()) return;
    state_.condition = condition;
    state_.reason = std::move(why);
  }

  std::optional<journal_header> successor_of(const journal_cursor& cursor) const {
    const std::uint64_t generation = cursor.header().generation + 1;
    const std::optional<journal_header> header = header_at(generation % 2).value;
    if (!header || header->generation != generation || !journal_rules::follows(*header, cursor)) return std::nullopt;
    return header;
  }

  journal_cursor cursor_for(const journal_header& header) const {
    return {[this](std::uint64_t offset, std::span<std::byte> out) { return journal_.read(offset, out); }, header};
  }

  void walk_all(const journal_rules::generations& found) {
    bool is_sound = true;
    if (found.older) {
      journal_cursor older = cursor_for(*found.older);
      is_sound = walk(older);
      if (is_sound && !journal_rules::follows(*found.current, older)) {
        refuse(journal_condition::damaged, "journal-damaged", older.position(),
               journal_rules::damaged_behind(name_, older.last_commit()));
        is_sound = false;
      }
      state_.is_torn = is_torn_at(older, journal_);
    }
    if (!is_sound) return;
    journal_cursor current = cursor_for(*found.current);
    for (;;) {
      const std::uint64_t position = current.position();
      if (!walk(current)) return;
      if (state_.record_bytes > enough_bytes_) return;
      // A writer beside us may have begun the next one since.
      if (const auto next = successor_of(current)) {
        current = cursor_for(*next);
        continue;
      }
      if (!current.is_damaged_here(journal_rules::damage_search_bytes)) break;
      // What says that this is no end may have been written since, too. Then there is more to walk.
      if (current.position() != position) continue;
      refuse(journal_condition::damaged, "journal-damaged", current.position(),
             journal_rules::damaged_behind(name_, current.last_commit()));
      break;
    }
    state_.is_torn = is_torn_at(current, journal_);
  }

  /// Goes on to the end of the chain. Returns whether all of it could be applied.
  bool walk(journal_cursor& cursor) {
    cursor.forget_read_ahead();
    if (state_.generations.empty() || state_.generations.back().header.generation != cursor.header().generation) {
      if (state_.generations.empty()) state_.last_commit = cursor.last_commit();
      state_.generations.push_back({cursor.header(), 0, 0, cursor.last_commit(), cursor.position()});
      // It was begun only when all before it was on the disk.
      vouch(cursor.last_commit());
      look_for_arena(cursor.last_commit(), cursor.last_commit_chain());
    }
    journal_generation& generation = state_.generations.back();
    while (state_.record_bytes <= enough_bytes_) {
      const journal_commit* commit = cursor.next();
      if (commit == nullptr) break;
      if (!apply(*commit, generation.header.generation)) return false;
      const journal_record& head = commit->head;
      look_for_arena(head.commit, head.checksum);
      if (state_.first_commit == 0) state_.first_commit = head.commit;
      state_.last_commit = generation.last_commit = head.commit;
      state_.last_unix_ns = head.unix_ns;
      ++state_.commits;
      ++generation.commits;
      state_.record_bytes += head.size_bytes;
      generation.record_bytes += head.size_bytes;
      vouch(head.durable_commit);
    }
    generation.end_offset = cursor.position();
    return true;
  }

  void vouch(std::uint64_t commit) { state_.vouched_commit = std::max(state_.vouched_commit, commit); }

  bool apply(const journal_commit& commit, std::uint64_t generation) {
    bool is_sound = true;
    (void)commit.for_each_range([&](const journal_range& range, std::span<const std::byte> bytes) {
      if (!is_sound) return;
      if (!journal_rules::is_sound(range, layout_)) {
        is_sound = false;
        return refuse(journal_condition::damaged, "journal-range", std::nullopt,
                      journal_rules::changes_what_no_commit_changes(commit.head.commit, range.offset));
      }
      if (range.offset >= layout_.slots_offset &&
          !has_room((range.offset + range.size_bytes - layout_.slots_offset + layout_.slot_stride_bytes - 1) /
                    layout_.slot_stride_bytes)) {
        is_sound = false;
        return;
      }
      if (range.offset >= layout_.index_offset) return result_.patches.store(range.offset, bytes);
      std::memcpy(reinterpret_cast<std::byte*>(&control_) + (range.offset - layout_.control_offset), bytes.data(),
                  bytes.size());
      is_sound = has_room(control_.capacity);
    });
    if (!is_sound) return false;
    control_.durable_commit = commit.head.commit;
    control_.durable_chain = commit.head.checksum;
    control_.durable_generation = generation;
    return true;
  }

  bool has_room(std::uint64_t slots) {
    if (slots <= slots_there_ ||  // asked for each range of each commit: the sizes are looked up for the rare one only
        journal_rules::is_credible_room(slots, slots_there_, layout_, arena_.size_bytes(), journal_.size_bytes()))
      return true;
    refuse(journal_condition::damaged, "journal-room", std::nullopt,
           journal_rules::incredible_room(slots, slots_there_));
    return false;
  }

  void look_for_arena(std::uint64_t commit, std::uint64_t chain) {
    fits_ = fits_ || (commit == in_file_.durable_commit && chain == in_file_.durable_chain);
  }

  void judge_time() {
    if (fits_ || !has_control_) return;
    refuse(journal_condition::other_time, "journal-other-time", layout_.control_offset,
           journal_rules::of_another_time(name_, in_file_.durable_commit,
                                          state_.generations.front().header.first_commit, state_.last_commit));
  }

  void finish() {
    if (state_.reason.empty()) {
      state_.condition = journal_condition::whole;
      state_.commits_to_replay = state_.commits;
    }
    if (fits_) vouch(in_file_.durable_commit);
    if (state_.is_torn)
      state_.findings.push_back({"journal-torn", severity::note, state_.generations.back().end_offset, std::nullopt,
                                 "behind commit " + std::to_string(state_.last_commit) +
                                     " the journal has a part of a record: of a commit that was cut off, which did not "
                                     "happen, or of one that "
                                     "is on its way"});
    if (state_.condition == journal_condition::whole && journal_rules::was_closed(in_file_))
      state_.findings.push_back({"journal-left", severity::note, std::nullopt, std::nullopt,
                                 "the arena was closed and has everything; the journal has nothing new"});
    // An arena that ends before its slots is refused whatever its journal has, and must not seem longer by it.
    const bool has_slots = arena_.size_bytes() >= layout_.slots_offset;
    if (!has_slots) state_.commits_to_replay = 0;
    state_.is_applied = has_control_ && fits_ && has_slots && state_.condition != journal_condition::other_time;
    if (!state_.is_applied) return result_.patches.clear();
    state_.shown_commit = control_.durable_commit;
    const auto* bytes = reinterpret_cast<const std::byte*>(&control_);
    constexpr std::size_t marks_bytes = offsetof(control_block, slot_count);
    // The marks are the file's own, and may change while they are looked at.
    if (std::memcmp(bytes + marks_bytes, reinterpret_cast<const std::byte*>(&in_file_) + marks_bytes,
                    sizeof control_ - marks_bytes) != 0)
      result_.patches.store(layout_.control_offset + marks_bytes,
                            std::span(bytes + marks_bytes, sizeof control_ - marks_bytes));
    if (has_room(control_.capacity))
      result_.size_bytes = std::max(result_.size_bytes, layout_.file_size_for(control_.capacity));
  }

  const byte_source& arena_;
  const byte_source& journal_;
  const arena_header& layout_;
  control_block control_;  // as the commits so far make it
  control_block in_file_;
  bool has_control_;
  journal_reading& result_;
  journal_state& state_;
  std::string name_;
  // So much that all that was there when this began is read: a writer beside us may be faster than we are. Any commit from
  // there on will do, since the arena has nothing later.
  std::uint64_t enough_bytes_;
  std::uint64_t slots_there_;
  bool fits_ = false;
};

}  // namespace

const char* to_string(journal_condition condition) noexcept {
  switch (condition) {
    case journal_condition::not_needed:
      return "not needed";
    case journal_condition::whole:
      return "whole";
    case journal_condition::missing:
      return "missing";
    case journal_condition::unusable:
      return "unusable";
    case journal_condition::other_time:
      return "of another time";
    case journal_condition::damaged:
      return "damaged";
  }
  return "unknown";
}

std::filesystem::path journal_path_of(const std::filesystem::path& arena) {
  std::error_code unseen;
  std::filesystem::path path =
      std::filesystem::is_symlink(arena, unseen) ? std::filesystem::canonical(arena, unseen) : arena;
  path += "-journal";
  return path;
}

std::unique_ptr<byte_source> open_journal(const std::filesystem::path& arena) {
  try {
    return open_file(journal_path_of(arena));
  } catch (const error& e) {
    if (e.code() == errc::not_found) return nullptr;
    return std::make_unique<unreadable_source>(e);
  }
}

void byte_patches::store(std::uint64_t offset, std::span<const std::byte> bytes) {
  const std::uint64_t end = offset + bytes.size();
  auto at = patches_.lower_bound(offset);
  if (at != patches_.end() && at->first == offset && at->second.size() == bytes.size()) {
    std::copy(bytes.begin(), bytes.end(), at->second.begin());
    return;
  }
  if (at != patches_.begin()) {
    const auto before = std::prev(at);
    const std::uint64_t before_end = before->first + before->second.size();
    if (before_end > offset) {  // what lies behind the new one is kept for a moment, by itself
      if (before_end > end)
        at = patches_.emplace_hint(
            at, end,
            std::vector(before->second.end() - static_cast<std::ptrdiff_t>(before_end - end), before->second.end()));
      before->second.resize(static_cast<std::size_t>(offset - before->first));
    }
  }
  while (at != patches_.end() && at->first < end) {
    const std::uint64_t its_end = at->first + at->second.size();
    if (its_end > end) {
      patches_.emplace(end,
                       std::vector(at->second.end() - static_cast<std::ptrdiff_t>(its_end - end), at->second.end()));
    }
    at = patches_.erase(at);
  }
  patches_.emplace(offset, std::vector(bytes.begin(), bytes.end()));
}

void byte_patches::apply(std::uint64_t offset, std::span<std::byte> out) const {
  const std::uint64_t end = offset + out.size();
  auto at = patches_.upper_bound(offset);
  if (at != patches_.begin()) --at;
  for (; at != patches_.end() && at->first < end; ++at) {
    const std::uint64_t first = std::max(at->first, offset);
    const std::uint64_t behind = std::min<std::uint64_t>(at->first + at->second.size(), end);
    if (first >= behind) continue;
    std::memcpy(out.data() + (first - offset), at->second.data() + (first - at->first), behind - first);
  }
}

std::uint64_t byte_patches::next(std::uint64_t offset) const {
  const auto at = patches_.upper_bound(offset);
  if (at != patches_.begin()) {
    const auto before = std::prev(at);
    if (before->first + before->second.size() > offset) return offset;
  }
  return at == patches_.end() ? std::numeric_limits<std::uint64_t>::max() : at->first;
}

std::size_t overlay_source::read(std::uint64_t offset, std::span<std::byte> out) const {
  if (offset >= size_bytes_) return 0;
  out = out.first(static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), size_bytes_ - offset)));
  const std::size_t got = arena_->read(offset, out);
  std::fill(out.begin() + static_cast<std::ptrdiff_t>(got), out.end(), std::byte{0});
  patches_.apply(offset, out);
  return out.size();
}

std::uint64_t overlay_source::next_data(std::uint64_t offset) const {
  if (offset >= size_bytes_) return size_bytes_;
  const std::uint64_t in_arena = arena_->next_data(offset);
  // Where the arena ends there is no data of its own.
  const std::uint64_t data = in_arena >= arena_->size_bytes() ? size_bytes_ : in_arena;
  return std::min({data, patches_.next(offset), size_bytes_});
}

journal_reading read_journal(const byte_source& arena, const byte_source* journal, const std::filesystem::path& path,
                             const arena_header& layout, const std::optional<control_block>& control) {
  journal_reading result;
  journal_state& state = result.state;
  state.path = path;
  result.size_bytes = arena.size_bytes();
  if (control) state.arena_commit = state.shown_commit = state.vouched_commit = control->durable_commit;
  if (journal == nullptr) {
    if (control && !journal_rules::was_closed(*control)) {
      state.condition = journal_condition::missing;
      state.shown_commit = 0;
      state.reason = journal_rules::missing(path.filename().string());
      state.findings.push_back({"journal-missing", severity::error, std::nullopt, std::nullopt, state.reason});
    }
    return result;
  }
  state.is_there = true;
  state.size_bytes = journal->size_bytes();
  state.allocated_bytes = journal->allocated_bytes();
  state.vouched_commit = 0;
  state.shown_commit = control && journal_rules::was_closed(*control) ? control->durable_commit : 0;
  try {
    reading(arena, *journal, layout, control, result).run();
  } catch (const error& e) {
    result.patches.clear();
    result.size_bytes = arena.size_bytes();
    state.is_applied = false;
    state.condition = journal_condition::unusable;
    state.reason = "its journal (" + path.filename().string() + ") cannot be read: " + e.code().message();
    state.findings.push_back({"journal-unreadable", severity::error, std::nullopt, std::nullopt, state.reason});
  }
  return result;
}

}  // namespace dm::inspect
