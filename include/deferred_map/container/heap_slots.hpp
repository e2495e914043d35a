// The slots of a map that owns its memory, and the vacancy index: one block from the map's allocator, with the index
// behind the slots; two where the slots can grow in place. Stores the allocator's own pointers and computes with raw ones, so that a map can live
// in a shared-memory segment that each process sees at another address.
//
// Invariants:
//  1. Slots [0, slot_count) are built; the rest of [0, capacity) is raw memory.
//  2. `index_` begins with the buffer (buffer_limit(capacity) entries of 32 bits), then come the levels.
//  3. With no capacity both pointers are null, and a map that was never used owns nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>

#include "deferred_map/container/allocator_hooks.hpp"
#include "deferred_map/container/failure.hpp"
#include "deferred_map/container/heap_control.hpp"
#include "deferred_map/container/slot.hpp"
#include "deferred_map/container/vacancy_index.hpp"
#include "deferred_map/container/version.hpp"

namespace dm::detail {

template <class T, class Allocator>
class heap_slots {
 public:
  static constexpr bool persistent = false;
  static constexpr bool watched = false;
  static constexpr std::uint64_t slots_max = 0xffff'ffffu;

  using slot_type = slot<T>;
  using value_traits = typename std::allocator_traits<Allocator>::template rebind_traits<T>;
  using value_allocator = typename value_traits::allocator_type;
  using slot_traits = typename std::allocator_traits<Allocator>::template rebind_traits<slot_type>;
  using slot_allocator = typename slot_traits::allocator_type;
  using word_allocator = typename index_allocator_of<Allocator>::type;
  using word_traits = std::allocator_traits<word_allocator>;

  heap_slots() requires(std::is_default_constructible_v<Allocator>) = default;
  explicit heap_slots(const Allocator& allocator) noexcept : allocator_(allocator) {}

  heap_slots(heap_slots&& other) noexcept : allocator_(std::move(other.allocator_)) { take(other); }

  heap_slots(const heap_slots&) = delete;
  heap_slots& operator=(const heap_slots&) = delete;

  ~heap_slots() {
    destroy_values();
    deallocate(slots_, index_, capacity_);
  }

  slot_type* slots() const noexcept { return std::to_address(slots_); }
  heap_control& control() noexcept { return control_; }
  const heap_control& control() const noexcept { return control_; }
  std::uint32_t capacity() const noexcept { return capacity_; }
  const Allocator& allocator() const noexcept { return allocator_; }
  Allocator& allocator() noexcept { return allocator_; }

  std::uint32_t vacant() const noexcept { return control_.buffer_count + control_.bitmap_count; }
  std::uint32_t occupied() const noexcept {
    return control_.slot_count - control_.reserved - control_.retired - vacant();
  }

  std::uint32_t* buffer() noexcept { return buffer(std::to_address(index_)); }
  std::uint32_t buffer_limit() const noexcept { return control_.buffer_limit; }
  const std::uint64_t* taken_words() const noexcept { return words(std::to_address(index_), capacity_); }

  /// The buffer is full: its older half goes to the bitmap.
  void spill_buffer() noexcept {
    std::uint32_t count = control_.buffer_count;
    view(count).template spill_half<std::true_type>();
    control_.bitmap_count += control_.buffer_count - count;
    control_.buffer_count = count;
  }
  /// The buffer is empty: it gets what the first words of the bitmap have.
  bool fill_buffer() noexcept {
    std::uint32_t count = 0;
    const bool filled = view(count).take_words(control_.slot_count);
    control_.bitmap_count -= count;
    control_.buffer_count = count;
    return filled;
  }
  /// The index says what `taken` says, a word for each 64 slots; what is vacant is all in the bitmap then.
  void rebuild_index(const std::uint64_t* taken, std::uint32_t slot_count) noexcept {
    if (capacity_ == 0) return;
    std::uint32_t count = 0;
    control_.bitmap_count = rebuild(view(count), taken, slot_count, capacity_);
    control_.buffer_count = count;
  }
  /// The first fault in the index, or null.
  template <class IsVacant>
  const char* index_fault(IsVacant is_vacant) const {
    std::uint32_t count = control_.buffer_count;
    const char* const fault = const_cast<heap_slots*>(this)->view(count).first_fault(control_.slot_count, is_vacant);
    if (fault != nullptr) return fault;
    const std::uint64_t* const unused = taken_words() + (std::uint64_t{control_.slot_count} + 63) / 64;
    const std::uint64_t* const end = taken_words() + (std::uint64_t{capacity_} + 63) / 64;
    return std::find_if(unused, end, [](std::uint64_t word) { return word != vacancy_index::full_word; }) == end
               ? nullptr
               : "a slot that does not exist yet is marked vacant";
  }

