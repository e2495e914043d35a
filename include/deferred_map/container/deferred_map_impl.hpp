// deferred_map: taking and giving back slots, looking up, removing, room. Included by deferred_map.hpp only.
#pragma once

#include <algorithm>
#include <string>

#include "deferred_map/deferred_map.hpp"

namespace dm {

// Slots: taking and giving back -------------------------------------------------------------------------------------

template <class T, class Key, class A>
auto deferred_map<T, Key, A>::live_slot(Key key) const noexcept -> slot_type* {
  slot_type* const slots = storage_.slots();
  const std::uint32_t index = key.index();
  if (index >= storage_.control().slot_count) [[unlikely]]
    return nullptr;
  return slots[index].version == key.occupied_version() ? slots + index : nullptr;
}

template <class T, class Key, class A>
auto deferred_map<T, Key, A>::reserved_slot(const handle_type& handle) const -> slot_type& {
  if (!holds(handle)) [[unlikely]]
    fail::handle_is_bad();
  return slot_at(handle.index());
}

template <class T, class Key, class A>
std::uint64_t deferred_map<T, Key, A>::identity() {
  if (identity_ == 0) [[unlikely]]
    identity_ = detail::next_map_identity();
  return identity_;
}

/// A vacant slot that is off the index and out of the count of vacant ones; its version still says vacant, in
/// the generation of its next life. The caller stores another state, or `enter_vacant`s it again.
template <class T, class Key, class A>
[[gnu::always_inline]] inline auto deferred_map<T, Key, A>::take_vacant_slot(bool is_filled_at_once) -> taken_slot {
  auto& control = storage_.control();
  for (;;) {
    if (control.buffer_count == 0) {
      if (storage_.vacant() == 0) return append_slot(is_filled_at_once);
    }
    vacant_goes_down();
    if (control.buffer_count != 0 || fill_buffer()) [[likely]] {
      const std::uint32_t index = storage_.buffer()[--control.buffer_count];
      // An index read from a file may say anything; the versions are the truth.
      if (!persistent || is_there_to_take(index)) [[likely]] {
        about_to_change(index);
        return {index, slot_at(index).version};
      }
    }
    // Index or counts were wrong. Once mended they are right, so this happens once.
    if constexpr (persistent) ++control.vacant;
    mend_index_and_counts();
  }
}

/// In persistent memory: whether the index was right in naming this slot.
template <class T, class Key, class A>
bool deferred_map<T, Key, A>::is_there_to_take(std::uint32_t index) noexcept {
  if (index >= storage_.control().slot_count) return false;
  slot_type& slot = slot_at(index);
  if (!version::is_vacant(slot.version) || version::is_retired(slot.version)) return false;
  // Only a damaged file has a slot that exists and was never given a generation.
  if (slot.version == 0) [[unlikely]] {
    about_to_change(index);
    commit(slot,
           version::vacant(std::max<std::uint32_t>(storage_.control().generation_floor, version::first_generation)));
  }
  return true;
}

template <class T, class Key, class A>
[[gnu::always_inline]] inline auto deferred_map<T, Key, A>::append_slot(bool is_filled_at_once) -> taken_slot {
  const std::uint32_t index = storage_.control().slot_count;
  if (index == storage_.capacity()) [[unlikely]]
    grow();
  const std::uint32_t floor = storage_.control().generation_floor;
  const std::uint32_t fresh = version::vacant(floor + (floor < version::first_generation));
  if constexpr (!persistent) {
    if (is_filled_at_once) {
      storage_.append();
      return {index, fresh};
    }
  }
  storage_.append_vacant(fresh);
  return {index, fresh};
}
template <class T, class Key, class A>
[[gnu::noinline]] void deferred_map<T, Key, A>::grow() {
  storage_.grow(std::uint64_t{storage_.control().slot_count} + 1);
}

/// Whether taking one more slot moves the values there are.
template <class T, class Key, class A>
bool deferred_map<T, Key, A>::next_slot_moves_others() {
  if constexpr (persistent) {
    return false;
  } else {
    return storage_.control().slot_count == storage_.capacity() && storage_.vacant() == 0 && storage_.capacity() != 0 &&
           !storage_.grows_in_place(std::uint64_t{storage_.capacity()} + 1);
  }
}

/// Enters a slot whose version says vacant into the index, and counts it.
template <class T, class Key, class A>
[[gnu::always_inline]] inline void deferred_map<T, Key, A>::enter_vacant(std::uint32_t index) noexcept {
  auto& control = storage_.control();
  order_stores();
  if (control.buffer_count == storage_.buffer_limit()) [[unlikely]]
    spill_buffer();
  storage_.buffer()[control.buffer_count] = index;
  ++control.buffer_count;
  vacant_goes_up();
}

// Apart, and called every 64th time at most: what they need in registers would be saved and restored by every
// insert and every removal. What is left is always inlined: called, it would cost half as much again.
template <class T, class Key, class A>
[[gnu::noinline]] void deferred_map<T, Key, A>::spill_buffer() noexcept {
  storage_.spill_buffer();
}
template <class T, class Key, class A>
[[gnu::noinline]] bool deferred_map<T, Key, A>::fill_buffer() noexcept {
  return storage_.fill_buffer();
}

/// A slot leaves `reserved` or `occupied` (and then has no value any more) for its next generation. The count of
/// that state has gone down before.
template <class T, class Key, class A>
[[gnu::always_inline]] inline void deferred_map<T, Key, A>::vacate(std::uint32_t index,
                                                                   std::uint32_t old_version) noexcept {
  std::uint32_t next = version::next_vacant(old_version);
  if constexpr (persistent) {
    // No operation makes a slot live in the generation of the retired, but a damaged file may have one; its next
    // life must not be the first one again.
    if (version::generation(next) == 0) [[unlikely]]
      next = version::vacant(version::retired_generation);
  }
  if constexpr (watched) next = version::vacant(storage_.allocator().next_generation(index, version::generation(next)));
  about_to_change(index);
  commit(slot_at(index), next);
  if (version::is_retired(next)) [[unlikely]]
    count_last(storage_.control().retired);
  else
    enter_vacant(index);
}

template <class T, class Key, class A>
void deferred_map<T, Key, A>::destroy_and_vacate(std::uint32_t index, std::uint32_t occupied_version) noexcept {
  storage_.destroy(std::addressof(slot_at(index).value));
  occupied_goes_down();
  vacate(index, occupied_version);
}

/// Gives a taken slot back unless told that it was filled.
template <class T, class Key, class A>
struct deferred_map<T, Key, A>::vacate_on_exit {
  deferred_map& map;
  std::uint32_t index;
  bool armed = true;

