// The values that maps are filled with where they are measured beside others.
#pragma once

#include <cstdint>

namespace bench {

/// 64 bytes that show by themselves whether they are of one moment.
struct record {
  std::uint64_t id;
  std::uint64_t stamps[7];  // all the same

  static record make(std::uint64_t id, std::uint64_t stamp) {
    return {id, {stamp, stamp, stamp, stamp, stamp, stamp, stamp}};
  }
  bool is_whole() const {
    std::uint64_t different = 0;
    for (const std::uint64_t stamp : stamps) different |= stamp ^ stamps[0];
    return different == 0;
  }
};
static_assert(sizeof(record) == 64);

}  // namespace bench
