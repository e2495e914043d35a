#include "deferred_map/format/journal_rules.hpp"

#include <utility>

namespace dm::journal_rules {

generations judge(const journal_header_result& even, const journal_header_result& odd) {
  generations found;
  // A format that is not known says more than damage does.
  found.reason = even.reason;
  if (odd.reason && (!found.reason || found.reason->code != errc::newer_format)) found.reason = odd.reason;
  found.older = even.value;
  found.current = odd.value;
  if (!found.older && !found.current && !found.reason) found.reason = fault{errc::damaged, "it has no header"};
  if (found.older && found.current && found.older->generation > found.current->generation)
    std::swap(found.older, found.current);
  if (!found.current) std::swap(found.older, found.current);
  found.follow_each_other = !found.older || found.older->generation + 1 == found.current->generation;
  return found;
}

bool was_closed(const control_block& in_file) noexcept {
  return in_file.synced != 0 && in_file.synced == in_file.checksum();
}

bool follows(const journal_header& younger, const journal_cursor& older) noexcept {
  return younger.first_commit == older.last_commit() + 1 && younger.seed == older.last_commit_chain();
}

bool is_sound(const journal_range& range, const arena_header& header) noexcept {
  const std::uint64_t end = range.offset + range.size_bytes;
  if (end <= range.offset) return false;
  const auto lies_in = [&](std::uint64_t first, std::uint64_t behind) {
    return range.offset >= first && end <= behind;
  };
  return lies_in(header.control_offset + offsetof(control_block, slot_count),
                 header.control_offset + sizeof(control_block)) ||
         lies_in(header.index_offset, header.index_offset + header.index_size_bytes) ||
         lies_in(header.slots_offset, header.slots_offset + header.slots_max * header.slot_stride_bytes);
}

bool is_credible_room(std::uint64_t slots, std::uint64_t slots_there, const arena_header& header,
                      std::uint64_t arena_bytes, std::uint64_t journal_bytes) noexcept {
  if (slots <= slots_there) return true;
  return slots <= header.slots_max &&
         (slots - slots_there) * header.slot_stride_bytes <= journal_bytes + arena_bytes + growth_believed_bytes;
}

std::string missing(const std::string& name) {
  return "this arena was not closed, and its journal (" + name +
         "), which holds its last commits, is missing. Bring it back, or open it with salvage to keep what can be kept";
}

std::string unusable_header(const std::string& name, const fault& reason, bool arena_was_closed) {
  return "its journal (" + name + ") is damaged: " + reason.message +
         (arena_was_closed ? ". The arena itself was closed and is whole: remove the journal if it is not another's"
                           : ". Bring back the right one, or open it with salvage to keep what can be kept");
}

std::string not_following(const std::string& name) {
  return "its journal (" + name + ") is damaged: its two parts do not follow each other";
}

std::string damaged_behind(const std::string& name, std::uint64_t commit) {
  return "its journal (" + name + ") is damaged behind commit " + std::to_string(commit) +
         ": later ones cannot be read. Restore a copy, or open it with salvage to go back to that commit";
}

std::string of_another_time(const std::string& name, std::uint64_t arena_commit, std::uint64_t first_commit,
                            std::uint64_t last_commit) {
  return "the journal beside it (" + name + ") is of another time than this arena, which is at commit " +
         std::to_string(arena_commit) + ": the journal has commits " + std::to_string(first_commit) + " to " +
         std::to_string(last_commit) +
         ". Bring together what belongs together. If this arena is a copy that you mean to go back to, and it was "
         "closed, remove the journal";
}

std::string changes_what_no_commit_changes(std::uint64_t commit, std::uint64_t offset) {
  return "its journal is damaged: commit " + std::to_string(commit) + " changes byte " + std::to_string(offset) +
         ", where no commit changes anything";
}

std::string incredible_room(std::uint64_t slots, std::uint64_t slots_there) {
  return "this arena is damaged: it says that it has room for " + std::to_string(slots) + " slots, and has room for " +
         std::to_string(slots_there);
}

}  // namespace dm::journal_rules
