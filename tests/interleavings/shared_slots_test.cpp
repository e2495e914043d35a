// The algorithms of shared maps (sharing/slots.hpp), in every order of their atomic steps, with every old store that the
// memory model lets a load see, and with participants killed at every step.
//
// Stories of two and three threads, each with one to three operations, on one to three slots. In every ending of each:
//   - what the operations found could have been found had they happened one after the other, each between its beginning
//     and its end, those of the killed possibly not at all; and the values that are left are those that would be then.
//     (Where threads do not tell each other what they have done: so for each key by itself.) No key is handed out twice.
//   - no value was read, removed or left torn;
//   - every slot is occupied, in the cache of a living thread, vacant or retired, as the bits say: none is lost;
//   - where nobody was killed, the hints lead to what is vacant;
//   - everybody has come to an end: nobody but a second writer ever waits, and that for nobody but a living updater.
// Reapers are killed too, and others do their work again.
//
// What this leaves out: more threads, slots and operations than the stories have; values of more than two words; more than
// one word of the bitmap (the search for hints is left to the tests of maps), growth; that generations, tickets and counts
// of changes wrap around; and what weak_memory.hpp says that its model leaves out.
#include <bit>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "deferred_map/sharing/atomics.hpp"
#include "deferred_map/sharing/slots.hpp"
#include "history.hpp"
#include "search.hpp"
#include "threads.hpp"

namespace {

using namespace interleavings;
namespace word = dm::sharing::word;
using dm::sharing::outcome;
using operations = dm::sharing::slot_operations<scheduled_atomics>;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif
#else
constexpr bool sanitized = false;
#endif

/// A value of two words, the second of which tells whether the first is of the same.
struct pair_value {
  std::uint64_t number;
  std::uint64_t check;
};
pair_value whole(std::uint64_t number) { return {number, ~number}; }
void require(bool holds, const char* otherwise) {
  if (!holds) throw violation{otherwise};
}

constexpr std::uint32_t slots_max = 3;
constexpr std::uint32_t attachments_max = 4;
constexpr std::size_t slot_words = 3;   // word and value
constexpr std::size_t lease_words = 8;  // head and value; leases are numbered by eights, and the first of each is used
constexpr std::size_t words_max = slots_max * slot_words + 3 + attachments_max * lease_words;

dm::sharing::region region_in(std::uint64_t* words) {
  dm::sharing::region r;
  r.slots = reinterpret_cast<std::byte*>(words);
  r.stride_bytes = slot_words * 8;
  r.value_offset = 8;
  r.value_words = 2;
  r.taken = words + slots_max * slot_words;
  r.hints = r.taken + 1;
  r.slots_now = r.taken + 2;
  r.slots_max = slots_max;
  r.scratch = reinterpret_cast<std::byte*>(r.taken + 3);
  r.scratch_stride_bytes = lease_words * 8 / dm::sharing::leases_per_attachment;
  return r;
}
/// What the memory has in it when a story begins. Never changed by one.
std::uint64_t stage[words_max];

constexpr std::uint32_t unused_generation = 5;
const key first{0, unused_generation};
const key second{1, unused_generation};

/// One of the threads: what it does is noted in the history.
class actor {
 public:
  explicit actor(own& mine) : actor(mine, mine.id) {}
  actor(own& mine, std::uint32_t attachment)
      : mine_(mine), attachment_(attachment), on_(region_in(stage), attachment) {}

