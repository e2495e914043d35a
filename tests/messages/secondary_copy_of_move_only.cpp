// expects: copying a map copies its values, and T cannot be copied: move the map with std::move
#include "deferred_map/secondary_map.hpp"

int main() {
  dm::secondary_map<std::unique_ptr<int>> map;
  auto copy = map;
}
