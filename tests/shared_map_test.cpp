// shared_map as its users see it: one process, several processes, and what is refused.
#include "deferred_map/shared_map.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <boost/describe.hpp>
#include <csignal>
#include <functional>
#include <map>
#include <set>
#include <thread>

#include "catch.hpp"
#include "deferred_map/mapped_map.hpp"
#include "deferred_map/reservation.hpp"
#include "files.hpp"
#include "processes.hpp"
#include "self_checking.hpp"
#include "temporary_directory.hpp"

namespace {

struct node {
  dm::key next;
  std::uint64_t number;
};
BOOST_DESCRIBE_STRUCT(node, (), (next, number))

using map = dm::shared_map<node>;
using checked_map = dm::shared_map<self_checking>;

struct no_default {
  explicit no_default(int n) : number(n) {}
  int number;
};

template <class M>
std::size_t slots_in(const M& m, dm::slot_state state) {
  std::size_t count = 0;
  for (std::uint32_t i = 0; i < m.slot_count(); ++i) count += m.state(i) == state;
  return count;
}

/// Inserts until there is no room, and takes all of it out again.
template <class M>
std::size_t room_in(M& m) {
  std::vector<typename M::key_type> keys;
  try {
    for (;;) keys.push_back(m.insert(typename M::mapped_type{}));
  } catch (const dm::error& e) {
    REQUIRE(e.code() == dm::errc::full);
  }
  for (const auto k : keys) REQUIRE(m.erase(k));
  return keys.size();
}

}  // namespace

TEST_CASE("a shared map reserves, fills, reads, changes and removes") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 1000});
  auto a = m.allocate_handle();
  auto b = m.allocate_handle();
  const dm::key a_key = a.key(), b_key = b.key();
  CHECK(a_key != b_key);
  CHECK_FALSE(m.contains(a_key));
  CHECK_FALSE(m.get(a_key));
  CHECK(m.insert(std::move(a), {b_key, 1}) == a_key);
  CHECK(m.emplace(std::move(b), a_key, 2u) == b_key);
  CHECK(m.at(m.at(a_key).next).number == 2);
  CHECK(m.size() == 2);
  CHECK(m.update(a_key, [](node& n) { n.number = 11; }));
  CHECK(m.get(a_key)->number == 11);
  CHECK(m.try_update(a_key, [](node& n) { ++n.number; }) == dm::try_result::done);
  node into{};
  CHECK(m.read(a_key, into));
  CHECK(into.number == 12);
  CHECK(m.remove(a_key)->number == 12);
  CHECK_FALSE(m.remove(a_key));
  CHECK_FALSE(m.erase(a_key));
  CHECK_FALSE(m.update(a_key, [](node&) { FAIL("called for a stale key"); }));
  CHECK(m.try_update(a_key, [](node&) {}) == dm::try_result::stale);
  CHECK_FALSE(m.read(a_key, into));
  CHECK_THROWS_AS(m.at(a_key), dm::stale_key);
  CHECK_FALSE(m.contains(dm::key()));
  CHECK_FALSE(m.get(dm::key::from_parts(4'000'000'000u, 1)));
  CHECK(m.erase(b_key));
  CHECK(m.empty());
}

TEST_CASE("a slot comes back in its next generation, and the old key never again") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 1});
  std::set<std::uint64_t> seen;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const dm::key k = m.insert({{}, i});
    CHECK(seen.insert(k.bits()).second);
    CHECK(k.index() == 0);
    CHECK(m.erase(k));
    auto h = m.allocate_handle();
    CHECK(seen.insert(h.key().bits()).second);
    m.release_handle(std::move(h));
  }
  for (const std::uint64_t bits : seen) CHECK_FALSE(m.contains(dm::key::from_bits(bits)));
}