  /// False where there is no room.
  bool insert(std::uint64_t number, key* made = nullptr) {
    event& e = begins(what::insert, {}, number);
    const auto slot = takes();
    if (!slot) {
      e = {what::nothing, {}, 0, false, 0, true, false};
      ends(e);
      return false;
    }
    e.of = {*slot, on_.generation_of_taken(*slot)};
    e.key_known = true;
    require(e.of.second <= dm::version::last_generation, "a slot lives on after its last life");
    const pair_value value = whole(number);
    on_.publish(*slot, e.of.second, &value, sizeof value);
    if (made != nullptr) *made = e.of;
    ends(e);
    return true;
  }
  void get(key of) {
    event& e = begins(what::get, of, 0);
    pair_value value{};
    e.found = on_.read(of.first, of.second, &value, sizeof value).has_value();
    if (e.found) require(value.check == ~value.number, "a value was read torn");
    e.value = e.found ? value.number : 0;
    ends(e);
  }
  void add(key of, std::uint64_t number) {
    event& e = begins(what::add, of, number);
    for (;;) {
      pair_value value{};
      const auto before = on_.read(of.first, of.second, &value, sizeof value);
      e.found = before.has_value();
      if (!e.found) break;
      require(value.check == ~value.number, "a value was read torn");
      if (word::is_updating(*before)) waits(of.first);
      const pair_value next = whole(value.number + number);
      const std::uint32_t lease = attachment_ * dm::sharing::leases_per_attachment;
      if (on_.begin_update(of.first, *before, lease, &next, sizeof next) == outcome::done) {
        on_.finish_update(of.first, lease);
        break;
      }
      between(0);
    }
    ends(e);
  }
  void remove(key of) {
    event& e = begins(what::remove, of, 0);
    pair_value value{};
    const outcome result = on_.remove(of.first, of.second, mine_.cache, &value, sizeof value);
    if (result == outcome::busy) waits(of.first);
    e.found = result == outcome::done;
    if (e.found) require(value.check == ~value.number, "a value was removed torn");
    e.value = e.found ? value.number : 0;
    ends(e);
  }
  /// Of a handle. Nothing where there is no room.
  std::optional<key> hold() {
    event& e = begins(what::hold, {}, 0);
    const auto slot = takes();
    if (!slot) {
      e = {what::nothing, {}, 0, false, 0, true, false};
      ends(e);
      return std::nullopt;
    }
    // Nobody knows the key before it is said whose it is.
    const std::uint32_t generation = on_.hold(*slot);
    e.of = {*slot, generation};
    e.key_known = true;
    require(generation <= dm::version::last_generation, "a slot lives on after its last life");
    require(on_.is_held(*slot, generation), "a slot of one's own is somebody else's");
    ends(e);
    return e.of;
  }
  void fill(key of, std::uint64_t number) {
    event& e = begins(what::fill, of, number);
    require(on_.is_held(of.first, of.second), "a slot of one's own is somebody else's");
    const pair_value value = whole(number);
    on_.publish(of.first, of.second, &value, sizeof value);
    ends(e);
  }
  void give_up(key of) { on_.release(of.first, of.second, mine_.cache); }
  void give_back() { on_.give_back(mine_.cache, true); }
  /// Looks at the keys there are, `throughout` among them.
  void walk(key throughout) {
    std::uint64_t seen = 0;
    on_.for_each_taken([&](std::uint32_t index) { seen |= std::uint64_t{1} << index; });
    require((seen >> throughout.first & 1) != 0, "iteration missed a value");
    for (std::uint32_t i = 0; i < slots_max; ++i) {
      if ((seen >> i & 1) == 0) continue;
      const std::uint64_t w = scheduled_atomics::load(on_.memory().word(i), std::memory_order_acquire);
      if (word::is_occupied(w) || word::is_updating(w)) get({i, word::generation_of(w)});
    }
  }

 private:
  event& begins(what done, key of, std::uint64_t argument) {
    programs::take({act::begin, {}, 0, false, 0, 0, nullptr});
    event& e = mine_.events.at(mine_.event_count++);
    e = {done, of, argument, false, 0, done != what::insert && done != what::hold, false};
    return e;
  }
  static void ends(event& e) {
    programs::take({act::end, {}, 0, false, 0, 0, nullptr});
    e.ended = true;
  }
  /// For another's store; the operation then begins anew.
  void waits(std::uint32_t index) {
    programs::take({act::wait, {}, programs::location(on_.memory().word(index)), false, 0, 0, nullptr});
  }
  static void between(std::uint64_t parts) { programs::take({act::between, {}, 0, false, parts, 0, nullptr}); }
  std::optional<std::uint32_t> takes() {
    auto slot = on_.take(mine_.cache);
    if (!slot) {
      between(0);
      if (on_.claim_any(mine_.cache)) slot = on_.take(mine_.cache);
    }
    between(1 + (slot ? *slot + 1 : 0));
    return slot;
  }

