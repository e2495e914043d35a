// Changing a graph in a way that can be killed between any two instructions.
//
// The map makes each of its operations all or nothing; an upgrade takes dozens. The rule that makes a whole
// of them: build the new beside the old, switch with one operation, then tidy up. Whatever a kill leaves
// before the switch is the old package with some slots nobody leads to; after it, the new package and the
// same. `sweep` takes them back.
#pragma once

#include <cstddef>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>

#include "node.hpp"

namespace package_graph {

/// Gives a package another version; all its dependencies are made anew. Requires: `package` is a live
/// package. Errors: as node_map::insert; the graph then is as it was, but for slots that `sweep` takes back.
void upgrade(node_map& map, dm::key package, std::string_view version);

/// Removes what unfinished upgrades left. Returns how many slots that were. Errors: graph_error if the graph
/// is damaged; nothing is removed then.
std::size_t sweep(node_map& map);

/// Upgrades one package after the other until `stop()`, and says so on `out` now and then: a line
/// `upgraded NAME VERSION (N)` for the first, and then ten a second. Returns how many.
std::size_t churn(node_map& map, std::ostream& out, const std::function<bool()>& stop);

}  // namespace package_graph
