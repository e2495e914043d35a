// stats and map, on files in use and on hostile command lines.
#include <nlohmann/json.hpp>

#include "deferred_map/mapped_map.hpp"
#include "deferred_map/shared_map.hpp"
#include "inspect_tool.hpp"

namespace {

using json = nlohmann::json;

std::filesystem::path make_file(const temporary_directory& directory) {
  const auto path = directory / "m.arena";
  auto m = dm::mapped_map<std::uint64_t>::create(path, {.max_slots = 1000});
  for (std::uint64_t i = 0; i < 100; ++i) m.insert(i);
  return path;
}

}  // namespace

TEST_CASE("stats and map of files in use say what is there, and say that it is in use") {
  if (inspect_tool::path() == nullptr) return;
  temporary_directory directory;
  const dm::shm segment("dm-inspect-map-test-" + std::to_string(::getpid()));
  dm::shm::remove(segment.name());
  auto shared = dm::shared_map<std::uint64_t>::create(segment, {.max_slots = 10'000});
  auto mapped = dm::mapped_map<std::uint64_t>::create(directory / "m", {.max_slots = 10'000});
  for (std::uint64_t i = 0; i < 50; ++i) {
    shared.insert(i);
    mapped.insert(i);
  }
  auto waiting = shared.allocate_handle();
  for (const std::string& file : {"shm:" + segment.name(), (directory / "m").string()}) {
    for (const std::string verb : {"stats", "map"}) {
      INFO(verb << " " << file);
      const auto result = inspect_tool::run(directory, verb + " '" + file + "' --format json");
      CHECK(result.code == 0);
      CHECK(result.errors.find("in use") != std::string::npos);
      const json found = json::parse(result.out);
      CHECK(found["schema_version"] == 1);
      CHECK(found["slots"]["occupied"] == 50);
      CHECK(found["slots"]["impossible"] == 0);
      const auto quiet = inspect_tool::run(directory, verb + " -q '" + file + "'");
      CHECK(quiet.code == 0);
      CHECK(quiet.errors.empty());
    }
  }
  CHECK(json::parse(inspect_tool::run(directory, "stats shm:" + segment.name() + " --format json").out)["file"] ==
        segment.path().string());
  CHECK(inspect_tool::run(directory, "stats shm:a/b").code == 16);
  shared.release_handle(std::move(waiting));
  CHECK(shared.size() == 50);
  CHECK(mapped.verify().empty());
  dm::shm::remove(segment.name());
}

TEST_CASE("an SVG is written where it is told to be, and never over an arena") {
  if (inspect_tool::path() == nullptr) return;
  temporary_directory directory;
  const auto arena = make_file(directory);
  const std::string before = read_file(arena);
  const std::string verb = "map '" + arena.string() + "' --svg ";
  const auto svg = directory / "picture.svg";
  write_file(svg, "what was there before");
  CHECK(inspect_tool::run(directory, verb + "'" + svg.string() + "'").code == 0);
  const std::string written = read_file(svg);
  CHECK(written.starts_with("<?xml"));
  CHECK(written.ends_with("</svg>\n"));
  CHECK(inspect_tool::run(directory, verb + "-").out == written);

  CHECK(inspect_tool::run(directory, verb + "'" + arena.string() + "'").code == 16);
  std::filesystem::create_symlink(arena, directory / "link");
  CHECK(inspect_tool::run(directory, verb + "'" + (directory / "link").string() + "'").code == 16);
  std::filesystem::copy_file(arena, directory / "other.arena");
  CHECK(inspect_tool::run(directory, verb + "'" + (directory / "other.arena").string() + "'").code == 16);
  CHECK(read_file(arena) == before);
  CHECK(read_file(directory / "other.arena") == before);

  CHECK(inspect_tool::run(directory, verb + "/dev/full").code == 8);
  CHECK(inspect_tool::run(directory, verb + "'" + (directory / "none" / "x").string() + "'").code == 8);
  CHECK(inspect_tool::run(directory, verb + "- > /dev/full").code == 8);
}

TEST_CASE("what is impossible is an exit code of its own") {
  if (inspect_tool::path() == nullptr) return;
  temporary_directory directory;
  const auto arena = make_file(directory);
  const auto header = read_at<dm::arena_header>(arena, 0);
  write_at(arena, header.slots_offset + 5 * header.slot_stride_bytes, std::uint32_t{2});
  for (const std::string verb : {"stats", "map"}) {
    const auto result = inspect_tool::run(directory, verb + " '" + arena.string() + "'");
    CHECK(result.code == 4);
    CHECK(result.out.find("impossible") != std::string::npos);
  }
}
