// expects: an arena's values have at most 2^30 bytes
#include "deferred_map/mapped_map.hpp"

struct huge {
  char bytes[(1u << 30) + 1];
};

int main() { dm::mapped_map<huge>::open("huge.arena"); }
