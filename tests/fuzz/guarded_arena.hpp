// A persistent allocator over plain memory of the exact size, as test::plain_arena, in which also what lies behind the
// capacity must not be touched: in a file there may be no blocks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "deferred_map/deferred_map.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define FUZZ_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FUZZ_POISONS 1
#endif
#endif
#ifdef FUZZ_POISONS
#include <sanitizer/asan_interface.h>
#endif

namespace fuzz {

using slot = dm::slot<std::uint64_t>;

/// Memory for at most `slots_max` slots, and an index laid out for `index_capacity`, which may be more.
class guarded_arena {
 public:
  struct control_block {
    std::uint32_t slot_count = 0;
    std::uint32_t occupied = 0;
    std::uint32_t reserved = 0;
    std::uint32_t vacant = 0;
    std::uint32_t retired = 0;
    std::uint32_t generation_floor = 0;
    std::uint32_t capacity = 0;
    std::uint32_t recovering = 0;
    std::uint32_t buffer_count = 0;
    std::uint32_t buffer[dm::vacancy_index::buffer_limit_max] = {};
  };

  guarded_arena(std::uint32_t slots_max, std::uint32_t index_capacity)
      : shape_(index_capacity),
        index_capacity_(index_capacity),
        slots_max_(slots_max),
        slots_(static_cast<slot*>(std::calloc(slots_max, sizeof(slot)))),
        words_(static_cast<std::uint64_t*>(std::calloc(shape_.words_total, sizeof(std::uint64_t)))) {
    if (slots_ == nullptr || words_ == nullptr) std::abort();
    guard(true);
  }
  guarded_arena(const guarded_arena&) = delete;
  guarded_arena& operator=(const guarded_arena&) = delete;
  ~guarded_arena() {
    guard(false);
    std::free(slots_);
    std::free(words_);
  }

  slot* slots() const noexcept { return slots_; }
  std::uint64_t* words() const noexcept { return words_; }
  const dm::index_shape& shape() const noexcept { return shape_; }
  std::uint32_t slots_max() const noexcept { return slots_max_; }
  std::uint32_t index_capacity() const noexcept { return index_capacity_; }
  std::uint32_t& version_of(std::uint32_t index) const noexcept { return slots_[index].version; }

  void expand(std::uint64_t needed) {
    if (needed > slots_max_) throw std::bad_alloc();
    const std::uint64_t grown = std::max<std::uint64_t>(needed + needed / 8 + 1, control.capacity);
    set_capacity(static_cast<std::uint32_t>(std::min<std::uint64_t>(grown, slots_max_)));
  }
  void truncate(std::uint64_t kept) {
    // As the arena does it.
    kept = std::max<std::uint64_t>(kept, control.slot_count);
    if (kept >= control.capacity) return;
    guard(false);
    std::memset(static_cast<void*>(slots_ + kept), 0, (control.capacity - kept) * sizeof(slot));
    set_capacity(static_cast<std::uint32_t>(kept));
  }
  void set_capacity(std::uint32_t capacity) {
    guard(false);
    control.capacity = capacity;
    guard(true);
  }

  control_block control;

 private:
  void guard([[maybe_unused]] bool on) noexcept {
#ifdef FUZZ_POISONS
    if (!on) {
      ASAN_UNPOISON_MEMORY_REGION(slots_, slots_max_ * sizeof(slot));
      ASAN_UNPOISON_MEMORY_REGION(words_, shape_.words_total * sizeof(std::uint64_t));
      return;
    }
    ASAN_POISON_MEMORY_REGION(slots_ + control.capacity, (slots_max_ - control.capacity) * sizeof(slot));
    // Files have whole pages of the index; here it is word by word.
    std::uint64_t used = control.capacity;
    for (unsigned level = 0; level < shape_.levels; ++level) {
      used = control.capacity == 0 ? 0 : std::max<std::uint64_t>((used + 63) / 64, 1);
      ASAN_POISON_MEMORY_REGION(words_ + shape_.offset[level] + used,
                                (shape_.words[level] - used) * sizeof(std::uint64_t));
    }
#endif
  }

  dm::index_shape shape_;
  std::uint32_t index_capacity_;
  std::uint32_t slots_max_;
  slot* slots_;
  std::uint64_t* words_;
};

struct guarded_allocator {
  using value_type = std::uint64_t;

  guarded_arena* arena = nullptr;

  auto& control() const { return arena->control; }
  void* slots() const { return arena->slots(); }
  std::uint64_t* index_words() const { return arena->words(); }
  std::uint64_t index_capacity() const { return arena == nullptr ? 0 : arena->index_capacity(); }
  void expand(std::uint64_t needed) const { arena->expand(needed); }
  void truncate(std::uint64_t kept) const {
    if (arena != nullptr) arena->truncate(kept);
  }
  std::uint64_t* allocate(std::size_t) const { std::abort(); }
  void deallocate(std::uint64_t*, std::size_t) const { std::abort(); }
  friend bool operator==(guarded_allocator, guarded_allocator) = default;
};

}  // namespace fuzz
