// Files that say they have more than they have: a few pages of data, holes behind, and counts that make terabytes of them.
//
// What broke: opening asked the file system for every block that the control block spoke of, salvage for every byte of the
// file's size, and the inspection read the holes slot by slot.
#include <sys/stat.h>

#include <cstring>
#include <functional>

#include "catch.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/inspect.hpp"
#include "deferred_map/mapped_map.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

namespace {

using map = dm::mapped_map<std::uint64_t>;

constexpr std::uint32_t all_slots = 0xffff'ffffu;  // 64 GiB of them

std::uint64_t blocks_of(const std::filesystem::path& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

struct marks {
  bool closed = true;
  bool same_boot = true;
};

/// An arena of 100 values whose file is as long as its slots can ever be, and whose control block `change` changed.
template <class F>
std::filesystem::path long_file(const temporary_directory& directory, marks left, F change) {
  const auto path = directory / "m";
  std::filesystem::remove(path);
  {
    map m = map::create(path);
    for (std::uint64_t i = 0; i < 100; ++i) m.insert(i);
  }
  const auto header = read_at<dm::arena_header>(path, 0);
  REQUIRE(header.slots_max == all_slots);
  auto control = read_at<dm::control_block>(path, header.control_offset);
  change(control);
  control.closed = control.synced = left.closed ? control.checksum() : 0;
  if (!left.same_boot) control.boot_id ^= 1;
  write_at(path, header.control_offset, control);
  std::filesystem::resize_file(path, header.file_size_for(all_slots));
  return path;
}

void all_are_slots(dm::control_block& c) {
  c.slot_count = c.capacity = all_slots;
  c.occupied = all_slots - c.vacant - c.retired;
}

}  // namespace

TEST_CASE("slots that are holes are damage, and take no blocks") {
  temporary_directory directory;
  for (const bool closed : {true, false}) {
    const auto path = long_file(directory, {.closed = closed}, [&](dm::control_block& c) {
      all_are_slots(c);
      if (!closed) --c.occupied;  // something was under way: there is a pass over all slots to be made
    });
    const std::uint64_t blocks = blocks_of(path);
    for (int way = 0; way < 4; ++way) {
      if (way == 1 && closed) {  // it takes nothing and passes over nothing
        const map reading = map::open_read_only(path);
        std::size_t met = 0;
        for (const auto [key, value] : reading) met += value == key.index();
        CHECK(met == 100);
        continue;
      }
      const auto error = error_of([&] {
        if (way == 0) map::open(path);
        if (way == 1) map::open_read_only(path);
        if (way == 2) map::open(path, {.verify = true});
        if (way == 3) map::open_read_only(path, {.verify = true});
      });
      REQUIRE(error);
      CHECK(error->code() == dm::errc::damaged);
      CHECK(std::string(error->what()).find("holes") != std::string::npos);
    }
    CHECK(blocks_of(path) == blocks);
  }
}

TEST_CASE("room that is a hole is given up, and nothing else") {
  temporary_directory directory;
  for (const bool closed : {true, false}) {
    const auto path = long_file(directory, {.closed = closed}, [&](dm::control_block& c) {
      c.capacity = all_slots;
      if (!closed) --c.occupied;
    });
    CHECK(map::open_read_only(path).size() == 100);
    map m = map::open(path, {.verify = closed});
    CHECK(m.capacity() == 100);
    CHECK(m.size() == 100);
    CHECK(m.verify().empty());
    CHECK(blocks_of(path) < 16 << 20);
    for (std::uint64_t i = 100; i < 10'000; ++i) m.insert(i);
    CHECK(m.verify().empty());
    m.close();
    m = map::open(path);
    CHECK(m.recovery().outcome == dm::recovery_outcome::clean);
    CHECK(m.size() == 10'000);
    m.close();
    CHECK(dm::inspect::check(dm::inspect::arena_file::open(path)).is_clean());
  }
}

TEST_CASE("salvage takes the slots that have versions, and no blocks for holes behind them") {
  temporary_directory directory;
  const auto path = long_file(directory, {.closed = false, .same_boot = false}, all_are_slots);
  CHECK(map::open_read_only(path, {.salvage = true}).size() == 100);
  map m = map::open(path, {.salvage = true});
  CHECK(m.recovery().outcome == dm::recovery_outcome::salvaged);
  CHECK(m.size() == 100);
  CHECK(m.slot_count() == 100);
  CHECK(m.verify().empty());
  CHECK(blocks_of(path) < 16 << 20);
  m.close();
  CHECK(map::open(path).size() == 100);
}

TEST_CASE("salvage of slots that are holes up to one at the far end is refused, and changes nothing") {
  temporary_directory directory;
  const auto path = long_file(directory, {.closed = false, .same_boot = false}, all_are_slots);
  const auto header = read_at<dm::arena_header>(path, 0);
  write_at(path, header.slots_offset + std::uint64_t{all_slots - 1} * header.slot_stride_bytes, std::uint32_t{7});
  const auto control = read_at<dm::control_block>(path, header.control_offset);
  const std::uint64_t blocks = blocks_of(path);
  CHECK(code_of([&] { map::open(path, {.salvage = true}); }) == dm::errc::damaged);
  CHECK(code_of([&] { map::open_read_only(path, {.salvage = true}); }) == dm::errc::damaged);
  CHECK(blocks_of(path) == blocks);
  const auto after = read_at<dm::control_block>(path, header.control_offset);
  CHECK(std::memcmp(&after, &control, sizeof after) == 0);
}

// Blocks for the last page were asked for to its end, which made the file longer before it was refused.
TEST_CASE("a file that is refused when its slots have been looked at keeps its size") {
  temporary_directory directory;
  const auto path = directory / "m";
  {
    map m = map::create(path, {.max_slots = 1000});
    for (std::uint64_t i = 0; i < 100; ++i) m.insert(i);
  }
  const auto header = read_at<dm::arena_header>(path, 0);
  auto control = read_at<dm::control_block>(path, header.control_offset);
  control.closed = control.synced = 0;
  control.capacity = control.slot_count;
  --control.occupied;
  write_at(path, header.control_offset, control);
  write_at(path, header.slots_offset + 50 * header.slot_stride_bytes, dm::version::occupied(0));
  const std::uint64_t size = header.slots_offset + 100 * header.slot_stride_bytes;
  std::filesystem::resize_file(path, size);
  CHECK(code_of([&] { map::open(path); }) == dm::errc::damaged);
  CHECK(std::filesystem::file_size(path) == size);
}

TEST_CASE("repair gives up slots and room that are holes, and takes no blocks for them") {
  temporary_directory directory;
  const auto room = [](dm::control_block& c) { c.capacity = all_slots, --c.occupied; };
  for (const std::function<void(dm::control_block&)>& change : {std::function(room), std::function(all_are_slots)}) {
    const auto path = long_file(directory, {}, change), mended = directory / "mended";
    REQUIRE(dm::inspect::repair_to(dm::inspect::arena_file::open(path), mended).is_clean());
    CHECK(blocks_of(mended) < 16 << 20);
    CHECK(map::open(mended, {.verify = true}).size() == 100);
    std::filesystem::remove(mended);
  }
}

TEST_CASE("repair of slots that are holes up to one at the far end is refused, and takes no blocks") {
  temporary_directory directory;
  const auto path = long_file(directory, {.closed = false}, [](dm::control_block& c) { --c.occupied; });
  const auto header = read_at<dm::arena_header>(path, 0);
  write_at(path, header.slots_offset + (std::uint64_t{1} << 26) * header.slot_stride_bytes, std::uint32_t{7});
  CHECK(code_of([&] { dm::inspect::repair_to(dm::inspect::arena_file::open(path), directory / "mended"); }) ==
        dm::errc::damaged);
  CHECK_FALSE(std::filesystem::exists(directory / "mended"));
}

TEST_CASE("the inspection counts slots that are holes without reading them") {
  temporary_directory directory;
  const auto path = long_file(directory, {}, all_are_slots);
  const auto report = dm::inspect::check(dm::inspect::arena_file::open(path));
  CHECK_FALSE(report.is_clean());
  CHECK(report.is_complete);
  CHECK(report.slots_examined == all_slots);
  CHECK(report.occupied == 100);
  CHECK(report.findings.by_rule().at("slot-never-made") == all_slots - 100);
  CHECK(report.findings.listed().size() < 1000);

  // Nor does it follow the index of slots that the file ends before.
  std::filesystem::resize_file(path, read_at<dm::arena_header>(path, 0).file_size_for(100));
  const auto cut = dm::inspect::check(dm::inspect::arena_file::open(path));
  CHECK_FALSE(cut.is_clean());
  CHECK(cut.findings.by_rule().contains("file-cut-short"));
  CHECK_FALSE(cut.findings.by_rule().contains("index-summary"));
}