  /// Whether `construct` cannot throw. An allocator that builds values itself may: it can pass itself on, and
  /// then even moving a value in may allocate.
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

  /// A value outside the slots, built and destroyed by the allocator as one inside is.
  class loose_value {
   public:
    template <class... A>
    explicit loose_value(heap_slots& slots, A&&... args) : slots_(slots) {
      slots_.construct(std::addressof(value_), std::forward<A>(args)...);
    }
    loose_value(const loose_value&) = delete;
    loose_value& operator=(const loose_value&) = delete;
    ~loose_value() { slots_.destroy(std::addressof(value_)); }
    T& get() noexcept { return value_; }

   private:
    heap_slots& slots_;
    union {
      T value_;
    };
  };

  /// Makes the slot `slot_count` exist, vacant, and the last one. Requires: slot_count < capacity.
  void append_vacant(std::uint32_t vacant_version) noexcept { append()->version = vacant_version; }
  /// The same, where the caller stores a version before anything else can look.
  slot_type* append() noexcept {
    const std::uint32_t index = control_.slot_count;
    control_.slot_count = index + 1;  // its bit says taken since there is an index for it
    return ::new (static_cast<void*>(std::to_address(slots_) + index)) slot_type;
  }

  /// Forgets the slots from `slot_count` on. Requires: they are vacant, and the caller rebuilds the index.
  void drop_slots(std::uint32_t slot_count) noexcept { control_.slot_count = slot_count; }

  bool grows_in_place(std::uint64_t slots_needed) {
    return slots_needed <= capacity_ || (expands_in_place<slot_allocator> && try_expand(next_capacity(slots_needed)));
  }

  /// Room for `slots_needed` slots at least, with amortised growth. If it throws, nothing has changed.
  void grow(std::uint64_t slots_needed) {
    if (slots_needed > slots_max) fail::too_many_slots();
    const std::uint32_t wanted = next_capacity(slots_needed);
    if (try_expand(wanted) || try_reallocate(wanted)) return;
    move_to(wanted);
  }

  /// Exactly `capacity` slots. Requires: capacity >= slot_count. If it throws, nothing has changed.
  void set_capacity(std::uint32_t capacity) {
    if (capacity == capacity_) return;
    if (capacity == 0) {
      deallocate(std::exchange(slots_, nullptr), std::exchange(index_, nullptr),
                 std::exchange(capacity_, count_apart()));
      control_.buffer_count = control_.bitmap_count = control_.buffer_limit = 0;
      return;
    }
    if (capacity > capacity_ ? try_expand(capacity) || try_reallocate(capacity) : try_shrink(capacity)) return;
    move_to(capacity);
  }

  /// Takes everything from `other`, which must not own the same memory, and leaves it empty. This map is empty.
  void take(heap_slots& other) noexcept {
    slots_ = std::exchange(other.slots_, nullptr);
    index_ = std::exchange(other.index_, nullptr);
    capacity_ = std::exchange(other.capacity_, count_apart());
    control_ = std::exchange(other.control_, {});
  }

  void swap_contents(heap_slots& other) noexcept {
    std::swap(slots_, other.slots_);
    std::swap(index_, other.index_);
    std::swap(capacity_, other.capacity_);
    std::swap(control_, other.control_);
  }

