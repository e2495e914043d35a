// What the death of a process can leave behind between two stores, put there by hand, and what recovery makes of it.
//
// Every operation on persistent memory stores first the count that goes down, then the slot's version, then
// the index, and last the count that goes up. So the states to be recovered from are the prefixes of those four.
#include <rapidcheck.h>

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "deferred_map/deferred_map.hpp"
#include "plain_arena.hpp"

namespace {

using arena_type = test::plain_arena<std::uint64_t>;
using map_type = test::plain_map<std::uint64_t>;
namespace version = dm::version;

bool adds_up(const arena_type& arena) {
  const auto& c = arena.control;
  return c.occupied + c.reserved + c.vacant + c.retired == c.slot_count;
}

/// Five occupied slots, then two that are vacant.
struct scene {
  arena_type arena{1000};
  std::vector<dm::key> keys;

  scene() {
    map_type map({&arena});
    for (std::uint64_t i = 0; i < 7; ++i) keys.push_back(map.insert(i));
    map.erase(keys[6]);
    map.erase(keys[5]);
  }
  /// Attaches and recovers as an opener would; returns what went wrong. `gone`: the key that is expected to be dead.
  dm::recovery_counts recover(std::uint32_t occupied_expected) {
    CHECK_FALSE(adds_up(arena));
    map_type map({&arena});
    const dm::recovery_counts counts = map.recover();
    CHECK(counts.impossible == 0);
    CHECK(counts.occupied == occupied_expected);
    CHECK(adds_up(arena));
    CHECK(map.verify() == "");
    CHECK(map.size() == occupied_expected);
    CHECK(map.reserved_count() == 0);
    for (std::uint32_t i = 0; i < 5; ++i)
      if (map.contains(keys[i])) CHECK(map.at(keys[i]) == i);
    for (std::uint64_t i = 0; i < 300; ++i) map.insert(i);
    CHECK(map.verify() == "");
    CHECK(map.size() == occupied_expected + 300);
    return counts;
  }
};

}  // namespace

TEST_CASE("counts add up between operations") {
  scene s;
  CHECK(adds_up(s.arena));
  map_type map({&s.arena});
  dm::handle handle = map.allocate_handle();
  CHECK(adds_up(s.arena));
  map.insert(std::move(handle), 1);
  CHECK(adds_up(s.arena));
  map.insert(2);
  map.insert(3);
  CHECK(adds_up(s.arena));
  CHECK(map.detach(s.keys[0]));
  CHECK(adds_up(s.arena));
  map.release_reserved();
  map.shrink_to_fit();
  CHECK(adds_up(s.arena));
}

TEST_CASE("a death while a value is removed is recovered from") {
  for (int stores = 1; stores <= 2; ++stores) {
    scene s;
    --s.arena.control.occupied;
    if (stores >= 2) s.arena.version(2) = version::next_vacant(s.arena.version(2));
    s.recover(stores >= 2 ? 4 : 5);
  }
}

TEST_CASE("a death while a slot is taken, with or without its new state, is recovered from") {
  for (const std::uint32_t bits : {version::vacant_bits, version::reserved_bits, version::occupied_bits}) {
    scene s;
    auto& c = s.arena.control;
    --c.vacant;
    const std::uint32_t index = c.buffer[--c.buffer_count];
    s.arena.version(index) |= bits;
    const auto counts = s.recover(bits == version::occupied_bits ? 6 : 5);
    CHECK(counts.reserved_given_back == (bits == version::reserved_bits ? 1 : 0));
  }
}

TEST_CASE("a death while a handle is filled is recovered from") {
  for (const bool committed : {false, true}) {
    scene s;
    dm::key key;
    {
      map_type map({&s.arena});
      const dm::handle handle = map.allocate_handle();
      key = handle.key();
    }
    --s.arena.control.reserved;
    if (committed) s.arena.version(key.index()) = version::occupied(key.generation());
    s.recover(committed ? 6 : 5);
    CHECK(map_type({&s.arena}).get(key) == (committed ? &s.arena.slots()[key.index()].value : nullptr));
  }
}

