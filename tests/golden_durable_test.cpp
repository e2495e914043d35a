// The format of durable maps and their journals is frozen: files that an earlier version left are opened by this one, and
// told of in the same words.
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include "catch.hpp"
#include "deferred_map/inspect.hpp"
#include "files.hpp"
#include "golden/durable/history.hpp"
#include "inspect_tool.hpp"
#include "temporary_directory.hpp"

namespace {

using namespace golden;
using std::filesystem::path;

path source(const std::string& name) {
  const char* root = std::getenv("SOURCE_ROOT");  // set by meson; else from the root of the tree
  return path(root != nullptr ? root : ".") / "tests/golden/durable" / name;
}

/// With the journal, where there is one.
path copy_of(const std::string& name, const temporary_directory& directory) {
  const path copy = directory / "copy.arena";
  write_file(copy, read_file(source(name)));
  const path journal = source(name + "-journal");
  if (std::filesystem::exists(journal)) write_file(copy.string() + "-journal", read_file(journal));
  return copy;
}

using contents = std::map<std::string, std::uint64_t>;

contents contents_of(const durable& map) {
  contents found;
  for (const auto [k, v] : map)
    found[std::to_string(k.index()) + ":" + std::to_string(k.generation()) + " " + v.name] = v.number;
  return found;
}

contents expected_of(const std::string& name) {
  contents expected{{"0:1 one", 11}, {"1:2 five", 5}, {"2:1 three", 3}, {"3:1 four", 4}};
  if (name == "two-generations.arena") expected["4:1 count"] = 4;
  return expected;
}

std::uint64_t commits_of(const std::string& name) { return name == "two-generations.arena" ? 8 : 4; }

}  // namespace

TEST_CASE("golden files of durable maps are opened at their last commit, and go on from there") {
  const std::string name = GENERATE("closed.arena", "killed.arena", "two-generations.arena");
  CAPTURE(name);
  temporary_directory directory;
  const path copy = copy_of(name, directory);
  CHECK(contents_of(durable::open_read_only(copy)) == expected_of(name));
  durable map = durable::open(copy, {.verify = true});
  CHECK(contents_of(map) == expected_of(name));
  CHECK(map.last_commit() == commits_of(name));
  CHECK(map.recovery().outcome ==
        (name == "closed.arena" ? dm::recovery_outcome::clean : dm::recovery_outcome::replayed));
  CHECK_FALSE(map.contains(dm::key::from_parts(1, 1)));
  CHECK(map.reserved_count() == 0);
  // The next keys are those of this history, whatever was begun and not committed.
  const auto next = static_cast<std::uint32_t>(expected_of(name).size());
  CHECK(map.insert({6, {}, "six"}) == dm::key::from_parts(next, 1));
  CHECK(map.commit() == commits_of(name) + 1);
  map.close();
  CHECK(contents_of(durable::open(copy, {.verify = true})).size() == expected_of(name).size() + 1);
}

TEST_CASE("golden files of durable maps are sound, and their journals hold what they held") {
  const std::string name = GENERATE("closed.arena", "killed.arena", "two-generations.arena");
  CAPTURE(name);
  const auto arena = dm::inspect::arena_file::open(source(name));
  const auto report = dm::inspect::check(arena);
  CHECK(report.is_clean());
  CHECK(report.findings.total(dm::inspect::severity::warning) == 0);
  REQUIRE(arena.journal());
  CHECK(arena.journal()->shown_commit == commits_of(name));
  if (name == "closed.arena") return;
  CHECK(arena.journal()->commits == commits_of(name));
  CHECK(arena.journal()->generations.size() == (name == "killed.arena" ? 1 : 2));
}

TEST_CASE("the log of a golden journal is the same text, in each form") {
  if (inspect_tool::path() == nullptr) return;
  const std::string format = GENERATE("table", "json", "ndjson", "csv");
  temporary_directory directory;
  const auto ran = inspect_tool::run_shell(
      directory, "cd '" + source("").string() + "' && " +
                     inspect_tool::command_line("log killed.arena --changes --format " + format));
  CHECK(ran.code == 0);
  CHECK(ran.errors == "");
  CHECK(ran.out == read_file(source("log." + format)));
}
