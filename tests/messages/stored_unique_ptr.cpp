// expects: values in a file are copied byte by byte, so they must be trivially copyable
#include <memory>

#include "deferred_map/mapped_map.hpp"

struct value {
  std::unique_ptr<int> number;
};

int main() { dm::mapped_map<value>::open("m"); }
