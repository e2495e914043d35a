#include "search.hpp"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <deque>

namespace interleavings {
namespace {

constexpr std::size_t participants_max = history::events_max / own::events_max;
constexpr double under_way = -1;

enum class condition : std::uint8_t { unborn, alive, done, dead };

struct participant {
  place* at = nullptr;
  condition is = condition::alive;
  thread_views views;
  std::array<std::uint32_t, own::events_max> after{};
};

struct state {
  weak_memory memory;
  std::array<participant, participants_max> who;
  view told;         // by operations that ended
  view left_behind;  // what the dead knew, and the reapers that are done
  std::uint32_t ended = 0;
  std::uint32_t unburied = 0;
  unsigned deaths = 0;
};

/// From a state's hash to the number of ways from there to an end.
class states_met {
 public:
  /// The count, and whether the state is new.
  std::pair<double*, bool> insert(std::uint64_t hash) {
    if (2 * (count_ + 1) > entries_.size()) grow();
    entry& e = find(hash);
    if (e.hash == hash) return {&e.ways, false};
    ++count_;
    e = {hash, under_way};
    return {&e.ways, true};
  }
  void set(std::uint64_t hash, double ways) { find(hash).ways = ways; }
  std::uint64_t count() const noexcept { return count_; }

 private:
  struct entry {
    std::uint64_t hash = 0;  // 0: free
    double ways = 0;
  };
  entry& find(std::uint64_t hash) {
    std::size_t at = hash & (entries_.size() - 1);
    while (entries_[at].hash != 0 && entries_[at].hash != hash) at = (at + 1) & (entries_.size() - 1);
    return entries_[at];
  }
  void grow() {
    std::vector<entry> old(std::max<std::size_t>(entries_.size() * 2, std::size_t{1} << 16));
    old.swap(entries_);
    for (const entry& e : old)
      if (e.hash != 0) find(e.hash) = e;
  }
  std::vector<entry> entries_;
  std::uint64_t count_ = 0;
};

class search {
 public:
  search(programs& of, const std::uint64_t* base, std::size_t words, const std::function<void(const ending&)>& check,
         const limits& within)
      : programs_(of),
        base_(base),
        words_(words),
        check_(check),
        within_(within),
        ordinary_(of.size() - within.deaths_max) {}

  explored run() {
    state& s = at(0);
    for (std::size_t i = 0; i < programs_.size(); ++i) {
      s.who[i].at = programs_.start(i);
      s.who[i].is = i < ordinary_ ? condition::alive : condition::unborn;
    }
    try {
      for (std::size_t i = 0; i < ordinary_; ++i) settle(s, i);
      result_.executions = visit(0);
    } catch (const violation& v) {
      throw found_violation{std::string(v.what) + "\n" + trace()};
    }
    result_.complete = !given_up_;
    result_.states = met_.count();
    result_.places = programs_.places();
    return result_;
  }

 private:
  struct taken {
    std::size_t who;
    step what;
    std::uint64_t seen;
    std::size_t number;
  };

  state& at(std::size_t depth) {
    while (states_.size() <= depth) states_.emplace_back();
    return states_[depth];
  }
  template <class Change>
  void each_view(state& s, Change change) {
    for (std::size_t i = 0; i < programs_.size(); ++i) s.who[i].views.each(change);
    change(s.told);
    change(s.left_behind);
  }

  /// The number of ways from the state at this depth to an end.
  double visit(std::size_t depth) {
    state& s = at(depth);
    forget_what_cannot_be_noticed(s);
    const std::uint64_t hash = hash_of(s);
    const auto [ways, is_new] = met_.insert(hash);
    if (!is_new) {
      if (*ways == under_way) throw violation{"they can go on for ever"};
      return *ways;
    }
    if (met_.count() > within_.states_max) given_up_ = true;
    if (given_up_) return 0;
    double sum = 0;
    bool anybody_left = false;
    bool anybody_can = false;
    for (std::size_t i = 0; i < programs_.size(); ++i) {
      if (s.who[i].is != condition::alive) continue;
      anybody_left = true;
      if (!can_go_on(s, i)) continue;
      anybody_can = true;
      sum += step_by(depth, i);
    }
    if (anybody_left && !anybody_can) throw violation{"a survivor is blocked"};
    if (!anybody_left) {
      end(s);
      sum = 1;
    }
    sum += kill(depth);
    met_.set(hash, sum);
    return sum;
  }

