// Walking a secondary map: a word of its presence bits at a time, so that empty places cost a 64th of a step each.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <type_traits>

#include "deferred_map/container/iterator.hpp"
#include "deferred_map/key.hpp"

namespace dm::detail {

/// A forward iterator over the values of a secondary map, in the order of their places. `Map` is a secondary_base,
/// const or not.
///
/// Holds a copy of the bits of the word it is in, so values added in that word after it got there may be missed;
/// erased ones are not visited. Growth does not invalidate it: it knows places, not addresses.
template <class Map, yields What>
class secondary_iterator {
  using key_type = typename Map::key_type;
  using mapped = std::conditional_t<std::is_const_v<Map>, const typename Map::mapped_type, typename Map::mapped_type>;
  static constexpr std::uint32_t end_position = 0xffff'ffffu;

 public:
  using reference = std::conditional_t<What == yields::entries, entry<key_type, mapped>,
                                       std::conditional_t<What == yields::keys, key_type, mapped&>>;
  using value_type = std::conditional_t<What == yields::values, std::remove_const_t<mapped>, reference>;
  using difference_type = std::ptrdiff_t;
  using iterator_concept = std::forward_iterator_tag;
  using iterator_category =
      std::conditional_t<What == yields::values, std::forward_iterator_tag, std::input_iterator_tag>;

  /// `operator->` of an iterator whose reference is a temporary.
  struct arrow {
    reference held;
    reference* operator->() noexcept { return std::addressof(held); }
  };
  using pointer = std::conditional_t<What == yields::values, mapped*, arrow>;

  secondary_iterator() noexcept = default;

  /// A const iterator from a mutable one.
  template <class Other>
  requires(std::is_const_v<Map>&& std::is_same_v<const Other, Map> && !std::is_const_v<Other>)
      secondary_iterator(const secondary_iterator<Other, What>& other)
  noexcept : map_(other.map_), position_(other.position_), base_(other.base_), bits_(other.bits_) {}

  reference operator*() const noexcept {
    auto& slot = map_->places_.slots()[position_];
    if constexpr (What == yields::values)
      return slot.value;
    else if constexpr (What == yields::keys)
      return key_access::make<key_type>(map_->places_.index_at(position_), slot.version);
    else
      return {key_access::make<key_type>(map_->places_.index_at(position_), slot.version), slot.value};
  }
  pointer operator->() const noexcept {
    if constexpr (What == yields::values)
      return std::addressof(**this);
    else
      return arrow{**this};
  }

  secondary_iterator& operator++() noexcept {
    find_present();
    return *this;
  }
  secondary_iterator operator++(int) noexcept {
    secondary_iterator before = *this;
    ++*this;
    return before;
  }

  friend bool operator==(const secondary_iterator& a, const secondary_iterator& b) noexcept {
    return a.position_ == b.position_;
  }

 private:
  template <class, class, class, class>
  friend class secondary_base;
  template <class, yields>
  friend class secondary_iterator;

  /// At the first value.
  explicit secondary_iterator(Map* map) noexcept : map_(map), base_(std::uint64_t{0} - 64) { find_present(); }

  /// At `position`, where there is a value.
  secondary_iterator(Map* map, std::uint32_t position) noexcept
      : map_(map),
        position_(position),
        base_(position / 64 * 64),
        bits_(map->places_.presence_words()[position / 64] & ~std::uint64_t{1} << position % 64) {}

  void find_present() noexcept {
    do {
      if (bits_ == 0 && !find_word()) {
        position_ = end_position;
        return;
      }
      position_ = static_cast<std::uint32_t>(base_) + static_cast<std::uint32_t>(std::countr_zero(bits_));
      bits_ &= bits_ - 1;
      // It may have been erased since the bits were read, and the slots behind the last dropped.
    } while (position_ >= map_->places_.slot_count() || map_->places_.slots()[position_].version == 0);
  }

  bool find_word() noexcept {
    const std::uint64_t slot_count = map_->places_.slot_count();
    const std::uint64_t* words = map_->places_.presence_words();
    for (base_ += 64; base_ < slot_count; base_ += 64)
      if ((bits_ = words[base_ / 64]) != 0) return true;
    return false;
  }

  Map* map_ = nullptr;
  std::uint32_t position_ = end_position;
  std::uint64_t base_ = 0;  // the first place of the word the walk is in
  std::uint64_t bits_ = 0;  // the places of that word still to be looked at
};

}  // namespace dm::detail
