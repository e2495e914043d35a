// Joins: walking a map together with secondary maps.
#include "deferred_map/join.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <ranges>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "deferred_map/mapped_map.hpp"
#include "deferred_map/secondary_map.hpp"
#include "deferred_map/sparse_secondary_map.hpp"
#include "plain_arena.hpp"
#include "temporary_directory.hpp"

namespace {

using bodies = dm::deferred_map<std::string>;
using masses = dm::secondary_map<double>;
using names = dm::sparse_secondary_map<std::uint32_t>;

using joined = decltype(dm::join(std::declval<bodies&>(), std::declval<const masses&>(), std::declval<names&>()));
static_assert(std::forward_iterator<joined::iterator>);
static_assert(std::ranges::forward_range<joined> && std::ranges::forward_range<const joined>);
static_assert(std::is_same_v<std::ranges::range_reference_t<joined>,
                             std::tuple<dm::key, std::string&, const double&, std::uint32_t&>>);
static_assert(std::is_same_v<std::ranges::range_reference_t<decltype(dm::join(std::declval<const bodies&>()))>,
                             std::tuple<dm::key, const std::string&>>);

/// The keys that all maps have, by asking each.
template <class Primary, class... Secondaries>
std::vector<dm::key> naive(const Primary& primary, const Secondaries&... secondaries) {
  std::vector<dm::key> found;
  for (const auto [key, value] : primary)
    if ((secondaries.contains(key) && ...)) found.push_back(key);
  return found;
}

/// The keys of a join. Each reference must be the one that the map itself gives.
template <class Primary, class... Secondaries>
std::vector<dm::key> walked(Primary& primary, Secondaries&... secondaries) {
  std::vector<dm::key> found;
  for (const auto entry : dm::join(primary, secondaries...)) {
    const dm::key key = std::get<0>(entry);
    const auto addresses =
        std::apply([](dm::key, auto&... values) { return std::tuple<decltype(&values)...>(&values...); }, entry);
    REQUIRE((addresses == std::tuple(primary.get(key), secondaries.get(key)...)));
    found.push_back(key);
  }
  return found;
}

std::vector<dm::key> sorted(std::vector<dm::key> keys) {
  std::ranges::sort(keys, {}, [](dm::key key) { return key.index(); });
  return keys;
}

template <class Primary, class Random>
void check_all_joins(Primary& primary, const std::vector<dm::key>& keys, Random& random) {
  dm::secondary_map<double> a;
  dm::secondary_map<std::string> b;
  dm::sparse_secondary_map<std::uint64_t> c;
  dm::sparse_secondary_map<std::string> d;
  const auto fill = [&](auto& map, auto value) {
    const auto one_of = random() % 2 == 0 ? 1 + random() % 3 : 1 + random() % 200;
    for (const dm::key key : keys) {
      if (random() % one_of != 0) continue;
      // Some entries are for lives that are over, or have not begun.
      const auto skew = static_cast<std::uint32_t>(random() % 8);
      map.insert(skew < 6 ? key : dm::key::from_parts(key.index(), key.generation() - 5 + skew), value);
    }
  };
  fill(a, 1.5);
  fill(b, std::string("b"));
  fill(c, std::uint64_t{7});
  fill(d, std::string("d"));
  // Without sparse maps in the order of the slots.
  REQUIRE(walked(primary) == naive(primary));
  REQUIRE(walked(primary, a) == naive(primary, a));
  REQUIRE(walked(std::as_const(primary), a, b) == naive(primary, a, b));
  REQUIRE(sorted(walked(primary, c)) == naive(primary, c));
  REQUIRE(sorted(walked(primary, c, d)) == naive(primary, c, d));
  REQUIRE(sorted(walked(primary, d, c)) == naive(primary, c, d));
  REQUIRE(sorted(walked(primary, a, std::as_const(c), b, d)) == naive(primary, a, b, c, d));
}

}  // namespace

