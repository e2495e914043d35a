#include "build.hpp"

#include <unistd.h>

#include <limits>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "graph.hpp"
#include "store.hpp"

namespace package_graph {
namespace {

constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

/// What becomes a node with a name.
struct named {
  std::string_view name;
  std::string_view architecture;
  const parsed_package* package = nullptr;  // null: only mentioned
  std::uint32_t same_name = none;           // the next one that is called so
  bool is_provided = false;
  dm::handle handle;
  dm::key key;  // outlives the handle
  dm::handle release_handle;
  dm::key release;
  std::vector<dm::key> dependents;
};

class builder {
 public:
  explicit builder(node_map& map) : map_(map) {}

  build_counts run(const status& packages) {
    counts_ = {};
    for (const parsed_package& p : packages.packages) add_package(p);
    resolve_all();

    // Packages need each other in circles: whichever came first would have to name one that does not exist
    // yet. So all of them get their place, and with it their key, before any of them gets its value. Releases
    // and their dependencies name each other too. The root comes first of all, because readers look for it in
    // the first slot, and is filled last: before that there is no graph.
    dm::handle root = map_.allocate_handle();
    if (root.key() != root_key) throw graph_error("a graph can only be built in an empty map");
    for (named& n : names_) {
      n.handle = map_.allocate_handle();
      n.key = n.handle.key();
    }
    for (named& n : names_) {
      if (n.package == nullptr) continue;
      n.release_handle = map_.allocate_handle();
      n.release = n.release_handle.key();
    }
    // One kind after the other, so that who follows links touches few pages, and none of the texts in between.
    insert_dependencies();
    insert_releases();
    insert_names(std::move(root));
    return counts_;
  }

 private:
  void add_package(const parsed_package& package) {
    const auto first = first_of_name_.find(package.name);
    for (std::uint32_t i = first == first_of_name_.end() ? none : first->second; i != none; i = names_[i].same_name) {
      if (names_[i].architecture != package.architecture) continue;
      names_[i].package = &package;
      ++counts_.superseded;
      return;
    }
    add_name(package.name, package.architecture).package = &package;
    ++counts_.packages;
  }

  named& add_name(std::string_view name, std::string_view architecture) {
    const auto id = static_cast<std::uint32_t>(names_.size());
    named& added = names_.emplace_back();
    added.name = name;
    added.architecture = architecture;
    const auto [first, is_first] = first_of_name_.try_emplace(name, id);
    if (!is_first) {
      std::uint32_t last = first->second;
      while (names_[last].same_name != none) last = names_[last].same_name;
      names_[last].same_name = id;
    }
    return added;
  }

  /// Finds the targets of all dependencies, in their order; adds placeholders, which have none themselves.
  void resolve_all() {
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (names_[i].package == nullptr) continue;
      for (const parsed_dependency& d : names_[i].package->dependencies) {
        const std::uint32_t target = resolve(d, names_[i].architecture);
        if (d.kind == dependency_kind::provides) names_[target].is_provided = true;
        targets_.push_back(target);
      }
    }
    for (const named& n : names_)
      if (n.package == nullptr) ++(n.is_provided ? counts_.virtual_packages : counts_.absent);
    counts_.dependencies = targets_.size();
  }

  std::uint32_t resolve(const parsed_dependency& d, std::string_view own_architecture) {
    const bool any = d.architecture.empty() || d.architecture == "any" || d.architecture == "native";
    const std::string_view architecture = any ? own_architecture : d.architecture;
    const std::string_view placeholder = any ? std::string_view() : d.architecture;
    std::uint32_t for_all = none;
    std::uint32_t other = none;
    const auto first = first_of_name_.find(d.name);
    for (std::uint32_t i = first == first_of_name_.end() ? none : first->second; i != none; i = names_[i].same_name) {
      const named& n = names_[i];
      if (n.package == nullptr) {
        if (other == none && n.architecture == placeholder) other = i;
        continue;
      }
      if (n.architecture == architecture) return i;
      if (n.architecture == "all") for_all = i;
      if (any && other == none) other = i;
    }
    if (for_all != none) return for_all;
    if (other != none) return other;
    add_name(d.name, placeholder);
    return static_cast<std::uint32_t>(names_.size() - 1);
  }

  dm::key architecture(std::string_view name) {
    if (name.empty()) return {};
    const auto [place, is_new] = architectures_.try_emplace(name);
    if (is_new) place->second = store_text(map_, name);
    return place->second;
  }

  void insert_dependencies() {
    dependencies_.reserve(targets_.size());
    for (const named& from : names_) {
      if (from.package == nullptr) continue;
      for (const parsed_dependency& d : from.package->dependencies) {
        named& to = names_[targets_[dependencies_.size()]];
        node value{.kind = node_kind::dependency,
                   .dependency = d.kind,
                   .relation = d.relation,
                   .position = d.position,
                   .alternative = d.alternative};
        set_text(map_, value, d.version);
        value.links[link::package] = from.key;
        value.links[link::of_release] = from.release;
        value.links[link::target] = to.key;
        value.links[link::qualifier] = architecture(d.architecture);
        dependencies_.push_back(map_.insert(value));
        to.dependents.push_back(dependencies_.back());
      }
    }
  }

