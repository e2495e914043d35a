#include "deferred_map/inspect/summary.hpp"

#include <cstring>

#include "deferred_map/format/value_text.hpp"

namespace dm::inspect {
namespace {

template <std::size_t Size>
std::string text_of(const char (&padded)[Size]) {
  return escaped({padded, ::strnlen(padded, Size)});
}

std::string owner_of(const summary& s) {
  if (s.owner_pid == 0) return "its user";
  return "process " + std::to_string(s.owner_pid) + (s.owner_program.empty() ? "" : " (" + s.owner_program + ")");
}

std::string durable_sentence(const arena_file& arena, const std::string& why) {
  const std::optional<journal_state>& journal = arena.journal();
  if (!journal) return "left open: " + why + "; what it is at stands in its journal";
  if (journal->condition != journal_condition::whole)
    return "left open: " + why + "; opening it is refused: see the journal";
  return "left open: " + why + "; the next to open it replays " + std::to_string(journal->commits_to_replay) +
         (journal->commits_to_replay == 1 ? " commit" : " commits") + " of its journal";
}

std::string sentence(const arena_file& arena, const summary& s) {
  const std::string holders = s.locks.holders.empty() ? "a process that cannot be seen from here" : s.locks.holders;
  switch (s.left) {
    case left_state::open:
      return "open for writing by " + holders;
    case left_state::closed: {
      std::string text = s.opened_unix_ns == 0 ? "closed, never opened again since it was made" : "closed";
      if (!s.is_synced) text += "; not synced, so good until the machine stops";
      return text + (s.locks.held == lock_state::mode::reading ? "; being read by " + holders : "");
    }
    case left_state::killed:
      if (arena.is_durable())
        return durable_sentence(arena, owner_of(s) + " was killed, or this is a copy made while it ran");
      return "left open: " + owner_of(s) + " was killed, or this is a copy made while it ran; " +
             (arena.mends_when_opened() ? "the next to open it mends it" : "nothing was under way");
    case left_state::machine_stopped:
      if (arena.is_durable())
        return durable_sentence(arena, "the machine stopped while " + owner_of(s) + " had it open");
      return "the machine stopped while " + owner_of(s) + " had it open; opening it needs salvage";
    case left_state::unknown:
      break;
  }
  return "cannot be told";
}

}  // namespace

std::string uuid_text(const std::array<std::uint8_t, 16>& uuid) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits[uuid[i] >> 4];
    text += digits[uuid[i] & 0xf];
  }
  return text;
}

summary summarize(const arena_file& arena) {
  const arena_header& header = arena.header();
  summary s;
  s.path = escaped(arena.path().string());
  s.kind = to_string(static_cast<arena_kind>(header.kind));
  s.format_version = header.format_version;
  s.uuid = uuid_text(header.uuid);
  s.created_unix_ns = header.created_unix_ns;
  s.compatible_features = header.compatible_features;
  s.incompatible_features = header.incompatible_features;
  s.type_name = escaped(arena.type_name());
  s.type_version = header.schema_version;
  s.value_size_bytes = header.value_size_bytes;
  s.value_align_bytes = header.value_align_bytes;
  s.slot_stride_bytes = header.slot_stride_bytes;
  s.slots_max = header.slots_max;
  if (const auto& control = arena.control()) {
    s.has_control = true;
    s.capacity = control->capacity;
    s.slot_count = control->slot_count;
    s.has_counts = header.kind != static_cast<std::uint32_t>(arena_kind::shared);
    s.occupied = control->occupied;
    s.reserved = control->reserved;
    s.vacant = control->vacant;
    s.retired = control->retired;
    s.generation_floor = control->generation_floor;
    s.opened_unix_ns = control->opened_unix_ns;
    s.owner_pid = control->owner_pid;
    s.owner_program = text_of(control->owner_program);
    s.is_synced = control->synced != 0 && control->synced == control->checksum();
    s.last_recovery = control->last_recovery;
    s.last_recovery_program = text_of(control->last_recovery.killed_program);
  }
  s.file_size_bytes = arena.size_bytes();
  s.allocated_bytes = arena.bytes().allocated_bytes();
  s.left = arena.left();
  s.locks = arena.locks();
  s.locks.holders = escaped(s.locks.holders);
  s.left_text = sentence(arena, s);
  s.is_damaged = arena.head_is_damaged();
  s.journal = arena.journal();
  return s;
}

}  // namespace dm::inspect