  /// Destroys all values and gives the memory back. Generations are lost: only for a map about to be replaced.
  void reset() noexcept {
    destroy_values();
    deallocate(std::exchange(slots_, nullptr), std::exchange(index_, nullptr), std::exchange(capacity_, count_apart()));
    control_ = {};
  }

 private:
  using slot_pointer = typename slot_traits::pointer;
  using word_pointer = typename word_traits::pointer;

  static constexpr std::uint32_t buffer_limit(std::uint32_t capacity) noexcept {
    return std::min(capacity, vacancy_index::buffer_limit_max);
  }
  static constexpr std::uint32_t buffer_words(std::uint32_t capacity) noexcept {
    return (buffer_limit(capacity) + 1) / 2;
  }
  static std::uint64_t* words(std::uint64_t* block, std::uint32_t capacity) noexcept {
    return block + buffer_words(capacity);
  }
  static std::uint32_t* buffer(std::uint64_t* block) noexcept {
    // These words are only ever used as 32-bit entries, from their allocation on.
    return reinterpret_cast<std::uint32_t*>(block);
  }
  static vacancy_index view(std::uint32_t slot_count, std::uint64_t* block, std::uint32_t capacity,
                            std::uint32_t& buffer_count) noexcept {
    return {slot_count, words(block, capacity), capacity, buffer(block), buffer_limit(capacity), buffer_count};
  }
  vacancy_index view(std::uint32_t& buffer_count) noexcept {
    return view(control_.slot_count, std::to_address(index_), capacity_, buffer_count);
  }
  /// Behind the last slot too every bit says taken, so that appending one needs no bitmap.
  static std::uint32_t rebuild(vacancy_index index, const std::uint64_t* taken, std::uint32_t slot_count,
                               std::uint32_t capacity) noexcept {
    const std::uint32_t vacant = index.rebuild(taken, slot_count, capacity);
    std::uint64_t* const words = index.taken_words();
    std::fill(words + (std::uint64_t{slot_count} + 63) / 64, words + (std::uint64_t{capacity} + 63) / 64,
              vacancy_index::full_word);
    return vacant;
  }
  static std::size_t block_words(std::uint32_t capacity) noexcept {
    return buffer_words(capacity) + static_cast<std::size_t>(index_words_total(capacity));
  }

  std::uint32_t next_capacity(std::uint64_t slots_needed) const noexcept {
    // Four, sixteen (of small values), then twice as many each time: what a tiny map costs is its allocations.
    constexpr std::uint64_t second = sizeof(slot_type) <= 64 ? 16 : 8;
    const std::uint64_t doubled = capacity_ == 0 ? 4 : std::max<std::uint64_t>(std::uint64_t{capacity_} * 2, second);
    return static_cast<std::uint32_t>(std::min(std::max(doubled, slots_needed), slots_max));
  }

  /// Whether the index lies behind the slots, in their block: wherever that block cannot grow in place. So a small
  /// map is one allocation.
  static constexpr bool index_is_inside(std::uint32_t capacity) noexcept {
    if constexpr (requires { typename Allocator::index_allocator; })
      return false;
    else if constexpr (!expands_in_place<slot_allocator>)
      return true;
    else if constexpr (requires { slot_allocator::expands_from_bytes; })
      return std::size_t{capacity} * sizeof(slot_type) < slot_allocator::expands_from_bytes;
    else
      return false;
  }
  /// Of the block of slots, in slots.
  static std::size_t block_slots(std::uint32_t capacity) noexcept {
    if (!index_is_inside(capacity)) return capacity;
    const std::size_t index_bytes = block_words(capacity) * sizeof(std::uint64_t) + alignof(std::uint64_t);
    return capacity + (index_bytes + sizeof(slot_type) - 1) / sizeof(slot_type);
  }

