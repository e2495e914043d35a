// Goes through all states that some threads can come to: every order of their steps, every store that each load may see,
// every place in its location's order that a store may take, and each thread killed before every step.
//
// A state is the memory (with what of its past can still be seen), where each thread has come to and what it knows, and
// the history: what each operation found, and which had ended when it began. Depth first; a state that was met before is
// not gone on from again. "Met before" is by a hash of 64 bits over all of the state; for ten million states the
// probability that any two share one by chance is below 10^-5.
//
// What is not a choice, and why nothing is lost by that:
//  1. Fences, loads of what is never stored to, and the end of an operation follow at once on the step before: they
//     change only what the thread itself knows (and an operation that ends sooner promises more).
//  2. An operation begins with its first step that others can notice, no sooner. It has then heard of all that had ended;
//     but these first steps are loads, and a load that sees an old store is also met with earlier, when it was the newest.
//     (Where threads tell each other nothing, `real_time` false, there is nothing to hear of.)
//  3. Nobody notices a death but the reaper that it lets begin. So a thread dies just when that happens, and what others do
//     in between has come before. A reaper begins when the one before it is done or dead: they hold a lock, which also
//     tells it all that the dead, and the reapers before, knew.
//  4. Who waits for another's store goes on once there is a newer one, and has then seen that: to see the same once more
//     leads to where it is, knowing more, which allows less.
//
// And states are the same that differ in nothing that can be noticed:
//  5. Stores before the oldest that any living thread may see are forgotten. Nobody can see them, put a store before them,
//     or learn anything from being told of them. (Reapers to come know at least what some thread living now does.)
//  6. What dead and finished threads know is forgotten, but for what they have left in memory or told.
//  7. Between operations, and between parts of one where it says so, a thread is what its operations have found, and its
//     cache (threads.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "threads.hpp"
#include "weak_memory.hpp"

namespace interleavings {

struct limits {
  unsigned deaths_max =
      0;                  ///< also how many of the last programs are reapers, each of which runs once somebody has died
  bool real_time = true;  ///< operations know of all that ended before they began
  std::uint64_t states_max = ~std::uint64_t{0};
};

struct explored {
  std::uint64_t states = 0;
  std::uint64_t steps = 0;       ///< from a state to another
  std::uint64_t ends = 0;        ///< states in which nothing is left to do
  std::uint64_t death_ends = 0;  ///< of them, those in which somebody was killed
  double executions = 0;         ///< ways that lead from the beginning to an end
  std::uint64_t places = 0;      ///< in the programs
  bool complete = false;
};

/// What there is when nothing is left to do.
struct ending {
  std::vector<std::uint64_t> words;  ///< the memory
  struct participant {
    const place* at;
    bool is_dead;
    std::array<std::uint32_t, own::events_max> after;  ///< of each event: those that had ended before, a bit each
  };
  std::vector<participant> participants;
  unsigned deaths = 0;

  static constexpr std::size_t bit_of(std::size_t participant, std::size_t event) noexcept {
    return participant * own::events_max + event;
  }
};

/// How it came to a violation.
struct found_violation {
  std::string text;
};

/// `check` throws a `violation` where an ending is wrong. Throws found_violation for it, and for those of the programs.
explored explore(programs& of, const std::uint64_t* base, std::size_t words,
                 const std::function<void(const ending&)>& check, const limits& within);

}  // namespace interleavings
