// Repair of durable maps: an arena with faults beside its journal, a journal with faults, one that is missing; what is kept of
// which, and where it goes.
#include <cstring>
#include <functional>
#include <set>
#include <tuple>
#include <vector>

#include "accounts.hpp"
#include "catch.hpp"
#include "deferred_map/format/index_layout.hpp"
#include "deferred_map/format/journal.hpp"
#include "deferred_map/inspect.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

using namespace accounts;
using dm::inspect::arena_file;

namespace {

using contents = std::map<std::uint64_t, std::int64_t>;

/// A map of 200 accounts that was killed: half of what was done is in the arena, half in the journal alone. Balances are the
/// number of the account, and 1000 more after the first checkpoint.
struct killed_map {
  temporary_directory directory{temporary_directory::in_memory()};
  std::filesystem::path path = directory / "m", copy = directory / "copy";
  std::string arena, journal;
  contents expected;

  killed_map() {
    in_killed_child([&] {
      static map m = map::create(path, {.max_slots = 1000});
      std::vector<dm::key> keys;
      for (int i = 0; i < 250; ++i) keys.push_back(m.insert(with_balance(i)));
      for (std::size_t i = 200; i < 250; ++i) m.erase(keys[i]);
      m.commit();
      m.checkpoint();
      for (std::size_t i = 0; i < 100; ++i) {
        m.at(keys[i]).balance += 1000;
        if (i % 10 == 9) m.commit();
      }
      for (std::size_t i = 90; i < 100; ++i) m.erase(keys[i]);
      m.commit();
      m.insert(with_balance(-1));  // never committed
      (void)m.allocate_handle();
    });
    arena = read_file(path), journal = read_file(journal_of(path));
    expected = contents_of(map::open_read_only(path));
    REQUIRE(expected.size() == 190);
  }
  void put_back() const {
    write_file(path, arena), write_file(journal_of(path), journal);
    std::filesystem::remove(copy);
  }
  dm::arena_header header() const { return read_at<dm::arena_header>(path, 0); }
  std::size_t slot(std::size_t index) const {
    return header().slots_offset + index * std::size_t{header().slot_stride_bytes};
  }
  /// Of the arena with all its journal, before the file was damaged.
  bool is_unchanged() const { return read_file(path) == arena && read_file(journal_of(path)) == journal; }
};

std::set<std::string> rules_of(const dm::inspect::check_report& report) {
  std::set<std::string> found;
  for (const auto& each : report.findings.listed())
    if (each.level == dm::inspect::severity::error) found.emplace(each.rule);
  return found;
}

/// What can be done with a map that was mended: it opens without its journal, goes on, and survives a kill again.
contents opened_and_used(const std::filesystem::path& path) {
  CHECK_FALSE(std::filesystem::exists(journal_of(path)));
  contents found;
  std::uint64_t commit = 0;
  {
    map m = map::open(path, {.verify = true});
    CHECK(m.recovery().outcome == dm::recovery_outcome::clean);
    found = contents_of(m);
    commit = m.last_commit();
    m.close();
  }
  in_killed_child([&] {
    static map m = map::open(path);
    const dm::key k = m.insert(with_balance(77));
    if (found.contains(k.bits())) ::_exit(2);
    if (m.commit() != commit + 1) ::_exit(2);
  });
  map again = map::open(path, {.verify = true});
  CHECK(again.size() == found.size() + 1);
  again.close();
  return found;
}

}  // namespace

TEST_CASE("a durable map that was killed needs no repair") {
  const killed_map m;
  const auto report = dm::inspect::repair_to(arena_file::open(m.path), m.copy);
  CHECK_FALSE(report.is_needed);
  CHECK(report.before.is_clean());
  CHECK_FALSE(std::filesystem::exists(m.copy));
  CHECK(m.is_unchanged());
}

TEST_CASE("faults of a durable map's arena are mended, and the copy has the journal's commits without it") {
  const killed_map m;
  const dm::index_levels levels(m.header().slots_max);
  const auto bitmap = static_cast<std::size_t>(m.header().index_offset + levels.offset[0] * 8);
  // Places that the journal's commits do not write over.
  const std::tuple<const char*, std::string, std::size_t, std::string> faults[] = {
      {"version-impossible", "one slot lost", m.slot(150), std::string("\x02\0\0\0", 4)},
      {"index-taken-as-vacant", "", bitmap + 150 / 8, "\xff"},
      {"header-checksum", "", 64, "\xff"},
      {"header-kind", "", 50, "\x07"},
      {"schema-checksum", "", 512 + 20, "\x7f"},
  };
  for (const auto& [rule, lost, offset, bytes] : faults) {
    INFO(rule);
    m.put_back();
    std::string damaged(bytes);
    for (std::size_t i = 0; i < damaged.size() && std::string(rule) == "index-taken-as-vacant"; ++i)
      damaged[i] = static_cast<char>(~read_at<char>(m.path, offset + i));
    overwrite(m.path, offset, damaged);
    const std::string before = read_file(m.path);
    const auto report = dm::inspect::repair_to(arena_file::open(m.path), m.copy);
    INFO(report.refusal);
    if (std::string(rule) != "header-kind") CHECK(rules_of(report.before).contains(rule));
    REQUIRE(report.after);
    CHECK(report.is_clean());
    CHECK(read_file(m.path) == before);
    CHECK(read_file(journal_of(m.path)) == m.journal);
    contents expected = m.expected;
    if (!lost.empty()) std::erase_if(expected, [](const auto& entry) { return entry.second == 150; });
    CHECK(opened_and_used(m.copy) == expected);
    CHECK_FALSE(dm::inspect::plan_repair(arena_file::open(m.copy)).is_needed);
  }
}

