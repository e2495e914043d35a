// Joins: walking a map together with secondary maps, over the keys that have a value in all of them.
//
// Without a sparse map the walk goes by words of 64 slots, the map's bits AND the bits of each secondary map, and so
// passes over 64 slots where one of them has nothing in a step. With sparse maps it goes over the entries of the
// smallest of those. Either way bits only propose: a key is joined where all maps have its version.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "deferred_map/container/join_walk.hpp"
#include "deferred_map/container/secondary_base.hpp"
#include "deferred_map/container/version.hpp"
#include "deferred_map/deferred_map.hpp"
#include "deferred_map/key.hpp"

namespace dm {
namespace detail {

/// Whether `Map` is a secondary map of either kind.
template <class Map>
concept secondary_of_any_kind = requires(const Map* map) {
  walk_access::is_hashed(map);
};

/// `T`, const where `Map` is.
template <class Map>
using joined_value =
    std::conditional_t<std::is_const_v<Map>, const typename Map::mapped_type, typename Map::mapped_type>;

/// A forward iterator over the keys that are live in `Primary` and have a value in all `Secondaries`.
///
/// Holds a copy of the bits of the word it is in and the addresses of the values it is at. During a walk values may
/// be changed and erased, that of any key from any of the maps. What is added may be missed, and an addition that
/// moves values takes the present ones from under the iterator; after the next step all is well again.
template <class Primary, class... Secondaries>
class join_iterator {
  static constexpr std::size_t count = sizeof...(Secondaries);
  static constexpr std::array<bool, count> hashed{walk_access::is_hashed(static_cast<const Secondaries*>(nullptr))...};
  static constexpr bool any_hashed = (walk_access::is_hashed(static_cast<const Secondaries*>(nullptr)) || ...);
  static constexpr std::uint32_t end_position = 0xffff'ffffu;

 public:
  using key_type = typename Primary::key_type;
  using reference = std::tuple<key_type, joined_value<Primary>&, joined_value<Secondaries>&...>;
  using value_type = reference;
  using difference_type = std::ptrdiff_t;
  using iterator_concept = std::forward_iterator_tag;
  using iterator_category = std::input_iterator_tag;  // as the reference is a temporary

  join_iterator() noexcept = default;

  reference operator*() const noexcept {
    return std::apply([this](auto*... values) { return reference(key_, *values...); }, values_);
  }

  join_iterator& operator++() noexcept {
    find_joined();
    return *this;
  }
  join_iterator operator++(int) noexcept {
    join_iterator before = *this;
    ++*this;
    return before;
  }

  friend bool operator==(const join_iterator& a, const join_iterator& b) noexcept { return a.position_ == b.position_; }

 private:
  template <class, class...>
  friend class join_range;
  using indices = std::make_index_sequence<count>;

  /// At the first joined key.
  explicit join_iterator(const std::tuple<Primary*, Secondaries*...>& maps) noexcept : maps_(maps) {
    if constexpr (any_hashed) choose_driver(indices());
    find_joined();
  }

  template <std::size_t I>
  auto& secondary() const noexcept {
    return *std::get<I + 1>(maps_);
  }

  /// The smallest sparse map.
  template <std::size_t... I>
  void choose_driver(std::index_sequence<I...>) noexcept {
    std::size_t smallest = ~std::size_t{0};
    const auto compare = [&](std::size_t which, std::size_t size) {
      if (!hashed[which] || size >= smallest) return;
      smallest = size;
      driver_ = which;
    };
    (compare(I, secondary<I>().size()), ...);
  }

  void find_joined() noexcept {
    do {
      if (bits_ == 0 && !find_word(indices())) {
        position_ = end_position;
        return;
      }
      position_ = static_cast<std::uint32_t>(base_) + static_cast<std::uint32_t>(std::countr_zero(bits_));
      bits_ &= bits_ - 1;
    } while (any_hashed ? !look_from_driver(indices()) : !look_in_slots(indices()));
  }

  /// The next word with a bit in it.
  template <std::size_t... I>
  bool find_word(std::index_sequence<I...>) noexcept {
    if constexpr (any_hashed) {
      const std::uint64_t* words = nullptr;
      std::uint64_t slot_count = 0;
      const auto ask = [&](std::size_t which, const auto& map) {
        if (which != driver_) return;
        words = walk_access::words(map);
        slot_count = walk_access::slot_count(map);
      };
      (ask(I, secondary<I>()), ...);
      for (base_ += 64; base_ < slot_count; base_ += 64)
        if ((bits_ = words[base_ / 64]) != 0) return true;
    } else {
      const Primary& primary = *std::get<0>(maps_);
      const std::uint64_t* taken = walk_access::words(primary);
      // Zero-sized arrays are not C++; the last entry is not used.
      const std::array<const std::uint64_t*, count + 1> presence{walk_access::words(secondary<I>())..., nullptr};
      std::uint64_t slot_count = walk_access::slot_count(primary);
      ((slot_count = std::min<std::uint64_t>(slot_count, walk_access::slot_count(secondary<I>()))), ...);
      for (base_ += 64; base_ < slot_count; base_ += 64) {
        bits_ = taken[base_ / 64];
        for (std::size_t i = 0; i < count; ++i) bits_ &= presence[i][base_ / 64];
        // What follows the last slot is marked as taken.
        if (slot_count - base_ < 64) bits_ &= (std::uint64_t{1} << (slot_count - base_)) - 1;
        if (bits_ != 0) return true;
      }
    }
    return false;
  }

