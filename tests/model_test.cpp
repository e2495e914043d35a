// Random programs, run on the map and on a model of it: what a std::map and two sets say must hold after every step.
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "deferred_map/deferred_map.hpp"
#include "plain_arena.hpp"

namespace {

enum class verb : std::uint8_t {
  allocate,
  fill,
  release,
  insert,
  emplace,
  insert_with_key,
  remove,
  erase,
  erase_iterator,
  detach,
  retain,
  clear,
  drain,
  release_reserved,
  shrink,
  reserve,
  recover,
  attach_again,
  copy,
  move,
  swap,
  bad_handle,
};
constexpr int verbs = static_cast<int>(verb::bad_handle) + 1;

/// One instruction: what to do, to which of the candidates, how many times.
struct step {
  verb what;
  std::uint32_t which;
  std::uint32_t times;
};

void showValue(const step& s, std::ostream& out) {
  out << '{' << static_cast<int>(s.what) << ", " << s.which << ", " << s.times << '}';
}

template <class T>
T value_of(std::uint64_t number);
template <>
std::uint64_t value_of(std::uint64_t number) {
  return number * 0x9e3779b97f4a7c15u;
}
template <>
std::string value_of(std::uint64_t number) {
  return number % 2 == 0 ? std::to_string(number)
                         : "a text of some length, to be on the heap: " + std::to_string(number);
}

/// How many operations were done, so that a test can see that it was one.
std::uint64_t operations = 0;

/// A map and everything that must be true of it.
template <class Map>
struct side {
  explicit side(Map&& empty) : map(std::move(empty)) {}

  Map map;
  std::map<dm::key, std::uint64_t> live;  // the number of each value
  std::vector<dm::handle> handles;
  std::vector<dm::handle> void_handles;
  std::set<dm::key> dead;

  void kill(dm::key key) {
    live.erase(key);
    dead.insert(key);
  }
  void void_all_handles() {
    for (dm::handle& handle : handles) {
      dead.insert(handle.key());
      void_handles.push_back(std::move(handle));
    }
    handles.clear();
  }
  dm::handle take_handle(std::uint32_t which) {
    std::swap(handles[which % handles.size()], handles.back());
    dm::handle handle = std::move(handles.back());
    handles.pop_back();
    return handle;
  }
  dm::key live_key(std::uint32_t which) const {
    return std::next(live.begin(), static_cast<std::ptrdiff_t>(which % live.size()))->first;
  }
};

template <class Map>
class machine {
 public:
  using T = typename Map::mapped_type;
  static constexpr bool persistent = !std::is_copy_constructible_v<Map>;

  machine(Map&& a, Map&& b) : a_(std::move(a)), b_(std::move(b)) {}

  void run(const std::vector<step>& program) {
    for (const step& s : program) {
      for (std::uint32_t i = 0; i < s.times; ++i) {
        ++operations;
        if (!once(s.what, s.which + i * 7)) break;
      }
      check(a_);
      check(b_);
    }
  }

 private:
  void born(dm::key key, std::uint64_t number) {
    if (!key) RC_FAIL("a null key was handed out");
    if (a_.dead.contains(key)) RC_FAIL("a dead key was handed out again");
    if (!a_.live.emplace(key, number).second) RC_FAIL("a live key was handed out again");
  }