  bool can_go_on(const state& s, std::size_t i) const {
    const participant& p = s.who[i];
    const step& next = p.at->next;
    if (next.does != act::wait) return true;
    return next.location < s.memory.locations() && p.views.now.at[next.location] + 1u < s.memory.stores(next.location);
  }

  double step_by(std::size_t depth, std::size_t i) {
    // `states_` is a deque: references stay where they are.
    state& before = at(depth + 1);
    before = at(depth);
    begin(before, i);
    participant& p = before.who[i];
    if (p.is != condition::alive || p.at->next.does == act::begin || p.at->next.does == act::wait)
      return go_to(depth + 1, {i, p.at->next, 0, 0});  // there was nothing that others could notice
    const step& next = p.at->next;
    while (before.memory.locations() <= next.location) {
      before.memory.add_location(*programs_.locations()[before.memory.locations()]);
    }
    const weak_memory& m = before.memory;
    const std::size_t stores = m.stores(next.location);
    double sum = 0;
    const auto loads = [&](std::size_t number, std::memory_order order) {
      state& s = at(depth + 2);
      s = before;
      const std::uint64_t seen = s.memory.load(s.who[i].views, next.location, number, order);
      sum += go_on(depth + 2, i, seen, number);
    };
    const auto stores_at = [&](std::size_t number, std::uint64_t value, std::uint64_t seen) {
      state& s = at(depth + 2);
      s = before;
      const bool has_read = next.does != act::store;
      if (has_read) s.memory.load(s.who[i].views, next.location, number - 1, next.order);
      s.memory.store(s.who[i].views, next.location, number, value, next.order, has_read,
                     [&](auto change) { each_view(s, change); });
      sum += go_on(depth + 2, i, seen, number);
    };
    const std::size_t oldest = m.oldest(p.views, next.location, next.order);
    switch (next.does) {
      case act::load:
        for (std::size_t n = stores; n-- > oldest;) loads(n, next.order);
        break;
      case act::store:
      case act::fetch_or:
      case act::fetch_and:
      case act::compare_exchange:
        for (std::size_t n = stores; n > oldest; --n) {
          if (!m.has_room_at(next.location, n)) continue;
          const std::uint64_t seen = m.store_at(next.location, n - 1).value;
          switch (next.does) {
            case act::store:
              stores_at(n, next.value, 0);
              break;
            case act::fetch_or:
              stores_at(n, seen | next.value, seen);
              break;
            case act::fetch_and:
              stores_at(n, seen & next.value, seen);
              break;
            default:
              if (seen == next.expected) stores_at(n, next.value, seen);
          }
        }
        if (next.does != act::compare_exchange) break;
        // One that fails is a relaxed load.
        for (std::size_t n = stores; n-- > p.views.now.at[next.location];)
          if (m.store_at(next.location, n).value != next.expected) loads(n, std::memory_order_relaxed);
        break;
      default:
        throw violation{"a step that nobody knows of"};
    }
    return sum;
  }

  double go_on(std::size_t depth, std::size_t i, std::uint64_t seen, std::size_t number) {
    participant& p = at(depth).who[i];
    const step did = p.at->next;
    path_.push_back({i, did, seen, number});
    p.at = programs_.after(p.at, seen);
    settle(at(depth), i);
    ++result_.steps;
    const double ways = visit(depth);
    path_.pop_back();
    return ways;
  }
  double go_to(std::size_t depth, const taken& by) {
    path_.push_back(by);
    ++result_.steps;
    const double ways = visit(depth);
    path_.pop_back();
    return ways;
  }

