// Maps beside <fmt/ranges.h>, which would format anything that has a begin and an end.
#include <fmt/ranges.h>

#include <string>
#include <vector>

#include "catch.hpp"
#include "deferred_map/deferred_map.hpp"
#include "deferred_map/fmt.hpp"
#include "deferred_map/secondary_map.hpp"
#include "deferred_map/sparse_secondary_map.hpp"

TEST_CASE("maps print as maps beside fmt's ranges") {
  dm::deferred_map<int> map;
  map.insert(10);
  map.insert(11);
  CHECK(fmt::format("{}", map) == "{0:1: 10, 1:1: 11}");
  CHECK(fmt::format("{:#x}", map) == "{0:1: 0xa, 1:1: 0xb}");
  CHECK(fmt::format("{}", *map.begin()) == "0:1: 10");
  dm::secondary_map<std::string> names;
  names.insert(dm::key::from_parts(3, 1), "x");
  CHECK(fmt::format("{}", names) == "{3:1: x}");
  dm::sparse_secondary_map<std::string> sparse_names;
  sparse_names.insert(dm::key::from_parts(3, 1), "x");
  CHECK(fmt::format("{}", sparse_names) == "{3:1: x}");
}

TEST_CASE("ranges in maps, maps in ranges, and ranges of keys print with fmt's ranges") {
  dm::deferred_map<std::vector<int>> lists;
  lists.insert({1, 2});
  CHECK(fmt::format("{}", lists) == "{0:1: [1, 2]}");
  std::vector<dm::deferred_map<int>> maps(2);
  maps[1].insert(5);
  CHECK(fmt::format("{}", maps) == "[{}, {0:1: 5}]");
  CHECK(fmt::format("{}", maps[1].keys()) == "[0:1]");
  CHECK(fmt::format("{}", maps[1].values()) == "[5]");
  CHECK(fmt::format("{}", fmt::join(maps[1].keys(), "-")) == "0:1");
}
