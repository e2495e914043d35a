// The container without exceptions, run-time types or any library: that it compiles and links is the test.
#include "deferred_map/deferred_map.hpp"
#include "deferred_map/reservation.hpp"

int main() {
  dm::deferred_map<int> map;
  auto handle = map.allocate_handle();
  const dm::key k = handle.key();
  map.insert(std::move(handle), 1);
  dm::reservation place(map);
  for (int i = 0; i < 1000; ++i) map.insert(i);
  map.shrink_to_fit();
  return map.at(k) == 1 && map.verify().empty() ? 0 : 1;
}
