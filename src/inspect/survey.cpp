#include "deferred_map/inspect/survey.hpp"

#include <algorithm>
#include <bit>

#include "deferred_map/container/version.hpp"
#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/inspect/slots.hpp"

namespace dm::inspect {
namespace {

class surveyor {
 public:
  surveyor(const arena_file& arena, const survey_options& options, survey& result)
      : arena_(arena),
        options_(options),
        result_(result),
        is_shared_(arena.layout().kind == static_cast<std::uint32_t>(arena_kind::shared)),
        count_(arena.slot_count()) {
    const std::uint64_t wanted = std::max<std::uint64_t>(options.regions, 1);
    result_.slots_per_region = (count_ + wanted - 1) / wanted;
    if (count_ == 0) return;
    result_.regions.resize((count_ + result_.slots_per_region - 1) / result_.slots_per_region);
    for (std::size_t i = 0; i < result_.regions.size(); ++i) result_.regions[i].first = i * result_.slots_per_region;
  }

  void run() {
    const arena_header& layout = arena_.layout();
    const std::uint64_t at_once = std::max<std::uint64_t>((std::uint64_t{1} << 20) / layout.slot_stride_bytes, 1);
    for (std::uint64_t first = 0; first < count_;) {
      if (options_.progress) options_.progress(first, count_);
      // In a hole of the file all versions are zero, and there may be terabytes of that in a file of a few pages.
      const std::uint64_t offset = arena_.offset_of_slot(first);
      const std::uint64_t data = std::min(arena_.bytes().next_data(offset), arena_.size_bytes());
      const std::uint64_t end_of_zeros =
          data > offset ? std::min<std::uint64_t>((data - layout.slots_offset) / layout.slot_stride_bytes, count_)
                        : first;
      if (end_of_zeros > first) {
        never_used(first, end_of_zeros);
        first = end_of_zeros;
        continue;
      }
      const std::uint64_t until = std::min<std::uint64_t>(first + at_once, count_);
      slot_scan scan(arena_, first, until, slot_parts::versions);
      while (const slot_view* slot = scan.next()) one(*slot);
      result_.unreadable.insert(result_.unreadable.end(), scan.unreadable().begin(), scan.unreadable().end());
      first = until;
    }
    end_hole(count_);
    for (const slot_region& region : result_.regions) result_.total.add(region);
  }

 private:
  slot_region& region_of(std::uint64_t slot) { return result_.regions[slot / result_.slots_per_region]; }

  void never_used(std::uint64_t first, std::uint64_t end) {
    begin_hole(first);
    while (first < end) {
      slot_region& region = region_of(first);
      const std::uint64_t count = std::min(end, region.first + result_.slots_per_region) - first;
      region.slots += count;
      region.vacant += count;
      region.never_used += count;
      first += count;
    }
  }

  void one(const slot_view& slot) {
    slot_region& region = region_of(slot.index);
    ++region.slots;
    const bool is_known = slot.readable && slot.possible;
    if (is_known && slot.state() == slot_state::vacant)
      begin_hole(slot.index);
    else
      end_hole(slot.index);
    if (!slot.readable) {
      ++region.unreadable;
      return;
    }
    if (!slot.possible) {
      ++region.impossible;
      return;
    }
    switch (slot.state()) {
      case slot_state::vacant:
        ++region.vacant;
        region.never_used += slot.version == 0;
        break;
      case slot_state::reserved:
        ++region.reserved;
        region.cached += is_shared_ && (slot.auxiliary & shared_layout::cached_flag) != 0;
        break;
      case slot_state::updating:
        ++region.updating;
        ++region.occupied;
        break;
      case slot_state::occupied:
        ++region.occupied;
        if (is_shared_) result_.updates.add(slot.auxiliary);
        break;
      case slot_state::retired:
        ++region.retired;
        break;
    }
    if (slot.version == 0) return;
    if (result_.generations.count() == 0 || slot.generation() > result_.generations.max())
      result_.generation_max_slot = slot.index;
    result_.generations.add(slot.generation());
  }

  void begin_hole(std::uint64_t slot) {
    if (in_hole_) return;
    in_hole_ = true;
    hole_first_ = slot;
  }
  void end_hole(std::uint64_t slot) {
    if (!in_hole_) return;
    in_hole_ = false;
    const std::uint64_t length = slot - hole_first_;
    if (length > result_.holes.max()) result_.longest_hole_first = hole_first_;
    result_.holes.add(length);
  }

  const arena_file& arena_;
  const survey_options& options_;
  survey& result_;
  bool is_shared_;
  std::uint64_t count_;
  bool in_hole_ = false;
  std::uint64_t hole_first_ = 0;
};

}  // namespace

void slot_counts::add(const slot_counts& other) noexcept {
  slots += other.slots;
  occupied += other.occupied;
  reserved += other.reserved;
  vacant += other.vacant;
  retired += other.retired;
  impossible += other.impossible;
  unreadable += other.unreadable;
  updating += other.updating;
  cached += other.cached;
  never_used += other.never_used;
}

void histogram::add(std::uint64_t number, std::uint64_t times) noexcept {
  if (times == 0) return;
  if (number < small_end) small_[number] += times;
  doubling_[static_cast<std::size_t>(std::bit_width(number))] += times;
  count_ += times;
  min_ = std::min(min_, number);
  max_ = std::max(max_, number);
  sum_ += static_cast<double>(number) * static_cast<double>(times);
}

double histogram::mean() const noexcept { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }

std::vector<histogram_bar> histogram::bars() const {
  std::vector<histogram_bar> bars;
  if (count_ == 0) return bars;
  if (max_ < small_end) {
    for (std::uint64_t number = min_; number <= max_; ++number) bars.push_back({number, number, small_[number]});
    return bars;
  }
  const auto last = static_cast<std::size_t>(std::bit_width(max_));
  for (auto bits = static_cast<std::size_t>(std::bit_width(min_)); bits <= last; ++bits) {
    // Of `bits` bits: 0; 1; 2 and 3; 4 to 7; ...
    const std::uint64_t low = bits == 0 ? 0 : std::uint64_t{1} << (bits - 1);
    const std::uint64_t high = bits == 0 ? 0 : low + (low - 1);
    bars.push_back({low, high, doubling_[bits]});
  }
  return bars;
}

survey take_survey(const arena_file& arena, const survey_options& options) {
  survey result;
  surveyor(arena, options, result).run();
  return result;
}

}  // namespace dm::inspect
