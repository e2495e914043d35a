// expects: T of a map must be the type of an object
#include "deferred_map/deferred_map.hpp"

dm::deferred_map<void(int)> map;
