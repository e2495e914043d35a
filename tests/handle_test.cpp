// Reserving now and filling later: handles, and reservations that cannot be forgotten.
#include "deferred_map/handle.hpp"

#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "deferred_map/deferred_map.hpp"
#include "deferred_map/reservation.hpp"
#include "values.hpp"

using test::fragile;
using test::fuse;

namespace {

using string_map = dm::deferred_map<std::string>;

/// Every use of this handle on this map is an error, and changes neither.
template <class Map>
void check_is_bad(Map& map, dm::handle& handle) {
  const std::size_t size = map.size();
  const std::size_t reserved = map.reserved_count();
  const dm::key key = handle.key();
  CHECK_FALSE(map.holds(handle));
  CHECK_THROWS_AS(map.insert(std::move(handle), typename Map::mapped_type()), dm::bad_handle);
  CHECK_THROWS_AS(map.emplace(std::move(handle)), dm::bad_handle);
  CHECK_THROWS_AS(map.release_handle(std::move(handle)), dm::bad_handle);
  CHECK(handle.key() == key);
  CHECK(map.size() == size);
  CHECK(map.reserved_count() == reserved);
  CHECK(map.verify() == "");
}

}  // namespace

static_assert(!std::is_copy_constructible_v<dm::handle> && !std::is_copy_assignable_v<dm::handle>);
static_assert(std::is_nothrow_move_constructible_v<dm::handle> && std::is_nothrow_move_assignable_v<dm::handle>);
static_assert(!std::is_constructible_v<dm::handle, dm::key>, "only a map makes handles");
static_assert(std::is_base_of_v<std::logic_error, dm::bad_handle>);

TEST_CASE("a handle tells the key that its value will have") {
  string_map map;
  dm::handle handle = map.allocate_handle();
  const dm::key key = handle.key();
  CHECK(handle);
  CHECK(handle.index() == key.index());
  CHECK(handle.generation() == key.generation());
  CHECK(map.holds(handle));
  CHECK_FALSE(map.contains(key));
  CHECK(map.size() == 0);
  CHECK(map.reserved_count() == 1);
  CHECK(map.begin() == map.end());
  std::string& value = map.insert(std::move(handle), "late");
  CHECK(&value == map.get(key));
  CHECK(value == "late");
  CHECK(map.reserved_count() == 0);
  CHECK(map.verify() == "");
}

TEST_CASE("values that point at each other need no placeholder") {
  struct node {
    dm::key other;
  };
  dm::deferred_map<node> map;
  dm::handle a = map.allocate_handle();
  dm::handle b = map.allocate_handle();
  const dm::key key_a = a.key();
  const dm::key key_b = b.key();
  map.insert(std::move(b), {key_a});
  map.insert(std::move(a), {key_b});
  CHECK(map.at(map.at(key_a).other).other == key_a);
}

TEST_CASE("a handle is good once") {
  string_map map;
  dm::handle inserted = map.allocate_handle();
  dm::handle emplaced = map.allocate_handle();
  dm::handle released = map.allocate_handle();
  map.insert(std::move(inserted), "a");
  map.emplace(std::move(emplaced), 2u, 'x');
  map.release_handle(std::move(released));
  for (dm::handle* handle : {&inserted, &emplaced, &released}) {
    CHECK_FALSE(*handle);
    CHECK_FALSE(handle->key());
    check_is_bad(map, *handle);
  }
}

TEST_CASE("moving a handle leaves nothing behind") {
  string_map map;
  dm::handle handle = map.allocate_handle();
  dm::handle taken = std::move(handle);
  check_is_bad(map, handle);
  CHECK(map.holds(taken));
  handle = std::move(taken);
  check_is_bad(map, taken);
  dm::handle& itself = handle;
  handle = std::move(itself);
  CHECK(map.holds(handle));
  map.insert(std::move(handle), "a");
  dm::handle never_good;
  check_is_bad(map, never_good);
}

