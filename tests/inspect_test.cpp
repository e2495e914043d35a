// The inspection says what is in a file and what is wrong with it, trusts nothing in it, and changes nothing.
#include <unistd.h>

#include <algorithm>
#include <boost/describe.hpp>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "catch.hpp"
#include "deferred_map/format/index_layout.hpp"
#include "deferred_map/inspect.hpp"
#include "deferred_map/mapped_map.hpp"
#include "failing_source.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

namespace inspect_types {

struct item {
  dm::key next;
  std::uint32_t n;
  float w;
  char name[8];
};
BOOST_DESCRIBE_STRUCT(item, (), (next, n, w, name))

struct large {
  std::uint64_t first;
  std::byte rest[100'000];
};

}  // namespace inspect_types

namespace {

using dm::inspect::arena_file;
using dm::inspect::key_state;
using dm::inspect::left_state;
using dm::inspect::severity;
using inspect_types::item;
using map = dm::mapped_map<item>;

item numbered(std::uint32_t n) {
  item made{};
  made.n = n;
  std::strcpy(made.name, "abc");
  return made;
}

/// 200 slots, of which 50 are vacant: some in the buffer, some in the bitmap.
std::filesystem::path make_file(const temporary_directory& directory) {
  const auto path = directory / "test.arena";
  map m = map::create(path, {.max_slots = 10'000});
  std::vector<dm::key> keys;
  for (std::uint32_t i = 0; i < 350; ++i) keys.push_back(m.insert(numbered(i)));
  for (std::uint32_t i = 199; i < 350; ++i) m.erase(keys[i]);  // past 128 the buffer spills
  for (std::uint32_t i = 0; i < 98; i += 2) m.erase(keys[i]);
  m.close();
  return path;
}

/// A file's bytes with its header and control block where they can be changed.
class editor {
 public:
  explicit editor(std::filesystem::path path) : path_(std::move(path)), bytes_(read_file(path_)) {
    std::memcpy(static_cast<void*>(&header), bytes_.data(), sizeof header);
    std::memcpy(static_cast<void*>(&control), &bytes_[header.control_offset], sizeof control);
  }
  dm::arena_header header;
  dm::control_block control;

  std::uint32_t version(std::size_t slot) const {
    std::uint32_t word;
    std::memcpy(&word, &bytes_[header.slots_offset + slot * header.slot_stride_bytes], sizeof word);
    return word;
  }
  void set_version(std::size_t slot, std::uint32_t word) {
    std::memcpy(&bytes_[header.slots_offset + slot * header.slot_stride_bytes], &word, sizeof word);
  }
  void flip_index_bit(unsigned level, std::size_t bit) {
    const dm::index_levels levels(header.slots_max);
    bytes_[header.index_offset + levels.offset[level] * 8 + bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
  bool in_buffer(std::uint32_t slot) const {
    return std::find(control.buffer, control.buffer + control.buffer_count, slot) !=
           control.buffer + control.buffer_count;
  }
  /// A vacant slot that is in the buffer, or not.
  std::uint32_t vacant_slot(bool buffered) const {
    for (std::uint32_t i = 0; i < control.slot_count; ++i)
      if (dm::version::is_vacant(version(i)) && in_buffer(i) == buffered) return i;
    FAIL("no such slot");
    return 0;
  }
  /// Sealed: the marks say that it was closed in this state.
  void save(bool sealed = true) {
    if (sealed) control.closed = control.synced = control.checksum();
    std::memcpy(bytes_.data(), &header, sizeof header);
    std::memcpy(&bytes_[header.control_offset], &control, sizeof control);
    write_file(path_, bytes_);
  }

 private:
  std::filesystem::path path_;
  std::string bytes_;
};

/// Rules broken at this severity.
std::set<std::string> rules(const dm::inspect::check_report& report, severity level = severity::error) {
  std::set<std::string> found;
  for (const auto& each : report.findings.listed())
    if (each.level == level) found.emplace(each.rule);
  return found;
}
std::set<std::string> errors_in(const std::filesystem::path& path) {
  return rules(dm::inspect::check(arena_file::open(path)));
}

using names = std::set<std::string>;

}  // namespace

TEST_CASE("a sound file has no findings, and its summary says what it holds") {
  temporary_directory directory;
  const auto path = make_file(directory);
  const std::string before = read_file(path);
  const auto arena = arena_file::open(path);
  const auto report = dm::inspect::check(arena);
  CHECK(report.findings.listed().empty());
  CHECK(report.is_complete);
  CHECK(report.occupied == 150);
  CHECK(report.slots_examined == 350);

  const auto s = dm::inspect::summarize(arena);
  CHECK(s.kind == "mapped_map");
  CHECK(s.type_name.find("item") != std::string::npos);
  CHECK(s.occupied == 150);
  CHECK(s.vacant == 200);
  CHECK(s.slots_max == 10'000);
  CHECK(s.uuid.size() == 36);
  CHECK(s.uuid[14] == '4');
  CHECK(s.left == left_state::closed);
  CHECK(s.is_synced);
  CHECK_FALSE(s.is_damaged);
  CHECK(s.owner_pid == static_cast<std::uint32_t>(::getpid()));
  CHECK(read_file(path) == before);
}

TEST_CASE("a file in use can be looked at, through a link too, and its user is named") {
  temporary_directory directory;
  const auto path = directory / "live.arena";
  map m = map::create(path, {.max_slots = 10'000});
  const dm::key k = m.insert(numbered(7));
  auto handle = m.allocate_handle();
  std::filesystem::create_symlink(path, directory / "link");
  for (const auto& name : {path, directory / "link"}) {
    const auto arena = arena_file::open(name);
    CHECK(arena.left() == left_state::open);
    CHECK(arena.locks().holders.find("process " + std::to_string(::getpid())) != std::string::npos);
    const auto found = dm::inspect::lookup(arena, {k.index(), k.generation()});
    CHECK(found.state == key_state::live);
    CHECK(dm::to_text(*arena.schema(), found.value) == "{next: null, n: 7, w: 0, name: \"abc\"}");
    CHECK(dm::inspect::lookup(arena, {handle.index(), handle.generation()}).state == key_state::reserved);
    CHECK(errors_in(name).empty());
  }
  // Nothing was locked: the map goes on, and another reader is refused by the map's lock alone.
  m.insert(numbered(8));
  m.close();
  map reader = map::open_read_only(path);
  CHECK(arena_file::open(path).locks().held == dm::inspect::lock_state::mode::reading);
  CHECK(arena_file::open(path).left() == left_state::closed);
}

TEST_CASE("a file whose user was killed has notes where recovery will mend it, and errors where it will not") {
  temporary_directory directory;
  const auto path = directory / "a.arena";
  const auto copy = directory / "killed.arena";
  map m = map::create(path, {.max_slots = 10'000});
  for (std::uint32_t i = 0; i < 100; ++i) m.insert(numbered(i));
  std::filesystem::copy_file(path, copy);

  SECTION("between two operations the counts are relied on") {
    CHECK(arena_file::open(copy).left() == left_state::killed);
    CHECK(errors_in(copy).empty());
    editor edit(copy);
    --edit.control.occupied;
    ++edit.control.vacant;
    edit.save(false);
    CHECK(errors_in(copy) == names{"count-occupied", "count-vacant"});
  }
  SECTION("within one they are not") {
    editor edit(copy);
    --edit.control.occupied;
    edit.flip_index_bit(0, 5);
    edit.save(false);
    const auto report = dm::inspect::check(arena_file::open(copy));
    CHECK(rules(report).empty());
    CHECK(rules(report, severity::note) ==
          names{"not-closed", "count-sum", "count-occupied", "index-taken-as-vacant", "index-summary"});
    CHECK(map::open(copy).size() == 100);
  }
  SECTION("an impossible version is an error always") {
    editor edit(copy);
    edit.set_version(17, dm::version::reserved(0));
    --edit.control.occupied;
    edit.save(false);
    CHECK(errors_in(copy) == names{"version-impossible"});
  }
  SECTION("another boot's mark without what reached the disk is a stop of the machine") {
    editor edit(copy);
    edit.control.boot_id ^= 1;
    edit.save(false);
    CHECK(arena_file::open(copy).left() == left_state::machine_stopped);
    CHECK(errors_in(copy) == names{"machine-stopped"});
  }
}

TEST_CASE("each rule finds what breaks it, and nothing else does") {
  temporary_directory directory;
  const auto path = make_file(directory);
  editor edit(path);
  const auto broken = [&] {
    edit.save();
    return errors_in(path);
  };
  const std::uint32_t buffered = edit.vacant_slot(true);
  const std::uint32_t listed = edit.vacant_slot(false);
  const std::uint32_t taken = 101;
  REQUIRE(dm::version::is_occupied(edit.version(taken)));

  SECTION("version 0b10") {
    edit.set_version(taken, edit.version(taken) - 1);
    CHECK(broken() == names{"version-impossible", "count-occupied"});
    CHECK(dm::inspect::lookup(arena_file::open(path), {taken, 1}).state == key_state::unreadable);
  }
  SECTION("a count") {
    ++edit.control.retired;
    --edit.control.vacant;
    CHECK(broken() == names{"count-retired", "count-vacant"});
  }
  SECTION("the sum") {
    ++edit.control.vacant;
    CHECK(broken() == names{"count-sum", "count-vacant", "closed-under-way"});
  }
  SECTION("a slot of zeros") {
    edit.set_version(listed, 0);
    CHECK(broken() == names{"slot-never-made"});
  }
  SECTION("bitmap: an occupied slot marked vacant") {
    edit.flip_index_bit(0, taken);
    CHECK(broken() == names{"index-taken-as-vacant", "index-summary"});
  }
  SECTION("bitmap: a vacant slot nowhere") {
    edit.flip_index_bit(0, listed);
    CHECK(broken().count("index-not-listed") == 1);
  }
  SECTION("bitmap: a slot in both") {
    edit.flip_index_bit(0, buffered);
    CHECK(broken().count("index-listed-twice") == 1);
  }
  SECTION("bitmap: behind the last slot") {
    edit.flip_index_bit(0, edit.control.slot_count);
    CHECK(broken().count("index-behind-last") == 1);
  }
  for (const unsigned level : {1u, 2u}) {
    DYNAMIC_SECTION("summary " << level) {
      edit.flip_index_bit(level, 0);
      CHECK(broken().count("index-summary") == 1);
    }
    DYNAMIC_SECTION("summary " << level << " behind the last slot") {
      edit.flip_index_bit(level, 63);
      CHECK(broken() == names{"index-summary"});
    }
  }
  SECTION("buffer: out of range") {
    edit.control.buffer[0] = 350;
    CHECK(broken() == names{"buffer-out-of-range", "index-not-listed"});
  }
  SECTION("buffer: occupied") {
    edit.control.buffer[0] = taken;
    CHECK(broken() == names{"buffer-not-vacant", "index-not-listed"});
  }
  SECTION("buffer: twice") {
    edit.control.buffer[0] = edit.control.buffer[1];
    CHECK(broken() == names{"buffer-duplicate", "index-not-listed"});
  }
  SECTION("buffer: too long") {
    edit.control.buffer_count = 129;
    CHECK(broken().count("buffer-too-long") == 1);
  }
  SECTION("an occupied slot behind the last") {
    edit.set_version(edit.control.slot_count + 1, dm::version::occupied(1));
    CHECK(broken() == names{"leftover-slot"});
  }
  SECTION("a vacant one past the floor is a warning, one up to it nothing") {
    edit.set_version(edit.control.slot_count + 1, dm::version::vacant(2));
    CHECK(broken().empty());
    CHECK(rules(dm::inspect::check(arena_file::open(path)), severity::warning) == names{"leftover-slot"});
    edit.control.generation_floor = 2;
    edit.save();
    CHECK(dm::inspect::check(arena_file::open(path)).findings.listed().empty());
  }
  SECTION("more slots than room") {
    edit.control.capacity = 300;
    CHECK(broken().count("count-over-capacity") == 1);
  }
  SECTION("more room than the maximum") {
    edit.control.capacity = 10'001;
    CHECK(broken().count("capacity-over-maximum") == 1);
  }
  SECTION("the floor") {
    edit.control.generation_floor = dm::version::last_generation + 1;
    CHECK(broken() == names{"generation-floor"});
  }
  SECTION("marks of what is under way") {
    edit.control.update_pending = 1;
    edit.control.update_index = 9'999;
    edit.control.recovering = 3;
    CHECK(broken() == names{"closed-under-way", "recovering-mark", "update-mark"});
  }
  SECTION("a change after closing") {
    edit.save();
    ++edit.control.buffer[0];
    edit.save(false);
    CHECK(errors_in(path).count("closed-mark") == 1);
    CHECK(errors_in(path).count("synced-mark") == 1);
  }
  SECTION("what nobody relies on is a warning") {
    edit.control.unused_counts[0] = 1;
    edit.control.last_recovery.outcome = 9;
    std::memset(edit.control.owner_program, 'x', sizeof edit.control.owner_program);
    CHECK(broken().empty());
    CHECK(rules(dm::inspect::check(arena_file::open(path)), severity::warning) ==
          names{"control-reserved", "recovery-record", "owner-program"});
  }
}

TEST_CASE("a file with a damaged header is shown as far as it can be") {
  temporary_directory directory;
  const auto path = make_file(directory);
  editor edit(path);
  const auto broken = [&] {
    edit.save(false);
    return errors_in(path);
  };
  SECTION("an offset that is wrong is computed anew") {
    edit.header.slots_offset += 4096;
    CHECK(broken() == names{"header-checksum", "header-layout"});
    CHECK(dm::inspect::check(arena_file::open(path)).occupied == 150);
  }
  SECTION("a byte that means little") {
    edit.header.uuid[3] ^= 1;
    CHECK(broken() == names{"header-checksum"});
  }
  SECTION("the magic number") {
    edit.header.magic[0] = 0;
    CHECK(broken() == names{"header-magic", "header-checksum"});
  }
  SECTION("impossible sizes leave nothing to go by") {
    edit.header.value_size_bytes = 0;
    edit.header.slots_max = 0;
    CHECK(broken() == names{"header-value", "header-slots-max", "header-checksum"});
    CHECK_FALSE(arena_file::open(path).has_layout());
    CHECK_FALSE(dm::inspect::check(arena_file::open(path)).is_complete);
  }
  SECTION("a later version is not judged") {
    edit.header.format_version = 2;
    edit.header.checksum = edit.header.computed_checksum();
    CHECK(broken() == names{"header-newer-format"});
    CHECK(arena_file::open(path).has_newer_format());
  }
  SECTION("the schema") {
    edit.save(false);
    overwrite(path, sizeof(dm::arena_header), "x");
    CHECK(errors_in(path) == names{"schema-checksum", "schema-undecodable"});
    CHECK(arena_file::open(path).schema_reason() == "there is no schema where one should be");
  }
}

TEST_CASE("a file cut short anywhere is said to be, and what is left of it is shown") {
  temporary_directory directory;
  const auto path = make_file(directory);
  const auto cut = directory / "cut.arena";
  const std::string whole = read_file(path);
  const editor edit(path);
  const std::uint64_t needed =
      edit.header.slots_offset + std::uint64_t{edit.control.capacity} * edit.header.slot_stride_bytes;
  std::vector<std::uint64_t> sizes{0, 1, 7, 8, 511, 512, 513, needed - 1};
  for (const std::uint64_t at :
       {edit.header.control_offset, edit.header.scratch_offset, edit.header.index_offset, edit.header.slots_offset})
    for (const std::uint64_t around : {at - 1, at, at + 1, at + 3, at + 4, at + 767, at + 768}) sizes.push_back(around);
  for (const std::uint64_t size : sizes) {
    INFO(size);
    write_file(cut, whole.substr(0, size));
    if (size < 8) {
      CHECK(code_of([&] { arena_file::open(cut); }) == dm::errc::not_an_arena);
      continue;
    }
    const auto arena = arena_file::open(cut);
    CHECK_FALSE(dm::inspect::check(arena).is_clean());
    if (!arena.has_layout()) continue;
    dm::inspect::slot_scan scan(arena, {}, dm::inspect::slot_parts::versions_and_values);
    std::uint32_t seen = 0;
    while (const auto* slot = scan.next()) {
      if (arena.schema()) dm::to_text(*arena.schema(), slot->value);
      ++seen;
    }
    CHECK(seen == arena.slot_count());
    CHECK(dm::inspect::lookup(arena, {349, 1}).state == (size == needed - 1 ? key_state::stale
                                                         : arena.control()  ? key_state::unreadable
                                                                            : key_state::no_such_slot));
  }
}

TEST_CASE("what opening with verify refuses is never clean, whichever byte was changed") {
  temporary_directory directory;
  const auto path = make_file(directory);
  const auto damaged = directory / "damaged.arena";
  const std::string whole = read_file(path);
  const editor edit(path);
  const auto seed = static_cast<unsigned>(std::random_device{}());
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const dm::index_levels levels(edit.header.slots_max);
  std::size_t refused = 0;
  for (int round = 0; round < 600; ++round) {
    std::string bytes = whole;
    // Where things are, and mostly with marks that agree with them.
    const std::uint64_t begin[] = {0, 512, edit.header.control_offset, edit.header.index_offset,
                                   edit.header.slots_offset};
    const std::uint64_t size[] = {512, edit.header.schema_size_bytes, 768, levels.words_total * 8,
                                  350 * edit.header.slot_stride_bytes};
    const std::size_t part = random() % 5;
    for (unsigned flips = random() % 2; flips < 2; ++flips)
      bytes[begin[part] + random() % size[part]] ^= static_cast<char>(1 + random() % 255);
    if (part == 0 && random() % 2 == 0) {
      dm::arena_header header;
      std::memcpy(static_cast<void*>(&header), bytes.data(), sizeof header);
      header.checksum = header.computed_checksum();
      std::memcpy(bytes.data(), &header, sizeof header);
    }
    write_file(damaged, bytes);
    if (part == 2 && random() % 4 != 0) editor(damaged).save();
    const auto error = error_of([&] { map::open_read_only(damaged, {.verify = true}); });
    refused += error.has_value();
    bool clean = true;
    const auto unusable = error_of([&] {
      const auto arena = arena_file::open(damaged);
      clean = dm::inspect::check(arena).is_clean();
      dm::inspect::summarize(arena);
      if (!arena.has_layout()) return;
      dm::inspect::slot_scan scan(arena, {}, dm::inspect::slot_parts::versions_and_values);
      while (const auto* slot = scan.next())
        if (arena.schema()) dm::to_text(*arena.schema(), slot->value);
    });
    // A type that reads as another one is no damage; everything else is.
    if (error && error->code() != dm::errc::type_mismatch && error->code() != dm::errc::wrong_kind) {
      INFO(error->what());
      CHECK((unusable || !clean));
    }
  }
  CHECK(refused > 200);
}

TEST_CASE("keys are looked up in every state of their slot") {
  temporary_directory directory;
  const auto path = directory / "keys.arena";
  map m = map::create(path, {.max_slots = 1000});
  const dm::key live = m.insert(numbered(1));
  dm::key old = m.insert(numbered(2));
  const dm::key first = old;
  for (int i = 0; i < 3; ++i) {
    m.erase(old);
    old = m.insert(numbered(3));
  }
  const dm::key gone = m.insert(numbered(4));
  m.erase(gone);
  const dm::key retired = m.insert(numbered(5));  // takes gone's slot
  m.close();
  editor edit(path);
  edit.set_version(retired.index(), dm::version::vacant(dm::version::retired_generation));
  edit.save();

  const auto arena = arena_file::open(path);
  const auto look = [&](std::uint32_t index, std::uint32_t generation) {
    return dm::inspect::lookup(arena, {index, generation});
  };
  CHECK(look(live.index(), live.generation()).state == key_state::live);
  CHECK(look(live.index(), live.generation()).to_string() == "live");
  CHECK(look(first.index(), first.generation()).state == key_state::stale);
  CHECK(look(first.index(), first.generation()).generations_apart == 3);
  CHECK(look(old.index(), old.generation() + 5).state == key_state::not_yet);
  CHECK(look(old.index(), old.generation() + 5).generations_apart == 5);
  CHECK(look(retired.index(), 2).state == key_state::retired);
  CHECK(look(500, 1).state == key_state::no_such_slot);

  CHECK(dm::inspect::parse_key_parts("3:1")->bits() == dm::key::from_parts(3, 1).bits());
  CHECK(dm::inspect::parse_key_parts("0x0000000700000003")->index == 3);
  for (const char* bad : {"", ":", "3", "3:", ":1", "3:0", "3:1x", " 3:1", "-3:1", "4294967296:1", "3:1073741823", "0x",
                          "0x3", "0x0000000500000003", "0x1ffffffffffffffff", "null"})
    CHECK_FALSE(dm::inspect::parse_key_parts(bad));
}

TEST_CASE("a scan gives the slots that match") {
  temporary_directory directory;
  const auto path = make_file(directory);
  const auto arena = arena_file::open(path);
  const auto count = [&](const dm::inspect::slot_filter& filter) {
    dm::inspect::slot_scan scan(arena, filter, dm::inspect::slot_parts::versions);
    std::size_t slots = 0;
    while (scan.next() != nullptr) ++slots;
    return slots;
  };
  using dm::inspect::slot_filter;
  CHECK(count({}) == 350);
  CHECK(count({.states = slot_filter::bit(dm::slot_state::occupied)}) == 150);
  CHECK(count({.index_begin = 10, .index_end = 20}) == 10);
  CHECK(count({.index_begin = 340, .index_end = 9'000}) == 10);
  CHECK(count({.index_begin = 9'000}) == 0);
  CHECK(count({.generation_min = 2}) == 200);
  CHECK(count({.generation_max = 1}) == 150);
}

TEST_CASE("values longer than what is read at once are whole") {
  temporary_directory directory;
  const auto path = directory / "large.arena";
  {
    auto m = dm::mapped_map<inspect_types::large>::create(path, {.max_slots = 64});
    auto value = std::make_unique<inspect_types::large>();
    for (std::uint64_t i = 0; i < 20; ++i) {
      value->first = i;
      value->rest[99'999] = std::byte(i);
      m.insert(*value);
    }
  }
  const auto arena = arena_file::open(path);
  CHECK(dm::inspect::check(arena).findings.listed().empty());
  dm::inspect::slot_scan scan(arena, {}, dm::inspect::slot_parts::versions_and_values);
  std::uint64_t expected = 0;
  while (const auto* slot = scan.next()) {
    REQUIRE(slot->value.size() == sizeof(inspect_types::large));
    std::uint64_t first;
    std::memcpy(&first, slot->value.data(), sizeof first);
    CHECK(first == expected);
    CHECK(slot->value[8 + 99'999] == std::byte(expected));
    ++expected;
  }
  CHECK(expected == 20);
}

TEST_CASE("what the medium cannot give is said, and the rest is shown") {
  temporary_directory directory;
  const std::string whole = read_file(make_file(directory));
  for (std::uint64_t page = 1; page < whole.size() / 4096; ++page) {
    INFO(page);
    const arena_file arena("medium", std::make_unique<failing_source>(whole, page));
    const auto report = dm::inspect::check(arena);
    const bool scratch = page * 4096 == arena.layout().scratch_offset;
    CHECK(rules(report).count("unreadable") == (scratch ? 0 : 1));
    if (page * 4096 == arena.layout().slots_offset) {
      CHECK_FALSE(report.is_complete);
      CHECK(report.slots_examined > 200);
      CHECK(dm::inspect::lookup(arena, {1, 1}).state == key_state::unreadable);
    }
  }
  CHECK_THROWS_AS(arena_file("medium", std::make_unique<failing_source>(whole, 0)), dm::error);
}

TEST_CASE("of a rule broken everywhere a few are listed and the rest is counted") {
  temporary_directory directory;
  const auto path = make_file(directory);
  editor edit(path);
  for (std::size_t i = 0; i < 350; ++i) edit.set_version(i, 0b10);
  edit.save();
  const auto report = dm::inspect::check(arena_file::open(path), {.listed_per_rule_max = 3});
  CHECK(report.impossible == 350);
  CHECK(report.findings.by_rule().at("version-impossible") == 350);
  CHECK(report.findings.not_listed() >= 347);
  CHECK(report.findings.listed().size() < 30);
}

TEST_CASE("a schema reads as C++") {
  temporary_directory directory;
  const std::string cpp = dm::inspect::to_cpp(*arena_file::open(make_file(directory)).schema());
  CHECK(cpp.find("item {") != std::string::npos);
  CHECK(cpp.find("  dm::key next;") != std::string::npos);
  CHECK(cpp.find("  std::uint32_t n;") != std::string::npos);
  CHECK(cpp.find("  char name[8];") != std::string::npos);
}

TEST_CASE("what is no arena is refused") {
  temporary_directory directory;
  CHECK(code_of([&] { arena_file::open(directory / "none"); }) == dm::errc::not_found);
  CHECK(code_of([&] { arena_file::open(directory.path()); }) == dm::errc::not_an_arena);
  write_file(directory / "text", std::string(5000, 'x'));
  CHECK(code_of([&] { arena_file::open(directory / "text"); }) == dm::errc::not_an_arena);
  std::filesystem::create_symlink(directory / "nowhere", directory / "link");
  CHECK(error_of([&] { arena_file::open(directory / "link"); }));
}
