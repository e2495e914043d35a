// expects: Allocator of a map must be one of T, but its value_type is another: write std::allocator<T>
#include "deferred_map/secondary_map.hpp"

dm::secondary_map<int, dm::key, std::allocator<char>> map;
