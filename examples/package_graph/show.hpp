// Prints what a graph knows of a package.
#pragma once

#include <iosfwd>
#include <string_view>

#include "graph.hpp"

namespace package_graph {

/// Version, summary, dependencies both ways and cycles of every package called `name` (or
/// `name:architecture`). Lists are cut short, with a count of the rest, unless `all`. False if there is no such name.
bool show(const graph& g, std::string_view name, bool all, std::ostream& out);

}  // namespace package_graph
