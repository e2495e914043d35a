// The two secondary maps: all that holds for both. What is the sparse one's alone is in sparse_secondary_map_test.cpp.
#include "deferred_map/secondary_map.hpp"

#include <rapidcheck.h>

#include <algorithm>
#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/managed_external_buffer.hpp>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <memory_resource>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "checking_allocator.hpp"
#include "deferred_map/deferred_map.hpp"
#include "deferred_map/sparse_secondary_map.hpp"
#include "values.hpp"

using test::checking_allocator;
using test::fragile;
using test::fuse;
using test::ledger;

namespace {

struct dense {
  template <class T, class Allocator = dm::default_allocator<T>>
  using map = dm::secondary_map<T, dm::key, Allocator>;
};
struct sparse {
  template <class T, class Allocator = dm::default_allocator<T>>
  using map = dm::sparse_secondary_map<T, dm::key, Allocator>;
};

constexpr dm::key key_of(std::uint32_t index, std::uint32_t generation = 1) {
  return dm::key::from_parts(index, generation);
}

template <class Map>
std::map<dm::key, int> contents(const Map& map) {
  std::map<dm::key, int> all;
  for (const auto [key, value] : map) all.emplace(key, value.number());
  return all;
}

/// A key as it may be read from memory that somebody else wrote.
dm::key raw_key(std::uint64_t bits) {
  dm::key key;
  std::memcpy(static_cast<void*>(&key), &bits, sizeof(key));
  return key;
}

template <class Map>
constexpr bool walks_as_a_container =
    std::forward_iterator<typename Map::iterator>&& std::forward_iterator<typename Map::const_iterator>&&
        std::ranges::forward_range<Map>&& std::ranges::forward_range<const Map>&& std::ranges::common_range<Map>&&
            std::ranges::sized_range<Map>&& std::ranges::forward_range<decltype(std::declval<const Map&>().keys())>&&
                std::ranges::forward_range<decltype(std::declval<Map&>().values())>&&
                    std::is_convertible_v<typename Map::iterator, typename Map::const_iterator> &&
    !std::is_convertible_v<typename Map::const_iterator, typename Map::iterator> &&
    std::is_nothrow_move_constructible_v<Map> && std::is_nothrow_swappable_v<Map> &&
    std::is_nothrow_move_assignable_v<Map>;
static_assert(walks_as_a_container<dm::secondary_map<std::string>>);
static_assert(walks_as_a_container<dm::sparse_secondary_map<std::unique_ptr<int>>>);
static_assert(std::is_same_v<decltype(std::declval<const dm::secondary_map<int>&>().begin()->value), const int&>);

}  // namespace

#define FOR_BOTH(name) TEMPLATE_TEST_CASE(name, "", dense, sparse)

FOR_BOTH("insert replaces the value of the same key and returns it") {
  typename TestType::template map<std::string> map;
  CHECK_FALSE(map.insert(key_of(5), "first"));
  CHECK(map.insert(key_of(5), "second") == "first");
  CHECK(map.at(key_of(5)) == "second");
  CHECK(map.size() == 1);
  CHECK(map.verify() == "");
}

FOR_BOTH("a newer key takes the slot from an older one, and an older one is ignored") {
  typename TestType::template map<std::string> map;
  map.insert(key_of(5, 7), "seven");
  CHECK_FALSE(map.insert(key_of(5, 6), "six"));
  CHECK(map.at(key_of(5, 7)) == "seven");
  CHECK_FALSE(map.contains(key_of(5, 6)));
  CHECK_FALSE(map.insert(key_of(5, 8), "eight"));
  CHECK(map.at(key_of(5, 8)) == "eight");
  CHECK_FALSE(map.contains(key_of(5, 7)));
  CHECK(map.size() == 1);
  map.insert(key_of(5, dm::version::last_generation), "last");
  CHECK(map.at(key_of(5, dm::version::last_generation)) == "last");
  CHECK(map.begin()->key == key_of(5, dm::version::last_generation));
  CHECK(map.verify() == "");
}

FOR_BOTH("keys that no map hands out are ignored") {
  typename TestType::template map<int> map;
  const auto ignores = [&map](dm::key key) {
    const auto before = map;
    CHECK_FALSE(map.insert(key, 1));
    CHECK(map.try_emplace(key, 1) == std::pair<int*, bool>(nullptr, false));
    CHECK_THROWS_AS(map[key], dm::stale_key);
    CHECK_FALSE(map.contains(key));
    CHECK_FALSE(map.erase(key));
    CHECK_FALSE(map.remove(key));
    CHECK(map.find(key) == map.end());
    CHECK(map == before);
    CHECK(map.verify() == "");
  };
  const std::uint64_t retired = std::uint64_t{dm::version::occupied(dm::version::retired_generation)} << 32;
  for (int round = 0; round < 2; ++round) {
    ignores(dm::key());
    ignores(raw_key(5));                           // generation 0, state vacant
    ignores(raw_key(std::uint64_t{3} << 32 | 5));  // generation 0, state occupied
    ignores(raw_key(retired | 5));
    map.insert(key_of(5), 5);
    map.insert(key_of(0), 0);
  }
  CHECK(map.size() == 2);
}

