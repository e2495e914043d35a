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

#include <cstdint>
#include <memory>

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

}  // namespace dm
