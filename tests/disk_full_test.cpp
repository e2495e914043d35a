// Disks that fill up, directories that cannot be written to, limits that are reached: a clear error, an intact map.
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fstream>

#include "catch.hpp"
#include "deferred_map/mapped_map.hpp"
#include "files.hpp"
#include "small_filesystem.hpp"
#include "temporary_directory.hpp"

namespace {

using values = std::array<std::uint64_t, 12>;
using map = dm::mapped_map<values>;

values value_of(std::uint64_t i) {
  values v;
  v.fill(i);
  return v;
}

void check(const std::string& said) {
  if (said.starts_with("unavailable"))
    WARN("not tested here, this machine allows no mounting: " << said);
  else
    CHECK(said == "");
}

/// Fills the map until the disk is full, and makes sure of everything that was promised for that moment.
std::vector<dm::key> fill(map& m, const std::filesystem::path& path) {
  std::vector<dm::key> keys;
  const std::size_t size_before = m.size();
  for (;;) {
    const auto error = error_of([&] { keys.push_back(m.insert(value_of(keys.size()))); });
    if (!error) continue;
    expect(error->code() == dm::errc::full, std::string("another error than full: ") + error->what());
    expect(error->code() == std::errc::no_space_on_device, "full is not no_space_on_device");
    expect(std::string(error->what()).find("make room") != std::string::npos, error->what());
    break;
  }
  expect(m.size() == size_before + keys.size(), "the size counts the insert that failed");
  expect(m.verify().empty(), m.verify());
  for (std::size_t i = 0; i < keys.size(); ++i) expect(m.at(keys[i]) == value_of(i), "a value has changed");
  expect(std::filesystem::file_size(path) < 1u << 30, "the file is as large as it can be");
  return keys;
}

}  // namespace

