#include "deferred_map/inspect/owners.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <span>

#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/inspect/slots.hpp"

namespace dm::inspect {
namespace {

using shared_layout::attachment_record;
using attachment_table = std::array<attachment_record, shared_layout::attachments>;

constexpr std::size_t nobodys_listed_max = 20;

template <std::size_t Size>
std::string text_of(const char (&padded)[Size]) {
  return {padded, ::strnlen(padded, Size)};
}

bool is_shared(const arena_file& arena) {
  return arena.layout().kind == static_cast<std::uint32_t>(arena_kind::shared);
}

std::optional<attachment_table> read_table(const arena_file& arena) {
  attachment_table table;
  try {
    const auto bytes = std::as_writable_bytes(std::span(table));
    if (arena.bytes().read(arena.layout().scratch_offset, bytes) == bytes.size()) return table;
  } catch (const std::system_error&) {
  }
  return std::nullopt;
}

/// Which entry of the table a slot names; nothing where it names none.
std::optional<std::uint32_t> named_by(const slot_view& slot) {
  if (!slot.readable || !slot.possible) return std::nullopt;
  switch (slot.state()) {
    case slot_state::reserved:
      return slot.auxiliary & shared_layout::owner_mask;
    case slot_state::updating:
      return slot.auxiliary % (shared_layout::attachments * shared_layout::leases_per_attachment) /
             shared_layout::leases_per_attachment;
    default:
      return std::nullopt;
  }
}

class table_reader {
 public:
  table_reader(const arena_file& arena, owner_report& report) : arena_(arena), report_(report) {}

  bool read_owners() {
    const auto table = read_table(arena_);
    if (!table) return false;
    before_ = *table;
    for (std::uint32_t i = 0; i < table->size(); ++i) {
      const attachment_record& entry = (*table)[i];
      // A free one still says who had it last.
      report_.last_opened_unix_ns = std::max(report_.last_opened_unix_ns, entry.attached_unix_ns);
      if (entry.state == attachment_record::free) continue;
      owner found;
      found.id = i;
      found.pid = entry.pid;
      found.program = text_of(entry.program);
      found.since_unix_ns = entry.attached_unix_ns;
      const std::optional<bool> lives = arena_.bytes().is_locked(shared_layout::lock_byte::life_of(i), 1);
      found.state = !lives ? owner_state::unknown : *lives ? owner_state::alive : owner_state::dead;
      report_.owners.push_back(std::move(found));
    }
    forget_who_left();
    return true;
  }

  void count_slots() {
    slot_scan scan(arena_, {}, slot_parts::versions);
    std::vector<std::uint32_t> unowned;
    std::uint64_t more = 0;
    while (const slot_view* slot = scan.next()) {
      const auto id = named_by(*slot);
      if (!id) continue;
      owner* const of = find(*id);
      if (of == nullptr) {
        if (unowned.size() < 1000)
          unowned.push_back(slot->index);
        else
          ++more;
      } else if (slot->state() == slot_state::updating) {
        ++of->updating;
      } else if ((slot->auxiliary & shared_layout::cached_flag) != 0) {
        ++of->cached;
      } else {
        ++of->reserved;
      }
    }
    if (!unowned.empty()) look_again(unowned, more);
  }

 private:
  /// Who lets go frees its entry first and then drops its lock: whoever seemed dead and has no entry any more was not.
  void forget_who_left() {
    if (report_.count(owner_state::dead) == 0) return;
    const auto now = read_table(arena_);
    if (!now) return;
    std::erase_if(report_.owners, [&](const owner& each) {
      const attachment_record& entry = (*now)[each.id];
      return each.state == owner_state::dead &&
             (entry.state == attachment_record::free || entry.attached_unix_ns != each.since_unix_ns);
    });
  }

  owner* find(std::uint32_t id) {
    const auto at =
        std::find_if(report_.owners.begin(), report_.owners.end(), [id](const owner& each) { return each.id == id; });
    return at == report_.owners.end() ? nullptr : &*at;
  }

  /// Somebody may have come and gone since the table was read. What names an entry that is free now, as it was before, and
  /// not locked by who is just taking it, is nobody's.
  void look_again(const std::vector<std::uint32_t>& slots, std::uint64_t more) {
    const auto now = read_table(arena_);
    if (!now) return;
    for (const std::uint32_t index : slots) {
      slot_scan scan(arena_, index, std::uint64_t{index} + 1, slot_parts::versions);
      const slot_view* const slot = scan.next();
      const auto id = slot == nullptr ? std::nullopt : named_by(*slot);
      if (!id) continue;
      if (*id < now->size()) {
        const attachment_record& entry = (*now)[*id];
        if (entry.state != attachment_record::free || entry.attached_unix_ns != before_[*id].attached_unix_ns) continue;
        if (arena_.bytes().is_locked(shared_layout::lock_byte::life_of(*id), 1).value_or(true)) continue;
      }
      if (report_.nobodys.size() < nobodys_listed_max) report_.nobodys.push_back(index);
      ++report_.nobodys_total;
    }
    if (report_.nobodys_total == slots.size()) report_.nobodys_total += more;
  }

  const arena_file& arena_;
  owner_report& report_;
  attachment_table before_;
};

owner_state state_of_only_owner(left_state left) {
  switch (left) {
    case left_state::open:
      return owner_state::alive;
    case left_state::killed:
    case left_state::machine_stopped:
      return owner_state::dead;
    case left_state::closed:
      return owner_state::closed;
    case left_state::unknown:
      break;
  }
  return owner_state::unknown;
}

/// Of a file that one process uses at a time: all that is reserved is that one's.
void read_only_owner(const arena_file& arena, owned_slots slots, owner_report& report) {
  const control_block& control = *arena.control();
  if (control.opened_unix_ns == 0) return;
  owner found;
  found.pid = control.owner_pid;
  found.program = text_of(control.owner_program);
  found.since_unix_ns = control.opened_unix_ns;
  found.state = state_of_only_owner(arena.left());
  found.updating = control.update_pending;
  if (slots == owned_slots::counted) {
    slot_filter reserved;
    reserved.states = slot_filter::bit(slot_state::reserved);
    slot_scan scan(arena, reserved, slot_parts::versions);
    while (scan.next() != nullptr) ++found.reserved;
  }
  report.owners.push_back(std::move(found));
}

}  // namespace

const char* to_string(owner_state state) noexcept {
  switch (state) {
    case owner_state::alive:
      return "alive";
    case owner_state::dead:
      return "dead";
    case owner_state::closed:
      return "closed";
    case owner_state::unknown:
      return "unknown";
  }
  return "unknown";
}

std::size_t owner_report::count(owner_state state) const noexcept {
  return static_cast<std::size_t>(
      std::count_if(owners.begin(), owners.end(), [state](const owner& each) { return each.state == state; }));
}

owner_report find_owners(const arena_file& arena, owned_slots slots) {
  owner_report report;
  report.last_opened_unix_ns = arena.control()->opened_unix_ns;
  if (!is_shared(arena)) {
    read_only_owner(arena, slots, report);
    return report;
  }
  table_reader reader(arena, report);
  report.table_is_readable = reader.read_owners();
  if (report.table_is_readable && slots == owned_slots::counted) reader.count_slots();
  return report;
}

}  // namespace dm::inspect
