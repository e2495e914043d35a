// The sparse secondary map: data attached to the keys of another map, where few of its keys have some.
#pragma once

#include <type_traits>

#include "deferred_map/allocator.hpp"
#include "deferred_map/container/secondary_base.hpp"
#include "deferred_map/container/secondary_hashed.hpp"
#include "deferred_map/key.hpp"

namespace dm {

/// Attaches a `T` to keys that another map made, as secondary_map does, through a hash table.
///
/// Memory: `{ uint32 version; uint32 index; T }`, a byte and a seventh, and a bit, for each place in the table, of
/// which between three eighths and three quarters are filled; nothing for keys without a value. Looking a key up costs
/// a cache miss more than in secondary_map only where the table's marks, 2.1 MB for a million entries, are not in
/// the caches. `reserve(n)` makes room for n entries.
///
/// Walked in the order of the table, which means nothing and changes when it grows.
///
/// References: growing moves the values. Nothing else moves or invalidates another value; erasing does not either.
///
/// Errors, threads, entries whose keys are stale by now: as secondary_map.
template <class T, class Key = key, class Allocator = default_allocator<T>>
class sparse_secondary_map : public detail::secondary_base<T, Key, Allocator, detail::secondary_hashed<T, Allocator>> {
  using base = detail::secondary_base<T, Key, Allocator, detail::secondary_hashed<T, Allocator>>;

 public:
  using base::base;
  sparse_secondary_map() requires(std::is_default_constructible_v<Allocator>) = default;

  friend void swap(sparse_secondary_map& a, sparse_secondary_map& b) noexcept { a.swap(b); }
};

}  // namespace dm
