// expects: T of a map is an array, which cannot be moved: store a std::array instead
#include "deferred_map/deferred_map.hpp"

void use(dm::deferred_map<char[8]>& names) { names.clear(); }