  vacate_on_exit(deferred_map& owner, std::uint32_t taken) noexcept : map(owner), index(taken) {}
  vacate_on_exit(const vacate_on_exit&) = delete;
  vacate_on_exit& operator=(const vacate_on_exit&) = delete;
  ~vacate_on_exit() {
    if (armed) map.enter_vacant(index);
  }
};

/// Releases a handle that was not spent.
template <class T, class Key, class A>
struct deferred_map<T, Key, A>::release_on_exit {
  deferred_map& map;
  handle_type& handle;

  release_on_exit(deferred_map& owner, handle_type& held) noexcept : map(owner), handle(held) {}
  release_on_exit(const release_on_exit&) = delete;
  release_on_exit& operator=(const release_on_exit&) = delete;
  ~release_on_exit() {
    // The slot may be someone else's by now: what ran since may have released every handle, or moved the map.
    if (map.holds(handle)) map.release_handle(std::move(handle));
  }
};

// Reserving and filling ---------------------------------------------------------------------------------------------

template <class T, class Key, class A>
auto deferred_map<T, Key, A>::allocate_handle() -> handle_type {
  const std::uint64_t map_identity = identity();
  const auto [index, vacant] = take_vacant_slot(true);
  const std::uint32_t generation = version::generation(vacant);
  commit(slot_at(index), version::reserved(generation));
  count_last(storage_.control().reserved);
  return detail::handle_access::make(detail::key_access::make<Key>(index, version::occupied(generation)), map_identity);
}

template <class T, class Key, class A>
template <class... Args>
T& deferred_map<T, Key, A>::emplace(handle_type&& handle, Args&&... args) {
  slot_type& slot = reserved_slot(handle);
  // While the value is built the slot stays reserved: if that throws, nothing has happened.
  if constexpr (persistent) {
    T value(std::forward<Args>(args)...);
    about_to_change(handle.index());
    count_first(storage_.control().reserved);
    storage_.construct(std::addressof(slot.value), std::move(value));
  } else {
    storage_.construct(std::addressof(slot.value), std::forward<Args>(args)...);
    count_first(storage_.control().reserved);
  }
  commit(slot, handle.key().occupied_version());
  occupied_goes_up();
  detail::handle_access::spend(handle);
  return slot.value;
}

template <class T, class Key, class A>
void deferred_map<T, Key, A>::release_handle(handle_type&& handle) {
  const std::uint32_t old_version = reserved_slot(handle).version;
  count_first(storage_.control().reserved);
  vacate(handle.index(), old_version);
  detail::handle_access::spend(handle);
}

template <class T, class Key, class A>
template <class... Args>
Key deferred_map<T, Key, A>::emplace(Args&&... args) {
  // Where taking a slot moves the values there are, and the arguments may refer to one of them, the value
  // comes first. In persistent memory always: building it may throw, and nothing may be under way then.
  if constexpr (persistent) {
    T value(std::forward<Args>(args)...);
    return fill_vacant_slot(std::move(value));
  } else {
    if (next_slot_moves_others()) [[unlikely]] {
      typename storage_type::loose_value value(storage_, std::forward<Args>(args)...);
      return fill_vacant_slot(std::move(value.get()));
    }
    return fill_vacant_slot(std::forward<Args>(args)...);
  }
}

template <class T, class Key, class A>
template <class... Args>
[[gnu::always_inline]] inline Key deferred_map<T, Key, A>::fill_vacant_slot(Args&&... args) {
  const auto [index, vacant] = take_vacant_slot(storage_type::template constructs_nothrow<Args...>);
  slot_type& slot = slot_at(index);
  if constexpr (storage_type::template constructs_nothrow<Args...>) {
    storage_.construct(std::addressof(slot.value), std::forward<Args>(args)...);
  } else {
    vacate_on_exit guard(*this, index);
    storage_.construct(std::addressof(slot.value), std::forward<Args>(args)...);
    guard.armed = false;
  }
  const std::uint32_t occupied = vacant | version::occupied_bits;
  commit(slot, occupied);
  occupied_goes_up();
  return detail::key_access::make<Key>(index, occupied);
}

template <class T, class Key, class A>
template <class F>
Key deferred_map<T, Key, A>::insert_with_key(F make) {
  handle_type handle = allocate_handle();
  const release_on_exit guard(*this, handle);
  const Key key = handle.key();
  T value = make(key);
  emplace(std::move(handle), std::move(value));
  return key;
}

// Looking up --------------------------------------------------------------------------------------------------------

template <class T, class Key, class A>
template <std::size_t N>
std::optional<std::array<T*, N>> deferred_map<T, Key, A>::get_disjoint(std::array<Key, N> keys) noexcept {
  std::array<T*, N> values{};
  for (std::size_t i = 0; i < N; ++i) {
    values[i] = get(keys[i]);
    if (values[i] == nullptr) return std::nullopt;
    for (std::size_t j = 0; j < i; ++j)
      if (values[j] == values[i]) return std::nullopt;
  }
  return values;
}

template <class T, class Key, class A>
std::size_t deferred_map<T, Key, A>::get_many(std::span<const Key> keys, std::span<const T*> out) const {
  if (out.size() < keys.size()) fail::output_too_short();
  const std::uint32_t slot_count = storage_.control().slot_count;
  if (slot_count == 0) {
    std::fill_n(out.begin(), keys.size(), nullptr);
    return 0;
  }
  // No branch depends on whether a key is live: a mispredicted one costs more than the look-up itself. An
  // index past the end looks at slot 0 and is judged stale by the index.
  const slot_type* slots = storage_.slots();
  std::size_t live_count = 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::uint32_t index = keys[i].index();
    const bool exists = index < slot_count;
    const slot_type& slot = slots[exists ? index : 0];
    const bool live = exists & (slot.version == keys[i].occupied_version());
    out[i] = reinterpret_cast<const T*>(reinterpret_cast<std::uintptr_t>(std::addressof(slot.value)) &
                                        -static_cast<std::uintptr_t>(live));
    live_count += live;
  }
  return live_count;
}

