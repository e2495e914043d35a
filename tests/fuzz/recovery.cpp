// Fuzz target: persistent memory in which versions, index, buffer and counts may say anything that `check_control` lets
// through. A map attaches to it, with recovery or, where the counts add up, without, as to a file that says it was
// closed; then the rest of the input is operations on it.
//
// What must hold: nothing outside of the slots and index words that there is room for is touched (they are allocated to
// their exact size, and what lies behind the capacity is poisoned: in a file there may be no blocks); a value whose
// version is sound survives, with its key, until it is removed; a key that died stays dead; nothing goes on for ever. After
// recovery with mending, and after one that found nothing impossible, verify() finds nothing, then and in the end.
//
// An input is: slots_max, how it is made, changes to it until one is 0, then operations.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deferred_map/deferred_map.hpp"
#include "fuzz_input.hpp"
#include "guarded_arena.hpp"

namespace {

namespace version = dm::version;
using fuzz::guarded_arena;
using slot = dm::slot<std::uint64_t>;
using map_type = dm::deferred_map<std::uint64_t, dm::key, fuzz::guarded_allocator>;

std::uint64_t near(fuzz::input& program, std::uint64_t old) {
  const std::uint8_t how = program.byte();
  const std::uint8_t small = program.byte();
  switch (how % 7) {
    case 0:
      return small;
    case 1:
      return old + small;
    case 2:
      return old - small;
    case 3:
      return ~std::uint64_t{0} - small;
    case 4:
      return std::uint64_t{1} << small % 64;
    case 5:
      return (std::uint64_t{1} << 32) - 4 + small % 8;  // as a version: the edge of the generations
    default:
      return program.number64();
  }
}

/// Puts an arena in a state of the input's choosing.
void make(guarded_arena& arena, fuzz::input& program) {
  auto& c = arena.control;
  {  // An honest beginning.
    map_type map({&arena});
    const std::uint32_t count = std::min(program.byte() * (arena.slots_max() > 255 ? 20u : 1u), arena.slots_max());
    const std::uint32_t every = program.byte() % 8 + 1u;
    arena.expand(count);
    c.slot_count = count;
    for (std::uint32_t i = 0; i < count; ++i) {
      arena.version_of(i) = every != 1 && i % every == 0 ? version::vacant(2) : version::occupied(1);
      arena.slots()[i].value = i;
    }
    map.recover();
    if (every % 2 == 0)  // through the buffer
      for (std::uint32_t i = 1; i < std::min(count, 300u); i += every) map.erase(map.key_at(i));
  }
  std::uint32_t* const counts[] = {&c.slot_count, &c.occupied,         &c.reserved,   &c.vacant,
                                   &c.retired,    &c.generation_floor, &c.recovering, &c.buffer_count};
  for (int changes = 0; changes < 64 && !program.at_end(); ++changes) {
    switch (program.byte() % 9) {
      case 0:
        return;
      case 1: {
        std::uint32_t& count = *counts[program.byte() % std::size(counts)];
        count = static_cast<std::uint32_t>(near(program, count));
        break;
      }
      case 2: {
        const std::uint32_t capacity = static_cast<std::uint32_t>(near(program, c.capacity));
        arena.set_capacity(std::min(capacity, arena.slots_max()));
        break;
      }
      case 3: {
        const std::uint32_t index = program.number16();
        if (index >= c.capacity) break;
        arena.version_of(index) = static_cast<std::uint32_t>(near(program, arena.version_of(index)));
        break;
      }
      case 4: {
        const std::uint32_t from = program.byte();
        const std::uint32_t until = std::min<std::uint32_t>(from + program.byte(), c.capacity);
        const auto word = static_cast<std::uint32_t>(near(program, 4));
        for (std::uint32_t index = from; index < until; ++index) arena.version_of(index) = word;
        break;
      }
      case 5: {  // a word of any level
        const dm::index_shape& shape = arena.shape();
        const unsigned level = program.byte() % shape.levels;
        std::uint64_t used = c.capacity;
        for (unsigned l = 0; l <= level; ++l) used = (used + 63) / 64;
        const std::uint32_t at = program.byte();
        if (at >= used) break;
        std::uint64_t& word = arena.words()[shape.offset[level] + at];
        word = near(program, word);
        break;
      }
      case 6: {
        std::uint32_t& entry = c.buffer[program.byte() % std::size(c.buffer)];
        entry = static_cast<std::uint32_t>(near(program, entry));
        break;
      }
      case 7:  // a buffer full of one slot
        std::fill(std::begin(c.buffer), std::end(c.buffer), std::uint32_t{program.byte()});
        c.buffer_count = 128;
        break;
      default:
        c.occupied = c.slot_count - c.reserved - c.vacant - c.retired;
        break;
    }
  }
}

bool counts_add_up(const guarded_arena& arena) {
  const auto& c = arena.control;
  return std::uint64_t{c.occupied} + c.reserved + c.vacant + c.retired == c.slot_count && c.recovering == 0 &&
         c.reserved == 0;
}

struct life {
  bool lives = false;
  dm::key key;
  std::uint64_t value = 0;
};

class machine {
 public:
  /// `sound`: nothing in the arena lies, so everything that holds of a map must hold.
  machine(guarded_arena& arena, map_type& map, bool sound)
      : arena_(arena), map_(map), sound_(sound), truth_(arena.slots_max()) {
    look();
  }

