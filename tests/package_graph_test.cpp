// The example package_graph: its parser takes what Debian writes and says where anything else is wrong; its
// graph is the same whoever builds it, and whenever whoever changes it is killed.
#include "../examples/package_graph/build.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "../examples/package_graph/cycles.hpp"
#include "../examples/package_graph/dpkg_status.hpp"
#include "../examples/package_graph/graph.hpp"
#include "../examples/package_graph/show.hpp"
#include "../examples/package_graph/store.hpp"
#include "../examples/package_graph/upgrade.hpp"
#include "../examples/package_graph/verify.hpp"
#include "catch.hpp"
#include "temporary_directory.hpp"

namespace {

using namespace package_graph;

parsed_package only_package(const std::string& text) {
  static std::string kept;  // the views are into it
  kept = text;
  const status parsed = parse_status(kept);
  REQUIRE(parsed.malformed.empty());
  REQUIRE(parsed.packages.size() == 1);
  return parsed.packages.front();
}

std::vector<parsed_dependency> dependencies_of(const std::string& field) {
  return only_package("Package: a\nVersion: 1\nArchitecture: amd64\nDepends: " + field + "\n").dependencies;
}

malformed_stanza only_fault(const std::string& text) {
  const status parsed = parse_status(text);
  REQUIRE(parsed.packages.empty());
  REQUIRE(parsed.malformed.size() == 1);
  return parsed.malformed.front();
}

std::string fault_in_field(const std::string& field) {
  const malformed_stanza fault = only_fault("Package: a\nVersion: 1\nDepends: " + field + "\n");
  CHECK(fault.line == 3);
  return fault.message;
}

// A small system with two circles: libc6 and libgcc-s1 need each other, a needs b needs c needs a or b.
const std::string small_system =
    "Package: libc6\nVersion: 2.36-9\nArchitecture: amd64\nDepends: libgcc-s1\nRecommends: libidn2-0 (>= "
    "2.0.5~)\n"
    "Description: GNU C Library\n of which there is more to say\n\n"
    "Package: libgcc-s1\nVersion: 12.2.0-14\nArchitecture: amd64\nDepends: gcc-12-base (= 12.2.0-14), libc6 "
    "(>= 2.35)\n\n"
    "Package: gcc-12-base\nVersion: 12.2.0-14\nArchitecture: all\n\n"
    "Package: a\nVersion: 1\nArchitecture: all\nPre-Depends: libc6\nDepends: b\n\n"
    "Package: b\nVersion: 1:2~rc1\nArchitecture: all\nDepends: c (<< 9) | missing\nProvides: mail-agent (= "
    "3)\n\n"
    "Package: c\nVersion: 3\nArchitecture: all\nDepends: a | b, mail-agent\n";

node_map build_from(const std::filesystem::path& file, const std::string& text) {
  node_map map = node_map::create(file, {.sync_on_close = false});
  build(map, parse_status(text));
  return map;
}

std::vector<std::string> labels(const graph& g, const std::vector<dm::key>& packages) {
  std::vector<std::string> result;
  for (const dm::key k : packages) result.push_back(g.label(k));
  return result;
}

std::set<std::string> as_set(const std::vector<std::string>& names) { return {names.begin(), names.end()}; }

std::string shown(const node_map& map, std::string_view name, bool all = false) {
  std::ostringstream out;
  REQUIRE(show(graph(map), name, all, out));
  return out.str();
}

std::vector<std::string> problems_of(const node_map& map) { return verify(map).problems; }

// Everything a graph says, without versions of packages, which churn changes.
std::multiset<std::string> statements(const node_map& map) {
  std::multiset<std::string> result;
  const graph g(map);
  g.for_each_package([&](dm::key k, const node& n) {
    result.insert(g.label(k) + " kind " + std::to_string(static_cast<int>(n.kind)));
    g.for_each_dependency(n, [&](dm::key, const node& d) {
      result.insert(g.label(k) + " needs " + g.label(d.links[link::target]) + ' ' + std::to_string(d.position) + '.' +
                    std::to_string(d.alternative) + ' ' + g.text(d));
    });
    g.for_each_dependent(n, [&](dm::key, const node& d) {
      result.insert(g.label(k) + " needed by " + g.label(d.links[link::package]) + ' ' + g.text(d));
    });
  });
  return result;
}

TEST_CASE("a stanza is read with all its dependencies") {
  const parsed_package p = only_package(
      "Package: mutt\nStatus: install ok installed\nVersion: 2.2.9-1\nArchitecture: amd64\n"
      "Pre-Depends: dpkg (>= 1.15)\nDepends: libc6 (>= 2.34), default-mta | mail-transport-agent\n"
      "Recommends: python3:any\nSuggests: ispell\nProvides: mail-reader\nDescription: text-based mail "
      "reader\n .\n Long.\n");
  CHECK(p.name == "mutt");
  CHECK(p.version == "2.2.9-1");
  CHECK(p.architecture == "amd64");
  CHECK(p.summary == "text-based mail reader");
  REQUIRE(p.dependencies.size() == 6);
  CHECK(p.dependencies[0].kind == dependency_kind::pre_depends);
  CHECK(p.dependencies[0].relation == version_relation::later_or_equal);
  CHECK(p.dependencies[0].version == "1.15");
  CHECK(p.dependencies[2].name == "default-mta");
  CHECK(p.dependencies[2].position == p.dependencies[3].position);
  CHECK(p.dependencies[3].alternative == 1);
  CHECK(p.dependencies[4].kind == dependency_kind::recommends);
  CHECK(p.dependencies[4].architecture == "any");
  CHECK(p.dependencies[5].kind == dependency_kind::provides);
}

TEST_CASE("dependencies may be folded, spaced and qualified in every way Debian allows") {
  const auto d = dependencies_of(
      "a(<<1),b\n  |\n\tc:i386  ( >> 2:3~x )\n , d (= 1) [amd64 i386], e [!amd64], f <!nocheck> <x y>,");
  REQUIRE(d.size() == 5);
  CHECK(d[0].relation == version_relation::earlier);
  CHECK(d[1].name == "b");
  CHECK(d[2].name == "c");
  CHECK(d[2].architecture == "i386");
  CHECK(d[2].relation == version_relation::later);
  CHECK(d[2].version == "2:3~x");
  CHECK(d[3].name == "d");  // meant for this architecture
  CHECK(d[4].name == "f");  // e is not
  CHECK(dependencies_of("").empty());
  CHECK(dependencies_of("x (< 1)").front().relation == version_relation::earlier_or_equal);
}

TEST_CASE("line ends, blank lines and the end of the file do not matter") {
  const std::string unix_text = "\n\nPackage: a\nVersion: 1\nDepends: b,\n c\n\n \t\n\nPackage: b\nVersion: 2";
  std::string dos_text;
  for (const char c : unix_text) dos_text += c == '\n' ? std::string("\r\n") : std::string(1, c);
  for (const std::string& text : {unix_text, dos_text, unix_text + "\n", dos_text + "\r\n\r\n"}) {
    const status parsed = parse_status(text);
    CHECK(parsed.malformed.empty());
    REQUIRE(parsed.packages.size() == 2);
    CHECK(parsed.packages[0].dependencies.size() == 2);
    CHECK(parsed.packages[0].version == "1");
    CHECK(parsed.packages[1].version == "2");
    CHECK(parsed.packages[1].line == 10);
  }
  for (const std::string text : {"", "\n", "\r\n\r\n", "   \n\t"}) CHECK(parse_status(text).packages.empty());
}

TEST_CASE("a malformed stanza is left out with the line of its fault, and the others are read") {
  const std::string text =
      "Package: a\nVersion: 1\n\nPackage: b\nVersion: 1\nDepends: c,\n d (>= 1, e\n\nPackage: f\nVersion: "
      "1\n";
  const status parsed = parse_status(text);
  CHECK(parsed.packages.size() == 2);
  REQUIRE(parsed.malformed.size() == 1);
  CHECK(parsed.malformed[0].line == 7);
  CHECK(parsed.malformed[0].message == "expected ')' before ', e'");
}

TEST_CASE("faults are named") {
  CHECK(only_fault("Version: 1\n").message == "a stanza without a Package");
  CHECK(only_fault("Package: a\n").message == "a package without a Version");
  CHECK(only_fault("nonsense\n").message == "expected 'Field: value', found 'nonsense'");
  CHECK(only_fault(" indented\n").message == "a continuation line without a field above it");
  CHECK(only_fault("Package: a\nVersion: 1\nVersion: 2\n").line == 3);
  CHECK(only_fault("Package: a b\nVersion: 1\n").message == "'a b' is not possible as the name of a package");
  CHECK(only_fault("Package: a\nVersion: 1_2\n").message == "'1_2' is not possible as a version");
  CHECK(only_fault("Package: a\nArchitecture: \x1b[31m\nVersion: 1\n").message ==
        "'?[31m' is not possible as an architecture");
  CHECK(fault_in_field("b || c") == "expected a package name before '| c'");
  CHECK(fault_in_field("b,, c") == "expected a package name before ', c'");
  CHECK(fault_in_field("b |") == "a package name is missing at the end of the field");
  CHECK(fault_in_field("b c") == "expected ',' or '|' before 'c'");
  CHECK(fault_in_field("b (1)") == "expected one of << <= = >= >> before '1)'");
  CHECK(fault_in_field("b (=> 1)") == "'=>' is none of << <= = >= >>");
  CHECK(fault_in_field("b (>= )") == "expected a version before ')'");
  CHECK(fault_in_field("b: (>= 1)") == "expected an architecture after ':'");
  CHECK(fault_in_field("b [amd64") == "expected an architecture or ']'");
  CHECK(fault_in_field("b <x") == "'<' without '>'");
  CHECK(fault_in_field("${misc:Depends}") == "expected a package name before '${misc:Depends}'");
}

TEST_CASE("no bytes whatever upset the parser") {
  std::mt19937 random(20240917);
  for (int round = 0; round < 2000; ++round) {
    std::string text = small_system;
    for (int i = 0; i < 8; ++i) {
      const std::size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, random() % 20);
          break;
        default:
          text.insert(at, text, random() % text.size(), random() % 30);
      }
      if (text.empty()) text = "x";
    }
    const status parsed = parse_status(text);
    for (const malformed_stanza& fault : parsed.malformed) {
      CHECK(fault.line >= 1);
      CHECK(fault.line <= static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1);
    }
  }
}

