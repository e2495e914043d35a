// The secondary maps: adding, replacing, removing, copying. Included by secondary_base.hpp only.
#pragma once

#include <utility>

#include "deferred_map/container/secondary_base.hpp"

namespace dm::detail {

/// Whether `attempt` returned, where it may throw and nobody is left to tell.
template <class F>
bool succeeds(F attempt) noexcept {
#if defined(__cpp_exceptions)
  try {
    attempt();
    return true;
  } catch (...) {
    return false;
  }
#else
  attempt();
  return true;
#endif
}

// Adding ------------------------------------------------------------------------------------------------------------

/// False for the null key, and for what no map hands out but memory may hold.
template <class T, class Key, class A, class Places>
bool secondary_base<T, Key, A, Places>::names_a_life(Key key) noexcept {
  const std::uint32_t generation = version::generation(key.occupied_version());
  return generation >= version::first_generation && generation <= version::last_generation;
}

template <class T, class Key, class A, class Places>
std::optional<T> secondary_base<T, Key, A, Places>::insert(Key key, T value) {
  slot_type* slot = places_.find(key.index());
  if (slot != nullptr && slot->version != 0) {
    const std::uint32_t v = key.occupied_version();
    if (slot->version == v) return replace(*slot, std::move(value));
    if (slot->version < v && names_a_life(key)) overwrite(*slot, key, std::move(value));
    return std::nullopt;
  }
  if (!names_a_life(key)) return std::nullopt;
  slot_type& place = places_.make_room(key.index());
  places_.construct(std::addressof(place.value), std::move(value));
  places_.fill(place, key.index(), key.occupied_version());
  return std::nullopt;
}

template <class T, class Key, class A, class Places>
template <class... Args>
std::pair<T*, bool> secondary_base<T, Key, A, Places>::try_emplace(Key key, Args&&... args) {
  if (!names_a_life(key)) return {nullptr, false};
  slot_type* slot = places_.find(key.index());
  if (slot == nullptr || slot->version == 0) {
    slot = std::addressof(add(key, std::forward<Args>(args)...));
    return {std::addressof(slot->value), true};
  }
  const std::uint32_t v = key.occupied_version();
  if (slot->version == v) return {std::addressof(slot->value), false};
  if (slot->version > v) return {nullptr, false};
  // Built outside: the arguments may refer to the value that goes, and the constructor may throw.
  loose_value<T, Places> value(places_, std::forward<Args>(args)...);
  overwrite(*slot, key, std::move(value.get()));
  return {std::addressof(slot->value), true};
}

/// A value for a key whose slot has none.
template <class T, class Key, class A, class Places>
template <class... Args>
auto secondary_base<T, Key, A, Places>::add(Key key, Args&&... args) -> slot_type& {
  const std::uint32_t index = key.index();
  if (places_.room_moves_values(index)) [[unlikely]] {
    // The arguments may refer to one of those that move.
    loose_value<T, Places> value(places_, std::forward<Args>(args)...);
    slot_type& place = places_.make_room(index);
    places_.construct(std::addressof(place.value), std::move(value.get()));
    places_.fill(place, index, key.occupied_version());
    return place;
  }
  slot_type& place = places_.make_room(index);
  places_.construct(std::addressof(place.value), std::forward<Args>(args)...);
  places_.fill(place, index, key.occupied_version());
  return place;
}

// Putting a value in the place of another ---------------------------------------------------------------------------

/// Gives a slot its old value again unless told that it has a new one. If that throws too, the slot is empty.
template <class T, class Key, class A, class Places>
struct secondary_base<T, Key, A, Places>::put_back {
  secondary_base& map;
  slot_type& slot;
  T& spare;
  bool armed = true;