  /// Returns whether doing it again makes sense.
  bool once(verb what, std::uint32_t which) {
    auto& map = a_.map;
    switch (what) {
      case verb::allocate: {
        dm::handle handle = map.allocate_handle();
        if (a_.dead.contains(handle.key())) RC_FAIL("a handle has a dead key");
        if (a_.live.contains(handle.key())) RC_FAIL("a handle has a live key");
        a_.handles.push_back(std::move(handle));
        return true;
      }
      case verb::fill: {
        if (a_.handles.empty()) return false;
        dm::handle handle = a_.take_handle(which);
        const dm::key key = handle.key();
        ++number_;
        RC_ASSERT(map.insert(std::move(handle), value_of<T>(number_)) == value_of<T>(number_));
        born(key, number_);
        return true;
      }
      case verb::release:
        if (a_.handles.empty()) return false;
        a_.dead.insert(a_.handles[which % a_.handles.size()].key());
        map.release_handle(a_.take_handle(which));
        return true;
      case verb::insert:
        ++number_;
        born(map.insert(value_of<T>(number_)), number_);
        return true;
      case verb::emplace: {
        // An argument inside the map, which may grow under it.
        if (a_.live.empty()) return false;
        const dm::key model = a_.live_key(which);
        born(map.emplace(map.at(model)), a_.live.at(model));
        return true;
      }
      case verb::insert_with_key:
        ++number_;
        born(map.insert_with_key([&](dm::key) { return value_of<T>(number_); }), number_);
        return true;
      case verb::remove:
      case verb::erase:
      case verb::erase_iterator: {
        if (a_.live.empty()) return false;
        const dm::key key = a_.live_key(which);
        if (what == verb::remove)
          RC_ASSERT(*map.remove(key) == value_of<T>(a_.live.at(key)));
        else if (what == verb::erase)
          RC_ASSERT(map.erase(key));
        else
          map.erase(map.find(key));
        a_.kill(key);
        return true;
      }
      case verb::detach: {
        if (a_.live.empty()) return false;
        const dm::key key = a_.live_key(which);
        auto detached = map.detach(key);
        RC_ASSERT(detached->first == value_of<T>(a_.live.at(key)));
        RC_ASSERT(!map.contains(key));
        if (which % 2 == 0) {
          map.insert(std::move(detached->second), std::move(detached->first));
        } else {
          a_.live.erase(key);
          a_.handles.push_back(std::move(detached->second));
        }
        return true;
      }
      case verb::retain: {
        const std::uint32_t divisor = which % 7 + 1;
        const std::size_t before = a_.live.size();
        const std::size_t gone = map.retain([&](dm::key key, T& value) {
          if (value != value_of<T>(a_.live.at(key))) RC_FAIL("retain shows a wrong value");
          if (key.index() % divisor != 0) return true;
          a_.kill(key);
          return false;
        });
        RC_ASSERT(gone == before - a_.live.size());
        return false;
      }
      case verb::clear:
        map.clear();
        while (!a_.live.empty()) a_.kill(a_.live.begin()->first);
        return false;
      case verb::drain: {
        std::uint32_t left = which % 200;
        for (auto [key, value] : map.drain()) {
          if (value != value_of<T>(a_.live.at(key))) RC_FAIL("drain gives a wrong value");
          if (left-- == 0) break;
        }
        while (!a_.live.empty()) a_.kill(a_.live.begin()->first);
        return false;
      }
      case verb::release_reserved:
        RC_ASSERT(map.release_reserved() == a_.handles.size());
        a_.void_all_handles();
        return false;
      case verb::shrink:
        map.shrink_to_fit();
        if constexpr (!persistent) RC_ASSERT(map.capacity() == map.slot_count());
        return false;
      case verb::reserve:
        map.reserve(which % 300);
        RC_ASSERT(map.capacity() >= map.size() + map.reserved_count() + map.retired_count() + which % 300);
        return false;
      case verb::recover: {
        if constexpr (persistent) {
          const dm::recovery_counts counts = map.recover();
          RC_ASSERT(counts.reserved_given_back == a_.handles.size());
          RC_ASSERT(counts.impossible == 0u);
          a_.void_all_handles();
        }
        return false;
      }
      case verb::attach_again:
        if constexpr (persistent) {
          map = Map(map.get_allocator());
          if (map.reserved_count() != 0) map.recover();
          a_.void_all_handles();
        }
        return false;
      case verb::copy:
        if constexpr (!persistent) {
          b_.map = map;
          b_.void_all_handles();
          b_.live = a_.live;
          b_.dead = a_.dead;
          for (const dm::handle& handle : a_.handles) b_.dead.insert(handle.key());
        }
        return false;
      case verb::move:
        if constexpr (!persistent) {
          b_.void_all_handles();
          b_.map = std::move(map);
          b_.live = std::exchange(a_.live, {});
          b_.dead = std::exchange(a_.dead, {});
          b_.handles = std::exchange(a_.handles, {});
        }
        return false;
      case verb::swap:
        swap(map, b_.map);
        std::swap(a_.live, b_.live);
        std::swap(a_.dead, b_.dead);
        std::swap(a_.handles, b_.handles);
        return false;
      case verb::bad_handle:
        for (auto* handles : {&a_.void_handles, &b_.handles, &b_.void_handles})
          for (dm::handle& handle : *handles) {
            RC_ASSERT(!map.holds(handle));
            RC_ASSERT_THROWS_AS(map.release_handle(std::move(handle)), dm::bad_handle);
          }
        return false;
    }
    return false;
  }

