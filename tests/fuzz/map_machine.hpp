// A machine that runs an input as operations on two maps, and on a model of each: what the last
// generation and the live value of each slot say must hold. Every operation of a deferred_map's public surface is here.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "../values.hpp"
#include "deferred_map/container/archive_access.hpp"
#include "deferred_map/deferred_map.hpp"
#include "deferred_map/reservation.hpp"
#include "fuzz_input.hpp"

namespace fuzz {

/// How a value of T is made from its number, and looked at.
template <class T>
struct value_of {
  static T make(std::uint64_t number) { return static_cast<T>(number * 0x9e37'79b9'7f4a'7c15u); }
  static bool is(const T& value, std::uint64_t number) { return value == make(number); }
};
template <>
struct value_of<std::string> {
  static std::string make(std::uint64_t number) {
    return number % 2 == 0 ? std::to_string(number) : "long enough to be on the heap: " + std::to_string(number);
  }
  static bool is(const std::string& value, std::uint64_t number) { return value == make(number); }
};
template <>
struct value_of<std::unique_ptr<std::uint64_t>> {
  static std::unique_ptr<std::uint64_t> make(std::uint64_t number) { return std::make_unique<std::uint64_t>(number); }
  static bool is(const std::unique_ptr<std::uint64_t>& value, std::uint64_t number) {
    return value != nullptr && *value == number;
  }
};
template <>
struct value_of<test::fragile> {
  static test::fragile make(std::uint64_t number) { return test::fragile(static_cast<int>(number & 0x3fff'ffff)); }
  static bool is(const test::fragile& value, std::uint64_t number) {
    return value.number() == static_cast<int>(number & 0x3fff'ffff);
  }
};

/// What must be true of a map, slot by slot.
struct model {
  struct slot {
    std::uint32_t last_generation = 0;  // of any key that was handed out, dead or alive
    bool live = false;
    std::uint64_t number = 0;  // of the value
  };
  static constexpr std::uint32_t none = 0xffff'ffffu;
  static constexpr std::size_t void_handles_max = 16;

  std::vector<slot> slots;
  std::size_t live_count = 0;
  std::vector<dm::handle> handles;
  std::vector<dm::handle> void_handles;

  dm::key key_at(std::uint32_t index) const { return dm::key::from_parts(index, slots[index].last_generation); }
  bool is_live(dm::key key) const {
    if (key.index() >= slots.size()) return false;
    const slot& s = slots[key.index()];
    return s.live && s.last_generation == key.generation();
  }
  /// The first live slot at or behind `index`, or none.
  std::uint32_t next_live(std::uint32_t index) const {
    while (index < slots.size() && !slots[index].live) ++index;
    return index < slots.size() ? index : none;
  }
  /// Some live key. Requires: there is one.
  dm::key any_live(std::uint32_t which) const {
    const std::uint32_t from = next_live(which % static_cast<std::uint32_t>(slots.size()));
    return key_at(from == none ? next_live(0) : from);
  }
  std::uint64_t number_of(dm::key key) const { return slots[key.index()].number; }

  /// Never goes back: a generation that was seen in a slot is not seen in another life of it.
  void hand_out(dm::key key) {
    FUZZ_CHECK(key);
    if (key.index() >= slots.size()) slots.resize(std::size_t{key.index()} + 1);
    slot& s = slots[key.index()];
    FUZZ_CHECK(!s.live && key.generation() > s.last_generation);
    s.last_generation = key.generation();
  }
  void fill(dm::key key, std::uint64_t number) {
    slot& s = slots[key.index()];
    FUZZ_CHECK(!s.live && s.last_generation == key.generation());
    s.live = true;
    s.number = number;
    ++live_count;
  }
  void kill(dm::key key) {
    FUZZ_CHECK(is_live(key));
    slots[key.index()].live = false;
    --live_count;
  }
  void kill_all() {
    for (slot& s : slots) s.live = false;
    live_count = 0;
  }

  dm::handle take_handle(std::uint32_t which) {
    std::swap(handles[which % handles.size()], handles.back());
    dm::handle handle = std::move(handles.back());
    handles.pop_back();
    return handle;
  }
  void void_all_handles() {
    for (dm::handle& handle : handles)
      if (void_handles.size() < void_handles_max) void_handles.push_back(std::move(handle));
    handles.clear();
  }
};

/// One map and its model.
template <class Map>
struct side {
  Map map;
  model truth;

  /// Whether the map is what the model says. Cost: linear in slots.
  void check() const {
    const std::string fault = map.verify();
    if (!fault.empty()) stop(fault.c_str(), "verify()", 0);
    FUZZ_CHECK(map.size() == truth.live_count);
    FUZZ_CHECK(map.empty() == (truth.live_count == 0));
    FUZZ_CHECK(map.reserved_count() == truth.handles.size());
    check_slots();
    check_walks();
    for (const dm::handle& handle : truth.void_handles) FUZZ_CHECK(!map.holds(handle));
  }

 private:
  void check_slots() const {
    const auto slots = static_cast<std::uint32_t>(std::max(map.slot_count(), truth.slots.size()));
    std::vector<bool> reserved(slots);
    for (const dm::handle& handle : truth.handles) {
      FUZZ_CHECK(map.holds(handle));
      FUZZ_CHECK(!reserved[handle.index()]);
      reserved[handle.index()] = true;
    }
    std::size_t retired = 0;
    for (std::uint32_t index = 0; index < slots; ++index) {
      const model::slot expected = index < truth.slots.size() ? truth.slots[index] : model::slot{};
      const std::uint32_t last = expected.last_generation;
      const dm::slot_state state = map.state(index);
      if (expected.live) {
        FUZZ_CHECK(state == dm::slot_state::occupied);
        FUZZ_CHECK(map.key_at(index) == truth.key_at(index));
      } else {
        const bool used_up = last == dm::version::last_generation && !reserved[index];
        FUZZ_CHECK(state == (reserved[index] ? dm::slot_state::reserved
                             : used_up       ? dm::slot_state::retired
                                             : dm::slot_state::vacant));
        FUZZ_CHECK(!map.key_at(index));
        retired += used_up;
      }
      // Every generation that was ever handed out, but for the one that lives.
      for (const std::uint32_t generation : {1u, last / 2, last - 1, last}) {
        const dm::key key = dm::key::from_parts(index, generation);
        if (key && generation <= last && !truth.is_live(key)) FUZZ_CHECK(map.get(key) == nullptr);
      }
    }
    FUZZ_CHECK(map.retired_count() == retired);
  }

  void check_walks() const {
    std::uint32_t expected = truth.next_live(0);
    auto key = map.keys().begin();
    auto value = map.values().begin();
    for (const auto [k, v] : map) {
      FUZZ_CHECK(expected != model::none);
      FUZZ_CHECK(k == truth.key_at(expected) && *key == k);
      FUZZ_CHECK(&v == map.get(k) && &v == &*value);
      FUZZ_CHECK(value_of<typename Map::mapped_type>::is(v, truth.slots[expected].number));
      expected = truth.next_live(expected + 1);
      ++key, ++value;
    }
    FUZZ_CHECK(expected == model::none && key == map.keys().end() && value == map.values().end());
  }
};

template <class Map>
class map_machine {
 public:
  using T = typename Map::mapped_type;
  using values = value_of<T>;
  static constexpr bool persistent = dm::persistent_allocator<typename Map::allocator_type>;
  static constexpr bool copies = std::is_copy_constructible_v<T> && !persistent;
  static constexpr bool may_throw = std::is_same_v<T, test::fragile>;
  static constexpr std::uint64_t operations_max = 3'000;
  static constexpr std::uint32_t times_max = 40;
  static constexpr std::uint64_t checks_every = 8;
  static constexpr std::size_t slots_max = 9'000;

  map_machine(Map&& a, Map&& b) : a_{std::move(a), {}}, b_{std::move(b), {}} {}

  /// An instruction is a verb, which of the candidates, and for verbs above 127 how often.
  void run(input& program) {
    std::uint64_t instructions = 0;
    while (!program.at_end() && operations_ < operations_max) {
      const std::uint8_t verb = program.byte();
      const std::uint32_t which = program.number16();
      const std::uint32_t times = verb < 128 ? 1 : program.byte() % times_max + 1u;
      for (std::uint32_t i = 0; i < times && operations_ < operations_max; ++i) {
        ++operations_;
        if (!once(verb % 128 % verb_count, which + i * 7, program)) break;
      }
      fuse_steps_ = verb % 128 % verb_count == set_fuse ? static_cast<int>(which % 16) : -1;
      if (++instructions % checks_every == 0) {
        a_.check();
        operations_ += a_.map.slot_count() / 4;  // checking is work too
      }
    }
    a_.check();
    b_.check();
  }

 private:
  enum verb : std::uint8_t {
    allocate,
    fill,
    fill_by_emplace,
    release,
    insert,
    emplace,
    insert_with_key,
    insert_from_insert,
    reserve_and_forget,
    remove,
    erase,
    erase_iterator,
    detach,
    retain,
    erase_if,
    clear,
    drain,
    release_reserved,
    shrink,
    make_room,
    look_up,
    look_up_many,
    look_up_disjoint,
    from_nowhere,
    bad_handles,
    churn_walk,
    copy,
    copy_construct,
    move,
    move_construct,
    swap_maps,
    assign_to_itself,
    recover,
    attach_again,
    age,
    set_fuse,
    insert_many,
    verb_count
  };

  /// Whether `operation` was done; it may end by the fuse or the arena's end, and has then changed nothing.
  template <class F>
  bool attempt(F operation) {
    if constexpr (may_throw) {
      if (fuse_steps_ >= 0) test::fuse::set(fuse_steps_);
      bool done = true;
      try {
        operation();
      } catch (const test::fuse::blown&) {
        done = false;
      }
      test::fuse::remove();
      return done;
    } else if constexpr (persistent) {
      try {
        operation();
        return true;
      } catch (const std::bad_alloc&) {
        return false;
      }
    } else {
      operation();
      return true;
    }
  }

  bool is_full() const { return a_.map.slot_count() >= slots_max; }

  void born(dm::key key, std::uint64_t number) {
    a_.truth.hand_out(key);
    a_.truth.fill(key, number);
    FUZZ_CHECK(values::is(a_.map.at(key), number));
  }
  void killed(dm::key key) {
    a_.truth.kill(key);
    FUZZ_CHECK(!a_.map.contains(key));
  }

  /// Returns whether doing it again makes sense.
  bool once(std::uint8_t what, std::uint32_t which, input& program) {
    Map& map = a_.map;
    model& truth = a_.truth;
    switch (what) {
      case allocate: {
        if (is_full()) return false;
        return attempt([&] {
          truth.handles.push_back(map.allocate_handle());
          truth.hand_out(truth.handles.back().key());
        });
      }
      case fill:
      case fill_by_emplace: {
        if (truth.handles.empty()) return false;
        dm::handle handle = truth.take_handle(which);
        const dm::key key = handle.key();
        const std::uint64_t number = ++number_;
        const bool done = attempt([&] {
          T value = values::make(number);
          T& there = what == fill ? map.insert(std::move(handle), std::move(value))
                                  : map.emplace(std::move(handle), std::move(value));
          FUZZ_CHECK(&there == map.get(key) && !handle);
        });
        if (done)
          truth.fill(key, number);
        else
          truth.handles.push_back(std::move(handle));  // still good
        return done;
      }
      case release:
        if (truth.handles.empty()) return false;
        map.release_handle(truth.take_handle(which));
        return true;
      case insert: {
        if (is_full()) return false;
        const std::uint64_t number = ++number_;
        return attempt([&] { born(map.insert(values::make(number)), number); });
      }
      case emplace: {
        // An argument inside the map, which may grow under it.
        if constexpr (std::is_copy_constructible_v<T>) {
          if (truth.live_count == 0 || is_full()) return false;
          const dm::key original = truth.any_live(which);
          const std::uint64_t number = truth.number_of(original);
          return attempt([&] { born(map.emplace(std::as_const(map).at(original)), number); });
        }
        return false;
      }
      case insert_with_key: {
        if (is_full()) return false;
        const std::uint64_t number = ++number_;
        dm::key told;
        const bool done = attempt([&] {
          const dm::key key = map.insert_with_key([&](dm::key k) {
            told = k;
            truth.hand_out(k);
            FUZZ_CHECK(!map.contains(k));
            return values::make(number);
          });
          FUZZ_CHECK(key == told);
        });
        if (done) truth.fill(told, number);
        return done;
      }
      case insert_from_insert: {
        // The value is made by using the map: inserting, releasing everything, or leaving by an exception.
        if (is_full()) return false;
        return insert_from_within(which);
      }
      case reserve_and_forget: {
        if (is_full()) return false;
        return attempt([&] {
          dm::reservation place(map);
          truth.hand_out(place.key());
          if (which % 2 == 0) return;
          const dm::key key = place.key();
          const std::uint64_t number = ++number_;
          place.insert(values::make(number));
          truth.fill(key, number);
          FUZZ_CHECK(!place);
        });
      }
      case remove:
      case erase:
      case erase_iterator: {
        if (truth.live_count == 0) return false;
        const dm::key key = truth.any_live(which);
        const std::uint64_t number = truth.number_of(key);
        const bool done = attempt([&] {
          if (what == remove) {
            const std::optional<T> taken = map.remove(key);
            FUZZ_CHECK(taken && values::is(*taken, number));
          } else if (what == erase) {
            FUZZ_CHECK(map.erase(key));
          } else {
            const auto next = map.erase(map.find(key));
            const std::uint32_t after = truth.next_live(key.index() + 1);
            FUZZ_CHECK((next == map.end()) == (after == model::none));
            if (next != map.end()) FUZZ_CHECK(next->key == truth.key_at(after));
          }
        });
        if (!done) return FUZZ_CHECK(values::is(map.at(key), number)), false;
        killed(key);
        return true;
      }
      case detach: {
        if (truth.live_count == 0) return false;
        const dm::key key = truth.any_live(which);
        const std::uint64_t number = truth.number_of(key);
        return attempt([&] {
          auto detached = map.detach(key);
          FUZZ_CHECK(detached && detached->second.key() == key && values::is(detached->first, number));
          killed(key);
          if (which % 3 == 0) {
            test::fuse::remove();
            map.insert(std::move(detached->second), std::move(detached->first));
            truth.fill(key, number);
          } else {
            truth.handles.push_back(std::move(detached->second));
          }
        });
      }
      case retain:
      case erase_if: {
        const std::uint32_t divisor = which % 7 + 1;
        std::size_t expected = 0;
        const auto goes = [&](dm::key key, T& value) {
          FUZZ_CHECK(values::is(value, truth.number_of(key)));
          const bool gone = key.index() % divisor == 0;
          expected += gone;
          if (gone) truth.kill(key);
          return gone;
        };
        const std::size_t gone = what == erase_if
                                     ? dm::erase_if(map, goes)
                                     : map.retain([&](dm::key key, T& value) { return !goes(key, value); });
        FUZZ_CHECK(gone == expected);
        return false;
      }
      case clear:
        map.clear();
        truth.kill_all();
        FUZZ_CHECK(map.empty() && map.begin() == map.end());
        return false;
      case drain: {
        std::uint32_t left = which % 200;
        attempt([&] {
          std::uint32_t expected = truth.next_live(0);
          for (auto [key, value] : map.drain()) {
            FUZZ_CHECK(expected != model::none && key == truth.key_at(expected));
            FUZZ_CHECK(values::is(value, truth.slots[expected].number) && !map.contains(key));
            expected = truth.next_live(expected + 1);
            if (left-- == 0) break;
          }
        });
        truth.kill_all();
        return false;
      }
      case release_reserved:
        FUZZ_CHECK(map.release_reserved() == truth.handles.size());
        truth.void_all_handles();
        return false;
      case shrink: {
        const std::size_t before = map.slot_count();
        const bool done = attempt([&] { map.shrink_to_fit(); });
        FUZZ_CHECK(map.slot_count() <= before);
        if (done && map.slot_count() != 0) {
          const dm::slot_state last = map.state(static_cast<std::uint32_t>(map.slot_count() - 1));
          FUZZ_CHECK(last != dm::slot_state::vacant);
        }
        return false;
      }
      case make_room: {
        const std::size_t additional = which % 300;
        if (is_full()) return false;
        const bool done = attempt([&] { map.reserve(additional); });
        if (done) FUZZ_CHECK(map.capacity() >= map.size() + map.reserved_count() + map.retired_count() + additional);
        return false;
      }
      case look_up: {
        if (truth.live_count == 0) return false;
        const dm::key key = truth.any_live(which);
        const T* value = std::as_const(map).get(key);
        FUZZ_CHECK(value != nullptr && values::is(*value, truth.number_of(key)));
        FUZZ_CHECK(map.contains(key) && &map[key] == value && &map.at(key) == value);
        FUZZ_CHECK(map.find(key)->key == key && &map.find(key)->value == value);
        return true;
      }
      case look_up_many:
        return look_up_several(which, program), false;
      case look_up_disjoint: {
        const std::array<dm::key, 3> keys{any_key(which), any_key(which / 3), any_key(which / 7 + 1)};
        const auto found = map.get_disjoint(keys);
        bool expected = true;
        for (std::size_t i = 0; i < 3; ++i) {
          expected = expected && truth.is_live(keys[i]);
          for (std::size_t j = 0; j < i; ++j) expected = expected && keys[i] != keys[j];
        }
        FUZZ_CHECK(found.has_value() == expected);
        if (found)
          for (std::size_t i = 0; i < 3; ++i) FUZZ_CHECK((*found)[i] == map.get(keys[i]));
        return true;
      }
      case from_nowhere:
        return use_key_from_nowhere(program.number64()), false;
      case bad_handles:
        for (auto* handles : {&truth.void_handles, &b_.truth.handles, &b_.truth.void_handles})
          for (dm::handle& handle : *handles) refuse(handle);
        {
          dm::handle spent;
          refuse(spent);
        }
        return false;
      case churn_walk:
        return walk_and_change(which, program), false;
      case copy:
        if constexpr (copies) {
          const bool done = attempt([&] { b_.map = map; });
          if (done) copied_to_b();
        }
        return false;
      case copy_construct:
        if constexpr (copies) {
          std::optional<Map> other;
          const bool done = attempt([&] { other.emplace(map, map.get_allocator()); });
          if (!done) return false;
          b_.map = std::move(*other);
          copied_to_b();
          FUZZ_CHECK(other->verify().empty() && other->size() == 0);
        }
        return false;
      case move:
        if constexpr (persistent) {
          // A moved-from map is of no arena. What is moved here are two maps past each other.
          Map moved(std::move(map));
          map = std::move(b_.map);
          b_.map = std::move(moved);
          std::swap(truth, b_.truth);
        } else {
          b_.map = std::move(map);
          b_.truth.void_all_handles();
          b_.truth.slots = std::exchange(truth.slots, {});
          b_.truth.live_count = std::exchange(truth.live_count, 0);
          b_.truth.handles = std::exchange(truth.handles, {});
          FUZZ_CHECK(map.size() == 0 && map.slot_count() == 0);
        }
        return false;
      case move_construct: {
        Map moved(std::move(map));
        FUZZ_CHECK(map.size() == 0 && map.slot_count() == 0 && map.verify().empty());
        map = std::move(moved);
        return false;
      }
      case swap_maps:
        swap(map, b_.map);
        std::swap(truth, b_.truth);
        return false;
      case assign_to_itself: {
        Map& same = map;
        if constexpr (copies)
          if (which % 2 == 0) map = std::as_const(same);
        map = std::move(same);
        map.swap(same);
        return false;
      }
      case recover:
        if constexpr (persistent) {
          const dm::recovery_counts counts = map.recover(which % 2 == 0);
          FUZZ_CHECK(counts.reserved_given_back == truth.handles.size());
          FUZZ_CHECK(counts.occupied == truth.live_count && counts.impossible == 0);
          truth.void_all_handles();
        }
        return false;
      case attach_again:
        if constexpr (persistent) {
          map = Map(map.get_allocator());
          for (const dm::handle& handle : truth.handles) FUZZ_CHECK(!map.holds(handle));
          map.recover();
          truth.void_all_handles();
        }
        return false;
      case age:
        grow_old(dm::version::last_generation - which % 4);
        return false;
      case insert_many:
        for (std::uint32_t i = 0; i < (which % 64 == 0 ? 4200u : which % 100); ++i)
          if (!once(insert, 0, program)) break;
        return false;
      default:
        return false;
    }
  }

  struct made_to_throw {};

  bool insert_from_within(std::uint32_t which) {
    Map& map = a_.map;
    model& truth = a_.truth;
    const std::uint64_t outer = ++number_;
    const std::uint64_t inner = ++number_;
    dm::key told;
    bool done = false;
    try {
      done = attempt([&] {
        map.insert_with_key([&](dm::key key) {
          told = key;
          truth.hand_out(key);
          if (which % 3 == 0) born(map.insert(values::make(inner)), inner);
          if (which % 5 == 0) throw made_to_throw{};
          return values::make(outer);
        });
      });
    } catch (const made_to_throw&) {
      test::fuse::remove();
      FUZZ_CHECK(!map.contains(told));
      return true;
    }
    if (done) truth.fill(told, outer);
    return done;
  }

  /// A key of this map, or one that was, or one that never was.
  dm::key any_key(std::uint32_t which) const {
    const auto& truth = a_.truth;
    if (which % 4 != 0 && truth.live_count != 0) return truth.any_live(which);
    const std::uint32_t index = which / 4 % static_cast<std::uint32_t>(a_.map.slot_count() + 2);
    return dm::key::from_parts(index, which / 16 % 8);
  }

  void look_up_several(std::uint32_t which, input& program) {
    Map& map = a_.map;
    model& truth = a_.truth;
    std::array<dm::key, 20> keys;
    std::size_t live = 0;
    const std::size_t count = which % (keys.size() + 1);
    for (std::size_t i = 0; i < count; ++i) {
      keys[i] = any_key(program.number16());
      live += truth.is_live(keys[i]);
    }
    std::array<T*, 20> out;
    T* const untouched = reinterpret_cast<T*>(this);
    out.fill(untouched);
    const std::span<const dm::key> asked(keys.data(), count);
    FUZZ_CHECK(map.get_many(asked, std::span<T*>(out)) == live);
    for (std::size_t i = 0; i < out.size(); ++i) FUZZ_CHECK(out[i] == (i < count ? map.get(keys[i]) : untouched));
    if (count == 0) return;
    try {
      map.get_many(asked, std::span<T*>(out.data(), count - 1));
      FUZZ_CHECK(!"a span that is too short is refused");
    } catch (const std::invalid_argument&) {
    }
  }

  /// Any 64 bits as a key, as if read from raw memory, and the key that those bits are allowed to be.
  void use_key_from_nowhere(std::uint64_t bits) {
    Map& map = a_.map;
    model& truth = a_.truth;
    for (const std::uint64_t index : {bits & 0xffff'ffffu, bits & 0x3f}) {
      const std::uint64_t raw = (bits & ~std::uint64_t{0xffff'ffffu}) | index;
      for (const dm::key key : {std::bit_cast<dm::key>(raw), dm::key::from_bits(raw)}) {
        const bool live = truth.is_live(key);
        FUZZ_CHECK(map.contains(key) == live && (map.get(key) != nullptr) == live);
        FUZZ_CHECK((map.find(key) != map.end()) == live);
        if (live) continue;
        FUZZ_CHECK(!map.erase(key) && !map.remove(key) && !map.detach(key));
        try {
          map.at(key);
          FUZZ_CHECK(!"a stale key is refused");
        } catch (const dm::stale_key&) {
        }
      }
    }
  }

  /// A handle that is none of this map's.
  void refuse(dm::handle& handle) {
    FUZZ_CHECK(!a_.map.holds(handle));
    const dm::key key = handle.key();
    try {
      a_.map.release_handle(std::move(handle));
      FUZZ_CHECK(!"a bad handle is refused");
    } catch (const dm::bad_handle&) {
    }
    const std::uint64_t number = ++number_;
    try {
      a_.map.insert(std::move(handle), values::make(number));
      FUZZ_CHECK(!"a bad handle is refused");
    } catch (const dm::bad_handle&) {
    }
    FUZZ_CHECK(handle.key() == key);
  }

  /// Walks the map while it is inserted into and erased from. What was there all the time is met exactly once.
  void walk_and_change(std::uint32_t which, input& program) {
    Map& map = a_.map;
    model& truth = a_.truth;
    std::vector<model::slot> to_meet = truth.slots;
    std::uint32_t changes_left = which % 64;
    std::int64_t last = -1;
    for (auto it = map.begin(); it != map.end();) {
      ++operations_;
      const dm::key key = it->key;
      FUZZ_CHECK(key.index() > last && truth.is_live(key));
      FUZZ_CHECK(values::is(it->value, truth.number_of(key)));
      last = key.index();
      if (key.index() < to_meet.size()) to_meet[key.index()].live = false;
      const std::uint8_t change = changes_left == 0 ? std::uint8_t{0} : program.byte();
      if (changes_left != 0) --changes_left;
      if (change % 4 == 1) {
        it = map.erase(it);
        killed(key);
        continue;
      }
      if (change % 4 == 2 && !is_full()) {
        const std::uint64_t number = ++number_;
        attempt([&] { born(map.insert(values::make(number)), number); });
      }
      if (change % 4 == 3 && truth.live_count > 1) {
        const dm::key other = truth.any_live(change);  // before or behind
        if (other != key) {
          FUZZ_CHECK(map.erase(other));
          killed(other);
          if (other.index() < to_meet.size()) to_meet[other.index()].live = false;
        }
      }
      ++it;
    }
    for (const model::slot& s : to_meet) FUZZ_CHECK(!s.live);
  }

  void copied_to_b() {
    b_.truth.void_all_handles();
    b_.truth.slots = a_.truth.slots;
    b_.truth.live_count = a_.truth.live_count;
    for (const dm::handle& handle : a_.truth.handles) FUZZ_CHECK(!b_.map.holds(handle));
  }

  /// Moves every slot without a value to `generation`, as if all the lives between had passed. Handles are void.
  void grow_old(std::uint32_t generation) {
    Map& map = a_.map;
    model& truth = a_.truth;
    const auto aged = [generation](std::uint32_t word) {
      return dm::version::vacant(std::max(dm::version::generation(word), generation));
    };
    if constexpr (persistent) {
      map.recover();
      for (std::uint32_t i = 0; i < map.slot_count(); ++i) {
        std::uint32_t& word = map.get_allocator().arena->version(i);
        if (dm::version::is_vacant(word)) word = aged(word);
      }
      map.recover();
    } else {
      using door = dm::detail::archive_access;
      Map older(map.get_allocator());
      const auto count = static_cast<std::uint32_t>(map.slot_count());
      for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t word = door::version(map, i);
        if (dm::version::is_occupied(word))
          door::append_occupied(older, word, count, std::move(*map.get(map.key_at(i))));
        else
          door::append_vacant(older, aged(dm::version::is_reserved(word) ? dm::version::next_vacant(word) : word),
                              count);
      }
      door::finish(older, map.generation_floor());
      map = std::move(older);
    }
    truth.void_all_handles();
  }

  side<Map> a_;
  side<Map> b_;
  std::uint64_t number_ = 0;
  std::uint64_t operations_ = 0;
  int fuse_steps_ = -1;
};

}  // namespace fuzz
