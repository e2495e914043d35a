// First how many slots there are, then the slots as they are, then one pass that settles each and writes the index.
#include "mended_copy.hpp"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "../arena/arena_parts.hpp"
#include "deferred_map/container/version.hpp"
#include "deferred_map/format/journal_rules.hpp"
#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/inspect/slots.hpp"
#include "settle_slots.hpp"

namespace dm::inspect {
namespace {

constexpr std::size_t chunk_bytes = std::size_t{1} << 20;
// Slots and room that are a hole in the file are made only if they are no more: a damaged count can say four billion.
constexpr std::uint64_t hole_bytes_max = std::uint64_t{256} << 20;

std::uint32_t vacant_after(std::uint32_t generation) noexcept {
  return version::vacant(generation >= version::last_generation ? version::retired_generation : generation + 1);
}

bool is_durable(const arena_header& header) noexcept {
  return header.kind == static_cast<std::uint32_t>(arena_kind::durable);
}

/// Whether parts of it may be older than others, so that counts and index say nothing.
bool is_of_several_moments(const arena_file& arena) {
  if (!is_durable(arena.layout())) return arena.left() == left_state::machine_stopped;
  // With all commits of its journal, and only then, it is exactly the last; or alone, where it was closed.
  const auto& journal = arena.journal();
  if (journal && journal->condition == journal_condition::whole && journal->is_applied) return false;
  return !arena.control() || !journal_rules::was_closed(*arena.control());
}

class mended_copy {
 public:
  mended_copy(const arena_file& arena, const posix::file& out,
              const std::function<void(std::uint64_t, std::uint64_t)>& progress)
      : arena_(arena),
        header_(arena.layout()),
        out_(out),
        progress_(progress),
        shared_(is_shared(header_)),
        of_several_moments_(is_of_several_moments(arena)) {
    if (arena.control()) control_ = *arena.control();
    // A mark that fits vouches for every count.
    const std::uint64_t checksum = control_.checksum();
    is_vouched_for_ = arena.control() && !of_several_moments_ &&
                      (control_.closed == checksum || (control_.closed == 0 && control_.synced == checksum));
  }

  std::uint64_t run() {
    in_file_ =
        arena_.size_bytes() <= header_.slots_offset
            ? 0
            : std::min((arena_.size_bytes() - header_.slots_offset) / header_.slot_stride_bytes, header_.slots_max);
    count_slots();
    copy_head();
    copy_slots();
    out_.allocate(0, shared_ ? header_.scratch_offset + shared_layout::table_bytes : header_.index_offset);
    allocate_slots(out_, header_, 0, capacity_);
    const settled_counts counts =
        settle_slots(out_, header_, count_, capacity_, [this](std::uint32_t slot, std::uint64_t& word) {
          word = shared_ ? settled_shared(slot, word) : settled(slot, static_cast<std::uint32_t>(word));
        });
    finish_update();
    write_control(counts);
    out_.sync();
    return lost_;
  }

 private:
  // How many slots --------------------------------------------------------------------------------------------------

  /// Calls `visit` for the slots in [first, end) that are not in a hole.
  template <class Visit>
  void slots_with_data(std::uint64_t first, std::uint64_t end, Visit visit) {
    const std::uint64_t at_once = std::max<std::uint64_t>(chunk_bytes / header_.slot_stride_bytes, 1);
    while (first < end) {
      const std::uint64_t data = arena_.bytes().next_data(arena_.offset_of_slot(first));
      if (data > arena_.offset_of_slot(first))
        first = std::max(first, (data - header_.slots_offset) / header_.slot_stride_bytes);
      if (first >= end) return;
      const std::uint64_t until = std::min(first + at_once, end);
      slot_scan scan(arena_, first, until, slot_parts::versions);
      while (const slot_view* slot = scan.next()) visit(*slot);
      first = until;
    }
  }