TEST_CASE("a map is full exactly when every slot has a value or a handle, if it is small") {
  temporary_directory directory;
  for (const std::uint64_t slots_max : {1u, 3u, 64u, 65u, 200u}) {
    const auto path = directory / std::to_string(slots_max);
    map m = map::create(path, {.max_slots = slots_max});
    CHECK(room_in(m) == slots_max);
    auto h = m.allocate_handle();
    CHECK(room_in(m) == slots_max - 1);
    m.release_handle(std::move(h));
    // Slots that another thread has had are everybody's again.
    std::thread([&] { CHECK(room_in(m) == slots_max); }).join();
    CHECK(room_in(m) == slots_max);
    m.close();
    CHECK(map::open(path, {.verify = true}).empty());
  }
}

TEST_CASE("a larger map is full but for what threads keep ready, and nothing of that is lost when they end") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 5000});
  CHECK(room_in(m) == 5000);
  std::thread([&] { CHECK(room_in(m) >= 5000 - 5000 / 256); }).join();
  std::thread([&] { CHECK(room_in(m) >= 5000 - 5000 / 256); }).join();
  // Now this thread alone has some.
  CHECK(slots_in(m, dm::slot_state::reserved) <= 5000 / 256);
  CHECK(room_in(m) == 5000);
}

TEST_CASE("handles are checked: another map's, spent ones, and moved from") {
  temporary_directory directory;
  map m = map::create(directory / "m");
  map other = map::create(directory / "other");
  auto h = m.allocate_handle();
  CHECK_THROWS_AS(other.insert(std::move(h), node{}), dm::bad_handle);
  CHECK(h);  // it was not spent
  auto moved = std::move(h);
  CHECK_THROWS_AS(m.insert(std::move(h), node{}), dm::bad_handle);
  m.insert(std::move(moved), {{}, 3});
  CHECK_THROWS_AS(m.release_handle(std::move(moved)), dm::bad_handle);
  // Of the same file, but another opening of it: the slot names its owner.
  map again = map::open(directory / "m");
  auto mine = m.allocate_handle();
  CHECK_THROWS_AS(again.insert(std::move(mine), node{}), dm::bad_handle);
  CHECK(m.holds(mine));
  CHECK_FALSE(again.holds(mine));
  m.release_handle(std::move(mine));
  CHECK_FALSE(m.holds(dm::handle()));
}

TEST_CASE("a reservation gives its slot back, insert_with_key knows its key, and what throws leaves nothing") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 100});
  { dm::reservation place(m); }
  CHECK(room_in(m) == 100);
  const dm::key self = m.insert_with_key([](dm::key k) { return node{k, 1}; });
  CHECK(m.get(self)->next == self);
  dm::key told;
  CHECK_THROWS_AS(m.insert_with_key([&](dm::key k) -> node {
    told = k;
    throw std::runtime_error("no value");
  }),
                  std::runtime_error);
  CHECK_FALSE(m.contains(told));
  CHECK_THROWS_AS(m.update(self,
                           [](node& n) {
                             n.number = 77;
                             throw std::runtime_error("changed its mind");
                           }),
                  std::runtime_error);
  CHECK(m.get(self)->number == 1);
  CHECK(room_in(m) == 99);
}

TEST_CASE("values need no default constructor, and may be larger than a stack should bear") {
  temporary_directory directory;
  auto m = dm::shared_map<no_default>::create(directory / "m");
  const dm::key k = m.emplace(7);
  CHECK(m.get(k)->number == 7);
  CHECK(m.update(k, [](no_default& v) { v.number = 8; }));
  CHECK(m.remove(k)->number == 8);

  using large = std::array<std::uint32_t, 5000>;
  auto l = dm::shared_map<large>::create(directory / "l", {.max_slots = 8});
  large value;
  for (std::uint32_t i = 0; i < value.size(); ++i) value[i] = i;
  const dm::key lk = l.insert(value);
  CHECK(l.update(lk, [](large& v) { v[4999] = 1; }));
  l.for_each([&](dm::key found, const large& v) {
    CHECK(found == lk);
    CHECK(v[4998] == 4998);
    CHECK(v[4999] == 1);
  });
  CHECK(l.remove(lk)->at(17) == 17);
}

