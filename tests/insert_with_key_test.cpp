// Values made with their own key in hand, by makers that may do anything with the map.
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "deferred_map/deferred_map.hpp"
#include "values.hpp"

using test::fuse;

namespace {

using string_map = dm::deferred_map<std::string>;

}  // namespace

TEST_CASE("insert_with_key lets a value hold its own key") {
  struct node {
    dm::key self;
    int depth;
  };
  dm::deferred_map<node> map;
  const dm::key key = map.insert_with_key([](dm::key self) { return node{self, 0}; });
  CHECK(map.at(key).self == key);
}

TEST_CASE("the maker of insert_with_key may use the map") {
  dm::deferred_map<std::vector<dm::key>> map;
  const dm::key root = map.insert_with_key([&](dm::key self) {
    CHECK_FALSE(map.contains(self));
    std::vector<dm::key> children;
    for (int i = 0; i < 100; ++i) children.push_back(map.insert({self}));
    map.erase(children[50]);
    return children;
  });
  CHECK(map.size() == 100);
  CHECK(map.at(root).size() == 100);
  CHECK(map.at(map.at(root)[99])[0] == root);
  CHECK(map.verify() == "");
}

TEST_CASE("a maker that throws leaves the map as it was") {
  string_map map;
  map.insert("one");
  CHECK_THROWS_AS(map.insert_with_key([](dm::key) -> std::string { throw fuse::blown(); }), fuse::blown);
  CHECK(map.size() == 1);
  CHECK(map.reserved_count() == 0);
  CHECK(map.verify() == "");
}

// The guard gave back a slot that was no longer its own, and so entered an occupied slot as vacant.
TEST_CASE("a maker that gives up every reservation makes the insert fail and nothing else") {
  string_map map;
  dm::key other;
  CHECK_THROWS_AS(map.insert_with_key([&](dm::key) {
    map.release_reserved();
    other = map.insert("two");
    return std::string("one");
  }),
                  dm::bad_handle);
  CHECK(map.verify() == "");
  map.insert("three");
  CHECK(map.at(other) == "two");
  CHECK(map.verify() == "");

  dm::handle handle;
  CHECK_THROWS_AS(map.insert_with_key([&](dm::key) {
    map.release_reserved();
    handle = map.allocate_handle();
    return std::string("one");
  }),
                  dm::bad_handle);
  CHECK(map.holds(handle));
  CHECK(map.verify() == "");

  string_map elsewhere;
  CHECK_THROWS_AS(map.insert_with_key([&](dm::key) {
    elsewhere = std::move(map);
    return std::string("one");
  }),
                  dm::bad_handle);
  CHECK(elsewhere.release_reserved() == 2);
  CHECK(elsewhere.verify() == "");
  CHECK(map.verify() == "");
}
