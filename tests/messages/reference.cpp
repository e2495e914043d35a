// expects: T of a map is a reference: store a dm::key, a pointer or a std::reference_wrapper instead
#include "deferred_map/deferred_map.hpp"

dm::deferred_map<int&> map;
