// A thread of a story: does what it does to the slots through the scheduled atomics, and notes it in its history.
#pragma once

#include <cstdint>
#include <optional>

#include "deferred_map/sharing/slots.hpp"
#include "history.hpp"
#include "threads.hpp"

namespace interleavings {

namespace word = dm::sharing::word;
using dm::sharing::outcome;
using operations = dm::sharing::slot_operations<scheduled_atomics>;

/// A value of two words, the second of which tells whether the first is of the same.
struct pair_value {
  std::uint64_t number;
  std::uint64_t check;
};
inline pair_value whole(std::uint64_t number) { return {number, ~number}; }
inline void require(bool holds, const char* otherwise) {
  if (!holds) throw violation{otherwise};
}

inline constexpr std::uint32_t slots_max = 3;
inline constexpr std::uint32_t attachments_max = 4;
inline constexpr std::size_t slot_words = 3;  // word and value
inline constexpr std::size_t lease_words =
    8;  // head and value; leases are numbered by eights, and the first of each is used
inline constexpr std::size_t words_max = slots_max * slot_words + 3 + attachments_max * lease_words;

inline dm::sharing::region region_in(std::uint64_t* words) {
  dm::sharing::region r;
  r.slots = reinterpret_cast<std::byte*>(words);
  r.stride_bytes = slot_words * 8;
  r.value_offset = 8;
  r.value_words = 2;
  r.taken = words + slots_max * slot_words;
  r.hints = r.taken + 1;
  r.slots_now = r.taken + 2;
  r.slots_max = slots_max;
  r.scratch = reinterpret_cast<std::byte*>(r.taken + 3);
  r.scratch_stride_bytes = lease_words * 8 / dm::sharing::leases_per_attachment;
  return r;
}
/// What the memory has in it when a story begins. Never changed by one.
inline std::uint64_t stage[words_max];

inline constexpr std::uint32_t unused_generation = 5;
inline constexpr key first{0, unused_generation};
inline constexpr key second{1, unused_generation};

/// As shared_map takes one: the newest of the cache, or what is vacant.
template <class Operations>
std::optional<std::uint32_t> take_slot(Operations& on, dm::sharing::slot_cache& cache) {
  if (cache.count == 0 && !on.fill(cache)) return std::nullopt;
  return cache.slots[--cache.count];
}

/// One of the threads: what it does is noted in the history.
class actor {
 public:
  explicit actor(own& mine) : actor(mine, mine.id) {}
  actor(own& mine, std::uint32_t attachment)
      : mine_(mine), attachment_(attachment), on_(region_in(stage), attachment) {}

