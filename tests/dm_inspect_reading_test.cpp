// The verbs that only read, all of them: on files that nobody can write to, of a format that has learnt something since, and
// on the golden files, which are to the byte what they were afterwards.
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <set>
#include <vector>

#include "deferred_map/inspect.hpp"
#include "deferred_map/shared_map.hpp"
#include "effort.hpp"
#include "run_tool.hpp"
#include "small_filesystem.hpp"

namespace {

/// One of each way to read. FILE is the arena, OTHER a second one.
const char* const readings[] = {
    "info FILE",
    "info FILE --format json",
    "slots FILE",
    "slots FILE --format csv --redact",
    "slots FILE --format ndjson --state occupied",
    "get FILE 0:1 1:1 --format json",
    "stats FILE",
    "stats FILE --format json",
    "map FILE",
    "map FILE --svg -",
    "owners FILE",
    "owners FILE --format json",
    "watch FILE --count 1 --interval 0.02 --format json",
    "check FILE",
    "check FILE --format csv",
    "repair FILE --dry-run",
    "repair FILE --dry-run --in-place --format json",
    "schema FILE",
    "schema FILE --format numpy",
    "schema FILE --compare OTHER",
    "diff FILE OTHER",
    "diff FILE OTHER --format json",
    "export FILE",
    "export FILE --format csv",
    "log FILE --no-pin",
};

/// All of them of one arena of each kind. Of the others every fifth, under the sanitizers every tenth, from another one on each time.
std::vector<std::string> readings_of(const std::filesystem::path& arena) {
  static std::size_t turn = 0;
  const std::string name = arena.filename().string();
  const bool is_one_of_its_kind = name == "everything.arena" || name == "killed.arena";
  if (is_one_of_its_kind && !sanitized) return {std::begin(readings), std::end(readings)};
  std::vector<std::string> chosen;
  const std::size_t step = sanitized ? 10 : 5;
  for (std::size_t i = turn++ % step; i < std::size(readings); i += step) chosen.emplace_back(readings[i]);
  return chosen;
}

std::string with_files(std::string reading, const std::filesystem::path& file, const std::filesystem::path& other) {
  const std::pair<const char*, const std::filesystem::path&> names[] = {{"FILE", file}, {"OTHER", other}};
  for (const auto& [name, path] : names)
    if (const std::size_t at = reading.find(name); at != std::string::npos)
      reading.replace(at, std::string(name).size(), "'" + path.string() + "'");
  return reading;
}

/// watch tells the time of day: of what it prints only that it did is compared.
std::string comparable(const std::string& reading, const std::string& out) {
  return reading.starts_with("watch") ? std::to_string(std::count(out.begin(), out.end(), '\n')) : out;
}

struct golden_copy {
  temporary_directory directory;
  std::vector<std::filesystem::path> arenas;
  golden_copy() {
    const auto golden = std::filesystem::path(std::getenv("SOURCE_ROOT")) / "tests" / "golden";
    for (const auto& entry : std::filesystem::recursive_directory_iterator(golden)) {
      const std::string name = entry.path().filename().string();
      if (!name.ends_with(".arena") && !name.ends_with(".arena-journal")) continue;
      // The names of the shared and the durable ones are the same.
      const auto folder = directory / entry.path().parent_path().filename().string();
      std::filesystem::create_directory(folder);
      std::filesystem::copy_file(entry.path(), folder / name);
      if (name.ends_with(".arena")) arenas.push_back(folder / name);
    }
  }
};

bool has_golden_files() {
  if (!has_tool()) return false;
  if (std::getenv("SOURCE_ROOT") != nullptr) return true;
  WARN("SOURCE_ROOT is not set: the golden files are not read");
  return false;
}

using state_of_files = std::map<std::string, std::pair<std::string, std::filesystem::file_time_type>>;
state_of_files all_in(const std::filesystem::path& directory) {
  state_of_files found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory))
    if (entry.is_regular_file() && entry.path().filename() != "out" && entry.path().filename() != "err")
      found[entry.path().string()] = {read_file(entry.path()), entry.last_write_time()};
  return found;
}

}  // namespace

