// The map's members one by one; handles, iteration, generations and allocators have files of their own.
#include "deferred_map/deferred_map.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "values.hpp"

using test::fragile;
using test::fuse;
using test::steady;

namespace {

using string_map = dm::deferred_map<std::string>;

/// A text too long for any small-string buffer, so that a lifetime mistake is a memory error.
std::string text(int number) { return "the text that belongs to number " + std::to_string(number); }

template <class Map>
void fill_to_capacity(Map& map, int first = 0) {
  do map.insert(text(first++));
  while (map.slot_count() != map.capacity());
}

}  // namespace

TEST_CASE("a new map is empty and owns no memory") {
  const string_map map;
  CHECK(map.empty());
  CHECK(map.size() == 0);
  CHECK(map.slot_count() == 0);
  CHECK(map.capacity() == 0);
  CHECK(map.reserved_count() == 0);
  CHECK(map.retired_count() == 0);
  CHECK(map.begin() == map.end());
  CHECK(map.verify() == "");
}

TEST_CASE("a value is found by the key its insert returned") {
  string_map map;
  const dm::key a = map.insert(text(1));
  const dm::key b = map.emplace(3u, 'x');
  CHECK(a != b);
  REQUIRE(map.get(a) != nullptr);
  CHECK(*map.get(a) == text(1));
  CHECK(std::as_const(map).at(b) == "xxx");
  CHECK(map[a] == text(1));
  CHECK(std::as_const(map)[b] == "xxx");
  CHECK(map.contains(a));
  CHECK(map.find(b)->value == "xxx");
  CHECK(std::as_const(map).find(b)->key == b);
  map.at(a) = "changed";
  CHECK(*std::as_const(map).get(a) == "changed");
  CHECK(map.size() == 2);
  CHECK(map.verify() == "");
}

