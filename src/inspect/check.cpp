// One pass over the versions, with level 0 of the index read alongside, then one over each further level. So
// that the memory it takes does not depend on how many slots there are.
#include "deferred_map/inspect/check.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "deferred_map/container/vacancy_index.hpp"
#include "deferred_map/format/index_layout.hpp"
#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/inspect/slots.hpp"
#include "index_words.hpp"
#include "repair_parts.hpp"

namespace dm::inspect {
namespace {

constexpr std::uint64_t full_word = vacancy_index::full_word;

std::string described(std::uint32_t word) {
  char hex[16];
  std::snprintf(hex, sizeof hex, "0x%08x", word);
  return std::string(hex) + " (" + to_string(version::state(word)) + ", generation " +
         std::to_string(version::generation(word)) + ")";
}

class slot_check {
 public:
  slot_check(const arena_file& arena, check_report& report)
      : arena_(arena),
        control_(*arena.control()),
        report_(report),
        found_(report.findings),
        levels_(arena.layout().slots_max),
        between_(arena.mends_when_opened() ? severity::note : severity::error),
        is_shared_(arena.layout().kind == static_cast<std::uint32_t>(arena_kind::shared)),
        // Where the file ends before its slots, its index is not whole, and saying so once is enough.
        has_index_(arena.size_bytes() >= arena.layout().slots_offset) {}

  void run(const check_options& options) {
    progress_ = &options.progress;
    if (is_shared_)
      attachments();
    else if (has_index_)
      read_buffer();
    slots();
    counts();
    leftover_slots();
    // Not for slots that the file does not have, by its end or by its holes: those alone can be four billion.
    if (has_index_ && !is_shared_ && !has_holes_ && arena_.slot_count() == control_.slot_count) summaries();
    for (const byte_range& range : unreadable_)
      found_.add("unreadable", severity::error, range.offset, std::nullopt,
                 [&] { return std::to_string(range.size_bytes) + " bytes cannot be read from the medium"; });
  }

 private:
  std::uint64_t index_offset(std::uint32_t level) const {
    return arena_.layout().index_offset + levels_.offset[level] * sizeof(std::uint64_t);
  }
  index_words level_words(std::uint32_t level) {
    return {arena_.bytes(), index_offset(level), levels_.words[level], unreadable_};
  }

  bool is_in_buffer(std::uint32_t index) const {
    return std::binary_search(buffer_.begin(), buffer_.begin() + buffer_count_, index);
  }

  /// The version as it is now: what was read ahead may be of a moment that is gone.
  std::optional<std::uint32_t> version_now(std::uint32_t index) const {
    slot_scan scan(arena_, index, std::uint64_t{index} + 1, slot_parts::versions);
    const slot_view* slot = scan.next();
    if (slot == nullptr || !slot->readable) return std::nullopt;
    return slot->version;
  }

  void read_buffer() {
    const std::uint32_t count = std::min(control_.buffer_count, vacancy_index::buffer_limit_max);
    const auto entry_offset = [&](std::uint32_t entry) {
      return arena_.layout().control_offset + offsetof(control_block, buffer) + entry * sizeof(std::uint32_t);
    };
    for (std::uint32_t entry = 0; entry < count; ++entry) {
      const std::uint32_t index = control_.buffer[entry];
      if (index >= control_.slot_count) {
        found_.add("buffer-out-of-range", between_, entry_offset(entry), std::nullopt, [&] {
          return "entry " + std::to_string(entry) + " of the vacancy buffer names slot " + std::to_string(index) +
                 ", which does not exist";
        });
        continue;
      }
      buffer_[buffer_count_++] = index;
      const std::optional<std::uint32_t> word = version_now(index);
      if (word && version::state(*word) != slot_state::vacant)
        found_.add("buffer-not-vacant", between_, entry_offset(entry), index, [&] {
          return "entry " + std::to_string(entry) + " of the vacancy buffer names a slot that is " +
                 to_string(version::state(*word));
        });
    }
    const auto end = buffer_.begin() + buffer_count_;
    std::sort(buffer_.begin(), end);
    for (auto twice = std::adjacent_find(buffer_.begin(), end); twice != end;) {
      const std::uint32_t index = *twice;
      found_.add("buffer-duplicate", between_, entry_offset(0), index,
                 [&] { return std::string("the vacancy buffer names the slot more than once"); });
      twice = std::adjacent_find(std::upper_bound(twice, end, index), end);
    }
  }

