// The arena file among other processes: making, locking, permissions, and how it was left.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <thread>

#include "catch.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/format/index_layout.hpp"
#include "deferred_map/mapped_map.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

namespace {

using map = dm::mapped_map<std::uint64_t>;

dm::arena_header header_of(const std::filesystem::path& path) { return read_at<dm::arena_header>(path, 0); }

dm::control_block control_of(const std::filesystem::path& path) {
  return read_at<dm::control_block>(path, header_of(path).control_offset);
}

void put_control(const std::filesystem::path& path, const dm::control_block& control) {
  write_at(path, header_of(path).control_offset, control);
}

// Small enough to be compared byte by byte; the default is sized for 64 GiB of slots, most of it holes.
const dm::arena_options small{.max_slots = 200'000};

}  // namespace

TEST_CASE("create never replaces what is there") {
  temporary_directory directory;
  write_file(directory / "m", "precious");
  const auto error = error_of([&] { map::create(directory / "m"); });
  REQUIRE(error);
  CHECK(error->code() == dm::errc::exists);
  CHECK(error->code() == std::errc::file_exists);
  CHECK(read_file(directory / "m") == "precious");
}

TEST_CASE("a file appears under its name only when it is complete, and leaves nothing else behind") {
  temporary_directory directory;
  { map m = map::create(directory / "m"); }
  std::size_t entries = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    CHECK(entry.path().filename() == "m");
    ++entries;
  }
  CHECK(entries == 1);
}

TEST_CASE("many processes that open_or_create one file at once end up with one arena") {
  temporary_directory directory;
  constexpr int processes = 12;
  for (int i = 0; i < processes; ++i) {
    if (::fork() == 0) {
      for (;;) {
        try {
          map m = map::open_or_create(directory / "m", {.sync_on_close = false});
          m.insert(static_cast<std::uint64_t>(i));
          m.close();
          ::_exit(0);
        } catch (const dm::error& e) {
          if (e.code() != dm::errc::in_use) ::_exit(1);
        }
      }
    }
  }
  for (int i = 0; i < processes; ++i) {
    int status = 0;
    ::wait(&status);
    CHECK(status == 0);
  }
  const map m = map::open_read_only(directory / "m");
  CHECK(m.size() == processes);
}

TEST_CASE("new files are for their owner alone unless asked otherwise") {
  temporary_directory directory;
  const mode_t before = ::umask(022);
  map::create(directory / "private").close();
  map::create(directory / "shared", {.permissions = 0664}).close();
  ::umask(before);
  CHECK(std::filesystem::status(directory / "private").permissions() == std::filesystem::perms(0600));
  CHECK(std::filesystem::status(directory / "shared").permissions() == std::filesystem::perms(0644));
}

