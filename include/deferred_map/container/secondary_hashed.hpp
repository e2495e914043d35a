// Where a sparse secondary map keeps the value of a key: in the hash table, in one of seven slots of a group.
//
//            byte 7     6       1       0
//   groups  | passed | mark | ... | mark |   ...     mark 0: the slot is empty; else 8 bits of the hash of its index
//                        |               \___
//   slots   { version | index | value } ...  slot 7 g + i is that of mark i of group g
//
// Invariants beyond those of secondary_slots, where all slots are built from the start:
//  1. A slot's mark is 0 exactly when the slot is empty; its index is then 2^32 - 1, which no key has.
//  2. A value is in the group that its index hashes to or, if that was full then, in one of those behind it.
//  3. `passed` counts the values for which a search begins in this group or before it and ends behind it. At 255 it
//     stays: from then on it says "many".
//  4. The groups are a power of two, with three quarters of their slots filled at most, or there are none.
//
// A search looks at the seven marks at once, as one word, then almost always at the right slot or at none. It ends in
// the first group that nothing has passed. Erasing takes its traces back and moves nothing: no tombstones, no value of
// another key touched, nothing that could throw.
//
// Why not values side by side in another array, with their positions in the table: walks are faster then, but a look-up
// goes through one array more, and an entry takes 9 to 21 bytes of table where here it takes 1.1 and a share of the
// empty slots.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "deferred_map/container/secondary_slots.hpp"

namespace dm::detail {

/// A slot that knows the index of the key whose value it holds.
template <class T>
struct keyed_slot {
  static constexpr std::uint32_t no_index = 0xffff'ffffu;

  std::uint32_t version;
  std::uint32_t index;
  union {
    T value;
  };

  keyed_slot() noexcept : version(0), index(no_index) {}
  ~keyed_slot() {}  // the value, if there is one, is its map's to destroy
  keyed_slot(const keyed_slot&) = delete;
  keyed_slot& operator=(const keyed_slot&) = delete;
};

template <class T>
void copy_head(keyed_slot<T>& to, const keyed_slot<T>& from) noexcept {
  to.index = from.index;
  to.version = from.version;
}

/// Forty bits: the low 32 choose the group, the upper eight are the mark. Indices are small numbers, often at even
/// distances; whatever bits of a multiplication alone are taken, the multiples of some distance gather in few groups.
inline std::uint64_t index_hash(std::uint32_t index) noexcept {
  std::uint64_t x = index * 0x9e3779b97f4a7c15u;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  return x >> 24;
}

/// The word of a group: seven marks, and how many values have passed.
class hash_group {
 public:
  static constexpr std::uint32_t slots = 7;

  explicit constexpr hash_group(std::uint64_t word) noexcept : word_(word) {}
  constexpr std::uint64_t word() const noexcept { return word_; }

  /// The top bit of each of the seven bytes that is `mark`, and of few others, none of them the lowest.
  constexpr std::uint64_t candidates(std::uint64_t mark) const noexcept {
    const std::uint64_t differing = word_ ^ mark * ones;
    return (differing - ones) & ~differing & tops;
  }
  static constexpr std::uint32_t slot_of(std::uint64_t candidates) noexcept {
    return static_cast<std::uint32_t>(std::countr_zero(candidates)) / 8;
  }
  /// The first empty slot, or `slots`.
  constexpr std::uint32_t empty_slot() const noexcept {
    const std::uint64_t empty = candidates(0);
    return empty == 0 ? slots : slot_of(empty);
  }
  constexpr std::uint64_t mark(std::uint32_t slot) const noexcept { return word_ >> 8 * slot & 0xff; }
  constexpr hash_group with_mark(std::uint32_t slot, std::uint64_t mark) const noexcept {
    return hash_group((word_ & ~(std::uint64_t{0xff} << 8 * slot)) | mark << 8 * slot);
  }

  constexpr std::uint64_t passed() const noexcept { return word_ >> 56; }
  static constexpr std::uint64_t many = 255;
  constexpr hash_group one_more_passed() const noexcept {
    return hash_group(passed() == many ? word_ : word_ + one_passed);
  }
  constexpr hash_group one_less_passed() const noexcept {
    return hash_group(passed() == many ? word_ : word_ - one_passed);
  }

 private:
  static constexpr std::uint64_t ones = 0x0001'0101'0101'0101u;
  static constexpr std::uint64_t tops = 0x0080'8080'8080'8080u;
  static constexpr std::uint64_t one_passed = std::uint64_t{1} << 56;
  std::uint64_t word_;
};

/// Finding, making and giving up places for `secondary_base`, as secondary_dense does.
template <class T, class Allocator>
class secondary_hashed : public secondary_slots<T, keyed_slot<T>, Allocator> {
  using base = secondary_slots<T, keyed_slot<T>, Allocator>;
  static constexpr std::uint32_t no_index = keyed_slot<T>::no_index;

 public:
  static constexpr bool hashed = true;
  using typename base::slot_type;

