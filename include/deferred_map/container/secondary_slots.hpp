// The slots of a secondary map: places for values, and a bit for each place that holds one. What the dense and the
// hashed map have in common; which place a key has is decided above (secondary_dense.hpp, secondary_hashed.hpp).
//
//   slots      { version | value } { version | value } ...     version 0: there is no value
//   presence   one bit a slot                                   1: there is one
//
// Invariants:
//  1. Slots [0, slot_count) are built; the rest of [0, capacity) is raw memory.
//  2. A slot's bit is 1 exactly when its version is not 0. The version then says occupied, in some generation that a
//     slot can live in, and the value lives. The bits from slot_count on are 0.
//  3. `size` is the number of bits that are 1.
//  4. With no capacity both pointers are null, and a map that was never used owns nothing.
//
// Why not a std::vector of slots: it would build and move each slot through the allocator, empty ones too, could not
// tell the allocator of the value inside from the slot around it, copies by memcpy only what is trivial as a whole,
// and never asks the allocator to grow in place.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

#include "deferred_map/container/failure.hpp"
#include "deferred_map/container/heap_slots.hpp"
#include "deferred_map/container/slot.hpp"
#include "deferred_map/container/version.hpp"

namespace dm::detail {

/// Everything in a slot but the value. The version comes last: it says that the rest is there.
template <class T>
void copy_head(slot<T>& to, const slot<T>& from) noexcept {
  to.version = from.version;
}

/// A value outside the slots, built and destroyed by the allocator as one inside is.
template <class T, class Slots>
class loose_value {
 public:
  template <class... A>
  explicit loose_value(Slots& slots, A&&... args) : slots_(slots) {
    slots_.construct(std::addressof(value_), std::forward<A>(args)...);
  }
  loose_value(const loose_value&) = delete;
  loose_value& operator=(const loose_value&) = delete;
  ~loose_value() { slots_.destroy(std::addressof(value_)); }
  T& get() noexcept { return value_; }

 private:
  Slots& slots_;
  union {
    T value_;
  };
};

/// `Slot` has a `version`, 0 when built, and a `value` in a union, and there is a `copy_head` for it.
template <class T, class Slot, class Allocator>
class secondary_slots {
 public:
  static constexpr std::uint64_t slots_max = 0xffff'ffffu;

  using slot_type = Slot;
  using value_traits = typename std::allocator_traits<Allocator>::template rebind_traits<T>;
  using value_allocator = typename value_traits::allocator_type;
  using slot_traits = typename std::allocator_traits<Allocator>::template rebind_traits<slot_type>;
  using slot_allocator = typename slot_traits::allocator_type;
  using word_allocator = typename index_allocator_of<Allocator>::type;
  using word_traits = std::allocator_traits<word_allocator>;

  secondary_slots() requires(std::is_default_constructible_v<Allocator>) = default;
  explicit secondary_slots(const Allocator& allocator) noexcept : allocator_(allocator) {}
  secondary_slots(secondary_slots&& other) noexcept : allocator_(std::move(other.allocator_)) { take(other); }
  secondary_slots(const secondary_slots&) = delete;
  secondary_slots& operator=(const secondary_slots&) = delete;
  ~secondary_slots() { reset(); }

  slot_type* slots() const noexcept { return std::to_address(slots_); }
  const std::uint64_t* presence_words() const noexcept { return std::to_address(presence_); }
  std::uint32_t slot_count() const noexcept { return slot_count_; }
  std::uint32_t capacity() const noexcept { return capacity_; }
  std::uint32_t size() const noexcept { return size_; }
  const Allocator& allocator() const noexcept { return allocator_; }
  Allocator& allocator() noexcept { return allocator_; }

  /// Whether `construct` cannot throw. An allocator that builds values itself may.
  template <class... A>
  static constexpr bool constructs_nothrow =
      std::is_nothrow_constructible_v<T, A...> && !constructs_itself<value_allocator, T, A...>;
  template <class... A>
  void construct(T* place, A&&... args) {
    value_allocator allocator(allocator_);
    value_traits::construct(allocator, place, std::forward<A>(args)...);
  }
  void destroy(T* place) noexcept {
    value_allocator allocator(allocator_);
    value_traits::destroy(allocator, place);
  }

  /// Builds empty slots up to `slot_count`, which is more than there are. Requires: there is room for them.
  void append_empty(std::uint32_t slot_count) noexcept {
    slot_type* all = slots();
    for (std::uint32_t i = slot_count_; i < slot_count; ++i) ::new (static_cast<void*>(all + i)) slot_type;
    slot_count_ = slot_count;
  }
  /// Forgets the slots from `slot_count` on. Requires: they are empty.
  void drop_slots(std::uint32_t slot_count) noexcept { slot_count_ = slot_count; }

  /// The value at `position` is complete.
  void occupy(std::uint32_t position, std::uint32_t occupied_version) noexcept {
    slots()[position].version = occupied_version;
    std::to_address(presence_)[position / 64] |= std::uint64_t{1} << position % 64;
    ++size_;
  }
  /// The value at `position` is gone.
  void vacate(std::uint32_t position) noexcept {
    slots()[position].version = 0;
    std::to_address(presence_)[position / 64] &= ~(std::uint64_t{1} << position % 64);
    --size_;
  }

