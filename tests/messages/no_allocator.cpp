// expects: Allocator of a map is not an allocator: it needs a value_type, allocate(n) and deallocate(p, n)
#include "deferred_map/deferred_map.hpp"

dm::deferred_map<int, dm::key, int> map;
