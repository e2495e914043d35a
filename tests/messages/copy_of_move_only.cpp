// expects: copying a map copies its values, and T cannot be copied: move the map with std::move
#include "deferred_map/deferred_map.hpp"

int main() {
  dm::deferred_map<std::unique_ptr<int>> map;
  dm::deferred_map<std::unique_ptr<int>> copy = map;
}
