// Memory as the C++ standard has it, not as a processor has it: a load may see old stores unless something forbids it.
//
// Each location has all stores ever made to it, in their modification order. A thread has a view: how far in each
// location's order it is known to be. A relaxed load may return any store from there on; which, is a choice that the
// scheduler makes, and so every possibility is tried. A store carries the view that a release gives with it, and an
// acquire takes it over; fences do so for the relaxed operations around them. This is the operational model of J. Kang
// et al., "A promising semantics for relaxed-memory concurrency" (POPL 2017), without promises: everything the standard
// allows but that a load sees a store that depends on it, which no processor does. Two things are left out: a store
// always becomes the last of its location's order (it could be slipped in before stores it does not know of), and
// `seq_cst` is taken as a fence on both sides of the operation.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

namespace interleavings {

inline constexpr std::size_t locations_max = 64;

/// How many stores to each location are known of.
struct view {
  std::array<std::uint8_t, locations_max> at{};

  void join(const view& other) noexcept {
    for (std::size_t i = 0; i < locations_max; ++i) at[i] = std::max(at[i], other.at[i]);
  }
  friend bool operator==(const view&, const view&) = default;
};

struct store_made {
  std::uint64_t value;
  view released;  ///< what an acquire takes over with it
};

struct thread_views {
  view now;       ///< of the thread
  view acquired;  ///< what an acquire fence would add
  view released;  ///< what the last release fence lets relaxed stores carry
};

class weak_memory {
 public:
  explicit weak_memory(std::size_t locations) : stores_(locations) {
    for (auto& of : stores_) of.push_back({0, {}});
  }

  /// For what is there before any thread is.
  void set(std::size_t location, std::uint64_t value) { stores_[location].back().value = value; }
  std::uint64_t last(std::size_t location) const { return stores_[location].back().value; }

  /// Among how many stores a load by this thread chooses.
  std::size_t choices(const thread_views& by, std::size_t location) const {
    return stores_[location].size() - by.now.at[location];
  }
  /// The `choice`th from the newest.
  std::uint64_t load(thread_views& by, std::size_t location, std::size_t choice, std::memory_order order) {
    const std::size_t which = stores_[location].size() - 1 - choice;
    const store_made& seen = stores_[location][which];
    by.now.at[location] = static_cast<std::uint8_t>(which);
    by.acquired.join(seen.released);
    if (order != std::memory_order_relaxed) by.now.join(seen.released);
    by.acquired.join(by.now);
    return seen.value;
  }
  void store(thread_views& by, std::size_t location, std::uint64_t value, std::memory_order order) {
    append(by, location, value, order, view());
  }
  /// Reads the newest and stores behind it, in one.
  template <class Change>
  std::uint64_t exchange(thread_views& by, std::size_t location, std::memory_order order, Change change) {
    const bool acquires =
        order == std::memory_order_acquire || order == std::memory_order_acq_rel || order == std::memory_order_seq_cst;
    const view carried = stores_[location].back().released;  // a release sequence goes on through it
    const std::uint64_t old = load(by, location, 0, acquires ? std::memory_order_acquire : std::memory_order_relaxed);
    append(by, location, change(old), order, carried);
    return old;
  }
  void fence(thread_views& by, std::memory_order order) {
    if (order == std::memory_order_acquire || order == std::memory_order_seq_cst || order == std::memory_order_acq_rel)
      by.now.join(by.acquired);
    if (order == std::memory_order_seq_cst) {
      fenced_.join(by.now);
      by.now = fenced_;
      by.acquired.join(by.now);
    }
    if (order != std::memory_order_acquire) by.released = by.now;
  }
  /// A thread that knows all there is: the kernel's locks, a process that was started after, a join.
  view everything() const {
    view all;
    for (std::size_t i = 0; i < stores_.size(); ++i) all.at[i] = static_cast<std::uint8_t>(stores_[i].size() - 1);
    return all;
  }

  template <class Mix>
  void hash(Mix mix) const {
    for (const auto& of : stores_) {
      mix(of.size());
      for (const store_made& made : of) {
        mix(made.value);
        mix_view(made.released, mix);
      }
    }
    mix_view(fenced_, mix);
  }
  template <class Mix>
  static void mix_view(const view& of, Mix mix) {
    for (std::size_t i = 0; i < locations_max; i += 8) {
      std::uint64_t eight = 0;
      for (std::size_t j = 0; j < 8; ++j) eight = eight << 8 | of.at[i + j];
      mix(eight);
    }
  }

 private:
  void append(thread_views& by, std::size_t location, std::uint64_t value, std::memory_order order, view carried) {
    auto& of = stores_[location];
    by.now.at[location] = static_cast<std::uint8_t>(of.size());
    by.acquired.join(by.now);
    const bool releases =
        order == std::memory_order_release || order == std::memory_order_acq_rel || order == std::memory_order_seq_cst;
    carried.join(releases ? by.now : by.released);
    carried.at[location] = by.now.at[location];
    of.push_back({value, carried});
  }

  std::vector<std::vector<store_made>> stores_;
  view fenced_;
};

}  // namespace interleavings