  void slots() {
    index_words taken = level_words(0);
    const arena_header& layout = arena_.layout();
    const std::uint32_t count = arena_.slot_count();
    const std::uint64_t at_once = std::max<std::uint64_t>((std::uint64_t{1} << 20) / layout.slot_stride_bytes, 1);
    for (std::uint64_t first = 0; first < count;) {
      // In a hole all versions are zero. There may be terabytes of that in a file of a few pages.
      const std::uint64_t data = std::min(arena_.bytes().next_data(arena_.offset_of_slot(first)), arena_.size_bytes());
      const std::uint64_t made =
          data > arena_.offset_of_slot(first)
              ? std::min<std::uint64_t>((data - layout.slots_offset) / layout.slot_stride_bytes, count)
              : first;
      if (*progress_) (*progress_)(first, count);
      if (made > first + 1) {
        if (is_shared_)
          fresh_slots(first, made, taken);
        else
          slots_never_made(first, made);
        first = made;
        continue;
      }
      const std::uint64_t until = std::min<std::uint64_t>(first + at_once, count);
      slot_scan scan(arena_, first, until, slot_parts::versions);
      while (const slot_view* slot = scan.next()) {
        if (!slot->readable) continue;
        ++report_.slots_examined;
        const std::uint64_t word = has_index_ ? taken.at(slot->index / 64) : full_word;
        one_slot(*slot, word >> (slot->index % 64) & 1, taken);
        const std::uint64_t behind = std::uint64_t{slot->index} + 1;
        occupied_slots(behind, scan.pass_over_occupied(64 - behind % 64), taken);
      }
      unreadable_.insert(unreadable_.end(), scan.unreadable().begin(), scan.unreadable().end());
      first = until;
    }
    if (has_index_ && count % 64 != 0 && count == control_.slot_count) {
      const std::uint64_t last = taken.at(count / 64);
      if (last >> (count % 64) != full_word >> (count % 64))
        found_.add("index-behind-last", between_, taken.offset_of(count / 64), std::nullopt,
                   [] { return std::string("the bitmap marks slots behind the last one vacant"); });
    }
  }

  /// Slots of one word of the bitmap that have a value, of which there is nothing to say but that it should say so too.
  void occupied_slots(std::uint64_t first, std::uint64_t count, index_words& taken) {
    if (count == 0) return;
    report_.slots_examined += count;
    report_.occupied += count;
    if (!has_index_) return;
    const std::uint64_t untaken = ~taken.at(first / 64) >> (first % 64) & full_word >> (64 - count);
    for (std::uint64_t rest = untaken; rest != 0; rest &= rest - 1)
      taken_as_vacant(first + static_cast<unsigned>(std::countr_zero(rest)), slot_state::occupied, taken);
  }

  void taken_as_vacant(std::uint64_t slot, slot_state state, const index_words& taken) {
    found_.add("index-taken-as-vacant", between_, taken.offset_of(slot / 64), static_cast<std::uint32_t>(slot),
               [&] { return std::string("the bitmap marks a slot vacant that is ") + to_string(state); });
  }

  void slots_never_made(std::uint64_t first, std::uint64_t end) {
    has_holes_ = true;
    const std::uint64_t count = end - first;
    report_.slots_examined += count;
    report_.vacant += count;
    found_.add(
        "slot-never-made", between_, arena_.offset_of_slot(first), static_cast<std::uint32_t>(first),
        [&] {
          return "this slot and those behind it, " + std::to_string(count) +
                 " of them, count, and are a hole in the file: they were never given a generation";
        },
        count);
  }

  /// Of a shared map, slots that nobody has had yet are all zeros, and there.
  void fresh_slots(std::uint64_t first, std::uint64_t end, index_words& taken) {
    report_.slots_examined += end - first;
    report_.vacant += end - first;
    if (!has_index_) return;
    for (std::uint64_t slot = first; slot < end; slot = (slot / 64 + 1) * 64) {
      const std::uint64_t until = std::min(end, (slot / 64 + 1) * 64) - slot;
      const std::uint64_t word = taken.at(slot / 64) >> (slot % 64);
      if ((until == 64 ? word : word & ((std::uint64_t{1} << until) - 1)) != 0)
        found_.add("index-not-listed", between_, taken.offset_of(slot / 64), static_cast<std::uint32_t>(slot),
                   [] { return std::string("the bitmap marks slots taken that were never used"); });
    }
  }