  void run(fuzz::input& program) {
    for (int operations = 0; operations < 60 && !program.at_end(); ++operations) {
      try {
        step(program);
      } catch (const std::bad_alloc&) {  // the arena is full; nothing has happened
      }
      check();
    }
    check_all();
  }

 private:
  /// What is there now is what must stay.
  void look() {
    for (std::uint32_t index = 0; index < map_.slot_count(); ++index)
      if (map_.state(index) == dm::slot_state::occupied) {
        const dm::key key = map_.key_at(index);
        const std::uint64_t* const value = map_.get(key);
        FUZZ_CHECK(value != nullptr);
        truth_[index] = {true, key, *value};
        ++live_;
      }
    if (sound_) FUZZ_CHECK_SOUND(map_);
  }

  bool has(dm::key key) const {
    return key.index() < truth_.size() && truth_[key.index()].lives && truth_[key.index()].key == key;
  }
  void leaves(dm::key key) {
    FUZZ_CHECK(has(key));
    truth_[key.index()].lives = false;
    --live_;
  }
  void dies(dm::key key) {
    if (dead_.size() < 32) dead_.push_back(key);
    leaves(key);
  }
  void lives(dm::key key, std::uint64_t value) {
    // The slot was nobody's, whatever the index said.
    FUZZ_CHECK(key.index() < truth_.size() && !truth_[key.index()].lives);
    FUZZ_CHECK(std::find(dead_.begin(), dead_.end(), key) == dead_.end());
    truth_[key.index()] = {true, key, value};
    ++live_;
    FUZZ_CHECK(map_.get(key) != nullptr && *map_.get(key) == value);
  }
  void insert() {
    const std::uint64_t value = ++number_;
    lives(map_.insert(value), value);
  }
  dm::key some_key(std::uint32_t which) const {
    if (live_ == 0) return {};
    std::size_t index = which % truth_.size();
    while (!truth_[index].lives) index = index + 1 == truth_.size() ? 0 : index + 1;
    return truth_[index].key;
  }
  /// What a walk meets: values that are there, each once, and where nothing lies all of them.
  void walk() const {
    std::size_t met = 0;
    std::int64_t last = -1;
    for (const auto [key, value] : std::as_const(map_)) {
      FUZZ_CHECK(std::int64_t{key.index()} > last);
      last = key.index();
      FUZZ_CHECK(has(key) && truth_[key.index()].value == value);
      ++met;
    }
    FUZZ_CHECK(!sound_ || met == live_);
  }
  /// Values that a lying index hides from walks are still there; the others went.
  template <class Gone>
  void walked_away(Gone gone) {
    for (const life& each : truth_) {
      if (!each.lives) continue;
      const bool should = gone(each.key);
      const bool is_there = map_.contains(each.key);
      FUZZ_CHECK(is_there ? !should || !sound_ : should);
      if (!is_there) dies(each.key);
    }
  }

  void step(fuzz::input& program) {
    const std::uint8_t what = program.byte();
    const std::uint32_t which = program.byte();
    switch (what % 20) {
      case 0:
      case 1:
        insert();
        return;
      case 2:  // enough to fill the buffer, and past it
        for (std::uint32_t i = 0; i < (which < 240 ? which % 16 : which); ++i) insert();
        return;
      case 3:
      case 4:
        if (const dm::key key = some_key(which); map_.erase(key)) dies(key);
        return;
      case 5:
        for (std::uint32_t i = 0; i < (which < 240 ? which % 16 : which); ++i)
          if (const dm::key key = some_key(i * 7); map_.erase(key)) dies(key);
        return;
      case 6: {
        const dm::key key = some_key(which);
        const std::optional<std::uint64_t> taken = map_.remove(key);
        FUZZ_CHECK(taken.has_value() == has(key) && (!taken || *taken == truth_[key.index()].value));
        if (taken) dies(key);
        return;
      }
      case 7:
        if (handles_.size() < 200) handles_.push_back(map_.allocate_handle());
        FUZZ_CHECK(!map_.contains(handles_.back().key()));
        return;
      case 8:
        if (handles_.empty()) return;
        if (const dm::key key = handles_.back().key(); map_.holds(handles_.back())) {
          map_.insert(std::move(handles_.back()), ++number_);
          lives(key, number_);
        }
        handles_.pop_back();
        return;
      case 9:
        if (handles_.empty()) return;
        if (map_.holds(handles_.back())) {
          if (dead_.size() < 32) dead_.push_back(handles_.back().key());
          map_.release_handle(std::move(handles_.back()));
        }
        handles_.pop_back();
        return;
      case 10:
        if (auto detached = map_.detach(some_key(which))) {
          leaves(detached->second.key());
          if (handles_.size() < 200) handles_.push_back(std::move(detached->second));
        }
        return;
      case 11:
        walk();
        return;
      case 12: {
        const auto goes = [&](dm::key key) { return key.index() % (which % 5 + 1) == 0; };
        map_.retain([&](dm::key key, std::uint64_t&) { return !goes(key); });
        walked_away(goes);
        return;
      }
      case 13:
        if (which % 4 == 0) map_.clear(), walked_away([](dm::key) { return true; });
        return;
      case 14:
        if (which % 4 == 0) {
          for (const auto& [key, value] : map_.drain()) FUZZ_CHECK(has(key) && truth_[key.index()].value == value);
          walked_away([](dm::key) { return true; });
        }
        return;
      case 15:
        map_.shrink_to_fit();
        if (sound_) FUZZ_CHECK_SOUND(map_);
        return;
      case 16:
        map_.reserve(which);
        return;
      case 17: {
        const std::size_t released = map_.release_reserved();
        // Where the count lies, some may be left.
        if (sound_) FUZZ_CHECK(map_.reserved_count() == 0 && released <= arena_.slots_max());
        return;
      }
      case 18: {
        auto it = map_.find(some_key(which));
        for (int i = 0; i < 5 && it != map_.end(); ++i) {
          const dm::key key = it->key;
          it = map_.erase(it);
          FUZZ_CHECK(!map_.contains(key));
          dies(key);
        }
        return;
      }
      default: {
        std::array<dm::key, 16> keys;
        std::array<std::uint64_t*, 16> out{};
        for (std::size_t i = 0; i < keys.size(); ++i)
          keys[i] =
              i % 2 == 0 ? some_key(which + static_cast<std::uint32_t>(i)) : std::bit_cast<dm::key>(program.number64());
        map_.get_many(keys, std::span<std::uint64_t*>(out));
        for (std::size_t i = 0; i < keys.size(); ++i) FUZZ_CHECK(out[i] == map_.get(keys[i]));
        return;
      }
    }
  }

