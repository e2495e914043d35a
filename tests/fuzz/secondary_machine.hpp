// A machine that runs an input as operations on a secondary map, and on a std::map of what must be in it.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "deferred_map/key.hpp"
#include "fuzz_input.hpp"
#include "map_machine.hpp"

namespace fuzz {

template <class Map>
class secondary_machine {
 public:
  using T = typename Map::mapped_type;
  using values = value_of<T>;
  static constexpr std::uint64_t operations_max = 3'000;
  static constexpr std::uint32_t times_max = 40;

  void run(input& program) {
    std::uint64_t instructions = 0;
    while (!program.at_end() && operations_ < operations_max) {
      const std::uint8_t verb = program.byte();
      const std::uint32_t which = program.number16();
      const std::uint32_t times = verb < 128 ? 1 : program.byte() % times_max + 1u;
      for (std::uint32_t i = 0; i < times && operations_ < operations_max; ++i) {
        ++operations_;
        once(static_cast<enum verb>(verb % 128 % verb_count), which + i * 3, program);
      }
      if (++instructions % 8 == 0) check();
    }
    check();
  }

 private:
  enum verb : std::uint8_t {
    insert,
    insert_again,
    try_emplace,
    subscript,
    remove,
    erase,
    erase_iterator,
    erase_in_walk,
    retain,
    erase_if,
    clear,
    make_room,
    shrink,
    look_up_many,
    look_up_disjoint,
    from_nowhere,
    copy,
    move,
    swap_maps,
    assign_to_itself,
    verb_count
  };
  struct life {
    std::uint32_t generation;
    std::uint64_t number;
  };
  using truth = std::map<std::uint32_t, life>;

  /// Few slots, at the ends of words and levels too; few generations, the last ones too.
  static dm::key key_from(std::uint32_t which) {
    static constexpr std::array<std::uint32_t, 8> apart{0, 60, 120, 250, 500, 1020, 4090, 4096};
    const std::uint32_t index = apart[which / 8 % apart.size()] + which % 8;
    const std::uint32_t generation = which / 64 % 8;
    return dm::key::from_parts(index, generation < 6 ? generation + 1 : dm::version::last_generation - generation + 6);
  }
  bool has(dm::key key) const {
    const auto it = truth_.find(key.index());
    return it != truth_.end() && it->second.generation == key.generation();
  }
  /// Whether `insert` does something: no newer generation is in the slot.
  bool takes(dm::key key) const {
    const auto it = truth_.find(key.index());
    return key && (it == truth_.end() || it->second.generation <= key.generation());
  }
  dm::key key_of(typename truth::const_iterator it) const {
    return dm::key::from_parts(it->first, it->second.generation);
  }
  dm::key present(std::uint32_t which) const {
    const auto it = truth_.lower_bound(key_from(which).index());
    return key_of(it == truth_.end() ? truth_.begin() : it);
  }
  void look_at(dm::key key) const {
    const T* value = map_.get(key);
    FUZZ_CHECK((value != nullptr) == has(key) && map_.contains(key) == has(key));
    FUZZ_CHECK((map_.find(key) != map_.end()) == has(key));
    if (value != nullptr) FUZZ_CHECK(values::is(*value, truth_.at(key.index()).number) && &map_.at(key) == value);
  }