  /// Whether the slots at `position_` of all maps hold values of one key.
  template <std::size_t... I>
  bool look_in_slots([[maybe_unused]] std::index_sequence<I...> all) noexcept {
    if constexpr (any_hashed) {
      return false;
    } else {
      auto& slot = walk_access::slot(*std::get<0>(maps_), position_);
      // A taken slot may also be reserved, retired, or wait in the vacancy buffer.
      if (!version::is_occupied(slot.version)) return false;
      key_ = key_access::make<key_type>(position_, slot.version);
      std::get<0>(values_) = std::addressof(slot.value);
      if (!((std::get<I + 1>(values_) = secondary<I>().get(key_)) && ...)) return false;
      walk_access::hands_out(*std::get<0>(maps_), position_);
      return true;
    }
  }

  /// Whether the key of the driver's entry at `position_` has values in all maps.
  template <std::size_t... I>
  bool look_from_driver([[maybe_unused]] std::index_sequence<I...> all) noexcept {
    if constexpr (any_hashed) {
      if (!(look_at_driver<I>() || ...)) return false;
      std::get<0>(values_) = std::get<0>(maps_)->get(key_);
      return std::get<0>(values_) != nullptr && (look_up_unless_driver<I>() && ...);
    } else {
      return false;
    }
  }
  /// The key and the value of the entry, if map I is the driver and the entry was not erased in the meantime.
  template <std::size_t I>
  bool look_at_driver() noexcept {
    if (I != driver_ || position_ >= walk_access::slot_count(secondary<I>())) return false;
    auto& slot = walk_access::slot(secondary<I>(), position_);
    if (slot.version == 0) return false;
    key_ = key_access::make<key_type>(walk_access::index_at(secondary<I>(), position_), slot.version);
    std::get<I + 1>(values_) = std::addressof(slot.value);
    return true;
  }
  template <std::size_t I>
  bool look_up_unless_driver() noexcept {
    return I == driver_ || (std::get<I + 1>(values_) = secondary<I>().get(key_)) != nullptr;
  }

  std::tuple<Primary*, Secondaries*...> maps_{};
  std::tuple<joined_value<Primary>*, joined_value<Secondaries>*...> values_{};
  key_type key_{};
  std::uint32_t position_ = end_position;
  std::size_t driver_ = 0;                      // with sparse maps: which of the secondary ones is walked
  std::uint64_t base_ = std::uint64_t{0} - 64;  // the first position of the word the walk is in; before: one word less
  std::uint64_t bits_ = 0;                      // the positions of that word still to be looked at
};

/// What `dm::join` returns: the maps by their addresses, nothing else. Each `begin()` starts anew.
template <class Primary, class... Secondaries>
class join_range {
 public:
  using iterator = join_iterator<Primary, Secondaries...>;

  explicit join_range(Primary& primary, Secondaries&... secondaries) noexcept
      : maps_(std::addressof(primary), std::addressof(secondaries)...) {}

  iterator begin() const noexcept { return iterator(maps_); }
  iterator end() const noexcept { return iterator(); }
  bool empty() const noexcept { return begin() == end(); }

 private:
  std::tuple<Primary*, Secondaries*...> maps_;
};

}  // namespace detail

/// The keys that are live in `primary` and have a value in each of the `secondaries`, with all these values:
///
///     for (auto [key, body, mass, name] : dm::join(bodies, masses, names)) body.accelerate(force / mass);
///
/// `primary` is a deferred_map or a mapped_map, the others are secondary maps of either kind, in any mix and number.
/// What the range yields is a `std::tuple` of the key and references, to const where a map is const; take it as
/// `auto`, not as `auto&`. An entry of a secondary map whose key is no longer live in `primary` is passed over.
///
/// Order: of the slots. With sparse maps: of the entries of the smallest of them when the walk began.
///
/// Cost: without sparse maps a step for every 64 slots and one for each key that all may have; with sparse maps a
/// step and a few look-ups for each entry of the smallest.
///
/// During the walk values may be changed and erased, from any of the maps. What is added may or may not be seen, and
/// adding invalidates the references just obtained, as it does without a join. The maps must outlive the range.
template <class Primary, class... Secondaries>
auto join(Primary& primary, Secondaries&... secondaries) noexcept {
  static_assert((detail::secondary_of_any_kind<Secondaries> && ...),
                "dm::join(map, secondaries...): all but the first must be secondary maps");
  auto& map = detail::walk_access::primary_of(primary);
  static_assert((std::is_same_v<typename Primary::key_type, typename Secondaries::key_type> && ...),
                "dm::join(map, secondaries...): all must have the same type of key");
  return detail::join_range<std::remove_reference_t<decltype(map)>, Secondaries...>(map, secondaries...);
}

}  // namespace dm
