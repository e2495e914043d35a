// Secondary maps: looking up and inserting in random order, and walking a map together with one.
#include "bench.hpp"
#if __has_include("deferred_map/join.hpp") && __has_include("deferred_map/container/secondary_base.hpp")
#include "deferred_map/join.hpp"
#include "deferred_map/secondary_map.hpp"
#define BENCH_SECONDARY
#endif

namespace bench {
namespace {

#ifdef BENCH_SECONDARY
template <std::size_t Bytes>
class dm_second {
 public:
  explicit dm_second(std::size_t reserve) {
    if (reserve != 0) map_.reserve(reserve);
  }
  /// Values of 0, 1, ...
  void insert(std::span<const dm::key> keys) {
    for (std::size_t i = 0; i < keys.size(); ++i) map_.insert(keys[i], value_of<Bytes>(i));
  }
  word get(std::span<const dm::key> keys) const {
    word sum = 0;
    for (const dm::key key : keys)
      if (const auto* v = map_.get(key)) sum += first_word(*v);
    return sum;
  }
  /// The sum of the first words of both values of each key that is in both maps.
  word join(const dm_side<Bytes>& first) const {
    word sum = 0;
    for (const auto& [key, a, b] : dm::join(first.elements().map, map_)) sum += first_word(a) + first_word(b);
    return sum;
  }

 private:
  dm::secondary_map<value<Bytes>> map_;
};
#endif

/// A map, its keys in random order, and a secondary map of one in `One_in` of them.
template <class Side, class Second, std::size_t One_in>
struct pair_of : filled<Side> {
  Second second;
  explicit pair_of(std::size_t n) : filled<Side>(n), second(n + 1) {
    second.insert(std::span(this->keys).first(n / One_in));
  }
};

template <class Side, class Second>
void second_get_random(benchmark::State& state, std::size_t n) {
  auto& bed = kept<pair_of<Side, Second, 1>>(n);
  measure(state, rounds(n) * n, [&] {
    for (std::size_t i = 0; i < rounds(n); ++i) benchmark::DoNotOptimize(bed.second.get(bed.keys));
  });
  expect(state, bed.second.get(bed.keys), sum_of(n));
}

/// Into new secondary maps that were not told how many will come.
template <class Side, class Second>
void second_insert_random(benchmark::State& state, std::size_t n) {
  auto& bed = kept<filled<Side>>(n);
  const auto no_maps = [&] {
    std::vector<Second> maps;
    maps.reserve(rounds(n));
    return maps;
  };
  measure(state, rounds(n) * n, no_maps, [&](std::vector<Second>& maps) {
    for (std::size_t i = 0; i < rounds(n); ++i) maps.emplace_back(0).insert(bed.keys);
    benchmark::ClobberMemory();
  });
}

/// One operation is one value of the map, not one that is in both.
template <class Side, class Second, std::size_t One_in>
void join(benchmark::State& state, std::size_t n) {
  auto& bed = kept<pair_of<Side, Second, One_in>>(n);
  measure(state, rounds(n) * n, [&] {
    for (std::size_t i = 0; i < rounds(n); ++i) benchmark::DoNotOptimize(bed.second.join(bed.side));
  });
  if (One_in == 1) expect(state, bed.second.join(bed.side), 2 * sum_of(n));
}

template <class Side, class Second>
void add_secondaries_of() {
  for (const std::size_t n : all_sizes) {
    if (!is_measured(Side::bytes, n, false)) continue;
    add("second_get_random", Side::name, Side::bytes, n, second_get_random<Side, Second>);
    add("second_insert_random", Side::name, Side::bytes, n, second_insert_random<Side, Second>);
    add("join_all", Side::name, Side::bytes, n, join<Side, Second, 1>);
    add("join_1_percent", Side::name, Side::bytes, n, join<Side, Second, 100>);
  }
}

}  // namespace

void add_secondaries() {
#ifdef BENCH_SECONDARY
  add_secondaries_of<dm_side<8>, dm_second<8>>();
  add_secondaries_of<dm_side<64>, dm_second<64>>();
#ifdef BENCH_SLOTMAP
  add_secondaries_of<slotmap_side<8>, slotmap_side<8>::second>();
  add_secondaries_of<slotmap_side<64>, slotmap_side<64>::second>();
#endif
#endif
}

}  // namespace bench