  void once(verb what, std::uint32_t which, input& program) {
    const dm::key key = key_from(which);
    switch (what) {
      case insert:
      case insert_again: {
        if (what == insert_again && truth_.empty()) return;
        const dm::key target = what == insert ? key : present(which);
        const std::uint64_t number = ++number_;
        const bool had = has(target);
        const std::uint64_t before = had ? truth_.at(target.index()).number : 0;
        const std::optional<T> old = map_.insert(target, values::make(number));
        FUZZ_CHECK(old.has_value() == had && (!had || values::is(*old, before)));
        if (takes(target)) truth_[target.index()] = {target.generation(), number};
        return look_at(target);
      }
      case try_emplace: {
        const std::uint64_t number = ++number_;
        const auto [value, built] = map_.try_emplace(key, values::make(number));
        FUZZ_CHECK(built == (takes(key) && !has(key)) && (value != nullptr) == takes(key));
        if (built) truth_[key.index()] = {key.generation(), number};
        FUZZ_CHECK(value == map_.get(key));
        return look_at(key);
      }
      case subscript: {
        const bool taken = takes(key);
        const std::uint64_t number = ++number_;
        try {
          map_[key] = values::make(number);
          FUZZ_CHECK(taken);
          truth_[key.index()] = {key.generation(), number};
        } catch (const dm::stale_key&) {
          FUZZ_CHECK(!taken);
        }
        return look_at(key);
      }
      case remove: {
        const std::optional<T> taken = map_.remove(key);
        FUZZ_CHECK(taken.has_value() == has(key));
        if (taken) FUZZ_CHECK(values::is(*taken, truth_.at(key.index()).number));
        if (taken) truth_.erase(key.index());
        return look_at(key);
      }
      case erase:
        FUZZ_CHECK(map_.erase(key) == has(key));
        if (has(key)) truth_.erase(key.index());
        return look_at(key);
      case erase_iterator: {
        if (truth_.empty()) return;
        const dm::key target = present(which);
        map_.erase(map_.find(target));
        truth_.erase(target.index());
        return look_at(target);
      }
      case erase_in_walk: {
        std::size_t met = 0;
        const std::size_t expected = truth_.size();
        for (auto it = map_.begin(); it != map_.end(); ++met) {
          const dm::key here = it->key;
          FUZZ_CHECK(has(here));
          if ((here.index() + which) % 3 == 0) {
            it = map_.erase(it);
            truth_.erase(here.index());
          } else {
            ++it;
          }
        }
        FUZZ_CHECK(met == expected);
        return;
      }
      case retain:
      case erase_if: {
        const auto goes = [&](dm::key k, T& value) {
          FUZZ_CHECK(has(k) && values::is(value, truth_.at(k.index()).number));
          return k.index() % (which % 5 + 1) == 0;
        };
        const std::size_t gone = what == erase_if ? dm::erase_if(map_, goes)
                                                  : map_.retain([&](dm::key k, T& value) { return !goes(k, value); });
        FUZZ_CHECK(gone == std::erase_if(truth_, [&](const auto& e) { return e.first % (which % 5 + 1) == 0; }));
        return;
      }
      case clear:
        map_.clear();
        truth_.clear();
        return;
      case make_room:
        map_.reserve(which % 5000);
        FUZZ_CHECK(map_.capacity() >= which % 5000);
        return;
      case shrink:
        map_.shrink_to_fit();
        return;
      case look_up_many: {
        std::array<dm::key, 40> keys;
        const std::size_t count = which % (keys.size() + 1);
        std::size_t live = 0;
        for (std::size_t i = 0; i < count; ++i) {
          const std::uint32_t asked = program.number16();
          keys[i] = asked % 2 == 0 && !truth_.empty() ? present(asked) : key_from(asked);
          live += has(keys[i]);
        }
        std::array<T*, 40> out{};
        FUZZ_CHECK(map_.get_many(std::span<const dm::key>(keys.data(), count), std::span<T*>(out)) == live);
        for (std::size_t i = 0; i < count; ++i) FUZZ_CHECK(out[i] == map_.get(keys[i]));
        return;
      }
      case look_up_disjoint: {
        const std::array<dm::key, 2> keys{key, key_from(which / 7)};
        const auto found = map_.get_disjoint(keys);
        FUZZ_CHECK(found.has_value() == (has(keys[0]) && has(keys[1]) && keys[0] != keys[1]));
        return;
      }
      case from_nowhere: {
        const std::uint64_t bits = program.number64();
        const auto raw = std::bit_cast<dm::key>((bits & ~std::uint64_t{0xffff'ffffu}) | key.index());
        look_at(raw);
        if (has(raw)) return;
        FUZZ_CHECK(!map_.erase(raw) && !map_.remove(raw));
        const dm::key bad = std::bit_cast<dm::key>(bits & (std::uint64_t{3} << 32 | 0xffff'ffffu));  // generation 0
        FUZZ_CHECK(!map_.insert(bad, values::make(0)) && map_.try_emplace(bad).first == nullptr);
        return;
      }
      case copy:
        other_ = map_;
        other_truth_ = truth_;
        FUZZ_CHECK(other_ == map_);
        return;
      case move:
        other_ = std::move(map_);
        other_truth_ = std::exchange(truth_, {});
        FUZZ_CHECK(map_.empty());
        return;
      case swap_maps:
        swap(map_, other_);
        std::swap(truth_, other_truth_);
        return;
      case assign_to_itself: {
        Map& same = map_;
        if (which % 2 == 0)
          map_ = std::as_const(same);
        else
          map_ = std::move(same);
        return;
      }
      case verb_count:
        return;
    }
  }

  void check() const {
    for (const auto& [map, expected] : {std::pair{&map_, &truth_}, std::pair{&other_, &other_truth_}}) {
      const std::string fault = map->verify();
      if (!fault.empty()) stop(fault.c_str(), "verify()", 0);
      FUZZ_CHECK(map->size() == expected->size() && map->empty() == expected->empty());
      for (const auto& [index, life] : *expected) {
        const T* value = map->get(dm::key::from_parts(index, life.generation));
        FUZZ_CHECK(value != nullptr && values::is(*value, life.number));
        FUZZ_CHECK(!map->contains(dm::key::from_parts(index, life.generation - 1)));
      }
      std::size_t met = 0;
      for (const auto [key, value] : *map) {
        const auto it = expected->find(key.index());
        FUZZ_CHECK(it != expected->end() && it->second.generation == key.generation());
        FUZZ_CHECK(&value == map->get(key));
        ++met;
      }
      FUZZ_CHECK(met == expected->size());
    }
  }

  Map map_;
  Map other_;
  truth truth_;
  truth other_truth_;
  std::uint64_t number_ = 0;
  std::uint64_t operations_ = 0;
};

}  // namespace fuzz