TEST_CASE("keys that are stale, null or out of range find nothing") {
  string_map map;
  const dm::key stale = map.insert(text(1));
  map.erase(stale);
  map.insert(text(2));
  for (const dm::key key : {stale, dm::key(), dm::key::from_parts(7, 1), dm::key::from_parts(0xffff'ffffu, 1)}) {
    CHECK(map.get(key) == nullptr);
    CHECK_FALSE(map.contains(key));
    CHECK(map.find(key) == map.end());
    CHECK_THROWS_AS(map.at(key), dm::stale_key);
    CHECK_THROWS_AS(std::as_const(map).at(key), std::out_of_range);
    CHECK_FALSE(map.remove(key));
    CHECK_FALSE(map.erase(key));
    CHECK_FALSE(map.detach(key));
  }
  CHECK(map.size() == 1);
  CHECK(map.verify() == "");
}

TEST_CASE("the slot vacated last is filled first, in its next generation") {
  string_map map;
  const dm::key a = map.insert("a");
  const dm::key b = map.insert("b");
  map.erase(a);
  map.erase(b);
  const dm::key c = map.insert("c");
  CHECK(c.index() == b.index());
  CHECK(c.generation() == b.generation() + 1);
  CHECK(map.insert("d").index() == a.index());
  CHECK(map.slot_count() == 2);
}

TEST_CASE("remove takes the value out and erase destroys it") {
  {
    dm::deferred_map<steady> map;
    const dm::key a = map.insert(1);
    const dm::key b = map.insert(2);
    CHECK(map.remove(a)->number() == 1);
    CHECK(steady::alive == 1);
    CHECK(map.erase(b));
    CHECK_FALSE(map.erase(b));
    CHECK(steady::alive == 0);
    CHECK(map.verify() == "");
    map.insert(3);
  }
  CHECK(steady::alive == 0);
  CHECK_FALSE(steady::wrong_address);
}

TEST_CASE("a value whose move throws stays where it is when removed or detached") {
  dm::deferred_map<fragile> map;
  const dm::key key = map.emplace(5);
  fuse::set(0);
  CHECK_THROWS_AS(map.remove(key), fuse::blown);
  fuse::set(0);
  CHECK_THROWS_AS(map.detach(key), fuse::blown);
  fuse::remove();
  CHECK(map.at(key) == 5);
  CHECK(map.reserved_count() == 0);
  CHECK(map.verify() == "");
}

TEST_CASE("a detached value is reinserted under the same key") {
  string_map map;
  const dm::key key = map.insert(text(1));
  auto detached = map.detach(key);
  REQUIRE(detached);
  CHECK(detached->first == text(1));
  CHECK(detached->second.key() == key);
  CHECK_FALSE(map.contains(key));
  CHECK(map.size() == 0);
  CHECK(map.reserved_count() == 1);
  CHECK(map.verify() == "");
  CHECK(map.insert(text(2)).index() != key.index());
  map.insert(std::move(detached->second), text(3));
  CHECK(map.at(key) == text(3));
  CHECK(map.verify() == "");
}

TEST_CASE("a detached value's key is dead once its handle is released") {
  string_map map;
  const dm::key key = map.insert(text(1));
  map.release_handle(std::move(map.detach(key)->second));
  const dm::key next = map.insert(text(2));
  CHECK(next.index() == key.index());
  CHECK_FALSE(map.contains(key));
}

TEST_CASE("get_disjoint gives all values or none") {
  string_map map;
  const dm::key a = map.insert("a");
  const dm::key b = map.insert("b");
  const dm::key stale = map.insert("c");
  map.erase(stale);
  const auto both = map.get_disjoint(std::array{a, b});
  REQUIRE(both);
  CHECK(*(*both)[0] == "a");
  CHECK(*(*both)[1] == "b");
  CHECK_FALSE(map.get_disjoint(std::array{a, b, a}));
  CHECK_FALSE(map.get_disjoint(std::array{a, stale}));
  CHECK_FALSE(map.get_disjoint(std::array{dm::key(), a}));
  CHECK(map.get_disjoint(std::array<dm::key, 0>{}));
}

TEST_CASE("get_many gives what get gives, for every kind of key") {
  string_map map;
  std::vector<dm::key> keys{dm::key(), dm::key::from_parts(0xffff'ffffu, 1)};
  std::vector<const std::string*> const_out(2);
  CHECK(std::as_const(map).get_many(keys, const_out) == 0);
  for (int i = 0; i < 200; ++i) keys.push_back(map.insert(text(i)));
  for (std::size_t i = 2; i < keys.size(); i += 3) map.erase(keys[i]);
  keys.push_back(dm::key::from_parts(200, 1));
  std::vector<std::string*> out(keys.size() + 1);
  const_out.resize(keys.size());
  const std::size_t live = map.get_many(keys, out);
  CHECK(live == map.size());
  CHECK(std::as_const(map).get_many(keys, const_out) == live);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    CHECK(out[i] == map.get(keys[i]));
    CHECK(const_out[i] == out[i]);
  }
}

TEST_CASE("get_many writes nothing where the output is too short") {
  string_map map;
  const std::vector<dm::key> keys{map.insert("a"), map.insert("b")};
  std::string untouched;
  std::vector<std::string*> out{&untouched};
  CHECK_THROWS_AS(map.get_many(keys, out), std::invalid_argument);
  CHECK(out[0] == &untouched);
  CHECK(map.get_many({}, {}) == 0);
}

TEST_CASE("retain and erase_if keep what they are told to and count the rest") {
  dm::deferred_map<int> map;
  std::vector<dm::key> keys;
  for (int i = 0; i < 300; ++i) keys.push_back(map.insert(i));
  CHECK(map.retain([&](dm::key key, int& value) {
    CHECK(keys[static_cast<std::size_t>(value)] == key);
    value += 1000;
    return value % 2 == 0;
  }) == 150);
  CHECK(map.verify() == "");
  CHECK(dm::erase_if(map, [](dm::key, int& value) { return value % 4 == 0; }) == 75);
  CHECK(map.size() == 75);
  CHECK(map.verify() == "");
  for (std::size_t i = 0; i < keys.size(); ++i) CHECK(map.contains(keys[i]) == (i % 4 == 2));
}

TEST_CASE("a predicate that throws leaves behind what it had not judged") {
  {
    dm::deferred_map<steady> map;
    for (int i = 0; i < 10; ++i) map.insert(i);
    const auto judge = [](dm::key, steady& value) {
      if (value == 5) throw fuse::blown();
      return false;
    };
    CHECK_THROWS_AS(map.retain(judge), fuse::blown);
    CHECK(map.size() == 5);
    CHECK(steady::alive == 5);
    CHECK(map.verify() == "");
  }
  CHECK(steady::alive == 0);
}

TEST_CASE("clear destroys values and leaves handles good and memory in place") {
  {
    dm::deferred_map<steady> map;
    std::vector<dm::key> keys;
    dm::handle handle = map.allocate_handle();
    for (int i = 0; i < 500; ++i) keys.push_back(map.insert(i));
    const std::size_t capacity = map.capacity();
    map.clear();
    CHECK(map.empty());
    CHECK(steady::alive == 0);
    CHECK(map.capacity() == capacity);
    CHECK(map.reserved_count() == 1);
    CHECK(map.verify() == "");
    for (const dm::key key : keys) CHECK_FALSE(map.contains(key));
    const dm::key key = handle.key();
    map.insert(std::move(handle), 7);
    CHECK(map.at(key) == 7);
  }
  CHECK(steady::alive == 0);
}

TEST_CASE("reserve makes room so that filling it moves nothing") {
  string_map map(100);
  CHECK(map.capacity() >= 100);
  const dm::key first = map.insert(text(0));
  const std::string* address = map.get(first);
  for (int i = 1; i < 100; ++i) map.insert(text(i));
  CHECK(map.get(first) == address);
  map.reserve(28);
  CHECK(map.capacity() >= 128);
  CHECK(map.at(first) == text(0));
  map.erase(first);
  map.reserve(29);
  CHECK(map.capacity() == 128);
  CHECK(map.verify() == "");
}

TEST_CASE("reserving more than there can be is a length error") {
  dm::deferred_map<char> map;
  map.insert('a');
  CHECK_THROWS_AS(map.reserve(dm::deferred_map<char>::max_size()), std::length_error);
  CHECK_THROWS_AS(map.reserve(~std::size_t{0}), std::length_error);
  CHECK(map.verify() == "");
}

TEST_CASE("shrink_to_fit gives back the vacant slots at the end") {
  for (const int count : {1, 63, 64, 65, 129, 300, 5000}) {
    string_map map;
    std::vector<dm::key> keys;
    for (int i = 0; i < count; ++i) keys.push_back(map.insert(text(i)));
    for (std::size_t i = 0; i < keys.size(); ++i)
      if (i != 17) map.erase(keys[i]);
    map.shrink_to_fit();
    CHECK(map.slot_count() == (count > 17 ? 18 : 0));
    CHECK(map.capacity() == map.slot_count());
    CHECK(map.verify() == "");
    if (count > 17) CHECK(map.at(keys[17]) == text(17));
    for (int i = 0; i < 200; ++i) map.insert(text(i));
    CHECK(map.verify() == "");
  }
}

// The index was rebuilt as if reserved slots had been given back, so the next inserts went into them.
TEST_CASE("shrink_to_fit leaves reserved slots reserved") {
  dm::deferred_map<std::string> map;
  dm::handle handle = map.allocate_handle();
  const dm::key kept = map.insert(text(1));
  map.erase(map.insert(text(2)));
  map.shrink_to_fit();
  CHECK(map.slot_count() == 2);
  CHECK(map.verify() == "");
  CHECK(map.insert(text(3)).index() == 2);
  const dm::key key = handle.key();
  map.insert(std::move(handle), text(4));
  CHECK(map.at(key) == text(4));
  CHECK(map.at(kept) == text(1));
  CHECK(map.verify() == "");
}

TEST_CASE("state and key_at tell what is in a slot") {
  dm::deferred_map<int> map;
  const dm::key occupied = map.insert(1);
  const dm::handle reserved = map.allocate_handle();
  const dm::key vacant = map.insert(2);
  map.erase(vacant);
  CHECK(map.state(occupied.index()) == dm::slot_state::occupied);
  CHECK(map.state(reserved.index()) == dm::slot_state::reserved);
  CHECK(map.state(vacant.index()) == dm::slot_state::vacant);
  CHECK(map.state(1000) == dm::slot_state::vacant);
  CHECK(map.key_at(occupied.index()) == occupied);
  CHECK_FALSE(map.key_at(reserved.index()));
  CHECK_FALSE(map.key_at(vacant.index()));
  CHECK_FALSE(map.key_at(1000));
  CHECK(map.slot_count() == 3);
  CHECK(map.size() == 1);
  CHECK(map.reserved_count() == 1);
}

TEST_CASE("an argument may refer into the map that grows under it") {
  string_map map;
  dm::key key = map.insert(text(0));
  fill_to_capacity(map);
  key = map.emplace(map.at(key));
  CHECK(map.at(key) == text(0));
  fill_to_capacity(map);
  key = map.insert(map.at(key));
  CHECK(map.at(key) == text(0));
  dm::handle handle = map.allocate_handle();
  CHECK(map.emplace(std::move(handle), map.at(key)) == text(0));
}
