// That these compile shows that the others fail for what they say.
#include <scoped_allocator>
#include <string>

#include "deferred_map/deferred_map.hpp"
#include "deferred_map/secondary_map.hpp"
#include "deferred_map/sparse_secondary_map.hpp"

// A map of a type as a member of that type.
struct node {
  dm::deferred_map<node> children;
  dm::secondary_map<node> more;
  dm::sparse_secondary_map<node> few;
  dm::deferred_map<node, dm::key, std::allocator<node>> others;
};

int main() {
  node root;
  root.children.insert(node());
  node copy = root;
  root = copy;
  dm::deferred_map<std::unique_ptr<int>> move_only;
  auto moved = std::move(move_only);
  move_only = std::move(moved);
  dm::deferred_map<std::string, dm::key, std::scoped_allocator_adaptor<std::allocator<std::string>>> scoped;
  auto scoped_copy = scoped;
  dm::deferred_map<std::optional<const int>, dm::basic_key<struct tag>> constants;
  constants.insert(7);
}