TEST_CASE("no verb that reads changes a byte of a golden file, makes another beside it, or fails on it") {
  if (!has_golden_files()) return;
  const golden_copy golden;
  temporary_directory output;
  REQUIRE(golden.arenas.size() > 20);
  const state_of_files before = all_in(golden.directory.path());
  for (const auto& arena : golden.arenas) {
    for (const std::string& reading : readings_of(arena)) {
      INFO(reading << " of " << arena);
      const auto result = run_dm_inspect(output, with_files(reading, arena, golden.arenas.front()));
      // 8 for what there is not: the log of what is no durable map, a repair of what is.
      const bool is_refused = result.code == 8 && (reading.starts_with("log") || reading.starts_with("repair"));
      CHECK((result.code == 0 || result.code == 4 || is_refused));
      CHECK((result.code != 8 || std::count(result.errors.begin(), result.errors.end(), '\n') == 1));
    }
  }
  CHECK((all_in(golden.directory.path()) == before));
}

TEST_CASE("every verb that reads says the same of a file on a read-only medium, and to who may only read it") {
  if (!has_golden_files()) return;
  const golden_copy golden;
  temporary_directory output;
  for (const auto& [path, ignored] : all_in(golden.directory.path())) REQUIRE(::chmod(path.c_str(), 0444) == 0);
  REQUIRE(::chmod(golden.directory.path().c_str(), 0555) == 0);
  std::vector<std::pair<std::string, tool_outcome>> usual;
  for (const auto& arena : golden.arenas) {
    // One of each kind is enough here.
    const std::string name = arena.filename().string();
    if (name != "everything.arena" && name != "killed.arena") continue;
    for (const std::string& reading : readings_of(arena)) {
      std::string command = with_files(reading, arena, golden.arenas.front());
      usual.emplace_back(command, run_dm_inspect(output, command));
    }
  }
  REQUIRE(usual.size() >= 6);
  const auto reads_the_same = [&](const temporary_directory& into) {
    for (const auto& [command, expected] : usual) {
      const auto result = run_dm_inspect(into, command);
      expect(result.code == expected.code,
             command + " exits with " + std::to_string(result.code) + ": " + result.errors);
      expect(comparable(command, result.out) == comparable(command, expected.out), command + " prints something else");
    }
  };
  const std::string on_medium = in_own_mounts([&] {
    const std::string at = golden.directory.path().string();
    const auto must = [](int status) {
      expect(status == 0, std::string("unavailable: mounting read-only: ") + std::strerror(errno));
    };
    must(::mount(at.c_str(), at.c_str(), nullptr, MS_BIND, nullptr));
    must(::mount(nullptr, at.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr));
    expect(::access(golden.arenas.front().c_str(), W_OK) != 0 && errno == EROFS, "it can be written to");
    reads_the_same(output);
  });
  if (on_medium.starts_with("unavailable"))
    WARN(on_medium);
  else
    CHECK(on_medium == "");
  const std::string as_another = in_own_process([&] {
    if (::geteuid() == 0) {
      temporary_directory own;
      expect(::chown(own.path().c_str(), 65534, 65534) == 0, "unavailable: chown");
      expect(::setgid(65534) == 0 && ::setuid(65534) == 0, "unavailable: another user");
      // Where the tool itself, or what it is in, is nobody else's to see.
      expect(::access(std::getenv("DM_INSPECT"), X_OK) == 0 && ::access(golden.arenas.front().c_str(), R_OK) == 0,
             "unavailable: another user cannot see the files");
      expect(::access(golden.arenas.front().c_str(), W_OK) != 0, "it can be written to");
      reads_the_same(own);
    } else {
      reads_the_same(output);
    }
  });
  if (as_another.starts_with("unavailable"))
    WARN(as_another);
  else
    CHECK(as_another == "");
  REQUIRE(::chmod(golden.directory.path().c_str(), 0755) == 0);
}

