// stats and map, on files in use and on hostile command lines.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "deferred_map/mapped_map.hpp"
#include "deferred_map/shared_map.hpp"
#include "inspect_terminal.hpp"

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
      const bool is_shared = file.starts_with("shm:");
      CHECK((found["slots"]["kept_ready"] > 0) == is_shared);
      CHECK(found["slots"]["reserved"] == found["slots"]["kept_ready"].get<int>() + is_shared);
      // What threads keep ready is not what handles wait to fill; as the marks have it.
      if (verb == "map" && is_shared)
        CHECK(inspect_tool::run(directory, "map '" + file + "'")
                  .out.find(" 1 reserved, " + found["slots"]["kept_ready"].dump() + " kept ready, ") !=
              std::string::npos);
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

TEST_CASE("on a terminal all of a map is to be seen at once, its head and its legend too") {
  if (inspect_tool::path() == nullptr || !inspect_tool::has_terminals()) return;
  temporary_directory directory;
  auto m = dm::mapped_map<std::uint64_t>::create(directory / "m", {.max_slots = 100'000});
  for (std::uint64_t i = 0; i < 70'000; ++i) m.insert(i);
  auto waiting = m.allocate_handle();
  struct size {
    std::size_t columns, rows;
  };
  // What is in use has a note before its head, unless it is not wanted.
  for (const bool in_use : {true, false}) {
    if (!in_use) {
      m.release_handle(std::move(waiting));
      m.close();
    }
    for (const size& window : {size{80, 24}, size{100, 30}, size{40, 24}, size{200, 50}, size{61, 16}}) {
      INFO(window.columns << " x " << window.rows << ", in use: " << in_use);
      inspect_tool::on_terminal terminal({"map", (directory / "m").string(), "--color", "never"},
                                         static_cast<unsigned short>(window.columns),
                                         static_cast<unsigned short>(window.rows));
      CHECK(WEXITSTATUS(terminal.status()) == 0);
      CHECK(terminal.seen().find(" full") != std::string::npos);
      std::size_t lines = 1;  // of the prompt
      std::istringstream seen(terminal.seen());
      for (std::string line; std::getline(seen, line);) {
        const auto length = static_cast<std::size_t>(std::count_if(
            line.begin(), line.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u; }));
        lines += std::max<std::size_t>((length - 1 + window.columns - 1) / window.columns, 1);  // without its \r
      }
      CHECK(lines <= window.rows);
      CHECK(lines + 3 >= window.rows);
    }
  }
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