TEST_CASE("a death after a new slot was made is recovered from") {
  for (const std::uint32_t word : {0u, version::vacant(1), version::reserved(1), version::occupied(1)}) {
    scene s;
    {
      map_type map({&s.arena});
      map.reserve(10);
    }
    s.arena.version(7) = word;
    ++s.arena.control.slot_count;
    s.recover(word == version::occupied(1) ? 6 : 5);
  }
}

// Only those at the end were given a generation, and one in the middle was handed out with a null key.
TEST_CASE("slots whose page was lost are made anew, wherever they are") {
  scene s;
  s.arena.version(1) = 0;
  s.arena.version(3) = 0;
  s.arena.control.generation_floor = 9;
  --s.arena.control.occupied;
  s.recover(3);
  CHECK(map_type({&s.arena}).key_at(1).generation() == 9);
  CHECK(map_type({&s.arena}).key_at(3).generation() == 9);
}

TEST_CASE("recovery can die anywhere and be started again") {
  for (std::uint32_t given_back = 0; given_back <= 2; ++given_back) {
    scene s;
    {
      map_type map({&s.arena});
      const dm::handle a = map.allocate_handle();
      const dm::handle b = map.allocate_handle();
      CHECK(a.index() + b.index() == 11);
    }
    // It dies having given back some slots and nothing else.
    s.arena.control.recovering = 1;
    for (std::uint32_t i = 0; i < given_back; ++i)
      s.arena.version(5 + i) = version::next_vacant(s.arena.version(5 + i));
    --s.arena.control.reserved;
    const auto counts = s.recover(5);
    CHECK(counts.reserved_given_back == 2 - given_back);
    CHECK(s.arena.control.recovering == 0);
  }
}

TEST_CASE("a version that no operation leaves stops recovery before it changes anything, unless told to mend") {
  for (const std::uint32_t word :
       {version::updating_bits, version::reserved(0), version::occupied(0),
        version::occupied(version::retired_generation), (5u << 2) | version::updating_bits}) {
    scene s;
    s.arena.version(3) = word;
    const auto before = s.arena.control.occupied;
    map_type map({&s.arena});
    CHECK(map.verify() != "");
    const dm::recovery_counts counts = map.recover();
    CHECK(counts.impossible == 1);
    CHECK(counts.first_impossible == 3);
    CHECK(s.arena.version(3) == word);
    CHECK(s.arena.control.occupied == before);
    CHECK(map.recover(true).impossible == 1);
    CHECK(map.verify() == "");
    CHECK(map.size() == 4);
    CHECK_FALSE(map.contains(s.keys[3]));
    for (std::uint64_t i = 0; i < 100; ++i) CHECK(map.insert(i));
    CHECK(map.verify() == "");
  }
}

