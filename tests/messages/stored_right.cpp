// That this compiles shows that the refusals of what is stored in files are for what they say.
#include "deferred_map/mapped_map.hpp"

enum class color { red, green };
BOOST_DESCRIBE_ENUM(color, red, green)

struct part {
  char text[8];
  double weight;
};
struct value {
  part parts[2];
  std::array<char, 16> name;
  color shade;
  bool sold;
  dm::basic_key<value> next;
};
BOOST_DESCRIBE_STRUCT(value, (), (parts, name, shade, sold, next))

// Whoever knows better says so of the type that has the pointer; those around it need not.
struct with_pointer {
  int* shared;
};
template <>
struct dm::schema_traits<with_pointer> {
  static constexpr bool allow_pointers = true;
};
struct around {
  char text[8];
  with_pointer inside;
};

int main() {
  dm::mapped_map<value>::open("m");
  dm::mapped_map<around>::open("m");
}
