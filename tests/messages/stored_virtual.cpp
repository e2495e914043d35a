// expects: values in a file are copied byte by byte, so they must be trivially copyable
#include "deferred_map/mapped_map.hpp"

struct value {
  virtual ~value() = default;
  int number = 0;
};

int main() { dm::mapped_map<value>::open("m"); }