  /// Calls `visit(position)` for every value, in order.
  template <class F>
  void for_each_position(F visit) const {
    const std::uint64_t* words = presence_words();
    for (std::uint64_t base = 0; base < slot_count_; base += 64)
      for (std::uint64_t bits = words[base / 64]; bits != 0; bits &= bits - 1)
        visit(static_cast<std::uint32_t>(base) + static_cast<std::uint32_t>(std::countr_zero(bits)));
  }

  bool grows_in_place(std::uint64_t slots_needed) {
    return slots_needed <= capacity_ || (slots_needed <= slots_max && try_expand(next_capacity(slots_needed)));
  }

  /// Room for `slots_needed` slots at least, with amortised growth. If it throws, nothing has changed.
  void grow(std::uint64_t slots_needed) {
    if (slots_needed > slots_max) fail::too_many_slots();
    const std::uint32_t wanted = next_capacity(slots_needed);
    if (!try_expand(wanted) && !try_reallocate(wanted)) move_to(wanted);
  }

  /// Exactly `capacity` slots. Requires: capacity >= slot_count. If it throws, nothing has changed.
  void set_capacity(std::uint64_t capacity) {
    if (capacity > slots_max) fail::too_many_slots();
    const auto wanted = static_cast<std::uint32_t>(capacity);
    if (wanted == capacity_) return;
    if (wanted == 0) return reset();
    if (wanted > capacity_ ? try_expand(wanted) || try_reallocate(wanted) : try_shrink(wanted)) return;
    move_to(wanted);
  }

  /// Takes everything from `other` and leaves it empty. This one owns nothing.
  void take(secondary_slots& other) noexcept {
    slots_ = std::exchange(other.slots_, nullptr);
    presence_ = std::exchange(other.presence_, nullptr);
    capacity_ = std::exchange(other.capacity_, 0);
    slot_count_ = std::exchange(other.slot_count_, 0);
    size_ = std::exchange(other.size_, 0);
  }

  void swap_contents(secondary_slots& other) noexcept {
    std::swap(slots_, other.slots_);
    std::swap(presence_, other.presence_);
    std::swap(capacity_, other.capacity_);
    std::swap(slot_count_, other.slot_count_);
    std::swap(size_, other.size_);
  }

  /// Destroys all values and drops all slots; memory is kept.
  void clear() noexcept {
    destroy_values();
    std::fill_n(std::to_address(presence_), word_count(slot_count_), 0);
    slot_count_ = 0;
    size_ = 0;
  }

  /// Destroys all values and gives the memory back.
  void reset() noexcept {
    destroy_values();
    deallocate(std::exchange(slots_, nullptr), std::exchange(presence_, nullptr), std::exchange(capacity_, 0));
    slot_count_ = 0;
    size_ = 0;
  }

  /// What is wrong with the first invariant that does not hold, or an empty string.
  std::string first_fault() const {
    if (slot_count_ > capacity_) return "there are more slots than there is room for";
    const std::uint64_t* words = presence_words();
    std::uint32_t present = 0;
    for (std::uint64_t i = 0; i < std::uint64_t{word_count(capacity_)} * 64; ++i) {
      const bool bit = (words[i / 64] >> i % 64 & 1) != 0;
      present += bit;
      if (i >= slot_count_) {
        if (bit) return "place " + std::to_string(i) + " is marked as filled and does not exist";
        continue;
      }
      const std::uint32_t v = slots()[i].version;
      if (bit != (v != 0)) return "the bit of place " + std::to_string(i) + " disagrees with its version";
      if (v != 0 && !(version::is_occupied(v) && version::is_possible(v)))
        return "place " + std::to_string(i) + " has a version no key has";
    }
    if (present != size_) return "the count of values is wrong";
    return {};
  }

 private:
  using slot_pointer = typename slot_traits::pointer;
  using word_pointer = typename word_traits::pointer;

  static constexpr std::size_t word_count(std::uint32_t slots) noexcept { return (std::size_t{slots} + 63) / 64; }

  std::uint32_t next_capacity(std::uint64_t slots_needed) const noexcept {
    const std::uint64_t doubled = std::max<std::uint64_t>(std::uint64_t{capacity_} * 2, 4);
    return static_cast<std::uint32_t>(std::min(std::max(doubled, slots_needed), slots_max));
  }

  void deallocate(slot_pointer slots, word_pointer presence, std::uint32_t capacity) noexcept {
    if (capacity == 0) return;
    slot_allocator slot_memory(allocator_);
    word_allocator word_memory(allocator_);
    slot_traits::deallocate(slot_memory, slots, capacity);
    word_traits::deallocate(word_memory, presence, word_count(capacity));
  }

  void destroy_values() noexcept {
    if constexpr (!std::is_trivially_destructible_v<T>)
      for_each_position([this](std::uint32_t position) { destroy(std::addressof(slots()[position].value)); });
  }

