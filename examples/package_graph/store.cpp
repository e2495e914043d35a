#include "store.hpp"

#include <algorithm>
#include <vector>

namespace package_graph {
namespace {

/// As much of the text as a node takes, without cutting a UTF-8 character in two: tools print node by node.
std::string_view take_piece(std::string_view& text) {
  std::size_t size = std::min(text.size(), text_per_node);
  const auto is_inside_character = [&](std::size_t at) {
    return (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;
  };
  if (size < text.size())
    while (size > text_per_node - 4 && is_inside_character(size)) --size;
  const std::string_view piece = text.substr(0, size);
  text.remove_prefix(size);
  return piece;
}

}  // namespace

void set_text(node_map& map, node& n, std::string_view text) {
  const std::string_view piece = take_piece(text);
  n.text = {};
  std::copy(piece.begin(), piece.end(), n.text.begin());
  n.more = store_text(map, text);
}

dm::key store_text(node_map& map, std::string_view text) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) pieces.push_back(take_piece(text));
  dm::key first;
  for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {  // the last first: links lead to what is there
    node n{.kind = node_kind::text, .more = first};
    std::copy(piece->begin(), piece->end(), n.text.begin());
    first = map.insert(n);
  }
  return first;
}

dm::key store_list(node_map& map, std::span<const dm::key> keys) {
  dm::key first;
  while (!keys.empty()) {
    const std::size_t count = (keys.size() - 1) % links_per_node + 1;  // from the back; only the first may have gaps
    node block{.kind = node_kind::list, .more = first};
    std::copy(keys.end() - static_cast<std::ptrdiff_t>(count), keys.end(), block.links.begin());
    first = map.insert(block);
    keys = keys.first(keys.size() - count);
  }
  return first;
}

}  // namespace package_graph