  word_pointer allocate_index([[maybe_unused]] slot_pointer slots, std::uint32_t capacity) {
    if (index_is_inside(capacity)) {
      auto behind = reinterpret_cast<std::uintptr_t>(std::to_address(slots) + capacity);
      behind = (behind + alignof(std::uint64_t) - 1) / alignof(std::uint64_t) * alignof(std::uint64_t);
      return std::pointer_traits<word_pointer>::pointer_to(*reinterpret_cast<std::uint64_t*>(behind));
    }
    word_allocator word_memory(allocator_);
    return word_traits::allocate(word_memory, block_words(capacity));
  }
  void deallocate_index(word_pointer index, std::uint32_t capacity) noexcept {
    if (index_is_inside(capacity)) return;
    word_allocator word_memory(allocator_);
    word_traits::deallocate(word_memory, index, block_words(capacity));
  }
  void deallocate_slots(slot_pointer slots, std::uint32_t capacity) noexcept {
    slot_allocator slot_memory(allocator_);
    slot_traits::deallocate(slot_memory, slots, block_slots(capacity));
  }
  void deallocate(slot_pointer slots, word_pointer index, std::uint32_t capacity) noexcept {
    if (capacity == 0) return;
    deallocate_index(index, capacity);
    deallocate_slots(slots, capacity);
  }

  void destroy_values() noexcept {
    if constexpr (!std::is_trivially_destructible_v<T>) {
      slot_type* all = slots();
      for (std::uint32_t i = 0; i < control_.slot_count; ++i)
        if (version::is_occupied(all[i].version)) destroy(std::addressof(all[i].value));
    }
  }

  /// A new index for `capacity` slots that says what the present one says.
  word_pointer new_index(slot_pointer slots, std::uint32_t capacity, std::uint32_t& buffer_count) {
    const word_pointer block = allocate_index(slots, capacity);
    std::uint64_t* raw = std::to_address(block);
    if (vacant() == 0) {  // as nearly always when a map grows
      say_nothing_vacant(raw, capacity);
      return block;
    }
    rebuild(view(control_.slot_count, raw, capacity, buffer_count), taken_words(), control_.slot_count, capacity);
    // What is in the buffer stays there; a smaller buffer was emptied by the caller.
    if (control_.buffer_count != 0) std::copy_n(buffer(std::to_address(index_)), control_.buffer_count, buffer(raw));
    buffer_count = control_.buffer_count;
    return block;
  }

  bool try_expand([[maybe_unused]] std::uint32_t capacity) {
    if constexpr (expands_in_place<slot_allocator>)
      return resize_in_place(capacity, [&](slot_allocator& memory) {
        return memory.try_expand(slots_, std::size_t{capacity_}, std::size_t{capacity});
      });
    return false;
  }
  bool try_shrink([[maybe_unused]] std::uint32_t capacity) {
    if constexpr (shrinks_in_place<slot_allocator>) {
      if (control_.buffer_count > buffer_limit(capacity)) spill_all();
      return resize_in_place(capacity, [&](slot_allocator& memory) {
        return memory.try_shrink(slots_, std::size_t{capacity_}, std::size_t{capacity});
      });
    }
    return false;
  }

  /// Makes the index at `block` one of `capacity` slots none of which can be taken.
  static void say_nothing_vacant(std::uint64_t* block, std::uint32_t capacity) noexcept {
    const std::size_t level_0 = (std::size_t{capacity} + 63) / 64;
    const std::size_t all = block_words(capacity) - buffer_words(capacity);
    std::fill_n(words(block, capacity), level_0, vacancy_index::full_word);
    std::fill_n(words(block, capacity) + level_0, all - level_0, std::uint64_t{0});
  }

  /// As bytes to a larger block, if that is all there is to the values, and to the index.
  bool try_reallocate([[maybe_unused]] std::uint32_t capacity) {
    if constexpr (reallocates<slot_allocator> && std::is_trivially_copyable_v<T>) {
      if (capacity_ == 0 || vacant() != 0 || !index_is_inside(capacity_) || !index_is_inside(capacity)) return false;
      slot_allocator slot_memory(allocator_);
      const slot_pointer block = slot_memory.try_reallocate(slots_, block_slots(capacity_), block_slots(capacity));
      if (block == nullptr) return false;
      slots_ = block;
      index_ = allocate_index(block, capacity);
      say_nothing_vacant(std::to_address(index_), capacity);
      capacity_ = capacity;
      control_.buffer_limit = buffer_limit(capacity);
      return true;
    }
    return false;
  }

