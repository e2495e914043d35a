// expects g++: no match for ‘operator<<’
// expects clang++: invalid operands to binary expression
// lines: 700
#include <iostream>

#include "deferred_map/deferred_map.hpp"
#include "deferred_map/ostream.hpp"

struct unprintable {};

int main() {
  dm::deferred_map<unprintable> map;
  std::cout << map;
}
