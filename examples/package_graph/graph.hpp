// Reading a package graph: from names to packages, and along the links.
//
// Links in a sound file are live; a reader that meets one that is not, or a kind of node it does not expect,
// throws `graph_error` and has changed nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "node.hpp"

namespace package_graph {

/// What is wrong with a graph, or with what was asked of it; the message is for people.
struct graph_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Part of the file format (FNV-1a with a final mix): never changes.
std::uint32_t hash_of_name(std::string_view name) noexcept;

/// The link that leads from a directory towards `hash`; the root takes the lowest bits.
std::size_t way_through(const node& directory, const node& root, std::uint32_t hash) noexcept;

class graph {
 public:
  /// Looks at `map`, which must outlive it. Errors: graph_error if there is no package graph in it.
  explicit graph(const node_map& map);

  const node_map& map() const noexcept { return *map_; }
  const node& root() const { return at(root_key, node_kind::directory); }

  /// Packages, and names that are no packages, called `name` or, if written so, `name:architecture`.
  /// Cost: some ten cache misses, however many packages there are.
  std::vector<dm::key> find(std::string_view name) const;

  /// The whole text of a node, also where it goes on in others.
  std::string text(const node& n) const;
  /// The text a link leads to; empty for the null key.
  std::string text_at(dm::key k) const;
  /// The name of a package, with its architecture where there are several of that name.
  std::string label(dm::key package) const;

  const node& package(dm::key k) const;
  /// Null for names that are no packages.
  const node* release_of(const node& package) const;
  bool is_current(const node& dependency) const;

  /// f(key, dependency) for everything a package says about others, in its order.
  template <class F>
  void for_each_dependency(const node& package, F f) const {
    const node* release = release_of(package);
    if (release == nullptr) return;
    for_each_element(release->links[link::dependencies], [&](dm::key k) { f(k, at(k, node_kind::dependency)); });
  }

  /// f(key, dependency) for everything that others say about a package. Keys of removed dependencies are
  /// skipped, and so are dependencies of releases that were never finished. Cost: about two cache misses
  /// each, side by side.
  template <class F>
  void for_each_dependent(const node& package, F f) const {
    std::vector<dm::key> keys;
    for_each_element(package.links[link::dependents], [&](dm::key k) { keys.push_back(k); });
    for (const found_dependency& one : current_among(keys)) f(one.key, *one.dependency);
  }

  /// f(key) for what is in a list, null keys left out, whether live or not.
  template <class F>
  void for_each_element(dm::key list, F f) const {
    for (steps_max steps(*this); list; list = at(list, node_kind::list).more) {
      steps.take();
      for (const dm::key k : at(list, node_kind::list).links)
        if (k) f(k);
    }
  }

  /// f(key, node) for everything with a name, in slot order.
  template <class F>
  void for_each_package(F f) const {
    for (const auto& [k, n] : *map_)
      if (has_name(n)) f(k, n);
  }

  /// The node behind a link that has to be live and of that kind.
  const node& at(dm::key k, node_kind kind) const;

 private:
  struct found_dependency {
    dm::key key;
    const node* dependency;
  };
  /// Chains in a damaged file may run in circles; none is longer than there are slots.
  struct steps_max {
    explicit steps_max(const graph& g) noexcept : left(g.map_->slot_count()) {}
    void take();
    std::size_t left;
  };

  std::vector<found_dependency> current_among(const std::vector<dm::key>& keys) const;
  dm::key first_in_bucket(std::uint32_t hash) const;
  bool has_text(const node& n, std::string_view text) const;

  const node_map* map_;
};

}  // namespace package_graph
