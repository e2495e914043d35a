// Files migrated from one type to the next: what is kept, what is refused, and that failing leaves nothing behind.
#include "deferred_map/migrate.hpp"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "migrating.hpp"
#include "small_filesystem.hpp"
#include "temporary_directory.hpp"

using dm::migrate;
using test::check_migrated;
using test::make_old_file;
using test::names_in;
using test::new_map;
using test::old_map;
using test::upgraded;
using names = std::set<std::string>;

namespace {

struct stat status_of(const std::filesystem::path& path) {
  struct stat status {};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status;
}

void set_boot_id(const std::filesystem::path& path, std::uint64_t boot_id) {
  const auto header = read_at<dm::arena_header>(path, 0);
  write_at(path, header.control_offset + offsetof(dm::control_block, boot_id), boot_id);
}

/// Runs `work` on the open map in a child that is killed after it.
template <class F>
void in_killed_child(const std::filesystem::path& path, F work) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      old_map m = old_map::open(path);
      work(m);
      ::kill(::getpid(), SIGKILL);
    } catch (...) {
      ::_exit(1);
    }
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
}

void check(const std::string& said) {
  if (said.starts_with("unavailable"))
    WARN("not tested here, this machine allows no mounting: " << said);
  else
    CHECK(said == "");
}

}  // namespace

TEST_CASE("every key names the migrated value, every dead key stays dead, and the old file is as it was") {
  temporary_directory directory;
  make_old_file(directory / "old");
  const std::string before = read_file(directory / "old");
  const auto report = migrate<v1::item, v2::item>(directory / "old", directory / "new", upgraded);
  CHECK(read_file(directory / "old") == before);
  CHECK(names_in(directory.path()) == names{"old", "new"});
  const old_map old = old_map::open_read_only(directory / "old");
  CHECK(report.slots == old.slot_count());
  CHECK(report.values == old.size());
  CHECK(report.retired == 2);
  CHECK(report.dropped == 0);
  CHECK(report.reserved_given_back == 0);
  CHECK(report.to_string() == std::to_string(old.size()) + " values in " + std::to_string(old.slot_count()) +
                                  " slots migrated, 2 slots retired");
}

TEST_CASE("generations, the floor they start from and retirement go along") {
  temporary_directory directory;
  make_old_file(directory / "old");
  migrate<v1::item, v2::item>(directory / "old", directory / "new", upgraded);
  check_migrated(directory / "old", directory / "new");
}

TEST_CASE("a hundred thousand values are migrated in place") {
  temporary_directory directory;
  make_old_file(directory / "m", 100'000, {.max_slots = 1'000'000});
  std::filesystem::copy_file(directory / "m", directory / "copy");
  const auto report = migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded);
  CHECK(report.values > 60'000);
  CHECK(names_in(directory.path()) == names{"copy", "m"});
  check_migrated(directory / "copy", directory / "m");
}

TEST_CASE("in place is the same name in the same directory, however it is spelt") {
  temporary_directory directory;
  std::filesystem::create_directory(directory / "below");
  std::filesystem::create_directory_symlink(directory.path(), directory / "here");
  make_old_file(directory / "m");
  migrate<v1::item, v2::item>(directory / "m", directory / "here" / "below" / ".." / "m", upgraded);
  CHECK(new_map::open(directory / "m").size() > 500);
  CHECK(names_in(directory.path()) == names{"below", "here", "m"});
}

TEST_CASE("an empty file, and one of which nothing is left but generations, are migrated") {
  temporary_directory directory;
  old_map::create(directory / "empty", {.max_slots = 100}).close();
  migrate<v1::item, v2::item>(directory / "empty", directory / "empty", upgraded);
  CHECK(new_map::open(directory / "empty").slot_count() == 0);
  {
    old_map m = old_map::create(directory / "shrunk", {.max_slots = 100});
    m.erase(m.insert({}));
    m.shrink_to_fit();
  }
  migrate<v1::item, v2::item>(directory / "shrunk", directory / "shrunk", upgraded);
  new_map m = new_map::open(directory / "shrunk");
  CHECK(m.generation_floor() == 2);
  CHECK(m.insert({}).generation() == 2);
}

TEST_CASE("a file whose user was killed is migrated in its recovered state, and is as it was") {
  temporary_directory directory;
  make_old_file(directory / "old");
  in_killed_child(directory / "old", [](old_map& m) {
    for (int i = 0; i < 50; ++i) (void)m.allocate_handle().key();
    m.insert({4000, 1000});
  });
  const std::string before = read_file(directory / "old");
  const auto report = migrate<v1::item, v2::item>(directory / "old", directory / "new", upgraded);
  CHECK(report.reserved_given_back == 50);
  CHECK(report.to_string().ends_with("50 reserved slots given back"));
  CHECK(read_file(directory / "old") == before);
  std::filesystem::copy_file(directory / "old", directory / "in place");
  migrate<v1::item, v2::item>(directory / "in place", directory / "in place", upgraded);
  std::filesystem::copy_file(directory / "old", directory / "again");
  check_migrated(directory / "old", directory / "new");
  check_migrated(directory / "again", directory / "in place");
}

TEST_CASE("an update that was committed and not yet copied is in the migrated file") {
  temporary_directory directory;
  dm::key k;
  {
    old_map m = old_map::create(directory / "m", {.max_slots = 100});
    k = m.insert({4, 1});
  }
  const auto header = read_at<dm::arena_header>(directory / "m", 0);
  auto control = read_at<dm::control_block>(directory / "m", header.control_offset);
  control.closed = control.synced = 0;
  control.update_pending = 1;
  control.update_index = k.index();
  control.update_version = k.occupied_version();
  write_at(directory / "m", header.scratch_offset, v1::item{8, 2});
  write_at(directory / "m", header.control_offset, control);
  migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded);
  CHECK(new_map::open(directory / "m").at(k).price_cents == 200);
}

