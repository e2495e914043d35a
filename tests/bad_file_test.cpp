// Files that are no arenas, or no longer: each is refused with the right errc, a message that says what to
// do, and not one byte changed.
#include <sys/stat.h>
#include <unistd.h>

#include <boost/describe.hpp>
#include <cstring>
#include <random>

#include "catch.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/mapped_map.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

namespace {

struct order {
  dm::key customer;
  double price;
  std::int32_t amount;
};
BOOST_DESCRIBE_STRUCT(order, (), (customer, price, amount))

namespace later {
struct order {
  dm::key customer;
  float price;
  std::int32_t amount;
};
BOOST_DESCRIBE_STRUCT(order, (), (customer, price, amount))
}  // namespace later

using map = dm::mapped_map<order>;

/// Opening in every way gives `expected`, and the file stays as it is.
void is_refused(const std::filesystem::path& path, std::error_code expected, const std::string& hint = {}) {
  const std::string before = read_file(path);
  for (int way = 0; way < 3; ++way) {
    const auto error = error_of([&] {
      if (way == 0) map::open(path);
      if (way == 1) map::open_or_create(path);
      if (way == 2) map::open_read_only(path);
    });
    REQUIRE(error);
    CHECK(error->code() == expected);
    CHECK(std::string(error->what()).find(path.string()) == 0);
    CHECK(std::string(error->what()).find(hint) != std::string::npos);
  }
  CHECK(read_file(path) == before);
}

/// A small arena with a few hundred slots, closed.
std::filesystem::path sound_arena(const temporary_directory& directory) {
  const auto path = directory / "sound";
  map m = map::create(path, {.max_slots = 1000});
  for (int i = 0; i < 300; ++i) m.insert({{}, i * 0.5, i});
  m.erase(dm::key::from_parts(7, 1));
  m.close();
  return path;
}

dm::arena_header header_of(const std::string& bytes) {
  dm::arena_header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  return header;
}

}  // namespace

