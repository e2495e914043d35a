// expects: a pointer, reference or view means nothing in another process or after a restart: store a dm::key
#include <span>

#include "deferred_map/mapped_map.hpp"

struct value {
  std::span<const int> numbers;
};

int main() { dm::mapped_map<value>::open("m"); }
