// The algorithms of shared maps, in every order of their atomic steps, with every old store that the memory model lets
// a load see, and with each participant killed at every step.
#include <bit>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "deferred_map/sharing/slots.hpp"
#include "history.hpp"
#include "scheduler.hpp"

namespace {

using namespace interleavings;
namespace word = dm::sharing::word;
using dm::sharing::outcome;
using dm::sharing::slot_cache;
using operations = dm::sharing::slot_operations<scheduled_atomics>;

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
constexpr std::size_t slot_words = 3;  // word and value
constexpr std::size_t leases_words = 24;
constexpr std::size_t locations = slots_max * slot_words + 3 + leases_words;

/// Memory for three slots and three attachments of one lease each; the numbers themselves are the scheduler's.
struct stage {
  std::uint64_t words[locations] = {};
  std::uint32_t slots;
  history happened;
  std::map<key, std::uint64_t> before;
  slot_cache caches[4];

  dm::sharing::region memory() {
    dm::sharing::region r;
    r.slots = reinterpret_cast<std::byte*>(words);
    r.stride_bytes = slot_words * 8;
    r.value_offset = 8;
    r.value_words = 2;
    r.taken = words + slots_max * slot_words;
    r.hints = r.taken + 1;
    r.slots_now = r.taken + 2;
    r.slots_max = slots;
    // Leases are numbered by eights; overlapping where none is used keeps the memory small.
    r.scratch = reinterpret_cast<std::byte*>(r.taken + 3);
    r.scratch_stride_bytes = 8;
    return r;
  }

  /// `occupied` slots have a value, the key of each is (slot, 5); the others are vacant.
  void begin(std::uint32_t slot_count, std::uint32_t occupied) {
    slots = slot_count;
    happened.clear();
    before.clear();
    auto& s = scheduler::now();
    s.place(words);
    const auto r = memory();
    std::uint64_t taken = ~std::uint64_t{0} << slots;
    for (std::uint32_t i = 0; i < slots; ++i) {
      s.set(&r.word(i), i < occupied ? word::occupied(5, 7) : word::vacant(5));
      if (i >= occupied) continue;
      s.set(r.value(i), 100 + i);
      s.set(r.value(i) + 1, ~std::uint64_t{100 + i});
      taken |= std::uint64_t{1} << i;
      before[{i, 5}] = 100 + i;
    }
    s.set(r.taken, taken);
    s.set(r.hints, taken != ~std::uint64_t{0});
    s.set(r.slots_now, slots);
    for (auto& cache : caches) {
      cache = slot_cache();
      cache.limit = 2;
    }
  }

  /// All that a dead thread owned is given back, all that is left in the caches of the living too; then every slot is
  /// occupied or vacant, the bits say so, and what happened could have happened one after the other.
  void check() {
    auto& s = scheduler::now();
    for (std::uint32_t t = 0; t < 3; ++t) {
      operations as(memory(), t);
      if (threads > t && s.is_dead(t))
        as.reap(t);
      else
        as.give_back(caches[t], true);
    }
    const auto r = memory();
    std::map<key, std::uint64_t> after;
    std::uint64_t taken = ~std::uint64_t{0} << slots;
    for (std::uint32_t i = 0; i < slots; ++i) {
      const std::uint64_t w = s.last(&r.word(i));
      if (word::is_occupied(w)) {
        require(s.last(r.value(i) + 1) == ~s.last(r.value(i)), "a value is torn");
        after[{i, word::generation_of(w)}] = s.last(r.value(i));
        taken |= std::uint64_t{1} << i;
      } else {
        require(word::is_vacant(w), "a slot is nobody's and not vacant");
      }
    }
    require(s.last(r.taken) == taken, "a bit does not say whether its slot is vacant");
    require(happened.is_linearizable(before, after), "what happened could not have happened one after the other");
    // What is vacant can be found: by the hints, or by the search that is made before it is said that there is nothing.
    operations as(memory(), 3);
    std::uint32_t found = 0;
    while (as.take(caches[3]) || (as.claim_any(caches[3]) && as.take(caches[3]))) ++found;
    require(found == slots - after.size(), "a slot is lost");
  }

