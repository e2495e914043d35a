// Durable maps that are open read-only beside a writer.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "accounts.hpp"
#include "catch.hpp"
#include "deferred_map/format/journal.hpp"
#include "effort.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

using namespace accounts;

TEST_CASE("a reader sees whole commits, stays at one until it asks, and goes through checkpoints") {
  temporary_directory directory;
  const auto path = directory / "m";
  // So short that generations come and go.
  map m = map::create(path, {.max_slots = 10'000, .journal_bytes = 20'000});
  std::vector<dm::key> keys;
  for (int i = 0; i < 500; ++i) keys.push_back(m.insert(with_balance(0)));
  m.commit();
  map early = map::open_read_only(path);
  map follows = map::open_read_only(path);
  std::int64_t round = 0;
  const auto all_are = [&](const map& in, std::int64_t expected) {
    for (const auto [key, value] : in)
      if (value.balance != expected) return false;
    return in.size() == keys.size();
  };
  for (int i = 0; i < 200; ++i) {
    ++round;
    for (account& value : m.values()) value.balance = round;
    CHECK(all_are(std::as_const(follows), round - 1));
    m.commit();
    CHECK(all_are(std::as_const(follows), round - 1));
    CHECK(follows.refresh());
    CHECK_FALSE(follows.refresh());
    CHECK(all_are(std::as_const(follows), round));
  }
  CHECK(all_are(std::as_const(early), 0));
  // It held back the journal, not the commits; and after it is gone the journal is short again.
  CHECK_FALSE(m.checkpoint());
  CHECK(std::filesystem::file_size(journal_of(path)) > 2'000'000);
  CHECK(early.refresh());
  CHECK(all_are(std::as_const(early), round));
  CHECK(early.verify() == "");
  // What they look at is of the generation before now: they have to go on once more.
  CHECK_FALSE(m.checkpoint());
  CHECK_FALSE(early.refresh());
  CHECK_FALSE(m.checkpoint());
  CHECK_FALSE(follows.refresh());
  CHECK(m.checkpoint());
  CHECK(all_are(std::as_const(early), round));
  CHECK(all_are(std::as_const(follows), round));
  CHECK_FALSE(early.refresh());
  for (account& value : m.values()) value.balance = -1;
  m.commit();
  early.refresh();
  CHECK(all_are(std::as_const(early), -1));
}

TEST_CASE("a reader follows from a closed file through writers that come and go") {
  temporary_directory directory;
  const auto path = directory / "m";
  dm::key k;
  {
    map m = map::create(path, {.max_slots = 10'000});
    k = m.insert(with_balance(0));
    m.commit();
  }
  map reader = map::open_read_only(path);
  CHECK(std::as_const(reader).at(k).balance == 0);
  for (int i = 1; i <= 5; ++i) {
    map m = map::open(path);
    m.at(k).balance = i;
    for (int j = 0; j < 1000; ++j) m.insert(with_balance(j));
    m.commit();
    m.checkpoint();
    CHECK(std::as_const(reader).at(k).balance == i - 1);
    CHECK(reader.refresh());
    CHECK(std::as_const(reader).at(k).balance == i);
    CHECK(reader.size() == 1 + 1000 * static_cast<std::size_t>(i));
    CHECK(reader.verify() == "");
    if (i % 2 == 0) m.close();
  }
}

TEST_CASE("readers that come at any moment find a whole commit, while commits and checkpoints go on") {
  temporary_directory directory;
  const auto path = directory / "m";
  child_process writer = writer_at_full_speed(path);
  std::int64_t last = 0;
  std::size_t mixed = 0, backwards = 0;
  const auto look = [&](const map& m) {
    const std::int64_t balance = m.begin()->value.balance;
    for (const auto [key, value] : m) mixed += value.balance != balance;
    backwards += balance < last;
    last = balance;
  };
  for (int i = 0; i < (sanitized ? 300 : 2000); ++i) {
    map m = map::open_read_only(path);
    look(m);
    if (i % 4 == 0) {
      m.refresh();
      look(m);
    }
  }
  CHECK(mixed == 0);
  CHECK(backwards == 0);
  CHECK(last > 0);
}

TEST_CASE("while a reader is looking for its place, no generation of the journal is retired") {
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, {.max_slots = 10'000, .journal_bytes = 5000});
  for (int i = 0; i < 100; ++i) m.insert(with_balance(0));
  m.commit();
  const auto generation_at = [&](std::size_t place) {
    return read_at<dm::journal_header>(journal_of(path), place).generation;
  };
  int with_two = 0;
  for (int round = 0; round < 100; ++round) {
    const auto commit = [&] {
      ++m.begin()->value.balance;
      m.commit(dm::sync::later);
      m.commit();
    };
    for (int i = 0; i < round % 17; ++i) commit();
    // The lock a reader takes first (posix_storage.hpp).
    const int reader = ::open(path.c_str(), O_RDONLY);
    struct flock lock {};
    lock.l_type = F_RDLCK;
    lock.l_start = off_t{1} << 61;
    lock.l_len = 1;
    REQUIRE(::fcntl(reader, F_OFD_SETLK, &lock) == 0);
    const std::uint64_t even = generation_at(0), odd = generation_at(4096);
    for (int i = 0; i < 60; ++i) commit();
    if (even != 0 && odd != 0) {
      ++with_two;
      CHECK(generation_at(0) == even);
      CHECK(generation_at(4096) == odd);
    }
    ::close(reader);
    for (int i = 0; i < 60; ++i) commit();
    CHECK(std::max(generation_at(0), generation_at(4096)) > std::max(even, odd));
  }
  CHECK(with_two > 20);
}

TEST_CASE("a reader that had no journal does not follow one of another time") {
  temporary_directory directory;
  const auto path = directory / "m", early = directory / "early";
  dm::key k;
  {
    map m = map::create(path, {.max_slots = 100});
    k = m.insert(with_balance(1));
    m.commit();
  }
  std::filesystem::copy_file(path, early);
  {
    map m = map::open(path);
    m.at(k).balance = 2;
    m.commit();
  }
  in_killed_child([&] {
    static map m = map::open(path);
    m.at(k).balance = 3;
    m.commit();
  });
  map reader = map::open_read_only(early);
  std::filesystem::copy_file(journal_of(path), journal_of(early));
  CHECK(code_of([&] { reader.refresh(); }) == dm::errc::damaged);
}

TEST_CASE("a reader may not write, and its process dies where it stores") {
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, {.max_slots = 100});
  const dm::key k = m.insert(with_balance(1));
  m.commit();
  map reader = map::open_read_only(path);
  CHECK(code_of([&] { reader.insert(with_balance(1)); }) == dm::errc::read_only);
  CHECK(code_of([&] { reader.commit(); }) == dm::errc::read_only);
  CHECK(code_of([&] { reader.rollback(); }) == dm::errc::read_only);
  child_process stores([&](const child_process::mouth&) {
    ::signal(SIGSEGV, SIG_DFL);
    reader.get(k)->balance = 2;
  });
  CHECK(stores.wait() == -SIGSEGV);
}