TEST_CASE("very long lines and very many dependencies are no matter, up to what a position can count") {
  std::string field = "p0";
  for (int i = 1; i < 65536; ++i) field += ", p" + std::to_string(i);
  CHECK(dependencies_of(field).size() == 65536);
  CHECK(fault_in_field(field + ", one-more") == "more than 65536 dependencies");
}

TEST_CASE("packages that were removed are left out") {
  const status parsed = parse_status(
      "Package: a\nStatus: deinstall ok config-files\n\nPackage: b\nVersion: 1\nStatus: install ok "
      "unpacked\n");
  CHECK(parsed.packages.size() == 1);
  CHECK(parsed.not_installed == 1);
  CHECK(parsed.malformed.empty());
}

TEST_CASE("a graph with cycles is built, and everything in it is found") {
  const temporary_directory directory;
  const node_map map = build_from(directory / "g", small_system);
  const findings found = verify(map);
  CHECK(found.problems.empty());
  CHECK(found.packages == 6);
  CHECK(found.virtual_packages == 1);
  CHECK(found.absent == 2);
  CHECK(found.dependencies == 12);
  CHECK(found.leftovers == 0);
  CHECK(map.reserved_count() == 0);

  const graph g(map);
  for (const char* name : {"libc6", "libgcc-s1", "gcc-12-base", "a", "b", "c", "mail-agent", "missing", "libidn2-0"})
    CHECK(g.find(name).size() == 1);
  CHECK(g.find("d").empty());
  CHECK(g.find("").empty());
  CHECK(g.find("libc6:amd64").size() == 1);
  CHECK(g.find("libc6:i386").empty());
}