TEST_CASE("a disk that is full is an exception, never a signal, and the map goes on") {
  temporary_directory directory;
  for (const char* size : {"size=900k", "size=1m", "size=3m", "size=8m"}) {
    check(in_own_mounts([&] {
      mount_tmpfs(directory.path(), size);
      const auto path = directory / "m";
      map m = map::create(path, {.max_slots = 1'000'000});
      const auto keys = fill(m, path);
      expect(keys.size() > 100, "there was room for more");
      // Handles fail the same way, and what is removed makes room again.
      expect(code_of([&] { (void)m.allocate_handle().key(); }) == dm::errc::full,
             "a handle for which there is no slot");
      for (std::size_t i = 0; i < keys.size(); i += 2) m.erase(keys[i]);
      for (std::size_t i = 0; i < keys.size(); i += 2) m.insert(value_of(i));
      expect(code_of([&] { m.insert({}); }) == dm::errc::full, "one slot too many");
      expect(code_of([&] { m.reserve(100'000); }) == dm::errc::full, "room that is not there");
      expect(m.verify().empty(), m.verify());
      m.close();
      m = map::open(path);
      expect(m.recovery().outcome == dm::recovery_outcome::clean, "not clean");
      expect(m.size() == keys.size(), "values are missing");
      expect(m.verify().empty(), m.verify());
    }));
  }
}

TEST_CASE("all of a full disk's room is used before errc::full, and growing resumes when there is room again") {
  temporary_directory directory;
  check(in_own_mounts([&] {
    mount_tmpfs(directory.path(), "size=6m");
    const auto path = directory / "m";
    {
      std::ofstream ballast(directory / "ballast");
      ballast << std::string(2 << 20, 'x');
    }
    map m = map::create(path, {.max_slots = 1'000'000});
    const std::size_t at_first = fill(m, path).size();
    struct statvfs status {};
    ::statvfs(directory.path().c_str(), &status);
    expect(status.f_bavail * status.f_bsize < 64 << 10, "room was left unused");
    std::filesystem::remove(directory / "ballast");
    const std::size_t then = fill(m, path).size();
    expect(then > 15'000, "freed room was not used: " + std::to_string(at_first) + " then " + std::to_string(then));
  }));
}

TEST_CASE("a sparse copy that the disk has no room for is refused and takes no room") {
  temporary_directory directory;
  check(in_own_mounts([&] {
    mount_tmpfs(directory.path(), "size=16m");
    {
      map m = map::create(directory / "m", {.max_slots = 1'000'000});
      for (int i = 0; i < 60'000; ++i) m.insert({});
    }
    // Zeros in all values but the versions: nothing to leave out; so make the hole by hand, where the last slots were.
    const std::uintmax_t size = std::filesystem::file_size(directory / "m");
    std::filesystem::resize_file(directory / "m", size - (4 << 20));
    std::filesystem::resize_file(directory / "m", size);
    {
      std::ofstream ballast(directory / "ballast");
      ballast << std::string(16 << 20, 'x');  // takes all there is
    }
    struct stat before {};
    struct stat after {};
    ::stat((directory / "m").c_str(), &before);
    const auto error = error_of([&] { map::open(directory / "m"); });
    expect(error && error->code() == dm::errc::full, "was opened, or refused for another reason");
    ::stat((directory / "m").c_str(), &after);
    expect(before.st_blocks == after.st_blocks, "took room it could not use");
    std::filesystem::remove(directory / "ballast");
    expect(map::open(directory / "m").size() == 60'000, "values are missing");
  }));
}

TEST_CASE("a disk too full for a new arena leaves no file behind") {
  temporary_directory directory;
  check(in_own_mounts([&] {
    mount_tmpfs(directory.path(), "size=8k");
    expect(code_of([&] { map::create(directory / "m"); }) == dm::errc::full, "made it all the same");
    expect(std::filesystem::is_empty(directory.path()), "left something behind");
  }));
}

TEST_CASE("a read-only file system can be read from and says so when written to") {
  temporary_directory directory;
  check(in_own_mounts([&] {
    mount_tmpfs(directory.path(), "size=8m");
    dm::key k;
    {
      map m = map::create(directory / "m");
      k = m.insert(value_of(5));
    }
    mount_tmpfs(directory.path(), "size=8m", MS_REMOUNT | MS_RDONLY);
    const auto error = error_of([&] { map::open(directory / "m"); });
    expect(error && error->code() == dm::errc::read_only, "opened for writing");
    expect(std::string(error->what()).find("open_read_only") != std::string::npos, error->what());
    expect(code_of([&] { map::create(directory / "n"); }) == dm::errc::read_only, "made a file");
    expect(map::open_read_only(directory / "m").at(k) == value_of(5), "another value");
  }));
}

TEST_CASE("a directory that may not be written to says so, and nothing appears in it") {
  temporary_directory directory;
  check(in_own_mounts([&] {
    map::create(directory / "m").close();
    expect(::chmod(directory.path().c_str(), 0555) == 0 && ::chmod((directory / "m").c_str(), 0444) == 0, "chmod");
    if (::geteuid() == 0) expect(::setegid(65534) == 0 && ::seteuid(65534) == 0, "unavailable: becoming nobody");
    const auto create = error_of([&] { map::create(directory / "n"); });
    expect(create && create->code() == std::errc::permission_denied, "made a file");
    expect(std::string(create->what()).find("not permitted") != std::string::npos, create->what());
    const auto open = error_of([&] { map::open(directory / "m"); });
    expect(open && open->code() == std::errc::permission_denied, "opened for writing");
  }));
}

TEST_CASE("the limit on file sizes is errc::full, not SIGXFSZ") {
  temporary_directory directory;
  check(in_own_mounts([&] {
    map m = map::create(directory / "m", {.max_slots = 100'000});
    const rlimit limit{4 << 20, 4 << 20};
    expect(::setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit");
    fill(m, directory / "m");
    expect(code_of([&] { map::create(directory / "n", {.max_slots = 1'000'000'000}); }) == dm::errc::full,
           "made a file past the limit");
  }));
}
