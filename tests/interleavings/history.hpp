// What some threads did to a map, and whether there is an order in which one thread could have done it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace interleavings {

using key = std::pair<std::uint32_t, std::uint32_t>;  ///< slot, generation

/// `hold` hands a key out without a value, `fill` gives it one.
enum class what : std::uint8_t { nothing, insert, get, add, remove, hold, fill };

struct event {
  what done = what::nothing;
  key of{};
  std::uint64_t argument = 0;  ///< inserted, or added to the value
  bool found = false;          ///< whether the key was alive
  std::uint64_t value = 0;     ///< what was read or removed
  bool key_known = false;      ///< of insert and hold: from when on it could have happened
  bool ended = false;          ///< if not, its thread was killed within
  friend bool operator==(const event&, const event&) = default;
  friend auto operator<=>(const event&, const event&) = default;
};

/// Linearizability by search: each event takes effect somewhere between its beginning and its end, those of killed
/// threads possibly not at all; keys are never handed out twice; and in the end the map is what was found.
class history {
 public:
  using contents = std::vector<std::pair<key, std::uint64_t>>;
  static constexpr std::size_t events_max = 20;

  /// `after`: the events that had ended when this one began, a bit each.
  void add(std::size_t number, const event& e, std::uint32_t after) {
    events_.push_back({e, std::uint32_t{1} << number, after});
  }
  void clear() { events_.clear(); }

  /// With `each_by_itself`, what happened to each key could have happened, but not necessarily all of it in one order:
  /// threads that do not tell each other what they have done may see different keys change in different orders.
  bool is_linearizable(const contents& before, const contents& after, bool each_by_itself) const {
    if (!each_by_itself) return is_possible(events_, before, after);
    std::vector<key> keys;
    for (const auto& [k, value] : before) keys.push_back(k);
    for (const auto& [k, value] : after) keys.push_back(k);
    for (const happened& h : events_)
      if (h.what.key_known) keys.push_back(h.what.of);
    for (const key& k : keys) {
      std::vector<happened> events;
      for (const happened& h : events_)
        if (h.what.key_known && h.what.of == k) events.push_back(h);
      if (!is_possible(events, only(before, k), only(after, k))) return false;
    }
    return true;
  }

 private:
  struct happened {
    event what;
    std::uint32_t bit;
    std::uint32_t after;
  };
  /// A map as it may have been on the way.
  struct imagined {
    std::array<std::pair<key, std::uint64_t>, 16> entries{};
    std::array<bool, 16> alive{};  // if not, the key has been handed out
    std::size_t count = 0;

    std::size_t find(const key& k) const {
      std::size_t i = 0;
      while (i < count && entries[i].first != k) ++i;
      return i;
    }
    bool is_alive(std::size_t i) const { return i < count && alive[i]; }
    void add(const key& k, std::uint64_t value, bool lives) {
      entries[count] = {k, value};
      alive[count++] = lives;
    }
    bool is(const contents& other) const {
      std::size_t living = 0;
      for (std::size_t i = 0; i < count; ++i) living += alive[i];
      if (living != other.size()) return false;
      for (const auto& [k, value] : other) {
        const std::size_t i = find(k);
        if (!is_alive(i) || entries[i].second != value) return false;
      }
      return true;
    }
  };

  static contents only(const contents& of, const key& k) {
    contents result;
    for (const auto& entry : of)
      if (entry.first == k) result.push_back(entry);
    return result;
  }
  static bool is_possible(const std::vector<happened>& events, const contents& before, const contents& after) {
    imagined start;
    for (const auto& [k, value] : before) start.add(k, value, true);
    std::uint32_t all = 0;
    for (const happened& h : events) all |= h.bit;
    return search(events, all, start, after);
  }
  static bool search(const std::vector<happened>& events, std::uint32_t left, const imagined& map,
                     const contents& after) {
    bool may_end = true;
    for (const happened& h : events)
      if ((left & h.bit) != 0 && h.what.ended) may_end = false;
    if (may_end && map.is(after)) return true;
    for (const happened& h : events) {
      if ((left & h.bit) == 0 || !h.what.key_known || (h.after & left) != 0) continue;
      imagined next = map;
      if (apply(h.what, next) && search(events, left & ~h.bit, next, after)) return true;
    }
    return false;
  }

  static bool apply(const event& e, imagined& map) {
    const std::size_t i = map.find(e.of);
    switch (e.done) {
      case what::nothing:
        return true;
      case what::insert:
      case what::hold:
        if (i != map.count) return false;
        map.add(e.of, e.argument, e.done == what::insert);
        return true;
      case what::fill:
        if (i == map.count || map.alive[i]) return false;
        map.entries[i].second = e.argument;
        return map.alive[i] = true;
      default:
        break;
    }
    if (e.ended && e.found != map.is_alive(i)) return false;
    if (!map.is_alive(i)) return true;
    switch (e.done) {
      case what::add:
        map.entries[i].second += e.argument;
        return true;
      case what::remove:
        map.alive[i] = false;
        [[fallthrough]];
      default:
        return !e.ended || map.entries[i].second == e.value;
    }
  }

  std::vector<happened> events_;
};

}  // namespace interleavings
