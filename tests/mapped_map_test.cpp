// mapped_map as its users see it: what lives in the file, and for how long.
#include "deferred_map/mapped_map.hpp"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/describe.hpp>
#include <csignal>
#include <map>

#include "catch.hpp"
#include "deferred_map/reservation.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

namespace {

struct node {
  dm::key next;
  double weight;
  std::int32_t number;
  char name[12];
};
BOOST_DESCRIBE_STRUCT(node, (), (next, weight, number, name))

using map = dm::mapped_map<node>;

/// Runs `work` with the map open in a child that is then killed, with the map as it is.
template <class F>
void in_killed_child(const std::filesystem::path& path, F work) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      map m = map::open(path);
      work(m);
      ::kill(::getpid(), SIGKILL);
    } catch (...) {
      ::_exit(1);
    }
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
}

}  // namespace

TEST_CASE("a cycle of values is there, with its keys, when the file is opened again") {
  temporary_directory directory;
  dm::key a_key, b_key;
  {
    map m = map::create(directory / "m");
    auto a = m.allocate_handle();
    auto b = m.allocate_handle();
    a_key = a.key();
    b_key = b.key();
    m.insert(std::move(a), {b_key, 1.5, 1, "a"});
    m.insert(std::move(b), {a_key, 2.5, 2, "b"});
    CHECK(m.recovery().outcome == dm::recovery_outcome::clean);
    m.close();
    CHECK_FALSE(m.is_open());
  }
  const map m = map::open_read_only(directory / "m");
  CHECK(m.recovery().outcome == dm::recovery_outcome::clean);
  CHECK(m.size() == 2);
  CHECK(m.at(a_key).next == b_key);
  CHECK(m.at(m.at(a_key).next).next == a_key);
  CHECK(std::string(m.at(b_key).name) == "b");
  CHECK(m.verify().empty());
}

TEST_CASE("keys that are dead stay dead across closing and opening") {
  temporary_directory directory;
  dm::key dead;
  {
    map m = map::create(directory / "m");
    dead = m.insert({});
    m.erase(dead);
  }
  map m = map::open(directory / "m");
  CHECK_FALSE(m.contains(dead));
  const dm::key next = m.insert({});
  CHECK(next.index() == dead.index());
  CHECK(next.generation() == dead.generation() + 1);
  CHECK_FALSE(m.contains(dead));
}

TEST_CASE("keys stay dead when the file shrinks and grows again, across openings") {
  temporary_directory directory;
  std::vector<dm::key> dead;
  {
    map m = map::create(directory / "m");
    for (int i = 0; i < 5000; ++i) dead.push_back(m.insert({}));
    m.clear();
    const auto size_before = std::filesystem::file_size(directory / "m");
    m.shrink_to_fit();
    CHECK(m.slot_count() == 0);
    CHECK(std::filesystem::file_size(directory / "m") < size_before);
    CHECK(m.verify().empty());
  }
  map m = map::open(directory / "m");
  for (int i = 0; i < 5000; ++i) m.insert({});
  for (const dm::key k : dead) REQUIRE_FALSE(m.contains(k));
  CHECK(m.verify().empty());
}

TEST_CASE("addresses are stable while the map grows a thousandfold") {
  temporary_directory directory;
  map m = map::create(directory / "m");
  const dm::key first = m.insert({{}, 1, 42, "first"});
  const node* address = m.get(first);
  for (int i = 0; i < 200'000; ++i) m.insert({{}, 0, i, ""});
  CHECK(m.get(first) == address);
  CHECK(address->number == 42);
  CHECK(m.capacity() >= 200'001);
  CHECK(m.verify().empty());
}

TEST_CASE("every slot below the capacity, and the index for it, has a real block") {
  temporary_directory directory;
  map m = map::create(directory / "m");
  for (int i = 0; i < 100'000; ++i) m.insert({});
  struct stat status {};
  REQUIRE(::stat((directory / "m").c_str(), &status) == 0);
  CHECK(static_cast<std::uint64_t>(status.st_blocks) * 512 >= m.capacity() * sizeof(dm::slot<node>));
}

TEST_CASE("reserve_slots and reserve make room that inserting does not have to") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 10'000, .reserve_slots = 500});
  CHECK(m.capacity() == 500);
  m.reserve(2000);
  CHECK(m.capacity() >= 2000);
  CHECK(m.capacity() <= 10'000);
}

TEST_CASE("max_slots is the limit, and reaching it is errc::full with the map intact") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 100});
  std::vector<dm::key> keys;
  for (int i = 0; i < 100; ++i) keys.push_back(m.insert({{}, 0, i, ""}));
  const auto error = error_of([&] { m.insert({}); });
  REQUIRE(error);
  CHECK(error->code() == dm::errc::full);
  CHECK(std::string(error->what()).find("100 slots") != std::string::npos);
  CHECK(m.verify().empty());
  CHECK(m.size() == 100);
  m.erase(keys[50]);
  CHECK(m.insert({}).index() == keys[50].index());
}