TEST_CASE("verify names every kind of damage") {
  const auto fault = [](auto damage) {
    scene s;
    damage(s.arena);
    return map_type({&s.arena}).verify();
  };
  CHECK(fault([](arena_type&) {}) == "");
  CHECK(fault([](arena_type& a) { ++a.control.occupied; }) != "");
  CHECK(fault([](arena_type& a) { ++a.control.reserved; }) != "");
  CHECK(fault([](arena_type& a) { ++a.control.vacant; }) != "");
  CHECK(fault([](arena_type& a) { ++a.control.retired; }) != "");
  CHECK(fault([](arena_type& a) { a.control.slot_count = 0xffff'ffffu; }) != "");
  CHECK(fault([](arena_type& a) { a.control.generation_floor = version::retired_generation; }) != "");
  CHECK(fault([](arena_type& a) { a.control.buffer[0] = 6'000; }) != "");
  CHECK(fault([](arena_type& a) { a.control.buffer[0] = 0; }) != "");
  CHECK(fault([](arena_type& a) { a.control.buffer[0] = a.control.buffer[1]; }) != "");
  CHECK(fault([](arena_type& a) { --a.control.buffer_count; }) != "");
  CHECK(fault([](arena_type& a) { a.control.buffer_count = 1'000; }) != "");
  CHECK(fault([](arena_type& a) { a.words[0] &= ~std::uint64_t{1}; }) != "");
  CHECK(fault([](arena_type& a) { a.words[0] &= ~(std::uint64_t{1} << 63); }) != "");
  CHECK(fault([](arena_type& a) { a.words[dm::index_shape(1000).offset[1]] |= 1; }) != "");
  CHECK(fault([](arena_type& a) { a.words[dm::index_shape(1000).offset[1]] |= 2; }) != "");
  CHECK(fault([](arena_type& a) { a.version(2) = version::reserved(1); }) != "");
}

// The buffer's entries were believed when they were spilled to the bitmap, which wrote behind it.
TEST_CASE("whatever the index says, no slot is handed out that is not vacant") {
  CHECK(rc::check("hostile index", [] {
    const auto slots = *rc::gen::inRange<std::uint32_t>(1, 700);
    arena_type arena(700);
    std::map<dm::key, std::uint64_t> live;
    map_type map({&arena});
    for (std::uint64_t i = 0; i < slots; ++i) live.emplace(map.insert(i), i);
    const auto stride = *rc::gen::inRange<std::uint32_t>(1, 5);
    for (auto it = live.begin(); it != live.end();) {
      if (it->first.index() % stride == 0) {
        map.erase(it->first);
        it = live.erase(it);
      } else {
        ++it;
      }
    }
    // Half of the words at random, so that the damage is not always found at once.
    for (std::uint64_t& word : arena.words)
      if (*rc::gen::arbitrary<bool>()) word = *rc::gen::arbitrary<std::uint64_t>() * 0x9e3779b97f4a7c15u;
    for (std::uint32_t& index : arena.control.buffer)
      if (*rc::gen::arbitrary<bool>())
        index = *rc::gen::inRange<std::uint32_t>(0, 800) * *rc::gen::element(1u, 5'000'000u);
    arena.control.buffer_count = *rc::gen::inRange<std::uint32_t>(0, dm::vacancy_index::buffer_limit_max + 1);
    // Erasing first: the damaged buffer overflows into the damaged bitmap before anything looks at it.
    for (auto erased = *rc::gen::inRange<std::size_t>(0, 200); erased > 0 && !live.empty(); --erased) {
      RC_ASSERT(map.erase(live.begin()->first));
      live.erase(live.begin());
    }
    for (std::uint64_t i = 0; i < 2000; ++i) {
      if (i % 3 != 0 && !live.empty()) {
        const auto victim = live.lower_bound(dm::key::from_parts(static_cast<std::uint32_t>(i * 31 % 700), 1));
        if (victim != live.end()) {
          RC_ASSERT(map.erase(victim->first));
          live.erase(victim);
        }
      }
      if (map.size() >= 690) continue;
      const dm::key key = map.insert(i);
      if (!live.emplace(key, i).second) RC_FAIL("a live slot was handed out");
      if (i % 100 == 0)
        for (const auto& [live_key, value] : live) {
          const std::uint64_t* found = map.get(live_key);
          if (found == nullptr || *found != value) RC_FAIL("a value was overwritten");
          if (map.find(live_key)->key != live_key) RC_FAIL("find went elsewhere");
        }
    }
    RC_ASSERT(map.size() == live.size());
    map.recover();
    RC_ASSERT(map.verify() == "");
    for (const auto& [key, value] : live) RC_ASSERT(map.at(key) == value);
  }));
}

// Recovery rebuilds the index as far as there is room. What lay behind was believed when there was more room: nothing was
// lost, but verify() called a sound map damaged.
TEST_CASE("summaries that recovery did not reach say nothing when there is room for them") {
  for (const std::uint32_t capacity : {0u, 64u}) {
    arena_type arena(10'000);
    arena.expand(capacity);
    arena.control.capacity = capacity;
    for (auto& word : arena.words) word = 0x5555'5555'5555'5555;
    map_type map({&arena});
    map.recover(true);
    CHECK(map.verify() == "");
    map.insert(1);
    CHECK(map.verify() == "");
    for (std::uint64_t i = 0; i < 9'000; ++i) map.insert(i);
    CHECK(map.verify() == "");
  }
}

// Where there was no room for a slot, verify() did not look at the buffer.
TEST_CASE("verify looks at the buffer of a map that has no room") {
  arena_type arena(100);
  CHECK(map_type({&arena}).verify() == "");
  arena.control.buffer_count = 128;
  CHECK(map_type({&arena}).verify() != "");
  map_type map({&arena});
  map.insert(1);
  CHECK(map.verify() == "");
  CHECK(map.size() == 1);
}