FOR_BOTH("a slot index that no map has is a length error and leaves the map as it was") {
  typename TestType::template map<int> map;
  map.insert(key_of(1), 1);
  CHECK_THROWS_AS(map.insert(key_of(0xffff'ffffu), 1), std::length_error);
  CHECK_THROWS_AS(map.try_emplace(key_of(0xffff'ffffu), 1), std::length_error);
  CHECK_FALSE(map.contains(key_of(0xffff'ffffu)));
  CHECK_FALSE(map.contains(key_of(0xffff'fffeu)));
  CHECK_THROWS_AS(map.reserve(std::size_t{1} << 33), std::length_error);
  CHECK(map.size() == 1);
  CHECK(map.verify() == "");
}

FOR_BOTH("try_emplace builds only where the key has no value") {
  typename TestType::template map<std::string> map;
  const auto [first, built] = map.try_emplace(key_of(3, 2), 3u, 'x');
  CHECK(built);
  CHECK(*first == "xxx");
  const auto [again, built_again] = map.try_emplace(key_of(3, 2), 3u, 'y');
  CHECK_FALSE(built_again);
  CHECK(again == first);
  CHECK(*again == "xxx");
  const auto [older, built_older] = map.try_emplace(key_of(3, 1), "older");
  CHECK_FALSE(built_older);
  CHECK(older == nullptr);
  const auto [newer, built_newer] = map.try_emplace(key_of(3, 3), "newer");
  CHECK(built_newer);
  CHECK(*newer == "newer");
  CHECK(map.size() == 1);
  CHECK(map.verify() == "");
}

FOR_BOTH("what is emplaced may refer to values of the map, those that move and the one that goes") {
  typename TestType::template map<std::string> map;
  const std::string text = "a text that is too long for the string itself";
  map.insert(key_of(0), text);
  for (std::uint32_t i = 1; i < 2000; ++i) REQUIRE(*map.try_emplace(key_of(i), map.at(key_of(0))).first == text);
  CHECK(*map.try_emplace(key_of(0, 2), map.at(key_of(0))).first == text);
  CHECK(map.size() == 2000);
  CHECK(map.verify() == "");
}

FOR_BOTH("the subscript makes what is not there, and refuses older keys") {
  typename TestType::template map<int> map;
  map[key_of(9, 2)] += 5;
  map[key_of(9, 2)] += 5;
  CHECK(map.at(key_of(9, 2)) == 10);
  CHECK_THROWS_AS(map[key_of(9, 1)], dm::stale_key);
  CHECK(map[key_of(9, 3)] == 0);
  CHECK(map.size() == 1);
}

FOR_BOTH("at throws for what get does not find") {
  typename TestType::template map<int> map;
  CHECK(map.get(key_of(0)) == nullptr);
  CHECK_THROWS_AS(map.at(key_of(0)), dm::stale_key);
  map.insert(key_of(0, 2), 1);
  CHECK_THROWS_AS(std::as_const(map).at(key_of(0, 1)), dm::stale_key);
  CHECK_THROWS_AS(map.at(key_of(0, 3)), dm::stale_key);
  CHECK(*std::as_const(map).get(key_of(0, 2)) == 1);
}

FOR_BOTH("an emptied place remembers no generation") {
  typename TestType::template map<std::string> map;
  const auto empties = [&](auto empty) {
    map.insert(key_of(4, 9), "nine");
    empty();
    CHECK(map.empty());
    CHECK_FALSE(map.contains(key_of(4, 9)));
    map.insert(key_of(4, 2), "two");
    CHECK(map.at(key_of(4, 2)) == "two");
    CHECK(map.verify() == "");
  };
  empties([&] { CHECK(map.remove(key_of(4, 9)) == "nine"); });
  empties([&] { CHECK(map.erase(key_of(4, 9))); });
  empties([&] { CHECK(map.erase(map.begin()) == map.end()); });
  empties([&] { CHECK(map.retain([](dm::key, std::string&) { return false; }) == 1); });
  empties([&] { map.clear(); });
  CHECK_FALSE(map.remove(key_of(4, 1)));
  CHECK_FALSE(map.remove(key_of(4, 3)));
  CHECK_FALSE(map.erase(key_of(4, 3)));
  CHECK_FALSE(map.erase(key_of(400, 3)));
  CHECK(map.size() == 1);
}

FOR_BOTH("get_many and get_disjoint say what get says") {
  typename TestType::template map<std::uint32_t> map;
  std::vector<dm::key> keys;
  for (std::uint32_t i = 0; i < 3000; ++i) {
    const std::uint32_t index = i * 2654435761u % 4000;
    if (i % 3 == 0) map.insert(key_of(index, 2), i);
    keys.push_back(key_of(index, i % 5 == 0 ? 1 : 2));
  }
  keys.push_back(dm::key());
  keys.push_back(key_of(0xffff'ffffu, 2));
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{15}, std::size_t{17}, keys.size()}) {
    const std::vector<dm::key> some(keys.end() - static_cast<std::ptrdiff_t>(count), keys.end());
    std::vector<std::uint32_t*> out(some.size() + 1, nullptr);
    std::size_t live = 0;
    for (const dm::key key : some) live += map.contains(key);
    CHECK(map.get_many(some, out) == live);
    for (std::size_t i = 0; i < some.size(); ++i) REQUIRE(out[i] == map.get(some[i]));
  }
  std::vector<const std::uint32_t*> out(keys.size());
  CHECK_THROWS_AS(std::as_const(map).get_many(keys, std::span(out).first(2)), std::invalid_argument);
  const typename TestType::template map<std::uint32_t> empty;
  out.assign(out.size(), map.get(map.begin()->key));
  CHECK(empty.get_many(keys, out) == 0);
  CHECK(std::ranges::count(out, nullptr) == static_cast<std::ptrdiff_t>(out.size()));

  const dm::key a = map.begin()->key;
  const dm::key b = std::next(map.begin())->key;
  const auto both = map.get_disjoint(std::array{a, b});
  REQUIRE(both);
  CHECK((*both)[1] == map.get(b));
  CHECK_FALSE(map.get_disjoint(std::array{a, a}));
  CHECK_FALSE(map.get_disjoint(std::array{a, dm::key()}));
}

FOR_BOTH("a walk visits each value once, however few there are") {
  for (const std::uint32_t stride : {1u, 2u, 63u, 64u, 65u, 5000u}) {
    typename TestType::template map<std::uint32_t> map;
    std::vector<dm::key> expected;
    for (std::uint32_t i = stride - 1; i < 9000; i += stride) expected.push_back(key_of(i, i % 3 + 1));
    for (const dm::key key : expected) map.insert(key, key.index());
    std::vector<dm::key> seen;
    for (const auto [key, value] : std::as_const(map)) {
      REQUIRE(value == key.index());
      seen.push_back(key);
    }
    const auto by_index = [](dm::key key) { return key.index(); };
    if (std::is_same_v<TestType, dense>) CHECK(std::ranges::is_sorted(seen, {}, by_index));
    std::vector<dm::key> keys;
    std::ranges::copy(map.keys(), std::back_inserter(keys));
    CHECK(keys == seen);
    std::ranges::sort(seen, {}, by_index);
    CHECK(seen == expected);
    CHECK(std::ranges::distance(map.values()) == static_cast<std::ptrdiff_t>(expected.size()));
    auto it = map.find(expected[0]);
    CHECK(it->key == expected[0]);
    if (std::is_same_v<TestType, dense>) CHECK(std::distance(it, map.end()) == std::ranges::distance(map));
    for (std::uint32_t& value : map.values()) value += 1;
    CHECK(map.at(expected[0]) == stride);
  }
}

FOR_BOTH("ranges algorithms and adaptors take a map") {
  typename TestType::template map<int> map;
  for (std::uint32_t i = 0; i < 100; ++i) map.insert(key_of(i), static_cast<int>(i));
  CHECK(std::ranges::max(map.values()) == 99);
  CHECK(std::ranges::count_if(map, [](const auto& entry) { return entry.value < 10; }) == 10);
#if !defined(__clang__) || __clang_major__ >= 16
  auto even = map | std::views::filter([](const auto& entry) { return entry.value % 2 == 0; });
  CHECK(std::ranges::distance(even) == 50);
  CHECK(std::ranges::distance(map.keys() | std::views::filter([](dm::key key) { return key.index() < 7; })) == 7);
#endif
}

FOR_BOTH("erasing during a walk, here and elsewhere, leaves no dead value to be visited") {
  typename TestType::template map<std::unique_ptr<int>> map;
  for (std::uint32_t i = 0; i < 1000; ++i) map.insert(key_of(i), std::make_unique<int>(1));
  int visited = 0;
  for (auto it = map.begin(); it != map.end(); ++visited) {
    REQUIRE(*it->value == 1);
    const std::uint32_t index = it->key.index();
    map.erase(key_of(index ^ 1));
    if (index % 3 == 0)
      it = map.erase(it);
    else
      ++it;
    REQUIRE(map.verify() == "");
  }
  CHECK(visited == 500);
  for ([[maybe_unused]] const auto [key, value] : map) map.clear();
  CHECK(map.empty());
}

FOR_BOTH("retain and erase_if judge every value") {
  typename TestType::template map<int> map;
  for (std::uint32_t i = 0; i < 300; ++i) map.insert(key_of(i), static_cast<int>(i));
  CHECK(map.retain([](dm::key key, int& value) { return value++ % 3 == 0 && key.index() < 200; }) == 233);
  CHECK(map.size() == 67);
  CHECK(map.at(key_of(3)) == 4);
  CHECK(dm::erase_if(map, [](dm::key key, const int&) { return key.index() < 100; }) == 34);
  CHECK(map.size() == 33);
  CHECK(map.verify() == "");
}

FOR_BOTH("equality is of keys and values, not of order or room") {
  typename TestType::template map<int> a;
  typename TestType::template map<int> b;
  for (std::uint32_t i = 0; i < 100; ++i) a.insert(key_of(i), 1);
  for (std::uint32_t i = 200; i-- > 0;) b.insert(key_of(i), 1);
  CHECK(a != b);
  for (std::uint32_t i = 100; i < 200; ++i) b.erase(key_of(i));
  CHECK(a == b);
  b.at(key_of(3)) = 2;
  CHECK(a != b);
  b.at(key_of(3)) = 1;
  b.insert(key_of(3, 2), 1);
  CHECK(a != b);
}

FOR_BOTH("copies, moves and swaps carry everything") {
  typename TestType::template map<std::string> a(10);
  for (std::uint32_t i = 0; i < 200; ++i) a.insert(key_of(i * 3, 2), std::to_string(i));
  for (std::uint32_t i = 0; i < 200; i += 2) a.erase(key_of(i * 3, 2));
  const auto b = a;
  CHECK(b == a);
  CHECK(b.verify() == "");
  auto c = std::move(a);
  CHECK(c == b);
  CHECK(a.empty());
  CHECK(a.verify() == "");
  a.insert(key_of(1), "again");
  swap(a, c);
  CHECK(a == b);
  CHECK(c.at(key_of(1)) == "again");
  c = a;
  CHECK(c == b);
  c = std::as_const(c);
  CHECK(c == b);
  a = std::move(c);
  CHECK(a == b);
  CHECK(c.empty());
  CHECK(a.verify() == "");
  CHECK(c.verify() == "");
}

FOR_BOTH("values that can only be moved, or not be made from nothing, live there as any other") {
  typename TestType::template map<std::unique_ptr<int>> owners;
  for (std::uint32_t i = 0; i < 300; ++i) owners.insert(key_of(i), std::make_unique<int>(static_cast<int>(i)));
  CHECK(**owners.insert(key_of(7), nullptr) == 7);
  CHECK(**owners.remove(key_of(8)) == 8);
  auto moved = std::move(owners);
  CHECK(moved.size() == 299);
  moved.shrink_to_fit();
  CHECK(*moved.at(key_of(299)) == 299);
  struct no_default {
    explicit no_default(int n) : number(n) {}
    int number;
  };
  typename TestType::template map<no_default> numbers;
  numbers.try_emplace(key_of(100), 5);
  CHECK(numbers.at(key_of(100)).number == 5);
}

FOR_BOTH("room that was made is enough, and room that is not needed goes back") {
  ledger books;
  {
    typename TestType::template map<int, checking_allocator<int>> map(1000, checking_allocator<int>(books));
    CHECK(map.capacity() >= 1000);
    const std::size_t allocations = books.allocations();
    for (std::uint32_t i = 1000; i-- > 0;) map.insert(key_of(i), 1);
    map.clear();
    for (std::uint32_t i = 0; i < 1000; ++i) map.insert(key_of(i, 2), 1);
    map.reserve(10);
    CHECK(books.allocations() == allocations);
    for (std::uint32_t i = 100; i < 1000; ++i) map.erase(key_of(i, 2));
    map.shrink_to_fit();
    CHECK(map.capacity() < 200);
    CHECK(map.size() == 100);
    CHECK(map.verify() == "");
    CHECK(map.at(key_of(99, 2)) == 1);
    map.insert(key_of(500), 5);
    CHECK(map.verify() == "");
    map.clear();
    map.shrink_to_fit();
    CHECK(map.capacity() == 0);
    CHECK(books.blocks() == 0);
    map.insert(key_of(0), 5);
    CHECK(map.verify() == "");
  }
  CHECK(books.is_clean());
}

FOR_BOTH("over-aligned and empty values have places of their own") {
  struct alignas(64) wide {
    int number;
  };
  struct nothing {};
  ledger books;
  {
    typename TestType::template map<wide, checking_allocator<wide>> map{checking_allocator<wide>(books)};
    typename TestType::template map<nothing> empties;
    for (std::uint32_t i = 0; i < 100; ++i) {
      map.try_emplace(key_of(i), wide{static_cast<int>(i)});
      empties.insert(key_of(i), nothing());
    }
    for (std::uint32_t i = 0; i < 100; ++i) {
      CHECK(reinterpret_cast<std::uintptr_t>(map.get(key_of(i))) % 64 == 0);
      CHECK(map.at(key_of(i)).number == static_cast<int>(i));
    }
    CHECK(empties.get(key_of(0)) != empties.get(key_of(1)));
    CHECK(map.verify() == "");
  }
  CHECK(books.is_clean());
}

namespace {

template <class Kind, unsigned Propagate>
void check_propagation() {
  using allocator = checking_allocator<test::steady, Propagate>;
  using map_type = typename Kind::template map<test::steady, allocator>;
  ledger books_a;
  ledger books_b;
  {
    const allocator from_a(books_a);
    const allocator from_b(books_b);
    map_type a(from_a);
    for (std::uint32_t i = 0; i < 200; ++i) a.insert(key_of(i), static_cast<int>(i));
    for (std::uint32_t i = 0; i < 200; i += 3) a.erase(key_of(i));
    const auto expected = contents(a);

    map_type copied(from_b);
    copied.insert(key_of(1), 1);
    copied = a;
    CHECK(contents(copied) == expected);
    CHECK((copied.get_allocator() == ((Propagate & 1) != 0 ? from_a : from_b)));
    CHECK(copied.verify() == "");
    const map_type copied_elsewhere(a, from_b);
    CHECK(contents(copied_elsewhere) == expected);
    CHECK((copied_elsewhere.get_allocator() == from_b));

    map_type moved(from_b);
    moved.insert(key_of(1), 1);
    moved = std::move(a);
    CHECK(contents(moved) == expected);
    CHECK((moved.get_allocator() == ((Propagate & 2) != 0 ? from_a : from_b)));
    CHECK(moved.verify() == "");
    CHECK(a.empty());
    CHECK(a.verify() == "");
    a.insert(key_of(3), 5);

    map_type moved_elsewhere(std::move(moved), from_a);
    CHECK(contents(moved_elsewhere) == expected);
    CHECK(moved_elsewhere.verify() == "");
    CHECK(moved.empty());
    CHECK(moved.verify() == "");

    map_type other((Propagate & 4) != 0 ? from_b : from_a);
    other.insert(key_of(0, 5), 3);
    swap(other, moved_elsewhere);
    CHECK(contents(other) == expected);
    CHECK(moved_elsewhere.at(key_of(0, 5)) == 3);
    CHECK((other.get_allocator() == from_a));

    map_type nothing(from_a);
    map_type nothing_elsewhere(std::move(nothing), from_b);
    CHECK(nothing_elsewhere.verify() == "");
  }
  CHECK(books_a.is_clean());
  CHECK(books_b.is_clean());
  CHECK(test::steady::alive == 0);
  CHECK_FALSE(test::steady::wrong_address);
}

template <class Kind, class T>
using failing_map = typename Kind::template map<T, checking_allocator<T>>;
using arming = std::function<void(ledger&, int)>;

/// Runs `operation` on maps of awkward sizes, with what `arm` sets off after one step, after two, and so on until
/// nothing fails any more. What failed must have changed nothing.
template <class Kind, class T>
void check_failures(const arming& arm, const std::function<void(failing_map<Kind, T>&, std::uint32_t)>& operation) {
  using map_type = failing_map<Kind, T>;
  for (const std::uint32_t size : {0u, 1u, 4u, 5u, 64u, 84u, 300u}) {
    for (int steps = 0;; ++steps) {
      ledger books;
      bool failed = false;
      {
        map_type map{checking_allocator<T>(books)};
        for (std::uint32_t i = 0; i < size; ++i) map.try_emplace(key_of(i, 2), static_cast<int>(i));
        if (size > 60) map.erase(key_of(3, 2));
        const auto before = contents(map);
        arm(books, steps);
        try {
          operation(map, size);
        } catch (const std::bad_alloc&) {
          failed = true;
        } catch (const fuse::blown&) {
          failed = true;
        }
        arm(books, -1);
        REQUIRE(map.verify() == "");
        if (failed) REQUIRE(contents(map) == before);
        map.try_emplace(key_of(size + 1, 3), 1);
        REQUIRE(map.verify() == "");
      }
      REQUIRE(books.is_clean());
      if (!failed) break;
    }
  }
  CHECK(T::alive == 0);
  CHECK_FALSE(T::wrong_address);
}

template <class Kind, class T>
void check_failures_of_every_operation(const arming& arm) {
  const auto check = [&](auto operation) { check_failures<Kind, T>(arm, operation); };
  check([](auto& map, std::uint32_t size) { map.insert(key_of(size), 7); });
  check([](auto& map, std::uint32_t size) { map.insert(key_of(size + 1000), 7); });
  check([](auto& map, std::uint32_t) { map.insert(key_of(0, 2), 7); });  // the same key
  check([](auto& map, std::uint32_t) { map.insert(key_of(0, 3), 7); });  // a newer one
  check([](auto& map, std::uint32_t size) { map.try_emplace(key_of(size), 7); });
  check([](auto& map, std::uint32_t) { map.try_emplace(key_of(0, 3), 7); });
  check([](auto& map, std::uint32_t) { map.remove(key_of(0, 2)); });
  check([](auto& map, std::uint32_t) { map.reserve(1000); });
  check([](auto& map, std::uint32_t) { map.shrink_to_fit(); });
  check([](auto& map, std::uint32_t) { const auto copy(map); });
  check([](auto& map, std::uint32_t) {
    std::remove_reference_t<decltype(map)> copy(map.get_allocator());
    copy = map;
  });
}

}  // namespace

FOR_BOTH("allocators propagate as their traits say") {
  check_propagation<TestType, 0>();
  check_propagation<TestType, 1>();
  check_propagation<TestType, 2>();
  check_propagation<TestType, 3>();
  check_propagation<TestType, 4>();
  check_propagation<TestType, 7>();
}

FOR_BOTH("every allocation may fail and the map stays as it was") {
  const auto arm = [](ledger& books, int steps) { books.fail_after(steps); };
  check_failures_of_every_operation<TestType, test::steady>(arm);
  check_failures_of_every_operation<TestType, fragile>(arm);
}

FOR_BOTH("every copy and move may fail and the map stays as it was") {
  const auto arm = [](ledger&, int steps) { steps < 0 ? fuse::remove() : fuse::set(steps); };
  check_failures_of_every_operation<TestType, test::steady>(arm);
  check_failures_of_every_operation<TestType, fragile>(arm);
}

namespace {
/// Throws at the move with the number `bad`, and at all later ones.
struct spoilt {
  explicit spoilt(int n) : number(n) { ++alive; }
  spoilt(spoilt&& other) : number(other.number) {
    if (bad >= 0 && bad-- == 0) {
      bad = 0;
      throw std::runtime_error("spoilt");
    }
    ++alive;
  }
  ~spoilt() { --alive; }
  int number;
  static inline int bad = -1;
  static inline int alive = 0;
};
}  // namespace

FOR_BOTH("a value that can neither be replaced nor put back is gone, and nothing else") {
  for (int moves = 0;; ++moves) {
    bool failed = false;
    {
      typename TestType::template map<spoilt> map(100);
      map.try_emplace(key_of(3), 3);
      map.try_emplace(key_of(4), 4);
      spoilt fresh(5);
      spoilt::bad = moves;
      try {
        map.try_emplace(key_of(3, 2), std::move(fresh));
      } catch (const std::runtime_error&) {
        failed = true;
      }
      spoilt::bad = -1;
      CHECK(map.verify() == "");
      CHECK(map.at(key_of(4)).number == 4);
      CHECK(map.size() == (failed && moves >= 2 ? 1 : 2));
      CHECK(map.contains(key_of(3, 2)) == !failed);
    }
    CHECK(spoilt::alive == 0);
    if (!failed) break;
  }
}

FOR_BOTH("values built in a pmr map use the map's resource") {
  using allocator = std::pmr::polymorphic_allocator<std::pmr::string>;
  std::pmr::monotonic_buffer_resource resource;
  typename TestType::template map<std::pmr::string, allocator> map(&resource);
  const char* const text = "a text that is too long for the string itself";
  for (std::uint32_t i = 0; i < 100; ++i) {
    map.try_emplace(key_of(i), text);
    map.insert(key_of(i + 100), std::pmr::string(text));
    map.insert(key_of(i, 2), std::pmr::string(text));
    map.try_emplace(key_of(i, 3), text);
    map.insert(key_of(i, 3), std::pmr::string(text));
    map[key_of(i + 200)] = text;
  }
  for (const auto& value : map.values()) {
    REQUIRE(value.get_allocator().resource() == &resource);
    REQUIRE(value == text);
  }
  CHECK(map.size() == 300);
  CHECK(map.get_allocator().resource() == &resource);
  CHECK(map.verify() == "");
  const auto copy = map;
  CHECK(copy.get_allocator().resource() == std::pmr::get_default_resource());
  CHECK(copy.begin()->value.get_allocator().resource() == std::pmr::get_default_resource());
  CHECK(copy == map);
}

FOR_BOTH("a value that its allocator fails to build leaves the old one") {
  struct limited : std::pmr::memory_resource {
    int left = 1000;
    void* do_allocate(std::size_t size_bytes, std::size_t alignment) override {
      if (left-- <= 0) throw std::bad_alloc();
      return std::pmr::new_delete_resource()->allocate(size_bytes, alignment);
    }
    void do_deallocate(void* block, std::size_t size_bytes, std::size_t alignment) override {
      std::pmr::new_delete_resource()->deallocate(block, size_bytes, alignment);
    }
    bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
  } resource;
  using allocator = std::pmr::polymorphic_allocator<std::pmr::string>;
  typename TestType::template map<std::pmr::string, allocator> map(16, &resource);
  const std::pmr::string old("the old text, too long for the string itself");
  const std::pmr::string fresh("the new text, too long for the string itself");
  map.insert(key_of(1), old);
  resource.left = 0;
  CHECK_THROWS_AS(map.insert(key_of(1), fresh), std::bad_alloc);
  CHECK_THROWS_AS(map.insert(key_of(1, 2), fresh), std::bad_alloc);
  CHECK_THROWS_AS(map.try_emplace(key_of(1, 2), fresh), std::bad_alloc);
  CHECK_THROWS_AS(map.insert(key_of(2), fresh), std::bad_alloc);
  CHECK(map.size() == 1);
  CHECK(map.at(key_of(1)) == old);
  CHECK(map.verify() == "");
  resource.left = 1;
  CHECK(map.insert(key_of(1), fresh) == old);
  CHECK(map.at(key_of(1)) == fresh);
}

FOR_BOTH("a map lives in a managed segment, found by name") {
  namespace bip = boost::interprocess;
  using segment_type = bip::managed_external_buffer;
  using allocator = bip::allocator<std::uint64_t, segment_type::segment_manager>;
  using map_type = typename TestType::template map<std::uint64_t, allocator>;
  static_assert(!std::is_default_constructible_v<map_type>, "its allocator is not either");
  struct alignas(4096) page {
    std::byte bytes[4096];
  };
  constexpr std::size_t pages = 512;

  const auto memory = std::make_unique<page[]>(pages);
  segment_type segment(bip::create_only, memory.get(), pages * sizeof(page));
  map_type& map = *segment.construct<map_type>("values")(allocator(segment.get_segment_manager()));
  for (std::uint32_t i = 0; i < 3000; ++i) map.insert(key_of(i, 2), i);
  for (std::uint32_t i = 0; i < 3000; i += 2) map.erase(key_of(i, 2));
  CHECK(map.verify() == "");

  // The same bytes at another address, as another process sees them.
  const auto mapped_elsewhere = std::make_unique<page[]>(pages);
  std::memcpy(mapped_elsewhere.get(), memory.get(), pages * sizeof(page));
  std::memset(memory.get(), 0xdd, pages * sizeof(page));
  segment_type elsewhere(bip::open_only, mapped_elsewhere.get(), pages * sizeof(page));
  map_type* found = elsewhere.find<map_type>("values").first;
  REQUIRE(found != nullptr);
  CHECK(found->verify() == "");
  CHECK(found->size() == 1500);
  for (std::uint32_t i = 0; i < 3000; ++i) {
    const std::uint64_t* value = found->get(key_of(i, 2));
    REQUIRE((value != nullptr) == (i % 2 != 0));
    if (value != nullptr) REQUIRE(*value == i);
  }
  std::uint64_t sum = 0;
  for (const auto [key, value] : *found) sum += value;
  CHECK(sum == 1500 * 1500);
  for (std::uint32_t i = 0; i < 6000; ++i) found->insert(key_of(i, 3), i);
  CHECK(found->size() == 6000);
  CHECK(found->verify() == "");
  elsewhere.destroy<map_type>("values");
  CHECK(elsewhere.all_memory_deallocated());
}

namespace {

enum class verb : std::uint8_t {
  insert,
  emplace,
  subscript,
  remove,
  erase,
  erase_iterator,
  retain,
  clear,
  shrink,
  reserve,
  copy,
  move
};
constexpr int verbs = static_cast<int>(verb::move) + 1;

struct step {
  verb what;
  std::uint32_t index;
  std::uint32_t generation;  // 0: the null key
};

void showValue(const step& s, std::ostream& out) {
  out << '{' << static_cast<int>(s.what) << ", " << s.index << ", " << s.generation << '}';
}

/// A secondary map as a std::map by slot index, of generation and value.
using model = std::map<std::uint32_t, std::pair<std::uint32_t, std::string>>;

/// What a slot does with a key: gets it as its first, as the same, as a newer one, or not.
enum class fate { ignored, fresh, same, newer };
fate fate_of(const model& expected, dm::key key) {
  if (!key) return fate::ignored;
  const auto found = expected.find(key.index());
  if (found == expected.end()) return fate::fresh;
  if (found->second.first == key.generation()) return fate::same;
  return found->second.first < key.generation() ? fate::newer : fate::ignored;
}

template <class Map>
void check_against(const Map& map, const model& expected) {
  RC_ASSERT(map.verify() == "");
  RC_ASSERT(map.size() == expected.size());
  std::size_t seen = 0;
  for (const auto [key, value] : map) {
    const auto found = expected.find(key.index());
    RC_ASSERT(found != expected.end());
    RC_ASSERT(found->second == std::pair(key.generation(), value));
    ++seen;
  }
  RC_ASSERT(seen == expected.size());
  for (const auto& [index, entry] : expected) {
    RC_ASSERT(map.at(key_of(index, entry.first)) == entry.second);
    RC_ASSERT(!map.contains(key_of(index, entry.first + 1)));
    RC_ASSERT(!map.contains(key_of(index, entry.first - 1)));
  }
}

template <class Map>
void run_program(const std::vector<step>& program) {
  Map map;
  model expected;
  int number = 0;
  for (const step& s : program) {
    const dm::key key = key_of(s.index, s.generation);
    ++number;
    const std::string text = "value " + std::to_string(number) + (number % 2 == 0 ? " in a string of some length" : "");
    const fate what = fate_of(expected, key);
    switch (s.what) {
      case verb::insert: {
        const std::optional<std::string> old = map.insert(key, text);
        RC_ASSERT(old.has_value() == (what == fate::same));
        if (old) RC_ASSERT(*old == expected[s.index].second);
        if (what != fate::ignored) expected[s.index] = {s.generation, text};
        break;
      }
      case verb::emplace: {
        const auto [place, built] = map.try_emplace(key, text);
        RC_ASSERT(built == (what == fate::fresh || what == fate::newer));
        RC_ASSERT((place == nullptr) == (what == fate::ignored));
        RC_ASSERT(place == map.get(key));
        if (built) expected[s.index] = {s.generation, text};
        break;
      }
      case verb::subscript:
        if (what == fate::ignored) {
          RC_ASSERT_THROWS_AS(map[key], dm::stale_key);
        } else {
          map[key] += 'x';
          if (what != fate::same) expected[s.index] = {s.generation, ""};
          expected[s.index].second += 'x';
        }
        break;
      case verb::remove: {
        const std::optional<std::string> taken = map.remove(key);
        RC_ASSERT(taken.has_value() == (what == fate::same));
        if (what == fate::same) expected.erase(s.index);
        break;
      }
      case verb::erase:
        RC_ASSERT(map.erase(key) == (what == fate::same));
        if (what == fate::same) expected.erase(s.index);
        break;
      case verb::erase_iterator: {
        const auto it = map.find(key);
        RC_ASSERT((it != map.end()) == (what == fate::same));
        if (what != fate::same) break;
        map.erase(it);
        expected.erase(s.index);
        break;
      }
      case verb::retain:
        if (s.index % 8 != 0) break;
        RC_ASSERT(map.retain([&](dm::key k, std::string&) { return k.index() % 4 != s.generation % 4; }) ==
                  std::erase_if(expected, [&](const auto& entry) { return entry.first % 4 == s.generation % 4; }));
        break;
      case verb::clear:
        if (s.index % 16 != 0) break;
        map.clear();
        expected.clear();
        break;
      case verb::shrink:
        map.shrink_to_fit();
        break;
      case verb::reserve:
        map.reserve(s.index);
        break;
      case verb::copy: {
        const Map copy(map);
        RC_ASSERT(copy == map);
        map = copy;
        break;
      }
      case verb::move: {
        Map moved(std::move(map));
        RC_ASSERT(map.empty());
        map = std::move(moved);
        break;
      }
    }
    check_against(map, expected);
  }
}

}  // namespace

FOR_BOTH("random programs do what a std::map of generations says") {
  const auto any_step = rc::gen::apply(
      [](std::uint8_t what, std::uint32_t index, std::uint32_t generation) {
        // Half of all steps add something.
        return step{what < verbs ? static_cast<verb>(what) : static_cast<verb>(what % 3), index, generation};
      },
      rc::gen::inRange<std::uint8_t>(0, 2 * verbs), rc::gen::element(0u, 1u, 2u, 7u, 63u, 64u, 65u, 127u, 128u, 300u),
      rc::gen::inRange<std::uint32_t>(0, 6));
  CHECK(rc::check([&] {
    run_program<typename TestType::template map<std::string>>(*rc::gen::container<std::vector<step>>(any_step));
  }));
  const auto any_index = rc::gen::apply(
      [](std::uint8_t what, std::uint32_t index, std::uint32_t generation) {
        return step{what < 6 ? static_cast<verb>(what) : verb::insert, index, generation};
      },
      rc::gen::inRange<std::uint8_t>(0, 9), rc::gen::inRange<std::uint32_t>(0, 2000),
      rc::gen::inRange<std::uint32_t>(1, 4));
  CHECK(rc::check([&] {
    run_program<typename TestType::template map<std::string>>(*rc::gen::container<std::vector<step>>(200, any_index));
  }));
}

namespace {
/// Grows its blocks in place, up to a limit that it has told nobody.
template <class T>
struct expanding_allocator {
  using value_type = T;
  static constexpr std::size_t room_bytes = 1 << 16;
  expanding_allocator() = default;
  template <class U>
  expanding_allocator(const expanding_allocator<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(std::max(room_bytes, n * sizeof(T)))); }
  void deallocate(T* block, std::size_t) { ::operator delete(block); }
  bool try_expand(T*, std::size_t, std::size_t new_n) { return new_n * sizeof(T) <= room_bytes; }
  bool try_shrink(T*, std::size_t, std::size_t) { return true; }
  friend bool operator==(expanding_allocator, expanding_allocator) { return true; }
};
}  // namespace

TEST_CASE("nothing in a dense map moves while the allocator can expand in place") {
  dm::secondary_map<std::string, dm::key, expanding_allocator<std::string>> map;
  map.insert(key_of(0), "first");
  const std::string* const address = map.get(key_of(0));
  for (std::uint32_t i = 1; i < 1000; ++i) {
    REQUIRE(*map.try_emplace(key_of(i), map.at(key_of(0))).first == "first");
    REQUIRE(map.get(key_of(0)) == address);
  }
  map.reserve(1500);
  CHECK(map.get(key_of(0)) == address);
  for (std::uint32_t i = 1; i < 1000; ++i) map.erase(key_of(i));
  map.shrink_to_fit();
  CHECK(map.capacity() == 1);
  CHECK(map.get(key_of(0)) == address);
  CHECK(map.verify() == "");
  for (std::uint32_t i = 1; i < 4000; ++i) map.try_emplace(key_of(i), map.at(key_of(0)));
  CHECK(map.get(key_of(0)) != address);
  for (const std::string& value : map.values()) REQUIRE(value == "first");
  CHECK(map.verify() == "");
}

TEST_CASE("the entries of removed values stay until they are swept or overwritten") {
  dm::deferred_map<int> bodies;
  dm::secondary_map<double> masses;
  const dm::key a = bodies.insert(1);
  const dm::key b = bodies.insert(2);
  masses.insert(a, 1.5);
  masses.insert(b, 2.5);
  bodies.erase(a);
  CHECK(masses.at(a) == 1.5);
  const dm::key c = bodies.insert(3);
  REQUIRE(c.index() == a.index());
  CHECK_FALSE(masses.contains(c));
  masses.insert(c, 3.5);
  CHECK_FALSE(masses.contains(a));
  bodies.erase(b);
  CHECK(masses.retain([&](dm::key key, double&) { return bodies.contains(key); }) == 1);
  CHECK(masses.size() == 1);
}
