// expects: Key of a map must be dm::key or a dm::basic_key<Tag>; the allocator is the third argument
#include "deferred_map/sparse_secondary_map.hpp"

dm::sparse_secondary_map<int, unsigned> map;