  /// New words for `capacity` slots that say what the present ones say.
  word_pointer new_presence(std::uint32_t capacity) {
    word_allocator word_memory(allocator_);
    const word_pointer words = word_traits::allocate(word_memory, word_count(capacity));
    std::uint64_t* raw = std::to_address(words);
    const std::size_t used = word_count(slot_count_);
    std::copy_n(presence_words(), used, raw);
    std::fill(raw + used, raw + word_count(capacity), 0);
    return words;
  }

  bool try_expand([[maybe_unused]] std::uint32_t capacity) {
    if constexpr (expands_in_place<slot_allocator>)
      return resize_in_place(capacity, [&](slot_allocator& memory) {
        return memory.try_expand(slots_, std::size_t{capacity_}, std::size_t{capacity});
      });
    return false;
  }
  bool try_shrink([[maybe_unused]] std::uint32_t capacity) {
    if constexpr (shrinks_in_place<slot_allocator>)
      return resize_in_place(capacity, [&](slot_allocator& memory) {
        return memory.try_shrink(slots_, std::size_t{capacity_}, std::size_t{capacity});
      });
    return false;
  }

  /// As bytes to a larger block, if that is all there is to the values.
  bool try_reallocate([[maybe_unused]] std::uint32_t capacity) {
    if constexpr (reallocates<slot_allocator> && std::is_trivially_copyable_v<T>)
      return resize_in_place(capacity, [&](slot_allocator& memory) {
        const slot_pointer block = memory.try_reallocate(slots_, std::size_t{capacity_}, std::size_t{capacity});
        if (block == nullptr) return false;
        slots_ = block;
        return true;
      });
    return false;
  }

  /// Where the slots can stay, or are moved all the same, only the words are made anew. If it throws, nothing has changed.
  template <class Resize>
  bool resize_in_place(std::uint32_t capacity, Resize resize) {
    if (capacity_ == 0) return false;
    const word_pointer words = new_presence(capacity);
    slot_allocator slot_memory(allocator_);
    const bool resized = resize(slot_memory);
    word_allocator word_memory(allocator_);
    if (resized) {
      word_traits::deallocate(word_memory, std::exchange(presence_, words), word_count(capacity_));
      capacity_ = capacity;
    } else {
      word_traits::deallocate(word_memory, words, word_count(capacity));
    }
    return resized;
  }

  /// Moves everything to new blocks for `capacity` slots: built beside the old ones, then switched.
  void move_to(std::uint32_t capacity) {
    slot_allocator slot_memory(allocator_);
    pending blocks{*this, capacity, slot_traits::allocate(slot_memory, capacity)};
    blocks.presence = new_presence(capacity);
    blocks.has_presence = true;
    relocate(slots(), std::to_address(blocks.slots), blocks.built);
    destroy_values();
    deallocate(slots_, presence_, capacity_);
    slots_ = blocks.slots;
    presence_ = blocks.presence;
    capacity_ = capacity;
    blocks.owner = nullptr;
  }

  /// New blocks until they are switched to; if building them throws, undone.
  struct pending {
    secondary_slots* owner;
    std::uint32_t capacity;
    slot_pointer slots;
    word_pointer presence{};
    bool has_presence = false;
    std::uint32_t built = 0;

    pending(secondary_slots& map, std::uint32_t slots_wanted, slot_pointer block)
        : owner(&map), capacity(slots_wanted), slots(block) {}
    pending(const pending&) = delete;
    pending& operator=(const pending&) = delete;
    ~pending() {
      if (owner == nullptr) return;
      slot_type* raw = std::to_address(slots);
      for (std::uint32_t i = 0; i < built; ++i)
        if (raw[i].version != 0) owner->destroy(std::addressof(raw[i].value));
      slot_allocator slot_memory(owner->allocator_);
      word_allocator word_memory(owner->allocator_);
      slot_traits::deallocate(slot_memory, slots, capacity);
      if (has_presence) word_traits::deallocate(word_memory, presence, word_count(capacity));
    }
  };

  void relocate(slot_type* from, slot_type* to, std::uint32_t& built) {
    if constexpr (std::is_trivially_copyable_v<T>) {
      // Whole slots at once, empty ones too: the bytes of a slot are all there is to it.
      if (slot_count_ != 0)
        std::memcpy(static_cast<void*>(to), static_cast<const void*>(from), std::size_t{slot_count_} * sizeof(Slot));
      built = slot_count_;
    } else {
      for (; built < slot_count_; ++built) {
        ::new (static_cast<void*>(to + built)) slot_type;
        if (from[built].version != 0)
          construct(std::addressof(to[built].value), std::move_if_noexcept(from[built].value));
        copy_head(to[built], from[built]);
      }
    }
  }

  slot_pointer slots_{};
  std::uint32_t slot_count_ = 0;
  std::uint32_t capacity_ = 0;
  std::uint32_t size_ = 0;
  word_pointer presence_{};
  [[no_unique_address]] Allocator allocator_;
};

}  // namespace dm::detail
