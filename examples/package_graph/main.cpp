// The packages of a Debian system as a graph in a file: real data, full of cycles, that several programs can
// look at without reading it in, and that survives its writer's death.
//
// Start reading with node.hpp (what is in the file), build.cpp (places first, values after) and upgrade.cpp
// (changes that may be killed).
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "build.hpp"
#include "cycles.hpp"
#include "dpkg_status.hpp"
#include "graph.hpp"
#include "show.hpp"
#include "upgrade.hpp"
#include "verify.hpp"

namespace {

using namespace package_graph;

constexpr std::string_view usage =
    R"(usage: package_graph build FILE [STATUS] [--replace]   make the graph of the packages in STATUS
       package_graph show FILE PACKAGE [--all]        what it knows of a package
       package_graph churn FILE [--count N]           upgrade packages until interrupted (or killed)
       package_graph verify FILE [--repair]           check every link; clear up after a killed churn

STATUS is /var/lib/dpkg/status unless given; `-` reads standard input:
       apt-cache dumpavail | package_graph build all.graph -
)";

struct wrong_usage {};

/// Takes an option off the arguments.
bool take_flag(std::vector<std::string>& arguments, std::string_view flag) { return std::erase(arguments, flag) != 0; }

std::optional<std::size_t> take_count(std::vector<std::string>& arguments) {
  for (auto i = arguments.begin(); i != arguments.end(); ++i) {
    if (*i != "--count") continue;
    if (i + 1 == arguments.end() || i[1].empty() || i[1].size() > 18 ||
        i[1].find_first_not_of("0123456789") != std::string::npos)
      throw wrong_usage();
    const std::size_t count = std::stoull(i[1]);
    arguments.erase(i, i + 2);
    return count;
  }
  return std::nullopt;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string read_all(const std::string& path) {
  const std::string name = path == "-" ? "/dev/stdin" : path;
  std::ifstream in(name, std::ios::binary);
  if (!in) throw graph_error("cannot read " + name + ": " + std::strerror(errno));
  std::ostringstream text;
  errno = 0;
  if (in.peek() != std::ifstream::traits_type::eof()) text << in.rdbuf();
  if (errno != 0 || in.bad()) throw graph_error("cannot read " + name + ": " + std::strerror(errno));
  return std::move(text).str();
}

void report_malformed(const status& parsed, const std::string& source) {
  constexpr std::size_t shown_max = 10;
  for (std::size_t i = 0; i < parsed.malformed.size() && i < shown_max; ++i) {
    const malformed_stanza& one = parsed.malformed[i];
    std::cerr << source << ':' << one.line << ": " << one.message << "; this package is left out\n";
  }
  if (parsed.malformed.size() > shown_max)
    std::cerr << source << ": and " << parsed.malformed.size() - shown_max << " more that are malformed\n";
  if (parsed.packages.empty() && !parsed.malformed.empty())
    throw graph_error(source + " is not a list of packages: nothing in it could be read");
}

int run_build(const std::string& file, const std::string& source, bool replace) {
  const auto start = std::chrono::steady_clock::now();
  const std::string text = read_all(source);
  const status parsed = parse_status(text);
  report_malformed(parsed, source);
  const double parsed_after = seconds_since(start);
  const build_counts counts = build_file(file, parsed, replace);
  const double built_after = seconds_since(start);

  const node_map map = node_map::open_read_only(file);
  const auto groups = cycle_groups(graph(map));
  std::size_t on_cycles = 0;
  for (const auto& group : groups) on_cycles += group.size();
  std::cout << std::fixed << std::setprecision(2);
  std::cout << file << ": " << counts.packages << " packages, " << counts.dependencies << " dependencies, "
            << counts.virtual_packages << " virtual and " << counts.absent << " absent packages\n"
            << groups.size() << " groups of packages that need each other in circles, " << on_cycles
            << " packages in all\n";
  if (parsed.not_installed != 0) std::cout << parsed.not_installed << " removed packages left out\n";
  if (counts.superseded != 0) std::cout << counts.superseded << " packages replaced by a later entry\n";
  std::cout << map.size() << " slots of " << sizeof(dm::slot<node>)
            << " bytes: " << static_cast<double>(map.slot_count() * sizeof(dm::slot<node>)) / 1e6 << " MB; read in "
            << parsed_after << " s, built in " << built_after - parsed_after << " s\n";
  return 0;
}

int run_show(const std::string& file, const std::string& name, bool all) {
  const node_map map = node_map::open_read_only(file);
  std::ostringstream text;  // one write, however long it gets
  if (!show(graph(map), name, all, text)) throw graph_error(file + " knows no package called '" + name + "'");
  std::cout << text.str();
  return 0;
}

volatile std::sig_atomic_t interrupted = 0;

int run_churn(const std::string& file, std::size_t count_max) {
  // Asked to stop, it closes the file properly. Killed with -9 it cannot, and need not.
  std::signal(SIGINT, [](int) { interrupted = 1; });
  std::signal(SIGTERM, [](int) { interrupted = 1; });
  node_map map = node_map::open(file);
  std::cout << map.recovery().to_string() << std::endl;
  const auto start = std::chrono::steady_clock::now();
  std::size_t asked = 0;
  const std::size_t count = churn(map, std::cout, [&] { return interrupted != 0 || asked++ == count_max; });
  const double duration = seconds_since(start);
  map.close();
  std::cout << count << " upgrades in " << std::fixed << std::setprecision(2) << duration << " s\n";
  return 0;
}

int run_verify(const std::string& file, bool repair) {
  node_map map = repair ? node_map::open(file) : node_map::open_read_only(file);
  std::cout << map.recovery().to_string() << '\n';
  const findings found = verify(map);
  for (const std::string& problem : found.problems) std::cout << "problem: " << problem << '\n';
  std::cout << found.packages << " packages, " << found.dependencies << " dependencies, " << found.virtual_packages
            << " virtual and " << found.absent << " absent packages\n";
  if (found.problems.empty() && repair) {
    std::cout << sweep(map) << " slots of unfinished upgrades cleared up\n";
    map.close();
  } else if (found.leftovers != 0) {
    std::cout << found.leftovers << " slots of unfinished upgrades, which nothing leads to; --repair clears them up\n";
  }
  std::cout << (found.problems.empty() ? "every link is sound\n" : "the graph is damaged: build it again\n");
  return found.problems.empty() ? 0 : 1;
}

int run(std::vector<std::string> arguments) {
  if (arguments.empty()) throw wrong_usage();
  if (arguments[0] == "--help" || arguments[0] == "-h" || arguments[0] == "help") {
    std::cout << usage;
    return 0;
  }
  const std::string command = arguments[0];
  arguments.erase(arguments.begin());
  const auto expect = [&](std::size_t least, std::size_t most) {
    const bool unknown_option =
        std::any_of(arguments.begin(), arguments.end(), [](const std::string& a) { return a.starts_with("--"); });
    if (unknown_option || arguments.size() < least || arguments.size() > most) throw wrong_usage();
  };
  if (command == "build") {
    const bool replace = take_flag(arguments, "--replace");
    expect(1, 2);
    return run_build(arguments[0], arguments.size() == 2 ? arguments[1] : "/var/lib/dpkg/status", replace);
  }
  if (command == "show") {
    const bool all = take_flag(arguments, "--all");
    expect(2, 2);
    return run_show(arguments[0], arguments[1], all);
  }
  if (command == "churn") {
    const std::optional<std::size_t> count = take_count(arguments);
    expect(1, 1);
    return run_churn(arguments[0], count.value_or(std::numeric_limits<std::size_t>::max()));
  }
  if (command == "verify") {
    const bool repair = take_flag(arguments, "--repair");
    expect(1, 1);
    return run_verify(arguments[0], repair);
  }
  throw wrong_usage();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const wrong_usage&) {
    std::cerr << usage;
    return 2;
  } catch (const std::exception& e) {  // dm::error among them: the message says which file and what to do
    std::cerr << "package_graph: " << e.what() << '\n';
    return 1;
  }
}