TEST_CASE("show tells a package's dependencies both ways and its cycles") {
  const temporary_directory directory;
  const node_map map = build_from(directory / "g", small_system);
  CHECK(shown(map, "libc6") ==
        "libc6 2.36-9 amd64\n"
        "  GNU C Library\n"
        "  depends on (1): libgcc-s1\n"
        "  recommends (1): libidn2-0 (>= 2.0.5~)\n"
        "  required by (2): libgcc-s1, a\n"
        "  on a cycle:      libc6 -> libgcc-s1 -> libc6\n"
        "  all on its cycles (2): libc6, libgcc-s1\n");
  CHECK(shown(map, "b") ==
        "b 1:2~rc1 all\n"
        "  depends on (1): c (<< 9) | missing\n"
        "  provides (1): mail-agent (= 3)\n"
        "  required by (2): a, c\n"
        "  on a cycle:      b -> c -> b\n"
        "  all on its cycles (3): a, b, c\n");
  CHECK(shown(map, "mail-agent") ==
        "mail-agent: only a name, which some packages provide\n  required by (1): c\n  provided by (1): b\n");
  CHECK(shown(map, "missing") == "missing: only a name, which no package has or provides\n  required by (1): b\n");
  std::ostringstream unseen;
  CHECK_FALSE(show(graph(map), "nothing", false, unseen));
}