TEST_CASE("what can be read of a journal with faults is kept, and a map without its journal opens again") {
  const killed_map m, other;
  const auto first =
      read_at<dm::journal_header>(journal_of(m.path), 4096 * (read_at<std::uint64_t>(journal_of(m.path), 0) == 0));
  struct {
    const char* rule;
    std::function<void()> damage;
    bool keeps_some;
  } const faults[] = {
      {"journal-missing", [&] { std::filesystem::remove(journal_of(m.path)); }, false},
      {"journal-foreign", [&] { write_file(journal_of(m.path), other.journal); }, false},
      {"journal-magic", [&] { write_file(journal_of(m.path), std::string(100'000, 'x')); }, false},
      {"journal-header", [&] { overwrite(journal_of(m.path), (first.generation % 2) * 4096 + 40, "\xff"); }, false},
      // Of the third commit or so; later ones say that it was on the disk.
      {"journal-damaged", [&] { overwrite(journal_of(m.path), first.start_offset + 3000, "\xff\xff"); }, true},
  };
  for (const auto& fault : faults) {
    INFO(fault.rule);
    m.put_back();
    fault.damage();
    CHECK(code_of([&] { map::open(m.path); }) == dm::errc::damaged);
    const auto report = dm::inspect::repair_to(arena_file::open(m.path), m.copy);
    CHECK(rules_of(report.before) == std::set<std::string>{fault.rule});
    for (const auto& found : report.before.findings.listed())
      if (found.rule == fault.rule) CHECK(found.repairable);
    REQUIRE(report.after);
    CHECK(report.is_clean());
    const contents found = opened_and_used(m.copy);
    // Of all commits up to some one: each account as it was before or after the first checkpoint.
    std::size_t later = 0;
    for (const auto& [bits, balance] : found) {
      const std::uint32_t index = dm::key::from_bits(bits).index();
      CHECK((balance == index || (index < 100 && balance == index + 1000)));
      later += balance >= 1000;
    }
    CHECK(found.size() == 200);  // the commit that erases ten is the last
    CHECK((fault.keeps_some ? later > 0 && later < 100 : later == 0));
  }
}

TEST_CASE("a closed durable map with damage is mended by itself") {
  temporary_directory directory(temporary_directory::in_memory());
  const auto path = directory / "m", copy = directory / "copy";
  contents expected;
  {
    map m = map::create(path, {.max_slots = 1000});
    for (int i = 0; i < 100; ++i) m.insert(with_balance(i));
    m.commit();
    expected = contents_of(m);
    m.close();
  }
  const auto header = read_at<dm::arena_header>(path, 0);
  const auto bitmap = static_cast<std::size_t>(header.index_offset + dm::index_levels(header.slots_max).offset[0] * 8);
  overwrite(path, bitmap, std::string(3, '\x55'));
  CHECK(error_of([&] { map::open_read_only(path, {.verify = true}); }).has_value());
  CHECK(dm::inspect::repair_to(arena_file::open(path), copy).is_clean());
  CHECK(opened_and_used(copy) == expected);
  // Nothing is lost of which keys were given out.
  map m = map::open(copy);
  CHECK(m.insert(with_balance(0)).generation() == 1);
}

TEST_CASE("keys that were given out in commits that are lost are not given out again") {
  temporary_directory directory(temporary_directory::in_memory());
  const auto path = directory / "m", copy = directory / "copy";
  in_killed_child([&] {
    static map m = map::create(path, {.max_slots = 1000});
    std::vector<dm::key> keys;
    for (int i = 0; i < 100; ++i) keys.push_back(m.insert(with_balance(i)));
    m.commit();
    m.checkpoint();
    for (const dm::key k : keys) {
      m.at(k).balance += 1000;
      m.commit();
    }
    for (int i = 0; i < 50; ++i)
      if (m.insert(with_balance(i)).generation() != 1) ::_exit(2);
    m.commit();
  });
  const auto generation_of = [](const std::filesystem::path& journal) {
    return std::max(read_at<dm::journal_header>(journal, 0).generation,
                    read_at<dm::journal_header>(journal, 4096).generation);
  };
  const std::uint64_t generation = generation_of(journal_of(path));
  bool knows_generation = false;
  SECTION("the journal is damaged") {
    knows_generation = true;
    const auto header = read_at<dm::journal_header>(journal_of(path), generation % 2 * 4096);
    overwrite(journal_of(path), header.start_offset + 3000, "\xff\xff");
  }
  SECTION("the journal is missing") { std::filesystem::remove(journal_of(path)); }
  REQUIRE(dm::inspect::repair_to(arena_file::open(path), copy).is_clean());
  map m = map::open(copy);
  CHECK(m.size() == 100);
  for (int i = 0; i < 100; ++i) CHECK(m.insert(with_balance(i)).generation() > 1);
  m.commit();
  // Nor does the new journal begin as one did of which something was read.
  CHECK(generation_of(journal_of(copy)) >= generation + knows_generation);
}

TEST_CASE("in place, the arena and its journal are both kept, and make up what there was") {
  const killed_map m;
  const auto first =
      read_at<dm::journal_header>(journal_of(m.path), 4096 * (read_at<std::uint64_t>(journal_of(m.path), 0) == 0));
  overwrite(journal_of(m.path), first.start_offset + 3000, "\xff\xff");
  const std::string journal = read_file(journal_of(m.path));
  const auto backup = m.directory / "m.bak";
  const auto why = [&](const std::filesystem::path& path) {
    const auto refused = error_of([&] { map::open_read_only(path); });
    return refused ? refused->code() : std::error_code();
  };
  const std::error_code before = why(m.path);
  CHECK(before == dm::errc::damaged);
  write_file(journal_of(backup), "in the way");
  CHECK(code_of([&] { dm::inspect::repair_in_place(m.path, backup); }) == dm::errc::exists);
  std::filesystem::remove(journal_of(backup));
  CHECK(read_file(m.path) == m.arena);

  CHECK(dm::inspect::repair_in_place(m.path, backup).is_clean());
  CHECK(read_file(backup) == m.arena);
  CHECK(read_file(journal_of(backup)) == journal);
  CHECK(why(backup) == before);
  const std::string mended = read_file(m.path);
  const contents found = opened_and_used(m.path);
  CHECK(found.size() == 200);

  // A kill before the old journal was removed: it is not believed, and the repair can be done again.
  write_file(m.path, mended);
  write_file(journal_of(m.path), journal);
  CHECK(error_of([&] { map::open(m.path); }).has_value());
  CHECK(read_file(m.path) == mended);
  CHECK(dm::inspect::repair_in_place(m.path, {}).is_clean());
  CHECK(opened_and_used(m.path) == found);
  // And so where the journal was whole.
  write_file(m.path, mended);
  write_file(journal_of(m.path), m.journal);
  CHECK(code_of([&] { map::open(m.path); }) == dm::errc::damaged);
}

TEST_CASE("where a journal has what cannot be read now, nothing is repaired without it") {
  const killed_map m;
  const std::size_t place = 4096 * (read_at<std::uint64_t>(journal_of(m.path), 0) == 0);
  auto header = read_at<dm::journal_header>(journal_of(m.path), place);
  SECTION("of a later version") {
    header.format_version = 2;
    header.checksum = header.computed_checksum();
    write_at(journal_of(m.path), place, header);
  }
  SECTION("that is no file") {
    std::filesystem::remove(journal_of(m.path));
    std::filesystem::create_directory(journal_of(m.path));
  }
  const auto report = dm::inspect::repair_to(arena_file::open(m.path), m.copy);
  CHECK(report.is_needed);
  CHECK(report.refusal.find("would be lost") != std::string::npos);
  CHECK_FALSE(report.after);
  CHECK_FALSE(std::filesystem::exists(m.copy));
  CHECK_FALSE(dm::inspect::repair_in_place(m.path, m.directory / "m.bak").after);
  CHECK(read_file(m.path) == m.arena);
}

TEST_CASE("a copy is not made beside a journal that is not its own, nor of a map in use") {
  const killed_map m;
  overwrite(m.path, m.slot(150), std::string("\x02\0\0\0", 4));
  write_file(journal_of(m.copy), "somebody's");
  CHECK(code_of([&] { dm::inspect::repair_to(arena_file::open(m.path), m.copy); }) == dm::errc::exists);
  std::filesystem::remove(journal_of(m.copy));
  const map writing = map::open(m.path);
  CHECK(code_of([&] { dm::inspect::repair_to(arena_file::open(m.path), m.copy); }) == dm::errc::in_use);
  CHECK(code_of([&] { dm::inspect::repair_in_place(m.path, {}); }) == dm::errc::in_use);
  CHECK_FALSE(std::filesystem::exists(m.copy));
}
