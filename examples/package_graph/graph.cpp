#include "graph.hpp"

#include <algorithm>
#include <sstream>

namespace package_graph {
namespace {

std::string_view piece_of(const node& n) noexcept {
  const auto end = std::find(n.text.begin(), n.text.end(), '\0');
  return {n.text.data(), static_cast<std::size_t>(end - n.text.begin())};
}

[[noreturn]] void fail_at(dm::key k, const char* what) {
  std::ostringstream message;
  message << "the graph is damaged: the link to slot " << k << ' ' << what << "; build it again";
  throw graph_error(message.str());
}

}  // namespace

std::uint32_t hash_of_name(std::string_view name) noexcept {
  std::uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  hash ^= hash >> 16;  // the directory goes by the low bits, and FNV stirs the high ones
  hash *= 0x7feb352du;
  return hash ^ hash >> 15;
}

std::size_t way_through(const node& directory, const node& root, std::uint32_t hash) noexcept {
  const std::size_t depth = std::size_t{root.level} - directory.level;
  return depth * directory_bits < 32 ? hash >> (depth * directory_bits) & (links_per_node - 1) : 0;
}

graph::graph(const node_map& map) : map_(&map) {
  const node* root = map.get(root_key);
  if (root == nullptr || root->kind != node_kind::directory)
    throw graph_error(map.path().string() + " holds no package graph");
}

void graph::steps_max::take() {
  if (left-- == 0) throw graph_error("the graph is damaged: a chain of links runs in a circle; build it again");
}

const node& graph::at(dm::key k, node_kind kind) const {
  const node* n = map_->get(k);
  if (n == nullptr) fail_at(k, "leads nowhere");
  if (n->kind != kind) fail_at(k, "leads to a node of another kind");
  return *n;
}

const node& graph::package(dm::key k) const {
  const node* n = map_->get(k);
  if (n == nullptr) fail_at(k, "leads nowhere");
  if (!has_name(*n)) fail_at(k, "leads to a node of another kind");
  return *n;
}

dm::key graph::first_in_bucket(std::uint32_t hash) const {
  const node& top = root();
  const node* directory = &top;
  for (;;) {
    const dm::key next = directory->links[way_through(*directory, top, hash)];
    if (!next || directory->level == 0) return next;
    const node& below = at(next, node_kind::directory);
    if (below.level + 1 != directory->level) fail_at(next, "leads to a directory of another level");
    directory = &below;
  }
}

std::vector<dm::key> graph::find(std::string_view name) const {
  const auto search = [this](std::string_view plain, std::string_view architecture) {
    std::vector<dm::key> result;
    const std::uint32_t hash = hash_of_name(plain);
    steps_max steps(*this);
    for (dm::key k = first_in_bucket(hash); k; k = package(k).links[link::next_in_bucket]) {
      steps.take();
      const node& n = package(k);
      if (n.name_hash != hash || !has_text(n, plain)) continue;
      if (architecture.empty() || text_at(n.links[link::architecture]) == architecture) result.push_back(k);
    }
    return result;
  };
  const std::size_t colon = std::min(name.find(':'), name.size());
  return search(name.substr(0, colon), name.substr(std::min(colon + 1, name.size())));
}

std::string graph::text(const node& n) const {
  std::string result(piece_of(n));
  steps_max steps(*this);
  for (dm::key k = n.more; k;) {
    steps.take();
    const node& piece = at(k, node_kind::text);
    result += piece_of(piece);
    k = piece.more;
  }
  return result;
}

bool graph::has_text(const node& n, std::string_view text) const {
  const std::string_view first = piece_of(n);
  return text.starts_with(first) && (n.more ? this->text(n) == text : first.size() == text.size());
}

std::string graph::text_at(dm::key k) const { return k ? text(at(k, node_kind::text)) : std::string(); }

std::string graph::label(dm::key k) const {
  const node& n = package(k);
  std::string name = text(n);
  if (n.links[link::architecture] && find(name).size() > 1) name += ':' + text_at(n.links[link::architecture]);
  return name;
}

const node* graph::release_of(const node& package) const {
  return package.kind == node_kind::package ? &at(package.links[link::release], node_kind::release) : nullptr;
}

bool graph::is_current(const node& dependency) const {
  const node* from = map_->get(dependency.links[link::package]);
  return from != nullptr && from->kind == node_kind::package &&
         from->links[link::release] == dependency.links[link::of_release];
}

/// A third of all software depends on libc6, so this may be 20 000 places all over the file. `get_many` looks
/// them up without waiting for one before it turns to the next.
auto graph::current_among(const std::vector<dm::key>& keys) const -> std::vector<found_dependency> {
  std::vector<const node*> nodes(keys.size());
  map_->get_many(keys, std::span<const node*>(nodes));
  std::vector<found_dependency> live;
  std::vector<dm::key> packages;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (nodes[i] == nullptr || nodes[i]->kind != node_kind::dependency) continue;
    live.push_back({keys[i], nodes[i]});
    packages.push_back(nodes[i]->links[link::package]);
  }
  nodes.resize(packages.size());
  map_->get_many(packages, std::span<const node*>(nodes));
  std::size_t kept = 0;
  for (std::size_t i = 0; i < live.size(); ++i)
    if (nodes[i] != nullptr && is_current(*live[i].dependency)) live[kept++] = live[i];
  live.resize(kept);
  return live;
}

}  // namespace package_graph