TEST_CASE("long lists are shortened, with a count, unless all is asked for") {
  std::string text = "Package: base\nVersion: 1\n";
  for (int i = 10; i < 50; ++i)
    text += "\nPackage: p" + std::to_string(i) + "\nVersion: 1\nDepends: base, base (>= 1)\n";
  const temporary_directory directory;
  const node_map map = build_from(directory / "g", text);
  CHECK(shown(map, "base").find("required by (40): p10, p11, p12, p13, p14, p15, p16, p17, p18, p19, and 30 more") !=
        std::string::npos);
  CHECK(shown(map, "base", true).find("p48, p49\n") != std::string::npos);
}

TEST_CASE("a name, version or summary of any length is kept whole") {
  for (const std::size_t size : {1u, 31u, 32u, 33u, 63u, 64u, 65u, 1000u}) {
    const std::string name = std::string(size, 'n');
    const std::string version = "1" + std::string(size, '0');
    std::string summary;
    while (summary.size() < size) summary += "f\xc3\xbcr ";
    summary += '.';
    const temporary_directory directory;
    const node_map map =
        build_from(directory / "g", "Package: " + name + "\nVersion: " + version + "\nDescription: " + summary +
                                        "\nDepends: " + name + "x (>= " + version + ")\n");
    CHECK(problems_of(map).empty());
    CHECK(graph(map).find(name).size() == 1);
    CHECK(graph(map).find(name + "x").size() == 1);
    CHECK(graph(map).find(name + "y").empty());
    if (size > 1) CHECK(graph(map).find(name.substr(1)).empty());
    CHECK(shown(map, name) ==
          name + ' ' + version + " \n  " + summary + "\n  depends on (1): " + name + "x (>= " + version + ")\n");
    for (const node& n : map.values())
      CHECK((static_cast<unsigned char>(n.text[0]) & 0xc0) != 0x80);  // no character cut
  }
}

TEST_CASE("packages are told apart by architecture, and of the same the later entry counts") {
  const std::string text =
      "Package: lib\nVersion: 1\nArchitecture: amd64\n\nPackage: lib\nVersion: 1\nArchitecture: i386\n\n"
      "Package: lib\nVersion: 2\nArchitecture: amd64\n\nPackage: x\nVersion: 1\nArchitecture: i386\nDepends: "
      "lib\n\n"
      "Package: y\nVersion: 1\nArchitecture: amd64\nDepends: lib:any\n\nPackage: z\nVersion: "
      "1\nArchitecture: amd64\n"
      "Depends: lib:i386, lib:armhf\n";
  const temporary_directory directory;
  node_map map = node_map::create(directory / "g");
  const build_counts counts = build(map, parse_status(text));
  CHECK(counts.superseded == 1);
  CHECK(counts.packages == 5);
  CHECK(counts.absent == 1);
  CHECK(problems_of(map).empty());
  CHECK(shown(map, "lib:amd64") == "lib 2 amd64\n  required by (1): y\n");
  CHECK(shown(map, "lib:i386") == "lib 1 i386\n  required by (2): x, z\n");
  CHECK(shown(map, "lib:armhf").find("only a name") != std::string::npos);
  CHECK(graph(map).find("lib").size() == 3);
}