  std::size_t threads = 0;
};

stage the_stage;

/// One of the threads: what it does is noted in the history.
struct actor {
  std::uint32_t id;
  operations on{the_stage.memory(), id};
  slot_cache& cache = the_stage.caches[id];

  std::size_t began(what done, key of, std::uint64_t argument = 0) const {
    scheduler::now().note(1);
    if (the_stage.happened.real_time) scheduler::now().hear();
    return the_stage.happened.begin(id, done, of, argument);
  }
  void ended(std::size_t number) const {
    const event& e = the_stage.happened.at(number);
    scheduler::now().note(e.value * 2 + e.found);
    if (the_stage.happened.real_time) scheduler::now().tell();
    the_stage.happened.end(number);
  }

  /// False where there is no room.
  bool insert(std::uint64_t number, key* made = nullptr) {
    const std::size_t n = began(what::insert, {}, number);
    auto slot = on.take(cache);
    if (!slot && on.claim_any(cache)) slot = on.take(cache);
    if (!slot) {
      drop(n);
      return false;
    }
    const std::uint32_t generation = on.generation_of_taken(*slot);
    event& e = the_stage.happened.at(n);
    e.of = {*slot, generation};
    e.key_known = true;
    const pair_value value = whole(number);
    on.publish(*slot, generation, &value, sizeof value);
    e.found = true;
    if (made != nullptr) *made = e.of;
    ended(n);
    return true;
  }
  void get(key of) {
    const std::size_t n = began(what::get, of);
    pair_value value{};
    event& e = the_stage.happened.at(n);
    e.found = on.read(of.first, of.second, &value, sizeof value).has_value();
    if (e.found) require(value.check == ~value.number, "a value was read torn");
    e.value = e.found ? value.number : 0;
    ended(n);
  }
  void add(key of, std::uint64_t number) {
    const std::size_t n = began(what::add, of, number);
    event& e = the_stage.happened.at(n);
    for (std::uint64_t tries = 0;; ++tries) {
      pair_value value{};
      const auto before = on.read(of.first, of.second, &value, sizeof value);
      e.found = before.has_value();
      if (!e.found) break;
      require(value.check == ~value.number, "a value was read torn");
      if (word::is_updating(*before)) {
        scheduler::now().wait(0x1000 + n);
        continue;
      }
      const pair_value next = whole(value.number + number);
      const std::uint32_t lease = id * dm::sharing::leases_per_attachment;
      if (on.begin_update(of.first, *before, lease, &next, sizeof next) == outcome::done) {
        on.finish_update(of.first, lease);
        break;
      }
    }
    ended(n);
  }
  void remove(key of) {
    const std::size_t n = began(what::remove, of);
    event& e = the_stage.happened.at(n);
    pair_value value{};
    outcome result;
    while ((result = on.remove(of.first, of.second, cache, &value, sizeof value)) == outcome::busy)
      scheduler::now().wait(0x2000 + n);
    e.found = result == outcome::done;
    if (e.found) require(value.check == ~value.number, "a value was removed torn");
    e.value = e.found ? value.number : 0;
    ended(n);
  }
  /// Reserves, and gives up.
  void hold_and_release() {
    auto slot = on.take(cache);
    if (!slot && on.claim_any(cache)) slot = on.take(cache);
    if (!slot) return;
    const std::uint32_t generation = on.hold(*slot);
    require(on.is_held(*slot, generation), "a slot of one's own is somebody else's");
    on.release(*slot, generation, cache);
  }
  void walk(key that_is_there_throughout) {
    bool found = false;
    on.for_each_taken([&](std::uint32_t index) { found |= index == that_is_there_throughout.first; });
    require(found, "iteration missed a value");
  }