TEST_CASE("values for which there is no new one are dropped, and their keys die") {
  temporary_directory directory;
  make_old_file(directory / "m");
  std::vector<dm::key> kept, dropped;
  std::uint32_t retired = 2;
  const auto report = migrate<v1::item, v2::item>(directory / "m", directory / "m",
                                                  [&](dm::key k, const v1::item& old) -> std::optional<v2::item> {
                                                    if (k.index() % 7 != 0) {
                                                      kept.push_back(k);
                                                      return upgraded(k, old);
                                                    }
                                                    dropped.push_back(k);
                                                    retired += k.generation() == dm::version::last_generation;
                                                    return std::nullopt;
                                                  });
  CHECK(report.values == kept.size());
  CHECK(report.dropped == dropped.size());
  CHECK(report.retired == 3);  // slot 7 was in its last life
  CHECK(report.retired == retired);
  new_map m = new_map::open(directory / "m");
  CHECK(m.verify() == "");
  CHECK(m.size() == kept.size());
  for (const dm::key k : kept) REQUIRE(m.contains(k));
  for (const dm::key k : dropped) REQUIRE_FALSE(m.contains(k));
  const auto next = test::next_keys(m);
  for (const dm::key k : dropped) REQUIRE_FALSE(next.contains(k));
  CHECK(next.contains(dm::key::from_parts(dropped[0].index(), dropped[0].generation() + 1)));
}

TEST_CASE("an exception from f leaves the old file as it was, and nothing else") {
  temporary_directory directory;
  make_old_file(directory / "m");
  const std::string before = read_file(directory / "m");
  for (const char* to : {"m", "new"}) {
    int calls = 0;
    CHECK_THROWS_AS((migrate<v1::item, v2::item>(directory / "m", directory / to,
                                                 [&](dm::key k, const v1::item& old) {
                                                   if (++calls == 300) throw std::runtime_error("no");
                                                   return upgraded(k, old);
                                                 })),
                    std::runtime_error);
    CHECK(read_file(directory / "m") == before);
    CHECK(names_in(directory.path()) == names{"m"});
  }
  CHECK(old_map::open(directory / "m").recovery().outcome == dm::recovery_outcome::clean);
}

