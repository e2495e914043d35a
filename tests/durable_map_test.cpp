// durable_map as its users see it: transactions, readers beside the writer, what is refused. That power may go at any moment
// is tests/simulated_disk.
#include "deferred_map/durable_map.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <boost/describe.hpp>
#include <csignal>
#include <map>
#include <set>
#include <vector>

#include "catch.hpp"
#include "deferred_map/join.hpp"
#include "deferred_map/mapped_map.hpp"
#include "deferred_map/secondary_map.hpp"
#include "files.hpp"
#include "processes.hpp"
#include "temporary_directory.hpp"

namespace {

struct account {
  std::int64_t balance;
  dm::key partner;
  char name[16];
};
BOOST_DESCRIBE_STRUCT(account, (), (balance, partner, name))

using map = dm::durable_map<account>;

account with_balance(std::int64_t balance) { return {balance, {}, "somebody"}; }

std::filesystem::path journal_of(const std::filesystem::path& path) { return path.string() + "-journal"; }

std::map<std::uint64_t, std::int64_t> contents_of(const map& m) {
  std::map<std::uint64_t, std::int64_t> found;
  for (const auto [key, value] : m) found[key.bits()] = value.balance;
  return found;
}

/// Lets go of the files as a killed process does, the map as it is.
template <class F>
void in_killed_child(F work) {
  child_process child([&](const child_process::mouth& say) {
    work();
    say('k');
    stay();
  });
  REQUIRE(child.hear() == 'k');
  child.kill();
}

}  // namespace

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
  dm::key reserved;
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
  CHECK(stores.wait() != 0);
}

TEST_CASE("one process writes at a time, and is named to the next") {
  temporary_directory directory;
  const auto path = directory / "m";
  const map m = map::create(path, {.max_slots = 100});
  const auto refused = error_of([&] { map::open(path); });
  REQUIRE(refused);
  CHECK(refused->code() == dm::errc::in_use);
  CHECK(std::string(refused->what()).find(std::to_string(::getpid())) != std::string::npos);
  CHECK_NOTHROW(map::open_read_only(path));
}

TEST_CASE("other kinds of maps are refused, and so is another type") {
  temporary_directory directory;
  map::create(directory / "durable", {.max_slots = 100}).close();
  dm::mapped_map<account>::create(directory / "mapped", {.max_slots = 100}).close();
  CHECK(code_of([&] { dm::mapped_map<account>::open(directory / "durable"); }) == dm::errc::wrong_kind);
  CHECK(code_of([&] { map::open(directory / "mapped"); }) == dm::errc::wrong_kind);
  CHECK(code_of([&] { dm::durable_map<std::uint64_t>::open(directory / "durable"); }) == dm::errc::type_mismatch);
  CHECK(code_of([&] { map::open(directory / "nothing"); }) == dm::errc::not_found);
  CHECK(code_of([&] { map::create(directory / "durable"); }) == dm::errc::exists);
}

TEST_CASE("a journal that is missing, of another arena, or of another time is refused, and nothing is changed") {
  temporary_directory directory;
  const auto path = directory / "m", other = directory / "other";
  const auto left_open = [&](const std::filesystem::path& at, int commits) {
    in_killed_child([&] {
      static map m = map::open_or_create(at, {.max_slots = 100});
      for (int i = 0; i < commits; ++i) {
        m.insert(with_balance(i));
        m.commit();
      }
    });
  };
  left_open(path, 3);
  left_open(other, 3);
  const std::string arena = read_file(path), journal = read_file(journal_of(path));
  const auto refused = [&] {
    const auto why = error_of([&] { map::open(path); });
    CHECK(error_of([&] { map::open_read_only(path); }).has_value());
    CHECK(read_file(path) == arena);
    return why ? std::string(why->what()) : "nothing";
  };
  SECTION("missing") {
    std::filesystem::remove(journal_of(path));
    CHECK(refused().find("is missing") != std::string::npos);
    map m = map::open(path, {.salvage = true});  // what the arena alone has: nothing yet
    CHECK(m.verify() == "");
    CHECK(m.recovery().outcome == dm::recovery_outcome::salvaged);
  }
  SECTION("another arena's") {
    write_file(journal_of(path), read_file(journal_of(other)));
    CHECK(refused().find("belongs to another arena") != std::string::npos);
  }
  SECTION("an older journal") {
    {
      map m = map::open(path);
      m.insert(with_balance(9));
      m.commit();
      m.checkpoint();
    }
    {
      in_killed_child([&] {
        static map m = map::open(path);
        m.insert(with_balance(10));
        m.commit();
      });
    }
    write_file(journal_of(path), journal);
    const auto why = error_of([&] { map::open(path); });
    REQUIRE(why);
    CHECK(std::string(why->what()).find("of another time") != std::string::npos);
  }
  SECTION("an older arena") {
    in_killed_child([&] {
      static map m = map::open(path);
      m.checkpoint();
      m.insert(with_balance(10));
      m.commit();
      m.checkpoint();
      m.insert(with_balance(11));
      m.commit();
    });
    write_file(path, arena);
    CHECK(refused().find("of another time") != std::string::npos);
  }
  SECTION("no journal at all") {
    write_file(journal_of(path), std::string(100'000, 'x'));
    CHECK(refused().find("damaged") != std::string::npos);
  }
  SECTION("empty") {
    write_file(journal_of(path), "");
    CHECK(refused().find("damaged") != std::string::npos);
  }
  SECTION("a directory") {
    std::filesystem::remove(journal_of(path));
    std::filesystem::create_directory(journal_of(path));
    CHECK(refused().find("directory") != std::string::npos);
  }
}

TEST_CASE("a bit that falls over in the middle of a journal is not taken for its end") {
  temporary_directory directory;
  const auto path = directory / "m";
  in_killed_child([&] {
    static map m = map::open_or_create(path, {.max_slots = 100});
    for (int i = 0; i < 10; ++i) {
      m.insert(with_balance(i));
      m.commit();
    }
  });
  std::string journal = read_file(journal_of(path));
  const std::size_t third = journal.find("somebody", journal.find("somebody", journal.find("somebody") + 1) + 1);
  journal[third] ^= 1;
  write_file(journal_of(path), journal);
  const auto why = error_of([&] { map::open(path); });
  REQUIRE(why);
  CHECK(why->code() == dm::errc::damaged);
  CHECK(std::string(why->what()).find("behind commit 2") != std::string::npos);
  map m = map::open(path, {.salvage = true});
  CHECK(m.size() == 2);
  CHECK(m.verify() == "");
  m.close();
  CHECK(map::open(path, {.verify = true}).size() == 2);
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
