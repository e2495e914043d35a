// Walking a map, and draining it.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>
#include <ranges>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "deferred_map/deferred_map.hpp"
#include "values.hpp"

namespace {

using string_map = dm::deferred_map<std::string>;
using move_only_map = dm::deferred_map<std::unique_ptr<int>>;

}  // namespace

static_assert(std::forward_iterator<string_map::iterator>);
static_assert(std::forward_iterator<string_map::const_iterator>);
static_assert(std::ranges::forward_range<string_map> && std::ranges::forward_range<const string_map>);
static_assert(std::ranges::common_range<string_map>);
static_assert(std::ranges::forward_range<decltype(std::declval<string_map&>().keys())>);
static_assert(std::ranges::forward_range<decltype(std::declval<string_map&>().values())>);
static_assert(std::ranges::forward_range<decltype(std::declval<const string_map&>().values())>);
static_assert(std::ranges::forward_range<move_only_map>);
static_assert(std::ranges::sized_range<string_map>);
static_assert(std::ranges::input_range<string_map::drain_range>);
static_assert(std::is_convertible_v<string_map::iterator, string_map::const_iterator>);
static_assert(!std::is_convertible_v<string_map::const_iterator, string_map::iterator>);
static_assert(std::is_same_v<decltype(std::declval<const string_map&>().begin()->value), const std::string&>);
static_assert(std::is_same_v<decltype((*std::declval<const string_map&>().values().begin())), const std::string&>);

TEST_CASE("iteration visits each value once, in slot order, however sparse the map is") {
  for (const std::uint32_t stride : {1u, 2u, 63u, 64u, 65u, 500u, 5000u}) {
    dm::deferred_map<std::uint32_t> map;
    std::vector<dm::key> keys;
    for (std::uint32_t i = 0; i < 9000; ++i) keys.push_back(map.insert(i));
    std::vector<dm::key> expected;
    for (std::uint32_t i = 0; i < 9000; ++i) {
      if (i % stride == stride - 1)
        expected.push_back(keys[i]);
      else
        map.erase(keys[i]);
    }
    std::vector<dm::key> seen;
    for (const auto [key, value] : std::as_const(map)) {
      REQUIRE(value == key.index());
      seen.push_back(key);
    }
    CHECK(seen == expected);
    std::vector<dm::key> all_keys;
    std::ranges::copy(map.keys(), std::back_inserter(all_keys));
    CHECK(all_keys == expected);
    CHECK(std::ranges::distance(map.values()) == static_cast<std::ptrdiff_t>(expected.size()));
  }
}

TEST_CASE("reserved and vacant slots are not visited") {
  string_map map;
  const dm::handle reserved = map.allocate_handle();
  CHECK(reserved);
  const dm::key a = map.insert("a");
  map.erase(map.insert("gone"));
  CHECK(std::ranges::distance(map) == 1);
  CHECK(map.begin()->key == a);
  map.clear();
  CHECK(map.begin() == map.end());
}

TEST_CASE("values can be changed through iterators") {
  string_map map;
  for (int i = 0; i < 10; ++i) map.insert(std::to_string(i));
  for (auto [key, value] : map) value += "!";
  for (std::string& value : map.values()) value += "?";
  map.begin()->value += ".";
  CHECK(map.begin()->value == "0!?.");
  CHECK(std::ranges::all_of(std::as_const(map).values(), [](const std::string& s) { return s.find("!?") != s.npos; }));
}

// Clang before 16 cannot compile libstdc++'s views of any container.
#if !defined(__clang__) || __clang_major__ >= 16
TEST_CASE("ranges adaptors take a map") {
  dm::deferred_map<int> map;
  for (int i = 0; i < 100; ++i) map.insert(i);
  auto even = map | std::views::filter([](const auto& entry) { return entry.value % 2 == 0; }) |
              std::views::transform([](const auto& entry) { return entry.value; });
  CHECK(std::ranges::distance(even) == 50);
}
#endif

TEST_CASE("ranges algorithms take a map") {
  dm::deferred_map<int> map;
  for (int i = 0; i < 100; ++i) map.insert(i);
  CHECK(std::ranges::max(map.values()) == 99);
  CHECK(std::ranges::count_if(map, [](const auto& entry) { return entry.value < 10; }) == 10);
  const std::vector<int> values(map.values().begin(), map.values().end());
  CHECK(values.size() == 100);
}

