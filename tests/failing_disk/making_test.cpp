// Making an arena among others: two creators at once, one that dies midway, names that come and go between two calls.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "../catch.hpp"
#include "../files.hpp"
#include "../temporary_directory.hpp"
#include "deferred_map/mapped_map.hpp"
#include "disk.hpp"

namespace {

using map = dm::mapped_map<std::uint64_t>;

const dm::arena_options small{.max_slots = 2'000, .reserve_slots = 10};

/// Makes file systems look as if they had no unnamed files, unless `available`.
int unnamed_files(bool available, disk::call made, int flags) {
  return !available && made == disk::call::open && (flags & O_TMPFILE) == O_TMPFILE ? EOPNOTSUPP : 0;
}

std::size_t entries_in(const std::filesystem::path& directory) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

}  // namespace

TEST_CASE("of two creators at once one makes the arena, and the other does not touch it, at whichever call they meet") {
  for (const bool unnamed : {true, false}) {
    std::size_t meetings = 0;
    for (std::size_t at = 0;; ++at) {
      temporary_directory directory{temporary_directory::in_memory()};
      const auto path = directory / "m";
      std::optional<map> other;
      dm::key k;
      std::size_t number = 0;
      std::error_code code;
      map m;
      {
        const disk::scripted watched([&](disk::call made, int flags) {
          if (number++ == at) {
            // The other runs through while we stand before a call of ours, and is in the midst of using its arena.
            std::error_code late;
            other = map::create(path, small, late);
            if (late) {
              CHECK(late == dm::errc::exists);
              other.reset();
            } else {
              k = other->insert(7);
            }
          }
          const int refused = unnamed_files(unnamed, made, flags);
          return refused != 0 ? refused : disk::is_sync(made) ? disk::done : 0;
        });
        m = map::create(path, small, code);
      }
      if (number <= at) break;  // a creation has no such call
      ++meetings;
      INFO("call " << at);
      if (other) {
        CHECK(code == dm::errc::exists);
        CHECK(code_of([&] { map::open(path); }) == dm::errc::in_use);
        CHECK(other->at(k) == 7);
        other->close();
        CHECK(map::open(path).at(k) == 7);
      } else {
        CHECK_FALSE(code);
        CHECK(m.insert(8));
      }
      CHECK(entries_in(directory.path()) == 1);
    }
    CHECK(meetings > 10);
  }
}

TEST_CASE("a creator that dies at whichever call leaves a whole arena or none, and blocks nobody") {
  for (const bool unnamed : {true, false}) {
    for (std::size_t at = 0;; ++at) {
      temporary_directory directory{temporary_directory::in_memory()};
      const auto path = directory / "m";
      const pid_t child = ::fork();
      if (child == 0) {
        std::size_t number = 0;
        const disk::scripted watched([&](disk::call made, int flags) {
          if (number++ == at) ::kill(::getpid(), SIGKILL);
          const int refused = unnamed_files(unnamed, made, flags);
          return refused != 0 ? refused : disk::is_sync(made) ? disk::done : 0;
        });
        const map m = map::create(path, small);
        ::_exit(0);
      }
      int status = 0;
      REQUIRE(::waitpid(child, &status, 0) == child);
      if (WIFEXITED(status)) break;
      INFO("call " << at);
      // Where the file system has no unnamed files, the hidden name stays; it is in nobody's way.
      CHECK(entries_in(directory.path()) <= (unnamed ? 1u : 2u));
      if (std::filesystem::exists(path)) CHECK(map::open_read_only(path).empty());
      map m = map::open_or_create(path, small);
      CHECK(m.insert(1));
      CHECK(m.verify().empty());
    }
  }
}

TEST_CASE(
    "a name that is removed or replaced while its file is being opened is not_found, and open_or_create goes on") {
  for (const bool replaced : {false, true}) {
    for (std::size_t at = 1;; ++at) {  // call 0 is the opening itself
      temporary_directory directory{temporary_directory::in_memory()};
      const auto path = directory / "m";
      map::create(path, small).close();
      map::create(directory / "other", small).close();
      std::size_t number = 0;
      bool locked = false;
      std::error_code code;
      map m;
      {
        const disk::scripted watched([&](disk::call made, int) {
          if (number++ == at) {
            if (replaced)
              std::filesystem::rename(directory / "other", path);
            else
              std::filesystem::remove(path);
          }
          // Once it is locked and found under its name it is ours, and what becomes of the name is not.
          if (made == disk::call::lock && number <= at) locked = true;
          return 0;
        });
        m = map::open(path, code);
      }
      if (locked || number <= at) break;
      INFO("call " << at);
      CHECK(code == dm::errc::not_found);
      m = map::open_or_create(path, small);
      CHECK(m.insert(1));
    }
  }
}

TEST_CASE("a lock that the file system does not grant is an error, not an open map") {
  temporary_directory directory;
  const auto path = directory / "m";
  map::create(path, small).close();
  const disk::scripted watched([](disk::call made, int) { return made == disk::call::lock ? ENOLCK : 0; });
  const auto error = error_of([&] { map::open(path); });
  REQUIRE(error);
  CHECK(error->code() == std::errc::no_lock_available);
}