  secondary_hashed() requires(std::is_default_constructible_v<Allocator>) = default;
  explicit secondary_hashed(const Allocator& allocator) noexcept : base(allocator) {}
  secondary_hashed(secondary_hashed&& other) noexcept : base(std::move(other)) { take_groups(other); }
  ~secondary_hashed() { deallocate_groups(); }

  slot_type* find(std::uint32_t index) const noexcept {
    const std::uint64_t hash = index_hash(index);
    const std::uint64_t* words = std::to_address(groups_);
    std::uint64_t at = hash & (group_count_ - 1);
    // Every group may have been passed by some value, hence the count.
    for (std::uint64_t left = group_count_; left != 0; --left, at = (at + 1) & (group_count_ - 1)) {
      const hash_group group(words[at]);
      for (std::uint64_t bits = group.candidates(mark_of(hash)); bits != 0; bits &= bits - 1) {
        slot_type* slot = base::slots() + (at * hash_group::slots + hash_group::slot_of(bits));
        if (slot->index == index) [[likely]]
          return slot;
      }
      if (group.passed() == 0) [[likely]]
        return nullptr;
    }
    return nullptr;
  }
  const T* get(std::uint32_t index, std::uint32_t occupied_version) const noexcept {
    const slot_type* slot = find(index);
    return slot != nullptr && slot->version == occupied_version ? std::addressof(slot->value) : nullptr;
  }
  std::uint32_t index_at(std::uint32_t position) const noexcept { return base::slots()[position].index; }
  std::uint32_t position_of(const slot_type& slot) const noexcept {
    return static_cast<std::uint32_t>(std::addressof(slot) - base::slots());
  }

  /// Entries there is room for.
  std::uint32_t capacity() const noexcept { return usable(group_count_); }

  bool room_moves_values(std::uint32_t) const noexcept { return base::size() == capacity() && base::size() != 0; }
  slot_type& make_room(std::uint32_t index) {
    if (index == no_index) fail::too_many_slots();
    if (base::size() == capacity()) [[unlikely]]
      rebuild(std::max<std::uint64_t>(group_count_ * 2, 1));
    const std::uint64_t* words = std::to_address(groups_);
    std::uint64_t at = index_hash(index) & (group_count_ - 1);
    while (hash_group(words[at]).empty_slot() == hash_group::slots) at = (at + 1) & (group_count_ - 1);
    return base::slots()[at * hash_group::slots + hash_group(words[at]).empty_slot()];
  }
  void fill(slot_type& slot, std::uint32_t index, std::uint32_t occupied_version) noexcept {
    const std::uint32_t position = position_of(slot);
    const std::uint64_t hash = index_hash(index);
    for_each_passed(hash, position, [](hash_group group) { return group.one_more_passed(); });
    set_mark(position, mark_of(hash));
    slot.index = index;
    base::occupy(position, occupied_version);
  }
  void give_up(slot_type& slot, std::uint32_t index) noexcept {
    const std::uint32_t position = position_of(slot);
    for_each_passed(index_hash(index), position, [](hash_group group) { return group.one_less_passed(); });
    set_mark(position, 0);
    slot.index = no_index;
    base::vacate(position);
  }

  void reserve(std::size_t entries) {
    if (entries > capacity()) rebuild(groups_for(entries));
  }
  std::size_t room_for_copy() const noexcept { return base::size(); }
  void shrink_to_fit() {
    if (base::size() == 0)
      reset();
    else if (groups_for(base::size()) < group_count_)
      rebuild(groups_for(base::size()));
  }

  void take(secondary_hashed& other) noexcept {
    base::take(other);
    take_groups(other);
  }
  void swap_contents(secondary_hashed& other) noexcept {
    base::swap_contents(other);
    std::swap(groups_, other.groups_);
    std::swap(group_count_, other.group_count_);
  }
  void clear() noexcept {
    base::for_each_position([this](std::uint32_t position) {
      slot_type& slot = base::slots()[position];
      base::destroy(std::addressof(slot.value));
      slot.index = no_index;
      base::vacate(position);
    });
    std::fill_n(std::to_address(groups_), group_count_, 0);
  }
  void reset() noexcept {
    base::reset();
    deallocate_groups();
    groups_ = nullptr;
    group_count_ = 0;
  }

  /// Look-ups in flights of sixteen, each step of all of them before the next step of any, so that the cache misses
  /// of a flight overlap.
  template <class Key>
  std::size_t get_many(std::span<const Key> keys, const T** out) const noexcept {
    constexpr std::size_t flight = 16;
    std::size_t found = 0;
    while (!keys.empty() && group_count_ != 0) {
      const std::size_t count = std::min(flight, keys.size());
      std::array<std::uint64_t, flight> homes;
      for (std::size_t i = 0; i < count; ++i) {
        homes[i] = index_hash(keys[i].index()) & (group_count_ - 1);
        __builtin_prefetch(std::to_address(groups_) + homes[i]);
      }
      for (std::size_t i = 0; i < count; ++i) {
        const hash_group group(std::to_address(groups_)[homes[i]]);
        const std::uint64_t bits = group.candidates(mark_of(index_hash(keys[i].index())));
        if (bits != 0) __builtin_prefetch(base::slots() + (homes[i] * hash_group::slots + hash_group::slot_of(bits)));
      }
      for (std::size_t i = 0; i < count; ++i) {
        *out = get(keys[i].index(), keys[i].occupied_version());
        found += *out++ != nullptr;
      }
      keys = keys.subspan(count);
    }
    std::fill_n(out, keys.size(), nullptr);
    return found;
  }

