// expects: values in a file are copied byte by byte, so they must be trivially copyable
#include <string>

#include "deferred_map/mapped_map.hpp"

struct value {
  int number;
  std::string name;
};

int main() { dm::mapped_map<value>::open("m"); }
