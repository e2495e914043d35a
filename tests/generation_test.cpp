// No key ever comes back: generations, the floor they start from, and slots that have used them up.
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "deferred_map/deferred_map.hpp"
#include "plain_arena.hpp"

namespace {

using string_map = dm::deferred_map<std::string>;
namespace version = dm::version;

constexpr int values = 300;  // more than the buffer holds

/// Fills a map, ends every life in it by `end_all`, fills it again, and looks for an old key among the new.
void check_keys_stay_dead(const std::function<void(string_map&, const std::vector<dm::key>&)>& end_all) {
  string_map map;
  std::set<dm::key> dead;
  for (int round = 0; round < 4; ++round) {
    std::vector<dm::key> keys;
    for (int i = 0; i < values; ++i) keys.push_back(map.insert("value"));
    for (const dm::key key : keys) REQUIRE_FALSE(dead.contains(key));
    end_all(map, keys);
    REQUIRE(map.verify() == "");
    REQUIRE(map.empty());
    dead.insert(keys.begin(), keys.end());
    for (const dm::key key : dead) REQUIRE(map.get(key) == nullptr);
  }
  for (int i = 0; i < values; ++i) map.insert("value");
  for (const dm::key key : dead) REQUIRE(map.get(key) == nullptr);
}

/// A map whose `slots` vacant slots have their last life before them.
struct nearly_used_up {
  explicit nearly_used_up(std::uint32_t slots) : arena(1000), map(make(slots)) {}

  test::plain_arena<std::uint64_t> arena;
  test::plain_map<std::uint64_t> map;

 private:
  test::plain_map<std::uint64_t> make(std::uint32_t slots) {
    arena.make_slots(slots, version::last_generation);
    test::plain_map<std::uint64_t> found({&arena});
    found.recover();
    return found;
  }
};

}  // namespace

TEST_CASE("a slot's first life has generation 1 and each next one more") {
  string_map map;
  for (std::uint32_t generation = 1; generation < 1000; ++generation) {
    const dm::key key = map.insert("x");
    REQUIRE(key == dm::key::from_parts(0, generation));
    map.erase(key);
  }
}

TEST_CASE("keys stay dead after erase") {
  check_keys_stay_dead([](string_map& map, const std::vector<dm::key>& keys) {
    for (const dm::key key : keys) map.erase(key);
  });
}

TEST_CASE("keys stay dead after remove") {
  check_keys_stay_dead([](string_map& map, const std::vector<dm::key>& keys) {
    for (const dm::key key : keys) map.remove(key);
  });
}

TEST_CASE("keys stay dead after erase by iterator") {
  check_keys_stay_dead([](string_map& map, const std::vector<dm::key>&) {
    for (auto it = map.begin(); it != map.end();) it = map.erase(it);
  });
}

TEST_CASE("keys stay dead after clear") {
  check_keys_stay_dead([](string_map& map, const std::vector<dm::key>&) { map.clear(); });
}

TEST_CASE("keys stay dead after retain") {
  check_keys_stay_dead(
      [](string_map& map, const std::vector<dm::key>&) { map.retain([](dm::key, std::string&) { return false; }); });
}

TEST_CASE("keys stay dead after drain, taken and left") {
  check_keys_stay_dead([](string_map& map, const std::vector<dm::key>&) {
    int taken = 0;
    for ([[maybe_unused]] auto entry : map.drain())
      if (++taken == values / 2) break;
  });
}

TEST_CASE("keys stay dead after detach and release") {
  check_keys_stay_dead([](string_map& map, const std::vector<dm::key>& keys) {
    for (const dm::key key : keys) map.release_handle(std::move(map.detach(key)->second));
  });
}

TEST_CASE("keys stay dead after detach and release_reserved") {
  check_keys_stay_dead([](string_map& map, const std::vector<dm::key>& keys) {
    for (const dm::key key : keys) CHECK(map.detach(key));
    map.release_reserved();
  });
}

TEST_CASE("keys stay dead when slots are given back and made again") {
  check_keys_stay_dead([](string_map& map, const std::vector<dm::key>&) {
    map.clear();
    map.shrink_to_fit();
    CHECK(map.slot_count() == 0);
    CHECK(map.capacity() == 0);
  });
}