  std::string first_fault() const {
    if (std::string fault = base::first_fault(); !fault.empty()) return fault;
    if (group_count_ != 0 && !std::has_single_bit(group_count_)) return "the number of groups is no power of two";
    if (base::slot_count() != group_count_ * hash_group::slots) return "there are not seven slots for each group";
    if (base::size() > capacity()) return "the table is too full";
    const std::uint64_t* words = std::to_address(groups_);
    std::uint64_t passed = 0;
    bool many = false;
    for (std::uint64_t at = 0; at < group_count_; ++at) {
      passed += hash_group(words[at]).passed();
      many |= hash_group(words[at]).passed() == hash_group::many;
    }
    for (std::uint32_t position = 0; position < base::slot_count(); ++position) {
      const slot_type& slot = base::slots()[position];
      const std::uint64_t mark = hash_group(words[position / hash_group::slots]).mark(position % hash_group::slots);
      if (slot.version == 0 ? mark != 0 || slot.index != no_index : mark != mark_of(index_hash(slot.index)))
        return "place " + std::to_string(position) + " has a wrong mark or index";
      if (slot.version == 0) continue;
      if (find(slot.index) != std::addressof(slot))
        return "the search for the value at place " + std::to_string(position) + " does not find it";
      passed -= (position / hash_group::slots - index_hash(slot.index)) & (group_count_ - 1);
    }
    return passed == 0 || many ? std::string() : "the counts of passed values are wrong";
  }

 private:
  /// Eight bits of the hash which do not choose the group, and never 0.
  static std::uint64_t mark_of(std::uint64_t hash) noexcept { return std::max<std::uint64_t>(hash >> 32, 1); }

  static constexpr std::uint64_t groups_max = base::slots_max / hash_group::slots;
  static constexpr std::uint32_t usable(std::uint64_t group_count) noexcept {
    return static_cast<std::uint32_t>(group_count * hash_group::slots * 3 / 4);
  }
  static std::uint64_t groups_for(std::uint64_t entries) {
    if (entries > usable(std::bit_floor(groups_max))) fail::too_many_slots();
    std::uint64_t group_count = 1;
    while (usable(group_count) < entries) group_count *= 2;
    return group_count;
  }

  void set_mark(std::uint32_t position, std::uint64_t mark) noexcept {
    std::uint64_t& word = std::to_address(groups_)[position / hash_group::slots];
    word = hash_group(word).with_mark(position % hash_group::slots, mark).word();
  }

  /// Changes each group from where the search begins to the one before that of `position`.
  template <class F>
  void for_each_passed(std::uint64_t hash, std::uint32_t position, F change) noexcept {
    std::uint64_t* words = std::to_address(groups_);
    for (std::uint64_t at = hash & (group_count_ - 1); at != position / hash_group::slots;
         at = (at + 1) & (group_count_ - 1))
      words[at] = change(hash_group(words[at])).word();
  }

  /// Everything in a new table: built beside the old one, then switched. If it throws, nothing has changed.
  void rebuild(std::uint64_t group_count) {
    if (group_count > groups_max) fail::too_many_slots();
    secondary_hashed fresh(base::allocator());
    fresh.make_groups(group_count);
    base::for_each_position([&](std::uint32_t position) {
      slot_type& from = base::slots()[position];
      slot_type& to = fresh.make_room(from.index);
      fresh.construct(std::addressof(to.value), std::move_if_noexcept(from.value));
      fresh.fill(to, from.index, from.version);
    });
    swap_contents(fresh);
  }

  void make_groups(std::uint64_t group_count) {
    base::set_capacity(group_count * hash_group::slots);
    word_allocator word_memory(base::allocator());
    groups_ = word_traits::allocate(word_memory, static_cast<std::size_t>(group_count));
    std::fill_n(std::to_address(groups_), group_count, 0);
    group_count_ = group_count;
    base::append_empty(static_cast<std::uint32_t>(group_count * hash_group::slots));
  }

  void deallocate_groups() noexcept {
    if (group_count_ == 0) return;
    word_allocator word_memory(base::allocator());
    word_traits::deallocate(word_memory, groups_, static_cast<std::size_t>(group_count_));
  }

  void take_groups(secondary_hashed& other) noexcept {
    groups_ = std::exchange(other.groups_, nullptr);
    group_count_ = std::exchange(other.group_count_, 0);
  }

  using typename base::word_allocator;
  using typename base::word_traits;

  typename word_traits::pointer groups_{};
  std::uint64_t group_count_ = 0;
};

}  // namespace dm::detail
