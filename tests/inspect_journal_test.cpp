// Durable maps looked at from outside: with their journal, without it, beside a writer, and where the two do not fit.
#include <cstring>
#include <functional>
#include <set>

#include "accounts.hpp"
#include "catch.hpp"
#include "deferred_map/format/journal.hpp"
#include "deferred_map/inspect.hpp"
#include "effort.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

using namespace accounts;
namespace inspect = dm::inspect;
using inspect::arena_file;
using inspect::change_kind;
using inspect::journal_condition;
using inspect::journal_use;

namespace {

std::map<std::uint64_t, std::int64_t> seen_in(const arena_file& arena) {
  std::map<std::uint64_t, std::int64_t> found;
  inspect::slot_scan scan(arena, {}, inspect::slot_parts::versions_and_values);
  while (const auto* slot = scan.next()) {
    if (slot->state() != dm::slot_state::occupied) continue;
    account value;
    std::memcpy(&value, slot->value.data(), sizeof value);
    found[dm::key::from_parts(slot->index, slot->generation()).bits()] = value.balance;
  }
  return found;
}

std::set<std::string> rules_in(const arena_file& arena, inspect::severity level = inspect::severity::error) {
  std::set<std::string> found;
  const inspect::check_report report = inspect::check(arena);
  for (const auto& each : report.findings.listed())
    if (each.level == level) found.emplace(each.rule);
  return found;
}
const std::set<std::string> nothing;

/// A map of ten values, two commits, and three more in the journal alone.
std::map<std::uint64_t, std::int64_t> make_killed(const std::filesystem::path& path,
                                                  dm::durable_options how = {.max_slots = 1000}) {
  in_killed_child([&] {
    static map m = map::create(path, how);
    std::vector<dm::key> keys;
    for (int i = 0; i < 10; ++i) keys.push_back(m.insert(with_balance(i)));
    m.commit();
    m.checkpoint();
    m.erase(keys[3]);
    m.commit();
    m.at(keys[4]).balance = 400;
    m.commit();
    m.insert(with_balance(99));
    m.commit();
    m.insert(with_balance(-1));  // not committed
  });
  return contents_of(map::open_read_only(path));
}

}  // namespace

TEST_CASE("an inspection shows a durable map at its last commit, and without its journal as its file is") {
  temporary_directory directory;
  const auto path = directory / "m";
  const auto expected = make_killed(path);
  REQUIRE(expected.size() == 10);
  const std::string arena_before = read_file(path), journal_before = read_file(journal_of(path));
  {
    const auto arena = arena_file::open(path);
    CHECK(seen_in(arena) == expected);
    CHECK(rules_in(arena) == nothing);
    CHECK(rules_in(arena, inspect::severity::warning) == nothing);
    REQUIRE(arena.journal());
    CHECK(arena.journal()->condition == journal_condition::whole);
    CHECK(arena.journal()->shown_commit == 4);
    CHECK(arena.journal()->arena_commit == 1);
    CHECK(arena.journal()->commits_to_replay == 3);
    CHECK(arena.journal()->first_commit == 2);
    CHECK(arena.journal()->vouched_commit == 3);
    CHECK(arena.left() == inspect::left_state::killed);
  }
  const auto alone = arena_file::open(path, journal_use::ignore);
  CHECK(seen_in(alone).size() == 10);
  CHECK(seen_in(alone) != expected);
  CHECK_FALSE(alone.journal());
  CHECK(read_file(path) == arena_before);
  CHECK(read_file(journal_of(path)) == journal_before);
}

TEST_CASE("a durable map that was closed has no journal and needs none") {
  temporary_directory directory;
  const auto path = directory / "m";
  make_killed(path);
  map::open(path).close();
  const auto arena = arena_file::open(path);
  CHECK(arena.journal()->condition == journal_condition::not_needed);
  CHECK(arena.journal()->shown_commit == 4);
  CHECK(arena.left() == inspect::left_state::closed);
  CHECK(inspect::check(arena).findings.listed().empty());
}

