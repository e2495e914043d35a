// The secondary map: data attached to the keys of another map, where most of its keys have some.
#pragma once

#include <type_traits>

#include "deferred_map/allocator.hpp"
#include "deferred_map/container/secondary_base.hpp"
#include "deferred_map/container/secondary_dense.hpp"
#include "deferred_map/key.hpp"

namespace dm {

/// Attaches a `T` to keys that another map made: `dm::secondary_map<double> masses; masses.insert(key, 5.9);`.
///
/// The value of a key lies in the slot of the key's index, so looking it up costs what it costs in the map of the
/// keys: one cache miss. The map of the keys knows nothing of it: when a value is removed there, the entry here stays
/// until it is erased, or overwritten by one for a newer key of the same slot. `retain` with the other map's
/// `contains` sweeps such entries out; `dm::join` passes over them.
///
/// Memory: a slot of `{ uint32 version; T }` and a bit for each slot index up to the highest that was used, whether
/// it has a value or not. Where few keys have one, sparse_secondary_map takes less. `reserve(n)` makes room for the
/// slot indices below n: `masses.reserve(bodies.slot_count())`.
///
/// Walked in the order of the slot indices, as the map of the keys.
///
/// References: growing moves the values, as in std::vector, unless the allocator can grow in place (`try_expand`).
/// Nothing else moves or invalidates another value.
///
/// Errors: std::length_error for the slot index 2^32 - 1, whatever the allocator throws, dm::stale_key. See
/// `detail::secondary_base` for what holds when something throws: nothing has changed, with two exceptions.
///
/// Threads: as the standard containers: any number of readers, or one writer.
///
/// What it does is what Rust's slotmap::SecondaryMap by Orson Peters does.
template <class T, class Key = key, class Allocator = default_allocator<T>>
class secondary_map : public detail::secondary_base<T, Key, Allocator, detail::secondary_dense<T, Allocator>> {
  using base = detail::secondary_base<T, Key, Allocator, detail::secondary_dense<T, Allocator>>;

 public:
  using base::base;
  secondary_map() requires(std::is_default_constructible_v<Allocator>) = default;

  friend void swap(secondary_map& a, secondary_map& b) noexcept { a.swap(b); }
};

}  // namespace dm
