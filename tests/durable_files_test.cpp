// Which files are opened as a durable map, by whom, and what is refused and left as it is.
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "accounts.hpp"
#include "catch.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/mapped_map.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

using namespace accounts;

TEST_CASE("one process writes at a time, and is named to the next") {
  temporary_directory directory;
  const auto path = directory / "m";
  const map m = map::create(path, {.max_slots = 100});
  const auto refused = error_of([&] { map::open(path); });
  REQUIRE(refused);
  CHECK(refused->code() == dm::errc::in_use);
  CHECK(std::string(refused->what()).find(std::to_string(::getpid())) != std::string::npos);
  CHECK_NOTHROW(map::open_read_only(path));
}

TEST_CASE("other kinds of maps are refused, and so is another type") {
  temporary_directory directory;
  map::create(directory / "durable", {.max_slots = 100}).close();
  dm::mapped_map<account>::create(directory / "mapped", {.max_slots = 100}).close();
  CHECK(code_of([&] { dm::mapped_map<account>::open(directory / "durable"); }) == dm::errc::wrong_kind);
  CHECK(code_of([&] { map::open(directory / "mapped"); }) == dm::errc::wrong_kind);
  CHECK(code_of([&] { dm::durable_map<std::uint64_t>::open(directory / "durable"); }) == dm::errc::type_mismatch);
  CHECK(code_of([&] { map::open(directory / "nothing"); }) == dm::errc::not_found);
  CHECK(code_of([&] { map::create(directory / "durable"); }) == dm::errc::exists);
}

TEST_CASE("a journal that is missing, of another arena, or of another time is refused, and nothing is changed") {
  temporary_directory directory;
  const auto path = directory / "m", other = directory / "other";
  const auto left_open = [&](const std::filesystem::path& at, int commits) {
    in_killed_child([&] {
      static map m = map::open_or_create(at, {.max_slots = 100});
      for (int i = 0; i < commits; ++i) {
        m.insert(with_balance(i));
        m.commit();
      }
    });
  };
  left_open(path, 3);
  left_open(other, 3);
  const std::string arena = read_file(path), journal = read_file(journal_of(path));
  const auto refused = [&] {
    const auto why = error_of([&] { map::open(path); });
    CHECK(error_of([&] { map::open_read_only(path); }).has_value());
    CHECK(read_file(path) == arena);
    return why ? std::string(why->what()) : "nothing";
  };
  SECTION("missing") {
    std::filesystem::remove(journal_of(path));
    CHECK(refused().find("is missing") != std::string::npos);
    map m = map::open(path, {.salvage = true});  // what the arena alone has: nothing yet
    CHECK(m.verify() == "");
    CHECK(m.recovery().outcome == dm::recovery_outcome::salvaged);
  }
  SECTION("another arena's") {
    write_file(journal_of(path), read_file(journal_of(other)));
    CHECK(refused().find("belongs to another arena") != std::string::npos);
  }
  SECTION("an older journal") {
    {
      map m = map::open(path);
      m.insert(with_balance(9));
      m.commit();
      m.checkpoint();
    }
    {
      in_killed_child([&] {
        static map m = map::open(path);
        m.insert(with_balance(10));
        m.commit();
      });
    }
    write_file(journal_of(path), journal);
    const auto why = error_of([&] { map::open(path); });
    REQUIRE(why);
    CHECK(std::string(why->what()).find("of another time") != std::string::npos);
  }
  SECTION("an older arena") {
    in_killed_child([&] {
      static map m = map::open(path);
      m.checkpoint();
      m.insert(with_balance(10));
      m.commit();
      m.checkpoint();
      m.insert(with_balance(11));
      m.commit();
    });
    write_file(path, arena);
    CHECK(refused().find("of another time") != std::string::npos);
  }
  SECTION("no journal at all") {
    write_file(journal_of(path), std::string(100'000, 'x'));
    CHECK(refused().find("damaged") != std::string::npos);
  }
  SECTION("empty") {
    write_file(journal_of(path), "");
    CHECK(refused().find("damaged") != std::string::npos);
  }
  SECTION("a directory") {
    std::filesystem::remove(journal_of(path));
    std::filesystem::create_directory(journal_of(path));
    CHECK(refused().find("directory") != std::string::npos);
  }
}

TEST_CASE("a header of the journal that was damaged is refused, also where the other one counts") {
  temporary_directory directory;
  const auto path = directory / "m";
  in_killed_child([&] {
    static map m = map::create(path, {.max_slots = 1000, .journal_bytes = 5000});
    // Until there are two generations.
    for (int i = 0;; ++i) {
      m.insert(with_balance(i));
      m.commit();
      if (read_at<std::uint64_t>(journal_of(path), 0) != 0 && read_at<std::uint64_t>(journal_of(path), 4096) != 0)
        break;
    }
  });
  const std::size_t place = GENERATE(std::size_t{0}, std::size_t{4096});
  std::string journal = read_file(journal_of(path));
  journal[place + 48] ^= 1;
  write_file(journal_of(path), journal);
  CHECK(code_of([&] { map::open(path); }) == dm::errc::damaged);
  CHECK(code_of([&] { map::open_read_only(path); }) == dm::errc::damaged);
}

TEST_CASE("an arena that is nearly all holes does not fill the disk") {
  temporary_directory directory;
  const auto path = directory / "m";
  map::create(path, {.max_slots = 100'000'000}).close();
  const auto header = read_at<dm::arena_header>(path, 0);
  auto control = read_at<dm::control_block>(path, header.control_offset);
  control.capacity = 50'000'000;
  control.synced = control.closed = control.checksum();
  write_at(path, header.control_offset, control);
  std::filesystem::resize_file(path, header.file_size_for(control.capacity));
  struct stat before {};
  REQUIRE(::stat(path.c_str(), &before) == 0);
  CHECK(code_of([&] { map::open(path); }) == dm::errc::damaged);
  struct stat after {};
  REQUIRE(::stat(path.c_str(), &after) == 0);
  CHECK(after.st_blocks == before.st_blocks);
}

TEST_CASE("a forked child cannot commit, and leaves the file to its parent") {
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, {.max_slots = 100});
  const dm::key k = m.insert(with_balance(1));
  m.commit();
  child_process forked([&](const child_process::mouth&) {
    ::fclose(stderr);  // what the check for forks has to say
    ::signal(SIGABRT, SIG_DFL);
    m.commit();
  });
  CHECK(forked.wait() != 0);
  m.at(k).balance = 2;
  CHECK(m.commit() == 2);
  m.close();
  CHECK(map::open(path).at(k).balance == 2);
}

TEST_CASE("a bit that falls over in the middle of a journal is not taken for its end") {
  temporary_directory directory;
  const auto path = directory / "m";
  in_killed_child([&] {
    static map m = map::open_or_create(path, {.max_slots = 100});
    for (int i = 0; i < 10; ++i) {
      m.insert(with_balance(i));
      m.commit();
    }
  });
  std::string journal = read_file(journal_of(path));
  const std::size_t third = journal.find("somebody", journal.find("somebody", journal.find("somebody") + 1) + 1);
  journal[third] ^= 1;
  write_file(journal_of(path), journal);
  const auto why = error_of([&] { map::open(path); });
  REQUIRE(why);
  CHECK(why->code() == dm::errc::damaged);
  CHECK(std::string(why->what()).find("behind commit 2") != std::string::npos);
  map m = map::open(path, {.salvage = true});
  CHECK(m.size() == 2);
  CHECK(m.verify() == "");
  m.close();
  CHECK(map::open(path, {.verify = true}).size() == 2);
}