  /// Some die, and a reaper begins. One that is at work already must be among them.
  double kill(std::size_t depth) {
    const state& s = at(depth);
    std::size_t reaper = ordinary_;
    std::uint32_t may = 0;
    std::uint32_t must = 0;
    for (; reaper < programs_.size() && s.who[reaper].is != condition::unborn; ++reaper)
      if (s.who[reaper].is == condition::alive) must |= 1u << reaper;
    if (reaper == programs_.size()) return 0;
    for (std::size_t i = 0; i < ordinary_; ++i)
      if (s.who[i].is == condition::alive) may |= 1u << i;
    double sum = 0;
    // All subsets of `may`.
    for (std::uint32_t some = may;; some = (some - 1) & may) {
      const std::uint32_t die = some | must;
      const auto count = static_cast<unsigned>(std::popcount(die));
      if (count != 0 && s.deaths + count <= within_.deaths_max) {
        state& next = at(depth + 1);
        next = s;
        next.deaths += count;
        for (std::size_t i = 0; i < programs_.size(); ++i) {
          if ((die >> i & 1) == 0) continue;
          next.who[i].is = condition::dead;
          next.left_behind.join(next.who[i].views.now);
          if (i < ordinary_) next.unburied |= 1u << i;
        }
        participant& r = next.who[reaper];
        r.is = condition::alive;
        r.views.now = r.views.acquired = r.views.released = next.left_behind;
        const step looks = r.at->next;
        r.at = programs_.after(r.at, next.unburied);
        settle(next, reaper);
        sum += go_to(depth + 1, {reaper, looks, next.unburied, 0});
      }
      if (some == 0) return sum;
    }
  }

  /// What comes at the beginning of the thread's next step and is not noticed by others.
  void begin(state& s, std::size_t i) {
    participant& p = s.who[i];
    const step& next = p.at->next;
    if (next.does == act::begin) {
      const std::size_t n = p.at->events.size();
      for (std::size_t j = 0; j < n; ++j) p.after[n] |= 1u << ending::bit_of(i, j);
      if (within_.real_time) {
        p.after[n] |= s.ended;
        p.views.now.join(s.told);
        p.views.acquired.join(s.told);
      }
      p.at = programs_.after(p.at, 0);
      settle(s, i);
    } else if (next.does == act::wait) {
      ++p.views.now.at[next.location];
      p.views.acquired.join(p.views.now);
      p.at = programs_.after(p.at, 0);
      settle(s, i);
    }
  }
  /// What follows at once on what the thread has done, up to its next step.
  void settle(state& s, std::size_t i) {
    participant& p = s.who[i];
    for (;;) {
      const step& next = p.at->next;
      std::uint64_t seen = 0;
      switch (next.does) {
        case act::load:
          if (!next.constant) return;
          seen = next.value;
          break;
        case act::fence:
          if (next.order == std::memory_order_seq_cst) throw violation{"a fence that memory here does not know"};
          weak_memory::fence(p.views, next.order);
          break;
        case act::between:
          break;
        case act::end:
          s.ended |= 1u << ending::bit_of(i, p.at->events.size() - 1);
          if (within_.real_time) s.told.join(p.views.now);
          break;
        case act::buried:
          s.unburied = 0;
          break;
        case act::finished:
          p.is = condition::done;
          if (i >= ordinary_) s.left_behind.join(p.views.now);
          return;
        case act::failed:
          throw violation{next.what};
        default:
          return;
      }
      p.at = programs_.after(p.at, seen);
    }
  }

  void forget_what_cannot_be_noticed(state& s) {
    view oldest;
    for (std::size_t l = 0; l < s.memory.locations(); ++l)
      oldest.at[l] = static_cast<std::uint8_t>(s.memory.stores(l) - 1);
    for (std::size_t i = 0; i < programs_.size(); ++i) {
      if (s.who[i].is == condition::alive) {
        for (std::size_t l = 0; l < locations_max; ++l) oldest.at[l] = std::min(oldest.at[l], s.who[i].views.now.at[l]);
      } else {
        s.who[i].views = thread_views();
      }
    }
    if (!within_.real_time) s.ended = 0;
    if (s.deaths == within_.deaths_max) s.left_behind = view();
    if (oldest.at == view().at) return;
    each_view(s, [&](view& v) { v.lower(oldest); });
    s.memory.forget(oldest);
  }

