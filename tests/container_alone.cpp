// The container without exceptions, run-time types or any library: that it compiles and links is the test.
#include "deferred_map/allocator.hpp"
#include "deferred_map/deferred_map.hpp"
#include "deferred_map/join.hpp"
#include "deferred_map/ostream.hpp"
#include "deferred_map/reservation.hpp"
#include "deferred_map/secondary_map.hpp"
#include "deferred_map/sparse_secondary_map.hpp"

namespace {

template <template <class> class Allocator>
bool map_works() {
  dm::deferred_map<int, dm::key, Allocator<int>> map;
  auto handle = map.allocate_handle();
  const dm::key k = handle.key();
  map.insert(std::move(handle), 1);
  {
    dm::reservation place(map);
    for (int i = 0; i < 1000; ++i) map.insert(i);
  }
  const auto copy = map;
  auto detached = map.detach(k);
  map.insert(std::move(detached->second), detached->first);
  map.retain([k](dm::key other, int value) { return other == k || value % 2 == 0; });
  map.shrink_to_fit();
  return map.at(k) == 1 && copy.at(k) == 1 && map.remove(k) == 1 && !map.contains(k) && map.verify().empty() &&
         copy.verify().empty();
}

template <class Secondary>
bool secondary_works() {
  dm::deferred_map<int> map;
  Secondary attached;
  for (int i = 0; i < 1000; ++i) {
    const dm::key k = map.insert(i);
    if (i % 2 == 0) attached.insert(k, i);
  }
  int sum = 0;
  for (const auto [k, number, other] : dm::join(map, attached)) sum += number - other + 1;
  attached.retain([](dm::key, int number) { return number < 100; });
  attached.shrink_to_fit();
  const Secondary copy = attached;
  return sum == 500 && attached.size() == 50 && copy == attached && attached.verify().empty();
}

}  // namespace

int main() {
  const bool maps_work =
      map_works<dm::default_allocator>() && map_works<dm::huge_page_allocator>() && map_works<std::allocator>();
  const bool secondaries_work = secondary_works<dm::secondary_map<int>>() &&
                                secondary_works<dm::sparse_secondary_map<int>>() &&
                                secondary_works<dm::secondary_map<int, dm::key, dm::huge_page_allocator<int>>>();
  return maps_work && secondaries_work ? 0 : 1;
}
