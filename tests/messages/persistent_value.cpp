// expects: T in persistent memory must be trivially copyable: store keys for pointers, arrays for strings
#include <string>

#include "deferred_map/arena/arena_allocator.hpp"
#include "deferred_map/deferred_map.hpp"

int main() { dm::deferred_map<std::string, dm::key, dm::arena_allocator<std::string>> map; }
