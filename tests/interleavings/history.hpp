// What some threads did to a map, and whether there is an order in which one thread could have done it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

namespace interleavings {

using key = std::pair<std::uint32_t, std::uint32_t>;  ///< slot, generation

enum class what : std::uint8_t { insert, get, add, remove };

struct event {
  what done = what::get;
  key of{};
  std::uint64_t argument = 0;  ///< inserted, or added to the value
  bool found = false;          ///< whether the key was alive
  std::uint64_t value = 0;     ///< what was read or removed
  bool key_known = false;      ///< of an insert: from when on it could have happened
  std::uint32_t thread = 0;
  std::uint32_t began = 0;
  std::uint32_t ended = never;
  static constexpr std::uint32_t never = ~0u;  ///< its thread was killed within
};

/// Linearizability by search: each event takes effect somewhere between its beginning and its end, those of killed
/// threads possibly not at all; keys are never handed out twice; and in the end the map is what was found. Where threads
/// do not tell each other what they have done (`real_time` is false), only the order within each thread counts.
class history {
 public:
  bool real_time = true;

  std::size_t begin(std::uint32_t thread, what done, key of, std::uint64_t argument) {
    events_[count_] = {done, of, argument, false, 0, done != what::insert, thread, clock_++, event::never};
    return count_++;
  }
  event& at(std::size_t number) { return events_[number]; }
  void end(std::size_t number) { events_[number].ended = clock_++; }
  void clear() { count_ = clock_ = 0; }

  bool is_linearizable(const std::map<key, std::uint64_t>& before, const std::map<key, std::uint64_t>& after) const {
    std::set<key> used;
    for (const auto& [k, value] : before) used.insert(k);
    return search(0, before, used, after);
  }

 private:
  bool search(std::uint32_t taken, std::map<key, std::uint64_t> live, std::set<key> used,
              const std::map<key, std::uint64_t>& after) const {
    bool all_ended_taken = true;
    for (std::size_t i = 0; i < count_; ++i)
      if ((taken >> i & 1) == 0 && events_[i].ended != event::never) all_ended_taken = false;
    if (all_ended_taken && live == after) return true;
    for (std::size_t i = 0; i < count_; ++i) {
      const event& e = events_[i];
      if ((taken >> i & 1) != 0 || !e.key_known || comes_after_another(taken, e)) continue;
      auto next = live;
      auto next_used = used;
      if (apply(e, next, next_used) && search(taken | 1u << i, std::move(next), std::move(next_used), after))
        return true;
    }
    return false;
  }

  bool comes_after_another(std::uint32_t taken, const event& e) const {
    for (std::size_t i = 0; i < count_; ++i)
      if ((taken >> i & 1) == 0 && events_[i].ended < e.began && (real_time || events_[i].thread == e.thread)) return true;
    return false;
  }

  static bool apply(const event& e, std::map<key, std::uint64_t>& live, std::set<key>& used) {
    const bool killed = e.ended == event::never;
    if (e.done == what::insert) {
      if (!used.insert(e.of).second) return false;
      return live.emplace(e.of, e.argument).second;
    }
    const auto it = live.find(e.of);
    if (!killed && e.found != (it != live.end())) return false;
    if (it == live.end()) return true;
    switch (e.done) {
      case what::get:
        return killed || it->second == e.value;
      case what::add:
        it->second += e.argument;
        return true;
      default:
        if (!killed && it->second != e.value) return false;
        live.erase(it);
        return true;
    }
  }

  std::array<event, 12> events_{};
  std::size_t count_ = 0;
  std::uint32_t clock_ = 0;
};

}  // namespace interleavings