  /// Who is attached, or was: in a file that was closed, nobody.
  void attachments() {
    for (std::uint64_t entry = 0; entry < shared_layout::attachments; ++entry) {
      const std::uint64_t offset = arena_.layout().scratch_offset + entry * shared_layout::attachment_bytes;
      std::uint32_t state = 0;
      read_around_errors(arena_.bytes(), offset, std::as_writable_bytes(std::span(&state, 1)), unreadable_);
      if (state != 0)
        found_.add("attachment-left", between_ == severity::note ? severity::note : severity::warning, offset,
                   std::nullopt, [&] {
                     return "entry " + std::to_string(entry) +
                            " of the table of attachments is in use, and the next to open the file clears it";
                   });
    }
  }

  /// The half of a shared slot's word that is no version, and whom the slot belongs to.
  void shared_word(const slot_view& slot, std::uint32_t word, slot_state state) {
    const std::uint64_t offset = arena_.offset_of_slot(slot.index);
    const bool is_vacant = state == slot_state::vacant || state == slot_state::retired;
    const bool has_owner = state == slot_state::reserved || state == slot_state::updating;
    const bool nobodys = state == slot_state::reserved && (slot.auxiliary & 0xffffu) >= shared_layout::attachments;
    if ((is_vacant && slot.auxiliary != 0) || nobodys)
      found_.add("word-impossible", arena_.left() == left_state::open ? severity::note : severity::error, offset,
                 slot.index, [&] {
                   return "the slot's version is " + described(word) + ", and the other half of its word " +
                          std::to_string(slot.auxiliary) + " does not fit that";
                 });
    else if (has_owner)
      found_.add("slot-owned", between_, offset, slot.index, [&] {
        return std::string("the slot is ") + to_string(state) +
               (between_ == severity::note ? ", by a process that is attached, or was when it died"
                                           : ", and nobody is attached");
      });
  }

  void one_slot(const slot_view& slot, bool is_taken, const index_words& taken) {
    const std::uint64_t offset = arena_.offset_of_slot(slot.index);
    std::uint32_t word = slot.version;
    if (!is_possible_version(arena_, word) && arena_.left() == left_state::open && !arena_.is_durable())
      word = version_now(slot.index).value_or(word);
    if (!is_possible_version(arena_, word)) {
      ++report_.impossible;
      found_.add("version-impossible", severity::error, offset, slot.index,
                 [&] { return "version " + described(word) + " is one that no operation leaves"; });
      return;
    }
    if (word == 0 && !is_shared_)
      found_.add("slot-never-made", between_, offset, slot.index,
                 [] { return std::string("the slot counts, and was never given a generation"); });
    const slot_state state = version::state(word);
    switch (state) {
      case slot_state::occupied:
      case slot_state::updating:
        ++report_.occupied;
        break;
      case slot_state::reserved:
        ++report_.reserved;
        break;
      case slot_state::vacant:
        ++report_.vacant;
        break;
      case slot_state::retired:
        ++report_.retired;
        break;
    }
    if (is_shared_) shared_word(slot, word, state);
    if (!has_index_) return;
    const std::uint64_t word_offset = taken.offset_of(slot.index / 64);
    if (state != slot_state::vacant) {
      if (!is_taken) taken_as_vacant(slot.index, state, taken);
    } else if (const bool in_buffer = is_in_buffer(slot.index); in_buffer && !is_taken) {
      found_.add("index-listed-twice", between_, word_offset, slot.index, [] {
        return std::string("the slot is in the vacancy buffer and marked vacant in the bitmap as well");
      });
    } else if (!in_buffer && is_taken) {
      found_.add("index-not-listed", between_, word_offset, slot.index, [] {
        return std::string(
            "the slot is vacant, and neither the vacancy buffer nor the bitmap says so: it would never "
            "be used again");
      });
    }
  }

  void counts() {
    if (is_shared_) return;                                     // keeps no counts
    if (report_.slots_examined != control_.slot_count) return;  // those that were not seen may be anything
    const auto one = [&](std::string_view rule, const char* name, std::uint32_t said, std::uint64_t is,
                         std::size_t offset) {
      if (said != is)
        found_.add(rule, between_, arena_.layout().control_offset + offset, std::nullopt, [&] {
          return std::to_string(is) + (is == 1 ? " slot is " : " slots are ") + name + ", and the count says " +
                 std::to_string(said);
        });
    };
    one("count-occupied", "occupied", control_.occupied, report_.occupied, offsetof(control_block, occupied));
    one("count-reserved", "reserved", control_.reserved, report_.reserved, offsetof(control_block, reserved));
    one("count-vacant", "vacant", control_.vacant, report_.vacant, offsetof(control_block, vacant));
    one("count-retired", "retired", control_.retired, report_.retired, offsetof(control_block, retired));
  }