TEST_CASE("a handle is no good for another map of the same type") {
  string_map map;
  string_map other;
  dm::handle handle = map.allocate_handle();
  dm::handle others = other.allocate_handle();
  CHECK(handle.key() == others.key());
  check_is_bad(other, handle);
  string_map unused;
  check_is_bad(unused, handle);
  map.insert(std::move(handle), "a");
  other.insert(std::move(others), "b");
}

TEST_CASE("a handle outlives the map it belongs to and is good for none") {
  dm::handle handle;
  {
    string_map map;
    handle = map.allocate_handle();
  }
  string_map next;
  dm::handle same_slot = next.allocate_handle();
  check_is_bad(next, handle);
  CHECK(next.holds(same_slot));
}

TEST_CASE("handles follow the contents when maps are moved") {
  string_map map;
  dm::handle handle = map.allocate_handle();
  string_map moved(std::move(map));
  check_is_bad(map, handle);
  CHECK(moved.holds(handle));
  string_map assigned;
  dm::handle lost = assigned.allocate_handle();
  assigned = std::move(moved);
  check_is_bad(assigned, lost);
  check_is_bad(moved, handle);
  CHECK(assigned.insert(std::move(handle), "a") == "a");
  // A map that was moved from begins anew, and its handles are its own.
  dm::handle anew = moved.allocate_handle();
  check_is_bad(assigned, anew);
  CHECK(moved.holds(anew));
}

TEST_CASE("handles follow the contents when maps are swapped") {
  string_map a;
  string_map b;
  dm::handle of_a = a.allocate_handle();
  dm::handle of_b = b.allocate_handle();
  swap(a, b);
  check_is_bad(a, of_a);
  check_is_bad(b, of_b);
  a.insert(std::move(of_b), "b");
  b.insert(std::move(of_a), "a");
}

TEST_CASE("a copy has no handles, and what they reserved is vacant there") {
  string_map map;
  dm::handle handle = map.allocate_handle();
  const dm::key kept = map.insert("kept");
  string_map copy(map);
  string_map assigned;
  dm::handle old = assigned.allocate_handle();
  assigned = map;
  check_is_bad(assigned, old);
  const dm::key key = handle.key();
  for (string_map* of : {&copy, &assigned}) {
    CHECK(of->reserved_count() == 0);
    CHECK(of->at(kept) == "kept");
    CHECK(of->verify() == "");
    check_is_bad(*of, handle);
    const dm::key reused = of->insert("new");
    CHECK(reused.index() == key.index());
    CHECK(reused != key);
    CHECK_FALSE(of->contains(key));
  }
  map.insert(std::move(handle), "a");
}

TEST_CASE("release_reserved gives up every handle") {
  string_map map;
  std::vector<dm::handle> handles;
  std::vector<dm::key> keys;
  for (int i = 0; i < 300; ++i) {
    handles.push_back(map.allocate_handle());
    keys.push_back(handles.back().key());
    map.insert("between");
  }
  CHECK(map.release_reserved() == 300);
  CHECK(map.reserved_count() == 0);
  CHECK(map.size() == 300);
  CHECK(map.verify() == "");
  for (int i = 0; i < 300; ++i) map.insert("after");
  CHECK(map.slot_count() == 600);
  check_is_bad(map, handles[0]);
  check_is_bad(map, handles[299]);
  for (const dm::key key : keys) CHECK_FALSE(map.contains(key));
  CHECK(map.release_reserved() == 0);
}

TEST_CASE("a value that cannot be built leaves its handle good") {
  dm::deferred_map<fragile> map;
  dm::handle handle = map.allocate_handle();
  fuse::set(0);
  CHECK_THROWS_AS(map.emplace(std::move(handle), 1), fuse::blown);
  fuse::set(1);  // the argument is built; moving it in fails
  CHECK_THROWS_AS(map.insert(std::move(handle), 1), fuse::blown);
  fuse::remove();
  CHECK(map.size() == 0);
  CHECK(map.reserved_count() == 1);
  CHECK(map.verify() == "");
  const dm::key key = handle.key();
  map.insert(std::move(handle), 2);
  CHECK(map.at(key) == 2);
  CHECK(map.verify() == "");
}