  /// Where the slots can stay, only the index is built anew. If it throws, nothing has changed.
  template <class Resize>
  bool resize_in_place(std::uint32_t capacity, Resize resize) {
    if (capacity_ == 0 || index_is_inside(capacity_) || index_is_inside(capacity)) return false;
    std::uint32_t buffer_count = 0;
    const word_pointer block = new_index(slots_, capacity, buffer_count);
    slot_allocator slot_memory(allocator_);
    const bool resized = resize(slot_memory);
    if (resized) {
      deallocate_index(std::exchange(index_, block), capacity_);
      capacity_ = capacity;
      control_.buffer_limit = buffer_limit(capacity);
    } else {
      deallocate_index(block, capacity);
    }
    return resized;
  }

  void spill_all() noexcept {
    std::uint32_t count = control_.buffer_count;
    view(count).spill_all();
    control_.bitmap_count += control_.buffer_count;
    control_.buffer_count = count;
  }

  /// Moves everything to new blocks for `capacity` slots: built beside the old ones, then switched.
  void move_to(std::uint32_t capacity) {
    // A buffer that would not fit is emptied first; the bitmap says the same.
    if (capacity_ != 0 && control_.buffer_count > buffer_limit(capacity)) spill_all();
    slot_allocator slot_memory(allocator_);
    pending blocks{*this, capacity, slot_traits::allocate(slot_memory, block_slots(capacity))};
    std::uint32_t buffer_count = 0;
    blocks.index = new_index(blocks.slots, capacity, buffer_count);
    blocks.has_index = true;
    relocate(slots(), std::to_address(blocks.slots), blocks.built);
    destroy_values();
    deallocate(slots_, index_, capacity_);
    slots_ = blocks.slots;
    index_ = blocks.index;
    capacity_ = capacity;
    control_.buffer_count = buffer_count;
    control_.buffer_limit = buffer_limit(capacity);
    blocks.owner = nullptr;
  }

  /// New blocks until they are switched to; if building them throws, undone.
  struct pending {
    heap_slots* owner;
    std::uint32_t capacity;
    slot_pointer slots;
    word_pointer index{};
    bool has_index = false;
    std::uint32_t built = 0;

    pending(heap_slots& map, std::uint32_t slots_wanted, slot_pointer block)
        : owner(&map), capacity(slots_wanted), slots(block) {}
    pending(const pending&) = delete;
    pending& operator=(const pending&) = delete;
    ~pending() {
      if (owner == nullptr) return;
      slot_type* raw = std::to_address(slots);
      for (std::uint32_t i = 0; i < built; ++i)
        if (version::is_occupied(raw[i].version)) owner->destroy(std::addressof(raw[i].value));
      if (has_index) owner->deallocate_index(index, capacity);
      owner->deallocate_slots(slots, capacity);
    }
  };

  void relocate(slot_type* from, slot_type* to, std::uint32_t& built) {
    const std::uint32_t count = control_.slot_count;
    if constexpr (std::is_trivially_copyable_v<T>) {
      // Whole slots at once, vacant ones too: the bytes of a slot are all there is to it.
      if (count != 0)
        std::memcpy(static_cast<void*>(to), static_cast<const void*>(from), std::size_t{count} * sizeof(slot_type));
      built = count;
    } else {
      for (; built < count; ++built) {
        ::new (static_cast<void*>(to + built)) slot_type;
        if (version::is_occupied(from[built].version))
          construct(std::addressof(to[built].value), std::move_if_noexcept(from[built].value));
        to[built].version = from[built].version;
      }
    }
  }

  slot_pointer slots_{};
  count_apart capacity_;
  heap_control control_;
  word_pointer index_{};
  [[no_unique_address]] Allocator allocator_;
};

}  // namespace dm::detail
