// Looking up: in random order, each key found in the value before, stale keys, half of them stale.
#include "bench.hpp"

namespace bench {
namespace {

/// The keys of a full map, in random order.
template <class Side>
void get_random(benchmark::State& state, std::size_t n) {
  auto& [map, keys] = kept<filled<Side>>(n);
  measure(state, rounds(n) * n, [&, &map = map, &keys = keys] {
    for (std::size_t i = 0; i < rounds(n); ++i) benchmark::DoNotOptimize(map.get(keys));
  });
  expect(state, map.get(keys), sum_of(n));
}

/// A ring through all values in random order, and a place on it.
template <class Side>
struct ring : filled<Side> {
  typename Side::key at;
  explicit ring(std::size_t n) : filled<Side>(n), at(this->keys[0]) { this->side.link(this->keys); }
};

template <class Side>
void get_dependent(benchmark::State& state, std::size_t n) {
  auto& place = kept<ring<Side>>(n);
  // A part of the ring at a time: the whole of a large one takes seconds.
  const std::size_t steps = std::min<std::size_t>(rounds(n) * n, 1'000'000);
  measure(state, steps, [&] { place.at = place.side.follow(place.at, steps); });
}

/// A full map, and keys of values it once held, of slots that hold others now.
template <class Side>
struct with_stale_keys {
  Side side;
  std::vector<typename Side::key> all_stale;
  std::vector<typename Side::key> half_stale;
  explicit with_stale_keys(std::size_t n) : side(n), all_stale(n) {
    side.insert(0, all_stale);
    all_stale = shuffled(all_stale);
    half_stale = all_stale;
    side.churn(half_stale);
    // A random half: the one that comes first in random order.
    std::copy_n(all_stale.begin(), n / 2, half_stale.begin());
    half_stale = shuffled(half_stale);
  }
};

template <class Side>
void get_stale(benchmark::State& state, std::size_t n) {
  auto& [map, all_stale, half_stale] = kept<with_stale_keys<Side>>(n);
  measure(state, rounds(n) * n, [&, &map = map, &keys = all_stale] {
    for (std::size_t i = 0; i < rounds(n); ++i) benchmark::DoNotOptimize(map.get(keys));
  });
  expect(state, map.get(all_stale), 0);
}

template <class Side>
void get_half_stale(benchmark::State& state, std::size_t n) {
  auto& [map, all_stale, half_stale] = kept<with_stale_keys<Side>>(n);
  measure(state, rounds(n) * n, [&, &map = map, &keys = half_stale] {
    for (std::size_t i = 0; i < rounds(n); ++i) benchmark::DoNotOptimize(map.get(keys));
  });
}

/// Calls `use(found)` for a few keys at a time, as a program does that has many.
template <class Value, class Key, class Find, class Use>
void by_blocks(const std::vector<Key>& all, Find find, Use use) {
  std::span<const Key> keys(all);
  std::array<const Value*, 256> found;
  while (!keys.empty()) {
    const auto block = keys.first(std::min(keys.size(), found.size()));
    find(block, std::span(found).first(block.size()));
    use(std::span(found).first(block.size()));
    keys = keys.subspan(block.size());
  }
}

/// Where the values are, none of them read: `get` in a loop, or get_many where `Many`.
template <class Side, bool Many>
void find_half_stale(benchmark::State& state, std::size_t n) {
  auto& [map, all_stale, half_stale] = kept<with_stale_keys<Side>>(n);
  std::size_t live = 0;
  measure(state, rounds(n) * n, [&, &map = map, &keys = half_stale] {
    for (std::size_t i = 0; i < rounds(n); ++i)
      by_blocks<value<Side::bytes>>(
          keys,
          [&](auto block, auto found) {
            if constexpr (Many) {
              live += map.find_many(block, found);
            } else {
              live += map.find(block, found);
            }
          },
          [](auto found) { benchmark::DoNotOptimize(found.data()), benchmark::ClobberMemory(); });
  });
  expect(state, live % (n - n / 2), 0);
}

/// The keys of `Bed`'s member `keys_of`, with get_many, each value read.
template <class Bed, class Side>
void get_many(benchmark::State& state, std::size_t n, std::vector<typename Side::key> Bed::*keys_of) {
  auto& bed = kept<Bed>(n);
  measure(state, rounds(n) * n, [&] {
    for (std::size_t i = 0; i < rounds(n); ++i) {
      word sum = 0;
      by_blocks<value<Side::bytes>>(
          bed.*keys_of, [&](auto block, auto found) { bed.side.find_many(block, found); },
          [&](auto found) {
            word part = 0;  // in a register, which what is captured may not be
            for (const auto* v : found)
              if (v != nullptr) part += first_word(*v);
            sum += part;
          });
      benchmark::DoNotOptimize(sum);
    }
  });
}

template <class Side>
void add_lookups_of(std::size_t n) {
  const auto bytes = Side::bytes;
  if (is_measured(bytes, n, true)) {
    add("get_random", Side::name, bytes, n, get_random<Side>);
    add("get_dependent", Side::name, bytes, n, get_dependent<Side>);
  }
  if constexpr (Side::tells_stale)
    if (is_measured(bytes, n, false)) {
      add("get_stale", Side::name, bytes, n, get_stale<Side>);
      add("get_half_stale", Side::name, bytes, n, get_half_stale<Side>);
      add("find_half_stale", Side::name, bytes, n, find_half_stale<Side, false>);
    }
  if constexpr (requires(Side s) { s.find_many({}, {}); }) {
    using stale_bed = with_stale_keys<Side>;
    if (is_measured(bytes, n, true))
      add("get_random", "dm_get_many", bytes, n,
          [](benchmark::State& state, std::size_t m) { get_many<filled<Side>, Side>(state, m, &filled<Side>::keys); });
    if (is_measured(bytes, n, false)) {
      add("get_half_stale", "dm_get_many", bytes, n,
          [](benchmark::State& state, std::size_t m) { get_many<stale_bed, Side>(state, m, &stale_bed::half_stale); });
      add("find_half_stale", "dm_get_many", bytes, n, find_half_stale<Side, true>);
    }
  }
}

}  // namespace

void add_lookups() {
  for_each_side([]<class Side>() {
    for (const std::size_t n : all_sizes) add_lookups_of<Side>(n);
  });
}

}  // namespace bench