TEST_CASE("a disk without room for both files leaves the old one as it was, and nothing else") {
  temporary_directory directory;
  for (const char* size : {"size=100k", "size=150k", "size=200k"})
    check(in_own_mounts([&] {
      mount_tmpfs(directory.path(), size);
      old_map::create(directory / "m", {.max_slots = 10'000}).close();
      {
        old_map m = old_map::open(directory / "m");
        for (std::uint32_t i = 0; i < 2000; ++i) m.insert({i, static_cast<float>(i) / 4});
      }
      const std::string before = read_file(directory / "m");
      for (const char* to : {"m", "new"}) {
        const auto error = error_of([&] { migrate<v1::item, v2::item>(directory / "m", directory / to, upgraded); });
        expect(error && error->code() == dm::errc::full, "was migrated, or refused for another reason");
        expect(read_file(directory / "m") == before, "the old file has changed");
        expect(names_in(directory.path()) == names{"m"}, "something was left behind");
      }
      mount_tmpfs(directory.path(), "size=8m", MS_REMOUNT);
      migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded);
      expect(new_map::open(directory / "m").size() == 2000, "values are missing");
    }));
}

TEST_CASE("what is there already is never replaced, unless it is the old file itself") {
  temporary_directory directory;
  make_old_file(directory / "m");
  const std::string before = read_file(directory / "m");
  write_file(directory / "precious", "precious");
  std::filesystem::create_directory(directory / "directory");
  std::filesystem::create_symlink(directory / "m", directory / "symlink");
  std::filesystem::create_symlink(directory / "nothing", directory / "dangling");
  std::filesystem::create_hard_link(directory / "m", directory / "second name");
  for (const char* to : {"precious", "directory", "symlink", "dangling", "second name"}) {
    INFO(to);
    int calls = 0;
    CHECK(code_of([&] {
            migrate<v1::item, v2::item>(directory / "m", directory / to, [&](const v1::item&) {
              ++calls;
              return v2::item{};
            });
          }) == dm::errc::exists);
    CHECK(calls == 0);
  }
  CHECK(read_file(directory / "m") == before);
  CHECK(read_file(directory / "precious") == "precious");
  CHECK(names_in(directory.path()) == names{"m", "precious", "directory", "symlink", "dangling", "second name"});
  // Somebody may be faster: then theirs stays.
  const auto error = error_of([&] {
    migrate<v1::item, v2::item>(directory / "m", directory / "new", [&](dm::key k, const v1::item& old) {
      write_file(directory / "new", "theirs");
      return upgraded(k, old);
    });
  });
  REQUIRE(error);
  CHECK(error->code() == dm::errc::exists);
  CHECK(read_file(directory / "new") == "theirs");
}

TEST_CASE("another file that took the name while its migration ran is not replaced") {
  temporary_directory directory;
  make_old_file(directory / "m");
  make_old_file(directory / "other", 300);
  const std::string other = read_file(directory / "other");
  const auto error = error_of([&] {
    migrate<v1::item, v2::item>(directory / "m", directory / "m", [&](dm::key k, const v1::item& old) {
      if (k.index() == 7) std::filesystem::rename(directory / "other", directory / "m");
      return upgraded(k, old);
    });
  });
  REQUIRE(error);
  CHECK(error->code() == dm::errc::not_found);
  CHECK(read_file(directory / "m") == other);
  CHECK(names_in(directory.path()) == names{"m"});
}

TEST_CASE("what is no file of Old is refused as by opening it, and so is what was migrated already") {
  temporary_directory directory;
  make_old_file(directory / "m");
  migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded);
  const std::string before = read_file(directory / "m");
  const auto error = error_of([&] { migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded); });
  REQUIRE(error);
  CHECK(error->code() == dm::errc::type_mismatch);
  CHECK(std::string(error->what()).find("the file has version 2 of item, the program has version 1") !=
        std::string::npos);
  write_file(directory / "text", "text");
  const auto refused = [&](const std::filesystem::path& from, const std::filesystem::path& to) {
    return code_of([&] { migrate<v1::item, v2::item>(from, to, upgraded); });
  };
  CHECK(refused(directory / "text", directory / "text") == dm::errc::not_an_arena);
  CHECK(refused(directory / "nothing", directory / "nothing") == dm::errc::not_found);
  CHECK(refused(directory / "nothing", directory / "new") == dm::errc::not_found);
  CHECK(refused("", "") == dm::errc::bad_options);
  CHECK(refused(directory / "m", "") == dm::errc::type_mismatch);
  CHECK(read_file(directory / "m") == before);
  make_old_file(directory / "old");
  CHECK(refused(directory / "old", "") == dm::errc::bad_options);
  CHECK(refused(directory / "old", directory / "none" / "new") == dm::errc::not_found);
  CHECK(names_in(directory.path()) == names{"m", "text", "old"});
}

TEST_CASE("a version that no operation leaves is damage, and nothing is made of it") {
  temporary_directory directory;
  make_old_file(directory / "m");
  test::plant_version(directory / "m", 444, dm::version::occupied(dm::version::retired_generation));
  const std::string before = read_file(directory / "m");
  const auto error = error_of([&] { migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded); });
  REQUIRE(error);
  CHECK(error->code() == dm::errc::damaged);
  CHECK(std::string(error->what()).find("slot 444") != std::string::npos);
  CHECK(read_file(directory / "m") == before);
  CHECK(names_in(directory.path()) == names{"m"});
}

