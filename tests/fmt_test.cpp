// Keys, handles and states as {fmt} prints them.
#include "deferred_map/fmt.hpp"

#include "catch.hpp"
#include "deferred_map/deferred_map.hpp"

TEST_CASE("fmt prints keys as index:generation, with the width and fill of strings") {
  const dm::key k = dm::key::from_parts(3, 1);
  CHECK(fmt::format("{}", k) == "3:1");
  CHECK(fmt::format("{}", dm::key()) == "null");
  CHECK(fmt::format("{:>6}|{:*<5}", k, k) == "   3:1|3:1**");
  CHECK(fmt::format("{}", dm::key::from_parts(4294967295u, dm::version::last_generation)) == "4294967295:1073741822");
  CHECK(fmt::format("{}", dm::slot_state::reserved) == "reserved");
}

TEST_CASE("fmt prints a handle as its key") {
  dm::deferred_map<int> map;
  auto handle = map.allocate_handle();
  CHECK(fmt::format("{}", handle) == "0:1");
  map.release_handle(std::move(handle));
  CHECK(fmt::format("{}", handle) == "null");
}