TEST_CASE("cycle groups are the same whether found for all packages or for one") {
  std::mt19937 random(7);
  for (int round = 0; round < 30; ++round) {
    std::string text;
    for (int i = 0; i < 40; ++i) {
      text += "Package: p" + std::to_string(i) + "\nVersion: 1\n";
      if (random() % 3 != 0)
        text += "Depends: p" + std::to_string(random() % 40) + " | p" + std::to_string(random() % 40) + '\n';
      text += '\n';
    }
    const temporary_directory directory;
    const node_map map = build_from(directory / "g", text);
    const graph g(map);
    std::map<dm::key, std::set<std::string>> group_of;
    for (const auto& group : cycle_groups(g))
      for (const dm::key k : group) group_of[k] = as_set(labels(g, group));
    g.for_each_package([&](dm::key k, const node&) {
      const std::vector<dm::key> group = cycle_group_of(g, k);
      CHECK(as_set(labels(g, group)) == group_of[k]);
      // A shortest cycle is one: each needs the next, and the last the first.
      const std::vector<dm::key> cycle = shortest_cycle(g, k, group);
      CHECK(cycle.empty() == group.empty());
      for (std::size_t i = 0; i < cycle.size(); ++i) {
        bool needs_next = false;
        g.for_each_dependency(g.package(cycle[i]), [&](dm::key, const node& d) {
          needs_next = needs_next || d.links[link::target] == cycle[(i + 1) % cycle.size()];
        });
        CHECK(needs_next);
      }
    });
  }
}

TEST_CASE("an existing file is only replaced when asked, only by a whole graph, and only if it is one") {
  const temporary_directory directory;
  const std::filesystem::path file = directory / "g";
  build_file(file, parse_status("Package: a\nVersion: 1\n"), false);
  const status second = parse_status("Package: b\nVersion: 1\n");
  try {
    build_file(file, second, false);
    FAIL("it was overwritten");
  } catch (const dm::error& e) {
    CHECK(e.code() == dm::errc::exists);
    CHECK(std::string(e.what()).find("--replace") != std::string::npos);
  }
  CHECK(graph(node_map::open_read_only(file)).find("a").size() == 1);
  {
    const node_map in_use = node_map::open(file);
    CHECK_THROWS_AS(build_file(file, second, true), dm::error);
  }
  build_file(file, second, true);
  const node_map map = node_map::open_read_only(file);
  CHECK(graph(map).find("a").empty());
  CHECK(graph(map).find("b").size() == 1);

  std::FILE* foreign = std::fopen((directory / "text").c_str(), "w");
  std::fputs("precious", foreign);
  std::fclose(foreign);
  CHECK_THROWS_AS(build_file(directory / "text", second, true), dm::error);
  CHECK(std::filesystem::file_size(directory / "text") == 8);
  const auto files =
      std::distance(std::filesystem::directory_iterator(directory.path()), std::filesystem::directory_iterator());
  CHECK(files == 2);  // nothing half-made is left
}

TEST_CASE("an empty list of packages makes an empty graph") {
  const temporary_directory directory;
  const node_map map = build_from(directory / "g", "");
  CHECK(problems_of(map).empty());
  CHECK(graph(map).find("a").empty());
}

TEST_CASE("a map without a graph is refused") {
  const temporary_directory directory;
  const node_map map = node_map::create(directory / "g");
  CHECK_THROWS_AS(graph(map), graph_error);
}

TEST_CASE("upgrades change versions and nothing else, and need no more room after the first") {
  const temporary_directory directory;
  node_map map = build_from(directory / "g", small_system);
  const auto before = statements(map);
  std::vector<std::size_t> slots;
  for (int round = 0; round < 50; ++round) {
    for (const char* name : {"libc6", "a", "b", "c", "gcc-12-base", "libgcc-s1"})
      upgrade(map, graph(map).find(name).front(), std::string(20u + static_cast<unsigned>(round % 30), '7'));
    CHECK(problems_of(map).empty());
    CHECK(verify(map).leftovers == 0);
    slots.push_back(map.slot_count());
  }
  CHECK(statements(map) == before);
  CHECK(slots.back() == slots[30]);
  CHECK(shown(map, "a").starts_with("a " + std::string(39, '7')));
}