TEST_CASE("a second writer is refused and told who the first is") {
  temporary_directory directory;
  map::create(directory / "m").close();
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    map m = map::open(directory / "m");
    (void)!::write(ready[1], "x", 1);
    ::pause();
    ::_exit(0);
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  for (const bool reading : {false, true}) {
    const auto error = error_of([&] { reading ? map::open_read_only(directory / "m") : map::open(directory / "m"); });
    REQUIRE(error);
    CHECK(error->code() == dm::errc::in_use);
    CHECK(std::string(error->what()).find("process " + std::to_string(child)) != std::string::npos);
  }
  // The lock goes with the process, however it goes.
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(map::open(directory / "m").recovery().outcome == dm::recovery_outcome::nothing_under_way);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE("readers share; a writer waits for none of them but is told") {
  temporary_directory directory;
  map::create(directory / "m").close();
  const map one = map::open_read_only(directory / "m");
  const map two = map::open_read_only(directory / "m");
  CHECK(code_of([&] { map::open(directory / "m"); }) == dm::errc::in_use);
}

TEST_CASE("a map opened read-only refuses every change and leaves the file as it is") {
  temporary_directory directory;
  dm::key k;
  {
    map m = map::create(directory / "m", small);
    k = m.insert(1);
  }
  const std::string before = read_file(directory / "m");
  ::chmod((directory / "m").c_str(), 0400);
  {
    map m = map::open_read_only(directory / "m");
    CHECK(m.is_read_only());
    CHECK(m.at(k) == 1);
    CHECK(code_of([&] { m.insert(2); }) == dm::errc::read_only);
    CHECK(code_of([&] { m.emplace(2u); }) == dm::errc::read_only);
    CHECK(code_of([&] { (void)m.allocate_handle().key(); }) == dm::errc::read_only);
    CHECK(code_of([&] { m.erase(k); }) == dm::errc::read_only);
    CHECK(code_of([&] { m.remove(k); }) == dm::errc::read_only);
    CHECK(code_of([&] { m.detach(k); }) == dm::errc::read_only);
    CHECK(code_of([&] { m.update(k, [](std::uint64_t&) {}); }) == dm::errc::read_only);
    CHECK(code_of([&] { m.retain([](dm::key, std::uint64_t&) { return false; }); }) == dm::errc::read_only);
    CHECK(code_of([&] { (void)m.drain().begin(); }) == dm::errc::read_only);
    CHECK(code_of([&] { m.clear(); }) == dm::errc::read_only);
    CHECK(code_of([&] { m.reserve(10); }) == dm::errc::read_only);
    CHECK(code_of([&] { m.shrink_to_fit(); }) == dm::errc::read_only);
    CHECK(code_of([&] { m.release_reserved(); }) == dm::errc::read_only);
    CHECK(code_of([&] { m.flush(); }) == dm::errc::read_only);
  }
  CHECK(read_file(directory / "m") == before);
}

TEST_CASE("opening for writing clears both marks, closing sets both") {
  temporary_directory directory;
  map m = map::create(directory / "m");
  m.insert(1);
  CHECK(control_of(directory / "m").closed == 0);
  CHECK(control_of(directory / "m").synced == 0);
  CHECK(control_of(directory / "m").owner_pid == static_cast<std::uint32_t>(::getpid()));
  m.close();
  const dm::control_block closed = control_of(directory / "m");
  CHECK(closed.closed == closed.checksum());
  CHECK(closed.synced == closed.checksum());

  m = map::open(directory / "m", {.sync_on_close = false});
  m.insert(2);
  m.close();
  CHECK(control_of(directory / "m").closed != 0);
  CHECK(control_of(directory / "m").synced == 0);
}

TEST_CASE("after a restart of the machine only what was synced is trusted") {
  temporary_directory directory;
  const auto path = directory / "m";
  map::create(path, small).close();
  {
    map m = map::open(path);
    for (std::uint64_t i = 0; i < 100; ++i) m.insert(i);
  }
  dm::control_block control = control_of(path);
  control.boot_id ^= 0x5555;  // another start of the machine
  put_control(path, control);
  CHECK(map::open(path).recovery().outcome == dm::recovery_outcome::clean);

  // Closed without waiting for the disk: good until the machine stops.
  { map m = map::open(path, {.sync_on_close = false}); }
  CHECK(map::open(path, {.sync_on_close = false}).size() == 100);
  control = control_of(path);
  control.boot_id ^= 0x5555;
  put_control(path, control);
  const std::string before = read_file(path);
  for (const bool reading : {false, true}) {
    const auto error = error_of([&] { reading ? map::open_read_only(path) : map::open(path); });
    REQUIRE(error);
    CHECK(error->code() == dm::errc::unclean_after_reboot);
    CHECK(std::string(error->what()).find("salvage") != std::string::npos);
  }
  CHECK(read_file(path) == before);
  CHECK(map::open_read_only(path, {.salvage = true}).size() == 100);
  CHECK(read_file(path) == before);
  map m = map::open(path, {.salvage = true});
  CHECK(m.recovery().outcome == dm::recovery_outcome::salvaged);
  CHECK(m.size() == 100);
  CHECK(m.verify().empty());
}

TEST_CASE("salvage keeps what has a sound version, whatever the counts and the index say") {
  temporary_directory directory;
  const auto path = directory / "m";
  std::vector<dm::key> keys;
  {
    map m = map::create(path, small);
    for (std::uint64_t i = 0; i < 300; ++i) keys.push_back(m.insert(i));
    const auto lost = m.allocate_handle();
    CHECK(lost);
  }
  const dm::arena_header header = header_of(path);
  dm::control_block control = control_of(path);
  control.boot_id ^= 1;
  control.closed = control.synced = 0;
  control.slot_count = 17;  // as it was long before the slots
  control.buffer_count = 4'000'000;
  control.vacant = 99;
  put_control(path, control);
  overwrite(path, header.index_offset, std::string(24, '\x55'));
  overwrite(path, header.slots_offset + 5 * header.slot_stride_bytes, std::string("\x06\0\0\0", 4));  // `updating`

  map m = map::open(path, {.salvage = true});
  CHECK(m.verify().empty());
  CHECK(m.size() == 299);
  CHECK(m.recovery().impossible_mended == 1);
  CHECK_FALSE(m.contains(keys[5]));
  CHECK(m.at(keys[299]) == 299);
  m.close();
  CHECK(map::open(path).recovery().outcome == dm::recovery_outcome::clean);
}

TEST_CASE("a child that was forked with the map open leaves the file to its parent") {
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, small);
  const dm::key k = m.insert(1);
  auto handle = m.allocate_handle();
  const pid_t child = ::fork();
  if (child == 0) {
    m.close();
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  CHECK(control_of(path).closed == 0);
  CHECK(control_of(path).synced == 0);
  CHECK(m.reserved_count() == 1);
  m.insert(std::move(handle), 2);
  CHECK(m.at(k) == 1);
  CHECK(code_of([&] { map::open(path); }) == dm::errc::in_use);
  m.close();
  CHECK(map::open(path).size() == 2);
}

TEST_CASE("after a sync has failed once, the file is never marked as synced, and closing says so") {
  temporary_directory directory;
  const auto path = directory / "m";
  {
    map m = map::create(path, small);
    m.insert(1);
  }
  dm::control_block control = control_of(path);
  control.disk_failed = 1;
  control.closed = control.synced = 0;
  put_control(path, control);
  map m = map::open(path);
  m.insert(2);
  CHECK(code_of([&] { m.close(); }) == dm::errc::poisoned);
  CHECK_FALSE(m.is_open());
  CHECK(control_of(path).synced == 0);
  CHECK(map::open_read_only(path).size() == 2);
}

TEST_CASE("what closing cannot vouch for it does not mark, so that the next to open it recovers it") {
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, small);
  m.insert(1);
  dm::control_block control = control_of(path);
  control.occupied = 7;  // as by a stray store of the program
  put_control(path, control);
  m.close();
  CHECK(control_of(path).closed == 0);
  m = map::open(path);
  CHECK(m.recovery().outcome == dm::recovery_outcome::recovered);
  CHECK(m.size() == 1);
  CHECK(m.verify().empty());
}