  void check() const {
    for (const dm::key key : dead_) FUZZ_CHECK(!map_.contains(key));
    if (sound_) FUZZ_CHECK(map_.size() == live_);
  }
  void check_all() {
    if (sound_) FUZZ_CHECK_SOUND(map_);
    for (const life& each : truth_) {
      if (!each.lives) continue;
      const std::uint64_t* const value = map_.get(each.key);
      FUZZ_CHECK(value != nullptr && *value == each.value);
    }
    walk();
    std::size_t occupied = 0;
    for (std::uint32_t i = 0; i < map_.slot_count(); ++i) occupied += map_.state(i) == dm::slot_state::occupied;
    FUZZ_CHECK(occupied == live_);
  }

  guarded_arena& arena_;
  map_type& map_;
  bool sound_;
  std::vector<life> truth_;  // by slot; the null key where nothing lives
  std::size_t live_ = 0;
  std::vector<dm::key> dead_;
  std::vector<dm::handle> handles_;
  std::uint64_t number_ = std::uint64_t{1} << 40;
};

/// What recovery must keep: the values whose versions are sound.
struct sound_value {
  std::uint32_t index;
  std::uint32_t version;
  std::uint64_t value;
};
std::vector<sound_value> sound_values(const guarded_arena& arena) {
  std::vector<sound_value> values;
  values.reserve(arena.control.slot_count);
  for (std::uint32_t i = 0; i < arena.control.slot_count; ++i) {
    const slot& each = arena.slots()[i];
    if (version::is_occupied(each.version) && version::is_possible(each.version))
      values.push_back({i, each.version, each.value});
  }
  return values;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input program(std::span(data, size));
  const std::uint8_t how = program.byte();
  // Two levels of index or three, and now and then more than one word in the second.
  const std::uint32_t slots_max = how >= 0xf8 ? 4200 : std::max<std::uint32_t>(program.byte(), 1);
  guarded_arena arena(slots_max, how % 4 == 0 ? std::max(slots_max, 5000u) : slots_max);
  make(arena, program);
  auto& c = arena.control;
  // What arena::open refuses does not get here.
  if (c.slot_count > c.capacity || c.buffer_count > std::size(c.buffer) ||
      c.generation_floor > version::last_generation)
    return 0;

  const auto before = sound_values(arena);
  map_type map({&arena});
  bool sound = false;
  if (how / 16 % 3 == 0 && counts_add_up(arena)) {
    // verify() does not look at summaries of words behind the last slot; more than 64 words have those.
    sound = slots_max <= 255 && map.verify().empty();
  } else {
    const bool mend = how / 16 % 3 == 1;
    const dm::recovery_counts found = map.recover(mend);
    FUZZ_CHECK(found.slots_examined == map.slot_count() && found.occupied == before.size());
    if (found.impossible != 0 && !mend) return 0;  // refused, and opening ends here
    sound = true;
    FUZZ_CHECK_SOUND(map);
    FUZZ_CHECK(map.size() == before.size() && map.reserved_count() == 0);
  }
  for (const sound_value& each : before) {
    FUZZ_CHECK(arena.version_of(each.index) == each.version && arena.slots()[each.index].value == each.value);
    FUZZ_CHECK(map.contains(map.key_at(each.index)));
  }
  machine(arena, map, sound).run(program);
  return 0;
}
