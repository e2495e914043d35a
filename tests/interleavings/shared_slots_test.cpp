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
// one word of the bitmap (so hints are kept right here, but nobody depends on them or on claim_any), growth; that generations, tickets and counts
// of changes wrap around; and what weak_memory.hpp says that its model leaves out.
#include <bit>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "../effort.hpp"
#include "actor.hpp"
#include "deferred_map/sharing/atomics.hpp"
#include "deferred_map/sharing/slots.hpp"
#include "search.hpp"
#include "stories.hpp"

namespace {

using namespace interleavings;

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
  std::uint32_t vacant = 0;
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
      vacant += !retired;
      require(bit == retired, retired ? "a retired slot's bit is not set" : "a vacant slot's bit is set");
    }
  }
  // What is vacant can be found: by the hints, or by the search that is made before it is said that there is nothing.
  dm::sharing::slot_operations<dm::sharing::processor_atomics> somebody(r, attachments_max);
  dm::sharing::slot_cache cache;
  std::uint32_t found = 0;
  while (found <= of.slots && (take_slot(somebody, cache) || (somebody.claim_any(cache) && take_slot(somebody, cache))))
    ++found;
  require(found == vacant, "a vacant slot is not found");
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
