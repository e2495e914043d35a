// expects g++: use of deleted function ‘dm::basic_handle<Key>::basic_handle(const dm::basic_handle<Key>&)
// expects clang++: call to deleted constructor of 'dm::deferred_map<int>::handle_type'
#include "deferred_map/deferred_map.hpp"

int main() {
  dm::deferred_map<int> map;
  auto handle = map.allocate_handle();
  auto copy = handle;
}
