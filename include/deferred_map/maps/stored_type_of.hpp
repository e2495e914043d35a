// What an arena is told of a type whose values lie in its slots.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "deferred_map/arena/arena.hpp"
#include "deferred_map/container/slot.hpp"
#include "deferred_map/schema.hpp"

namespace dm::detail {

/// What the arena is told of T.
template <class T>
stored_type stored_type_of() {
  static_assert(sizeof(T) <= 1u << 30, "an arena's values have at most 2^30 bytes");
  static_assert(alignof(T) <= 4096, "an arena's values are aligned to a page of 4096 bytes at most");
  using slot_type = slot<T>;
  stored_type type;
  // What docs/FORMAT.md says of every slot, held against this one.
  constexpr slot_layout layout = slot_layout_of(arena_kind::mapped, sizeof(T), alignof(T));
  static_assert(alignof(slot_type) == layout.value_offset && sizeof(slot_type) == layout.stride_bytes);
  if constexpr (std::is_standard_layout_v<slot_type>)  // else `offsetof` need not be meant
    static_assert(offsetof(slot_type, version) == layout.version_offset &&
                  offsetof(slot_type, value) == layout.value_offset);
  type.slot = layout;
  type.description = schema_of<T>();
  type.schema_version = type.description.version;
  return type;
}

}  // namespace dm::detail
