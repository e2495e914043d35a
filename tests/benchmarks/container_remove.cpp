// Removing: all values in random order, and removing and inserting in turns.
#include "bench.hpp"

namespace bench {
namespace {

template <class Side>
void remove_random(benchmark::State& state, std::size_t n) {
  const auto full = [&] {
    std::vector<filled<Side>> maps;
    maps.reserve(rounds(n));
    while (maps.size() < rounds(n)) maps.emplace_back(n);
    return maps;
  };
  std::size_t kept = 0;
  measure(state, rounds(n) * n, full, [&](std::vector<filled<Side>>& maps) {
    for (auto& map : maps) kept += n - map.side.erase(map.keys);
  });
  expect(state, kept, 0);
}

/// One operation is a removal and an insertion. The map stays as it is between repetitions: churn has no end.
template <class Side>
struct churned : filled<Side> {
  std::size_t at = 0;
  using filled<Side>::filled;
};

template <class Side>
void churn(benchmark::State& state, std::size_t n) {
  auto& bed = kept<churned<Side>>(n);
  // A part of the keys at a time, because the slow ones take seconds for all of ten million.
  const std::size_t part = std::min<std::size_t>(n, 1'000'000);
  measure(state, rounds(n) * part, [&] {
    for (std::size_t i = 0; i < rounds(n); ++i) {
      bed.side.churn(std::span(bed.keys).subspan(bed.at, part));
      bed.at = bed.at + part == n ? 0 : bed.at + part;
    }
  });
}

}  // namespace

void add_removals() {
  for_each_removing_side([]<class Side>() {
    for (const std::size_t n : all_sizes) {
      if (!is_measured(Side::bytes, n, false)) continue;
      add("remove_random", Side::name, Side::bytes, n, remove_random<Side>);
      add("churn", Side::name, Side::bytes, n, churn<Side>);
    }
  });
}

}  // namespace bench
