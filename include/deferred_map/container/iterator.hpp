// Walking a map: a word of the bitmap at a time, so that empty slots cost a 64th of a step each.
#pragma once

#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <type_traits>

#include "deferred_map/container/slot.hpp"
#include "deferred_map/container/version.hpp"
#include "deferred_map/key.hpp"

namespace dm {

template <class T, class Key, class Allocator>
class deferred_map;

/// What a map's iterator points at: `for (auto [key, value] : map)`.
template <class Key, class T>
struct entry {
  Key key;
  T& value;
};

namespace detail {

enum class yields { entries, keys, values };

/// A forward iterator over the occupied slots, in slot order. `Map` is a deferred_map, const or not.
///
/// Holds a copy of the bits of the word it is in, so slots filled in that word after it got there may be
/// missed; erased ones are not visited. Growth does not invalidate it: it knows indices, not addresses.
template <class Map, yields What>
class slot_iterator {
  using key_type = typename Map::key_type;
  using mapped = std::conditional_t<std::is_const_v<Map>, const typename Map::mapped_type, typename Map::mapped_type>;
  using slot_type = slot<typename Map::mapped_type>;
  static constexpr std::uint32_t end_index = 0xffff'ffffu;
  static constexpr std::uint64_t end_offset = ~std::uint64_t{0};

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

  slot_iterator() noexcept = default;

  /// A const iterator from a mutable one.
  template <class Other>
  requires(std::is_const_v<Map>&& std::is_same_v<const Other, Map> && !std::is_const_v<Other>)
      slot_iterator(const slot_iterator<Other, What>& other)
  noexcept
      : map_(other.map_),
        offset_(other.offset_),
        full_until_(other.full_until_),
        index_(other.index_),
        base_(other.base_),
        bits_(other.bits_) {}

  reference operator*() const noexcept {
    auto& slot = here();
    if constexpr (!std::is_const_v<Map> && What != yields::keys)
      if constexpr (std::remove_const_t<Map>::watched) map_->about_to_change(index_);  // by whoever gets the reference
    if constexpr (What == yields::values)
      return slot.value;
    else if constexpr (What == yields::keys)
      return key_access::make<key_type>(index_, slot.version);
    else
      return {key_access::make<key_type>(index_, slot.version), slot.value};
  }
  pointer operator->() const noexcept {
    if constexpr (What == yields::values)
      return std::addressof(**this);
    else
      return arrow{**this};
  }

  slot_iterator& operator++() noexcept {
    // In a full word there are no bits to be found, only versions to be looked at.
    ++index_;
    offset_ += sizeof(slot_type);
    if (offset_ < full_until_ && version::is_occupied(here().version)) return *this;
    find_next();
    return *this;
  }
  slot_iterator operator++(int) noexcept {
    slot_iterator before = *this;
    ++*this;
    return before;
  }

  friend bool operator==(const slot_iterator& a, const slot_iterator& b) noexcept { return a.offset_ == b.offset_; }

 private:
  template <class, class, class>
  friend class dm::deferred_map;
  template <class, yields>
  friend class slot_iterator;

  /// At the first occupied slot at or behind `index`, or at the end.
  slot_iterator(Map* map, std::uint32_t index) noexcept : map_(map), base_(index / 64 * 64) {
    if (base_ < slot_count()) bits_ = load_word() & ~std::uint64_t{0} << index % 64;
    find_occupied();
  }

  /// At slot `index`, which is occupied whatever the bitmap says.
  static slot_iterator at_slot(Map* map, std::uint32_t index) noexcept {
    slot_iterator it;
    it.map_ = map;
    it.base_ = index / 64 * 64;
    it.go_to(index);
    // Twice: a shift by 64 is no shift.
    it.bits_ = it.load_word() & ~std::uint64_t{0} << index % 64 << 1;
    return it;
  }

  /// The slot the iterator is at. By its offset, and not by its address, so that growth does not matter; nor by its
  /// index, which would have to be multiplied.
  auto& here() const noexcept {
    using bytes = std::conditional_t<std::is_const_v<Map>, const std::byte, std::byte>;
    using slot_here = std::conditional_t<std::is_const_v<Map>, const slot_type, slot_type>;
    return *reinterpret_cast<slot_here*>(reinterpret_cast<bytes*>(map_->storage_.slots()) + offset_);
  }
  void go_to(std::uint32_t index) noexcept {
    index_ = index;
    offset_ = std::uint64_t{index} * sizeof(slot_type);
  }
  std::uint64_t slot_count() const noexcept { return map_->storage_.control().slot_count; }

