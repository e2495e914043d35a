// Several processes that do something at once, for a fixed time: what benchmarks of shared maps are made of.
//
// Each process is forked from one that has no map open, opens for itself what it needs, and says when it is ready. When
// all are, all begin; after a while of warming up all count; and all end together. What each has counted comes back in
// memory that is shared with the parent.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

/// An array of zeros that child processes share with their parent.
template <class T>
class shared_array {
 public:
  explicit shared_array(std::size_t size);
  std::span<T> all() const noexcept { return {static_cast<T*>(memory_.get()), size_}; }
  T& operator[](std::size_t i) const noexcept { return all()[i]; }

 private:
  std::size_t size_;
  std::shared_ptr<void> memory_;
};
std::shared_ptr<void> shared_memory(std::size_t size_bytes);
template <class T>
shared_array<T>::shared_array(std::size_t size) : size_(size), memory_(shared_memory(size * sizeof(T))) {}

/// What one process has done.
struct count {
  std::uint64_t operations = 0;
  double seconds = 0;
  double processor_seconds = 0;  ///< less than `seconds` where it waited for a lock, or for a processor
  std::uint64_t torn = 0;        ///< values that were not of one moment
  std::uint64_t missing = 0;     ///< values that were not found, though they are there
  double per_second() const { return static_cast<double>(operations) / seconds; }
};

/// How long, in seconds.
struct duration {
  double warm_up = 0.1;
  double measured = 0.5;
};

/// What a process's work uses to run with the others.
class pace {
 public:
  enum phase : std::uint32_t { preparing, warming_up, counting, over };
  struct alignas(128) place {
    std::atomic<std::uint32_t> reached = preparing;
    count counted;
    char error[256] = {};
  };
  struct board {
    alignas(128) std::atomic<std::uint32_t> now = preparing;
    place places[256];
  };

  pace(board& all, std::size_t number) : all_(all), mine_(all.places[number]) {}

  std::uint64_t torn = 0;
  std::uint64_t missing = 0;

  /// Waits for the others, then calls `operate` until the time is over. Each call is so many operations.
  template <class F>
  void run(F operate, std::uint64_t operations = 1) {
    wait_for_the_others();
    std::uint64_t before = 0, done = 0;
    double from = 0, processor_from = 0;
    for (std::uint32_t seen = warming_up;;) {
      // Not asked after each, or small operations would be mostly that.
      for (std::uint64_t until = done + 16; done < until; done += operations) operate();
      const std::uint32_t now = all_.now.load(std::memory_order_relaxed);
      if (now == seen) continue;
      if (now == over) break;
      seen = now;
      mine_.reached.store(now);
      before = done;
      from = clock_seconds();
      processor_from = processor_seconds();
    }
    const double to = clock_seconds();
    mine_.counted = {done - before, to - from, processor_seconds() - processor_from, torn, missing};
  }

 private:
  void wait_for_the_others();
  static double clock_seconds();
  static double processor_seconds();

  board& all_;
  place& mine_;
};

/// Thrown after ^C, once all processes are gone.
struct interrupted : std::runtime_error {
  interrupted() : std::runtime_error("interrupted") {}
};

using work = std::function<void(pace&)>;

/// What all processes have done, and what share of one processor other programs took meanwhile.
struct counts {
  std::vector<count> all;
  double others = 0;
};

/// Runs each work in a process of its own, all at once. Errors: std::runtime_error where one of them failed.
counts run_processes(const std::vector<work>& all, const duration& how_long);

/// Waits until other programs take less than `others` of one processor; gives up after `seconds`.
void wait_for_quiet(double others, double seconds);

/// Runs one thing in a process of its own and waits for it. Errors: as above.
void run_process(const std::function<void()>& what);

/// From now on ^C ends processes that run and makes the functions above throw `interrupted`, so that segments are removed.
void handle_interruptions();

}  // namespace bench