TEST_CASE("a join gives key and values of what is in all maps, to be changed") {
  bodies map;
  masses mass;
  names name;
  const dm::key sun = map.insert("sun");
  const dm::key earth = map.insert("earth");
  const dm::key moon = map.insert("moon");
  mass.insert(sun, 333.0);
  mass.insert(moon, 0.5);
  name.insert(earth, 3);
  name.insert(moon, 4);
  std::string seen;
  for (auto [key, body, m, n] : dm::join(map, mass, name)) {
    CHECK(key == moon);
    seen += body;
    body = "Luna";
    m *= 2;
    n += 1;
  }
  CHECK(seen == "moon");
  CHECK(map.at(moon) == "Luna");
  CHECK(mass.at(moon) == 1.0);
  CHECK(name.at(moon) == 5);
  const auto both = dm::join(map, mass);
  CHECK(std::ranges::distance(both) == 2);
  CHECK(std::get<0>(*both.begin()) == sun);
  CHECK_FALSE(both.empty());
}

TEST_CASE("an entry for another life of the slot is not joined") {
  bodies map;
  masses mass;
  names name;
  const dm::key old = map.insert("old");
  mass.insert(old, 1);
  name.insert(old, 1);
  map.erase(old);
  const dm::key fresh = map.insert("fresh");
  REQUIRE(fresh.index() == old.index());
  CHECK(dm::join(map, mass).empty());
  CHECK(dm::join(map, name).empty());
  mass.insert(fresh, 2);
  CHECK(dm::join(map, mass, name).empty());
  name.insert(fresh, 2);
  CHECK(std::ranges::distance(dm::join(map, mass, name)) == 1);
}

TEST_CASE("joins of empty maps, and of maps of which one is empty, are empty") {
  bodies map;
  masses mass;
  names name;
  CHECK(dm::join(map).empty());
  CHECK(dm::join(map, mass).empty());
  CHECK(dm::join(map, mass, name).empty());
  const dm::key key = map.insert("a");
  CHECK(dm::join(map, mass).empty());
  CHECK(dm::join(map, name).empty());
  mass.insert(key, 1);
  CHECK(dm::join(map, mass, name).empty());
  map.clear();
  CHECK(dm::join(map, mass).empty());
  CHECK(joined::iterator() == joined::iterator());
}

TEST_CASE("a join is what asking each map for each key gives, whatever the slots have been through") {
  const std::uint32_t seed = GENERATE(1u, 2u, 3u, 4u, 5u, 6u);
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (const std::size_t count : {0u, 1u, 63u, 64u, 65u, 127u, 128u, 129u, 1000u, 5003u}) {
    dm::deferred_map<std::string> map;
    std::vector<dm::key> keys;
    std::vector<dm::handle> handles;
    for (std::size_t i = 0; i < count; ++i) {
      if (random() % 10 == 0)
        handles.push_back(map.allocate_handle());
      else
        keys.push_back(map.insert("x"));
    }
    // Vacated ones stay in the buffer for a while, where their bits say taken; some live again.
    for (dm::key& key : keys) {
      if (random() % 4 != 0) continue;
      const dm::key dead = key;
      map.erase(key);
      if (random() % 2 == 0) key = map.insert("y");
      if (random() % 8 == 0) keys[0] = dead;
    }
    for (const dm::handle& handle : handles) keys.push_back(handle.key());
    check_all_joins(map, keys, random);
    check_all_joins(std::as_const(map), keys, random);
    map.shrink_to_fit();
    check_all_joins(map, keys, random);
  }
}

TEST_CASE("retired slots, and maps in persistent memory, join as any other") {
  std::mt19937 random(7);
  test::plain_arena<int> arena(200);
  arena.make_slots(100, dm::version::last_generation);
  test::plain_map<int> map(test::plain_allocator<int>{&arena});
  map.recover();
  std::vector<dm::key> keys;
  for (int i = 0; i < 130; ++i) keys.push_back(map.insert(i));
  for (std::size_t i = 0; i < 130; i += 3) map.erase(keys[i]);
  REQUIRE(map.retired_count() > 20);
  check_all_joins(map, keys, random);
}