TEST_CASE("filling a handle moves no other value") {
  string_map map;
  const dm::key first = map.insert("first");
  const std::string* address = map.get(first);
  std::vector<dm::handle> handles;
  while (map.slot_count() != map.capacity()) handles.push_back(map.allocate_handle());
  for (dm::handle& handle : handles) map.insert(std::move(handle), "x");
  CHECK(map.get(first) == address);
}

TEST_CASE("a handle prints as its key") {
  string_map map;
  std::ostringstream out;
  out << map.allocate_handle() << ' ' << dm::handle();
  CHECK(out.str() == "0:1 null");
}

TEST_CASE("a reservation that is not filled gives its slot back") {
  string_map map;
  dm::key key;
  {
    const dm::reservation place(map);
    key = place.key();
    CHECK(place);
    CHECK(map.reserved_count() == 1);
  }
  CHECK(map.reserved_count() == 0);
  CHECK_THROWS_AS(
      [&] {
        const dm::reservation place(map);
        throw fuse::blown();
      }(),
      fuse::blown);
  CHECK(map.reserved_count() == 0);
  CHECK(map.slot_count() == 1);
  CHECK_FALSE(map.contains(key));
  CHECK(map.verify() == "");
}

TEST_CASE("a reservation that is filled keeps its value") {
  string_map map;
  dm::key a;
  dm::key b;
  {
    dm::reservation first(map);
    dm::reservation second(map);
    a = first.key();
    b = second.key();
    CHECK(first.insert("a") == "a");
    CHECK(second.emplace(1u, 'b') == "b");
    CHECK_FALSE(first);
    CHECK_THROWS_AS(first.insert("again"), dm::bad_handle);
  }
  CHECK(map.at(a) == "a");
  CHECK(map.at(b) == "b");
}

TEST_CASE("a reservation can be moved and can hand its handle over") {
  string_map map;
  dm::key key;
  {
    dm::reservation first(map);
    dm::reservation moved(std::move(first));
    CHECK_FALSE(first);
    dm::reservation other(map);
    key = moved.key();
    other = std::move(moved);
    CHECK(map.reserved_count() == 1);
    CHECK(other.key() == key);
    auto& itself = other;
    other = std::move(itself);
    CHECK(other);
    dm::reservation adopted(map, other.release());
    CHECK_FALSE(other);
    adopted.insert("a");
  }
  CHECK(map.at(key) == "a");
  CHECK(map.reserved_count() == 0);
}

TEST_CASE("a reservation whose value throws stays as it was until it ends") {
  dm::deferred_map<fragile> map;
  {
    dm::reservation place(map);
    fuse::set(0);
    CHECK_THROWS_AS(place.emplace(1), fuse::blown);
    fuse::remove();
    CHECK(place);
    CHECK(map.reserved_count() == 1);
  }
  CHECK(map.reserved_count() == 0);
  CHECK(map.verify() == "");
}

TEST_CASE("a reservation gives back nothing that is no longer its own") {
  string_map map;
  dm::handle next;
  {
    const dm::reservation place(map);
    map.release_reserved();
    next = map.allocate_handle();
    CHECK(next.index() == place.key().index());
  }
  CHECK(map.holds(next));
}

// The result was moved on its way out, which may throw when the value has left the map already.
TEST_CASE("a value that cannot be moved out by detach stays where it is") {
  for (int steps = 0;; ++steps) {
    dm::deferred_map<test::fragile> map;
    const dm::key key = map.emplace(1);
    test::fuse::set(steps);
    bool failed = false;
    try {
      auto detached = map.detach(key);
      test::fuse::remove();
      CHECK(detached->first.number() == 1);
      CHECK(detached->second.key() == key);
    } catch (const test::fuse::blown&) {
      failed = true;
      CHECK(map.at(key).number() == 1);
      CHECK(map.reserved_count() == 0);
    }
    test::fuse::remove();
    CHECK(map.verify() == "");
    if (!failed) {
      CHECK(steps > 0);
      break;
    }
  }
}