  /// The taken bits of the word that begins at slot `base_`, without those behind the last slot.
  std::uint64_t load_word() const noexcept {
    const std::uint64_t bits = map_->storage_.taken_words()[base_ / 64];
    const std::uint64_t left = slot_count() - base_;
    return left < 64 ? bits & ((std::uint64_t{1} << left) - 1) : bits;
  }

  void find_next() noexcept {
    if (full_until_ != 0 && find_in_full_word()) return;
    find_occupied();
  }

  /// Goes to the first occupied slot in `bits_` or in the words behind. A taken slot may also be reserved, retired,
  /// or wait in the vacancy buffer: its version tells.
  void find_occupied() noexcept {
    for (;;) {
      while (bits_ != 0) {
        go_to(static_cast<std::uint32_t>(base_) + static_cast<std::uint32_t>(std::countr_zero(bits_)));
        bits_ &= bits_ - 1;
        if (version::is_occupied(here().version)) return;
      }
      const std::uint64_t count = slot_count();
      const std::uint64_t* words = map_->storage_.taken_words();
      do {
        base_ += 64;
        if (base_ >= count) {
          index_ = end_index;
          offset_ = end_offset;
          return;
        }
        bits_ = words[base_ / 64];
      } while (bits_ == 0);
      if (count - base_ < 64) [[unlikely]]
        bits_ = load_word();
      if (bits_ == full_word) {
        bits_ = 0;
        go_to(static_cast<std::uint32_t>(base_));
        full_until_ = offset_ + 64 * sizeof(slot_type);
        if (count * sizeof(slot_type) >= fetch_from_bytes)
          fetch_ahead();
        else
          extend_full(words, count);
        if (find_in_full_word()) return;
      }
    }
  }

  /// Goes to the first occupied slot before `full_until_`; false where there is none.
  bool find_in_full_word() noexcept {
    for (; offset_ < full_until_; ++index_, offset_ += sizeof(slot_type))
      if (version::is_occupied(here().version)) return true;
    full_until_ = 0;
    return false;
  }

  /// Asks for the slots a page ahead of a walk through full words. The processor's own prefetching does that as
  /// well, but stops at pages of 4 KiB and is late from memory: without this a walk through 10 M values took 2.3 ns
  /// each, with it 1.4. Where everything fits into the caches it would only be in the way.
  // Inlined whatever it takes: g++ takes a function that only prefetches for one without effects, and drops calls of it.
  [[gnu::always_inline]] inline void fetch_ahead() const noexcept {
    constexpr std::uint64_t word_bytes = 64 * sizeof(slot_type);
    if constexpr (word_bytes <= 4096) {
      const char* const ahead = reinterpret_cast<const char*>(std::addressof(here())) + 4096;
      for (std::uint64_t byte = 0; byte < word_bytes; byte += 64) __builtin_prefetch(ahead + byte);
    }
  }
  /// Takes full words that follow into the run: each end of a run is a branch that the processor does not foresee.
  void extend_full(const std::uint64_t* words, std::uint64_t count) noexcept {
    for (unsigned more = 0; more < 63 && base_ + 128 <= count && words[base_ / 64 + 1] == full_word; ++more) {
      base_ += 64;
      full_until_ += 64 * sizeof(slot_type);
    }
  }

  static constexpr std::uint64_t full_word = ~std::uint64_t{0};
  static constexpr std::uint64_t fetch_from_bytes = std::uint64_t{4} << 20;

  Map* map_ = nullptr;
  std::uint64_t offset_ = end_offset;  // of the slot the iterator is at, in bytes
  std::uint64_t full_until_ = 0;       // up to this offset every slot is taken; 0 where the walk goes by `bits_`
  std::uint32_t index_ = end_index;    // of the slot the iterator is at
  std::uint64_t base_ = 0;             // the first slot of the word the walk is in
  std::uint64_t bits_ = 0;             // the slots of that word still to be looked at
};

}  // namespace detail
}  // namespace dm
