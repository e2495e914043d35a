// What an arena is told of a type whose values lie in its slots.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "deferred_map/arena/arena.hpp"
#include "deferred_map/container/slot.hpp"
#include "deferred_map/schema.hpp"

namespace dm {
namespace detail {

/// What the arena is told of T.
template <class T>
stored_type stored_type_of() {
  static_assert(sizeof(T) <= 1u << 30, "an arena's values have at most 2^30 bytes");
  static_assert(alignof(T) <= 4096, "an arena's values are aligned to a page of 4096 bytes at most");
  using slot_type = slot<T>;
  stored_type type;
  type.slot.stride_bytes = sizeof(slot_type);
  type.slot.version_offset = 0;
  type.slot.value_offset = std::max<std::uint32_t>(sizeof(std::uint32_t), alignof(T));
  type.slot.value_size_bytes = sizeof(T);
  type.slot.value_align_bytes = alignof(T);
  // What docs/FORMAT.md says of every slot, held against this one.
  constexpr std::size_t align = std::max<std::size_t>(sizeof(std::uint32_t), alignof(T));
  static_assert(alignof(slot_type) == align && sizeof(slot_type) == align + (sizeof(T) + align - 1) / align * align);
  if constexpr (std::is_standard_layout_v<slot_type>)  // else `offsetof` need not be meant
    static_assert(offsetof(slot_type, version) == 0 && offsetof(slot_type, value) == align);
  type.description = schema_of<T>();
  type.schema_version = type.description.version;
  return type;
}

}  // namespace detail
}  // namespace dm