  void count_slots() {
    const std::uint64_t said = said_slots();
    count_ = std::min(said, in_file_);
    lost_ = said - count_;
    std::uint32_t newest = version::first_generation;  // of those behind the last, and of all where it matters
    std::uint64_t last_in_use = 0;                     // what was given back is in the floor, where there is one
    slots_with_data(count_, in_file_, [&](const slot_view& slot) {
      if (!slot.readable || slot.version == 0) return;
      const bool is_vacant = version::is_vacant(slot.version);
      if (!is_vacant || shared_) last_in_use = std::uint64_t{slot.index} + 1;
      newest = std::max(newest, std::min(slot.generation() + (is_vacant ? 0 : 1), version::last_generation));
    });
    // A count that nothing vouches for is less true than a slot that was used.
    if (!is_vouched_for_) count_ = std::max(count_, last_in_use);
    const bool are_forgotten = forget_holes();
    if (shared_) {
      // In whole words of the bitmap, up to the end there can be.
      count_ = std::min((count_ + 63) / 64 * 64, header_.slots_max);
      capacity_ = count_;
      return;
    }
    // As the counts: by a mark, or by the order of a killed process's stores.
    const bool was_killed = arena_.control() && !of_several_moments_ && (control_.closed | control_.synced) == 0;
    const bool floor_is_known = (is_vouched_for_ || was_killed) && lost_ == 0 && !are_forgotten &&
                                control_.generation_floor <= version::last_generation;
    if (!floor_is_known) newest = std::max(newest, unheard_of());
    floor_ = std::max(floor_is_known ? control_.generation_floor : 0, newest > version::first_generation ? newest : 0);
    capacity_ = std::max(count_, is_vouched_for_ || control_.capacity <= in_file_
                                     ? std::min<std::uint64_t>(control_.capacity, in_file_)
                                     : count_);
    // Room without blocks is given up, as by opening: a few bytes of a file can say that it is terabytes.
    const std::uint64_t there = arena_.bytes().allocated_bytes();
    const std::uint64_t room_bytes = (capacity_ - count_) * header_.slot_stride_bytes;
    if (room_bytes > there + std::max(there, hole_bytes_max)) capacity_ = count_;
  }

  /// A generation far behind every one that is known, for slots whose own is gone: halfway to the last. The slot that is
  /// vacated last is taken first, so that one may have had many millions of lives more than all others.
  std::uint32_t unheard_of() {
    if (unheard_of_ != 0) return unheard_of_;
    std::uint32_t newest = version::first_generation;
    slots_with_data(0, in_file_, [&](const slot_view& slot) {
      // One that is retired has no next life, and tells nothing of the others.
      if (slot.readable && slot.possible && !version::is_retired(slot.version))
        newest = std::max(newest, slot.generation());
    });
    unheard_of_ = newest + (version::last_generation - newest) / 2;
    return unheard_of_;
  }
  /// What becomes of a version that no operation leaves: as salvage has it, if there is a generation in it at all.
  std::uint32_t instead_of_impossible(std::uint32_t word) {
    const std::uint32_t generation = version::generation(word);
    return generation == 0 ? version::vacant(unheard_of()) : vacant_after(generation);
  }

  std::uint64_t said_slots() {
    if (!arena_.control()) return 0;
    if (!shared_) {
      // A machine that stopped may have left a count of any moment.
      return of_several_moments_
                 ? std::min<std::uint64_t>(control_.slot_count, in_file_)
                 : std::min<std::uint64_t>(control_.slot_count,
                                           is_vouched_for_ ? header_.slots_max : in_file_ + lost_slots_max());
    }
    const bool in_words = control_.shared_slots % 64 == 0 || control_.shared_slots == header_.slots_max;
    const bool in_order = control_.shared_slots <= control_.slot_count && control_.slot_count <= control_.capacity &&
                          control_.capacity <= header_.slots_max;
    if (in_words && in_order && !of_several_moments_) return control_.shared_slots;
    is_vouched_for_ = false;  // by whoever wrote what cannot be
    return 0;
  }
  /// A count that nothing vouches for is believed only where room for as many is said to have been.
  std::uint64_t lost_slots_max() const {
    return control_.slot_count <= control_.capacity && control_.capacity <= header_.slots_max &&
                   control_.capacity > in_file_
               ? control_.capacity - in_file_
               : 0;
  }

  /// Of very many slots of zeros at the end, spares making them. Returns whether there were such.
  bool forget_holes() {
    std::uint64_t last = 0;
    std::uint64_t there = 0;
    slots_with_data(0, count_, [&](const slot_view& slot) {
      ++there;
      if (slot.version != 0 || !slot.readable) last = std::uint64_t{slot.index} + 1;
    });
    const bool are_many = (count_ - last) * header_.slot_stride_bytes > hole_bytes_max;
    if (are_many) count_ = last;
    const std::uint64_t holes = count_ > there ? count_ - there : 0;
    if (holes * header_.slot_stride_bytes > std::max(there * header_.slot_stride_bytes, hole_bytes_max))
      throw error(
          errc::damaged, arena_.path(),
          "most of the " + std::to_string(count_) +
              " slots up to the last are holes without disk blocks, so that it is hardly one of them. Restore a "
              "copy, or export what can be read");
    return are_many;
  }

