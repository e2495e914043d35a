// The format of shared maps is frozen too: files that an earlier version left are opened by this one.
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include "catch.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "files.hpp"
#include "golden/shared/history.hpp"
#include "temporary_directory.hpp"

namespace {

using namespace golden;

std::filesystem::path source(const std::string& name) {
  const char* root = std::getenv("SOURCE_ROOT");  // set by meson; else from the root of the tree
  return std::filesystem::path(root != nullptr ? root : ".") / "tests/golden/shared" / name;
}

std::map<std::string, std::uint64_t> contents_of(const shared& map) {
  std::map<std::string, std::uint64_t> found;
  map.for_each([&](dm::key k, const shared_value& v) {
    found[std::to_string(k.index()) + ":" + std::to_string(k.generation()) + " " + v.name] = v.number;
  });
  return found;
}

const std::map<std::string, std::uint64_t> expected{
    {"0:1 zero", 0}, {"1:1 one", 11}, {"3:1 three", 2033}, {"4:1 four", 44}};

void expect_usable(shared& map) {
  CHECK_FALSE(map.contains(dm::key::from_parts(2, 1)));
  CHECK_FALSE(map.contains(dm::key::from_parts(2, 2)));  // the handle's
  const std::size_t before = map.size();
  std::size_t room = 0;
  try {
    for (;; ++room) {
      const dm::key k = map.insert({});
      CHECK(k != dm::key::from_parts(2, 1));
      CHECK(k != dm::key::from_parts(2, 2));
    }
  } catch (const dm::error& e) {
    CHECK(e.code() == dm::errc::full);
  }
  CHECK(before + room == 512);
}

}  // namespace

TEST_CASE("a golden file of a shared map that was closed opens with its values, and its dead keys dead") {
  temporary_directory directory;
  const auto copy = directory / "copy.arena";
  write_file(copy, read_file(source("closed.arena")));
  CHECK(contents_of(shared::open_read_only(copy)) == expected);
  shared map = shared::open(copy, {.verify = true});
  CHECK(map.recovery().outcome == dm::recovery_outcome::clean);
  CHECK(contents_of(map) == expected);
  expect_usable(map);
}

TEST_CASE("a golden file of a shared map whose processes were killed opens with all that had happened") {
  temporary_directory directory;
  const auto fresh = directory / "fresh.arena", copy = directory / "copy.arena";
  shared::create(fresh, {.max_slots = 64}).close();
  const auto control_at = [](const std::filesystem::path& path) {
    return read_at<dm::arena_header>(path, 0).control_offset + offsetof(dm::control_block, boot_id);
  };
  write_file(copy, read_file(source("killed.arena")));
  CHECK(code_of([&] { shared::open(copy); }) == dm::errc::unclean_after_reboot);  // of no machine's boot
  write_at(copy, control_at(copy), read_at<std::uint64_t>(fresh, control_at(fresh)));
  auto after = expected;
  after["1:1 one"] = 1111;
  CHECK(contents_of(shared::open_read_only(copy)) == after);  // from the scratch area of the dead
  shared map = shared::open(copy);
  CHECK(map.recovery().owners_reaped == 3);
  CHECK(contents_of(map) == after);
  expect_usable(map);
  map.close();
  shared::open(copy, {.verify = true}).close();
}

TEST_CASE("what stopped with its machine is salvaged with the updates that were under way") {
  temporary_directory directory;
  const auto copy = directory / "copy.arena";
  write_file(copy, read_file(source("killed.arena")));
  shared map = shared::open(copy, {.salvage = true});
  auto after = expected;
  after["1:1 one"] = 1111;
  CHECK(contents_of(map) == after);
  CHECK(map.recovery().outcome == dm::recovery_outcome::salvaged);
  CHECK(map.recovery().updates_finished == 1);
  expect_usable(map);
}
