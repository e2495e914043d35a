// expects: a pointer, reference or view means nothing in another process or after a restart: store a dm::key
#include "deferred_map/mapped_map.hpp"

struct part {
  int* next;
};
BOOST_DESCRIBE_STRUCT(part, (), (next))
struct value : part {
  char text[8];
};
BOOST_DESCRIBE_STRUCT(value, (part), (text))

int main() { dm::mapped_map<value>::open("m"); }