TEST_CASE("an index that lies is found with verify, and else made anew") {
  temporary_directory directory;
  make_old_file(directory / "m");
  const auto header = read_at<dm::arena_header>(directory / "m", 0);
  write_at(directory / "m", header.index_offset, ~read_at<std::uint64_t>(directory / "m", header.index_offset));
  std::filesystem::copy_file(directory / "m", directory / "copy");
  CHECK(code_of([&] { migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded, {.verify = true}); }) ==
        dm::errc::damaged);
  migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded);
  check_migrated(directory / "copy", directory / "m");
}

TEST_CASE("while it runs nobody may write to the old file; in place nobody may have it open") {
  temporary_directory directory;
  make_old_file(directory / "m");
  const auto in_use = dm::errc::in_use;
  const auto try_all = [&](std::error_code readers_get) {
    return [&, readers_get](dm::key k, const v1::item& old) {
      if (k.index() == 7) {
        CHECK(code_of([&] { old_map::open(directory / "m"); }) == in_use);
        CHECK(code_of([&] { old_map::open_read_only(directory / "m"); }) == readers_get);
      }
      return upgraded(k, old);
    };
  };
  {
    const old_map reader = old_map::open_read_only(directory / "m");
    migrate<v1::item, v2::item>(directory / "m", directory / "new", try_all({}));
    const auto error = error_of([&] { migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded); });
    REQUIRE(error);
    CHECK(error->code() == in_use);
    CHECK(std::string(error->what()).find("only while nobody has it open") != std::string::npos);
  }
  {
    const old_map writer = old_map::open(directory / "m");
    CHECK(code_of([&] { migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded); }) == in_use);
    CHECK(code_of([&] { migrate<v1::item, v2::item>(directory / "m", directory / "newer", upgraded); }) == in_use);
  }
  migrate<v1::item, v2::item>(directory / "m", directory / "m", try_all(in_use));
  new_map::open(directory / "m").close();
  new_map::open(directory / "new").close();
}

TEST_CASE("owner, group and access rights are those of the old file unless others are asked for") {
  temporary_directory directory;
  make_old_file(directory / "m");
  const mode_t umask_before = ::umask(077);  // which does not count
  ::chmod((directory / "m").c_str(), 0664);
  const bool root = ::geteuid() == 0;
  if (root) REQUIRE(::chown((directory / "m").c_str(), 12345, 23456) == 0);
  migrate<v1::item, v2::item>(directory / "m", directory / "new", upgraded);
  migrate<v1::item, v2::item>(directory / "m", directory / "other", upgraded, {.permissions = 0640});
  migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded);
  ::umask(umask_before);
  CHECK((status_of(directory / "new").st_mode & 07777) == 0664);
  CHECK((status_of(directory / "m").st_mode & 07777) == 0664);
  CHECK((status_of(directory / "other").st_mode & 07777) == 0640);
  for (const char* name : {"new", "m", "other"}) {
    if (!root) break;
    CHECK(status_of(directory / name).st_uid == 12345);
    CHECK(status_of(directory / name).st_gid == 23456);
  }
  CHECK(code_of([&] {
          migrate<v2::item, v2::item>(directory / "m", directory / "x", [](const v2::item& i) { return i; },
                                      {.permissions = 04755});
        }) == dm::errc::bad_options);
}

TEST_CASE("a group that this process may not give gets no rights by another name") {
  if (::geteuid() != 0) {
    WARN("not tested here: needs root to become somebody else");
    return;
  }
  temporary_directory directory;
  make_old_file(directory / "m");
  ::chmod((directory / "m").c_str(), 0666);
  REQUIRE(::chown((directory / "m").c_str(), 12345, 23456) == 0);
  REQUIRE(::chmod(directory.path().c_str(), 0777) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      if (::setgid(777) != 0 || ::setuid(777) != 0) ::_exit(2);
      migrate<v1::item, v2::item>(directory / "m", directory / "new", upgraded);
      ::_exit(0);
    } catch (...) {
      ::_exit(1);
    }
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  CHECK(status_of(directory / "new").st_uid == 777);
  CHECK((status_of(directory / "new").st_mode & 07777) == 0606);
}

