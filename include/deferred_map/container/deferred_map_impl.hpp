// Definitions of deferred_map's longer members. Included by deferred_map.hpp only.
#pragma once

#include <algorithm>
#include <string>
#include <tuple>

#include "deferred_map/deferred_map.hpp"

namespace dm {

// Slots: taking and giving back
// --------------------------------------------------------------------------------

template <class T, class Key, class A>
auto deferred_map<T, Key, A>::live_slot(Key key) const noexcept -> slot_type* {
  const std::uint32_t index = key.index();
  if (index >= storage_.control().slot_count) [[unlikely]]
    return nullptr;
  slot_type& slot = slot_at(index);
  return slot.version == key.occupied_version() ? &slot : nullptr;
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
std::uint32_t deferred_map<T, Key, A>::take_vacant_slot() {
  auto& control = storage_.control();
  for (;;) {
    if (control.buffer_count == 0 && storage_.vacant() == 0) [[unlikely]]
      return append_slot();
    vacant_goes_down();
    if (control.buffer_count != 0 || storage_.index().take_words(control.slot_count)) [[likely]] {
      const std::uint32_t index = storage_.index().pop();
      if constexpr (!persistent) return index;
      // An index read from a file may say anything; the versions are the truth.
      if (is_there_to_take(index)) [[likely]]
        return index;
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
  if (slot.version == 0) [[unlikely]]
    commit(slot, version::vacant(std::max(storage_.control().generation_floor, version::first_generation)));
  return true;
}

template <class T, class Key, class A>
std::uint32_t deferred_map<T, Key, A>::append_slot() {
  const std::uint32_t index = storage_.control().slot_count;
  if (index == storage_.capacity()) [[unlikely]]
    storage_.grow(std::uint64_t{index} + 1);
  storage_.append_vacant(version::vacant(std::max(storage_.control().generation_floor, version::first_generation)));
  return index;
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
void deferred_map<T, Key, A>::enter_vacant(std::uint32_t index) noexcept {
  order_stores();
  storage_.index().push(index);
  vacant_goes_up();
}

/// A slot leaves `reserved` or `occupied` (and then has no value any more) for its next generation.
template <class T, class Key, class A>
void deferred_map<T, Key, A>::vacate(std::uint32_t index, std::uint32_t& count_of_old_state) noexcept {
  slot_type& slot = slot_at(index);
  std::uint32_t next = version::next_vacant(slot.version);
  if constexpr (persistent) {
    // No operation makes a slot live in the generation of the retired, but a damaged file may have one; its next
    // life must not be the first one again.
    if (version::generation(next) == 0) [[unlikely]]
      next = version::vacant(version::retired_generation);
  }
  count_first(count_of_old_state);
  commit(slot, next);
  if (version::is_retired(next)) [[unlikely]]
    count_last(storage_.control().retired);
  else
    enter_vacant(index);
}

template <class T, class Key, class A>
void deferred_map<T, Key, A>::destroy_and_vacate(std::uint32_t index) noexcept {
  storage_.destroy(std::addressof(slot_at(index).value));
  vacate(index, storage_.control().occupied);
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

// Reserving and filling
// ----------------------------------------------------------------------------------------

template <class T, class Key, class A>
auto deferred_map<T, Key, A>::allocate_handle() -> handle_type {
  const std::uint64_t map_identity = identity();
  const std::uint32_t index = take_vacant_slot();
  slot_type& slot = slot_at(index);
  const std::uint32_t generation = version::generation(slot.version);
  commit(slot, version::reserved(generation));
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
    count_first(storage_.control().reserved);
    storage_.construct(std::addressof(slot.value), std::move(value));
  } else {
    storage_.construct(std::addressof(slot.value), std::forward<Args>(args)...);
    count_first(storage_.control().reserved);
  }
  commit(slot, handle.key().occupied_version());
  count_last(storage_.control().occupied);
  detail::handle_access::spend(handle);
  return slot.value;
}

template <class T, class Key, class A>
void deferred_map<T, Key, A>::release_handle(handle_type&& handle) {
  reserved_slot(handle);
  vacate(handle.index(), storage_.control().reserved);
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
Key deferred_map<T, Key, A>::fill_vacant_slot(Args&&... args) {
  const std::uint32_t index = take_vacant_slot();
  slot_type& slot = slot_at(index);
  if constexpr (storage_type::template constructs_nothrow<Args...>) {
    storage_.construct(std::addressof(slot.value), std::forward<Args>(args)...);
  } else {
    vacate_on_exit guard(*this, index);
    storage_.construct(std::addressof(slot.value), std::forward<Args>(args)...);
    guard.armed = false;
  }
  const std::uint32_t occupied = version::occupied(version::generation(slot.version));
  commit(slot, occupied);
  count_last(storage_.control().occupied);
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

// Looking up
// ---------------------------------------------------------------------------------------------------

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
  return std::as_const(*this).get_many(keys, std::span<const T*>(const_cast<const T**>(out.data()), out.size()));
}

// Removing
// -----------------------------------------------------------------------------------------------------

template <class T, class Key, class A>
std::optional<T> deferred_map<T, Key, A>::remove(Key key) {
  slot_type* slot = live_slot(key);
  if (slot == nullptr) return std::nullopt;
  std::optional<T> taken(std::move(slot->value));  // if this throws the value stays where it is
  destroy_and_vacate(key.index());
  return taken;
}

template <class T, class Key, class A>
bool deferred_map<T, Key, A>::erase(Key key) noexcept {
  if (live_slot(key) == nullptr) return false;
  destroy_and_vacate(key.index());
  return true;
}

template <class T, class Key, class A>
auto deferred_map<T, Key, A>::erase(iterator position) noexcept -> iterator {
  const std::uint32_t index = position.index_;
  ++position;
  destroy_and_vacate(index);
  return position;
}

template <class T, class Key, class A>
auto deferred_map<T, Key, A>::detach(Key key) -> std::optional<std::pair<T, handle_type>> {
  slot_type* slot = live_slot(key);
  if (slot == nullptr) return std::nullopt;
  const std::uint64_t map_identity = identity();
  std::optional<std::pair<T, handle_type>> detached(std::in_place, std::move(slot->value), handle_type());
  storage_.destroy(std::addressof(slot->value));
  count_first(storage_.control().occupied);
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
    destroy_and_vacate(key.index());
    ++gone;
  }
  return gone;
}

template <class T, class Key, class A>
void deferred_map<T, Key, A>::clear() noexcept {
  for (iterator it = begin(); it != end(); ++it) destroy_and_vacate(it.index_);
}

template <class T, class Key, class A>
std::size_t deferred_map<T, Key, A>::release_reserved() noexcept {
  std::size_t released = 0;
  auto& control = storage_.control();
  for (std::uint32_t index = 0; index < control.slot_count && control.reserved != 0; ++index) {
    if (!version::is_reserved(slot_at(index).version)) continue;
    vacate(index, control.reserved);
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
    map_.destroy_and_vacate(index);
  }

  deferred_map& map_;
  deferred_map::iterator position_;
  std::optional<std::pair<Key, T>> taken_;
};

// Room
// ---------------------------------------------------------------------------------------------------------

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
    storage_.index().rebuild(taken.data(), keep, storage_.capacity());
    order_stores();
    storage_.drop_slots(keep);
    order_stores();
  }
  storage_.set_capacity(keep);
}

// Rebuilding, copying, checking
// --------------------------------------------------------------------------------

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
    std::uint64_t taken = 0;
    std::uint64_t given_back = 0;
    const auto first = static_cast<std::uint32_t>(word * 64);
    const std::uint32_t count = std::min<std::uint32_t>(64, slot_count - first);
    for (std::uint32_t i = 0; i < count; ++i) {
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
  storage_.index().rebuild(taken.data(), storage_.control().slot_count, storage_.capacity());
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
  storage_.index().rebuild(taken.data(), control.slot_count, storage_.capacity());
  order_stores();
  control.occupied = occupied;
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
  const std::uint32_t first = std::max(control.generation_floor, version::first_generation);
  for (std::uint32_t index = 0; index < found.first_unused; ++index)
    if (slot_at(index).version == 0) commit(slot_at(index), version::vacant(first));

  storage_.index().rebuild(found.taken.data(), control.slot_count, storage_.capacity());
  order_stores();
  control.occupied = found.occupied_count;
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
    ++control.occupied;
  }
  control.generation_floor = from.generation_floor;
  const scan found = scan_versions();
  control.retired = found.retired_count;
  storage_.index().rebuild(found.taken.data(), control.slot_count, storage_.capacity());
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
        ++control.occupied;
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
  if (control.occupied != found.occupied_count) return "the count of occupied slots is wrong";
  if (control.reserved != found.reserved_count) return "the count of reserved slots is wrong";
  if (control.retired != found.retired_count) return "the count of retired slots is wrong";
  const std::uint32_t vacant = control.slot_count - found.occupied_count - found.reserved_count - found.retired_count;
  if (storage_.vacant() != vacant) return "the count of vacant slots is wrong";
  if (control.generation_floor > version::last_generation) return "the generation floor is past the last generation";
  if (storage_.capacity() == 0) return {};
  const char* fault = const_cast<storage_type&>(storage_).index().first_fault(
      control.slot_count, [this](std::uint32_t index) { return state(index) == slot_state::vacant; });
  return fault == nullptr ? std::string() : fault;
}

}  // namespace dm
