// Walking over all values: of full maps, and of maps of which 90 or 99 of a hundred were removed at random.
#include "bench.hpp"

namespace bench {
namespace {

/// Where one value in `One_in` is left, in random places.
template <class Side, std::size_t One_in>
struct thinned {
  Side side;
  explicit thinned(std::size_t n) : side(0) {
    filled<Side> full(n);
    if constexpr (One_in > 1) full.side.erase(std::span(full.keys).subspan(n / One_in));
    side = std::move(full.side);
  }
};

/// One operation is one value that is there.
template <class Side, std::size_t One_in>
void iterate(benchmark::State& state, std::size_t n) {
  auto& map = kept<thinned<Side, One_in>>(n).side;
  measure(state, rounds(n) * (n / One_in), [&] {
    for (std::size_t i = 0; i < rounds(n); ++i) benchmark::DoNotOptimize(map.walk());
  });
  if (One_in == 1) expect(state, map.walk(), sum_of(n));
}

}  // namespace

void add_walks() {
  for_each_side([]<class Side>() {
    for (const std::size_t n : all_sizes)
      if (is_measured(Side::bytes, n, false)) add("iterate_full", Side::name, Side::bytes, n, iterate<Side, 1>);
  });
  for_each_removing_side([]<class Side>() {
    for (const std::size_t n : all_sizes) {
      if (!is_measured(Side::bytes, n, false)) continue;
      add("iterate_90_removed", Side::name, Side::bytes, n, iterate<Side, 10>);
      add("iterate_99_removed", Side::name, Side::bytes, n, iterate<Side, 100>);
    }
  });
}

}  // namespace bench
