// What a slot of a package graph holds. One arena file holds one type, so packages, dependencies, lists,
// texts and the directory of names are all `node`s that differ in their kind, and refer to each other by key.
//
//   directory -> directory -> ... -> package -> next package in the bucket
//                                    |  |
//                                    |  \--- dependents: list -> list ...   (who needs me: keys of dependencies)
//                                    v
//                                 release --- dependencies: list -> list ... (whom I need: keys of dependencies)
//   dependency -> the release that needs, and the target package
//
// A package is a name and stays. What an upgrade replaces, its version and its dependencies, hangs on a release.
//
// Invariants (`verify()` executes them), which hold after every single store to the file:
//  1. Slot 0 in its first life is the root of the directory, and from it every package is found by its name.
//  2. A dependency is current if its release is the one its package shows. Every other one is left over from an
//     upgrade that was not finished or not yet tidied, and readers skip it.
//  3. Every current dependency is in its release's list and, once, in its target's list of dependents.
//  4. Every link is live, but for the keys in lists of dependents: those may be stale, and readers skip them.
#pragma once

#include <array>
#include <boost/describe/class.hpp>
#include <boost/describe/enum.hpp>
#include <cstddef>
#include <cstdint>

#include "deferred_map/key.hpp"
#include "deferred_map/mapped_map.hpp"

namespace package_graph {

enum class node_kind : std::uint8_t {
  none,
  directory,        ///< of names: four ways, chosen by two bits of the name's hash
  package,          ///< a package that is there
  virtual_package,  ///< only a name: some package provides it
  absent,           ///< only a name: something mentions it, nothing provides it
  release,          ///< version and dependencies of a package
  dependency,       ///< what one package says about another
  list,             ///< of keys of dependencies
  text,             ///< a text of its own, or what did not fit into another node
};
BOOST_DESCRIBE_ENUM(node_kind, none, directory, package, virtual_package, absent, release, dependency, list, text)

enum class dependency_kind : std::uint8_t { none, depends, pre_depends, recommends, provides };
BOOST_DESCRIBE_ENUM(dependency_kind, none, depends, pre_depends, recommends, provides)

enum class version_relation : std::uint8_t { any, earlier, earlier_or_equal, equal, later_or_equal, later };
BOOST_DESCRIBE_ENUM(version_relation, any, earlier, earlier_or_equal, equal, later_or_equal, later)

inline constexpr std::size_t links_per_node = 4;
inline constexpr std::size_t text_per_node = 32;

struct node {
  node_kind kind = node_kind::none;
  dependency_kind dependency = dependency_kind::none;  // of a dependency, as are the next four
  version_relation relation = version_relation::any;
  std::uint8_t level = 0;                       // directory: how many levels of directories follow
  std::uint16_t position = 0;                   // `a, b | c, d`: 0, 1, 1, 2
  std::uint16_t alternative = 0;                //                0, 0, 1, 0
  std::uint32_t name_hash = 0;                  // of everything with a name
  std::uint32_t revision = 0;                   // release: how many upgrades came before it
  dm::key more{};                               // where the text goes on, or the list
  std::array<dm::key, links_per_node> links{};  // directory, list: elements; others: see `link`
  std::array<char, text_per_node> text{};       // name, version, version asked for; padded with zeros, never cut short
};
BOOST_DESCRIBE_STRUCT(node, (),
                      (kind, dependency, relation, level, position, alternative, name_hash, revision, more, links,
                       text))

// 4 bytes of version and 4 of padding before it make a slot of 96: one and a half cache lines.
static_assert(sizeof(node) == 88);

}  // namespace package_graph

template <>
struct dm::schema_traits<package_graph::node> {
  static constexpr const char* name = "package_graph::node";
  static constexpr std::uint32_t version = 1;
};

namespace package_graph {

/// What `node::links` mean where they are not elements.
namespace link {
// package; the last three also of virtual_package and absent
inline constexpr std::size_t release = 0;
inline constexpr std::size_t dependents = 1;
inline constexpr std::size_t next_in_bucket = 2;
inline constexpr std::size_t architecture = 3;  // a text that all packages of an architecture share, or null
// release
inline constexpr std::size_t dependencies = 0;
inline constexpr std::size_t summary = 1;
// dependency
inline constexpr std::size_t package = 0;
inline constexpr std::size_t of_release = 1;
inline constexpr std::size_t target = 2;
inline constexpr std::size_t qualifier = 3;  // the architecture asked for (`:any`), shared like the others, or null
}  // namespace link

inline constexpr std::size_t directory_bits = 2;
static_assert(links_per_node == std::size_t{1} << directory_bits);

/// The first slot in its first life: where every reader starts.
inline constexpr dm::key root_key = dm::key::from_parts(0, 1);

using node_map = dm::mapped_map<node>;

inline bool has_name(const node& n) noexcept {
  return n.kind == node_kind::package || n.kind == node_kind::virtual_package || n.kind == node_kind::absent;
}

}  // namespace package_graph
