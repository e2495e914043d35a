// repair as people run it: copies, backups, dry runs, refusals, exit codes.
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "deferred_map/inspect.hpp"
#include "deferred_map/shared_map.hpp"
#include "parts_value.hpp"
#include "run_tool.hpp"

namespace {

using map = dm::mapped_map<parts::value>;

std::filesystem::path make_file(const temporary_directory& directory) {
  const auto path = directory / "a.arena";
  map m = map::create(path, {.max_slots = 1000});
  for (std::uint64_t i = 0; i < 100; ++i) m.insert(parts::plain(i));
  m.close();
  return path;
}
void damage(const std::filesystem::path& path) {
  const auto header = read_at<dm::arena_header>(path, 0);
  auto control = read_at<dm::control_block>(path, header.control_offset);
  ++control.vacant, --control.occupied;
  control.closed = control.synced = control.checksum();
  write_at(path, header.control_offset, control);
  overwrite(path, 50, "x");  // in the uuid
}
bool is_sound(const std::filesystem::path& path) {
  const map m = map::open(path, {.verify = true});
  return m.size() == 100 && m[dm::key::from_parts(7, 1)].big == 7;
}
std::size_t files_in(const temporary_directory& directory) {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator(directory.path()), std::filesystem::directory_iterator()));
}

}  // namespace

TEST_CASE("a sound file is not repaired, and a dry run changes nothing") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = make_file(directory);
  const auto clean = run_dm_inspect(directory, "repair" + quoted(path) + "--output" + quoted(directory / "copy"));
  CHECK(clean.code == 0);
  CHECK(clean.out == "Result            nothing to repair\n");
  CHECK_FALSE(std::filesystem::exists(directory / "copy"));
  damage(path);
  const std::string before = read_file(path);
  for (const std::string how : {"--dry-run", "--dry-run --in-place", "--dry-run --output /nowhere/copy"}) {
    const auto dry = run_dm_inspect(directory, "repair " + how + quoted(path));
    CHECK(dry.code == 4);
    CHECK(dry.out.find("can be   header-checksum        byte 504\n") != std::string::npos);
    CHECK(dry.out.find("can be   count-occupied         byte ") != std::string::npos);
    CHECK(dry.out.find("-> the counts are made as the versions say\n") != std::string::npos);
    CHECK(dry.out.ends_with("Result            nothing was changed: a dry run\n"));
    CHECK(read_file(path) == before);
  }
  CHECK(files_in(directory) == 3);  // with what the tool printed
}

TEST_CASE("a copy is mended, and the file stays as it was") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = make_file(directory), copy = directory / "copy";
  const auto uuid = read_at<dm::arena_header>(path, 0).uuid;
  damage(path);
  const std::string before = read_file(path);
  const auto mended = run_dm_inspect(directory, "repair --format json" + quoted(path) + "--output" + quoted(copy));
  CHECK(mended.code == 1);
  const auto report = nlohmann::json::parse(mended.out);
  CHECK(report["schema_version"] == 1);
  CHECK(report["repaired"] == true);
  CHECK(report["errors_left"] == 0);
  CHECK(report["findings"][0]["rule"] == "header-checksum");
  CHECK(report["findings"][0]["repairable"] == true);
  CHECK(read_file(path) == before);
  CHECK(is_sound(copy));
  CHECK(read_at<dm::arena_header>(copy, 0).uuid == uuid);  // to the bit
  CHECK(run_dm_inspect(directory, "check" + quoted(copy)).code == 0);
  CHECK(run_dm_inspect(directory, "repair" + quoted(copy) + "--in-place").code == 0);
  const std::string copied = read_file(copy);
  CHECK(run_dm_inspect(directory, "repair" + quoted(path) + "--output" + quoted(copy)).code == 8);
  CHECK(read_file(copy) == copied);
  const auto findings = nlohmann::json::parse(run_dm_inspect(directory, "check --format json" + quoted(path)).out);
  CHECK(findings["findings"][0]["repairable"] == true);
}

