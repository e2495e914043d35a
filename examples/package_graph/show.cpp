#include "show.hpp"

#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "cycles.hpp"

namespace package_graph {
namespace {

constexpr std::size_t shown_max = 10;

const char* sign_of(version_relation relation) {
  switch (relation) {
    case version_relation::earlier:
      return "<<";
    case version_relation::earlier_or_equal:
      return "<=";
    case version_relation::equal:
      return "=";
    case version_relation::later_or_equal:
      return ">=";
    case version_relation::later:
      return ">>";
    case version_relation::any:
      break;
  }
  return "";
}

class page {
 public:
  page(const graph& g, dm::key package, bool all, std::ostream& out)
      : graph_(g), key_(package), package_(g.package(package)), all_(all), out_(out) {}

  void print() {
    out_ << graph_.text(package_);
    const node* release = graph_.release_of(package_);
    if (release != nullptr) {
      out_ << ' ' << graph_.text(*release) << ' ' << graph_.text_at(package_.links[link::architecture]) << '\n';
      const std::string summary = graph_.text_at(release->links[link::summary]);
      if (!summary.empty()) out_ << "  " << summary << '\n';
    } else {
      out_ << (package_.kind == node_kind::virtual_package ? ": only a name, which some packages provide\n"
                                                           : ": only a name, which no package has or provides\n");
    }
    print_list("pre-depends on", dependencies(dependency_kind::pre_depends));
    print_list("depends on", dependencies(dependency_kind::depends));
    print_list("recommends", dependencies(dependency_kind::recommends));
    print_list("provides", dependencies(dependency_kind::provides));
    print_dependents();
    print_cycles();
  }

 private:
  /// Each dependency with all its alternatives, as it was written.
  std::vector<std::string> dependencies(dependency_kind kind) const {
    std::vector<std::string> result;
    std::uint16_t position = 0;
    graph_.for_each_dependency(package_, [&](dm::key, const node& d) {
      if (d.dependency != kind) return;
      std::string one = graph_.text(graph_.package(d.links[link::target]));
      if (d.links[link::qualifier]) one += ':' + graph_.text_at(d.links[link::qualifier]);
      if (d.relation != version_relation::any)
        one += std::string(" (") + sign_of(d.relation) + ' ' + graph_.text(d) + ')';
      if (!result.empty() && d.position == position)
        result.back() += " | " + one;
      else
        result.push_back(one);
      position = d.position;
    });
    return result;
  }

  /// Who says something about this package: one entry each, however much it says.
  void print_dependents() {
    std::vector<dm::key> required_by, recommended_by, provided_by;
    graph_.for_each_dependent(package_, [&](dm::key, const node& d) {
      std::vector<dm::key>& list = d.dependency == dependency_kind::provides     ? provided_by
                                   : d.dependency == dependency_kind::recommends ? recommended_by
                                                                                 : required_by;
      list.push_back(d.links[link::package]);
    });
    print_packages("required by", required_by);
    print_packages("recommended by", recommended_by);
    print_packages("provided by", provided_by);
  }

  void print_packages(const char* title, std::vector<dm::key>& packages) {
    std::sort(packages.begin(), packages.end());
    packages.erase(std::unique(packages.begin(), packages.end()), packages.end());
    std::vector<std::string> names;
    for (std::size_t i = 0; i < (all_ ? packages.size() : std::min(packages.size(), shown_max)); ++i)
      names.push_back(graph_.label(packages[i]));
    print_list(title, names, packages.size());
  }

  void print_cycles() {
    std::vector<dm::key> group = cycle_group_of(graph_, key_);
    if (group.empty()) return;
    std::string round;
    for (const dm::key k : shortest_cycle(graph_, key_, group)) round += graph_.label(k) + " -> ";
    out_ << "  on a cycle:      " << round << graph_.label(key_) << '\n';
    print_packages("all on its cycles", group);
  }

  void print_list(const char* title, const std::vector<std::string>& entries) {
    print_list(title, entries, entries.size());
  }
  void print_list(const char* title, const std::vector<std::string>& entries, std::size_t total) {
    if (total == 0) return;
    const std::size_t shown = all_ ? entries.size() : std::min(entries.size(), shown_max);
    out_ << "  " << title << " (" << total << "): ";
    for (std::size_t i = 0; i < shown; ++i) out_ << (i == 0 ? "" : ", ") << entries[i];
    if (shown < total) out_ << ", and " << total - shown << " more (--all lists them)";
    out_ << '\n';
  }

  const graph& graph_;
  dm::key key_;
  const node& package_;
  bool all_;
  std::ostream& out_;
};

}  // namespace

bool show(const graph& g, std::string_view name, bool all, std::ostream& out) {
  const std::vector<dm::key> found = g.find(name);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (i != 0) out << '\n';
    page(g, found[i], all, out).print();
  }
  return !found.empty();
}

}  // namespace package_graph
