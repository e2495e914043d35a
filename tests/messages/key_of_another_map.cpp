// expects g++: no known conversion for argument 1 from ‘basic_key<customer>’ to ‘basic_key<order>’
// expects clang++: to 'basic_key<order>' for 1st argument
#include "deferred_map/deferred_map.hpp"

struct order;
struct customer;

int main() {
  dm::deferred_map<int, dm::basic_key<order>> orders;
  orders.get(dm::basic_key<customer>());
}
