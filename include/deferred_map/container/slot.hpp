// A slot: a version word and room for one value. The only place where the union is seen.
//
//   offset 0        4 or alignof(T)
//  +---------+-----+----------------+
//  | version | pad | value          |     16 bytes for a 64-bit T
//  +---------+-----+----------------+
//
// Invariant: `value` is within its lifetime exactly while `version` says occupied. Whoever stores `occupied`
// has completely built the value before; whoever ends the value's life stores another state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace dm {

template <class T>
struct slot {
  std::uint32_t version;
  union {
    T value;
  };

  slot() noexcept : version(0) {}
  ~slot() {}  // the value, if there is one, is its map's to destroy
  slot(const slot&) = delete;
  slot& operator=(const slot&) = delete;
};

// Arena files have these bytes (docs/FORMAT.md): a slot is as large as version, value and alignment ask for, no larger.
static_assert(sizeof(slot<std::uint8_t>) == 8 && sizeof(slot<std::uint32_t>) == 8);
static_assert(sizeof(slot<std::uint64_t>) == 16 && alignof(slot<std::uint64_t>) == 8);
static_assert(std::is_standard_layout_v<slot<std::uint64_t>>);
static_assert(offsetof(slot<std::uint32_t>, version) == 0 && offsetof(slot<std::uint32_t>, value) == 4);
static_assert(offsetof(slot<std::uint64_t>, version) == 0 && offsetof(slot<std::uint64_t>, value) == 8);

}  // namespace dm
