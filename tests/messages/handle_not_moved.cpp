// expects g++: cannot bind rvalue reference of type ‘dm::deferred_map<int>::handle_type&&’
// expects clang++: expects an rvalue for 1st argument
#include "deferred_map/deferred_map.hpp"

int main() {
  dm::deferred_map<int> map;
  auto handle = map.allocate_handle();
  map.insert(handle, 7);
}
