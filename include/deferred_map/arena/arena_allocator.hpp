// The allocator that lets a deferred_map live in an arena: it names what is there (dm::persistent_allocator).
#pragma once

#include <cstdint>

#include "deferred_map/arena/arena.hpp"

namespace dm {

/// Points at an arena; copies point at the same. The arena must outlive every map made with it, and must have
/// been made for slots of this very T.
template <class T>
class arena_allocator {
 public:
  using value_type = T;

  arena_allocator() noexcept = default;  // of no arena: for maps that were moved from or closed
  explicit arena_allocator(arena& of) noexcept : arena_(&of) {}

  control_block& control() const noexcept { return arena_->control(); }
  void* slots() const noexcept { return arena_->slots(); }
  std::uint64_t* index_words() const noexcept { return arena_->index_words(); }
  std::uint64_t index_capacity() const noexcept { return arena_->header().slots_max; }

  void expand(std::uint64_t slots) const { of_an_open_arena().expand(slots); }
  void truncate(std::uint64_t slots) const {
    if (arena_ != nullptr) arena_->truncate(slots);
  }

  friend bool operator==(const arena_allocator&, const arena_allocator&) noexcept = default;

 private:
  arena& of_an_open_arena() const {
    if (arena_ == nullptr)
      throw error(errc::bad_options, "", "this map is not open: it was closed or moved from, or never opened");
    return *arena_;
  }

  arena* arena_ = nullptr;
};

}  // namespace dm