  void insert_releases() {
    std::span<const dm::key> rest = dependencies_;
    std::vector<dm::key> lists;
    for (const named& n : names_) {
      const std::size_t count = n.package != nullptr ? n.package->dependencies.size() : 0;
      lists.push_back(store_list(map_, rest.first(count)));
      rest = rest.subspan(count);
    }
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (names_[i].package == nullptr) continue;
      node value{.kind = node_kind::release};
      set_text(map_, value, names_[i].package->version);
      value.links[link::dependencies] = lists[i];
      value.links[link::summary] = store_text(map_, printable(names_[i].package->summary));
      map_.insert(std::move(names_[i].release_handle), value);
    }
  }

  /// A description is free text: control characters in it must not reach anybody's terminal.
  static std::string printable(std::string_view text) {
    std::string result(text);
    for (char& c : result)
      if (static_cast<unsigned char>(c) < ' ' || c == 127) c = c == '\t' ? ' ' : '?';
    return result;
  }

  /// The last circle: a package names the next in its bucket, and the directory names them all.
  void insert_names(dm::handle root) {
    std::uint8_t level = 0;
    std::size_t buckets = links_per_node;
    for (; buckets * 2 < names_.size(); buckets *= links_per_node) ++level;
    std::vector<std::uint32_t> first_in_bucket(buckets, none);
    for (std::uint32_t id = static_cast<std::uint32_t>(names_.size()); id-- > 0;) {
      named& n = names_[id];
      const std::uint32_t hash = hash_of_name(n.name);
      std::uint32_t& bucket = first_in_bucket[hash & (buckets - 1)];
      node value{.kind = n.package != nullptr ? node_kind::package
                         : n.is_provided      ? node_kind::virtual_package
                                              : node_kind::absent,
                 .name_hash = hash};
      set_text(map_, value, n.name);
      value.links[link::release] = n.release;
      value.links[link::dependents] = store_list(map_, n.dependents);
      value.links[link::next_in_bucket] = bucket == none ? dm::key() : names_[bucket].key;
      value.links[link::architecture] = architecture(n.architecture);
      map_.insert(std::move(n.handle), value);
      bucket = id;
    }
    std::vector<dm::key> buckets_of_keys(buckets);
    for (std::size_t i = 0; i < buckets; ++i)
      if (first_in_bucket[i] != none) buckets_of_keys[i] = names_[first_in_bucket[i]].key;
    map_.insert(std::move(root), directory(level, 0, level, buckets_of_keys));
  }

  /// The directory through which the names go whose hashes end in the low bits of `hash`, and all below it.
  node directory(std::uint8_t level, std::uint32_t hash, std::uint8_t root_level, const std::vector<dm::key>& buckets) {
    node result{.kind = node_kind::directory, .level = level};
    const std::size_t shift = std::size_t{root_level} - level;
    for (std::uint32_t way = 0; way < links_per_node; ++way) {
      const std::uint32_t below = hash | way << (shift * directory_bits);
      if (level == 0)
        result.links[way] = buckets[below];
      else if (const node n = directory(static_cast<std::uint8_t>(level - 1), below, root_level, buckets); !is_empty(n))
        result.links[way] = map_.insert(n);
    }
    return result;
  }
  static bool is_empty(const node& directory) { return directory.links == node().links; }

  node_map& map_;
  std::vector<named> names_;
  std::unordered_map<std::string_view, std::uint32_t> first_of_name_;
  std::unordered_map<std::string_view, dm::key> architectures_;
  std::vector<std::uint32_t> targets_;  // of all dependencies of all packages, in order
  std::vector<dm::key> dependencies_;   // in the same order
  build_counts counts_;
};

/// Removes a file that did not become what it was meant to.
struct unfinished_file {
  std::filesystem::path path;
  ~unfinished_file() {
    std::error_code unseen;
    if (!path.empty()) std::filesystem::remove(path, unseen);
  }
};

void refuse_existing(const std::filesystem::path& file) {
  throw dm::error(dm::errc::exists, file.string(),
                  "there is such a file already; --replace builds a new graph and then puts it in its place");
}

}  // namespace

build_counts build(node_map& map, const status& packages) { return builder(map).run(packages); }

build_counts build_file(const std::filesystem::path& file, const status& packages, bool replace) {
  const bool is_there = std::filesystem::exists(std::filesystem::symlink_status(file));
  if (is_there && !replace) refuse_existing(file);
  // To look whether it is a graph that is replaced, and one that nobody is changing.
  if (is_there) (void)graph(node_map::open_read_only(file));

  unfinished_file beside{file.string() + ".new" + std::to_string(getpid())};
  node_map map = node_map::create(beside.path);
  const build_counts counts = build(map, packages);
  map.close();
  if (replace) {
    std::filesystem::rename(beside.path, file);
    beside.path.clear();
  } else {
    // Unlike renaming, a second name fails if somebody made such a file meanwhile.
    std::error_code code;
    std::filesystem::create_hard_link(beside.path, file, code);
    if (code == std::errc::file_exists) refuse_existing(file);
    if (code) throw dm::error(code, file.string(), code.message());
  }
  return counts;
}

}  // namespace package_graph
