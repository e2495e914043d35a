// durable_map as its users see it: transactions.
#include <unistd.h>

#include <set>
#include <vector>

#include "accounts.hpp"
#include "catch.hpp"
#include "deferred_map/join.hpp"
#include "deferred_map/secondary_map.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

using namespace accounts;

TEST_CASE("what was committed is there after a kill, and what was not is not") {
  temporary_directory directory;
  const auto path = directory / "m";
  dm::key a, b;
  {
    map m = map::create(path, {.max_slots = 1000});
    a = m.insert(with_balance(1));
    b = m.insert(with_balance(2));
    CHECK(m.last_commit() == 0);
    CHECK(m.commit() == 1);
    m.close();
  }
  CHECK_FALSE(std::filesystem::exists(journal_of(path)));
  in_killed_child([&] {
    static map m = map::open(path);
    m.at(a).balance = 10;
    m.erase(b);
    if (m.commit() != 2) ::_exit(2);
    m.at(a).balance = 99;
    m.insert(with_balance(77));
  });
  map m = map::open(path, {.verify = true});
  CHECK(m.recovery().outcome == dm::recovery_outcome::replayed);
  CHECK(m.recovery().commits_replayed == 1);
  CHECK(m.last_commit() == 2);
  CHECK(m.size() == 1);
  CHECK(m.at(a).balance == 10);
  CHECK_FALSE(m.contains(b));
  CHECK(m.verify().empty());
}

TEST_CASE("closing drops what was not committed, and leaves one file that has the rest") {
  temporary_directory directory;
  const auto path = directory / "m";
  dm::key a;
  {
    map m = map::create(path, {.max_slots = 1000});
    a = m.insert(with_balance(1));
    m.commit();
    m.at(a).balance = 2;
    m.insert(with_balance(3));
    m.close();
    CHECK_FALSE(m.is_open());
  }
  CHECK_FALSE(std::filesystem::exists(journal_of(path)));
  map m = map::open(path);
  CHECK(m.recovery().outcome == dm::recovery_outcome::clean);
  CHECK(m.size() == 1);
  CHECK(m.at(a).balance == 1);
}

TEST_CASE("a rollback restores values, keys, counts and order of vacancy, whatever was done") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 100'000});
  std::vector<dm::key> keys;
  for (int i = 0; i < 1000; ++i) keys.push_back(m.insert(with_balance(i)));
  for (int i = 0; i < 1000; i += 3) m.erase(keys[static_cast<std::size_t>(i)]);
  m.commit();
  const auto before = contents_of(m);
  const std::size_t slots = m.slot_count(), reserved = m.reserved_count(), capacity = m.capacity();
  SECTION("values") {
    for (auto [key, value] : m) value.balance += 5;
  }
  SECTION("inserts with growth") {
    for (int i = 0; i < 20'000; ++i) m.insert(with_balance(i));
    CHECK(m.capacity() > capacity);
  }
  SECTION("removals") { m.clear(); }
  SECTION("handles") {
    for (int i = 0; i < 500; ++i) (void)m.allocate_handle();
  }
  SECTION("detaching and putting back") {
    auto out = m.detach(keys[1]);
    REQUIRE(out);
    m.insert(std::move(out->second), with_balance(-1));
  }
  SECTION("shrinking") {
    m.retain([&](dm::key k, account&) { return k.index() < 10; });
    m.shrink_to_fit();
  }
  SECTION("update") {
    CHECK(m.update(keys[1], [](account& a) { a.balance = 4; }));
  }
  m.rollback();
  CHECK(contents_of(m) == before);
  CHECK(m.slot_count() == slots);
  CHECK(m.reserved_count() == reserved);
  CHECK(m.verify() == "");
  // And a commit of that is the commit before it, but for generations that must not be given out again.
  m.commit();
  m.rollback();
  CHECK(contents_of(m) == before);
  m.close();
  map again = map::open(directory / "m", {.verify = true});
  CHECK(contents_of(again) == before);
}

TEST_CASE("keys and handles of what was rolled back never become valid, also where the slot is used again") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 1000});
  std::vector<dm::key> kept;
  for (int i = 0; i < 10; ++i) kept.push_back(m.insert(with_balance(i)));
  m.erase(kept[9]);
  m.commit();
  std::set<dm::key> dead;
  std::vector<dm::handle> handles;
  for (int round = 0; round < 5; ++round) {
    // In vacant slots, in new slots, and in slots whose value was removed.
    for (int i = 0; i < 3; ++i) dead.insert(m.insert(with_balance(100)));
    m.erase(kept[2]);
    dead.insert(m.insert(with_balance(101)));
    dead.insert(m.insert(with_balance(102)));
    handles.push_back(m.allocate_handle());
    dead.insert(handles.back().key());
    m.rollback();
    CHECK(m.verify() == "");
    for (const dm::key k : dead) CHECK_FALSE(m.contains(k));
    CHECK(m.at(kept[2]).balance == 2);
    for (auto& h : handles) CHECK_FALSE(m.holds(h));
  }
  m.erase(kept[2]);
  for (int i = 0; i < 50; ++i) {
    const dm::key k = m.insert(with_balance(i));
    CHECK(dead.count(k) == 0);
  }
  for (auto& h : handles) CHECK_THROWS_AS(m.insert(std::move(h), with_balance(0)), dm::bad_handle);
  m.commit();
  for (const dm::key k : dead) CHECK_FALSE(m.contains(k));
}