TEST_CASE("a file that is something else is not_an_arena") {
  temporary_directory directory;
  write_file(directory / "text", "Dear diary, today I mapped a file and it was not an arena at all.\n");
  is_refused(directory / "text", dm::errc::not_an_arena);
  write_file(directory / "empty", "");
  is_refused(directory / "empty", dm::errc::not_an_arena, "empty");
  write_file(directory / "zeros", std::string(100'000, '\0'));
  is_refused(directory / "zeros", dm::errc::not_an_arena);
  write_file(directory / "elf", read_file("/proc/self/exe").substr(0, 70'000));
  is_refused(directory / "elf", dm::errc::not_an_arena);
}

TEST_CASE("what is no regular file is refused at once") {
  temporary_directory directory;
  std::filesystem::create_directory(directory / "directory");
  CHECK(code_of([&] { map::open(directory / "directory"); }) == dm::errc::not_an_arena);
  CHECK(code_of([&] { map::open_read_only(directory / "directory"); }) == dm::errc::not_an_arena);
  REQUIRE(::mkfifo((directory / "fifo").c_str(), 0600) == 0);
  CHECK(code_of([&] { map::open(directory / "fifo"); }) == dm::errc::not_an_arena);
  CHECK(code_of([&] { map::open_read_only(directory / "fifo"); }) == dm::errc::not_an_arena);
  CHECK(code_of([&] { map::open("/dev/zero"); }) == dm::errc::not_an_arena);
  const auto sound = sound_arena(directory);
  std::filesystem::create_symlink(sound, directory / "link");
  const auto error = error_of([&] { map::open(directory / "link"); });
  REQUIRE(error);
  CHECK(std::string(error->what()).find("symbolic link") != std::string::npos);
  CHECK(code_of([&] { map::open(directory / "nothing"); }) == dm::errc::not_found);
  CHECK(code_of([&] { map::open(sound / "below"); }) == dm::errc::not_found);
}

TEST_CASE("a file cut short at any length is refused") {
  temporary_directory directory;
  const auto path = sound_arena(directory);
  const std::string whole = read_file(path);
  const dm::arena_header header = header_of(whole);
  const std::size_t needed = header.slots_offset + 300 * header.slot_stride_bytes;
  std::vector<std::size_t> lengths;
  for (std::size_t length = 0; length < 600; ++length) lengths.push_back(length);
  for (std::size_t length = 600; length < needed; length += 997) lengths.push_back(length);
  for (const std::uint64_t edge :
       {header.control_offset, header.scratch_offset, header.index_offset, header.slots_offset, std::uint64_t{needed}})
    for (const std::uint64_t length : {edge - 1, edge})
      if (length < needed) lengths.push_back(length);
  const auto cut = directory / "cut";
  for (const std::size_t length : lengths) {
    write_file(cut, whole.substr(0, length));
    const std::error_code expected = length == 0 ? dm::errc::not_an_arena : dm::errc::damaged;
    REQUIRE(code_of([&] { map::open(cut); }) == expected);
    REQUIRE(code_of([&] { map::open_read_only(cut); }) == expected);
    REQUIRE(std::filesystem::file_size(cut) == length);
  }
  write_file(cut, whole.substr(0, needed - 1));
  is_refused(cut, dm::errc::damaged, "cut short");
}

TEST_CASE("any bit flipped in header or schema is refused") {
  temporary_directory directory;
  const auto path = sound_arena(directory);
  const std::string whole = read_file(path);
  const dm::arena_header header = header_of(whole);
  std::mt19937 random(1);
  for (std::size_t offset = 0; offset < header.control_offset; ++offset) {
    // Every byte of header and schema, and some of the zeros behind them.
    if (offset > header.schema_offset + header.schema_size_bytes && offset % 61 != 0) continue;
    const auto bit = static_cast<unsigned char>(1u << (random() % 8));
    overwrite(path, offset, std::string(1, static_cast<char>(whole[offset] ^ bit)));
    const std::error_code code = code_of([&] { map::open(path); });
    const bool in_magic = offset < 8;
    const bool in_version = offset >= 8 && offset < 12;
    INFO("byte " << offset << " code " << code);
    if (in_magic)
      REQUIRE(code == dm::errc::not_an_arena);
    else if (in_version)
      REQUIRE((code == dm::errc::newer_format || code == dm::errc::damaged));
    else
      REQUIRE(code == dm::errc::damaged);
    overwrite(path, offset, whole.substr(offset, 1));
  }
  CHECK(read_file(path) == whole);
  CHECK(map::open_read_only(path).size() == 299);
}

TEST_CASE("any bit flipped in the control block of a closed arena is refused or harmless") {
  temporary_directory directory;
  const auto path = sound_arena(directory);
  const std::string whole = read_file(path);
  const dm::arena_header header = header_of(whole);
  std::mt19937 random(2);
  for (std::size_t byte = 0; byte < sizeof(dm::control_block); ++byte) {
    const std::size_t offset = header.control_offset + byte;
    const auto bit = static_cast<unsigned char>(1u << (random() % 8));
    overwrite(path, offset, std::string(1, static_cast<char>(whole[offset] ^ bit)));
    const std::string flipped = read_file(path);
    std::size_t size = 0;
    const std::error_code code = code_of([&] { size = map::open_read_only(path).size(); });
    INFO("byte " << byte << " code " << code);
    // Who had it open last, and when, is for people; everything else is vouched for by the marks.
    const bool for_people = byte < 8 || (byte >= 24 && byte < 64);
    if (for_people) {
      REQUIRE(!code);
      REQUIRE(size == 299);
    } else {
      REQUIRE(code == dm::errc::damaged);
    }
    REQUIRE(read_file(path) == flipped);
    overwrite(path, offset, whole.substr(offset, 1));
  }
}

TEST_CASE("a version no operation leaves is found when the file is recovered or verified") {
  temporary_directory directory;
  const auto path = sound_arena(directory);
  const dm::arena_header header = header_of(read_file(path));
  overwrite(path, header.slots_offset + 100 * header.slot_stride_bytes, std::string("\x03\0\0\0", 4));
  const std::string before = read_file(path);
  const auto error = error_of([&] { map::open(path, {.verify = true}); });
  REQUIRE(error);
  CHECK(error->code() == dm::errc::damaged);
  CHECK(std::string(error->what()).find("slot 100") != std::string::npos);
  CHECK(read_file(path) == before);

  // As a kill leaves it: the marks cleared, an operation under way.
  std::string killed = before;
  dm::control_block control;
  std::memcpy(&control, killed.data() + header.control_offset, sizeof control);
  control.closed = control.synced = 0;
  control.occupied -= 1;
  std::memcpy(killed.data() + header.control_offset, &control, sizeof control);
  write_file(path, killed);
  is_refused(path, dm::errc::damaged, "slot 100");
}

TEST_CASE("counts that cannot be are refused even in a file that was not closed") {
  temporary_directory directory;
  const auto path = sound_arena(directory);
  const std::string whole = read_file(path);
  const dm::arena_header header = header_of(whole);
  const auto refused = [&](auto change) {
    dm::control_block control;
    std::memcpy(&control, whole.data() + header.control_offset, sizeof control);
    control.closed = control.synced = 0;
    change(control);
    overwrite(path, header.control_offset, {reinterpret_cast<const char*>(&control), sizeof control});
    is_refused(path, dm::errc::damaged);
  };
  refused([](dm::control_block& c) { c.slot_count = c.capacity + 1; });
  refused([](dm::control_block& c) { c.capacity = 0xffff'ffffu; });
  refused([](dm::control_block& c) { c.capacity = 1'000'000; });
  refused([](dm::control_block& c) { c.buffer_count = 129; });
  refused([](dm::control_block& c) { c.generation_floor = 0xffff'ffffu; });
}

TEST_CASE("an index that lies is found out, and never costs a value") {
  temporary_directory directory;
  std::mt19937_64 random(3);
  for (int round = 0; round < 200; ++round) {
    const auto path = directory / "m";
    std::vector<std::pair<dm::key, int>> live;
    {
      map m = map::create(path, {.max_slots = 100'000});
      for (int i = 0; i < 5000; ++i) live.emplace_back(m.insert({{}, 0, i}), i);
      for (int i = 0; i < 1000; ++i) {
        const std::size_t victim = random() % live.size();
        m.erase(live[victim].first);
        live[victim] = live.back();
        live.pop_back();
      }
    }
    const dm::arena_header header = header_of(read_file(path));
    for (int i = 0; i < 20; ++i) {
      const std::uint64_t word = random();
      overwrite(path, header.index_offset + random() % 98 * 8, {reinterpret_cast<const char*>(&word), 8});
    }
    map m = map::open(path);
    for (int i = 0; i < 1500; ++i) {
      const dm::key k = m.insert({{}, 0, 10'000 + i});
      live.emplace_back(k, 10'000 + i);
    }
    for (const auto& [k, amount] : live) {
      REQUIRE(m.contains(k));
      REQUIRE(m[k].amount == amount);
    }
    m.close();
    std::filesystem::remove(path);
  }
}

TEST_CASE("counts that lie are mended by the first insert that finds out") {
  temporary_directory directory;
  const auto path = sound_arena(directory);
  const auto header = read_at<dm::arena_header>(path, 0);
  auto control = read_at<dm::control_block>(path, header.control_offset);
  control.vacant += 5;  // the sum still holds, and the mark vouches for it
  control.occupied -= 5;
  control.closed = control.synced = control.checksum();
  write_at(path, header.control_offset, control);
  map m = map::open(path);
  for (int i = 0; i < 10; ++i) m.insert({{}, 0, i});
  CHECK(m.size() == 309);
  CHECK(m.verify().empty());
}

TEST_CASE("a slot that exists without a generation is given one before it is used") {
  temporary_directory directory;
  const auto path = sound_arena(directory);
  const auto header = read_at<dm::arena_header>(path, 0);
  write_at(path, header.slots_offset + 7 * header.slot_stride_bytes, std::uint32_t{0});  // slot 7 is the vacant one
  map m = map::open(path);
  const dm::key k = m.insert({{}, 0, 1});
  CHECK(k.index() == 7);
  CHECK(k.generation() == 1);
  CHECK(m.contains(k));
}

TEST_CASE("another type is refused, and the message names the first field that differs") {
  temporary_directory directory;
  const auto path = sound_arena(directory);
  const std::string before = read_file(path);
  const auto error = error_of([&] { dm::mapped_map<later::order>::open(path); });
  REQUIRE(error);
  CHECK(error->code() == dm::errc::type_mismatch);
  CHECK(code_of([&] { dm::mapped_map<std::uint64_t>::open(path); }) == dm::errc::type_mismatch);
  CHECK(code_of([&] { dm::mapped_map<std::uint64_t>::open_or_create(path); }) == dm::errc::type_mismatch);
  CHECK(read_file(path) == before);
}

TEST_CASE("an arena of another kind, a newer format and another byte order say so") {
  temporary_directory directory;
  const auto path = sound_arena(directory);
  const std::string whole = read_file(path);
  const auto with = [&](auto change) {
    dm::arena_header header = header_of(whole);
    change(header);
    header.checksum = header.computed_checksum();
    overwrite(path, 0, {reinterpret_cast<const char*>(&header), sizeof header});
  };
  with([](dm::arena_header& h) { h.kind = static_cast<std::uint32_t>(dm::arena_kind::durable); });
  is_refused(path, dm::errc::wrong_kind, "durable_map");
  with([](dm::arena_header& h) { h.format_version = 2; });
  is_refused(path, dm::errc::newer_format, "version 2");
  with([](dm::arena_header& h) { h.incompatible_features = 8; });
  is_refused(path, dm::errc::newer_format);
  with([](dm::arena_header& h) { h.byte_order = 0x0102'0304; });
  is_refused(path, dm::errc::not_an_arena, "big-endian");
  with([](dm::arena_header& h) { h.compatible_features = 8; });
  CHECK(map::open_read_only(path).size() == 299);
  with([](dm::arena_header& h) { h.slots_offset += 4096; });
  is_refused(path, dm::errc::damaged);
  with([](dm::arena_header& h) { h.slot_stride_bytes = 0; });
  is_refused(path, dm::errc::damaged);
  with([](dm::arena_header& h) { h.value_size_bytes = 0xffff'ffff; });
  is_refused(path, dm::errc::damaged);
  with([](dm::arena_header& h) { h.schema_size_bytes = 1ull << 60; });
  is_refused(path, dm::errc::damaged);
}
