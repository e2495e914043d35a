// Identities of maps, by which a handle knows its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <random>

namespace dm::detail {

/// A number no other map has: a counter from a random start, mixed (the finalizer of SplitMix64, a bijection,
/// so that two maps of one process never share one). The random start keeps apart the maps of two processes
/// that meet in one shared-memory segment. Never 0.
inline std::uint64_t next_map_identity() {
  static std::atomic<std::uint64_t> counter{[] {
    std::random_device random;
    return std::uint64_t{random()} << 32 | random();
  }()};
  for (;;) {
    // Only uniqueness matters: nothing is published by this number.
    std::uint64_t x = counter.fetch_add(0x9e3779b97f4a7c15u, std::memory_order_relaxed);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    if (x != 0) return x;
  }
}

}  // namespace dm::detail