TEST_CASE("keys stay dead in a map that was copied after it shrank") {
  check_keys_stay_dead([](string_map& map, const std::vector<dm::key>&) {
    map.clear();
    map.shrink_to_fit();
    const string_map copy(map);
    map = string_map();
    map = copy;
  });
}

TEST_CASE("keys stay dead in a map that was moved and swapped after it shrank") {
  check_keys_stay_dead([](string_map& map, const std::vector<dm::key>&) {
    map.clear();
    map.shrink_to_fit();
    string_map moved(std::move(map));
    string_map assigned;
    assigned = std::move(moved);
    swap(map, assigned);
  });
}

TEST_CASE("keys stay dead in a copy of a map with holes") {
  string_map map;
  std::vector<dm::key> keys;
  for (int i = 0; i < values; ++i) keys.push_back(map.insert("x"));
  for (std::size_t i = 0; i < values; i += 2) map.erase(keys[i]);
  string_map copy(map);
  CHECK(copy.verify() == "");
  for (int i = 0; i < values; ++i) copy.insert("y");
  for (std::size_t i = 0; i < values; ++i) CHECK(copy.contains(keys[i]) == (i % 2 != 0));
}

TEST_CASE("the key of a released handle never becomes valid") {
  string_map map;
  dm::handle handle = map.allocate_handle();
  const dm::key key = handle.key();
  map.release_handle(std::move(handle));
  CHECK(map.insert("x").index() == key.index());
  CHECK_FALSE(map.contains(key));
}

TEST_CASE("the generation floor is that of the furthest slot given back") {
  string_map map;
  const dm::key kept = map.insert("kept");
  for (int i = 0; i < 50; ++i) map.erase(map.insert("churned"));
  for (int i = 0; i < 9; ++i) map.insert("one life");
  CHECK(map.generation_floor() == 0);
  map.retain([&](dm::key key, std::string&) { return key == kept; });
  map.shrink_to_fit();
  CHECK(map.slot_count() == 1);
  CHECK(map.generation_floor() == 52);
  CHECK(map.insert("x") == dm::key::from_parts(1, 52));
  CHECK(map.insert("x") == dm::key::from_parts(2, 52));
  map.shrink_to_fit();
  CHECK(map.generation_floor() == 52);
}

TEST_CASE("the last generation is used and then the slot is retired") {
  nearly_used_up used(1);
  auto& map = used.map;
  const dm::key key = map.insert(7);
  CHECK(key == dm::key::from_parts(0, version::last_generation));
  CHECK(key);
  CHECK(map.at(key) == 7);
  CHECK(map.erase(key));
  CHECK_FALSE(map.contains(key));
  CHECK(map.state(0) == dm::slot_state::retired);
  CHECK(map.retired_count() == 1);
  CHECK(map.verify() == "");
  for (std::uint64_t i = 0; i < 300; ++i) CHECK(map.insert(i).index() == i + 1);
  map.clear();
  CHECK(map.state(0) == dm::slot_state::retired);
  CHECK(map.verify() == "");
}

TEST_CASE("every way of ending a last life retires the slot") {
  const auto check = [](const std::function<void(test::plain_map<std::uint64_t>&)>& end_all) {
    nearly_used_up used(200);
    end_all(used.map);
    CHECK(used.map.empty());
    CHECK(used.map.reserved_count() == 0);
    CHECK(used.map.retired_count() == 200);
    CHECK(used.map.verify() == "");
    CHECK(used.map.insert(1) == dm::key::from_parts(200, 1));
  };
  const auto fill = [](test::plain_map<std::uint64_t>& map) {
    for (std::uint64_t i = 0; i < 200; ++i) map.insert(i);
    CHECK(map.slot_count() == 200);
  };
  const auto allocate = [](test::plain_map<std::uint64_t>& map) {
    std::vector<dm::handle> handles;
    for (int i = 0; i < 200; ++i) handles.push_back(map.allocate_handle());
    CHECK(map.slot_count() == 200);
    return handles;
  };
  check([&](auto& map) { fill(map), map.clear(); });
  check([&](auto& map) { fill(map), map.retain([](dm::key, std::uint64_t&) { return false; }); });
  check([&](auto& map) { fill(map), map.drain(); });
  check([&](auto& map) {
    fill(map);
    for (std::uint32_t i = 0; i < 200; ++i) CHECK(map.remove(map.key_at(i)) == i);
  });
  check([&](auto& map) {
    for (dm::handle& handle : allocate(map)) map.release_handle(std::move(handle));
  });
  check([&](auto& map) { allocate(map), map.release_reserved(); });
  check([&](auto& map) { allocate(map), map.recover(); });
}