TEST_CASE("slots reserved when the map is closed are given back, and their keys never live") {
  temporary_directory directory;
  dm::key reserved;
  {
    map m = map::create(directory / "m");
    auto handle = m.allocate_handle();
    reserved = handle.key();
  }
  map m = map::open(directory / "m");
  CHECK(m.recovery().outcome == dm::recovery_outcome::clean);
  CHECK(m.reserved_count() == 0);
  m.insert({});
  CHECK_FALSE(m.contains(reserved));
}

TEST_CASE("a handle of one opening is refused by the next") {
  temporary_directory directory;
  dm::handle handle;
  {
    map m = map::create(directory / "m");
    handle = m.allocate_handle();
  }
  map m = map::open(directory / "m");
  auto mine = m.allocate_handle();
  CHECK_THROWS_AS(m.insert(std::move(handle), node{}), dm::bad_handle);
  m.insert(std::move(mine), node{});
}

TEST_CASE("after a kill between operations, opening examines no slot") {
  temporary_directory directory;
  map::create(directory / "m", {.max_slots = 100'000}).close();
  in_killed_child(directory / "m", [](map& m) {
    for (int i = 0; i < 10'000; ++i) m.insert({{}, 0, i, ""});
    for (std::uint32_t i = 0; i < 10'000; i += 3) m.erase(dm::key::from_parts(i, 1));
  });
  map m = map::open(directory / "m");
  CHECK(m.recovery().outcome == dm::recovery_outcome::nothing_under_way);
  CHECK(m.recovery().slots_examined == 0);
  CHECK(m.recovery().killed_pid != 0);
  CHECK(m.size() == 10'000 - 3334);
  CHECK(m.verify().empty());
  // The vacancy buffer survived with the rest: the slot vacated last comes first.
  CHECK(m.insert({}).index() == 9999);
}

TEST_CASE("after a kill with slots reserved, they are given back and the report says so") {
  temporary_directory directory;
  map::create(directory / "m", {.max_slots = 100'000}).close();
  in_killed_child(directory / "m", [](map& m) {
    m.insert({{}, 0, 7, ""});
    for (int i = 0; i < 5; ++i) (void)m.allocate_handle().key();
  });
  {
    // A reader sees the recovered state, and the file does not change for it.
    const std::string before = read_file(directory / "m");
    const map reader = map::open_read_only(directory / "m");
    CHECK(reader.recovery().outcome == dm::recovery_outcome::recovered);
    CHECK(reader.reserved_count() == 0);
    CHECK(reader.verify().empty());
    CHECK(reader.size() == 1);
    CHECK(read_file(directory / "m") == before);
  }
  map m = map::open(directory / "m");
  CHECK(m.recovery().outcome == dm::recovery_outcome::recovered);
  CHECK(m.recovery().reserved_given_back == 5);
  CHECK(m.recovery().slots_examined == 6);
  CHECK(m.recovery().to_string().find("5 reserved slots given back") != std::string::npos);
  CHECK(m.verify().empty());
  for (std::uint32_t i = 1; i <= 5; ++i) CHECK_FALSE(m.contains(dm::key::from_parts(i, 1)));
}

TEST_CASE("update replaces a value, and one that throws changes nothing") {
  temporary_directory directory;
  map m = map::create(directory / "m");
  const dm::key k = m.insert({{}, 1, 1, "old"});
  CHECK(m.update(k, [](node& n) { n.number = 2; }));
  CHECK(m[k].number == 2);
  CHECK_THROWS_AS(m.update(k,
                           [](node& n) {
                             n.number = 3;
                             throw std::runtime_error("no");
                           }),
                  std::runtime_error);
  CHECK(m[k].number == 2);
  m.erase(k);
  CHECK_FALSE(m.update(k, [](node&) {}));
  const dm::key other = m.insert({});
  CHECK_FALSE(m.update(other, [&](node&) { m.erase(other); }));
  CHECK(m.verify().empty());
}

TEST_CASE("an update that was committed and not yet copied is finished by the next to open") {
  temporary_directory directory;
  map::create(directory / "m").close();
  dm::key k;
  {
    map m = map::open(directory / "m");
    k = m.insert({{}, 1, 1, "old"});
  }
  // What a kill right after the committing store leaves: the scratch area complete, the slot old.
  const auto header = read_at<dm::arena_header>(directory / "m", 0);
  auto control = read_at<dm::control_block>(directory / "m", header.control_offset);
  const node fresh{{}, 2, 2, "new"};
  control.closed = control.synced = 0;
  control.update_pending = 1;
  control.update_index = k.index();
  control.update_version = k.occupied_version();
  write_at(directory / "m", header.scratch_offset, fresh);
  write_at(directory / "m", header.control_offset, control);

  CHECK(map::open_read_only(directory / "m").at(k).number == 2);
  map m = map::open(directory / "m");
  CHECK(m.recovery().updates_finished == 1);
  CHECK(std::string(m.at(k).name) == "new");
  CHECK(m.verify().empty());
}

TEST_CASE("detach takes a value out, and inserting with its handle brings the key back") {
  temporary_directory directory;
  map m = map::create(directory / "m");
  const dm::key k = m.insert({{}, 0, 5, ""});
  auto detached = m.detach(k);
  REQUIRE(detached);
  CHECK_FALSE(m.contains(k));
  detached->first.number = 6;
  m.insert(std::move(detached->second), detached->first);
  CHECK(m.at(k).number == 6);
}

TEST_CASE("reservations, retain, drain and iteration work as on the heap") {
  temporary_directory directory;
  map m = map::create(directory / "m");
  {
    dm::reservation lost(m);
    dm::reservation filled(m);
    filled.insert({{}, 0, 1, ""});
  }
  CHECK(m.reserved_count() == 0);
  for (int i = 2; i <= 10; ++i) m.insert({{}, 0, i, ""});
  CHECK(m.retain([](dm::key, node& n) { return n.number % 2 == 0; }) == 5);
  int sum = 0;
  for (const auto [k, value] : m) sum += value.number;
  CHECK(sum == 30);
  int drained = 0;
  for (const auto& [k, value] : m.drain()) drained += value.number;
  CHECK(drained == 30);
  CHECK(m.empty());
  CHECK(m.verify().empty());
}

TEST_CASE("a map that was moved from, closed or never opened is empty and says so when changed") {
  temporary_directory directory;
  map never;
  CHECK(never.empty());
  CHECK(never.get(dm::key::from_parts(0, 1)) == nullptr);
  CHECK(never.verify().empty());
  CHECK(code_of([&] { never.insert({}); }) == dm::errc::bad_options);
  map m = map::create(directory / "m");
  const dm::key k = m.insert({{}, 0, 3, ""});
  map moved = std::move(m);
  CHECK(moved.at(k).number == 3);
  CHECK_FALSE(m.is_open());
  CHECK(code_of([&] { m.insert({}); }) == dm::errc::bad_options);
  m = std::move(moved);
  CHECK(m.at(k).number == 3);
  m.close();
  m.close();
  CHECK(m.begin() == m.end());
  CHECK(code_of([&] { m.flush(); }) == dm::errc::bad_options);
}

TEST_CASE("a strong key type makes its own map's file") {
  temporary_directory directory;
  using order_key = dm::basic_key<struct order_tag>;
  auto m = dm::mapped_map<std::uint64_t, order_key>::create(directory / "m");
  const order_key k = m.insert(7);
  CHECK(m.at(k) == 7);
}

TEST_CASE("values larger than a page, and aligned to a cache line, keep their place") {
  struct alignas(64) big {
    std::array<std::uint64_t, 1000> numbers;
  };
  temporary_directory directory;
  dm::key k;
  {
    auto m = dm::mapped_map<big>::create(directory / "m");
    for (std::uint64_t i = 0; i < 50; ++i) {
      big value{};
      value.numbers.fill(i);
      k = m.insert(value);
    }
    CHECK(reinterpret_cast<std::uintptr_t>(m.get(k)) % 64 == 0);
    CHECK(m.update(k, [](big& b) { b.numbers[999] = 1; }));
  }
  const auto m = dm::mapped_map<big>::open_read_only(directory / "m");
  CHECK(m.at(k).numbers[998] == 49);
  CHECK(m.at(k).numbers[999] == 1);
  CHECK(m.verify().empty());
}