  put_back(secondary_base& owner, slot_type& emptied, T& old) noexcept : map(owner), slot(emptied), spare(old) {}
  put_back(const put_back&) = delete;
  put_back& operator=(const put_back&) = delete;
  ~put_back() {
    if (!armed) return;
    Places& places = map.places_;
    if (!succeeds([&] { places.construct(std::addressof(slot.value), std::move(spare)); }))
      places.give_up(slot, places.index_at(places.position_of(slot)));
  }
};

/// Ends the life of a value that was moved to `spare` and builds the new one in its place.
template <class T, class Key, class A, class Places>
void secondary_base<T, Key, A, Places>::exchange(slot_type& slot, T&& value, T& spare) {
  places_.destroy(std::addressof(slot.value));
  if constexpr (Places::template constructs_nothrow<T>) {
    places_.construct(std::addressof(slot.value), std::move(value));
  } else {
    put_back guard(*this, slot, spare);
    places_.construct(std::addressof(slot.value), std::move(value));
    guard.armed = false;
  }
}

template <class T, class Key, class A, class Places>
std::optional<T> secondary_base<T, Key, A, Places>::replace(slot_type& slot, T&& value) {
  std::optional<T> old(std::move(slot.value));  // if this throws the value stays where it is
  exchange(slot, std::move(value), *old);
  return old;
}

template <class T, class Key, class A, class Places>
void secondary_base<T, Key, A, Places>::overwrite(slot_type& slot, Key key, T&& value) {
  if constexpr (Places::template constructs_nothrow<T>) {
    places_.destroy(std::addressof(slot.value));
    places_.construct(std::addressof(slot.value), std::move(value));
  } else {
    loose_value<T, Places> spare(places_, std::move(slot.value));
    exchange(slot, std::move(value), spare.get());
  }
  slot.version = key.occupied_version();
}

// Looking up and removing -------------------------------------------------------------------------------------------

template <class T, class Key, class A, class Places>
template <std::size_t N>
std::optional<std::array<T*, N>> secondary_base<T, Key, A, Places>::get_disjoint(std::array<Key, N> keys) noexcept {
  std::array<T*, N> values{};
  for (std::size_t i = 0; i < N; ++i) {
    values[i] = get(keys[i]);
    if (values[i] == nullptr) return std::nullopt;
    for (std::size_t j = 0; j < i; ++j)
      if (values[j] == values[i]) return std::nullopt;
  }
  return values;
}

template <class T, class Key, class A, class Places>
void secondary_base<T, Key, A, Places>::destroy_and_give_up(slot_type& slot, std::uint32_t index) noexcept {
  places_.destroy(std::addressof(slot.value));
  places_.give_up(slot, index);
}

template <class T, class Key, class A, class Places>
std::optional<T> secondary_base<T, Key, A, Places>::remove(Key key) {
  slot_type* slot = places_.find(key.index());
  if (slot == nullptr || slot->version != key.occupied_version()) return std::nullopt;
  return take_out(*slot, key.index());
}

/// A function of its own, so that there is one object to return and nothing that moves it once the entry is gone.
template <class T, class Key, class A, class Places>
std::optional<T> secondary_base<T, Key, A, Places>::take_out(slot_type& slot, std::uint32_t index) {
  std::optional<T> taken(std::move(slot.value));  // if this throws the value stays where it is
  destroy_and_give_up(slot, index);
  return taken;
}

template <class T, class Key, class A, class Places>
bool secondary_base<T, Key, A, Places>::erase(Key key) noexcept {
  slot_type* slot = places_.find(key.index());
  if (slot == nullptr || slot->version != key.occupied_version()) return false;
  destroy_and_give_up(*slot, key.index());
  return true;
}

template <class T, class Key, class A, class Places>
auto secondary_base<T, Key, A, Places>::erase(iterator position) noexcept -> iterator {
  const std::uint32_t at = position.position_;
  ++position;
  destroy_and_give_up(places_.slots()[at], places_.index_at(at));
  return position;
}

template <class T, class Key, class A, class Places>
template <class F>
std::size_t secondary_base<T, Key, A, Places>::retain(F keep) {
  std::size_t gone = 0;
  for (iterator it = begin(); it != end(); ++it) {
    const auto [key, value] = *it;
    if (keep(key, value)) continue;
    destroy_and_give_up(places_.slots()[it.position_], key.index());
    ++gone;
  }
  return gone;
}

// Copying and moving as a whole -------------------------------------------------------------------------------------

/// Builds a value for each of `other`, from `how(its value)`, in the same order. This map is empty.
template <class T, class Key, class A, class Places>
template <class How>
void secondary_base<T, Key, A, Places>::build_from(const Places& other, How how) {
  if (other.size() == 0) return;
  places_.reserve(other.room_for_copy());
  other.for_each_position([&](std::uint32_t position) {
    slot_type& source = other.slots()[position];
    const std::uint32_t index = other.index_at(position);
    slot_type& place = places_.make_room(index);
    places_.construct(std::addressof(place.value), how(source.value));
    places_.fill(place, index, source.version);
  });
}

/// Moves every value of `other`, whose memory this map's allocator may be unable to free. This map is empty.
template <class T, class Key, class A, class Places>
void secondary_base<T, Key, A, Places>::move_from(secondary_base&& other) {
  if (places_.allocator() == other.places_.allocator()) {
    places_.take(other.places_);
    return;
  }
  build_from(other.places_, [](T& value) -> T&& { return std::move(value); });
  other.places_.reset();
}

template <class T, class Key, class A, class Places>
void secondary_base<T, Key, A, Places>::copy_assign(const secondary_base& other) {
  constexpr bool propagate = allocator_traits::propagate_on_container_copy_assignment::value;
  secondary_base copy(other, propagate ? other.get_allocator() : get_allocator());
  // Built beside, then switched: whatever threw has changed nothing. The old memory goes with its own allocator.
  places_.swap_contents(copy.places_);
  if constexpr (propagate) std::swap(places_.allocator(), copy.places_.allocator());
}

template <class T, class Key, class A, class Places>
void secondary_base<T, Key, A, Places>::move_assign(secondary_base&& other) {
  if constexpr (allocator_traits::propagate_on_container_move_assignment::value) {
    places_.reset();
    places_.allocator() = std::move(other.places_.allocator());
    places_.take(other.places_);
  } else {
    secondary_base moved(std::move(other), get_allocator());
    places_.swap_contents(moved.places_);
  }
}

}  // namespace dm::detail
