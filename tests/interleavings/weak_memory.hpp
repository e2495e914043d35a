// Memory as the C++ standard has it, not as a processor has it: a load may see old stores unless something forbids it,
// and a store may come before stores that its thread does not know of.
//
// Each location has the stores made to it, in their modification order. A thread has a view: how far in each location's
// order it is known to be. A relaxed load may return any store from there on; a store may be put anywhere behind there
// (but never between a store and the read-modify-write that read it); which, is a choice, and the search makes each. A
// store carries the view that a release gives with it, and an acquire takes it over; fences do so for the relaxed
// operations around them. This is the operational model of J. Kang et al., "A promising semantics for relaxed-memory
// concurrency" (POPL 2017), without its promises.
//
// What is left out: a store that is seen before its own thread has come to it (load buffering; ARM and POWER do it, x86
// does not). And `seq_cst` is the order in which operations are carried out here: such an operation knows of what those
// before it at the same location stored or saw, and of nothing else but what it acquires. There are no seq_cst fences.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

namespace interleavings {

inline constexpr std::size_t locations_max = 32;

/// How far each location's stores are known of: the number of the newest.
struct view {
  std::array<std::uint8_t, locations_max> at{};

  void join(const view& other) noexcept {
    for (std::size_t i = 0; i < locations_max; ++i) at[i] = std::max(at[i], other.at[i]);
  }
  /// What is known of less than `floor` is known by everybody.
  void lower(const view& floor) noexcept {
    for (std::size_t i = 0; i < locations_max; ++i)
      at[i] = static_cast<std::uint8_t>(std::max(at[i], floor.at[i]) - floor.at[i]);
  }
};

struct store_made {
  std::uint64_t value;
  view released;  ///< what an acquire takes over with it
  bool has_read;  ///< the store before, in one with its own: nothing comes between
};

struct thread_views {
  view now;       ///< of the thread
  view acquired;  ///< what an acquire fence would add
  view released;  ///< what the last release fence lets relaxed stores carry

  template <class Change>
  void each(Change change) {
    change(now);
    change(acquired);
    change(released);
  }
};

inline bool acquires(std::memory_order order) noexcept {
  return order != std::memory_order_relaxed && order != std::memory_order_release;
}
inline bool releases(std::memory_order order) noexcept {
  return order == std::memory_order_release || order == std::memory_order_acq_rel || order == std::memory_order_seq_cst;
}

class weak_memory {
 public:
  /// A location more, with what is in it before any thread is.
  void add_location(std::uint64_t value) {
    stores_.push_back({value, {}, false});
    first_[++count_] = static_cast<std::uint8_t>(stores_.size());
  }
  std::size_t locations() const noexcept { return count_; }
  std::size_t stores(std::size_t location) const noexcept {
    return static_cast<std::size_t>(first_[location + 1] - first_[location]);
  }
  std::size_t stores_of_all() const noexcept { return stores_.size(); }
  const store_made& store_at(std::size_t location, std::size_t number) const noexcept {
    return stores_[first_[location] + number];
  }
  std::uint64_t last(std::size_t location) const noexcept { return stores_[first_[location + 1] - 1u].value; }

  /// The oldest store that an operation of this order may see.
  std::size_t oldest(const thread_views& by, std::size_t location, std::memory_order order) const noexcept {
    return order == std::memory_order_seq_cst ? std::max(by.now.at[location], total_.at[location])
                                              : by.now.at[location];
  }
  /// Whether a store can come to be the `number`th (and those from there on move up).
  bool has_room_at(std::size_t location, std::size_t number) const noexcept {
    return number == stores(location) || !store_at(location, number).has_read;
  }

  /// Sees the `number`th store.
  std::uint64_t load(thread_views& by, std::size_t location, std::size_t number, std::memory_order order) noexcept {
    const store_made& seen = store_at(location, number);
    by.now.at[location] = static_cast<std::uint8_t>(number);
    if (acquires(order)) by.now.join(seen.released);
    by.acquired.join(seen.released);
    by.acquired.join(by.now);
    if (order == std::memory_order_seq_cst) total_.at[location] = std::max(total_.at[location], by.now.at[location]);
    return seen.value;
  }
  /// Becomes the `number`th store. `all_views` calls what it is given with every view there is outside of this memory:
  /// they must still mean the same stores.
  template <class AllViews>
  void store(thread_views& by, std::size_t location, std::size_t number, std::uint64_t value, std::memory_order order,
             bool has_read, AllViews all_views) {
    if (number != stores(location)) {
      const auto move_up = [&](view& v) {
        v.at[location] = static_cast<std::uint8_t>(v.at[location] + (v.at[location] >= number));
      };
      all_views(move_up);
      move_up(total_);
      for (store_made& made : stores_) move_up(made.released);
    }
    store_made made{value, {}, has_read};
    if (has_read) made.released = store_at(location, number - 1).released;  // a release sequence goes on
    by.now.at[location] = static_cast<std::uint8_t>(number);
    by.acquired.join(by.now);
    made.released.join(releases(order) ? by.now : by.released);
    made.released.at[location] = static_cast<std::uint8_t>(number);
    stores_.insert(stores_.begin() + static_cast<std::ptrdiff_t>(first_[location] + number), made);
    for (std::size_t i = location + 1; i <= count_; ++i) ++first_[i];
    if (order == std::memory_order_seq_cst) total_.at[location] = std::max(total_.at[location], by.now.at[location]);
  }
  static void fence(thread_views& by, std::memory_order order) noexcept {
    if (acquires(order)) by.now.join(by.acquired);
    if (releases(order)) by.released = by.now;
  }

  /// Forgets the stores that come before `floor`, which nobody can see any more nor put one before.
  void forget(const view& floor) {
    std::size_t kept = 0;
    std::size_t from = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      const std::size_t end = first_[i + 1];
      from += floor.at[i];
      first_[i] = static_cast<std::uint8_t>(kept);
      stores_[from].has_read = false;
      for (; from < end; ++from, ++kept) {
        if (kept != from) stores_[kept] = stores_[from];
        stores_[kept].released.lower(floor);
      }
    }
    first_[count_] = static_cast<std::uint8_t>(kept);
    stores_.resize(kept, {});
    total_.lower(floor);
  }

  const view& total() const noexcept { return total_; }

 private:
  std::vector<store_made> stores_;  // of one location after the other
  std::array<std::uint8_t, locations_max + 1> first_{};
  std::size_t count_ = 0;
  view total_;  // what the seq_cst operations so far have stored or seen, each at its own location
};

}  // namespace interleavings