template <class T, class Key, class A>
std::size_t deferred_map<T, Key, A>::get_many(std::span<const Key> keys, std::span<T*> out) {
  // T* and const T* are similar types, so a T* may be written through a const T* lvalue.
  const size_type live =
      std::as_const(*this).get_many(keys, std::span<const T*>(const_cast<const T**>(out.data()), out.size()));
  if constexpr (watched)
    for (size_type i = 0; i < keys.size(); ++i)
      if (out[i] != nullptr) about_to_change(keys[i].index());
  return live;
}

// Removing ----------------------------------------------------------------------------------------------------------

template <class T, class Key, class A>
std::optional<T> deferred_map<T, Key, A>::remove(Key key) {
  slot_type* slot = live_slot(key);
  if (slot == nullptr) return std::nullopt;
  return take_out(key);
}

/// Apart from `remove`, so that what is returned is built where the caller wants it and never copied.
template <class T, class Key, class A>
std::optional<T> deferred_map<T, Key, A>::take_out(Key key) {
  std::optional<T> taken(std::move(slot_at(key.index()).value));  // if this throws the value stays where it is
  destroy_and_vacate(key.index(), key.occupied_version());
  return taken;
}

template <class T, class Key, class A>
bool deferred_map<T, Key, A>::erase(Key key) noexcept {
  if (live_slot(key) == nullptr) return false;
  destroy_and_vacate(key.index(), key.occupied_version());
  return true;
}