TEST_CASE("a salvage that is killed goes on as a salvage") {
  temporary_directory directory;
  const auto path = directory / "m";
  {
    map m = map::create(path, small);
    m.insert(1);
  }
  dm::control_block control = control_of(path);
  control.closed = control.synced = 0;
  control.recovering = dm::recovering_salvage;
  put_control(path, control);
  CHECK(code_of([&] { map::open(path); }) == dm::errc::unclean_after_reboot);
  map m = map::open(path, {.salvage = true});
  CHECK(m.size() == 1);
  CHECK(m.verify().empty());
}

TEST_CASE("a file that a tool copied with holes is given its blocks again when opened") {
  temporary_directory directory;
  {
    map m = map::create(directory / "m", small);
    for (std::uint64_t i = 0; i < 100'000; ++i) m.insert(0);
  }
  const std::string command =
      "cp --sparse=always '" + (directory / "m").string() + "' '" + (directory / "copy").string() + "'";
  REQUIRE(std::system(command.c_str()) == 0);
  struct stat before {};
  REQUIRE(::stat((directory / "copy").c_str(), &before) == 0);
  const map m = map::open(directory / "copy");
  struct stat after {};
  REQUIRE(::stat((directory / "copy").c_str(), &after) == 0);
  CHECK(static_cast<std::uint64_t>(after.st_blocks) * 512 >= m.capacity() * sizeof(dm::slot<std::uint64_t>));
  CHECK(after.st_blocks >= before.st_blocks);
  CHECK(m.size() == 100'000);
}

TEST_CASE("options that cannot be met are refused before anything is made") {
  temporary_directory directory;
  CHECK(code_of([&] { map::create(directory / "m", {.max_slots = 1ull << 33}); }) == dm::errc::bad_options);
  CHECK(code_of([&] { map::create(directory / "m", {.max_slots = 10, .reserve_slots = 11}); }) ==
        dm::errc::bad_options);
  CHECK(code_of([&] { map::create(directory / "m", {.permissions = 04755}); }) == dm::errc::bad_options);
  CHECK(code_of([&] { map::create(""); }) == dm::errc::bad_options);
  CHECK(std::filesystem::is_empty(directory.path()));
}

TEST_CASE("the calls with an error_code say the same without throwing") {
  temporary_directory directory;
  std::error_code code;
  map m = map::open(directory / "absent", code);
  CHECK(code == dm::errc::not_found);
  CHECK(code == std::errc::no_such_file_or_directory);
  CHECK_FALSE(m.is_open());
  m = map::create(directory / "no such directory" / "m", code);
  CHECK(code == dm::errc::not_found);
  m = map::open_or_create(directory / "m", code);
  CHECK_FALSE(code);
  CHECK(m.is_open());
  m.flush(code);
  CHECK_FALSE(code);
  m.close(code);
  CHECK_FALSE(code);
  m = map::open_read_only(directory / "m", code);
  CHECK_FALSE(code);
  CHECK(m.is_read_only());
}

TEST_CASE("the layout of the index in the file is the container's") {
  for (const std::uint64_t slots : {1ull, 63ull, 64ull, 65ull, 4096ull, 4097ull, 1'000'000ull, 0xffff'ffffull}) {
    const dm::index_shape container(slots);
    const dm::index_levels file(slots);
    REQUIRE(container.levels == file.levels);
    CHECK(container.words_total == file.words_total);
    for (unsigned level = 0; level < file.levels; ++level) {
      CHECK(container.words[level] == file.words[level]);
      CHECK(container.offset[level] == file.offset[level]);
    }
  }
}
