#include "verify.hpp"

#include <sstream>

#include "graph.hpp"

namespace package_graph {
namespace {

class walk {
 public:
  explicit walk(const node_map& map) : graph_(map), map_(map), listed_(map.slot_count()) {
    found_.reached.resize(map.slot_count());
  }

  findings run() {
    if (const std::string fault = map_.verify(); !fault.empty()) problem("the map: " + fault);
    mark(root_key);
    try {
      walk_directory(graph_.root(), 0, 0);
    } catch (const graph_error& e) {
      problem(e.what());
      return std::move(found_);
    }
    // What releases say and what lists of dependents say is compared only now, when all of both has been seen.
    for (const dm::key k : dependencies_)
      if (!listed_[k.index()]) problem("is missing among the dependents of its target", k);
    for (std::uint32_t i = 0; i < listed_.size(); ++i)
      if (listed_[i] && !found_.reached[i]) problem("is missing in the release it names", map_.key_at(i));
    found_.leftovers = map_.size() - marked_;
    return std::move(found_);
  }

 private:
  void problem(const std::string& what) {
    if (found_.problems.size() < 10) found_.problems.push_back(what);
  }
  void problem(const char* what, dm::key k) {
    std::ostringstream text;
    text << "slot " << k << ' ' << what;
    problem(text.str());
  }

  bool mark(dm::key k) {
    if (found_.reached[k.index()]) return false;
    ++marked_;
    return found_.reached[k.index()] = true;
  }

  /// The node a link has to lead to; null, and a problem, if it does not, or if something else leads there as well.
  const node* follow(dm::key from, dm::key to, node_kind kind) {
    const node* n = map_.get(to);
    if (n == nullptr)
      problem("has a link to a slot that is not live", from);
    else if (n->kind != kind)
      problem("has a link to a node of another kind", from);
    else if (!mark(to))
      problem("is reached twice", to);
    else
      return n;
    return nullptr;
  }

  void walk_chain(dm::key from, dm::key to, node_kind kind) {
    while (to) {
      const node* n = follow(from, to, kind);
      if (n == nullptr) return;
      from = to;
      to = n->more;
    }
  }
  /// Texts that many nodes lead to are walked for the first of them.
  void walk_shared_text(dm::key from, dm::key to) {
    const node* n = map_.get(to);
    if (n == nullptr || n->kind != node_kind::text) {
      if (to) problem("has a link to something that is no text", from);
    } else if (!found_.reached[to.index()]) {
      walk_chain(from, to, node_kind::text);
    }
  }

  void walk_directory(const node& directory, std::uint32_t hash, std::size_t shift) {
    for (std::uint32_t way = 0; way < links_per_node; ++way) {
      const dm::key to = directory.links[way];
      const std::uint32_t low_bits = hash | way << shift;
      if (!to) continue;
      if (directory.level == 0) {
        walk_bucket(to, low_bits, shift + directory_bits);
      } else if (const node* below = follow(root_key, to, node_kind::directory); below != nullptr) {
        if (below->level + 1 != directory.level || shift + directory_bits > 30)
          problem("is a directory of another level", to);
        else
          walk_directory(*below, low_bits, shift + directory_bits);
      }
    }
  }

  void walk_bucket(dm::key k, std::uint32_t low_bits, std::size_t bits) {
    while (k) {
      const node* n = map_.get(k);
      if (n == nullptr || !has_name(*n)) return problem("is in a bucket and no package", k);
      if (!mark(k)) return problem("is in two buckets, or twice in one", k);
      if ((n->name_hash & ((std::uint64_t{1} << bits) - 1)) != low_bits) problem("is in another's bucket", k);
      walk_package(k, *n);
      k = n->links[link::next_in_bucket];
    }
  }

  void walk_package(dm::key k, const node& n) {
    walk_chain(k, n.more, node_kind::text);
    if (hash_of_name(graph_.text(n)) != n.name_hash) problem("has another name than its hash says", k);
    walk_shared_text(k, n.links[link::architecture]);
    if (n.kind == node_kind::virtual_package) ++found_.virtual_packages;
    if (n.kind == node_kind::absent) ++found_.absent;
    if (n.kind == node_kind::package) {
      ++found_.packages;
      walk_release(k, n.links[link::release]);
    }
    walk_chain(k, n.links[link::dependents], node_kind::list);
    graph_.for_each_element(n.links[link::dependents], [&](dm::key d) { see_dependent(k, d); });
  }

  void walk_release(dm::key package, dm::key k) {
    const node* release = follow(package, k, node_kind::release);
    if (release == nullptr) return;
    walk_chain(k, release->more, node_kind::text);
    walk_chain(k, release->links[link::summary], node_kind::text);
    walk_chain(k, release->links[link::dependencies], node_kind::list);
    graph_.for_each_element(release->links[link::dependencies], [&](dm::key d) {
      const node* dependency = follow(k, d, node_kind::dependency);
      if (dependency == nullptr) return;
      ++found_.dependencies;
      dependencies_.push_back(d);
      walk_chain(d, dependency->more, node_kind::text);
      walk_shared_text(d, dependency->links[link::qualifier]);
      if (dependency->links[link::package] != package || dependency->links[link::of_release] != k)
        problem("is in the list of a release that it does not name", d);
      const node* target = map_.get(dependency->links[link::target]);
      if (target == nullptr || !has_name(*target)) problem("has a target that is no package", d);
    });
  }

  void see_dependent(dm::key target, dm::key k) {
    const node* n = map_.get(k);
    if (n == nullptr) return;  // removed since
    if (n->kind != node_kind::dependency || n->links[link::target] != target)
      return problem("is among the dependents of a package and does not name it", k);
    if (!graph_.is_current(*n)) return;
    if (listed_[k.index()]) problem("is twice among the dependents of its target", k);
    listed_[k.index()] = true;
  }

  graph graph_;
  const node_map& map_;
  findings found_;
  std::vector<bool> listed_;           // seen among somebody's dependents
  std::vector<dm::key> dependencies_;  // seen in somebody's release
  std::size_t marked_ = 0;
};

}  // namespace

findings verify(const node_map& map) { return walk(map).run(); }

}  // namespace package_graph