TEST_CASE("a file that knows more than this version, in ways that others may ignore, is read as if it did not") {
  if (!has_golden_files()) return;
  const golden_copy golden;
  temporary_directory output;
  for (const auto& arena : golden.arenas) {
    const std::vector<std::string> chosen = readings_of(arena);
    std::vector<tool_outcome> usual;
    for (const std::string& reading : chosen)
      usual.push_back(run_dm_inspect(output, with_files(reading, arena, golden.arenas.front())));
    auto header = read_at<dm::arena_header>(arena, 0);
    header.compatible_features |= 0x8000'0000'0000'0005u;
    header.unused[0] = 7;  // where something of it is kept
    header.checksum = header.computed_checksum();
    write_at(arena, 0, header);
    const std::string before = read_file(arena);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const std::string& reading = chosen[i];
      INFO(reading << " of " << arena);
      const auto result = run_dm_inspect(output, with_files(reading, arena, golden.arenas.front()));
      CHECK(result.code == usual[i].code);
      const bool tells_features = reading.starts_with("info") || reading.starts_with("check");
      if (!tells_features) CHECK(comparable(reading, result.out) == comparable(reading, usual[i].out));
    }
    const auto report = dm::inspect::check(dm::inspect::arena_file::open(arena));
    bool is_told = false;
    for (const auto& found : report.findings.listed()) {
      INFO(found.rule << ": " << found.text);
      CHECK(found.rule != "header-reserved");
      if (found.rule == "header-features") is_told = found.level == dm::inspect::severity::note && !found.repairable;
    }
    CHECK(is_told);
    CHECK(read_file(arena) == before);
  }
}

TEST_CASE("what is mended keeps what it knows more than this version") {
  if (!has_golden_files()) return;
  const golden_copy golden;
  temporary_directory output;
  for (const auto& arena : golden.arenas) {
    if (arena.filename() != "number.arena") continue;
    auto header = read_at<dm::arena_header>(arena, 0);
    header.compatible_features = 4, header.unused[3] = 9;
    header.checksum = header.computed_checksum();
    write_at(arena, 0, header);
    auto control = read_at<dm::control_block>(arena, header.control_offset);
    ++control.vacant, --control.occupied;
    control.closed = control.synced = control.checksum();
    write_at(arena, header.control_offset, control);
    CHECK(run_dm_inspect(output, "repair" + quoted(arena) + "--output" + quoted(output / "mended")).code == 1);
    const auto mended = read_at<dm::arena_header>(output / "mended", 0);
    CHECK(std::memcmp(&mended, &header, sizeof header) == 0);
    // Not taken for a fault where the header is only known by what follows from the rest, either.
    header.created_unix_ns = -1;
    write_at(arena, 0, header);
    CHECK(run_dm_inspect(output, "repair" + quoted(arena) + "--output" + quoted(output / "believed")).code == 1);
    CHECK(read_at<dm::arena_header>(output / "believed", 0).unused == header.unused);
  }
}

TEST_CASE("a segment can be named wherever an arena can") {
  if (!has_golden_files()) return;
  temporary_directory output;
  const std::string name = "reading-test-" + std::to_string(::getpid());
  const dm::shm segment(name);
  auto m = dm::shared_map<std::uint64_t>::create(segment, {.max_slots = 100});
  const dm::key k = m.insert(7);
  const std::string exported = run_dm_inspect(output, "export shm:" + name).out;
  write_file(output / "exported", exported);
  const std::string file = quoted(output / "imported");
  CHECK(run_dm_inspect(
            output, "import --quiet --color never --like shm:" + name + quoted(output / "exported") + "--into" + file)
            .code == 0);
  CHECK(run_dm_inspect(output, "diff" + file + "shm:" + name).out == "the same: 1 key\n");
  CHECK(run_dm_inspect(output, "diff shm:" + name + file).code == 0);
  CHECK(run_dm_inspect(output, "schema -q shm:" + name).code == 0);
  CHECK(run_dm_inspect(output, "schema" + file + "--compare shm:" + name).out == "the same type\n");
  CHECK(m.get(k) == 7);
  m.close();
  dm::shm::remove(name);
}