  static void check(side<Map>& s) {
    const std::string fault = s.map.verify();
    RC_ASSERT(fault == "");
    RC_ASSERT(s.map.size() == s.live.size());
    RC_ASSERT(s.map.reserved_count() == s.handles.size());
    // RC_ASSERT describes itself even where it holds, which is too slow for loops.
    for (const auto& [key, number] : s.live) {
      const T* value = s.map.get(key);
      if (value == nullptr || *value != value_of<T>(number)) RC_FAIL("a live key does not find its value");
    }
    for (const dm::key key : s.dead)
      if (s.map.get(key) != nullptr) RC_FAIL("a dead key finds something");
    for (const dm::handle& handle : s.handles)
      if (!s.map.holds(handle) || s.map.contains(handle.key())) RC_FAIL("a handle does not name a reserved slot");
    std::size_t seen = 0;
    std::int64_t last = -1;
    for (const auto [key, value] : s.map) {
      if (!s.live.contains(key)) RC_FAIL("iteration meets a key that is not live");
      if (key.index() <= last) RC_FAIL("iteration is not in slot order");
      last = key.index();
      ++seen;
    }
    RC_ASSERT(seen == s.live.size());
  }

  side<Map> a_;
  side<Map> b_;
  std::uint64_t number_ = 0;
};

/// Programs of `length` steps, each repeated up to `times_max` times; what fills is likelier.
rc::Gen<std::vector<step>> programs(std::size_t length, std::uint32_t times_max) {
  const std::vector<verb> fills{verb::allocate, verb::fill,    verb::insert,         verb::insert,
                                verb::insert,   verb::emplace, verb::insert_with_key};
  const std::vector<verb> empties{verb::release,        verb::remove, verb::erase,
                                  verb::erase_iterator, verb::detach, verb::retain};
  const auto any = rc::gen::map(rc::gen::inRange(0, verbs), [](int number) { return static_cast<verb>(number); });
  const auto verb_gen =
      rc::gen::weightedOneOf<verb>({{5, rc::gen::elementOf(fills)}, {4, rc::gen::elementOf(empties)}, {1, any}});
  const auto one = rc::gen::map(
      rc::gen::tuple(verb_gen, rc::gen::inRange<std::uint32_t>(0, 1u << 30), rc::gen::inRange(1u, times_max + 1)),
      [](const std::tuple<verb, std::uint32_t, std::uint32_t>& t) {
        return step{std::get<0>(t), std::get<1>(t), std::get<2>(t)};
      });
  return rc::gen::resize(static_cast<int>(length), rc::gen::container<std::vector<step>>(one));
}

template <class T>
bool small_programs() {
  return rc::check("small maps behave as the model", [] {
    machine<dm::deferred_map<T>> machine({}, {});
    machine.run(*programs(400, 3));
  });
}

/// Begins with more slots than two levels of the bitmap hold.
const step many_inserts{verb::insert, 0, 64 * 64 + 100};

template <class T>
bool large_programs() {
  return rc::check("large maps behave as the model", [] {
    std::vector<step> program = *programs(15, 1000);
    if (*rc::gen::inRange(0, 4) == 0) program.insert(program.begin(), many_inserts);  // now and then, for its cost
    machine<dm::deferred_map<T>> machine({}, {});
    machine.run(program);
  });
}

}  // namespace

TEST_CASE("a small map of numbers does what its model does") {
  operations = 0;
  CHECK(small_programs<std::uint64_t>());
  CHECK(operations > 10'000);
}

TEST_CASE("a small map of strings does what its model does") {
  operations = 0;
  CHECK(small_programs<std::string>());
  CHECK(operations > 10'000);
}

TEST_CASE("a map of thousands of numbers does what its model does") {
  operations = 0;
  CHECK(large_programs<std::uint64_t>());
  CHECK(operations > 100'000);
}

TEST_CASE("a map of thousands of strings does what its model does") {
  operations = 0;
  CHECK(large_programs<std::string>());
  CHECK(operations > 100'000);
}

TEST_CASE("a map in persistent memory does what its model does") {
  CHECK(rc::check("persistent maps behave as the model", [] {
    using map = test::plain_map<std::uint64_t>;
    const bool large = *rc::gen::inRange(0, 8) == 0;
    std::vector<step> program = *programs(large ? 15 : 200, large ? 1000 : 3);
    if (large) program.insert(program.begin(), many_inserts);
    test::plain_arena<std::uint64_t> first(300'000);
    test::plain_arena<std::uint64_t> second(300'000);
    machine<map> machine(map({&first}), map({&second}));
    machine.run(program);
  }));
}
