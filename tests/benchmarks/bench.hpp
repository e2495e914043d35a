// What every benchmark here shares: the clock, the order of keys, what is kept between repetitions, and the names
// by which tools/bench picks one group after the other.
//
// A group is one operation on maps of one size and one kind of value; its sides are measured in turns, in one process.
// A benchmark is named OPERATION/SIDE/BYTES/N.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "sides.hpp"
#ifdef BENCH_SLOTMAP
#include "slotmap_side.hpp"
#endif

namespace bench {

/// The processor time of this thread since it was made, page faults included. Not the time of day: others may be
/// using the machine, and what they take is nobody's here. Reading it costs some 200 ns, so that no less than
/// `batch` operations are measured at once.
class stopwatch {
 public:
  stopwatch() : start_(now()) {}
  double seconds() const { return now() - start_; }

 private:
  static double now();
  double start_;
};

inline constexpr std::size_t batch = 16384;

/// How often an operation on `n` elements is repeated, or on how many maps it is done, to make a batch.
constexpr std::size_t rounds(std::size_t n) { return n >= batch ? 1 : batch / n; }

/// A random permutation of 0 .. n-1, always the same for one n.
const std::vector<std::uint32_t>& order(std::size_t n);

/// `keys` in that order.
template <class Key>
std::vector<Key> shuffled(const std::vector<Key>& keys) {
  std::vector<Key> result;
  result.reserve(keys.size());
  for (const std::uint32_t i : order(keys.size())) result.push_back(keys[i]);
  return result;
}

/// Sees to it that the system has so many bytes of memory of its own to hand out. In a virtual machine whose host
/// takes back what is free, the first to use it again waits for the host, and for huge pages by tens of ns an
/// element: that would be measured on whichever side comes first, and is nobody's.
void back_memory(std::size_t bytes);

/// Forgets what `kept` keeps unless `group` is the group it was made for.
void enter_group(const std::string& group);
void forget_with_group(std::function<void()> forget);

/// A `Bed` made of `n`, the same one in all repetitions of a benchmark: filling a map of millions is slow. It goes
/// when another group begins.
template <class Bed>
Bed& kept(std::size_t n) {
  static std::unique_ptr<Bed> held;
  if (!held) {
    held = std::make_unique<Bed>(n);
    forget_with_group([] { held.reset(); });
  }
  return *held;
}

/// A map of `n` values inserted into a new map with room for them, and their keys in random order.
template <class Side>
struct filled {
  Side side;
  std::vector<typename Side::key> keys;
  explicit filled(std::size_t n) : side(n), keys(n) {
    side.insert(0, keys);
    keys = shuffled(keys);
  }
};

/// Measures `operation()` in every iteration; it is `count` operations.
template <class F>
void measure(benchmark::State& state, std::size_t count, F operation) {
  for (auto _ : state) {
    const stopwatch watch;
    operation();
    state.SetIterationTime(watch.seconds());
  }
  state.counters["operations"] = static_cast<double>(count);
}
/// The same, with something to be done before each that is not measured: `operation` gets what `prepare` returns.
template <class Prepare, class F>
void measure(benchmark::State& state, std::size_t count, Prepare prepare, F operation) {
  for (auto _ : state) {
    auto prepared = prepare();
    const stopwatch watch;
    operation(prepared);
    state.SetIterationTime(watch.seconds());
  }
  state.counters["operations"] = static_cast<double>(count);
}

/// All sides must have come to the same, or they did not do the same.
inline void expect(benchmark::State& state, word found, word expected) {
  if (found != expected) state.SkipWithError("this side did something else");
}
/// 0 + 1 + ... + n-1: the values of a full map.
constexpr word sum_of(word n) { return n * (n - 1) / 2; }

inline constexpr std::size_t all_sizes[] = {1'000, 100'000, 1'000'000, 10'000'000};

/// Values of 64 bytes, 10 million of them, take 700 MB on each side: only where `huge` asks for it.
constexpr bool is_measured(std::size_t bytes, std::size_t n, bool huge) { return bytes == 8 || n < 10'000'000 || huge; }

void add(const std::string& operation, const char* side, std::size_t bytes, std::size_t n,
         std::function<void(benchmark::State&, std::size_t n)> run);

/// Calls `f.template operator()<Side>()` for each side with values of 8 and of 64 bytes.
template <class F>
void for_each_side(F f) {
  const auto with = [&f]<std::size_t Bytes>() {
    f.template operator()<dm_side<Bytes>>();
#ifdef BENCH_SLOTMAP
    f.template operator()<slotmap_side<Bytes>>();
#endif
    f.template operator()<colony_side<Bytes>>();
    f.template operator()<flat_map_side<Bytes>>();
    f.template operator()<unordered_map_side<Bytes>>();
    f.template operator()<vector_side<Bytes>>();
  };
  with.template operator()<8>();
  with.template operator()<64>();
}
/// The same for those that can remove.
template <class F>
void for_each_removing_side(F f) {
  for_each_side([&f]<class Side>() {
    if constexpr (Side::removes) f.template operator()<Side>();
  });
  f.template operator()<colony_iterators_side<8>>();
  f.template operator()<colony_iterators_side<64>>();
}

// Each file of operations adds its own.
void add_insertions();
void add_lookups();
void add_removals();
void add_walks();
void add_secondaries();
/// Prints bytes per element: `what` is SIDE/BYTES/N/reserved or SIDE/BYTES/N/grown. False: there is no such.
bool print_memory(const std::string& what);

}  // namespace bench