  // The bytes -------------------------------------------------------------------------------------------------------

  void copy_head() {
    std::vector<std::byte> head(static_cast<std::size_t>(header_.control_offset));
    read_around_errors(arena_.bytes(), 0, head, unreadable_);
    out_.write_all(0, head);
    out_.set_size(std::max(header_.slots_offset, header_.file_size_for(capacity_)));
  }

  void copy_slots() {
    const std::uint64_t end = std::min(arena_.size_bytes(), header_.slots_offset + count_ * header_.slot_stride_bytes);
    std::vector<std::byte> chunk;
    for (std::uint64_t at = header_.slots_offset; at < end;) {
      at = std::max(at, std::min(arena_.bytes().next_data(at) / arena_page_bytes * arena_page_bytes, end));
      if (at >= end) break;
      chunk.resize(static_cast<std::size_t>(std::min<std::uint64_t>(chunk_bytes, end - at)));
      chunk.resize(read_around_errors(arena_.bytes(), at, chunk, unreadable_));
      if (chunk.empty()) break;
      out_.write_all(at, chunk);
      at += chunk.size();
      if (progress_) progress_(at, 2 * end);
    }
  }

  // Slots -----------------------------------------------------------------------------------------------------------

  bool is_unreadable(std::uint64_t offset, std::uint64_t size) const {
    // They ascend; of a medium that is dying there may be very many.
    const auto range = std::partition_point(unreadable_.begin(), unreadable_.end(), [&](const byte_range& before) {
      return before.offset + before.size_bytes <= offset;
    });
    return range != unreadable_.end() && range->offset < offset + size;
  }
  /// What a slot becomes whose bytes the medium does not give; nothing where it does.
  std::optional<std::uint32_t> lost_slot(std::uint32_t slot, std::uint32_t word) {
    if (unreadable_.empty()) return std::nullopt;
    const std::uint64_t offset = arena_.offset_of_slot(slot);
    // Its generation is unknown: any life it had now could be one it had before.
    if (is_unreadable(offset, 8)) {
      ++lost_;
      return version::vacant(version::retired_generation);
    }
    const bool has_value = (word & 0b10) != 0;
    if (!has_value || !is_unreadable(offset + header_.value_offset, header_.value_size_bytes)) return std::nullopt;
    ++lost_;
    return vacant_after(version::generation(word));
  }

  std::uint32_t settled(std::uint32_t slot, std::uint32_t word) {
    if (const auto lost = lost_slot(slot, word)) return *lost;
    if (word == 0) return version::vacant(std::max(floor_, unheard_of()));  // a slot that counts had a generation
    if (!version::is_possible(word)) return instead_of_impossible(word);
    return version::is_reserved(word) ? vacant_after(version::generation(word)) : word;
  }

  std::uint64_t settled_shared(std::uint32_t slot, std::uint64_t word) {
    const auto word_version = static_cast<std::uint32_t>(word);
    if (const auto lost = lost_slot(slot, word_version)) return *lost;
    if (version::is_vacant(word_version)) return word_version;  // its other half says nothing
    if (!is_possible_version(arena_, word_version)) return instead_of_impossible(word_version);
    if (version::is_reserved(word_version)) return vacant_after(version::generation(word_version));
    if (version::is_occupied(word_version)) return word;
    return updated(slot, word);
  }

  /// An update that was under way: finished where the scratch area is about this very one, as by who reaps its owner.
  std::uint64_t updated(std::uint32_t slot, std::uint64_t word) {
    const auto auxiliary = static_cast<std::uint32_t>(word >> 32);
    const std::uint64_t lease = auxiliary % (shared_layout::attachments * shared_layout::leases_per_attachment);
    const std::uint64_t stride = shared_layout::lease_stride_bytes(header_.value_size_bytes);
    const std::uint64_t offset = header_.scratch_offset + shared_layout::table_bytes + lease * stride;
    std::vector<std::byte> area(static_cast<std::size_t>(stride));
    std::vector<byte_range> unreadable;
    area.resize(read_around_errors(arena_.bytes(), offset, area, unreadable));
    const std::uint64_t occupied = static_cast<std::uint32_t>(word) | version::occupied_bits;
    if (!unreadable.empty() || area.size() < stride) return occupied;
    std::uint64_t head[3];  // ticket, target, count of changes
    std::memcpy(head, area.data(), sizeof head);
    constexpr std::uint64_t tickets = std::uint64_t{1} << 22;
    if (head[1] != slot || head[0] % tickets != auxiliary >> 10) return occupied;
    const std::uint64_t value_bytes = shared_layout::value_words(header_.value_size_bytes) * 8;
    out_.write_all(arena_.offset_of_slot(slot) + header_.value_offset,
                   std::span(area).subspan(shared_layout::lease_head_bytes, static_cast<std::size_t>(value_bytes)));
    return occupied | (head[2] + 1) << 32;
  }