TEST_CASE("in place the mended file has the name, and the backup is what there was") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = make_file(directory), backup = directory / "a.arena.bak";
  damage(path);
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
  const std::string before = read_file(path);
  const auto mended = run_dm_inspect(directory, "repair --in-place" + quoted(path));
  CHECK(mended.code == 1);
  CHECK(mended.out.find("Result            repaired: " + path.string()) != std::string::npos);
  CHECK(is_sound(path));
  CHECK(read_file(backup) == before);
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0640);
  // Nor is a backup replaced.
  damage(path);
  const std::string again = read_file(path);
  const auto refused = run_dm_inspect(directory, "repair --in-place" + quoted(path));
  CHECK(refused.code == 8);
  CHECK(refused.errors.find("there is a backup already") != std::string::npos);
  CHECK(read_file(path) == again);
  CHECK(read_file(backup) == before);
  std::filesystem::remove(backup);
  std::filesystem::create_symlink(path, directory / "link");
  CHECK(run_dm_inspect(directory, "repair --in-place --no-backup" + quoted(directory / "link")).code == 1);
  CHECK(std::filesystem::is_symlink(directory / "link"));
  CHECK(is_sound(path));
  CHECK(files_in(directory) == 4);  // the file, the link, and what the tool printed
}

TEST_CASE(
    "where a list says who may use a file, the mended one has it too, and its group no more rights than it gives") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = make_file(directory);
  damage(path);
  // The owner and user 1000 may read and write it, its group may not: the group's bits of the mode are the list's mask.
  struct entry {
    std::uint16_t tag, rights;
    std::uint32_t id = ~std::uint32_t{0};
  };
  const struct {
    std::uint32_t version = 2;
    entry entries[5] = {{1, 6}, {2, 6, 1000}, {4, 0}, {16, 6}, {32, 0}};
  } list;
  constexpr const char* attribute = "system.posix_acl_access";
  if (::setxattr(path.c_str(), attribute, &list, sizeof list, 0) != 0) {
    WARN("this file system keeps no such lists");
    return;
  }
  REQUIRE(run_dm_inspect(directory, "repair --in-place" + quoted(path)).code == 1);
  char found[sizeof list] = {};
  CHECK(::getxattr(path.c_str(), attribute, found, sizeof found) == ssize_t{sizeof list});
  CHECK(std::memcmp(found, &list, sizeof list) == 0);
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0660);
}

TEST_CASE("a repair in place that was killed before the file's place was taken is done again") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = make_file(directory), backup = directory / "a.arena.bak";
  damage(path);
  const std::string before = read_file(path);
  // What the kill leaves: the file under its second name, and the new one, whole or not, under a hidden one.
  std::filesystem::create_hard_link(path, backup);
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  write_file(directory / (".deferred-map-" + std::to_string(status.st_ino) + ".replacement"), "not whole");
  CHECK(run_dm_inspect(directory, "repair --in-place" + quoted(path)).code == 1);
  CHECK(is_sound(path));
  CHECK(read_file(backup) == before);
  CHECK(files_in(directory) == 4);  // with what the tool printed
  // A link that leads to the file would lead to the mended one.
  std::filesystem::remove(backup);
  std::filesystem::create_symlink(path, backup);
  damage(path);
  const auto refused = run_dm_inspect(directory, "repair --in-place" + quoted(path));
  CHECK(refused.code == 8);
  CHECK(refused.errors.find("there is a backup already") != std::string::npos);
}

TEST_CASE("where a backup can be no second name of the file, that is said, with what to do") {
  if (!has_tool()) return;
  temporary_directory directory, elsewhere(temporary_directory::in_memory());
  const auto path = make_file(elsewhere), link = directory / "link.arena";
  damage(path);
  const std::string before = read_file(path);
  std::filesystem::create_symlink(path, link);
  const auto refused = run_dm_inspect(directory, "repair --in-place" + quoted(link));
  if (refused.code == 1) {
    WARN("memory and disk are the same file system here");
    return;
  }
  CHECK(refused.code == 8);
  CHECK(refused.errors.find("--no-backup") != std::string::npos);
  CHECK(refused.errors.find("--output") != std::string::npos);
  CHECK(read_file(path) == before);
  CHECK(files_in(directory) == 3);
}

TEST_CASE("a file in use is not repaired") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = make_file(directory);
  damage(path);
  // Sound enough to be opened but for its uuid.
  overwrite(path, 50, std::string(1, static_cast<char>(read_at<dm::arena_header>(path, 0).uuid[10])));
  auto header = read_at<dm::arena_header>(path, 0);
  header.checksum = header.computed_checksum();
  write_at(path, 0, header);
  {
    const map reader = map::open_read_only(path);
    const auto refused = run_dm_inspect(directory, "repair --in-place" + quoted(path));
    CHECK(refused.code == 8);
    CHECK(refused.errors.find("in use by process " + std::to_string(::getpid())) != std::string::npos);
    CHECK(run_dm_inspect(directory, "repair" + quoted(path) + "--output" + quoted(directory / "copy")).code == 1);
    CHECK(is_sound(directory / "copy"));
  }
  const auto shared = directory / "shared";
  auto m = dm::shared_map<parts::value>::create(shared, {.max_slots = 100});
  const auto refused = run_dm_inspect(directory, "repair --in-place" + quoted(shared));
  CHECK(refused.code == 8);
  CHECK(refused.errors.find("in use") != std::string::npos);
  CHECK(std::count(refused.errors.begin(), refused.errors.end(), '\n') == 1);
}