TEST_CASE("slots that were made, given back by shrinking, and rolled back are made again in later generations") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 1000});
  m.insert(with_balance(1));
  m.commit();
  const dm::key dead = m.insert(with_balance(2));
  m.erase(dead);
  m.shrink_to_fit();
  m.rollback();
  const dm::key next = m.insert(with_balance(3));
  CHECK(next.index() == dead.index());
  CHECK_FALSE(m.contains(dead));
  CHECK(m.verify() == "");
}

TEST_CASE("a checkpoint asks for a commit where something was changed, and not where it was only looked at") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 1000});
  const dm::key k = m.insert(with_balance(1));
  CHECK(code_of([&] { m.checkpoint(); }) == dm::errc::bad_options);
  m.commit();
  account& found = m.at(k);
  CHECK(m.checkpoint());
  found.balance = 2;  // announced before the checkpoint, and still in the same transaction
  CHECK(code_of([&] { m.checkpoint(); }) == dm::errc::bad_options);
  m.commit();
  m.close();
  CHECK(map::open(directory / "m").at(k).balance == 2);
}

TEST_CASE("a handle from before the transaction outlives its rollback") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 1000});
  auto h = m.allocate_handle();
  const dm::key k = h.key();
  m.commit();
  m.insert(with_balance(1));
  m.rollback();
  REQUIRE(m.holds(h));
  m.insert(std::move(h), with_balance(7));
  m.commit();
  CHECK(m.at(k).balance == 7);
}

TEST_CASE("slots that were reserved at the last commit are given back by whoever opens the map next") {
  temporary_directory directory;
  const auto path = directory / "m";
  map::create(path, {.max_slots = 1000}).close();
  in_killed_child([&] {
    static map m = map::open(path);
    [[maybe_unused]] static auto h = m.allocate_handle();
    m.insert(with_balance(1));
    m.commit();
  });
  map m = map::open(path);
  CHECK(m.reserved_count() == 0);
  CHECK(m.recovery().reserved_given_back == 1);
  CHECK(m.size() == 1);
  m.close();
  CHECK(map::open(path, {.verify = true}).reserved_count() == 0);
}

TEST_CASE("looking through a const map writes nothing, and neither does looking without storing") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 1000});
  const dm::key k = m.insert(with_balance(1));
  m.commit();
  CHECK(std::as_const(m).at(k).balance == 1);
  CHECK(m.commit() == 1);
  CHECK(m.at(k).balance == 1);
  for (auto [key, value] : m) CHECK(value.balance == 1);
  CHECK(m.commit() == 1);
  m.at(k).balance = 2;
  CHECK(m.commit() == 2);
}

TEST_CASE("every way to a reference announces the change") {
  temporary_directory directory;
  const auto path = directory / "m";
  dm::key k, other;
  map::create(path, {.max_slots = 1000}).close();
  const auto changed = [&](auto change) {
    {
      map m = map::open_or_create(path);
      m.clear();
      k = m.insert(with_balance(1));
      other = m.insert(with_balance(1));
      m.commit();
      change(m);
      m.commit();
    }
    return map::open_read_only(path).at(k).balance;
  };
  CHECK(changed([&](map& m) { m.get(k)->balance = 2; }) == 2);
  CHECK(changed([&](map& m) { m.at(k).balance = 3; }) == 3);
  CHECK(changed([&](map& m) { m[k].balance = 4; }) == 4);
  CHECK(changed([&](map& m) { m.find(k)->value.balance = 5; }) == 5);
  CHECK(changed([&](map& m) {
          for (account& value : m.values()) value.balance = 6;
        }) == 6);
  CHECK(changed([&](map& m) {
          for (auto [key, value] : m) value.balance = 7;
        }) == 7);
  CHECK(changed([&](map& m) { (*m.get_disjoint<2>({k, other}))[0]->balance = 8; }) == 8);
  CHECK(changed([&](map& m) {
          const dm::key keys[] = {other, k};
          account* values[2];
          m.get_many(keys, values);
          values[1]->balance = 9;
        }) == 9);
  CHECK(changed([&](map& m) {
          m.retain([&](dm::key, account& value) {
            value.balance = 10;
            return true;
          });
        }) == 10);
  CHECK(changed([&](map& m) { m.update(k, [](account& a) { a.balance = 11; }); }) == 11);
  CHECK(changed([&](map& m) {
          auto out = m.detach(k);
          m.insert(std::move(out->second), with_balance(12));
        }) == 12);
  CHECK(changed([&](map& m) {
          dm::secondary_map<int> more;
          more.insert(k, 1);
          for (auto [key, value, extra] : dm::join(m, more)) value.balance = 12 + extra;
        }) == 13);
}