TEST_CASE("while a writer commits and checkpoints, each look is at one whole commit, and stays there") {
  temporary_directory directory;
  const auto path = directory / "m";
  child_process writer = writer_at_full_speed(path);
  std::size_t mixed = 0, backwards = 0, faults = 0;
  std::int64_t last = 0;
  // Under the sanitizers a look takes so long that the journal grows with each: few, then.
  for (int i = 0; i < (sanitized ? 15 : 600); ++i) {
    const auto arena = arena_file::open(path);
    const auto first_look = seen_in(arena);
    for (const auto& [key, balance] : first_look) mixed += balance != first_look.begin()->second;
    mixed += first_look.size() != 100;
    faults += !inspect::check(arena).is_clean();
    mixed += seen_in(arena) != first_look;
    backwards += first_look.begin()->second < last;
    last = first_look.begin()->second;
  }
  CHECK(mixed == 0);
  CHECK(backwards == 0);
  CHECK(faults == 0);
  CHECK(last > 0);
}

TEST_CASE("what opening refuses is an error of the check, with the same reason and a rule of its own") {
  temporary_directory directory;
  const auto path = directory / "m", other = directory / "other";
  make_killed(path);
  make_killed(other);
  const auto refused = [&](const std::string& rule, journal_condition condition) {
    const auto arena = arena_file::open(path);
    CHECK(rules_in(arena).contains(rule));
    CHECK(arena.journal()->condition == condition);
    const auto why = error_of([&] { map::open(path); });
    REQUIRE(why);
    INFO(why->what() << " / " << arena.journal()->reason);
    CHECK(std::string(why->what()).find(arena.journal()->reason) != std::string::npos);
  };
  std::string journal = read_file(journal_of(path));
  SECTION("missing") {
    std::filesystem::remove(journal_of(path));
    refused("journal-missing", journal_condition::missing);
  }
  SECTION("another arena's") {
    write_file(journal_of(path), read_file(journal_of(other)));
    refused("journal-foreign", journal_condition::unusable);
  }
  SECTION("no journal") {
    write_file(journal_of(path), std::string(100'000, 'x'));
    refused("journal-magic", journal_condition::unusable);
  }
  SECTION("empty") {
    write_file(journal_of(path), "");
    refused("journal-header", journal_condition::unusable);
  }
  SECTION("a header with a wrong checksum") {
    const std::size_t place = read_at<std::uint64_t>(journal_of(path), 0) != 0 ? 0 : 4096;
    journal[place + 40] ^= 1;
    write_file(journal_of(path), journal);
    refused("journal-header", journal_condition::unusable);
  }
  SECTION("a newer format") {
    const std::size_t place = read_at<std::uint64_t>(journal_of(path), 0) != 0 ? 0 : 4096;
    auto header = read_at<dm::journal_header>(journal_of(path), place);
    header.format_version = 2;
    header.checksum = header.computed_checksum();
    write_at(journal_of(path), place, header);
    refused("journal-newer-format", journal_condition::unusable);
  }
  SECTION("a bit in the midst") {
    const std::size_t place = read_at<std::uint64_t>(journal_of(path), 0) != 0 ? 0 : 4096;
    const std::size_t first =
        journal.find("somebody", read_at<dm::journal_header>(journal_of(path), place).start_offset);
    journal[first] ^= 1;
    write_file(journal_of(path), journal);
    const auto arena = arena_file::open(path);
    refused("journal-damaged", journal_condition::damaged);
    CHECK(arena.journal()->shown_commit == 1);
  }
  SECTION("an older arena") {
    const std::string arena = read_file(path);
    in_killed_child([&] {
      static map m = map::open(path);
      for (int i = 0; i < 2; ++i) {
        m.checkpoint();
        m.insert(with_balance(10));
        m.commit();
      }
      m.checkpoint();
      m.insert(with_balance(10));
      m.commit();
    });
    write_file(path, arena);
    refused("journal-other-time", journal_condition::other_time);
  }
  SECTION("a directory") {
    std::filesystem::remove(journal_of(path));
    std::filesystem::create_directory(journal_of(path));
    CHECK(rules_in(arena_file::open(path)).contains("journal-unreadable"));
  }
  SECTION("a commit that changes what no commit changes") {
    const auto reseal = [&](const std::function<void(std::byte*)>& change) {
      // The first record of the only generation.
      const std::size_t place = read_at<std::uint64_t>(journal_of(path), 0) != 0 ? 0 : 4096;
      const auto header = read_at<dm::journal_header>(journal_of(path), place);
      const auto head = read_at<dm::journal_record>(journal_of(path), header.start_offset);
      std::span<std::byte> record(reinterpret_cast<std::byte*>(journal.data()) + header.start_offset, head.size_bytes);
      change(record.data());
      dm::seal_record(record);
    };
    reseal([](std::byte* record) {
      const std::uint64_t offset = 0;
      std::memcpy(record + sizeof(dm::journal_record), &offset, sizeof offset);
    });
    write_file(journal_of(path), journal);
    refused("journal-range", journal_condition::damaged);
  }
}

TEST_CASE("a record that was cut off is a note, and the commit before it is shown") {
  temporary_directory directory;
  const auto path = directory / "m";
  make_killed(path);
  const auto end = arena_file::open(path).journal()->generations.back().end_offset;
  // What a commit writes first, and then nothing.
  in_killed_child([&] {
    static map m = map::open(path);
    m.insert(with_balance(5));
    m.commit();
  });
  auto after = arena_file::open(path).journal();
  REQUIRE(after->shown_commit == 5);
  overwrite(journal_of(path), end + 100, std::string(40, '\x55'));
  const auto arena = arena_file::open(path);
  CHECK(arena.journal()->shown_commit == 4);
  CHECK(arena.journal()->is_torn);
  CHECK(rules_in(arena) == nothing);
  CHECK(rules_in(arena, inspect::severity::note).contains("journal-torn"));
}

TEST_CASE("slots that were given back are no fault, and the log says where the map ends") {
  temporary_directory directory;
  const auto path = directory / "m";
  const bool room_again = GENERATE(false, true), is_closed = GENERATE(false, true);
  in_killed_child([&] {
    static map m = map::create(path, {.max_slots = 1000});
    std::vector<dm::key> keys;
    for (int i = 0; i < 500; ++i) keys.push_back(m.insert(with_balance(i)));
    m.commit();
    m.checkpoint();
    for (int i = 100; i < 500; ++i) m.erase(keys[static_cast<std::size_t>(i)]);
    m.shrink_to_fit();
    m.commit();
    // Where there is room for them again, nothing is to be seen of them either.
    if (room_again) {
      m.reserve(600);
      m.commit();
    }
    if (is_closed) m.close();
  });
  const auto arena = arena_file::open(path);
  CHECK(rules_in(arena) == nothing);
  CHECK(rules_in(arena, inspect::severity::warning) == nothing);
  CHECK(seen_in(arena).size() == 100);
  if (is_closed) return;
  inspect::commit_reader reader(path, {});
  const auto* event = reader.next();
  REQUIRE(event != nullptr);
  CHECK(event->commit.slot_count == 100u);
  REQUIRE_FALSE(event->commit.changes.empty());
  CHECK(event->commit.changes.back().kind == change_kind::truncate);
  CHECK(event->commit.changes.back().slot == 100);
}

TEST_CASE("what happened to a slot is told by its versions before and after") {
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, {.max_slots = 100});
  inspect::commit_reader reader(path, {});
  const auto changes = [&] {
    m.commit();
    std::vector<std::string> found;
    const auto* event = reader.next();
    REQUIRE(event != nullptr);
    REQUIRE_FALSE(event->gap);
    for (const auto& change : event->commit.changes)
      found.push_back(std::string(to_string(change.kind)) + " " + std::to_string(change.slot) + ":" +
                      std::to_string(change.generation) + (change.value.empty() ? "" : " value"));
    CHECK(reader.next() == nullptr);
    return found;
  };
  using told = std::vector<std::string>;
  const dm::key a = m.insert(with_balance(1));
  CHECK(changes() == told{"insert 0:1 value"});
  m.at(a).balance = 2;
  CHECK(changes() == told{"update 0:1 value"});
  auto taken = m.detach(a);
  CHECK(changes() == told{"remove 0:1", "reserve 0:1"});
  m.insert(std::move(taken->second), with_balance(3));
  CHECK(changes() == told{"insert 0:1 value"});
  m.erase(a);
  CHECK(changes() == told{"remove 0:1"});
  auto h = m.allocate_handle();
  CHECK(changes() == told{"reserve 0:2"});
  m.release_handle(std::move(h));
  CHECK(changes() == told{"release 0:2"});
  const dm::key b = m.insert(with_balance(4));
  CHECK(changes() == told{"insert 0:3 value"});
  m.erase(b);
  m.insert(with_balance(5));
  CHECK(changes() == told{"remove 0:3", "insert 0:4 value"});
  m.erase(dm::key::from_parts(0, 4));
  m.erase(m.insert(with_balance(6)));
  CHECK(changes() == told{"remove 0:4", "skip 0:6"});
}

TEST_CASE("a reader with a pin misses nothing; one without is told what it missed") {
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, {.max_slots = 1000, .journal_bytes = 2000});
  const dm::key k = m.insert(with_balance(0));
  m.commit();
  const bool pin = GENERATE(true, false);
  std::uint64_t last = 0, gaps = 0, missed = 0;
  {
    inspect::commit_reader reader(path, {.pin = pin});
    const auto read_all = [&] {
      while (const auto* event = reader.next()) {
        if (event->gap) {
          ++gaps;
          CHECK(event->gap->after == last);
          missed += event->gap->next - last - 1;
          last = event->gap->next - 1;
        } else {
          CHECK(event->commit.number == last + 1);
          last = event->commit.number;
        }
      }
    };
    read_all();
    for (int round = 0; round < 6; ++round) {
      for (int i = 0; i < 300; ++i) {
        ++m.at(k).balance;
        m.commit(i % 10 == 0 ? dm::sync::now : dm::sync::later);
      }
      m.checkpoint();
      read_all();
      CHECK(last == m.last_commit());
      if (round % 2 == 0) {
        m.close();
        m = map::open(path, {.journal_bytes = 2000});
      }
    }
    CHECK((gaps == 0) == pin);
    CHECK((missed == 0) == pin);
  }
}

TEST_CASE("commits that may not be on the disk are kept back from who asks for that") {
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, {.max_slots = 1000});
  inspect::commit_reader reader(path, {.only_vouched = true}), eager(path, {});
  const auto all = [](inspect::commit_reader& of) {
    std::vector<std::uint64_t> found;
    while (const auto* event = of.next()) found.push_back(event->commit.number);
    return found;
  };
  for (int i = 0; i < 3; ++i) {
    m.insert(with_balance(i));
    m.commit(dm::sync::later);
  }
  CHECK(all(eager) == std::vector<std::uint64_t>{1, 2, 3});
  CHECK(all(reader).empty());
  m.insert(with_balance(3));
  m.commit();
  CHECK(all(reader).empty());  // nothing says so yet
  m.insert(with_balance(4));
  m.commit(dm::sync::later);
  CHECK(all(reader) == std::vector<std::uint64_t>{1, 2, 3, 4});
  CHECK(all(eager) == std::vector<std::uint64_t>{4, 5});
}
