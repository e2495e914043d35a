// Storing texts and lists that are longer than a node.
#pragma once

#include <span>
#include <string_view>

#include "node.hpp"

namespace package_graph {

/// Gives `n` a text of any length. What does not fit is stored first, in nodes of its own that `n.more` leads
/// to, so that the text is whole from the moment `n` is.
void set_text(node_map& map, node& n, std::string_view text);

/// A text of its own; the null key for an empty one.
dm::key store_text(node_map& map, std::string_view text);

/// A list of keys, which need not be live yet; the null key for an empty one.
dm::key store_list(node_map& map, std::span<const dm::key> keys);

}  // namespace package_graph
