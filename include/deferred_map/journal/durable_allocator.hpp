// The allocator that lets a deferred_map live in a durable arena (dm::watching_allocator).
#pragma once

#include <cstdint>

#include "deferred_map/journal/durable_arena.hpp"

namespace dm {

/// Points at a durable arena; copies point at the same. The arena must outlive every map made with it, and must have been
/// made for slots of this very T.
template <class T>
class durable_allocator {
 public:
  using value_type = T;

  durable_allocator() noexcept = default;  // of no arena: for maps that were moved from or closed
  explicit durable_allocator(durable_arena& of) noexcept : arena_(&of) {}

  control_block& control() const noexcept { return arena_->control(); }
  void* slots() const noexcept { return arena_->slots(); }
  std::uint64_t* index_words() const noexcept { return arena_->index_words(); }
  std::uint64_t index_capacity() const noexcept { return arena_->header().slots_max; }

  void expand(std::uint64_t slots) const {
    if (arena_ == nullptr)
      throw error(errc::bad_options, "", "this map is not open: it was closed or moved from, or never opened");
    arena_->expand(slots);
  }
  void truncate(std::uint64_t slots) const noexcept {
    if (arena_ != nullptr) arena_->truncate(slots);
  }

  void before_change(std::uint32_t slot) const noexcept { arena_->before_change(slot); }
  void before_index_change(std::uint64_t& word) const noexcept { arena_->before_index_change(word); }
  std::uint32_t next_generation(std::uint32_t slot, std::uint32_t next) const noexcept {
    return arena_->next_generation(slot, next);
  }

  friend bool operator==(const durable_allocator&, const durable_allocator&) noexcept = default;

 private:
  durable_arena* arena_ = nullptr;
};

}  // namespace dm