TEST_CASE("a mapped map joins as any other") {
  const temporary_directory directory;
  auto map = dm::mapped_map<int>::create(directory / "map");
  std::mt19937 random(8);
  std::vector<dm::key> keys;
  for (int i = 0; i < 1000; ++i) keys.push_back(map.insert(i));
  for (std::size_t i = 0; i < 1000; i += 3) map.erase(keys[i]);
  check_all_joins(map, keys, random);
  dm::mapped_map<int> closed;
  masses mass;
  CHECK(dm::join(closed, mass).empty());
}

TEST_CASE("tagged keys join with their like") {
  using order_key = dm::basic_key<struct order_tag>;
  dm::deferred_map<int, order_key> orders;
  dm::secondary_map<int, order_key> prices;
  dm::sparse_secondary_map<int, order_key> notes;
  const order_key key = orders.insert(1);
  prices.insert(key, 2);
  notes.insert(key, 3);
  for (auto [k, order, price, note] : dm::join(orders, prices, notes)) CHECK(order + price + note == 6);
  CHECK(std::ranges::distance(dm::join(orders, prices, notes)) == 1);
}

TEST_CASE("values of any of the maps may be erased during the walk") {
  dm::deferred_map<std::unique_ptr<int>> map;
  dm::secondary_map<std::unique_ptr<int>> a;
  dm::sparse_secondary_map<std::unique_ptr<int>> b;
  std::vector<dm::key> keys;
  const auto fill = [&] {
    keys.clear();
    for (int i = 0; i < 1000; ++i) {
      keys.push_back(map.insert(std::make_unique<int>(i)));
      a.insert(keys.back(), std::make_unique<int>(i));
      b.insert(keys.back(), std::make_unique<int>(i));
    }
  };
  const auto erase_neighbours = [&](auto range) {
    int visited = 0;
    for (auto it = range.begin(); it != range.end(); ++it, ++visited) {
      const auto entry = *it;
      const dm::key key = std::get<0>(entry);
      REQUIRE(*std::get<1>(entry) == *std::get<2>(entry));
      const auto position = static_cast<std::size_t>(std::ranges::find(keys, key) - keys.begin());
      const dm::key neighbour = keys[position ^ 1];
      if (position % 6 < 2) map.erase(neighbour);
      if (position % 6 / 2 == 1) a.erase(neighbour);
      if (position % 6 / 2 == 2) b.erase(neighbour);
      map.erase(key);
    }
    map.clear();
    a.clear();
    b.clear();
    return visited;
  };
  fill();
  CHECK(erase_neighbours(dm::join(map, a, b)) == 500);
  fill();
  for (const dm::key key : keys) b.erase(key);
  // Without `b` those whose entries there are erased are visited: 166 pairs.
  CHECK(erase_neighbours(dm::join(map, a)) == 666);
  fill();
  for ([[maybe_unused]] auto [key, x, y, z] : dm::join(map, a, b)) b.clear();
  for ([[maybe_unused]] auto [key, x, y] : dm::join(map, a)) {
    a.clear();
    a.shrink_to_fit();
  }
  CHECK(a.empty());
}

TEST_CASE("growing one of the maps during the walk does not disturb it") {
  dm::deferred_map<int> map;
  dm::secondary_map<int> a;
  for (int i = 0; i < 100; ++i) a.insert(map.insert(i), i);
  int sum = 0;
  int visited = 0;
  for (auto [key, x, y] : dm::join(map, a)) {
    sum += x - y;
    ++visited;
    if (visited < 90) a.insert(map.insert(1), 1);
  }
  CHECK(sum == 0);
  CHECK(visited >= 100);
}

TEST_CASE("ranges algorithms and adaptors take a join") {
  dm::deferred_map<int> map;
  dm::secondary_map<int> a;
  for (int i = 0; i < 100; ++i) a.insert(map.insert(i), i);
  const auto range = dm::join(map, a);
  CHECK(std::ranges::count_if(range, [](const auto& entry) { return std::get<1>(entry) < 10; }) == 10);
  auto it = range.begin();
  const auto before = it++;
  CHECK(before != it);
  CHECK(std::get<1>(*before) == 0);
#if !defined(__clang__) || __clang_major__ >= 16
  auto even = dm::join(map, a) | std::views::filter([](const auto& entry) { return std::get<2>(entry) % 2 == 0; });
  CHECK(std::ranges::distance(even) == 50);
#endif
}
