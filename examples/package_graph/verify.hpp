// Walks a whole graph and checks the invariants in node.hpp.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "node.hpp"

namespace package_graph {

struct findings {
  std::vector<std::string> problems;  // at most ten; empty for a sound graph
  std::size_t packages = 0;
  std::size_t virtual_packages = 0;
  std::size_t absent = 0;
  std::size_t dependencies = 0;  // current ones
  std::size_t leftovers = 0;     // live slots that nothing leads to: harmless, and swept before the next upgrade
  std::vector<bool> reached;     // by slot index: the graph is made of these
};

/// Cost: linear in slots. Changes nothing.
findings verify(const node_map& map);

}  // namespace package_graph
