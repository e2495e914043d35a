// A persistent allocator over plain memory: what the map leaves behind can be looked at, damaged and attached
// to again, without a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "deferred_map/deferred_map.hpp"

namespace test {

/// Memory for at most `slots_max` slots of T. Reading or writing behind it is an error the sanitizers see.
template <class T>
class plain_arena {
 public:
  struct control_block {
    std::uint32_t slot_count = 0;
    std::uint32_t occupied = 0;
    std::uint32_t reserved = 0;
    std::uint32_t vacant = 0;
    std::uint32_t retired = 0;
    std::uint32_t generation_floor = 0;
    std::uint32_t capacity = 0;
    std::uint32_t buffer_count = 0;
    std::uint32_t recovering = 0;
    std::uint32_t buffer[dm::vacancy_index::buffer_limit_max] = {};
  };
  using slot = dm::slot<T>;

  explicit plain_arena(std::uint32_t slots_max)
      : words(dm::index_shape(slots_max).words_total),
        slots_max_(slots_max),
        slots_(static_cast<slot*>(std::calloc(slots_max, sizeof(slot)))) {
    if (slots_ == nullptr) throw std::bad_alloc();
  }
  plain_arena(const plain_arena&) = delete;
  plain_arena& operator=(const plain_arena&) = delete;
  ~plain_arena() { std::free(slots_); }

  slot* slots() const { return slots_; }
  std::uint32_t slots_max() const { return slots_max_; }
  std::uint32_t& version(std::uint32_t index) const { return slots_[index].version; }
  /// Makes `count` vacant slots in a given generation, as if that many lives had passed. Call `recover()` after.
  void make_slots(std::uint32_t count, std::uint32_t generation) {
    expand(count);
    control.slot_count = count;
    for (std::uint32_t i = 0; i < count; ++i) version(i) = dm::version::vacant(generation);
  }

  void expand(std::uint64_t slots_needed) {
    if (slots_needed > slots_max_) throw std::bad_alloc();
    // A few slots at a time, so that growing happens often.
    const std::uint64_t grown = slots_needed + slots_needed / 8 + 1;
    control.capacity = static_cast<std::uint32_t>(grown < slots_max_ ? grown : slots_max_);
  }
  void truncate(std::uint64_t slots_kept) {
    control.capacity = static_cast<std::uint32_t>(slots_kept);
    // Like a hole in a file: what is made there again is zeros.
    std::memset(static_cast<void*>(slots_ + slots_kept), 0, (slots_max_ - slots_kept) * sizeof(slot));
  }

  control_block control;
  std::vector<std::uint64_t> words;

 private:
  std::uint32_t slots_max_;
  slot* slots_;
};

template <class T>
struct plain_allocator {
  using value_type = T;

  plain_arena<T>* arena = nullptr;

  auto& control() const { return arena->control; }
  void* slots() const { return arena->slots(); }
  std::uint64_t* index_words() const { return arena->words.data(); }
  std::uint64_t index_capacity() const { return arena == nullptr ? 0 : arena->slots_max(); }
  void expand(std::uint64_t slots_needed) const {
    if (arena == nullptr) throw std::bad_alloc();
    arena->expand(slots_needed);
  }
  void truncate(std::uint64_t slots_kept) const {
    if (arena != nullptr) arena->truncate(slots_kept);
  }
  // A persistent map never allocates; these only make it an allocator.
  T* allocate(std::size_t) const { std::abort(); }
  void deallocate(T*, std::size_t) const { std::abort(); }
  friend bool operator==(plain_allocator, plain_allocator) = default;
};

template <class T>
using plain_map = dm::deferred_map<T, dm::key, plain_allocator<T>>;

static_assert(dm::persistent_allocator<plain_allocator<int>>);

}  // namespace test
