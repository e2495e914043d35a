// expects: T of a map can be neither moved nor copied: give it a move constructor, or store std::unique_ptr<T>
#include <mutex>

#include "deferred_map/deferred_map.hpp"

int main() {
  dm::deferred_map<std::mutex> map;
  map.emplace();
}
