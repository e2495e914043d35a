#include "upgrade.hpp"

#include <algorithm>
#include <chrono>
#include <ostream>
#include <random>
#include <utility>
#include <vector>

#include "deferred_map/reservation.hpp"
#include "graph.hpp"
#include "store.hpp"
#include "verify.hpp"

namespace package_graph {
namespace {

/// Enters a key into a package's list of dependents, over one that has become stale if there is one: so lists
/// do not grow, however long upgrades go on.
void add_dependent(node_map& map, dm::key package, dm::key dependent) {
  const graph g(map);
  const dm::key first = g.package(package).links[link::dependents];
  for (dm::key block = first; block;) {
    const node& list = g.at(block, node_kind::list);
    for (std::size_t i = 0; i < links_per_node; ++i) {
      if (map.contains(list.links[i])) continue;
      map.update(block, [&](node& n) { n.links[i] = dependent; });
      return;
    }
    block = list.more;
  }
  node list{.kind = node_kind::list, .more = first};
  list.links[0] = dependent;
  const dm::key block = map.insert(list);
  map.update(package, [&](node& n) { n.links[link::dependents] = block; });
}

/// The nodes in which a text or a list goes on, and the one it begins in.
void collect_chain(const node_map& map, dm::key first, std::vector<dm::key>& out) {
  for (const node* n = map.get(first); n != nullptr; first = n->more, n = map.get(first)) out.push_back(first);
}

/// Everything that goes when a release goes. The texts of architectures are shared, and stay.
std::vector<dm::key> parts_of(const node_map& map, dm::key release) {
  std::vector<dm::key> parts;
  const node& n = map.at(release);
  collect_chain(map, release, parts);
  collect_chain(map, n.links[link::summary], parts);
  collect_chain(map, n.links[link::dependencies], parts);
  graph(map).for_each_element(n.links[link::dependencies], [&](dm::key k) { collect_chain(map, k, parts); });
  return parts;
}

}  // namespace

void upgrade(node_map& map, dm::key package, std::string_view version) {
  const graph g(map);
  const dm::key old_release = map.at(package).links[link::release];

  // A slot for the new release, and so its key, before there is a release: its dependencies have to name it.
  // If anything below throws, or kills us, the slot goes back and the key never becomes valid.
  dm::reservation<node_map> release(map);
  std::vector<dm::key> dependencies;
  g.for_each_dependency(map.at(package), [&](dm::key, const node& old) {
    node dependency = old;
    set_text(map, dependency, g.text(old));
    dependency.links[link::of_release] = release.key();
    // Two places have to know a dependency, and no operation changes two. So both are told the key while it
    // is still only reserved, and no reader follows it; filling the slot makes it live in both at once. (And
    // it is not current before the package shows its release.)
    dm::reservation<node_map> place(map);
    add_dependent(map, dependency.links[link::target], place.key());
    dependencies.push_back(place.key());
    place.insert(dependency);
  });
  const node& old = map.at(old_release);
  node fresh{.kind = node_kind::release, .revision = old.revision + 1};
  set_text(map, fresh, version);
  fresh.links[link::dependencies] = store_list(map, dependencies);
  fresh.links[link::summary] = store_text(map, g.text_at(old.links[link::summary]));
  const dm::key new_release = release.key();
  release.insert(fresh);

  // The upgrade happens here. Not by `detach` and `insert`, which would bring the same key back as well:
  // killed between the two, the package would be gone.
  map.update(package, [&](node& n) { n.links[link::release] = new_release; });

  // The old release and its dependencies, at last. In the targets' lists they leave stale keys, which never
  // come to mean anything else; `add_dependent` writes over them some day.
  for (const dm::key part : parts_of(map, old_release)) map.erase(part);
}

std::size_t sweep(node_map& map) {
  const findings found = verify(map);
  if (!found.problems.empty()) throw graph_error("the graph is damaged: " + found.problems.front());
  return map.retain([&](dm::key k, const node&) { return found.reached[k.index()]; });
}

std::size_t churn(node_map& map, std::ostream& out, const std::function<bool()>& stop) {
  using clock = std::chrono::steady_clock;
  sweep(map);
  std::vector<dm::key> packages;
  graph(map).for_each_package([&](dm::key k, const node& n) {
    if (n.kind == node_kind::package) packages.push_back(k);
  });
  std::minstd_rand random(static_cast<unsigned>(map.size()));
  clock::time_point next_line = clock::now();
  std::size_t count = 0;
  while (!packages.empty() && !stop()) {
    const dm::key package = packages[random() % packages.size()];
    const graph g(map);
    const node& release = *g.release_of(map.at(package));
    std::string version = g.text(release);
    version.resize(std::min(version.find("+up"), version.size()));
    version += "+up" + std::to_string(release.revision + 1);
    upgrade(map, package, version);
    ++count;
    if (clock::now() < next_line) continue;
    out << "upgraded " << g.label(package) << ' ' << version << " (" << count << ')' << std::endl;  // for whoever waits
    next_line = clock::now() + std::chrono::milliseconds(100);
  }
  return count;
}

}  // namespace package_graph
