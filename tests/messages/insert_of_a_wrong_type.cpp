// expects g++: invalid conversion from ‘const char*’ to ‘int’
// expects clang++: to 'int' for 1st argument
#include "deferred_map/deferred_map.hpp"

int main() {
  dm::deferred_map<int> map;
  map.insert("seven");
}
