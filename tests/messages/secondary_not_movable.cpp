// expects: T of a map can be neither moved nor copied: give it a move constructor, or store std::unique_ptr<T>
#include <mutex>

#include "deferred_map/sparse_secondary_map.hpp"

int main() { dm::sparse_secondary_map<std::mutex> map; }
