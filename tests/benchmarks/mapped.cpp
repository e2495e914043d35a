// mapped_map beside the same map on the heap: what a file costs in look-ups, insertion, removal and
// iteration.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <vector>

#include "deferred_map/deferred_map.hpp"
#include "deferred_map/mapped_map.hpp"

namespace {

template <std::size_t Bytes>
struct value {
  std::array<std::uint64_t, Bytes / 8> words;
};

template <std::size_t Bytes>
value<Bytes> value_of(std::uint64_t i) {
  value<Bytes> v;
  v.words.fill(i);
  return v;
}

template <std::size_t Bytes>
using heap_map = dm::deferred_map<value<Bytes>>;
template <std::size_t Bytes>
using file_map = dm::mapped_map<value<Bytes>>;

std::filesystem::path file_path() {
  const char* place = std::getenv("BENCH_DIRECTORY");
  return std::filesystem::path(place != nullptr ? place : ".") / "bench.arena";
}

template <class Map>
Map empty_map() {
  if constexpr (requires { Map::create(file_path()); }) {
    std::filesystem::remove(file_path());
    return Map::create(file_path(), {.sync_on_close = false});
  } else {
    return Map();
  }
}

/// A map of `n` values, each of its pages touched, and its keys in random order.
template <class Map>
struct filled {
  Map map = empty_map<Map>();
  std::vector<dm::key> keys;

  explicit filled(std::size_t n) {
    using T = typename Map::mapped_type;
    map.reserve(n);
    for (std::size_t i = 0; i < n; ++i) {
      T v;
      v.words.fill(i);
      keys.push_back(map.insert(v));
    }
    std::shuffle(keys.begin(), keys.end(), std::mt19937_64(42));
  }
};

// Filling a map of millions is slow and the same each time: one at a time is kept between the repetitions.
template <class Map>
filled<Map>& kept(std::size_t n) {
  static std::unique_ptr<filled<Map>> held;
  if (!held || held->keys.size() != n) {
    held.reset();
    held = std::make_unique<filled<Map>>(n);
  }
  return *held;
}

template <class Map>
void get_random(benchmark::State& state) {
  auto& [map, keys] = kept<Map>(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) {
    std::uint64_t sum = 0;
    for (const dm::key k : keys)
      if (const auto* v = map.get(k)) sum += v->words[0];
    benchmark::DoNotOptimize(sum);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

template <class Map>
void iterate(benchmark::State& state) {
  auto& [map, keys] = kept<Map>(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) {
    std::uint64_t sum = 0;
    for (const auto& v : map.values()) sum += v.words[0];
    benchmark::DoNotOptimize(sum);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

template <class Map>
void churn(benchmark::State& state) {
  auto& [map, keys] = kept<Map>(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state)
    for (dm::key& k : keys) {
      const auto v = map.remove(k);
      k = map.insert(*v);
    }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

template <class Map>
void insert_cold(benchmark::State& state) {
  const auto n = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    state.PauseTiming();
    Map map = empty_map<Map>();
    typename Map::mapped_type v{};
    state.ResumeTiming();
    map.reserve(n);
    for (std::size_t i = 0; i < n; ++i) {
      v.words[0] = i;
      map.insert(v);
    }
    state.PauseTiming();
    benchmark::DoNotOptimize(map.size());
    map = Map();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

}  // namespace

// Each pair runs interleaved: see tools/bench.
#define PAIR(operation, bytes)                                                          \
  BENCHMARK(operation<heap_map<bytes>>)->Arg(1'000'000)->Unit(benchmark::kMillisecond); \
  BENCHMARK(operation<file_map<bytes>>)->Arg(1'000'000)->Unit(benchmark::kMillisecond)

PAIR(get_random, 8);
PAIR(get_random, 64);
PAIR(iterate, 8);
PAIR(iterate, 64);
PAIR(churn, 8);
PAIR(churn, 64);
PAIR(insert_cold, 8);
PAIR(insert_cold, 64);

BENCHMARK_MAIN();
