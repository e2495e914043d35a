// expects clang++: is an abstract class
// expects g++: T of a map can be neither moved nor copied: give it a move constructor, or store std::unique_ptr<T>
#include "deferred_map/deferred_map.hpp"

struct shape {
  virtual ~shape() = default;
  virtual double area() const = 0;
};

int main() { dm::deferred_map<shape> shapes; }