TEST_CASE("iterators of the two kinds compare, copy and step") {
  string_map map;
  map.insert("a");
  map.insert("b");
  string_map::iterator it = map.begin();
  const string_map::const_iterator same = it;
  CHECK(it == same);
  CHECK(it++ == same);
  CHECK(it != same);
  CHECK(it->value == "b");
  CHECK(++it == map.cend());
  CHECK(string_map::iterator() == map.end());
  CHECK(map.cbegin() == same);
}

TEST_CASE("erasing by iterator gives the next and visits everything") {
  dm::deferred_map<int> map;
  for (int i = 0; i < 1000; ++i) map.insert(i);
  int visited = 0;
  for (auto it = map.begin(); it != map.end(); ++visited) {
    if (it->value % 3 == 0)
      it = map.erase(it);
    else
      ++it;
  }
  CHECK(visited == 1000);
  CHECK(map.size() == 666);
  CHECK(map.verify() == "");
  for (auto it = map.begin(); it != map.end();) it = map.erase(it);
  CHECK(map.empty());
  CHECK(map.verify() == "");
}

TEST_CASE("an iterator found by key goes on from there") {
  dm::deferred_map<int> map;
  std::vector<dm::key> keys;
  for (int i = 0; i < 200; ++i) keys.push_back(map.insert(i));
  for (const std::size_t from : {0u, 1u, 63u, 64u, 199u}) {
    auto it = map.find(keys[from]);
    for (std::size_t i = from; i < 200; ++i, ++it) REQUIRE(it->value == static_cast<int>(i));
    CHECK(it == map.end());
  }
}

TEST_CASE("growing does not invalidate an iterator") {
  string_map map;
  map.insert("first");
  auto it = map.begin();
  for (int i = 0; i < 1000; ++i) map.insert("x");
  CHECK(it->value == "first");
  it->value = "changed";
  CHECK(map.begin()->value == "changed");
}

TEST_CASE("drain hands over every value with its key and leaves the map empty") {
  move_only_map map;
  std::vector<dm::key> keys;
  for (int i = 0; i < 300; ++i) keys.push_back(map.insert(std::make_unique<int>(i)));
  dm::handle handle = map.allocate_handle();
  std::size_t count = 0;
  for (auto [key, value] : map.drain()) {
    CHECK(key == keys[count]);
    CHECK(*value == static_cast<int>(count));
    ++count;
  }
  CHECK(count == 300);
  CHECK(map.empty());
  CHECK(map.verify() == "");
  for (const dm::key key : keys) CHECK_FALSE(map.contains(key));
  map.insert(std::move(handle), std::make_unique<int>(1));
  CHECK(map.size() == 1);
}

TEST_CASE("a drain that is stopped early, or never begun, empties the map all the same") {
  {
    dm::deferred_map<test::steady> map;
    for (int i = 0; i < 10; ++i) map.insert(i);
    int taken = 0;
    for (auto [key, value] : map.drain()) {
      CHECK(value == taken);
      if (++taken == 3) break;
    }
    CHECK(map.empty());
    CHECK(test::steady::alive == 0);
    map.insert(1);
    { [[maybe_unused]] const auto unused = map.drain(); }
    CHECK(map.empty());
    CHECK(map.verify() == "");
    CHECK(map.drain().begin() == std::default_sentinel);
  }
  CHECK(test::steady::alive == 0);
}

TEST_CASE("a value that throws on its way out ends the drain and nothing leaks") {
  {
    dm::deferred_map<test::fragile> map;
    for (int i = 0; i < 10; ++i) map.emplace(i);
    test::fuse::set(3);
    CHECK_THROWS_AS(
        [&] {
          for (auto [key, value] : map.drain()) CHECK(value.number() >= 0);
        }(),
        test::fuse::blown);
    test::fuse::remove();
    CHECK(map.empty());
    CHECK(map.verify() == "");
  }
  CHECK(test::fragile::alive == 0);
}

TEST_CASE("values that can only be moved live in a map as any other") {
  move_only_map map;
  const dm::key key = map.insert(std::make_unique<int>(5));
  for (int i = 0; i < 100; ++i) map.emplace(new int(i));
  CHECK(*map.at(key) == 5);
  CHECK(**map.remove(key) == 5);
  move_only_map moved(std::move(map));
  CHECK(moved.size() == 100);
  CHECK(moved.retain([](dm::key, std::unique_ptr<int>& value) { return *value % 2 == 0; }) == 50);
  CHECK(moved.verify() == "");
}
