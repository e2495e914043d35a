// What an allocator may offer besides what the standard asks of one.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace dm::detail {

/// Offered by allocators that can grow a block where it is, so that no element moves.
template <class Allocator>
concept expands_in_place = requires(Allocator allocator, typename std::allocator_traits<Allocator>::pointer block) {
  { allocator.try_expand(block, std::size_t{}, std::size_t{}) } -> std::same_as<bool>;
};

/// Offered by allocators that can give back the end of a block.
template <class Allocator>
concept shrinks_in_place = requires(Allocator allocator, typename std::allocator_traits<Allocator>::pointer block) {
  { allocator.try_shrink(block, std::size_t{}, std::size_t{}) } -> std::same_as<bool>;
};

/// Offered by allocators that can move a block to a larger one as bytes, for less than the copying costs (realloc).
/// Null where that cannot be done, and then nothing has changed.
template <class Allocator>
concept reallocates = requires(Allocator allocator, typename std::allocator_traits<Allocator>::pointer block) {
  { allocator.try_reallocate(block, std::size_t{}, std::size_t{}) } -> std::same_as<decltype(block)>;
};

/// Where the index comes from: the map's allocator, unless that names another (`index_allocator`).
template <class Allocator>
struct index_allocator_of {
  using type = typename std::allocator_traits<Allocator>::template rebind_alloc<std::uint64_t>;
};
template <class Allocator>
requires requires { typename Allocator::index_allocator; }
struct index_allocator_of<Allocator> {
  using type = typename Allocator::index_allocator;
};

/// Has a `construct` of its own, which may do more than call T's constructor.
template <class Allocator, class T, class... A>
concept constructs_itself = requires(Allocator allocator, T* place, A&&... args) {
  allocator.construct(place, std::forward<A>(args)...);
};

}  // namespace dm::detail
