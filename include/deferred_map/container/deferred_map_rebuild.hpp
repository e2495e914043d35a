// deferred_map: what looks at every slot: rebuilding index and counts from the versions, copying, checking.
// Included by deferred_map.hpp only.
#pragma once

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "deferred_map/container/version_scan.hpp"
#include "deferred_map/deferred_map.hpp"

namespace dm {

/// What one pass over the versions finds.
template <class T, class Key, class A>
struct deferred_map<T, Key, A>::scan {
  std::vector<std::uint64_t> taken;       // level 0 of the index, were every reserved slot given back
  std::vector<std::uint64_t> given_back;  // a bit for each slot that recovery makes vacant: reserved or impossible
  std::uint32_t occupied_count = 0;
  std::uint32_t reserved_count = 0;
  std::uint32_t retired_count = 0;
  std::uint32_t impossible_count = 0;
  std::uint32_t first_impossible = 0;
  std::uint32_t first_unused = 0;  // behind the last slot in generation 0

  /// Level 0 of the index as the versions have it now: nothing given back yet, nothing impossible handed out.
  std::vector<std::uint64_t> taken_or_reserved() && {
    for (std::size_t word = 0; word < taken.size(); ++word) taken[word] |= given_back[word];
    return std::move(taken);
  }
};

template <class T, class Key, class A>
auto deferred_map<T, Key, A>::scan_versions() const -> scan {
  scan found;
  const std::uint32_t slot_count = storage_.control().slot_count;
  const std::size_t words = (std::size_t{slot_count} + 63) / 64;
  found.taken.resize(words);
  found.given_back.resize(words);
  const slot_type* slots = storage_.slots();
  for (std::size_t word = 0; word < words; ++word) {
    const auto first = static_cast<std::uint32_t>(word * 64);
    const std::uint32_t count = std::min<std::uint32_t>(64, slot_count - first);
    detail::version_bits bits;
    if (count == 64) [[likely]]
      bits = detail::read_versions(slots + first);
    else
      bits.rare = ~(~std::uint64_t{0} << count);
    std::uint64_t taken = bits.occupied;
    std::uint64_t given_back = 0;
    found.occupied_count += static_cast<std::uint32_t>(std::popcount(bits.occupied));
    for (std::uint64_t rest = bits.rare; rest != 0; rest &= rest - 1) {
      const auto i = static_cast<std::uint32_t>(std::countr_zero(rest));
      const std::uint32_t v = slots[first + i].version;
      const std::uint64_t bit = std::uint64_t{1} << i;
      if (!version::is_possible(v)) [[unlikely]] {
        if (found.impossible_count++ == 0) found.first_impossible = first + i;
        given_back |= bit;
      } else if (version::is_occupied(v)) {
        taken |= bit;
        ++found.occupied_count;
      } else if (version::is_reserved(v)) {
        given_back |= bit;
        ++found.reserved_count;
      } else if (version::is_retired(v)) {
        taken |= bit;
        ++found.retired_count;
      } else if (v == 0) {
        found.first_unused = first + i + 1;
      }
    }
    if (count < 64) taken |= ~std::uint64_t{0} << count;
    found.taken[word] = taken;
    found.given_back[word] = given_back;
  }
  return found;
}

/// Makes the index say what the versions say. The counts are not touched.
template <class T, class Key, class A>
void deferred_map<T, Key, A>::rebuild_index() {
  const std::vector<std::uint64_t> taken = scan_versions().taken_or_reserved();
  storage_.rebuild_index(taken.data(), storage_.control().slot_count);
}

/// Makes index and counts say what the versions say; reserved slots stay so. If it throws, nothing has changed.
template <class T, class Key, class A>
void deferred_map<T, Key, A>::mend_index_and_counts() {
  scan found = scan_versions();
  auto& control = storage_.control();
  const std::uint32_t occupied = found.occupied_count;
  const std::uint32_t reserved = found.reserved_count;
  const std::uint32_t retired = found.retired_count;
  const std::uint32_t impossible = found.impossible_count;
  const std::vector<std::uint64_t> taken = std::move(found).taken_or_reserved();
  if constexpr (persistent) control.recovering = 1;
  order_stores();
  storage_.rebuild_index(taken.data(), control.slot_count);
  order_stores();
  if constexpr (persistent) control.occupied = occupied;
  control.reserved = reserved;
  control.retired = retired;
  // Impossible slots are counted nowhere: the sum then shows that this file needs more than this.
  if constexpr (persistent) control.vacant = control.slot_count - occupied - reserved - retired - impossible;
  order_stores();
  if constexpr (persistent) control.recovering = 0;
  order_stores();
}

template <class T, class Key, class A>
recovery_counts deferred_map<T, Key, A>::rebuild_from_versions(bool mend_impossible) {
  scan found = scan_versions();
  auto& control = storage_.control();
  recovery_counts report;
  report.slots_examined = control.slot_count;
  report.occupied = found.occupied_count;
  report.reserved_given_back = found.reserved_count;
  report.impossible = found.impossible_count;
  report.first_impossible = found.first_impossible;
  if (found.impossible_count != 0 && !mend_impossible) return report;

  if constexpr (persistent)
    if (control.recovering == 0) control.recovering = 1;
  order_stores();
  std::uint32_t retired = found.retired_count;
  const auto give_back = [&](std::uint32_t index, std::uint32_t next) {
    if (version::is_retired(next)) {
      found.taken[index / 64] |= std::uint64_t{1} << (index % 64);
      ++retired;
    }
    about_to_change(index);
    commit(slot_at(index), next);
  };
  for (std::size_t word = 0; word < found.given_back.size(); ++word) {
    for (std::uint64_t bits = found.given_back[word]; bits != 0; bits &= bits - 1) {
      const std::uint32_t index = static_cast<std::uint32_t>(word * 64 + static_cast<unsigned>(std::countr_zero(bits)));
      const std::uint32_t generation = version::generation(slot_at(index).version);
      give_back(index, version::vacant(std::min(generation + 1, version::retired_generation)));
    }
  }
  // Generation 0: a slot that was counted but never made, as after a machine crash that lost its page.
  const std::uint32_t first = std::max<std::uint32_t>(control.generation_floor, version::first_generation);
  for (std::uint32_t index = 0; index < found.first_unused; ++index)
    if (slot_at(index).version == 0) {
      about_to_change(index);
      commit(slot_at(index), version::vacant(first));
    }

  storage_.rebuild_index(found.taken.data(), control.slot_count);
  order_stores();
  if constexpr (persistent) control.occupied = found.occupied_count;
  control.reserved = 0;
  control.retired = retired;
  if constexpr (persistent) control.vacant = control.slot_count - found.occupied_count - retired;
  order_stores();
  if constexpr (persistent) control.recovering = 0;
  order_stores();
  identity_ = 0;
  return report;
}

template <class T, class Key, class A>
void deferred_map<T, Key, A>::copy_from(const deferred_map& other) {
  const auto& from = other.storage_.control();
  if (from.slot_count == 0) {
    storage_.control().generation_floor = from.generation_floor;
    return;
  }
  storage_.set_capacity(from.slot_count);
  auto& control = storage_.control();
  for (std::uint32_t index = 0; index < from.slot_count; ++index) {
    const slot_type& source = other.slot_at(index);
    const std::uint32_t v = source.version;
    storage_.append_vacant(version::is_reserved(v) ? version::next_vacant(v) : v & ~version::state_mask);
    if (!version::is_occupied(v)) continue;
    slot_type& slot = slot_at(index);
    storage_.construct(std::addressof(slot.value), source.value);
    slot.version = v;
  }
  control.generation_floor = from.generation_floor;
  const scan found = scan_versions();
  control.retired = found.retired_count;
  storage_.rebuild_index(found.taken.data(), control.slot_count);
}

/// Moves every value of `other`, whose memory this map's allocator cannot free. This map is empty.
template <class T, class Key, class A>
void deferred_map<T, Key, A>::assign_from(deferred_map&& other) {
  if constexpr (!persistent) {
    if (storage_.allocator() == other.storage_.allocator()) {
      storage_.take(other.storage_);
      identity_ = std::exchange(other.identity_, 0);
      return;
    }
    const auto& from = other.storage_.control();
    if (from.slot_count != 0) storage_.set_capacity(from.slot_count);
    auto& control = storage_.control();
    for (std::uint32_t index = 0; index < from.slot_count; ++index) {
      slot_type& source = other.slot_at(index);
      const std::uint32_t v = source.version;
      storage_.append_vacant(version::vacant(version::generation(v)));
      slot_type& slot = slot_at(index);
      if (version::is_occupied(v)) {
        storage_.construct(std::addressof(slot.value), std::move(source.value));
      }
      slot.version = v;  // reserved slots come along, and their handles with the identity
    }
    control.reserved = from.reserved;
    control.retired = from.retired;
    control.generation_floor = from.generation_floor;
    rebuild_index();
    identity_ = std::exchange(other.identity_, 0);
    other.storage_.reset();
  }
}

template <class T, class Key, class A>
void deferred_map<T, Key, A>::copy_assign(const deferred_map& other) {
  constexpr bool propagate = allocator_traits::propagate_on_container_copy_assignment::value;
  deferred_map copy(other, propagate ? other.get_allocator() : get_allocator());
  // Built beside, then switched: whatever threw has changed nothing. The old memory goes with its own allocator.
  storage_.swap_contents(copy.storage_);
  if constexpr (propagate) std::swap(storage_.allocator(), copy.storage_.allocator());
  identity_ = 0;
}

template <class T, class Key, class A>
auto deferred_map<T, Key, A>::operator=(deferred_map&& other) noexcept(
    persistent || allocator_traits::propagate_on_container_move_assignment::value ||
    allocator_traits::is_always_equal::value) -> deferred_map& {
  if (this == &other) return *this;
  if constexpr (persistent) {
    deferred_map moved(std::move(other));
    swap(moved);
  } else if constexpr (allocator_traits::propagate_on_container_move_assignment::value) {
    storage_.reset();
    storage_.allocator() = std::move(other.storage_.allocator());
    storage_.take(other.storage_);
    identity_ = std::exchange(other.identity_, 0);
  } else {
    deferred_map moved(std::move(other), get_allocator());
    storage_.swap_contents(moved.storage_);
    identity_ = std::exchange(moved.identity_, 0);
  }
  return *this;
}

template <class T, class Key, class A>
void deferred_map<T, Key, A>::swap(deferred_map& other) noexcept {
  if constexpr (!persistent && allocator_traits::propagate_on_container_swap::value)
    std::swap(storage_.allocator(), other.storage_.allocator());
  storage_.swap_contents(other.storage_);
  std::swap(identity_, other.identity_);
}

template <class T, class Key, class A>
std::string deferred_map<T, Key, A>::verify() const {
  const auto& control = storage_.control();
  if (control.slot_count > storage_.capacity()) return "there are more slots than there is room for";
  const scan found = scan_versions();
  if (found.impossible_count != 0)
    return "slot " + std::to_string(found.first_impossible) + " has a version no operation leaves";
  if (found.first_unused != 0)
    return "slot " + std::to_string(found.first_unused - 1) + " exists and was never given a generation";
  if (storage_.occupied() != found.occupied_count) return "the count of occupied slots is wrong";
  if (control.reserved != found.reserved_count) return "the count of reserved slots is wrong";
  if (control.retired != found.retired_count) return "the count of retired slots is wrong";
  const std::uint32_t vacant = control.slot_count - found.occupied_count - found.reserved_count - found.retired_count;
  if (storage_.vacant() != vacant) return "the count of vacant slots is wrong";
  if (control.generation_floor > version::last_generation) return "the generation floor is past the last generation";
  if (storage_.capacity() == 0)  // then there is no index but the buffer
    return control.buffer_count == 0 ? "" : "the vacancy buffer names a slot that does not exist";
  const char* fault = storage_.index_fault([this](std::uint32_t index) { return state(index) == slot_state::vacant; });
  return fault == nullptr ? std::string() : fault;
}

}  // namespace dm