TEST_CASE("a detached last life can be reinserted and is retired only when it ends") {
  nearly_used_up used(1);
  auto& map = used.map;
  const dm::key key = map.insert(7);
  auto detached = map.detach(key);
  CHECK(map.retired_count() == 0);
  map.insert(std::move(detached->second), 8);
  CHECK(map.at(key) == 8);
  map.erase(key);
  CHECK(map.retired_count() == 1);
}

TEST_CASE("retired slots survive shrinking and recovery") {
  nearly_used_up used(3);
  auto& map = used.map;
  for (std::uint64_t i = 0; i < 3; ++i) map.insert(i);
  map.clear();
  for (std::uint64_t i = 0; i < 10; ++i) map.insert(i);
  map.clear();
  map.shrink_to_fit();
  CHECK(map.slot_count() == 3);
  CHECK(map.retired_count() == 3);
  CHECK(map.verify() == "");
  map.recover();
  CHECK(map.retired_count() == 3);
  CHECK(map.verify() == "");
  CHECK(map.insert(1).index() == 3);
}

TEST_CASE("a floor at the last generation leaves new slots one life") {
  nearly_used_up used(5);
  auto& map = used.map;
  map.shrink_to_fit();
  CHECK(map.slot_count() == 0);
  CHECK(map.generation_floor() == version::last_generation);
  const dm::key key = map.insert(1);
  CHECK(key == dm::key::from_parts(0, version::last_generation));
  map.erase(key);
  CHECK(map.retired_count() == 1);
  CHECK(map.insert(1).index() == 1);
  CHECK(map.verify() == "");
}

TEST_CASE("reserving counts retired slots as no room") {
  nearly_used_up used(5);
  auto& map = used.map;
  for (std::uint64_t i = 0; i < 5; ++i) map.insert(i);
  map.clear();
  map.reserve(100);
  CHECK(map.capacity() >= 105);
}

TEST_CASE("versions are put together and taken apart") {
  static_assert(version::vacant(0) == 0, "fresh memory is a vacant slot that was never used");
  static_assert(version::next_vacant(version::occupied(5)) == version::vacant(6));
  static_assert(version::next_vacant(version::reserved(5)) == version::vacant(6));
  static_assert(version::is_retired(version::next_vacant(version::occupied(version::last_generation))));
  static_assert(!version::is_retired(version::vacant(version::last_generation)));
  static_assert(version::last_generation == (1u << 30) - 2);
  for (const std::uint32_t g : {1u, 2u, version::last_generation}) {
    CHECK(version::is_possible(version::vacant(g)));
    CHECK(version::is_possible(version::reserved(g)));
    CHECK(version::is_possible(version::occupied(g)));
    CHECK_FALSE(version::is_possible(g << 2 | version::updating_bits));
    CHECK(version::generation(version::occupied(g)) == g);
  }
  for (const std::uint32_t g : {0u, version::retired_generation}) {
    CHECK(version::is_possible(version::vacant(g)));
    CHECK_FALSE(version::is_possible(version::reserved(g)));
    CHECK_FALSE(version::is_possible(version::occupied(g)));
  }
  CHECK(version::state(version::vacant(version::retired_generation)) == dm::slot_state::retired);
  CHECK(version::state(version::updating_bits) == dm::slot_state::updating);
  CHECK(std::string(to_string(dm::slot_state::retired)) == "retired");
}
