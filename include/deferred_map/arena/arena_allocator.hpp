// The allocator that lets a deferred_map live in an arena: it names what is there (dm::persistent_allocator), and where the
// arena wants to know, what is about to change (dm::watching_allocator).
#pragma once

#include <cstdint>

#include "deferred_map/arena/arena.hpp"

namespace dm {

/// Points at an arena; copies point at the same. The arena must outlive every map made with it, and must have
/// been made for slots of this very T.
template <class T, class Arena>
class basic_arena_allocator {
 public:
  using value_type = T;

  basic_arena_allocator() noexcept = default;  // of no arena: for maps that were moved from or closed
  explicit basic_arena_allocator(Arena& of) noexcept : arena_(&of) {}

  control_block& control() const noexcept { return arena_->control(); }
  void* slots() const noexcept { return arena_->slots(); }
  std::uint64_t* index_words() const noexcept { return arena_->index_words(); }
  std::uint64_t index_capacity() const noexcept { return arena_->header().slots_max; }

  void expand(std::uint64_t slots) const { of_an_open_arena().expand(slots); }
  void truncate(std::uint64_t slots) const {
    if (arena_ != nullptr) arena_->truncate(slots);
  }

  void before_change(std::uint32_t slot) const noexcept requires(requires(Arena& a) { a.before_change(slot); }) {
    arena_->before_change(slot);
  }
  void before_index_change(std::uint64_t& word) const noexcept
      requires(requires(Arena& a) { a.before_index_change(word); }) {
    arena_->before_index_change(word);
  }
  std::uint32_t next_generation(std::uint32_t slot, std::uint32_t next) const noexcept
      requires(requires(Arena& a) { a.next_generation(slot, next); }) {
    return arena_->next_generation(slot, next);
  }

  friend bool operator==(const basic_arena_allocator&, const basic_arena_allocator&) noexcept = default;

 private:
  Arena& of_an_open_arena() const {
    if (arena_ == nullptr)
      throw error(errc::bad_options, "", "this map is not open: it was closed or moved from, or never opened");
    return *arena_;
  }

  Arena* arena_ = nullptr;
};

template <class T>
using arena_allocator = basic_arena_allocator<T, arena>;

}  // namespace dm
