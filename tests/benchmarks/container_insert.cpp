// Inserting: into new maps, with room and without, into slots vacated in random order, and whole tiny maps.
#include "bench.hpp"

namespace bench {
namespace {

/// New maps, filled. Page faults belong to it; destroying does not.
template <class Side, bool Reserves>
void insert(benchmark::State& state, std::size_t n) {
  std::vector<typename Side::key> keys(n);
  const auto no_maps = [&] {
    back_memory(n * (Side::bytes + 16));
    std::vector<Side> maps;
    maps.reserve(rounds(n));
    return maps;
  };
  measure(state, rounds(n) * n, no_maps, [&](std::vector<Side>& maps) {
    for (std::size_t i = 0; i < rounds(n); ++i) maps.emplace_back(Reserves ? n : 0).insert(i, keys);
    benchmark::ClobberMemory();
  });
}

/// Maps that were full and were emptied in random order, filled again.
template <class Side>
void refill(benchmark::State& state, std::size_t n) {
  std::vector<typename Side::key> keys(n);
  const auto emptied = [&] {
    std::vector<Side> maps;
    maps.reserve(rounds(n));
    while (maps.size() < rounds(n)) {
      filled<Side> map(n);
      map.side.erase(map.keys);
      maps.push_back(std::move(map.side));
    }
    return maps;
  };
  measure(state, rounds(n) * n, emptied, [&](std::vector<Side>& maps) {
    for (Side& map : maps) map.insert(0, keys);
  });
}

/// Maps made, filled with `n` values and destroyed.
template <class Side>
void tiny(benchmark::State& state, std::size_t n) {
  const std::size_t maps = batch / n;
  measure(state, maps, [&] { Side::tiny(maps, n); });
}

template <class Side>
void add_insertions_of(std::size_t n) {
  if (!is_measured(Side::bytes, n, false)) return;
  add("insert_reserved", Side::name, Side::bytes, n, insert<Side, true>);
  add("insert_unreserved", Side::name, Side::bytes, n, insert<Side, false>);
}

}  // namespace

void add_insertions() {
  for_each_side([]<class Side>() {
    for (const std::size_t n : all_sizes) add_insertions_of<Side>(n);
    for (const std::size_t n : {1, 10}) add("tiny", Side::name, Side::bytes, n, tiny<Side>);
  });
  for_each_removing_side([]<class Side>() {
    for (const std::size_t n : all_sizes)
      if (is_measured(Side::bytes, n, false)) add("refill", Side::name, Side::bytes, n, refill<Side>);
  });
}

}  // namespace bench