template <class T, class Key, class A>
auto deferred_map<T, Key, A>::erase(iterator position) noexcept -> iterator {
  const std::uint32_t index = position.index_;
  ++position;
  destroy_and_vacate(index, slot_at(index).version);
  return position;
}

template <class T, class Key, class A>
auto deferred_map<T, Key, A>::detach(Key key) -> std::optional<std::pair<T, handle_type>> {
  // One variable for every return, or returning would move it, and that may throw when the value is out already.
  std::optional<std::pair<T, handle_type>> detached;
  slot_type* slot = live_slot(key);
  if (slot == nullptr) return detached;
  const std::uint64_t map_identity = identity();
  detached.emplace(std::move(slot->value), handle_type());
  storage_.destroy(std::addressof(slot->value));
  about_to_change(key.index());
  occupied_goes_down();
  commit(*slot, version::reserved(key.generation()));
  count_last(storage_.control().reserved);
  detached->second = detail::handle_access::make(key, map_identity);
  return detached;
}

template <class T, class Key, class A>
template <class F>
std::size_t deferred_map<T, Key, A>::retain(F keep) {
  std::size_t gone = 0;
  for (iterator it = begin(); it != end(); ++it) {
    const auto [key, value] = *it;
    if (keep(key, value)) continue;
    destroy_and_vacate(key.index(), key.occupied_version());
    ++gone;
  }
  return gone;
}