TEST_CASE("the new file can become as large as the old, or as is asked for") {
  temporary_directory directory;
  const auto max_of = [&](const char* name) { return read_at<dm::arena_header>(directory / name, 0).slots_max; };
  const auto to = [&](const char* from, const char* name, std::uint64_t max_slots) {
    return code_of(
        [&] { migrate<v1::item, v2::item>(directory / from, directory / name, upgraded, {.max_slots = max_slots}); });
  };
  make_old_file(directory / "m");
  const std::size_t slots = old_map::open_read_only(directory / "m").slot_count();
  CHECK_FALSE(to("m", "same", 0));
  CHECK(max_of("same") == 20'000);
  CHECK_FALSE(to("m", "larger", 50'000));
  CHECK(max_of("larger") == 50'000);
  CHECK_FALSE(to("m", "exact", slots));
  CHECK(max_of("exact") == slots);
  CHECK(new_map::open(directory / "exact").verify() == "");
  const auto error = error_of(
      [&] { migrate<v1::item, v2::item>(directory / "m", directory / "smaller", upgraded, {.max_slots = slots - 1}); });
  REQUIRE(error);
  CHECK(error->code() == dm::errc::bad_options);
  CHECK(std::string(error->what()).find("each keeps its place") != std::string::npos);
  CHECK(to("m", "too large", 1ull << 32) == dm::errc::bad_options);
  CHECK_FALSE(std::filesystem::exists(directory / "smaller"));
  // The default is a size, of which larger slots fill more.
  make_old_file(directory / "default", 1000, {});
  new_map::create(directory / "new default").close();
  CHECK_FALSE(to("default", "migrated", 0));
  CHECK(max_of("migrated") == max_of("new default"));
  CHECK(max_of("migrated") < max_of("default"));
}

TEST_CASE("a file that was open when the machine stopped is migrated by salvage only") {
  temporary_directory directory;
  make_old_file(directory / "m");
  in_killed_child(directory / "m", [](old_map& m) { m.insert({4000, 1000}); });
  set_boot_id(directory / "m", 12345);
  const std::string before = read_file(directory / "m");
  CHECK(code_of([&] { migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded); }) ==
        dm::errc::unclean_after_reboot);
  CHECK(read_file(directory / "m") == before);
  migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded, {.salvage = true});
  new_map m = new_map::open(directory / "m");
  CHECK(m.recovery().outcome == dm::recovery_outcome::clean);
  CHECK(m.verify() == "");
  CHECK(m.size() > 500);
}

TEST_CASE("the calls with an error_code say the same without throwing, but for what f throws") {
  temporary_directory directory;
  make_old_file(directory / "m");
  std::error_code code = dm::errc::full;
  const auto report = migrate<v1::item, v2::item>(directory / "m", directory / "new", upgraded, code);
  CHECK_FALSE(code);
  CHECK(report.values > 500);
  CHECK(migrate<v1::item, v2::item>(directory / "m", directory / "new", upgraded, {.max_slots = 9000}, code).values ==
        0);
  CHECK(code == dm::errc::exists);
  const auto no = [](const v1::item&) -> v2::item { throw std::runtime_error("no"); };
  CHECK_THROWS_AS((migrate<v1::item, v2::item>(directory / "m", directory / "m", no, code)), std::runtime_error);
}

TEST_CASE("files of strong keys are migrated with these, and to types one after another") {
  using order_key = dm::basic_key<struct order_tag>;
  temporary_directory directory;
  order_key k;
  {
    auto m = dm::mapped_map<std::uint16_t, order_key>::create(directory / "m", {.max_slots = 100});
    m.erase(m.insert(1));
    k = m.insert(7);
  }
  const auto path = directory / "m";
  migrate<std::uint16_t, std::uint32_t, order_key>(path, path, [](order_key, std::uint16_t n) { return n + 1u; });
  migrate<std::uint32_t, double, order_key>(path, path, [](std::uint32_t n) { return n / 2.0; });
  migrate<double, std::array<char, 4>, order_key>(path, path, [&](order_key is, const double& n) {
    CHECK(is == k);
    return std::array<char, 4>{static_cast<char>('0' + n)};
  });
  const auto m = dm::mapped_map<std::array<char, 4>, order_key>::open(path);
  CHECK(m.size() == 1);
  CHECK(std::string(m.at(k).data()) == "4");
}

TEST_CASE("what a migration that was killed between its last two system calls left is removed by the next") {
  temporary_directory directory;
  make_old_file(directory / "m");
  const auto hidden =
      directory / (".deferred-map-" + std::to_string(status_of(directory / "m").st_ino) + ".replacement");
  write_file(hidden, "complete, as far as anybody knows");
  const auto no = [](const v1::item&) -> v2::item { throw std::runtime_error("no"); };
  CHECK_THROWS_AS((migrate<v1::item, v2::item>(directory / "m", directory / "m", no)), std::runtime_error);
  CHECK(names_in(directory.path()) == names{"m"});
  write_file(hidden, "again");
  migrate<v1::item, v2::item>(directory / "m", directory / "m", upgraded);
  CHECK(names_in(directory.path()) == names{"m"});
  CHECK(new_map::open(directory / "m").size() > 500);
}
