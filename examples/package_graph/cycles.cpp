#include "cycles.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <unordered_map>
#include <utility>

namespace package_graph {
namespace {

constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

/// f(target) for every package that `package` needs.
template <class F>
void for_each_needed(const graph& g, dm::key package, F f) {
  g.for_each_dependency(g.package(package), [&](dm::key, const node& d) {
    if (d.dependency != dependency_kind::depends && d.dependency != dependency_kind::pre_depends) return;
    const dm::key target = d.links[link::target];
    if (g.package(target).kind == node_kind::package) f(target);
  });
}

/// Packages by small numbers, and whom each needs: `needed[first[i]] ... needed[first[i + 1] - 1]`.
struct compact_graph {
  std::vector<dm::key> packages;
  std::vector<std::size_t> first{0};
  std::vector<std::uint32_t> needed;
  std::unordered_map<dm::key, std::uint32_t> number_of;

  std::uint32_t number(dm::key k) {
    const auto [place, is_new] = number_of.try_emplace(k, static_cast<std::uint32_t>(packages.size()));
    if (is_new) packages.push_back(k);
    return place->second;
  }
  /// Takes in everything that the packages numbered so far need, directly or not.
  void close_over(const graph& g) {
    for (std::size_t i = first.size() - 1; i < packages.size(); ++i) {
      for_each_needed(g, packages[i], [&](dm::key target) { needed.push_back(number(target)); });
      first.push_back(needed.size());
    }
  }
};

/// Tarjan's algorithm, with a stack of its own: chains of dependencies are deep.
class component_search {
 public:
  explicit component_search(const compact_graph& g)
      : g_(g), order_(g.packages.size(), none), lowest_(g.packages.size()), done_(g.packages.size(), false) {}

  /// found(members) for each component with a cycle that is reached from `start` and was not before.
  template <class F>
  void run(std::uint32_t start, F found) {
    if (order_[start] != none) return;
    enter(start);
    while (!path_.empty()) {
      auto& [package, next] = path_.back();
      if (next < g_.first[package + 1]) {
        const std::uint32_t target = g_.needed[next++];
        if (order_[target] == none)
          enter(target);
        else if (!done_[target])
          lowest_[package] = std::min(lowest_[package], order_[target]);
      } else {
        const std::uint32_t finished = package;
        path_.pop_back();
        if (!path_.empty()) lowest_[path_.back().first] = std::min(lowest_[path_.back().first], lowest_[finished]);
        if (lowest_[finished] == order_[finished]) leave(finished, found);
      }
    }
  }

 private:
  void enter(std::uint32_t package) {
    order_[package] = lowest_[package] = entered_++;
    open_.push_back(package);
    path_.emplace_back(package, g_.first[package]);
  }

  template <class F>
  void leave(std::uint32_t root, F found) {
    const auto begin = std::find(open_.rbegin(), open_.rend(), root).base() - 1;
    std::vector<dm::key> members;
    for (auto member = begin; member != open_.end(); ++member) {
      done_[*member] = true;
      members.push_back(g_.packages[*member]);
    }
    open_.erase(begin, open_.end());
    if (members.size() > 1 || needs_itself(root)) found(std::move(members));
  }

  bool needs_itself(std::uint32_t package) const {
    const auto begin = g_.needed.begin();
    const auto from = begin + static_cast<std::ptrdiff_t>(g_.first[package]);
    const auto to = begin + static_cast<std::ptrdiff_t>(g_.first[package + 1]);
    return std::find(from, to, package) != to;
  }

  const compact_graph& g_;
  std::vector<std::uint32_t> order_;   // in which the packages were entered
  std::vector<std::uint32_t> lowest_;  // the first entered that is known to be in the same component
  std::vector<bool> done_;             // its component is known
  std::vector<std::uint32_t> open_;    // entered, component not yet known
  std::vector<std::pair<std::uint32_t, std::size_t>> path_;  // from the start; and which target is next
  std::uint32_t entered_ = 0;
};

}  // namespace

std::vector<std::vector<dm::key>> cycle_groups(const graph& g) {
  compact_graph all;
  g.for_each_package([&](dm::key k, const node& n) {
    if (n.kind == node_kind::package) all.number(k);
  });
  all.close_over(g);
  std::vector<std::vector<dm::key>> result;
  component_search search(all);
  for (std::uint32_t i = 0; i < all.packages.size(); ++i)
    search.run(i, [&](std::vector<dm::key> members) { result.push_back(std::move(members)); });
  return result;
}

std::vector<dm::key> cycle_group_of(const graph& g, dm::key package) {
  if (g.package(package).kind != node_kind::package) return {};
  compact_graph reached;
  reached.number(package);
  reached.close_over(g);
  std::vector<dm::key> result;
  component_search(reached).run(0, [&](std::vector<dm::key> members) {
    if (members.front() == package) result = std::move(members);  // it was entered first, so it comes first
  });
  return result;
}

std::vector<dm::key> shortest_cycle(const graph& g, dm::key package, const std::vector<dm::key>& group) {
  std::unordered_map<dm::key, dm::key> came_from;  // within the group, null where not reached yet
  for (const dm::key member : group) came_from.emplace(member, dm::key());
  std::vector<dm::key> reached{package};
  for (std::size_t i = 0; i < reached.size() && came_from.contains(package) && !came_from[package]; ++i) {
    for_each_needed(g, reached[i], [&](dm::key target) {
      const auto place = came_from.find(target);
      if (place == came_from.end() || place->second) return;
      place->second = reached[i];
      if (target != package) reached.push_back(target);
    });
  }
  std::vector<dm::key> result;
  const auto closing = came_from.find(package);
  if (closing == came_from.end() || !closing->second) return result;
  for (dm::key k = closing->second; k != package; k = came_from[k]) result.push_back(k);
  result.push_back(package);
  std::reverse(result.begin(), result.end());
  return result;
}

}  // namespace package_graph
