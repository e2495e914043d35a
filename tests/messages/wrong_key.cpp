// expects: Key of a map must be dm::key or a dm::basic_key<Tag>; the allocator is the third argument
#include "deferred_map/deferred_map.hpp"

dm::deferred_map<int, std::allocator<int>> map;
