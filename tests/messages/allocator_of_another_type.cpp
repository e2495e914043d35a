// expects: Allocator of a map must be one of T, but its value_type is another: write std::allocator<T>
#include "deferred_map/deferred_map.hpp"

dm::deferred_map<int, dm::key, std::allocator<long>> map;