  /// Behind the last slot lie zeros, or what shrinking left: vacant slots of generations up to the floor.
  void leftover_slots() {
    const arena_header& layout = arena_.layout();
    const std::uint64_t end = arena_.slots_in_file();
    const std::uint32_t floor = std::max(control_.generation_floor, version::first_generation);
    const std::uint64_t at_once = std::max<std::uint64_t>((std::uint64_t{1} << 20) / layout.slot_stride_bytes, 1);
    for (std::uint64_t first = control_.slot_count; first < end;) {
      // Room that was allocated ahead has never been written, and need not be read.
      const std::uint64_t data = arena_.bytes().next_data(arena_.offset_of_slot(first));
      if (data > arena_.offset_of_slot(first))
        first = std::max(first, (data - layout.slots_offset) / layout.slot_stride_bytes);
      if (first >= end) break;
      const std::uint64_t until = std::min(first + at_once, end);
      slot_scan scan(arena_, first, until, slot_parts::versions);
      while (const slot_view* slot = scan.next()) leftover_slot(*slot, floor);
      unreadable_.insert(unreadable_.end(), scan.unreadable().begin(), scan.unreadable().end());
      first = until;
    }
  }

  void leftover_slot(const slot_view& slot, std::uint32_t floor) {
    if (version::is_vacant(slot.version) && slot.generation() <= floor) return;
    const bool is_vacant = version::is_vacant(slot.version);
    const severity level = between_ == severity::note ? severity::note
                           : is_vacant                ? severity::warning
                                                      : severity::error;
    found_.add("leftover-slot", level, arena_.offset_of_slot(slot.index), slot.index, [&] {
      return "behind the last slot lies one with version " + described(slot.version) +
             (is_vacant ? ", past the generation floor" : ", which shrinking never leaves");
    });
  }

  void summaries() {
    std::uint64_t words_below = (std::min<std::uint64_t>(control_.slot_count, arena_.layout().slots_max) + 63) / 64;
    for (std::uint32_t level = 1; level < levels_.levels; ++level) {
      index_words below = level_words(level - 1);
      index_words summary = level_words(level);
      for (std::uint64_t word = 0; word < words_below; ++word) {
        const bool has_vacancy = level == 1 ? below.at(word) != full_word : below.at(word) != 0;
        const bool said = summary.at(word / 64) >> (word % 64) & 1;
        if (said == has_vacancy) continue;
        found_.add("index-summary", between_, summary.offset_of(word / 64), std::nullopt, [&] {
          return "level " + std::to_string(level) + " of the index says that word " + std::to_string(word) +
                 " of the level below has " + (said ? "something" : "nothing") + " to take, and it has " +
                 (said ? "nothing" : "something");
        });
      }
      if (words_below % 64 != 0 && summary.at(words_below / 64) >> (words_below % 64) != 0)
        found_.add("index-summary", between_, summary.offset_of(words_below / 64), std::nullopt, [&] {
          return "level " + std::to_string(level) + " of the index has bits for words behind the last slot";
        });
      words_below = std::max<std::uint64_t>((words_below + 63) / 64, 1);
    }
  }

  const arena_file& arena_;
  const control_block& control_;
  check_report& report_;
  finding_list& found_;
  index_levels levels_;
  severity between_;
  bool is_shared_;
  bool has_index_;
  bool has_holes_ = false;                                               // of slots that count
  std::array<std::uint32_t, vacancy_index::buffer_limit_max> buffer_{};  // sorted, those in range
  std::uint32_t buffer_count_ = 0;
  std::vector<byte_range> unreadable_;
  const std::function<void(std::uint64_t, std::uint64_t)>* progress_ = nullptr;
};

}  // namespace

check_report check(const arena_file& arena, const check_options& options) {
  check_report report;
  report.findings = finding_list(options.listed_per_rule_max);
  report.findings.append(arena.findings());
  if (arena.has_layout() && arena.control()) {
    slot_check(arena, report).run(options);
    report.is_complete = report.slots_examined == arena.control()->slot_count;
  }
  const repair_judge judge(arena);
  report.findings.mark_repairable([&](const finding& found) { return judge.is_repairable(found); });
  return report;
}

}  // namespace dm::inspect