TEST_CASE("values and keys stay where they are when the last closes and the next opens") {
  temporary_directory directory;
  std::map<std::uint64_t, std::uint64_t> expected;
  {
    map m = map::create(directory / "m", {.max_slots = 10'000});
    for (std::uint64_t i = 0; i < 3000; ++i) expected[m.insert({{}, i}).bits()] = i;
    for (auto it = expected.begin(); it != expected.end();) {
      if (it->second % 3 == 0) {
        CHECK(m.erase(dm::key::from_bits(it->first)));
        it = expected.erase(it);
      } else {
        ++it;
      }
    }
    [[maybe_unused]] const auto forgotten = m.allocate_handle();  // its slot goes back when the map closes
    m.close();
    CHECK_FALSE(m.is_open());
  }
  map m = map::open(directory / "m", {.verify = true});
  CHECK(m.recovery().outcome == dm::recovery_outcome::clean);
  CHECK(m.size() == expected.size());
  std::map<std::uint64_t, std::uint64_t> found;
  m.for_each([&](dm::key k, const node& n) { CHECK(found.emplace(k.bits(), n.number).second); });
  CHECK(found == expected);
  CHECK(slots_in(m, dm::slot_state::reserved) == 0);
}

TEST_CASE("what is not open, or open to look only, says so when it is to be changed") {
  temporary_directory directory;
  map closed;
  CHECK(code_of([&] { closed.insert({}); }) == dm::errc::bad_options);
  CHECK(code_of([&] { closed.reap(); }) == dm::errc::bad_options);
  CHECK_FALSE(closed.get(dm::key::from_parts(0, 1)));
  CHECK(closed.empty());
  CHECK(closed.owners().empty());
  closed.close();
  map m = map::create(directory / "m");
  const dm::key k = m.insert({{}, 5});
  map reader = map::open_read_only(directory / "m");
  CHECK(reader.is_read_only());
  CHECK(reader.get(k)->number == 5);
  m.update(k, [](node& n) { n.number = 6; });
  CHECK(reader.get(k)->number == 6);
  CHECK(reader.owners().size() == 1);
  CHECK(reader.size() == 1);
  for (const auto& call : std::vector<std::function<void()>>{
           [&] { reader.insert({}); }, [&] { (void)reader.allocate_handle(); }, [&] { reader.erase(k); },
           [&] { reader.remove(k); }, [&] { reader.update(k, [](node&) {}); },
           [&] { reader.try_update(k, [](node&) {}); }, [&] { reader.reap(); }, [&] { reader.flush(); }})
    CHECK(code_of(call) == dm::errc::read_only);
  map moved = std::move(m);
  CHECK_FALSE(m.is_open());
  CHECK(moved.contains(k));
  std::error_code code;
  map none = map::open(directory / "nothing", code);
  CHECK(code == dm::errc::not_found);
  CHECK_FALSE(none.is_open());
  CHECK(code_of([&] { map::create(directory / "m"); }) == dm::errc::exists);
  CHECK(code_of([&] { dm::mapped_map<node>::open(directory / "m"); }) == dm::errc::wrong_kind);
  CHECK(code_of([&] { dm::shared_map<std::uint64_t>::open(directory / "m"); }) == dm::errc::type_mismatch);
}

TEST_CASE("processes see each other's values, and give each other's slots back when they are killed") {
  temporary_directory directory;
  const auto path = directory / "m";
  checked_map m = checked_map::create(path, {.max_slots = 2000});
  const dm::key k = m.insert(checked_value(1));
  child_process other([&](auto say) {
    checked_map mine = checked_map::open(path);
    mine.update(k, [](self_checking& v) { v = checked_value(2); });
    for (int i = 0; i < 10; ++i) (void)mine.allocate_handle();
    for (std::uint64_t i = 0; i < 20; ++i) mine.erase(mine.insert(checked_value(i)));
    mine.insert(checked_value(77));
    say('r');
    stay();
  });
  REQUIRE(other.hear() == 'r');
  CHECK(m.get(k)->number == 2);
  CHECK(m.size() == 2);
  REQUIRE(m.owners().size() == 2);
  CHECK(m.owners()[1].pid == static_cast<std::uint32_t>(other.pid()));
  CHECK(m.owners()[1].alive);
  CHECK(slots_in(m, dm::slot_state::reserved) >= 10);
  CHECK(m.reap() == 0);
  other.kill();
  CHECK_FALSE(m.owners()[1].alive);
  CHECK(m.reap() == 1);
  CHECK(m.owners().size() == 1);
  CHECK(slots_in(m, dm::slot_state::reserved) <= 2000 / 256 / 2);  // which this thread took and has not used
  CHECK(m.size() == 2);
  CHECK(room_in(m) == 1998);
}

TEST_CASE("what the dead had is found when room runs out, without being asked for") {
  temporary_directory directory;
  const auto path = directory / "m";
  checked_map m = checked_map::create(path, {.max_slots = 300});
  child_process other([&](auto say) {
    checked_map mine = checked_map::open(path);
    for (int i = 0; i < 300; ++i) (void)mine.allocate_handle();
    say('r');
    stay();
  });
  REQUIRE(other.hear() == 'r');
  CHECK(code_of([&] { m.insert(checked_value(1)); }) == dm::errc::full);
  other.kill();
  CHECK(room_in(m) == 300);
}

TEST_CASE("a writer that is stopped in the midst of an update blocks nobody but who writes to that slot") {
  temporary_directory directory;
  const auto path = directory / "m";
  checked_map m = checked_map::create(path, {.max_slots = 2000});
  const dm::key k = m.insert(checked_value(1));
  const dm::key other = m.insert(checked_value(5));
  // As it stands between the two halves of an update: the word says so, the slot still has the old value.
  child_process writer([&](auto say) {
    const auto attached = dm::sharing::attachment::open(path, dm::detail::shared_type_of<self_checking>(), {});
    const auto& on = attached->on();
    self_checking value;
    const auto before = on.read(k.index(), k.generation(), &value, sizeof value);
    value = checked_value(2);
    const dm::sharing::attachment::lease scratch(*attached);
    dm::sharing::attachment::operations mine = on;
    if (!before ||
        mine.begin_update(k.index(), *before, scratch.number(), &value, sizeof value) != dm::sharing::outcome::done)
      throw std::runtime_error("the update did not begin");
    say('r');
    ::raise(SIGSTOP);
    mine.finish_update(k.index(), scratch.number());
    attached->close();
    say('d');
    stay();
  });
  REQUIRE(writer.hear() == 'r');
  int status = 0;
  REQUIRE(::waitpid(writer.pid(), &status, WUNTRACED) == writer.pid());
  REQUIRE(WIFSTOPPED(status));
  for (int i = 0; i < 1000; ++i) REQUIRE(m.get(k)->number == 2);
  CHECK(m.state(k.index()) == dm::slot_state::updating);
  CHECK(m.try_update(k, [](self_checking&) { FAIL("called for a value that is being updated"); }) ==
        dm::try_result::busy);
  CHECK(m.update(other, [](self_checking& v) { v = checked_value(6); }));
  CHECK(m.remove(other)->number == 6);
  CHECK(m.size() == 1);
  CHECK(room_in(m) == 1999);

  SECTION("it goes on, and who waited gets its turn") {
    std::atomic<bool> updated = false;
    std::thread waits([&] {
      m.update(k, [](self_checking& v) { v = checked_value(v.number + 1); });
      updated = true;
    });
    ::kill(writer.pid(), SIGCONT);
    CHECK(writer.hear() == 'd');
    waits.join();
    CHECK(updated);
    CHECK(m.get(k)->number == 3);
  }
  SECTION("it is killed, and who meets its mark finishes its work") {
    writer.kill();
    CHECK(m.update(k, [](self_checking& v) { v = checked_value(v.number + 1); }));
    CHECK(m.get(k)->number == 3);
    CHECK(m.owners().size() == 1);
  }
  SECTION("it is killed while somebody waits") {
    std::thread waits([&] { CHECK(m.remove(k)->number == 2); });
    writer.kill();
    waits.join();
    CHECK(m.empty());
  }
  SECTION("it is killed, and try_update finds it dead") {
    writer.kill();
    CHECK(m.try_update(k, [](self_checking& v) { v = checked_value(9); }) == dm::try_result::done);
  }
  SECTION("it is killed, and the next to attach finishes its work") {
    writer.kill();
    checked_map next = checked_map::open(path);
    CHECK(next.state(k.index()) == dm::slot_state::occupied);
    CHECK(next.recovery().outcome == dm::recovery_outcome::recovered);
    CHECK(next.get(k)->number == 2);
  }
}

TEST_CASE("an update by somebody who never was is damage, and not waited for") {
  temporary_directory directory;
  checked_map m = checked_map::create(directory / "m");
  const dm::key k = m.insert(checked_value(1));
  {
    const auto attached =
        dm::sharing::attachment::open(directory / "m", dm::detail::shared_type_of<self_checking>(), {});
    attached->on().memory().word(k.index()) = dm::sharing::word::updating(k.generation(), 99 * 8, 1);
    attached->close();
  }
  CHECK(code_of([&] { m.update(k, [](self_checking&) {}); }) == dm::errc::damaged);
  CHECK(code_of([&] { m.erase(k); }) == dm::errc::damaged);
}

TEST_CASE("hints that mislead cost a search, and no slot") {
  temporary_directory directory;
  checked_map m = checked_map::create(directory / "m", {.max_slots = 6400, .reserve_slots = 6400});
  {
    const auto attached =
        dm::sharing::attachment::open(directory / "m", dm::detail::shared_type_of<self_checking>(), {});
    for (std::uint64_t i = 0; i < 2; ++i) attached->on().memory().hints[i] = 0;
    attached->close();
  }
  CHECK(room_in(m) == 6400);
}

TEST_CASE("segments by name: made by one, opened by others, removed under them") {
  if (!std::filesystem::is_directory("/dev/shm")) {
    WARN("not tested here, there is no /dev/shm");
    return;
  }
  const dm::shm name("test.map." + std::to_string(::getpid()));
  map m = map::open_or_create(name, {.max_slots = 100});
  const dm::key k = m.insert({{}, 1});
  struct stat status {};
  REQUIRE(::stat(name.path().c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  map again = map::open_or_create(name);
  CHECK(again.get(k)->number == 1);
  CHECK(again.path() == name.path());
  CHECK(dm::shm::remove(name.name()));
  again.update(k, [](node& n) { n.number = 2; });
  CHECK(m.get(k)->number == 2);
  map fresh = map::open_or_create(name);
  CHECK(fresh.empty());
  CHECK(dm::shm::remove(name.name()));
}

TEST_CASE("many who open or create one name at once share one map") {
  temporary_directory directory;
  const auto path = directory / "m";
  std::vector<child_process> all;
  for (int i = 0; i < 16; ++i)
    all.emplace_back([&](auto say) {
      map m = map::open_or_create(path, {.max_slots = 500});
      m.insert({{}, 1});
      say('r');
      stay();
    });
  for (const auto& each : all) REQUIRE(each.hear() == 'r');
  map m = map::open(path);
  CHECK(m.size() == 16);
  CHECK(m.owners().size() == 17);
  all.clear();
  CHECK(m.reap() == 16);
  CHECK(room_in(m) == 484);
}

TEST_CASE("a forked child's copy of a map leaves its parent's alone") {
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, {.max_slots = 1000});
  const dm::key k = m.insert({{}, 1});
  auto h = m.allocate_handle();
  child_process child([&](auto) {
    m.close();  // and this thread's part goes when it ends
    map own = map::open(path);
    own.update(k, [](node& n) { n.number = 2; });
    own.close();
  });
  CHECK(child.wait() == 0);
  CHECK(m.get(k)->number == 2);
  m.insert(std::move(h), {{}, 3});
  CHECK(m.owners().size() == 1);
  CHECK(m.owners()[0].alive);
}