TEST_CASE("damage to any link is found, and never followed into nowhere") {
  const temporary_directory directory;
  const std::string text =
      small_system + "\nPackage: " + std::string(100, 'l') + "\nVersion: 1\nDepends: libc6 (>= 1)\n";
  node_map map = build_from(directory / "g", text);
  std::vector<dm::key> all;
  for (const dm::key k : map.keys()) all.push_back(k);
  std::size_t tried = 0;
  for (const dm::key k : all) {
    const node whole = map.at(k);
    for (std::size_t i = 0; i <= links_per_node; ++i) {
      const auto link_of = [i](node& n) -> dm::key& { return i < links_per_node ? n.links[i] : n.more; };
      node copy = whole;
      if (!link_of(copy)) continue;
      for (const dm::key wrong : {dm::key::from_parts(link_of(copy).index(), 9), root_key, k}) {
        if (link_of(copy) == wrong) continue;
        map.update(k, [&](node& n) { link_of(n) = wrong; });
        INFO("slot " << k << " kind " << static_cast<int>(whole.kind) << " link " << i << " to " << wrong);
        CHECK_FALSE(problems_of(map).empty());
        CHECK_THROWS_AS(sweep(map), graph_error);
        try {
          for (const char* name : {"libc6", "b", "missing"}) {
            std::ostringstream unseen;
            show(graph(map), name, true, unseen);
          }
        } catch (const graph_error&) {
        }
        map.update(k, [&](node& n) { n = whole; });
        ++tried;
      }
    }
  }
  CHECK(tried > 100);
  CHECK(problems_of(map).empty());
}

TEST_CASE("what an unfinished upgrade leaves is harmless, and swept away") {
  const temporary_directory directory;
  node_map map = build_from(directory / "g", small_system);
  const auto before = statements(map);
  const std::size_t size = map.size();
  const dm::key package = graph(map).find("a").front();
  const dm::key target = graph(map).find("b").front();
  // As if killed between the release and the switch.
  node release{.kind = node_kind::release};
  const dm::key unfinished = map.insert(release);
  node dependency{.kind = node_kind::dependency, .dependency = dependency_kind::depends};
  dependency.links = {package, unfinished, target, dm::key()};
  const dm::key orphan = map.insert(dependency);
  map.update(map.at(target).links[link::dependents], [&](node& n) {
    for (dm::key& k : n.links)
      if (!k) return void(k = orphan);
    FAIL("no room in the list");
  });
  CHECK(statements(map) == before);
  CHECK(problems_of(map).empty());
  CHECK(verify(map).leftovers == 2);
  CHECK(sweep(map) == 2);
  CHECK(map.size() == size);
  CHECK(statements(map) == before);
}

TEST_CASE("churn killed at any moment leaves every package as before or as after an upgrade") {
  const temporary_directory directory;
  const std::filesystem::path file = directory / "g";
  std::string text = small_system;
  for (int i = 0; i < 60; ++i) {
    text += "\nPackage: package-with-a-name-that-is-too-long-for-a-node-" + std::to_string(i) +
            "\nVersion: 1:2.3.4~really-a-version-that-is-long\nDepends: libc6, a | b\nDescription: number " +
            std::to_string(i) + '\n';
  }
  build_from(file, text).close();
  const auto before = statements(node_map::open_read_only(file));
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  std::size_t found_killed = 0;
  for (int round = 0; round < 20; ++round) {
    int line[2];
    REQUIRE(pipe(line) == 0);
    const pid_t child = fork();
    if (child == 0) {
      close(line[0]);
      try {
        node_map map = node_map::open(file, {.sync_on_close = false});
        std::ostringstream said;
        churn(map, said, [&, under_way = false]() mutable {
          if (!under_way && said.tellp() > 0) under_way = write(line[1], "u", 1) == 1;
          return false;
        });
      } catch (...) {
      }
      _exit(1);
    }
    close(line[1]);
    char said = 0;
    const bool under_way = read(line[0], &said, 1) == 1;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));
    kill(child, SIGKILL);
    int state = 0;
    waitpid(child, &state, 0);
    close(line[0]);
    REQUIRE(under_way);
    REQUIRE(WIFSIGNALED(state));

    {
      const node_map map = node_map::open_read_only(file);
      CHECK(problems_of(map).empty());
      CHECK(statements(map) == before);
    }
    node_map map = node_map::open(file);
    found_killed += map.recovery().killed_pid == static_cast<std::uint32_t>(child);
    CHECK(problems_of(map).empty());
    sweep(map);
    CHECK(verify(map).leftovers == 0);
    CHECK(statements(map) == before);
  }
  CHECK(found_killed == 20);
}

}  // namespace
