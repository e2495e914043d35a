// File systems in which room runs out at every page there is: each growth meets the wall once, wherever it stands.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <iostream>

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
    WARN("not tested here: " << said);
  else
    CHECK(said == "");
}

/// What was seen of walls, over all places they stood at.
struct walls {
  int creations = 0;
  int growths = 0;
  int reservations = 0;
};

void expect_full(const std::optional<dm::error>& error) {
  expect(error && error->code() == dm::errc::full, error ? error->what() : "no error");
  const std::string said = error->what();
  expect(said.find("disk is full") != std::string::npos && said.find("make room") != std::string::npos, said);
}

/// A whole life on a file system with little room; `make_room` gives it more, and `remount` takes it off and on again.
template <class MakeRoom, class Remount>
void live(const std::filesystem::path& directory, std::uint64_t reserve_slots, MakeRoom make_room, Remount remount,
          walls& seen) {
  const auto path = directory / "m";
  map m;
  const auto failed = error_of([&] { m = map::create(path, {.max_slots = 100'000, .reserve_slots = reserve_slots}); });
  if (failed) {
    expect_full(failed);
    expect(!std::filesystem::exists(path), "a creation that failed left a file");
    ++seen.creations;
    make_room();
    m = map::create(path, {.max_slots = 100'000, .reserve_slots = reserve_slots});
    m.insert({});
    return;
  }
  expect(m.capacity() >= reserve_slots, "fewer slots than were asked for");
  std::vector<dm::key> keys;
  const auto whole = [&](const map& of) {
    expect(of.size() == keys.size(), "the size is another");
    expect(of.verify().empty(), of.verify());
    for (std::size_t i = 0; i < keys.size(); ++i) expect(of.at(keys[i]) == value_of(i), "a value has changed");
  };
  for (;;) {
    const std::uintmax_t size = std::filesystem::file_size(path);
    const auto full = error_of([&] { keys.push_back(m.insert(value_of(keys.size()))); });
    if (!full) continue;
    expect_full(full);
    expect(std::filesystem::file_size(path) == size, "a growth that failed left the file longer");
    ++seen.growths;
    break;
  }
  whole(m);
  for (const std::size_t additional : {1u, 50u, 1'000u, 50'000u}) {
    const std::uintmax_t size = std::filesystem::file_size(path);
    expect_full(error_of([&] { m.reserve(additional); }));
    expect(std::filesystem::file_size(path) == size, "a reservation that failed left the file longer");
    ++seen.reservations;
  }
  whole(m);
  if (!keys.empty()) {  // what is removed makes room
    m.erase(keys.back());
    keys.back() = m.insert(value_of(keys.size() - 1));
  }
  m.close();
  m = map::open(path);  // needs no room
  expect(m.recovery().outcome == dm::recovery_outcome::clean, "not clean");
  whole(m);
  expect_full(error_of([&] { m.insert({}); }));
  make_room();
  for (int i = 0; i < 500; ++i) keys.push_back(m.insert(value_of(keys.size())));
  whole(m);
  m.close();
  remount();
  whole(map::open_read_only(path));
}

/// Leaves exactly `pages` free, by means of a file that takes the rest.
void leave_free(const std::filesystem::path& directory, std::uint64_t pages) {
  const std::filesystem::path ballast = directory / "ballast";
  const int descriptor = ::open(ballast.c_str(), O_RDWR | O_CREAT, 0600);
  expect(descriptor >= 0, "ballast");
  struct statvfs status {};
  (void)::fstatvfs(descriptor, &status);
  const auto size = static_cast<off_t>((status.f_bavail > pages ? status.f_bavail - pages : 0) * 4096);
  const bool taken = size == 0 || ::posix_fallocate(descriptor, 0, size) == 0;
  ::close(descriptor);
  expect(taken, "ballast");
}

}  // namespace

TEST_CASE("on a tmpfs with room for any number of pages, each growth that meets its end is errc::full") {
  temporary_directory directory;
  check(in_own_mounts([&] {
    walls seen;
    for (const std::uint64_t reserve_slots : {0u, 400u})
      for (int pages = 1; pages < 48; ++pages) {
        mount_tmpfs(directory.path(), "huge=never,size=" + std::to_string(pages * 4) + "k");
        live(
            directory.path(), reserve_slots, [&] { mount_tmpfs(directory.path(), "size=4m", MS_REMOUNT); }, [] {},
            seen);
        expect(::umount(directory.path().c_str()) == 0, "umount");
      }
    std::cout << "tmpfs: " << seen.creations << " creations, " << seen.growths << " growths, " << seen.reservations
              << " reservations met a full disk" << std::endl;
    expect(seen.creations > 10 && seen.growths > 60, "walls that nobody met");
  }));
}

TEST_CASE("on a real ext4 too, where a growth that fails has taken some blocks already") {
  temporary_directory directory{temporary_directory::in_memory()};
  check(in_own_mounts([&] {
    const auto at = directory / "mounted";
    std::filesystem::create_directory(at);
    mount_ext4(at, directory / "image", "4m", "-O ^has_journal");
    walls seen;
    for (const std::uint64_t reserve_slots : {0u, 400u})
      for (std::uint64_t pages = 0; pages < (reserve_slots == 0 ? 32 : 16); ++pages) {
        leave_free(at, pages);
        live(
            at, reserve_slots, [&] { std::filesystem::remove(at / "ballast"); },
            [&] {
              // From the disk again, not from the page cache.
              if (pages % 8 != 0) return;
              require_command("umount '" + at.string() + "'");
              require_command("mount -o loop '" + (directory / "image").string() + "' '" + at.string() + "'");
            },
            seen);
        std::filesystem::remove(at / "m");
        std::filesystem::remove(at / "ballast");
      }
    std::cout << "ext4: " << seen.creations << " creations, " << seen.growths << " growths, " << seen.reservations
              << " reservations met a full disk" << std::endl;
    expect(seen.creations > 10 && seen.growths > 20, "walls that nobody met");
  }));
}

TEST_CASE("a growth that needs a further page of the index meets the end of the disk as well") {
  using small_map = dm::mapped_map<std::uint32_t>;  // 512 slots a page, 32 768 to a page of the index
  temporary_directory directory;
  check(in_own_mounts([&] {
    for (int pages = 66; pages < 76; ++pages) {
      mount_tmpfs(directory.path(), "huge=never,size=" + std::to_string(pages * 4) + "k");
      const auto path = directory / "m";
      small_map m = small_map::create(path, {.max_slots = 1'000'000});
      std::uint32_t count = 0;
      std::optional<dm::error> full;
      while (!(full = error_of([&] { m.insert(count); }))) ++count;
      expect_full(full);
      expect(count > 30'000 && m.size() == count, "another size");
      expect(m.verify().empty(), m.verify());
      mount_tmpfs(directory.path(), "size=4m", MS_REMOUNT);
      while (count < 40'000) m.insert(count++);
      expect(m.verify().empty(), m.verify());
      m.close();
      expect(::umount(directory.path().c_str()) == 0, "umount");
    }
  }));
}

TEST_CASE("a sparse copy is refused with errc::full at every page that is missing for its holes, and then opens") {
  temporary_directory directory;
  check(in_own_mounts([&] {
    mount_tmpfs(directory.path(), "huge=never,size=4m");
    const auto path = directory / "m";
    {
      map m = map::create(path, {.max_slots = 100'000});
      for (std::uint64_t i = 0; i < 200; ++i) m.insert(value_of(i));
      m.reserve(1'000);  // some 25 pages without a byte in them
    }
    require_command("cp --sparse=always '" + path.string() + "' '" + (directory / "copy").string() + "'");
    std::filesystem::remove(path);
    int refused = 0;
    for (std::uint64_t pages = 0;; ++pages) {
      leave_free(directory.path(), pages);
      const auto error = error_of([&] { map::open(directory / "copy"); });
      std::filesystem::remove(directory / "ballast");
      if (!error) break;
      expect(error->code() == dm::errc::full, error->what());
      expect(map::open_read_only(directory / "copy").size() == 200, "cannot be read either");
      ++refused;
    }
    expect(refused > 20, "holes that needed no room");
    const map m = map::open(directory / "copy");
    expect(m.size() == 200 && m.verify().empty(), "not as it was");
  }));
}

TEST_CASE("a quota that is used up is errc::full and is called a quota") {
  temporary_directory directory{temporary_directory::in_memory()};
  check(in_own_mounts([&] {
    // btrfs, whose quotas need nothing but its own tools.
    const auto at = directory / "mounted";
    const std::string image = "'" + (directory / "image").string() + "'";
    std::filesystem::create_directory(at);
    require_command("truncate -s 200m " + image);
    require_command("mkfs.btrfs -q " + image);
    require_command("mount -o loop " + image + " '" + at.string() + "'");
    require_command("btrfs quota enable '" + at.string() + "'");
    require_command("btrfs subvolume create '" + (at / "v").string() + "'");
    require_command("btrfs qgroup limit 2m '" + (at / "v").string() + "'");
    const auto path = at / "v" / "m";
    map m = map::create(path, {.max_slots = 1'000'000});
    std::uint64_t count = 0;
    std::optional<dm::error> full;
    while (!(full = error_of([&] { m.insert(value_of(count)); }))) ++count;
    expect(full->code() == dm::errc::full, full->what());
    expect(std::string(full->what()).find("quota") != std::string::npos, full->what());
    expect(count > 1'000 && m.size() == count && m.verify().empty(), "not whole");
    require_command("btrfs qgroup limit none '" + (at / "v").string() + "'");
    for (int i = 0; i < 20'000; ++i) m.insert({});
    m.close();
    expect(map::open_read_only(path).size() == count + 20'000, "values are missing");
  }));
}