  std::uint64_t hash_of(const state& s) {
    buffer_.clear();
    const auto mix_view = [&](const view& v) {
      std::array<std::uint64_t, locations_max / 8> words;
      static_assert(sizeof words == sizeof v);
      std::memcpy(words.data(), &v, sizeof v);
      buffer_.insert(buffer_.end(), words.begin(), words.end());
    };
    for (std::size_t l = 0; l < s.memory.locations(); ++l) {
      const std::size_t stores = s.memory.stores(l);
      // As those that nobody has come to use yet.
      if (stores == 1 && s.memory.last(l) == *programs_.locations()[l] &&
          s.memory.store_at(l, 0).released.at == view().at)
        continue;
      buffer_.push_back(l << 32 | stores);
      for (std::size_t n = 0; n < stores; ++n) {
        const store_made& made = s.memory.store_at(l, n);
        buffer_.push_back(made.value);
        buffer_.push_back(made.has_read);
        mix_view(made.released);
      }
    }
    mix_view(s.memory.total());
    mix_view(s.told);
    mix_view(s.left_behind);
    buffer_.push_back(std::uint64_t{s.ended} << 32 | s.unburied << 8 | s.deaths);
    for (std::size_t i = 0; i < programs_.size(); ++i) {
      const participant& p = s.who[i];
      const std::uint32_t number = p.is == condition::dead ? p.at->dead_number : p.at->number;
      buffer_.push_back(std::uint64_t{number} << 8 | static_cast<std::uint64_t>(p.is));
      for (std::size_t e = 0; e < own::events_max; e += 2)
        buffer_.push_back(std::uint64_t{p.after[e]} << 32 | p.after[e + 1]);
      if (p.is != condition::alive) continue;
      mix_view(p.views.now);
      mix_view(p.views.acquired);
      mix_view(p.views.released);
    }
    const std::uint64_t hash = XXH3_64bits(buffer_.data(), buffer_.size() * sizeof(std::uint64_t));
    return hash == 0 ? 1 : hash;
  }

  void end(const state& s) {
    ++result_.ends;
    result_.death_ends += s.deaths != 0;
    ending e;
    e.words.assign(base_, base_ + words_);
    for (std::size_t l = 0; l < s.memory.locations(); ++l)
      e.words[static_cast<std::size_t>(programs_.locations()[l] - base_)] = s.memory.last(l);
    for (std::size_t i = 0; i < programs_.size(); ++i)
      e.participants.push_back({s.who[i].at, s.who[i].is == condition::dead, s.who[i].after});
    e.deaths = s.deaths;
    check_(e);
  }

  std::string trace() const {
    static const char* const names[] = {
        "load", "store", "compare_exchange", "fetch_or", "fetch_and", "fence", "begin", "between",
        "end",  "wait",  "a reaper begins",  "buried",   "finished",  "failed"};
    std::string text;
    char line[160];
    for (const taken& t : path_) {
      const auto where =
          t.what.location < programs_.locations().size() ? programs_.locations()[t.what.location] - base_ : 0;
      std::snprintf(line, sizeof line, "  thread %zu: %s word %td, %llx (order %d): store %zu, saw %llx\n", t.who,
                    names[static_cast<std::size_t>(t.what.does)], where, static_cast<unsigned long long>(t.what.value),
                    static_cast<int>(t.what.order), t.number, static_cast<unsigned long long>(t.seen));
      text += line;
    }
    return text;
  }

  programs& programs_;
  const std::uint64_t* base_;
  std::size_t words_;
  const std::function<void(const ending&)>& check_;
  limits within_;
  std::size_t ordinary_;
  std::deque<state> states_;
  states_met met_;
  std::vector<taken> path_;
  std::vector<std::uint64_t> buffer_;
  explored result_;
  bool given_up_ = false;
};

}  // namespace

explored explore(programs& of, const std::uint64_t* base, std::size_t words,
                 const std::function<void(const ending&)>& check, const limits& within) {
  return search(of, base, words, check, within).run();
}

}  // namespace interleavings
