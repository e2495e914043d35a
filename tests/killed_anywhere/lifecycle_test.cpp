// Making, recovering and salvaging a file, killed at every instruction.
#include <sys/stat.h>

#include <cstdio>
#include <cstring>
#include <optional>
#include <string>

#include "../catch.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "memory_directory.hpp"
#include "scene.hpp"
#include "single_step.hpp"
#include "story.hpp"

namespace {

using namespace killed;
using map = dm::mapped_map<std::uint64_t>;

const std::vector<std::uint64_t> nobody_was_told;

template <class Change>
std::string with_control(std::string bytes, Change change) {
  dm::arena_header header;
  dm::control_block control;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::memcpy(&control, bytes.data() + header.control_offset, sizeof control);
  change(control, header, bytes);
  std::memcpy(bytes.data() + header.control_offset, &control, sizeof control);
  return bytes;
}

/// What a process leaves that is killed when `work` has been done.
template <class F>
std::string killed_after(const std::filesystem::path& path, F work) {
  std::filesystem::remove(path);
  map m = map::create(path, {.max_slots = 400, .sync_on_close = false});
  work(m);
  return read_file(path);
}

}  // namespace

TEST_CASE("killed at any instruction of its making, a file is not there at all, or whole") {
  if (sanitized && !exhaustive()) return;  // a million instructions
  memory_directory directory;
  const auto path = directory / "m";
  std::uint64_t unnamed = 0;
  const stepped steps = single_step(
      path, [] {}, [&] { map::create(path, {.max_slots = 400, .reserve_slots = 10}); },
      [&] {
        if (::access(path.c_str(), F_OK) == 0) return;
        ++unnamed;
        if (unnamed % 64 == 0 && !std::filesystem::is_empty(directory.path()))
          FAIL("there is something that is not the file");
      });
  judge<std::uint64_t> judging(directory / "judged", nobody_was_told, {});
  for (const image& killed : steps.images) CHECK(judging.examine(killed).empty());
  CHECK(unnamed > 1000);
  CHECK(judging.counts().images >= 2);
  std::printf("create: %llu instructions, %llu of them before the file has its name, %llu images\n",
              static_cast<unsigned long long>(steps.instructions), static_cast<unsigned long long>(unnamed),
              static_cast<unsigned long long>(judging.counts().images));
}

TEST_CASE("no instruction of a recovery leaves an image that was not recovered from") {
  if (sanitized && !exhaustive()) return;
  memory_directory directory;
  const auto path = directory / "m";
  const std::string killed = killed_after(path, [&](map& m) {
    for (std::uint64_t i = 0; i < 100; ++i) m.insert(i);
    for (std::uint32_t i = 0; i < 100; i += 3) m.erase(m.key_at(i));
    for (int i = 0; i < 5; ++i) (void)m.allocate_handle();
  });
  const std::string updating = with_control(killed, [](auto& control, auto& header, std::string& bytes) {
    const std::uint64_t fresh = 4711;
    std::memcpy(bytes.data() + header.scratch_offset, &fresh, sizeof fresh);
    control.update_index = 1;
    control.update_version = dm::version::occupied(1);
    control.update_pending = 1;
  });
  for (const std::string& image : {killed, updating}) {
    restore(path, image);
    std::optional<map> opened;
    const auto recorded = record_stores(
        path, [] { return 0u; }, [&] { opened.emplace(map::open(path)); });
    opened.reset();
    std::set<std::string> known;
    for (const auto& one : recorded) known.insert(without_notes(one.bytes));
    restore(path, image);
    const stepped steps = single_step(
        path, [] {}, [&] { opened.emplace(map::open(path)); });
    CHECK(steps.images.size() > 20);
    for (const auto& one : steps.images) CHECK(known.contains(without_notes(one.bytes)));
    std::printf("recovery: %llu instructions, %zu images\n", static_cast<unsigned long long>(steps.instructions),
                steps.images.size());
  }
}

TEST_CASE("killed at any instruction of a salvage, or of one after that, a file can be salvaged to the same") {
  memory_directory directory;
  const auto path = directory / "m";
  const std::string sound = killed_after(path, [&](map& m) {
    for (std::uint64_t i = 0; i < 100; ++i) m.insert(i);
    for (std::uint32_t i = 0; i < 100; i += 3) m.erase(m.key_at(i));
    for (int i = 0; i < 5; ++i) (void)m.allocate_handle();
  });
  const auto rebooted = [](auto& control) { control.boot_id ^= 0x5555; };
  const std::string older_counts = with_control(sound, [&](auto& control, auto&, auto&) {
    rebooted(control);
    control.slot_count = 17;
    control.occupied = 3;
    control.buffer_count = 4'000'000;
  });
  const std::string lost_pages = with_control(sound, [&](auto& control, auto& header, std::string& bytes) {
    rebooted(control);
    control.generation_floor = 7;
    std::memset(bytes.data() + header.slots_offset, 0, 640);                                   // never written
    std::memset(bytes.data() + header.index_offset, 0x55, 24);                                 // nonsense
    std::memset(bytes.data() + header.slots_offset + 50 * header.slot_stride_bytes, 0x06, 1);  // no such version
  });
  const std::string open_after_reboot = with_control(sound, [&](auto& control, auto&, auto&) { rebooted(control); });
  const std::string synced = [&] {
    restore(path, sound);
    map::open(path).close();
    return with_control(read_file(path), [&](auto& control, auto&, auto&) { rebooted(control); });
  }();
  tally all;
  for (const std::string* image : {&older_counts, &lost_pages, &open_after_reboot, &synced}) {
    judge<std::uint64_t> judging(path, nobody_was_told, {.salvage = true});
    const auto found = judging.examine({*image, 0});
    CHECK(found.size() == (image == &lost_pages ? 39u : 66u));
    all.add(judging.counts());
  }
  // What was synced needs no salvage, after a kill within its opening neither.
  judge<std::uint64_t> judging(path, nobody_was_told, {});
  CHECK(judging.examine({synced, 0}).size() == 66);
  all.add(judging.counts());
  std::printf("salvage: %llu images, %llu of them salvaged, %llu seen, depth %zu\n",
              static_cast<unsigned long long>(all.images), static_cast<unsigned long long>(all.recovered),
              static_cast<unsigned long long>(all.whole_images_seen), all.deepest);
}
