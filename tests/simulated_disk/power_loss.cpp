// Durable maps on a disk that loses its power.
//
//   power_loss [--histories N] [--first SEED] [--transactions N] [--ways N] [--samples N] [--again N]
//
// Each history is a program's work with a map: transactions, rollbacks, growth, checkpoints, kills, closings. After every
// prefix of what it asked of the disk, the disk is cut: in all ways where there are at most `ways` of them, else in
// `samples` random ones. Each outcome that was not seen yet is a *state*. The map is opened from it and must be, byte for
// byte, at the last commit that had returned or at one that was under way. Of every so many states some are then used and
// cut again, at any moment of the recovery and of the commits after it (`again`: how many cuts each).
#include <xxhash.h>

#include <cstdio>
#include <unordered_set>

#include "history.hpp"
#include "scene.hpp"

using namespace simulated;

namespace {

struct options {
  std::uint64_t histories = 10;
  std::uint64_t first = 1;
  std::uint64_t transactions = 120;
  std::uint64_t ways = 64;
  std::uint64_t samples = 24;
  std::uint64_t again = 6;
};

struct totals {
  std::uint64_t events = 0;
  std::uint64_t states = 0;        // distinct ones
  std::uint64_t states_again = 0;  // of those, cut a second time
  std::uint64_t commits = 0;
  std::uint64_t generations = 0;
  std::uint64_t ahead = 0;  // states at a commit that had not returned
};

class campaign {
 public:
  campaign(const options& how_much, const scene& in) : how_much_(how_much), empty_(in.files), header_(in.header) {}

  void run(std::uint64_t seed) {
    // A history by itself is what it is among others, so that what it found can be looked at.
    random_.seed(seed * 7919);
    seen_.clear();
    machine on(empty_, header_);
    states known;
    program running(on, known, seed);
    known.add(0, *dm::durable_arena::attach(on.open(false), header_, how, dm::arena_access::read_only));
    running.open();
    for (std::uint64_t i = 0; i < how_much_.transactions; ++i) running.transaction();
    totals_.commits += running.it().last_commit();
    totals_.generations += running.arena().control().durable_generation;
    running.forget_handles();
    running.close();
    running.open();
    running.kill();
    explore(empty_, on, known, 0);
  }

  const totals& found() const { return totals_; }

 private:
  void explore(const image& start, const machine& on, const states& known, unsigned depth) {
    medium disk(start);
    const auto& trace = on.trace();
    for (std::size_t i = 0; i <= trace.size(); ++i) {
      // The crash comes before event i.
      const std::uint64_t safe = i < trace.size() ? trace[i].safe_commit : on.safe();
      const std::uint64_t begun = i < trace.size() ? trace[i].begun_commit : on.begun();
      const std::uint64_t ways = disk.ways(how_much_.ways + 1);
      if (depth == 0) ++totals_.events;
      if (depth == 0 && ways <= how_much_.ways) {
        for (std::uint64_t way = 0; way < ways; ++way) one(disk.cut_way(way), known, safe, begun, i, depth);
      } else {
        const std::uint64_t n = depth == 0                                           ? how_much_.samples
                                : below(random_, trace.size() + 1) < how_much_.again ? 1
                                                                                     : 0;
        for (std::uint64_t k = 0; k < n; ++k) one(disk.cut(random_), known, safe, begun, i, depth);
      }
      if (i < trace.size()) disk.follow(trace[i]);
    }
  }

  void one(image files, const states& known, std::uint64_t safe, std::uint64_t begun, std::size_t event,
           unsigned depth) {
    std::uint64_t hash = XXH3_64bits_withSeed(files.arena.data(), files.arena.size(), safe * 1'000'003 + begun);
    if (files.journal) hash ^= XXH3_64bits_withSeed(files.journal->data(), files.journal->size(), 1);
    if (!seen_.insert(hash).second) return;
    const bool is_new = counted_.insert(hash).second;
    totals_.states += is_new;
    totals_.states_again += is_new && depth != 0;
    const std::string at = (depth == 0 ? "event " : ", then event ") + std::to_string(event) + " (commits " +
                           std::to_string(safe) + " to " + std::to_string(begun) + ")";
    try {
      if (below(random_, 16) == 0) {
        machine looked_at(files, header_);
        auto arena = dm::durable_arena::attach(looked_at.open(false), header_, how, dm::arena_access::read_only);
        require_between(safe, begun, arena->last_commit());
        known.require_is(arena->last_commit(), *arena);
        if (!looked_at.trace().empty()) throw wrong("a reader wrote");
      }
      machine again(files, header_);
      again.returned(safe);
      again.begins(begun);
      states known_again;
      if (depth != 0 || below(random_, 16) != 0) {
        auto arena = dm::durable_arena::attach(again.open(true), header_, how, dm::arena_access::read_write);
        const std::uint64_t commit = arena->last_commit();
        require_between(safe, begun, commit);
        known.require_is(commit, *arena);
        if (commit != safe) ++totals_.ahead;
        return;
      }
      // It is used, and loses its power again.
      known_again = known;
      program running(again, known_again, random_());
      running.open();
      for (std::uint64_t n = below(random_, 4); n != 0; --n) running.transaction();
      again.killed = true;
      explore(files, again, known_again, depth + 1);
    } catch (const std::exception& e) {
      throw wrong(at + ": " + e.what());
    }
  }

  static void require_between(std::uint64_t safe, std::uint64_t begun, std::uint64_t commit) {
    if (commit < safe || commit > begun)
      throw wrong("it is at commit " + std::to_string(commit) + ", not one from " + std::to_string(safe) + " to " +
                  std::to_string(begun));
  }

  options how_much_;
  const image& empty_;
  dm::arena_header header_;
  random_bits random_;
  std::unordered_set<std::uint64_t> seen_;     // of this history
  std::unordered_set<std::uint64_t> counted_;  // of all
  totals totals_;
};

}  // namespace

int main(int argc, char** argv) {
  options how_much;
  if (!take_numbers(argc, argv,
                    {{"--histories", &how_much.histories},
                     {"--first", &how_much.first},
                     {"--transactions", &how_much.transactions},
                     {"--ways", &how_much.ways},
                     {"--samples", &how_much.samples},
                     {"--again", &how_much.again}}))
    return 2;
  const scene in = made_by([](const std::filesystem::path& path) { map::create(path, how).close(); });
  campaign c(how_much, in);
  for (std::uint64_t seed = how_much.first; seed < how_much.first + how_much.histories; ++seed) {
    try {
      c.run(seed);
    } catch (const std::exception& e) {
      std::printf("history %llu: %s\n", static_cast<unsigned long long>(seed), e.what());
      return 1;
    }
  }
  const totals& t = c.found();
  std::printf(
      "%llu states of %llu moments, %llu of them after a second loss; %llu at a commit that had not returned; %llu "
      "commits in %llu generations: each at a commit it may be at\n",
      static_cast<unsigned long long>(t.states), static_cast<unsigned long long>(t.events),
      static_cast<unsigned long long>(t.states_again), static_cast<unsigned long long>(t.ahead),
      static_cast<unsigned long long>(t.commits), static_cast<unsigned long long>(t.generations));
}
