// Threads as what they are to each other: a sequence of steps, each of which depends on what the steps before have seen.
//
// A program is a function that does its atomic operations through `scheduled_atomics`. To find the step that follows
// after it has seen certain things, it is run from its beginning and told these; where it asks for what nobody has seen
// yet, that is its next step, and it is left (by longjmp: programs have nothing on their stacks that would have to be
// destroyed). Each such place is found once and kept; so a search through millions of states runs the code itself only
// some thousands of times.
#pragma once

#include <csetjmp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "deferred_map/sharing/slots.hpp"
#include "history.hpp"
#include "weak_memory.hpp"

namespace interleavings {

enum class act : std::uint8_t {
  load,
  store,
  compare_exchange,
  fetch_or,
  fetch_and,
  fence,
  begin,     ///< of an operation: an event of the history
  between,   ///< the thread is nothing but `value`, its history and its cache: how it has come here does not matter
  end,       ///< of it
  wait,      ///< until there is a newer store at the location; then the operation begins anew
  who_died,  ///< what a reaper begins with
  buried,    ///< the dead ones' entries are free
  finished,
  failed
};

struct step {
  act does = act::failed;
  std::memory_order order = std::memory_order_relaxed;
  std::uint8_t location = 0;
  bool constant = false;  ///< a load of what nobody ever stores to
  std::uint64_t value = 0;
  std::uint64_t expected = 0;
  const char* what = nullptr;  ///< has failed
};

/// Thrown by a check.
struct violation {
  const char* what;
};

/// A thread's own things that others do not see: made anew for each run.
struct own {
  static constexpr std::size_t events_max = 4;
  std::uint32_t id = 0;
  dm::sharing::slot_cache cache;
  std::array<event, events_max> events{};
  std::uint32_t event_count = 0;
};

/// Where a thread has come to.
struct place {
  step next;
  std::uint32_t thread = 0;
  std::uint32_t number = 0;       ///< of the place, or of all that have the same before them and in their history
  std::uint32_t dead_number = 0;  ///< of all places that leave the same history behind
  std::vector<event> events;
  std::vector<std::uint32_t> cached;

  const place* before = nullptr;  // how it was come to
  std::uint64_t seen = 0;
  std::uint32_t length = 0;
  place* operation = nullptr;  // the place after the beginning of the operation under way
  std::vector<std::pair<std::uint64_t, place*>> after;
};

class programs {
 public:
  using program = std::function<void(own&)>;

  /// The memory is `words` words from `base` on; what is in it is what the programs find. Nobody stores to `constant`.
  /// `own_cache_limit`: of each thread's cache.
  programs(const std::uint64_t* base, std::size_t words, const std::uint64_t* constant, std::uint32_t own_cache_limit,
           std::vector<program> code);

  place* start(std::size_t thread) { return starts_[thread]; }
  /// Where the thread comes to that sees this at this place.
  place* after(place* at, std::uint64_t seen);
  std::size_t size() const noexcept { return programs_.size(); }
  /// The locations that anybody has come to use so far, in the order in which they have.
  const std::vector<const std::uint64_t*>& locations() const noexcept { return locations_; }
  std::size_t places() const noexcept { return places_.size(); }

  /// The run under way. Returns what the step has seen; or not at all.
  static std::uint64_t take(const step& next) noexcept;
  static std::uint8_t location(const std::uint64_t& word);
  static bool is_constant(const std::uint64_t& word) noexcept { return &word == current_->constant_; }

 private:
  using signature = std::vector<std::uint64_t>;

  place* find(const place* before, std::uint64_t seen, std::size_t thread);
  void run(std::size_t thread);
  void run_until_left(std::size_t thread);

  static inline programs* current_ = nullptr;

  const std::uint64_t* base_;
  const std::uint64_t* constant_;
  std::uint32_t own_cache_limit_;
  std::vector<program> programs_;
  std::vector<place*> starts_;
  std::vector<std::unique_ptr<place>> places_;
  std::vector<const std::uint64_t*> locations_;
  std::vector<std::int16_t> location_of_;
  std::map<signature, place*> boundaries_;
  std::map<signature, std::uint32_t> dead_;

  // the run under way
  std::vector<std::uint64_t> told_;
  std::size_t told_so_far_ = 0;
  own own_;
  step next_;
  std::jmp_buf left_;
};

/// The policy for slot_operations.
struct scheduled_atomics {
  static std::uint64_t load(const std::uint64_t& word, std::memory_order order) noexcept {
    const bool constant = programs::is_constant(word);
    return programs::take({act::load, order, constant ? std::uint8_t{0} : programs::location(word), constant,
                           constant ? word : 0, 0, nullptr});
  }
  static void store(std::uint64_t& word, std::uint64_t value, std::memory_order order) noexcept {
    programs::take({act::store, order, programs::location(word), false, value, 0, nullptr});
  }
  static bool compare_exchange(std::uint64_t& word, std::uint64_t& expected, std::uint64_t desired,
                               std::memory_order success, std::memory_order) noexcept {
    const std::uint64_t seen =
        programs::take({act::compare_exchange, success, programs::location(word), false, desired, expected, nullptr});
    if (seen == expected) return true;
    expected = seen;
    return false;
  }
  static std::uint64_t fetch_or(std::uint64_t& word, std::uint64_t bits, std::memory_order order) noexcept {
    return programs::take({act::fetch_or, order, programs::location(word), false, bits, 0, nullptr});
  }
  static std::uint64_t fetch_and(std::uint64_t& word, std::uint64_t bits, std::memory_order order) noexcept {
    return programs::take({act::fetch_and, order, programs::location(word), false, bits, 0, nullptr});
  }
  static void fence(std::memory_order order) noexcept { programs::take({act::fence, order, 0, false, 0, 0, nullptr}); }
  static void pause() noexcept {}
};

}  // namespace interleavings
