// expects: T of a map is a reference: store a dm::key, a pointer or a std::reference_wrapper instead
// lines: 140
#include "deferred_map/secondary_map.hpp"

dm::secondary_map<int&> map;
