#include "stories.hpp"

#include <bit>

namespace interleavings {
namespace {

programs::program adds(key of, std::uint64_t number) {
  return [=](own& o) { actor(o).add(of, number); };
}
programs::program gets(key of) {
  return [=](own& o) { actor(o).get(of); };
}
programs::program removes(key of) {
  return [=](own& o) { actor(o).remove(of); };
}
programs::program inserts(std::uint64_t number) {
  return [=](own& o) { actor(o).insert(number); };
}
void remove_and_insert(own& o) {
  actor a(o);
  a.remove(first);
  a.insert(7);
}
void insert_and_remove(own& o) {
  actor a(o);
  key k;
  if (a.insert(1, &k)) a.remove(k);
}
void remove_and_give_back(own& o) {
  actor a(o);
  a.remove(first);
  a.give_back();
}
void hold_and_give_up(own& o) {
  actor a(o);
  if (const auto k = a.hold()) a.give_up(*k);
}
void hold_and_fill(own& o) {
  actor a(o);
  if (const auto k = a.hold()) a.fill(*k, 3);
}

void update_remove_and_give_back(own& o) {
  actor a(o);
  a.add(first, 1);
  a.remove(first);
  a.give_back();
}
void hold_give_up_and_insert(own& o) {
  actor a(o);
  if (const auto k = a.hold()) a.give_up(*k);
  a.insert(4);
}
void look_at_both(own& o) {
  actor a(o);
  a.get(first);
  a.get(second);
}
void walk(own& o) { actor(o).walk(first); }
/// Reaps, and goes on as the dead one: with its attachment, its leases and their scratch areas.
void reap_and_take_the_place(own& o) {
  const std::uint64_t dead = reap_the_dead();
  actor(o, static_cast<std::uint32_t>(std::countr_zero(dead))).add(first, 1000);
}

}  // namespace

std::vector<story> stories_of_two() {
  const std::uint32_t last = dm::version::last_generation;
  return {
      {.name = "two updates of one value", .slots = 1, .occupied = 1, .threads = {adds(first, 1), adds(first, 10)}},
      {.name = "update and look",
       .slots = 1,
       .occupied = 1,
       .threads = {adds(first, 1), gets(first)},
       .one_writer = true},
      {.name = "update twice and look twice",
       .slots = 1,
       .occupied = 1,
       .threads = {[](own& o) {
                     actor a(o);
                     a.add(first, 1);
                     a.add(first, 10);
                   },
                   [](own& o) {
                     actor b(o);
                     b.get(first);
                     b.get(first);
                   }},
       .one_writer = true,
       .is_long = true},
      {.name = "updates of two values through one scratch area, and looks",
       .slots = 2,
       .occupied = 2,
       .threads = {[](own& o) {
                     actor a(o);
                     a.add(first, 1);
                     a.add(second, 10);
                   },
                   look_at_both},
       .one_writer = true},
      {.name = "updates of two values, crosswise",
       .slots = 2,
       .occupied = 2,
       .threads = {[](own& o) {
                     actor a(o);
                     a.add(first, 1);
                     a.add(second, 1);
                   },
                   [](own& o) {
                     actor b(o);
                     b.add(second, 10);
                     b.add(first, 10);
                   }},
       .deaths_max = 1,
       .is_long = true},
      {.name = "remove and update", .slots = 1, .occupied = 1, .threads = {removes(first), adds(first, 10)}},
      {.name = "remove and remove", .slots = 1, .occupied = 1, .threads = {removes(first), removes(first)}},
      {.name = "insert one, remove another, and looks the other way round",
       .slots = 2,
       .occupied = 1,
       .threads = {[](own& o) {
                     actor a(o);
                     a.insert(1);
                     a.remove(first);
                   },
                   look_at_both},
       .one_writer = true},
      {.name = "update one, remove another, and looks the other way round",
       .slots = 2,
       .occupied = 2,
       .threads = {[](own& o) {
                     actor a(o);
                     a.add(second, 1);
                     a.remove(first);
                   },
                   look_at_both},
       .one_writer = true},
      {.name = "remove, insert again, and look",
       .slots = 1,
       .occupied = 1,
       .threads = {remove_and_insert, gets(first)},
       .one_writer = true},
      {.name = "remove, insert again, and insert",
       .slots = 2,
       .occupied = 1,
       .threads = {remove_and_insert, inserts(8)}},
      {.name = "remove, insert again, and update",
       .slots = 1,
       .occupied = 1,
       .threads = {remove_and_insert, adds(first, 1)}},
      {.name = "insert and insert, into one slot", .slots = 1, .occupied = 0, .threads = {inserts(1), inserts(2)}},
      {.name = "insert and insert, claiming two at a time",
       .slots = 3,
       .occupied = 0,
       .threads = {inserts(1), inserts(2)},
       .deaths_max = 1,
       .cache_limit = 2},
      {.name = "insert, remove, and insert", .slots = 2, .occupied = 0, .threads = {insert_and_remove, inserts(2)}},
      {.name = "a handle is given up while somebody inserts",
       .slots = 1,
       .occupied = 0,
       .threads = {hold_and_give_up, inserts(2)}},
      {.name = "a handle is given up, and its slot used again",
       .slots = 1,
       .occupied = 0,
       .threads = {hold_give_up_and_insert, gets(first)}},
      {.name = "a handle is filled while somebody inserts",
       .slots = 1,
       .occupied = 0,
       .threads = {hold_and_fill, inserts(2)},
       .is_long = true},
      {.name = "a handle is filled while somebody looks",
       .slots = 1,
       .occupied = 0,
       .threads = {hold_and_fill, gets(first)},
       .one_writer = true},
      {.name = "remove, give back, and insert",
       .slots = 1,
       .occupied = 1,
       .threads = {remove_and_give_back, inserts(2)}},
      {.name = "update, remove, give back, and insert",
       .slots = 1,
       .occupied = 1,
       .threads = {update_remove_and_give_back, inserts(2)}},
      {.name = "remove three through a small cache, and insert",
       .slots = 3,
       .occupied = 3,
       .threads = {[](own& o) {
                     actor a(o);
                     a.remove(first);
                     a.remove(second);
                     a.remove({2, unused_generation});
                   },
                   inserts(2)},
       .deaths_max = 1,
       .cache_limit = 1,
       .is_long = true},
      {.name = "iterate while others come and go", .slots = 2, .occupied = 1, .threads = {insert_and_remove, walk}},
      {.name = "iterate while others give back",
       .slots = 2,
       .occupied = 2,
       .threads = {[](own& o) {
                     actor a(o);
                     a.remove(first);
                     a.give_back();
                     a.insert(5);
                   },
                   [](own& o) { actor(o).walk(second); }}},
      {.name = "the last life of a slot",
       .slots = 1,
       .occupied = 1,
       .threads = {removes({0, last}), adds({0, last}, 1)},
       .generation = last},
      {.name = "the last life of a slot is a handle's",
       .slots = 1,
       .occupied = 0,
       .threads = {hold_and_give_up, inserts(1)},
       .generation = last},
      {.name = "who reaps takes the place of the dead, while somebody looks",
       .slots = 1,
       .occupied = 1,
       .threads = {adds(first, 1), gets(first)},
       .deaths_max = 1,
       .reaper = reap_and_take_the_place},
  };
}

std::vector<story> stories_of_three() {
  std::vector<story> all = {
      {.name = "update, update, look",
       .slots = 1,
       .occupied = 1,
       .threads = {adds(first, 1), adds(first, 10), gets(first)},
       .is_long = true},
      {.name = "update, remove, look",
       .slots = 1,
       .occupied = 1,
       .threads = {adds(first, 1), removes(first), gets(first)}},
      {.name = "update, remove and insert again, look",
       .slots = 1,
       .occupied = 1,
       .threads = {adds(first, 1), remove_and_insert, gets(first)}},
      {.name = "remove, remove, update",
       .slots = 1,
       .occupied = 1,
       .threads = {removes(first), removes(first), adds(first, 1)}},
      {.name = "remove and give back, insert, look",
       .slots = 1,
       .occupied = 1,
       .threads = {remove_and_give_back, inserts(2), gets(first)},
       .is_long = true},
      {.name = "remove and give back, insert, update",
       .slots = 1,
       .occupied = 1,
       .threads = {remove_and_give_back, inserts(2), adds(first, 1)},
       .is_long = true},
      {.name = "updates through one scratch area, look, update",
       .slots = 2,
       .occupied = 2,
       .threads = {[](own& o) {
                     actor a(o);
                     a.add(first, 1);
                     a.add(second, 10);
                   },
                   gets(first), adds(second, 100)},
       .is_long = true},
      {.name = "a handle is filled, insert, look",
       .slots = 2,
       .occupied = 0,
       .threads = {hold_and_fill, inserts(2), gets(first)}},
      {.name = "insert and remove, remove, iterate",
       .slots = 2,
       .occupied = 1,
       .threads = {insert_and_remove, removes(second), walk}},
      {.name = "remove and give back, insert, insert",
       .slots = 1,
       .occupied = 1,
       .threads = {remove_and_give_back, inserts(2), inserts(3)},
       .hint = false,
       .is_long = true},
      {.name = "three inserts, into two slots",
       .slots = 2,
       .occupied = 0,
       .threads = {inserts(1), inserts(2), inserts(3)},
       .hint = false,
       .is_long = true},
      {.name = "three updates of one value",
       .slots = 1,
       .occupied = 1,
       .threads = {adds(first, 1), adds(first, 10), adds(first, 100)},
       .is_long = true},
  };
  for (story& of : all) of.deaths_max = 1;
  return all;
}

}  // namespace interleavings