template <class T, class Key, class A>
void deferred_map<T, Key, A>::clear() noexcept {
  for (iterator it = begin(); it != end(); ++it) destroy_and_vacate(it.index_, slot_at(it.index_).version);
}

template <class T, class Key, class A>
std::size_t deferred_map<T, Key, A>::release_reserved() noexcept {
  std::size_t released = 0;
  auto& control = storage_.control();
  for (std::uint32_t index = 0; index < control.slot_count && control.reserved != 0; ++index) {
    const std::uint32_t old_version = slot_at(index).version;
    if (!version::is_reserved(old_version)) continue;
    count_first(control.reserved);
    vacate(index, old_version);
    ++released;
  }
  return released;
}

/// Takes values out one at a time; an input range. The one the walk is at is out of the map already and held
/// here, so looking at it twice is looking at the same.
template <class T, class Key, class A>
class deferred_map<T, Key, A>::drain_range {
 public:
  class iterator {
   public:
    using value_type = std::pair<Key, T>;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;

    /// To be moved from: `for (auto [key, value] : map.drain())`.
    value_type&& operator*() const noexcept { return std::move(*range_->taken_); }
    iterator& operator++() {
      range_->take_next();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& a, std::default_sentinel_t) noexcept { return a.at_end(); }

   private:
    friend class drain_range;
    bool at_end() const noexcept { return !range_->taken_; }
    explicit iterator(drain_range& range) noexcept : range_(&range) {}
    drain_range* range_;
  };

  drain_range(const drain_range&) = delete;
  drain_range& operator=(const drain_range&) = delete;
  ~drain_range() { map_.clear(); }

  iterator begin() {
    take_next();
    return iterator(*this);
  }
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  friend class deferred_map;
  explicit drain_range(deferred_map& map) noexcept : map_(map), position_(map.begin()) {}

  void take_next() {
    taken_.reset();
    if (position_ == map_.end()) return;
    const std::uint32_t index = position_.index_;
    taken_.emplace(position_->key, std::move(map_.slot_at(index).value));
    ++position_;
    map_.destroy_and_vacate(index, map_.slot_at(index).version);
  }

  deferred_map& map_;
  deferred_map::iterator position_;
  std::optional<std::pair<Key, T>> taken_;
};

// Room --------------------------------------------------------------------------------------------------------------

template <class T, class Key, class A>
void deferred_map<T, Key, A>::reserve(size_type additional) {
  const std::uint64_t vacant = storage_.vacant();
  if (additional <= vacant) return;
  if (additional - vacant > max_size() - slot_count()) fail::too_many_slots();
  const std::uint64_t wanted = slot_count() + (additional - vacant);
  if (wanted > storage_.capacity()) storage_.set_capacity(static_cast<std::uint32_t>(wanted));
}

template <class T, class Key, class A>
void deferred_map<T, Key, A>::shrink_to_fit() {
  auto& control = storage_.control();
  std::uint32_t keep = control.slot_count;
  std::uint32_t floor = control.generation_floor;
  // Retired slots stay: made again they would begin past their last generation.
  while (keep > 0 && version::state(slot_at(keep - 1).version) == slot_state::vacant) {
    floor = std::max(floor, version::generation(slot_at(keep - 1).version));
    --keep;
  }
  if (keep != control.slot_count) {
    // The memory that rebuilding needs is taken before anything changes.
    std::vector<std::uint64_t> taken = scan_versions().taken_or_reserved();
    taken.resize((std::size_t{keep} + 63) / 64);
    if (keep % 64 != 0) taken.back() |= ~std::uint64_t{0} << (keep % 64);
    const std::uint32_t dropped = control.slot_count - keep;
    if constexpr (persistent) control.vacant -= dropped;
    order_stores();
    control.generation_floor = floor;
    order_stores();
    storage_.rebuild_index(taken.data(), keep);
    order_stores();
    storage_.drop_slots(keep);
    order_stores();
  }
  storage_.set_capacity(keep);
}

}  // namespace dm