  /// As opening does: a committed update is copied from the scratch area, unless that may be of another moment. In a file
  /// that was closed there is none, whatever its control block says: the area holds an older value.
  void finish_update() {
    if (shared_ || of_several_moments_ || (control_.closed | control_.synced) != 0) return;
    if (control_.update_pending != 1 || control_.update_index >= count_) return;
    std::uint32_t word = 0;
    const std::uint64_t offset = arena_.offset_of_slot(control_.update_index);
    out_.read_some(offset, std::as_writable_bytes(std::span(&word, 1)));
    if (word != control_.update_version || !version::is_occupied(word)) return;
    std::vector<std::byte> value(header_.value_size_bytes);
    std::vector<byte_range> unreadable;
    const std::size_t got = read_around_errors(arena_.bytes(), header_.scratch_offset, value, unreadable);
    if (got == value.size() && unreadable.empty()) out_.write_all(offset + header_.value_offset, value);
  }

  // The control block -----------------------------------------------------------------------------------------------

  void write_control(const settled_counts& counts) {
    control_block made;
    made.boot_id = posix::boot_id();
    // For people only, and kept as it is.
    made.opened_unix_ns = control_.opened_unix_ns;
    made.owner_pid = control_.owner_pid;
    std::memcpy(made.owner_program, control_.owner_program, sizeof made.owner_program - 1);
    if (control_.last_recovery.outcome <= static_cast<std::uint32_t>(recovery_outcome::replayed)) {
      made.last_recovery = control_.last_recovery;
      made.last_recovery.killed_program[sizeof made.last_recovery.killed_program - 1] = '\0';
    }
    made.slot_count = static_cast<std::uint32_t>(count_);
    made.capacity = static_cast<std::uint32_t>(capacity_);
    if (shared_) {
      made.shared_slots = count_;
    } else {
      made.occupied = static_cast<std::uint32_t>(counts.occupied);
      made.vacant = static_cast<std::uint32_t>(counts.vacant);
      made.retired = static_cast<std::uint32_t>(counts.retired);
      made.generation_floor = floor_;
    }
    if (is_durable(header_)) {
      made.durable_commit = control_.durable_commit;
      made.durable_generation = control_.durable_generation;
      // Another history from here on: should the journal still lie beside it, or a copy of that, it is of another time.
      made.durable_chain = ~control_.durable_chain;
    }
    if (header_.compatible_features != 0) keep_for_features(made);
    // `disk_failed` was about the disk under the other file: all of this one is synced before it has a name.
    made.closed = made.synced = made.checksum();
    out_.write_all(header_.control_offset, std::as_bytes(std::span(&made, 1)));
  }

  /// What a feature that is not known here may keep beside the control block.
  void keep_for_features(control_block& made) {
    std::memcpy(made.unused_counts, control_.unused_counts, sizeof made.unused_counts);
    std::memcpy(made.unused_recovery, control_.unused_recovery, sizeof made.unused_recovery);
    const std::uint64_t behind = header_.control_offset + sizeof made;
    std::vector<std::byte> kept(static_cast<std::size_t>(header_.scratch_offset - behind));
    read_around_errors(arena_.bytes(), behind, kept, unreadable_);
    out_.write_all(behind, kept);
  }

  const arena_file& arena_;
  const arena_header& header_;
  const posix::file& out_;
  const std::function<void(std::uint64_t, std::uint64_t)>& progress_;
  bool shared_;
  bool of_several_moments_;
  bool is_vouched_for_ = false;
  control_block control_;
  std::uint64_t in_file_ = 0;
  std::uint64_t count_ = 0;
  std::uint64_t capacity_ = 0;
  std::uint32_t floor_ = 0;
  std::uint32_t unheard_of_ = 0;  // once it was asked for
  std::uint64_t lost_ = 0;
  std::vector<byte_range> unreadable_;
};

}  // namespace

std::uint64_t write_mended(const arena_file& arena, const posix::file& out,
                           const std::function<void(std::uint64_t, std::uint64_t)>& progress) {
  return mended_copy(arena, out, progress).run();
}

}  // namespace dm::inspect
