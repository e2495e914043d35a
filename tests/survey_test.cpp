// Surveys and their pictures: the counts are those of the slots one by one, and no cell is wrong about its slots.
#include <cstring>
#include <map>
#include <random>

#include "catch.hpp"
#include "deferred_map/inspect.hpp"
#include "deferred_map/mapped_map.hpp"
#include "deferred_map/shared_map.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

namespace {

namespace inspect = dm::inspect;
using map = dm::mapped_map<std::uint64_t>;

/// What the slots are, one after the other.
std::vector<inspect::slot_view> all_slots(const inspect::arena_file& arena) {
  std::vector<inspect::slot_view> slots;
  inspect::slot_scan scan(arena, {}, inspect::slot_parts::versions);
  while (const inspect::slot_view* slot = scan.next()) slots.push_back(*slot);
  return slots;
}

bool is_hole(const inspect::slot_view& slot) { return slot.possible && slot.state() == dm::slot_state::vacant; }

/// Holds a survey against the slots.
void check_survey(const inspect::arena_file& arena, const inspect::survey& found) {
  const auto slots = all_slots(arena);
  REQUIRE(found.total.slots == slots.size());
  std::uint64_t next = 0;
  for (const inspect::slot_region& region : found.regions) {
    REQUIRE(region.first == next);
    inspect::slot_counts counts;
    for (; next < region.first + region.slots; ++next) {
      const auto& slot = slots[next];
      const auto state = slot.state();
      counts.impossible += !slot.possible;
      if (!slot.possible) continue;
      counts.occupied += state == dm::slot_state::occupied || state == dm::slot_state::updating;
      counts.updating += state == dm::slot_state::updating;
      counts.reserved += state == dm::slot_state::reserved;
      counts.cached += state == dm::slot_state::reserved && slot.auxiliary >> 31 != 0;
      counts.vacant += state == dm::slot_state::vacant;
      counts.never_used += slot.version == 0;
      counts.retired += state == dm::slot_state::retired;
    }
    CHECK(region.occupied == counts.occupied);
    CHECK(region.updating == counts.updating);
    CHECK(region.reserved == counts.reserved);
    CHECK(region.cached == counts.cached);
    CHECK(region.vacant == counts.vacant);
    CHECK(region.never_used == counts.never_used);
    CHECK(region.retired == counts.retired);
    CHECK(region.impossible == counts.impossible);
    CHECK(region.occupied + region.reserved + region.vacant + region.retired + region.impossible == region.slots);
  }
  CHECK(next == slots.size());

  std::map<std::uint64_t, std::uint64_t> holes;
  std::uint64_t generations = 0, greatest = 0;
  for (const inspect::slot_view& slot : slots) {
    if (!slot.possible || slot.version == 0) continue;
    ++generations;
    greatest = std::max<std::uint64_t>(greatest, slot.generation());
  }
  for (std::size_t i = 0, end = 0; i < slots.size(); i = end + 1) {
    for (end = i; end < slots.size() && is_hole(slots[end]);) ++end;
    if (end != i) ++holes[end - i];
  }
  CHECK(found.generations.count() == generations);
  CHECK(found.generations.max() == greatest);
  std::uint64_t runs = 0;
  for (const auto& [length, count] : holes) runs += count;
  CHECK(found.holes.count() == runs);
  if (runs == 0) return;
  CHECK(found.holes.min() == holes.begin()->first);
  CHECK(found.holes.max() == holes.rbegin()->first);
  std::uint64_t in_bars = 0;
  for (const inspect::histogram_bar& bar : found.holes.bars()) {
    std::uint64_t expected = 0;
    for (const auto& [length, count] : holes)
      if (length >= bar.low && length <= bar.high) expected += count;
    CHECK(bar.count == expected);
    in_bars += bar.count;
  }
  CHECK(in_bars == runs);
  for (std::uint64_t i = 0; i < found.holes.max(); ++i) CHECK(is_hole(slots[found.longest_hole_first + i]));
}

std::uint64_t count_of(const std::string& text, const std::string& what) {
  std::uint64_t count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE("a survey counts what the slots are, in regions of any size, on maps of random histories") {
  temporary_directory directory;
  std::mt19937 random(4711);
  for (int round = 0; round < 30; ++round) {
    INFO("round " << round);
    const auto path = directory / ("m" + std::to_string(round));
    map m = map::create(path, {.max_slots = 5000});
    std::vector<dm::key> keys;
    std::vector<dm::handle> handles;
    const auto slots = static_cast<std::uint32_t>(random() % 700);
    for (std::uint32_t i = 0; i < 3 * slots; ++i) {
      switch (random() % 8) {
        case 0:
          handles.push_back(m.allocate_handle());
          break;
        case 1:
          if (handles.empty()) break;
          m.release_handle(std::move(handles.back()));
          handles.pop_back();
          break;
        case 2:
        case 3:
        case 4:
          if (keys.empty()) break;
          std::swap(keys[random() % keys.size()], keys.back());
          m.erase(keys.back());
          keys.pop_back();
          break;
        default:
          keys.push_back(m.insert(i));
      }
    }
    const auto arena = inspect::arena_file::open(path);
    for (const std::uint64_t regions : {1u, 2u, 7u, 64u, 100'000u}) {
      const auto found = inspect::take_survey(arena, {.regions = regions});
      CHECK(found.regions.size() <= std::max<std::uint64_t>(regions, 1));
      check_survey(arena, found);
    }
    for (dm::handle& handle : handles) m.release_handle(std::move(handle));
  }
}

TEST_CASE("slots that cannot be are counted as such, and end a hole") {
  temporary_directory directory;
  const auto path = directory / "m";
  {
    map m = map::create(path, {.max_slots = 100});
    for (std::uint64_t i = 0; i < 20; ++i) m.insert(i);
    for (std::uint32_t i = 4; i < 12; ++i) m.erase(dm::key::from_parts(i, 1));
  }
  const auto header = read_at<dm::arena_header>(path, 0);
  write_at(path, header.slots_offset + 7 * header.slot_stride_bytes, std::uint32_t{6});  // updating, in a mapped map
  const auto arena = inspect::arena_file::open(path);
  const auto found = inspect::take_survey(arena, {.regions = 5});
  check_survey(arena, found);
  CHECK(found.total.impossible == 1);
  CHECK(found.holes.count() == 2);
  CHECK(found.holes.max() == 4);
  CHECK(found.longest_hole_first == 8);
  const std::string picture = inspect::picture_text(found, {5, 1}, {});
  CHECK(picture == " 0  #!.##\n");
}

TEST_CASE("slots that are a hole in the file are vacant, however many there are, and not read one by one") {
  temporary_directory directory;
  const auto path = directory / "m";
  {
    map m = map::create(path);
    for (std::uint64_t i = 0; i < 100; ++i) m.insert(i);
  }
  const auto header = read_at<dm::arena_header>(path, 0);
  auto control = read_at<dm::control_block>(path, header.control_offset);
  control.slot_count = control.capacity = 0xffff'ffffu;
  control.closed = control.synced = control.checksum();
  write_at(path, header.control_offset, control);
  std::filesystem::resize_file(path, header.file_size_for(0xffff'ffffu));
  const auto arena = inspect::arena_file::open(path);
  const auto found = inspect::take_survey(arena, {.regions = 1000});
  CHECK(found.total.slots == 0xffff'ffffu);
  CHECK(found.total.occupied == 100);
  CHECK(found.total.vacant == 0xffff'ffffu - 100);
  CHECK(found.regions[0].occupied == 100);
  std::uint64_t next = 0;
  for (const inspect::slot_region& region : found.regions) {
    CHECK(region.first == next);
    CHECK(region.slots == std::min(found.slots_per_region, 0xffff'ffffu - next));
    CHECK(region.vacant + region.occupied == region.slots);
    next += region.slots;
  }
  CHECK(next == 0xffff'ffffu);
  CHECK(found.holes.count() == 1);
  CHECK(found.holes.max() == 0xffff'ffffu - 100);
  CHECK(found.longest_hole_first == 100);
}

TEST_CASE("of a shared map, slots that are kept ready are told from those of handles, and updates are counted") {
  temporary_directory directory;
  const auto path = directory / "m";
  auto m = dm::shared_map<std::uint64_t>::create(path, {.max_slots = 100'000});
  const dm::key changed = m.insert(1);
  m.insert(2);
  for (int i = 0; i < 5; ++i) m.update(changed, [](std::uint64_t& n) { ++n; });
  auto handle = m.allocate_handle();
  const auto arena = inspect::arena_file::open(path);
  const auto found = inspect::take_survey(arena, {.regions = 64});
  check_survey(arena, found);
  CHECK(found.total.occupied == 2);
  CHECK(found.total.reserved - found.total.cached == 1);
  CHECK(found.total.cached > 0);
  CHECK(found.updates.count() == 2);
  CHECK(found.updates.max() == 5);
  CHECK(found.updates.min() == 0);
  m.release_handle(std::move(handle));
}

TEST_CASE("a picture has a cell for each region, in rows that fit, and words for what is in it") {
  inspect::survey drawn;
  drawn.slots_per_region = 10;
  for (std::uint64_t i = 0; i < 25; ++i) {
    inspect::slot_region region;
    region.first = i * 10;
    region.slots = 10;
    region.occupied = i % 11;
    region.vacant = 10 - region.occupied;
    drawn.total.add(region);
    drawn.regions.push_back(region);
  }
  CHECK(inspect::picture_text(drawn, {11, 3}, {}) == "  0  .:::+++***#\n110  .:::+++***#\n220  .::\n");
  CHECK(inspect::picture_text(drawn, {11, 3}, {.unicode = true}) == "  0  ·░░░▒▒▒▓▓▓█\n110  ·░░░▒▒▒▓▓▓█\n220  ·░░\n");
  drawn.regions[5].reserved = 1;
  drawn.regions[6].retired = 1;
  drawn.regions[7].cached = drawn.regions[7].reserved = 2;
  drawn.regions[8].cached = drawn.regions[8].reserved = 6;
  drawn.regions[9].unreadable = 1;
  CHECK(inspect::picture_text(drawn, {11, 1}, {}).starts_with("  0  .:::+rx*c?#\n"));
  CHECK(inspect::described(drawn.regions[5]) == "slots 50 to 59: 5 occupied, 1 reserved, 5 vacant");
  for (const auto colours : {inspect::palette::sixteen, inspect::palette::many, inspect::palette::all}) {
    const std::string text = inspect::picture_text(drawn, {25, 1}, {.colours = colours});
    CHECK(count_of(text, "\x1b[0m") >= 9);
    CHECK(text.ends_with("\x1b[0m\n"));
  }
  const std::string svg = inspect::picture_svg(drawn, 10, "a<b>&\"c\"\x1b");
  CHECK(count_of(svg, "<title>") == 25);
  CHECK(svg.find("a&lt;b&gt;&amp;&quot;c&quot; <") != std::string::npos);

  for (const std::size_t columns : {1u, 10u, 40u, 79u, 80u, 132u, 300u})
    for (const std::uint64_t slots : {0ull, 1ull, 999ull, 4'000'000'000ull}) {
      const auto grid = inspect::grid_for(slots, columns, 7);
      CHECK(grid.rows == 7);
      CHECK(grid.cells_in_row >= 1);
      if (columns > 20) CHECK(grid.cells_in_row + 2 <= columns);
    }
}

TEST_CASE("bars are as long as their share, and never nothing where there is something") {
  CHECK(inspect::bar_text(0, 40, true).empty());
  CHECK(inspect::bar_text(0.00001, 40, true) == "▏");
  CHECK(inspect::bar_text(0.00001, 40, false) == "#");
  CHECK(inspect::bar_text(0.5, 4, true) == "██");
  CHECK(inspect::bar_text(0.5, 4, false) == "##");
  CHECK(inspect::bar_text(0.625, 2, true) == "█▎");
  CHECK(inspect::bar_text(7, 3, true) == "███");
  CHECK(inspect::bar_text(-1, 3, true).empty());
}