  /// False where there is no room.
  bool insert(std::uint64_t number, key* made = nullptr) {
    event& e = begins(what::insert, {}, number);
    const auto slot = takes();
    if (!slot) {
      e = {what::nothing, {}, 0, false, 0, true, false};
      ends(e);
      return false;
    }
    e.of = {*slot, on_.generation_of_taken(*slot)};
    e.key_known = true;
    require(e.of.second <= dm::version::last_generation, "a slot lives on after its last life");
    const pair_value value = whole(number);
    on_.publish(*slot, e.of.second, &value, sizeof value);
    if (made != nullptr) *made = e.of;
    ends(e);
    return true;
  }
  void get(key of) {
    event& e = begins(what::get, of, 0);
    pair_value value{};
    e.found = on_.read(of.first, of.second, &value, sizeof value).has_value();
    if (e.found) require(value.check == ~value.number, "a value was read torn");
    e.value = e.found ? value.number : 0;
    ends(e);
  }
  void add(key of, std::uint64_t number) {
    event& e = begins(what::add, of, number);
    for (;;) {
      pair_value value{};
      const auto before = on_.read(of.first, of.second, &value, sizeof value);
      e.found = before.has_value();
      if (!e.found) break;
      require(value.check == ~value.number, "a value was read torn");
      if (word::is_updating(*before)) waits(of.first);
      const pair_value next = whole(value.number + number);
      const std::uint32_t lease = attachment_ * dm::sharing::leases_per_attachment;
      if (on_.begin_update(of.first, *before, lease, &next, sizeof next) == outcome::done) {
        on_.finish_update(of.first, lease);
        break;
      }
      between(0);
    }
    ends(e);
  }
  void remove(key of) {
    event& e = begins(what::remove, of, 0);
    pair_value value{};
    const outcome result = on_.remove(of.first, of.second, mine_.cache, &value, sizeof value);
    if (result == outcome::busy) waits(of.first);
    e.found = result == outcome::done;
    if (e.found) require(value.check == ~value.number, "a value was removed torn");
    e.value = e.found ? value.number : 0;
    ends(e);
  }
  /// Of a handle. Nothing where there is no room.
  std::optional<key> hold() {
    event& e = begins(what::hold, {}, 0);
    const auto slot = takes();
    if (!slot) {
      e = {what::nothing, {}, 0, false, 0, true, false};
      ends(e);
      return std::nullopt;
    }
    // Nobody knows the key before it is said whose it is.
    const std::uint32_t generation = on_.hold(*slot);
    e.of = {*slot, generation};
    e.key_known = true;
    require(generation <= dm::version::last_generation, "a slot lives on after its last life");
    require(on_.is_held(*slot, generation), "a slot of one's own is somebody else's");
    ends(e);
    return e.of;
  }
  void fill(key of, std::uint64_t number) {
    event& e = begins(what::fill, of, number);
    require(on_.is_held(of.first, of.second), "a slot of one's own is somebody else's");
    const pair_value value = whole(number);
    on_.publish(of.first, of.second, &value, sizeof value);
    ends(e);
  }
  void give_up(key of) { on_.release(of.first, of.second, mine_.cache); }
  void give_back() { on_.give_back(mine_.cache, true); }
  /// Looks at the keys there are, `throughout` among them.
  void walk(key throughout) {
    std::uint64_t seen = 0;
    on_.for_each_taken([&](std::uint32_t index) { seen |= std::uint64_t{1} << index; });
    require((seen >> throughout.first & 1) != 0, "iteration missed a value");
    for (std::uint32_t i = 0; i < slots_max; ++i) {
      if ((seen >> i & 1) == 0) continue;
      const std::uint64_t w = scheduled_atomics::load(on_.memory().word(i), std::memory_order_acquire);
      if (word::is_occupied(w) || word::is_updating(w)) get({i, word::generation_of(w)});
    }
  }

 private:
  event& begins(what done, key of, std::uint64_t argument) {
    programs::take({act::begin, {}, 0, false, 0, 0, nullptr});
    event& e = mine_.events.at(mine_.event_count++);
    e = {done, of, argument, false, 0, done != what::insert && done != what::hold, false};
    return e;
  }
  static void ends(event& e) {
    programs::take({act::end, {}, 0, false, 0, 0, nullptr});
    e.ended = true;
  }
  /// For another's store; the operation then begins anew.
  void waits(std::uint32_t index) {
    programs::take({act::wait, {}, programs::location(on_.memory().word(index)), false, 0, 0, nullptr});
  }
  static void between(std::uint64_t parts) { programs::take({act::between, {}, 0, false, parts, 0, nullptr}); }
  std::optional<std::uint32_t> takes() {
    auto slot = take_slot(on_, mine_.cache);
    if (!slot) {
      between(0);
      if (on_.claim_any(mine_.cache)) slot = take_slot(on_, mine_.cache);
    }
    between(1 + (slot ? *slot + 1 : 0));
    return slot;
  }

  own& mine_;
  std::uint32_t attachment_;
  operations on_;
};

/// What a process does that finds dead ones. Returns these.
inline std::uint64_t reap_the_dead() {
  const std::uint64_t dead = programs::take({act::who_died, {}, 0, false, 0, 0, nullptr});
  for (std::uint32_t t = 0; t < attachments_max; ++t)
    if ((dead >> t & 1) != 0) operations(region_in(stage), t).reap(t);
  programs::take({act::buried, {}, 0, false, 0, 0, nullptr});
  return dead;
}
inline void reaper(own&) { reap_the_dead(); }

}  // namespace interleavings