 private:
  void drop(std::size_t n) {
    event& e = the_stage.happened.at(n);
    e.done = what::get;  // it did nothing: as a look at a key that never was
    e.of = {99, 99};
    e.key_known = true;
    e.found = false;
    ended(n);
  }
};

/// Reaps the first dead thread there is, as a process does that attaches.
void reap_the_dead(std::size_t threads) {
  auto& s = scheduler::now();
  s.know_everything();
  for (std::uint32_t t = 0; t < threads; ++t)
    if (s.is_dead(t)) operations(the_stage.memory(), 2).reap(t);
}

struct story {
  std::string name;
  std::uint32_t slots;
  std::uint32_t occupied;
  std::vector<std::function<void()>> threads;
};

explored explore(const story& of, const limits& within, bool with_reaper) {
  auto threads = of.threads;
  std::vector<bool> waits(threads.size(), false);
  the_stage.threads = threads.size();
  if (with_reaper) {
    const std::size_t count = threads.size();
    threads.push_back([count] { reap_the_dead(count); });
    waits.push_back(true);
  }
  return scheduler::explore(
      locations, [&] { the_stage.begin(of.slots, of.occupied); }, threads, waits, [] { the_stage.check(); }, within);
}

const key first{0, 5};
const key second{1, 5};

std::vector<story> stories() {
  return {
      {"two updates of one value", 1, 1, {[] { actor{0}.add(first, 1); }, [] { actor{1}.add(first, 10); }}},
      {"update and look", 1, 1, {[] { actor{0}.add(first, 1); }, [] { actor{1}.get(first); }}},
      {"update twice and look twice", 1, 1,
       {[] {
          actor a{0};
          a.add(first, 1);
          a.add(first, 10);
        },
        [] {
          actor b{1};
          b.get(first);
          b.get(first);
        }}},
      {"updates of two values through one scratch area, and looks", 2, 2,
       {[] {
          actor a{0};
          a.add(first, 1);
          a.add(second, 10);
        },
        [] { actor{1}.get(first); }}},
      {"remove and update", 1, 1, {[] { actor{0}.remove(first); }, [] { actor{1}.add(first, 10); }}},
      {"remove twice", 1, 1, {[] { actor{0}.remove(first); }, [] { actor{1}.remove(first); }}},
      {"remove, insert again, and look", 1, 1,
       {[] {
          actor a{0};
          a.remove(first);
          a.insert(7);
        },
        [] { actor{1}.get(first); }}},
      {"remove and insert in one place, elsewhere too", 2, 1,
       {[] {
          actor a{0};
          a.remove(first);
          a.insert(7);
        },
        [] { actor{1}.insert(8); }}},
      {"insert into the last slot", 1, 0, {[] { actor{0}.insert(1); }, [] { actor{1}.insert(2); }}},
      {"insert and remove, both", 2, 0,
       {[] {
          actor a{0};
          key k;
          if (a.insert(1, &k)) a.remove(k);
        },
        [] { actor{1}.insert(2); }}},
      {"a handle is given up while somebody inserts", 1, 0,
       {[] { actor{0}.hold_and_release(); }, [] { actor{1}.insert(2); }}},
      {"iterate while others come and go", 2, 1,
       {[] {
          actor a{0};
          key k;
          if (a.insert(1, &k)) a.remove(k);
        },
        [] { actor{1}.walk(first); }}},
      {"an update of a value that is removed and made anew", 1, 1,
       {[] { actor{0}.add(first, 1); },
        [] {
          actor b{1};
          b.remove(first);
          b.insert(9);
        }}},
  };
}

}  // namespace

TEST_CASE("in every order of their steps, with every death, shared slots are whole") {
  explored all;
  std::printf("%-60s %10s %10s %10s %10s\n", "story", "executions", "of deaths", "cut short", "states");
  for (const story& of : stories()) {
    INFO(of.name);
    try {
      const explored found = explore(of, {.deaths_max = 1}, true);
      CHECK(found.complete);
      std::printf("%-60s %10llu %10llu %10llu %10llu\n", of.name.c_str(),
                  static_cast<unsigned long long>(found.executions), static_cast<unsigned long long>(found.deaths),
                  static_cast<unsigned long long>(found.cut_short), static_cast<unsigned long long>(found.states));
      std::fflush(stdout);
      all.executions += found.executions;
      all.deaths += found.deaths;
      all.cut_short += found.cut_short;
      all.states += found.states;
    } catch (const violation& v) {
      FAIL(v.what);
    }
  }
  std::printf("%-60s %10llu %10llu %10llu %10llu\n", "all", static_cast<unsigned long long>(all.executions),
              static_cast<unsigned long long>(all.deaths), static_cast<unsigned long long>(all.cut_short),
              static_cast<unsigned long long>(all.states));
}
