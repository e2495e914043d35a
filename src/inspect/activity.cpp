#include "deferred_map/inspect/activity.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <system_error>

#include "deferred_map/container/version.hpp"
#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/inspect/slots.hpp"

namespace dm::inspect {

slot_sample::word slot_sample::finished(const arena_file& arena, std::uint32_t slot, word during) {
  const arena_header& layout = arena.layout();
  const std::uint64_t lease = during.auxiliary & ((1u << shared_layout::lease_bits) - 1);
  shared_layout::lease_head head;
  try {
    const auto bytes = std::as_writable_bytes(std::span(&head, 1));
    if (arena.bytes().read(layout.scratch_offset + shared_layout::table_bytes +
                               lease * shared_layout::lease_stride_bytes(layout.value_size_bytes),
                           bytes) != bytes.size())
      return during;
  } catch (const std::system_error&) {
    return during;
  }
  // The scratch area may be about another update by now; then this one's count is not known.
  constexpr std::uint32_t ticket_mask = ~0u >> shared_layout::lease_bits;
  if (head.target != slot || (head.ticket & ticket_mask) != during.auxiliary >> shared_layout::lease_bits)
    return during;
  return {during.version | version::occupied_bits, static_cast<std::uint32_t>(head.changes) + 1};
}

slot_sample::slot_sample(const arena_file& arena, const sample_limits& limits)
    : uuid_(arena.layout().uuid),
      slot_count_(arena.slot_count()),
      is_shared_(arena.layout().kind == static_cast<std::uint32_t>(arena_kind::shared)) {
  if (arena.control()) first_generation_ = std::max(arena.control()->generation_floor, version::first_generation);
  const std::uint64_t slots_max = std::max(
      block_slots, std::min(limits.slots, limits.bytes / std::max<std::uint32_t>(arena.layout().slot_stride_bytes, 1)));
  while ((slot_count_ + spread_ - 1) / spread_ > slots_max) spread_ *= 2;
  words_.reserve(static_cast<std::size_t>(slot_count_ / spread_ + block_slots));
  const std::uint64_t step = block_slots * spread_;
  for (std::uint64_t first = 0; first < slot_count_; first += step) {
    // Whole, all in one go; else block after block.
    const std::uint64_t end = spread_ == 1 ? slot_count_ : std::min(first + block_slots, slot_count_);
    slot_scan scan(arena, first, end, slot_parts::versions);
    while (const slot_view* slot = scan.next()) {
      const slot_state state = slot->state();
      const word now{slot->version, slot->auxiliary};
      words_.push_back(is_shared_ && state == slot_state::updating ? finished(arena, slot->index, now) : now);
      ++counts_.slots;
      if (!slot->readable)
        ++counts_.unreadable;
      else if (!slot->possible)
        ++counts_.impossible;
      else if (state == slot_state::vacant)
        ++counts_.vacant, counts_.never_used += slot->version == 0;
      else if (state == slot_state::reserved)
        ++counts_.reserved, counts_.cached += is_shared_ && (slot->auxiliary & shared_layout::cached_flag) != 0;
      else if (state == slot_state::retired)
        ++counts_.retired;
      else
        ++counts_.occupied, counts_.updating += state == slot_state::updating;
    }
    if (spread_ == 1) break;
  }
  // Cut short while it was read: what is missing was not there.
  if (spread_ == 1) slot_count_ = words_.size();
}

class sample_comparison {
 public:
  sample_comparison(const slot_sample& before, const slot_sample& after, std::uint64_t regions)
      : before_(before), after_(after) {
    const std::uint64_t wanted = std::max<std::uint64_t>(regions, 1);
    const std::uint64_t slots = after.slot_count();
    per_region_ = std::max<std::uint64_t>((slots + wanted - 1) / wanted, 1);
    for (std::uint64_t first = 0; first < slots; first += per_region_)
      result_.regions.push_back({first, std::min(per_region_, slots - first), 0});
    compared_.resize(result_.regions.size());
  }

