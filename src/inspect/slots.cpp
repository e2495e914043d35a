#include "deferred_map/inspect/slots.hpp"

#include <algorithm>
#include <cstring>

#include "deferred_map/format/shared_layout.hpp"

namespace dm::inspect {
namespace {

// What is read at once stays in the processor's cache until it has been looked at.
constexpr std::size_t chunk_bytes = std::size_t{256} << 10;
// Slots longer than this are read one by one, and of each only what is asked for.
constexpr std::uint32_t long_stride_bytes = 64u << 10;
static_assert(long_stride_bytes <= chunk_bytes);

bool is_possible_of(bool is_shared, std::uint32_t word) noexcept {
  const bool is_updating = (word & version::state_mask) == version::updating_bits;
  // An occupied slot of the same generation is what an updating one was and will be.
  return version::is_possible(is_shared && is_updating ? word | version::occupied_bits : word);
}

bool overlaps(const byte_range& range, std::uint64_t offset, std::uint64_t size) {
  return range.offset < offset + size && offset < range.offset + range.size_bytes;
}

}  // namespace

bool is_possible_version(const arena_file& arena, std::uint32_t word) noexcept {
  return is_possible_of(arena.layout().kind == static_cast<std::uint32_t>(arena_kind::shared), word);
}

slot_scan::slot_scan(const arena_file& arena, const slot_filter& filter, slot_parts parts)
    : slot_scan(arena, filter.index_begin, std::min<std::uint64_t>(filter.index_end, arena.slot_count()), parts) {
  filter_ = filter;
}

slot_scan::slot_scan(const arena_file& arena, std::uint64_t first, std::uint64_t end, slot_parts parts)
    : arena_(&arena),
      parts_(parts),
      is_shared_(arena.layout().kind == static_cast<std::uint32_t>(arena_kind::shared)),
      next_(first),
      end_(std::min(end, arena.slots_in_file())) {}

/// The version, and in a shared map the other half of its word.
std::uint64_t slot_scan::version_bytes() const noexcept { return is_shared_ ? 8 : 4; }

/// The new value of an updating slot: whole in the updater's scratch area from before the word says so until after.
std::span<const std::byte> slot_scan::value_being_copied() {
  const arena_header& layout = arena_->layout();
  const std::uint64_t lease = current_.auxiliary % (shared_layout::attachments * shared_layout::leases_per_attachment);
  const std::uint64_t offset = layout.scratch_offset + shared_layout::table_bytes +
                               lease * shared_layout::lease_stride_bytes(layout.value_size_bytes) +
                               shared_layout::lease_head_bytes;
  elsewhere_.resize(layout.value_size_bytes);
  return std::span(elsewhere_).first(read_around_errors(arena_->bytes(), offset, elsewhere_, unreadable_));
}

bool slot_scan::refill() {
  if (next_ >= end_) return false;
  const arena_header& layout = arena_->layout();
  const std::uint64_t stride = layout.slot_stride_bytes;
  const std::uint64_t offset = arena_->offset_of_slot(next_);
  std::uint64_t slots = 1;
  std::uint64_t wanted = version_bytes();
  if (stride <= long_stride_bytes) {
    slots = std::min<std::uint64_t>(chunk_bytes / stride, end_ - next_);
    wanted = slots * stride;
  } else if (parts_ == slot_parts::versions_and_values) {
    wanted = std::uint64_t{layout.value_offset} + layout.value_size_bytes;
  }
  wanted = std::min(wanted,
                    arena_->size_bytes() - offset);  // next_ < slots_in_file(): the version at least is there
  buffer_.resize(static_cast<std::size_t>(wanted));
  unreadable_before_ = unreadable_.size();
  filled_ = read_around_errors(arena_->bytes(), offset, buffer_, unreadable_);
  chunk_begin_ = next_;
  chunk_end_ = next_ + slots;
  // The file may have been cut short since it was opened here.
  const std::uint64_t there = filled_ < version_bytes() ? 0 : (filled_ - version_bytes()) / stride + 1;
  if (there < slots) end_ = chunk_end_ = chunk_begin_ + there;
  return there != 0;
}

std::uint64_t slot_scan::pass_over_occupied(std::uint64_t most) noexcept {
  // What could not be read is looked at one by one.
  if (unreadable_.size() != unreadable_before_ || next_ >= chunk_end_) return 0;
  const std::uint64_t first = next_;
  const std::uint64_t end = std::min({next_ + most, chunk_end_, end_});
  const std::size_t stride = arena_->layout().slot_stride_bytes;
  for (const std::byte* at = buffer_.data() + (next_ - chunk_begin_) * stride; next_ < end; ++next_, at += stride) {
    std::uint32_t word;
    std::memcpy(&word, at, sizeof word);
    if (!version::is_occupied(word) || !version::is_possible(word)) break;
  }
  return next_ - first;
}

const slot_view* slot_scan::next() {
  const arena_header& layout = arena_->layout();
  while (next_ < end_) {
    if (next_ >= chunk_end_ && !refill()) return nullptr;
    const auto at = static_cast<std::size_t>((next_ - chunk_begin_) * layout.slot_stride_bytes);
    current_.index = static_cast<std::uint32_t>(next_);
    std::memcpy(&current_.version, buffer_.data() + at, sizeof current_.version);
    if (is_shared_)
      std::memcpy(&current_.auxiliary, buffer_.data() + at + shared_layout::sequence_offset, sizeof current_.auxiliary);
    current_.possible = is_possible_of(is_shared_, current_.version);
    current_.value = {};
    if (parts_ == slot_parts::versions_and_values && at + layout.value_offset < filled_) {
      const std::size_t begin = at + layout.value_offset;
      current_.value =
          std::span(buffer_).subspan(begin, std::min<std::size_t>(layout.value_size_bytes, filled_ - begin));
      if (is_shared_ && current_.state() == slot_state::updating) current_.value = value_being_copied();
    }
    current_.readable = true;
    for (std::size_t i = unreadable_before_; i < unreadable_.size(); ++i)
      if (overlaps(unreadable_[i], arena_->offset_of_slot(next_), version_bytes())) current_.readable = false;
    ++next_;
    if (filter_.matches(current_)) return &current_;
  }
  return nullptr;
}

}  // namespace dm::inspect