  own& mine_;
  std::uint32_t attachment_;
  operations on_;
};

/// What a process does that finds dead ones. Returns these.
std::uint64_t reap_the_dead() {
  const std::uint64_t dead = programs::take({act::who_died, {}, 0, false, 0, 0, nullptr});
  for (std::uint32_t t = 0; t < attachments_max; ++t)
    if ((dead >> t & 1) != 0) operations(region_in(stage), t).reap(t);
  programs::take({act::buried, {}, 0, false, 0, 0, nullptr});
  return dead;
}
void reaper(own&) { reap_the_dead(); }

struct story {
  std::string name;
  std::uint32_t slots;
  std::uint32_t occupied;
  std::vector<programs::program> threads;
  unsigned deaths_max = 2;
  std::uint32_t cache_limit = 2;
  std::uint32_t generation = unused_generation;  ///< of all slots
  bool hint = true;                              ///< right or not
  programs::program reaper = {};                 ///< if not the plain one
  bool one_writer = false;  ///< so that all of it is in one order, though they do not tell each other
  bool is_long = false;     ///< not gone through with the sanitizers, which take several times as long
};

void set(const story& of) {
  std::memset(stage, 0, sizeof stage);
  const auto r = region_in(stage);
  std::uint64_t taken = ~std::uint64_t{0} << of.slots;
  for (std::uint32_t i = 0; i < of.slots; ++i) {
    r.word(i) = i < of.occupied ? word::occupied(of.generation, 7) : word::vacant(of.generation);
    if (i >= of.occupied) continue;
    r.value(i)[0] = 100 + i;
    r.value(i)[1] = ~r.value(i)[0];
    taken |= std::uint64_t{1} << i;
  }
  *r.taken = taken;
  *r.hints = of.hint;
  *r.slots_now = of.slots;
}

/// What is promised of every ending.
void check(const story& of, const limits& within, const ending& e) {
  std::uint64_t words[words_max];
  std::copy(e.words.begin(), e.words.end(), words);
  const auto r = region_in(words);
  history::contents before;
  for (std::uint32_t i = 0; i < of.occupied; ++i) before.push_back({{i, of.generation}, 100 + i});
  const bool has_vacant = std::popcount(*r.taken | ~std::uint64_t{0} << of.slots) != 64;
  require(e.deaths != 0 || !of.hint || !has_vacant || (*r.hints & 1) != 0, "no hint leads to what is vacant");

  // What is in the caches of the living is not lost.
  for (std::uint32_t t = 0; t < e.participants.size(); ++t) {
    if (e.participants[t].is_dead) continue;
    dm::sharing::slot_operations<dm::sharing::processor_atomics> as(r, t);
    for (const std::uint32_t index : e.participants[t].at->cached) {
      const std::uint64_t w = r.word(index);
      require(word::is_reserved(w) && word::is_cached(w) && word::owner_of(w) == t, "a cached slot is somebody else's");
      require((*r.taken >> index & 1) != 0, "the bit of a cached slot is not set");
      as.make_vacant(index, word::generation_of(w));
    }
  }
  history::contents after;
  for (std::uint32_t i = 0; i < of.slots; ++i) {
    const std::uint64_t w = r.word(i);
    const bool bit = (*r.taken >> i & 1) != 0;
    if (word::is_occupied(w)) {
      require(r.value(i)[1] == ~r.value(i)[0], "a value is torn");
      after.push_back({{i, word::generation_of(w)}, r.value(i)[0]});
      require(bit, "an occupied slot's bit is not set");
    } else {
      require(word::is_vacant(w), "a slot is nobody's and not vacant");
      const bool retired = word::generation_of(w) == dm::version::retired_generation;
      require(bit == retired, retired ? "a retired slot's bit is not set" : "a vacant slot's bit is set");
    }
  }
  history happened;
  for (std::size_t t = 0; t < e.participants.size(); ++t)
    for (std::size_t n = 0; n < e.participants[t].at->events.size(); ++n)
      happened.add(ending::bit_of(t, n), e.participants[t].at->events[n], e.participants[t].after[n]);
  require(happened.is_linearizable(before, after, !within.real_time && !of.one_writer),
          "what happened could not have happened one after the other");
}

explored explore_story(const story& of, bool real_time) {
  set(of);
  auto code = of.threads;
  for (unsigned i = 0; i < of.deaths_max; ++i) code.push_back(of.reaper ? of.reaper : reaper);
  programs run(stage, words_max, region_in(stage).slots_now, of.cache_limit, std::move(code));
  const limits within{of.deaths_max, real_time};
  return explore(
      run, stage, words_max, [&](const ending& e) { check(of, within, e); }, within);
}

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

/// Two threads. Deaths: of two, or of one and of who reaps it.
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
       .cache_limit = 4},
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
                     a.remove(second);
                     a.give_back();
                     a.insert(5);
                   },
                   walk}},
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

/// Three threads, one of which dies.
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

class table {
 public:
  table() {
    std::printf("%-66s %10s %10s %9s %9s %10s\n", "story", "states", "steps", "ends", "of deaths", "executions");
  }
  ~table() { print("all", all_); }
  void add(const std::string& name, const explored& e) {
    print(name, e);
    all_.states += e.states;
    all_.steps += e.steps;
    all_.ends += e.ends;
    all_.death_ends += e.death_ends;
    all_.executions += e.executions;
  }

 private:
  static void print(const std::string& name, const explored& e) {
    std::printf("%-66s %10llu %10llu %9llu %9llu %10.3g\n", name.c_str(), static_cast<unsigned long long>(e.states),
                static_cast<unsigned long long>(e.steps), static_cast<unsigned long long>(e.ends),
                static_cast<unsigned long long>(e.death_ends), e.executions);
    std::fflush(stdout);
  }
  explored all_;
};

void explore_all(const std::vector<story>& stories, bool real_time) {
  table results;
  for (const story& of : stories) {
    if (sanitized && of.is_long) continue;
    INFO(of.name);
    try {
      const explored found = explore_story(of, real_time);
      CHECK(found.complete);
      results.add(of.name, found);
    } catch (const found_violation& v) {
      FAIL(v.text);
    }
  }
}

}  // namespace

TEST_CASE("two threads, who know what ended before: in every order, with two deaths anywhere, shared slots are whole") {
  explore_all(stories_of_two(), true);
}
TEST_CASE(
    "two threads, who tell each other nothing: in every order, with two deaths anywhere, shared slots are whole") {
  explore_all(stories_of_two(), false);
}
TEST_CASE("three threads, who know what ended before: in every order, with a death anywhere, shared slots are whole") {
  explore_all(stories_of_three(), true);
}
TEST_CASE("three threads, who tell each other nothing: in every order, with a death anywhere, shared slots are whole") {
  explore_all(stories_of_three(), false);
}