  std::optional<activity> run() {
    if (before_.uuid_ != after_.uuid_) return std::nullopt;
    for (std::uint64_t at = 0; at < after_.words_.size(); ++at) {
      const std::uint64_t slot = after_.slot_of(at);
      const word now = after_.words_[at];
      const auto old = word_before(slot, now);
      if (!old) continue;
      ++compared_[slot / per_region_];
      ++compared_total_;
      one(slot, *old, now);
    }
    if (after_.is_shared_) result_.updates = updates_;
    result_.is_estimated = compared_total_ != after_.slot_count_;
    if (result_.is_estimated) estimate();
    return std::move(result_);
  }

 private:
  using word = slot_sample::word;

  /// What the slot was that is `now`; nothing where it was not looked at. One that was not there yet was as new slots are: of
  /// the generation floor, and where that has gone up since the slot was made, of the floor there was then.
  std::optional<word> word_before(std::uint64_t slot, word now) const {
    if (slot >= before_.slot_count_)
      return word{version::vacant(std::min(after_.first_generation_, generation(now.version))), 0};
    const std::uint64_t block = slot / slot_sample::block_slots;
    if (block % before_.spread_ != 0) return std::nullopt;
    const std::uint64_t at = block / before_.spread_ * slot_sample::block_slots + slot % slot_sample::block_slots;
    if (at >= before_.words_.size()) return std::nullopt;
    return before_.words_[at];
  }

  /// Whether there is a value: occupied is 0b11, updating 0b10.
  static bool is_alive(std::uint32_t v) { return (v & 0b10) != 0; }
  static std::uint32_t generation(std::uint32_t v) {
    return std::max(version::generation(v), version::first_generation);  // never used: about to have its first life
  }

  void one(std::uint64_t slot, word old, word now) {
    if (old.version == now.version && old.auxiliary == now.auxiliary) return;
    // That a slot that was kept ready is a handle's now is no change of what is in it.
    const bool is_other = generation(old.version) != generation(now.version) ||
                          (old.version & version::state_mask) != (now.version & version::state_mask);
    if (is_other || (is_alive(now.version) && old.auxiliary != now.auxiliary)) {
      ++result_.changed;
      ++result_.regions[slot / per_region_].changed;
    }
    const std::uint64_t ended_before = generation(old.version), ended_now = generation(now.version);
    const std::uint64_t begun_before = ended_before + is_alive(old.version);
    const std::uint64_t begun_now = ended_now + is_alive(now.version);
    if (begun_now >= begun_before) result_.inserts += begun_now - begun_before;
    if (ended_now >= ended_before) result_.removes += ended_now - ended_before;
    if (after_.is_shared_) updates_ += updates_between(old, now);
  }

  static std::uint64_t updates_between(word old, word now) {
    // Where it is still said to be updating, the count is not known: this one update may be missed, none is invented.
    if (version::state(now.version) != slot_state::occupied) return 0;
    if (version::generation(old.version) != version::generation(now.version) || !is_alive(old.version))
      return now.auxiliary;  // of this life, all of them
    if (version::state(old.version) == slot_state::updating) return 0;
    return static_cast<std::uint32_t>(now.auxiliary - old.auxiliary);
  }

  void estimate() {
    const auto scaled = [](std::uint64_t count, std::uint64_t slots, std::uint64_t compared) {
      if (compared == 0) return std::uint64_t{0};
      return static_cast<std::uint64_t>(
          std::llround(static_cast<double>(count) * static_cast<double>(slots) / static_cast<double>(compared)));
    };
    const auto in_all = [&](std::uint64_t count) { return scaled(count, after_.slot_count_, compared_total_); };
    result_.inserts = in_all(result_.inserts);
    result_.removes = in_all(result_.removes);
    result_.changed = in_all(result_.changed);
    if (result_.updates) result_.updates = in_all(*result_.updates);
    for (std::size_t i = 0; i < result_.regions.size(); ++i)
      result_.regions[i].changed = scaled(result_.regions[i].changed, result_.regions[i].slots, compared_[i]);
  }

  const slot_sample& before_;
  const slot_sample& after_;
  std::uint64_t per_region_ = 1;
  activity result_;
  std::uint64_t updates_ = 0;
  std::vector<std::uint64_t> compared_;  // of each region
  std::uint64_t compared_total_ = 0;
};

std::optional<activity> compare(const slot_sample& before, const slot_sample& after, std::uint64_t regions) {
  return sample_comparison(before, after, regions).run();
}

}  // namespace dm::inspect
