// Where a dense secondary map keeps the value of a key: in the slot with the index of the key.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "deferred_map/container/secondary_slots.hpp"

namespace dm::detail {

/// Finding, making and giving up places for `secondary_base`. A place is made in two steps, `make_room` and `fill`,
/// so that a value whose constructor throws in between leaves nothing behind.
template <class T, class Allocator>
class secondary_dense : public secondary_slots<T, slot<T>, Allocator> {
  using base = secondary_slots<T, slot<T>, Allocator>;

 public:
  static constexpr bool hashed = false;
  using typename base::slot_type;

  using base::base;
  secondary_dense() requires(std::is_default_constructible_v<Allocator>) = default;

  /// The slot for keys of `index`, filled (its version is not 0) or not, or null.
  slot_type* find(std::uint32_t index) const noexcept {
    return index < base::slot_count() ? base::slots() + index : nullptr;
  }
  const T* get(std::uint32_t index, std::uint32_t occupied_version) const noexcept {
    if (index >= base::slot_count()) [[unlikely]]
      return nullptr;
    const slot_type& slot = base::slots()[index];
    return slot.version == occupied_version ? std::addressof(slot.value) : nullptr;
  }
  std::uint32_t index_at(std::uint32_t position) const noexcept { return position; }
  std::uint32_t position_of(const slot_type& slot) const noexcept {
    return static_cast<std::uint32_t>(std::addressof(slot) - base::slots());
  }

  /// Whether `make_room(index)` moves the values there are.
  bool room_moves_values(std::uint32_t index) {
    return index >= base::capacity() && base::capacity() != 0 && !base::grows_in_place(std::uint64_t{index} + 1);
  }
  /// An empty slot for the keys of `index`, which has none filled. If it throws, nothing has changed.
  slot_type& make_room(std::uint32_t index) {
    if (index >= base::slot_count()) {
      if (index >= base::capacity()) [[unlikely]]
        base::grow(std::uint64_t{index} + 1);
      base::append_empty(index + 1);
    }
    return base::slots()[index];
  }
  /// The value in that slot is complete.
  void fill(slot_type&, std::uint32_t index, std::uint32_t occupied_version) noexcept {
    base::occupy(index, occupied_version);
  }
  /// The value in that slot is gone.
  void give_up(slot_type&, std::uint32_t index) noexcept { base::vacate(index); }

  void reserve(std::size_t slots) {
    if (slots > base::capacity()) base::set_capacity(slots);
  }
  /// What `reserve` needs to be told for a copy of this to be built without growing.
  std::size_t room_for_copy() const noexcept { return base::slot_count(); }

  void shrink_to_fit() {
    std::uint64_t word = (std::uint64_t{base::slot_count()} + 63) / 64;
    while (word > 0 && base::presence_words()[word - 1] == 0) --word;
    const std::uint64_t used =
        word == 0 ? 0 : word * 64 - static_cast<unsigned>(std::countl_zero(base::presence_words()[word - 1]));
    base::drop_slots(static_cast<std::uint32_t>(used));
    base::set_capacity(used);
  }

  template <class Key>
  std::size_t get_many(std::span<const Key> keys, const T** out) const noexcept {
    const std::uint32_t slot_count = base::slot_count();
    if (slot_count == 0) {
      std::fill_n(out, keys.size(), nullptr);
      return 0;
    }
    // No branch depends on whether a key has a value: a mispredicted one costs more than the look-up itself. An
    // index past the end looks at slot 0 and is judged by the index.
    const slot_type* slots = base::slots();
    std::size_t found = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const std::uint32_t index = keys[i].index();
      const bool exists = index < slot_count;
      const slot_type& slot = slots[exists ? index : 0];
      const bool live = exists & (slot.version == keys[i].occupied_version());
      out[i] = reinterpret_cast<const T*>(reinterpret_cast<std::uintptr_t>(std::addressof(slot.value)) &
                                          -static_cast<std::uintptr_t>(live));
      found += live;
    }
    return found;
  }
};

}  // namespace dm::detail
