// From parsed packages to an arena file.
#pragma once

#include <cstddef>
#include <filesystem>

#include "dpkg_status.hpp"
#include "node.hpp"

namespace package_graph {

struct build_counts {
  std::size_t packages = 0;
  std::size_t virtual_packages = 0;
  std::size_t absent = 0;
  std::size_t dependencies = 0;
  std::size_t superseded = 0;  // stanzas with the name and architecture of a later one
};

/// Fills an empty map. Packages are told apart by name and architecture; of two stanzas that agree in both
/// the later one counts. A dependency that says no architecture (or `:any`) means the package of its own
/// architecture, else one for all architectures, else the first of that name; where there is none, a
/// placeholder stands for the name.
build_counts build(node_map& map, const status& packages);

/// Makes the file. It appears under its name when it is complete and on the disk. `replace` puts it in the
/// place of an older graph, which stays whole until then; anything else of that name is left alone. Errors:
/// dm::error, graph_error.
build_counts build_file(const std::filesystem::path& file, const status& packages, bool replace);

}  // namespace package_graph
