// Runs some threads in every order in which their atomic steps can follow each other, with every store that each load
// may see, and with each thread killed at every step.
//
// An execution is a sequence of choices: which thread takes the next step (or dies), and what a load sees. Executions are
// enumerated depth first by running the program again from the start for each. A state that was seen before (memory,
// what each thread has seen so far, and the order in which operations began and ended) is not gone on from again. Threads
// are fibers of one thread (ucontext).
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_set>
#include <vector>

#include "weak_memory.hpp"

namespace interleavings {

struct limits {
  unsigned deaths_max = 0;           ///< threads that may be killed in one execution
  bool old_stores = true;            ///< whether loads may see others than the newest store
  std::uint64_t executions_max = 0;  ///< 0: all
};

struct explored {
  std::uint64_t executions = 0;  ///< that ran to the end
  std::uint64_t cut_short = 0;   ///< that came to a state seen before
  std::uint64_t states = 0;
  std::uint64_t deaths = 0;  ///< executions that ran to the end in which somebody was killed
  bool complete = false;
};

/// Thrown into nobody: what a check that fails does. Carries the text to the test.
struct violation {
  const char* what;
};

class scheduler {
 public:
  using program = std::function<void()>;

  /// `begin` makes the memory and what the threads share, before each execution; `threads` are its programs;
  /// `waits_for_death` says which of them run only once somebody has been killed (reapers); `check` looks at the end of
  /// each execution, as a thread that knows all. Throws `violation` what a check throws.
  static explored explore(std::size_t locations, const std::function<void()>& begin,
                          const std::vector<program>& threads, const std::vector<bool>& waits_for_death,
                          const std::function<void()>& check, const limits& within);

  /// The execution under way.
  static scheduler& now() noexcept { return *current_; }

  // What the policy's operations call.
  std::uint64_t load(const void* address, std::memory_order order);
  void store(const void* address, std::uint64_t value, std::memory_order order);
  bool compare_exchange(const void* address, std::uint64_t& expected, std::uint64_t desired, std::memory_order order);
  template <class Change>
  std::uint64_t exchange(const void* address, std::memory_order order, Change change) {
    step();
    const std::uint64_t old = exchange_now(location(address), order, change);
    remember(old);
    return old;
  }
  void fence(std::memory_order order);

  /// Where the locations lie: words of 64 bits from here on.
  void place(const void* base) noexcept { base_ = static_cast<const std::byte*>(base); }
  void set(const void* address, std::uint64_t value) { memory_->set(location(address), value); }
  std::uint64_t last(const void* address) const { return memory_->last(location(address)); }

  /// This thread goes back to where it does not know anything but what `state` says: a loop that waits for somebody.
  /// It is not run again before somebody else has taken a step.
  void wait(std::uint64_t state);
  /// Something that the order of operations depends on has happened.
  void note(std::uint64_t what);
  /// What this thread has done is known to whoever hears of it from now on, by whatever other way threads talk.
  void tell() { told_.join(views().now); }
  void hear() {
    views().now.join(told_);
    views().acquired.join(told_);
  }
  bool is_dead(std::size_t thread) const noexcept { return fibers_[thread]->dead; }
  bool is_done(std::size_t thread) const noexcept { return fibers_[thread]->done; }
  std::size_t thread() const noexcept { return running_; }
  /// The thread knows all that was stored so far, as who takes a lock does that the kernel took from a dead process.
  void know_everything() { views().now.join(memory_->everything()); }

 private:
  struct fiber {
    ucontext_t context;
    std::unique_ptr<std::byte[]> stack;
    const program* run = nullptr;
    bool done = false;
    bool dead = false;
    bool waiting = false;
    bool needs_death = false;
    std::uint64_t history = 0;
    thread_views views;
  };

  scheduler(std::size_t locations, const limits& within) : locations_(locations), within_(within) {}
  template <class Change>
  std::uint64_t exchange_now(std::size_t where, std::memory_order order, Change change) {
    if (order == std::memory_order_seq_cst) memory_->fence(views(), order);
    const std::uint64_t old = memory_->exchange(views(), where, order, change);
    if (order == std::memory_order_seq_cst) memory_->fence(views(), order);
    return old;
  }
  bool run_once(const std::function<void()>& begin, const std::vector<program>& threads,
                const std::vector<bool>& waits_for_death, const std::function<void()>& check, explored& result);
  void step();
  std::size_t choose(std::size_t count);
  void remember(std::uint64_t what) noexcept;
  thread_views& views() noexcept { return running_ == nobody ? outside_ : fibers_[running_]->views; }
  std::size_t location(const void* address) const noexcept {
    return static_cast<std::size_t>(static_cast<const std::byte*>(address) - base_) / sizeof(std::uint64_t);
  }
  std::uint64_t state_hash() const;
  static void entry();

  static constexpr std::size_t nobody = ~std::size_t{0};
  static inline scheduler* current_ = nullptr;

  std::size_t locations_;
  limits within_;
  const std::byte* base_ = nullptr;
  std::unique_ptr<weak_memory> memory_;
  std::vector<std::unique_ptr<fiber>> fibers_;
  std::size_t running_ = nobody;
  thread_views outside_;
  ucontext_t main_{};
  std::vector<std::pair<std::uint16_t, std::uint16_t>> path_;  // what was chosen, of how many
  std::size_t depth_ = 0;                                      // how much of the path this execution has followed
  std::unordered_set<std::uint64_t> seen_;
  std::uint64_t order_ = 0;
  view told_;
  unsigned deaths_ = 0;
  bool woken_ = false;
  const char* failed_ = nullptr;
};

/// The policy for slot_operations and whatever else is to be looked at.
struct scheduled_atomics {
  static std::uint64_t load(const std::uint64_t& word, std::memory_order order) {
    return scheduler::now().load(&word, order);
  }
  static void store(std::uint64_t& word, std::uint64_t value, std::memory_order order) {
    scheduler::now().store(&word, value, order);
  }
  static bool compare_exchange(std::uint64_t& word, std::uint64_t& expected, std::uint64_t desired,
                               std::memory_order success, std::memory_order) {
    return scheduler::now().compare_exchange(&word, expected, desired, success);
  }
  static std::uint64_t fetch_or(std::uint64_t& word, std::uint64_t bits, std::memory_order order) {
    return scheduler::now().exchange(&word, order, [bits](std::uint64_t old) { return old | bits; });
  }
  static std::uint64_t fetch_and(std::uint64_t& word, std::uint64_t bits, std::memory_order order) {
    return scheduler::now().exchange(&word, order, [bits](std::uint64_t old) { return old & bits; });
  }
  static void fence(std::memory_order order) { scheduler::now().fence(order); }
  static void pause() {}
};

}  // namespace interleavings