TEST_CASE("each of many lives goes on behind the commits of those before, however they ended") {
  temporary_directory directory;
  const auto path = directory / "m";
  map::create(path, {.max_slots = 1000}).close();
  for (std::uint64_t life = 0; life < 6; ++life) {
    in_killed_child([&] {
      static map m = map::open(path, {.verify = true, .journal_bytes = 2000});
      if (m.size() != life * 5 || m.last_commit() != life * 5) ::_exit(2);
      for (int i = 0; i < 5; ++i) {
        m.insert(with_balance(i));
        m.commit();
      }
      m.insert(with_balance(-1));
    });
  }
  const map m = map::open(path, {.verify = true});
  CHECK(m.size() == 30);
  for (const auto [key, value] : m) CHECK(value.balance >= 0);
}

TEST_CASE("what followed a commit that was lost does not follow the one in its place") {
  temporary_directory directory;
  const auto path = directory / "m";
  dm::key k;
  {
    map m = map::create(path, {.max_slots = 1000});
    k = m.insert(with_balance(1));
    m.commit();
  }
  const auto lives = [&](auto commits) {
    in_killed_child([&] {
      static map m = map::open(path);
      commits(m);
    });
  };
  lives([](map&) {});  // so that the first commits of the next two lives tell of the same
  lives([&](map& m) {
    for (int balance = 2; balance <= 3; ++balance) {
      m.at(k).balance = balance;
      m.commit(dm::sync::later);
    }
  });
  // The disk kept the second of two records that were not waited for, and lost the first.
  std::string journal = read_file(journal_of(path));
  const std::size_t first = journal.find("dmRc");
  const std::size_t second = journal.find("dmRc", first + 1);
  REQUIRE(second != std::string::npos);
  journal.replace(first - 8, 8, 8, '\0');
  write_file(journal_of(path), journal);
  lives([&](map& m) {
    if (std::as_const(m).at(k).balance != 1) ::_exit(2);
    m.at(k).balance = 50;
    m.commit();
  });
  REQUIRE(read_file(journal_of(path)).find("dmRc", first + 1) == second);  // as long as the one that was lost
  const map m = map::open_read_only(path);
  CHECK(m.last_commit() == 2);
  CHECK(m.at(k).balance == 50);
}

TEST_CASE("commits that wait for nothing are safe from a kill, in order") {
  temporary_directory directory;
  const auto path = directory / "m";
  map::create(path, {.max_slots = 1000}).close();
  in_killed_child([&] {
    static map m = map::open(path);
    for (int i = 0; i < 100; ++i) {
      m.insert(with_balance(i));
      m.commit(dm::sync::later);
    }
    m.insert(with_balance(1000));
  });
  const map m = map::open(path, {.verify = true});
  CHECK(m.size() == 100);
  CHECK(m.last_commit() == 100);
}

TEST_CASE("long histories with growth, checkpoints and reopening agree with a model") {
  temporary_directory directory;
  const auto path = directory / "m";
  std::uint64_t state = 88172645463325252ull;
  const auto random = [&](std::uint64_t below) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state % below;
  };
  std::map<std::uint64_t, std::int64_t> committed, now;
  map m = map::create(path, {.max_slots = 5000, .journal_bytes = 50'000});
  for (int step = 0; step < 4000; ++step) {
    const auto some_key = [&] { return dm::key::from_bits(std::next(now.begin(), random(now.size()))->first); };
    for (std::uint64_t i = 0, n = random(20); i < n; ++i) {
      switch (now.empty() ? 0 : random(4)) {
        case 0:
        case 1: {
          if (now.size() > 4000) break;
          const auto balance = static_cast<std::int64_t>(random(1000));
          now[m.insert(with_balance(balance)).bits()] = balance;
          break;
        }
        case 2: {
          const dm::key k = some_key();
          CHECK(m.erase(k));
          now.erase(k.bits());
          break;
        }
        default: {
          const dm::key k = some_key();
          m.at(k).balance = now[k.bits()] = static_cast<std::int64_t>(random(1000));
        }
      }
    }
    switch (random(12)) {
      case 0:
        m.rollback();
        now = committed;
        break;
      case 1:
        m.commit();
        committed = now;
        m.checkpoint();
        break;
      case 2:
        m.commit(dm::sync::later);
        committed = now;
        break;
      case 3:
        if (random(20) == 0) {
          m.close();
          m = map::open(path, {.verify = true, .journal_bytes = 50'000});
          now = committed;
        }
        break;
      case 4:
        if (random(10) == 0) m.shrink_to_fit();
        break;
      default:
        m.commit();
        committed = now;
    }
    if (step % 50 == 0) {
      REQUIRE(m.verify() == "");
      REQUIRE(contents_of(m) == now);
      map reader = map::open_read_only(path);
      REQUIRE(contents_of(reader) == committed);
    }
  }
}
