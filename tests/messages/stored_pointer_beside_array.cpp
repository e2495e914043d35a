// expects: a pointer, reference or view means nothing in another process or after a restart: store a dm::key
#include "deferred_map/mapped_map.hpp"

struct part {
  int number;
  int* next;
};
struct value {
  char text[8];
  part parts[2];
};

int main() { dm::mapped_map<value>::open("m"); }
