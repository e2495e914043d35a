// expects: T of a map has a destructor that may throw, or none that can be called: make it public and noexcept
#include "deferred_map/deferred_map.hpp"

struct connection {
  ~connection() noexcept(false);
};

int main() { dm::deferred_map<connection> map; }
