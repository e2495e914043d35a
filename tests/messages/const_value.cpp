// expects: T of a map is const or volatile: leave that out, and use a const map where nothing may change
#include "deferred_map/deferred_map.hpp"

dm::deferred_map<const int> map;
