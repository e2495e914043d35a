// Circles of packages that need each other.
//
// What counts: Depends and Pre-Depends, any of the alternatives, between packages that are there. Not
// followed: names that are no packages (whoever provides them), and Recommends.
#pragma once

#include <vector>

#include "graph.hpp"

namespace package_graph {

/// The groups of packages in which each needs each other, directly or not, in all the graph: the strongly
/// connected components that hold a cycle. Cost: linear in packages and dependencies.
std::vector<std::vector<dm::key>> cycle_groups(const graph& g);

/// The group that `package` is in; empty if it is on no cycle. Looks only at what the package needs, so
/// nothing has to be kept in the file, where it would have to be kept right. Cost: linear in those.
std::vector<dm::key> cycle_group_of(const graph& g, dm::key package);

/// A shortest cycle through `package`, which it begins with; empty if there is none. `group` is its cycle group.
std::vector<dm::key> shortest_cycle(const graph& g, dm::key package, const std::vector<dm::key>& group);

}  // namespace package_graph