TEST_CASE("what cannot be mended is said to be left, and what it needs to be told is said") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = make_file(directory), copy = directory / "copy";
  const std::string sound = read_file(path);
  const auto repair = [&] { return run_dm_inspect(directory, "repair" + quoted(path) + "--output" + quoted(copy)); };
  // Two bytes of the schema: nothing tells what they were. All else is mended.
  damage(path);
  overwrite(path, 512 + 40, "xy");
  const auto schema = repair();
  CHECK(schema.code == 5);
  CHECK(schema.out.find("left     schema-checksum ") != std::string::npos);
  CHECK(schema.out.find("mended   count-occupied ") != std::string::npos);
  std::filesystem::remove(copy);
  // Two sizes in the header: nothing in the file can be found.
  write_file(path, sound);
  overwrite(path, 80, std::string(8, '\xff'));
  const auto header = repair();
  CHECK(header.code == 4);
  CHECK(header.out.find("Restore a copy") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(copy));
  for (const std::string wrong : {"", "--in-place --output x", "--no-backup --output x"})
    CHECK(run_dm_inspect(directory, "repair " + wrong + quoted(path)).code == 16);
}

TEST_CASE("a durable map whose journal is damaged is mended, with what the journal has, and both are kept") {
  if (!has_tool() || std::getenv("SOURCE_ROOT") == nullptr) return;
  temporary_directory directory;
  const auto golden = std::filesystem::path(std::getenv("SOURCE_ROOT")) / "tests" / "golden" / "durable";
  const auto path = directory / "a.arena", journal = directory / "a.arena-journal";
  std::filesystem::copy_file(golden / "killed.arena", path);
  std::filesystem::copy_file(golden / "killed.arena-journal", journal);
  const std::string arena = read_file(path), sound = read_file(journal);
  CHECK(run_dm_inspect(directory, "repair --in-place" + quoted(path)).code == 0);
  const auto header = read_at<dm::journal_header>(journal, 4096);
  REQUIRE(header.magic == dm::journal_header::magic_bytes);
  overwrite(journal, header.start_offset + 80, "\x55\x55");
  const std::string damaged = read_file(journal);
  REQUIRE(run_dm_inspect(directory, "check --quiet" + quoted(path)).code == 4);
  const auto repaired = run_dm_inspect(directory, "repair --in-place" + quoted(path));
  CHECK(repaired.code == 1);
  CHECK(repaired.out.find("a.arena.bak-journal") != std::string::npos);
  CHECK(run_dm_inspect(directory, "check" + quoted(path)).code == 0);
  CHECK_FALSE(std::filesystem::exists(journal));
  CHECK(read_file(directory / "a.arena.bak") == arena);
  CHECK(read_file(directory / "a.arena.bak-journal") == damaged);
  CHECK(run_dm_inspect(directory, "repair --dry-run --without-journal" + quoted(path)).code == 16);
}

TEST_CASE("verbs that read leave every file as it is, whatever is wrong with it") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = make_file(directory), other = directory / "b.arena";
  std::filesystem::copy_file(path, other);
  for (const bool is_damaged : {false, true}) {
    if (is_damaged) damage(path);
    const std::string before = read_file(path);
    const auto modified = std::filesystem::last_write_time(path);
    for (const std::string verb :
         {"info", "slots", "get", "check", "export", "schema", "schema --format numpy", "diff", "repair --dry-run"}) {
      INFO(verb);
      const std::string more = verb == "get" ? " 3:1" : verb == "diff" ? quoted(other) : "";
      const auto read = run_dm_inspect(directory, verb + quoted(path) + more);
      CHECK((read.code == 0 || (is_damaged && read.code == 4)));
      CHECK(read_file(path) == before);
      CHECK(std::filesystem::last_write_time(path) == modified);
    }
  }
  CHECK(run_in_shell(directory, std::string(std::getenv("DM_INSPECT")) + " export" + quoted(other) + "| head -1")
            .errors == "");
  CHECK(run_dm_inspect(directory, "export" + quoted(other) + "> /dev/full").code == 8);
}
