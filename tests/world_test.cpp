// The world outside: limits of the process, things that are no files, names that lead nowhere, forks, threads, large numbers.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <thread>

#include "catch.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/mapped_map.hpp"
#include "files.hpp"
#include "small_filesystem.hpp"
#include "temporary_directory.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ADDRESS_SANITIZER 1
#endif
#endif

namespace {

using map = dm::mapped_map<std::uint64_t>;

const dm::arena_options small{.max_slots = 10'000, .reserve_slots = 10};

std::size_t entries_in(const std::filesystem::path& directory) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

std::string what_of(const std::function<void()>& call) {
  const auto error = error_of(call);
  return error ? error->what() : "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// How a child ends that does this: the signal, or 0; and what it printed to stderr.
std::pair<int, std::string> end_of(const std::function<void()>& work) {
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    for (const int number : {SIGSEGV, SIGBUS, SIGABRT}) ::signal(number, SIG_DFL);  // the sanitizers' reports
    ::dup2(pipe_ends[1], STDERR_FILENO);
    work();
    ::_exit(0);
  }
  ::close(pipe_ends[1]);
  std::string said;
  char buffer[4096];
  for (ssize_t got; (got = ::read(pipe_ends[0], buffer, sizeof buffer)) > 0;)
    said.append(buffer, static_cast<std::size_t>(got));
  ::close(pipe_ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return {WIFSIGNALED(status) ? WTERMSIG(status) : 0, said};
}

}  // namespace

// Names ---------------------------------------------------------------------------------------------------------------

TEST_CASE("names that lead to no file say what is wrong, and nothing is made or waited for") {
  temporary_directory directory;
  map::create(directory / "m", small).close();
  std::filesystem::create_symlink(directory / "nowhere", directory / "dangling");
  std::filesystem::create_symlink(directory / "m", directory / "live");
  REQUIRE(::mkfifo((directory / "fifo").c_str(), 0600) == 0);
  const int listening = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (directory / "socket").string().copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(::bind(listening, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  const std::size_t entries = entries_in(directory.path());

  for (const char* link : {"dangling", "live"}) {
    CHECK(contains(what_of([&] { map::open(directory / link); }), "symbolic link"));
    CHECK(contains(what_of([&] { map::open_read_only(directory / link); }), "symbolic link"));
    CHECK(contains(what_of([&] { map::open_or_create(directory / link); }), "symbolic link"));
  }
  for (const char* there : {"dangling", "live", "fifo", "socket", "m"})
    CHECK(code_of([&] { map::create(directory / there, small); }) == dm::errc::exists);
  for (const char* no_file : {"fifo", "socket"}) {
    CHECK(code_of([&] { map::open(directory / no_file); }) == dm::errc::not_an_arena);
    CHECK(code_of([&] { map::open_read_only(directory / no_file); }) == dm::errc::not_an_arena);
    CHECK(code_of([&] { map::open_or_create(directory / no_file); }) == dm::errc::not_an_arena);
  }
  CHECK(code_of([&] { map::open_or_create("/dev/zero"); }) == dm::errc::not_an_arena);
  CHECK(code_of([&] { map::open_or_create(directory.path()); }) == dm::errc::not_an_arena);
  // Through what is no directory, or through one that is not there.
  for (const auto& path : {directory / "m" / "below", directory / "none" / "m", directory / "dangling" / "m"}) {
    CHECK(code_of([&] { map::open(path); }) == dm::errc::not_found);
    CHECK(code_of([&] { map::create(path, small); }) == dm::errc::not_found);
    CHECK(code_of([&] { map::open_or_create(path); }) == dm::errc::not_found);
  }
  // A link to a directory is a directory; names may end in a slash only where there is one.
  std::filesystem::create_directory_symlink(directory.path(), directory / "around");
  CHECK(map::open(directory / "around" / "m").is_open());
  CHECK(code_of([&] { map::create(directory / "new" / "", small); }) == dm::errc::not_found);
  const std::string long_name(300, 'x');
  for (const auto& path : {directory / long_name, std::filesystem::path("/" + std::string(5'000, 'y'))}) {
    CHECK(code_of([&] { map::open(path); }) == std::errc::filename_too_long);
    CHECK(code_of([&] { map::create(path, small); }) == std::errc::filename_too_long);
    CHECK(code_of([&] { map::open_or_create(path); }) == std::errc::filename_too_long);
  }
  CHECK(entries_in(directory.path()) == entries + 1);
  ::close(listening);
}

TEST_CASE("a directory that cannot be searched is permission denied; one that can be searched only is good enough") {
  temporary_directory directory;
  const std::string said = in_own_process([&] {
    const auto closed = directory / "closed";
    const auto unread = directory / "unread";
    for (const auto& made : {closed, unread}) std::filesystem::create_directory(made);
    map::create(closed / "m", small).close();
    if (::geteuid() == 0) {
      for (const auto& given : {directory.path(), closed, unread, closed / "m"})
        expect(::chown(given.c_str(), 65534, 65534) == 0, "chown");
      expect(::setegid(65534) == 0 && ::seteuid(65534) == 0, "seteuid");
    }
    expect(::chmod(closed.c_str(), 0) == 0 && ::chmod(unread.c_str(), 0300) == 0, "chmod");
    for (int way = 0; way < 4; ++way) {
      const auto error = error_of([&] {
        if (way == 0) map::open(closed / "m");
        if (way == 1) map::open_read_only(closed / "m");
        if (way == 2) map::open_or_create(closed / "m");
        if (way == 3) map::create(closed / "n", small);
      });
      expect(error && error->code() == std::errc::permission_denied, error ? error->what() : "went well");
      expect(contains(error->what(), "not permitted"), error->what());
    }
    // It cannot be synced; all else works.
    map::create(unread / "m", small).close();
    expect(map::open(unread / "m").is_open(), "cannot be opened");
    expect(::chmod((unread / "m").c_str(), 0400) == 0, "chmod");
    expect(code_of([&] { map::open(unread / "m"); }) == std::errc::permission_denied, "written without permission");
    expect(map::open_read_only(unread / "m").empty(), "cannot be read");
    ::chmod(closed.c_str(), 0700);
    ::chmod(unread.c_str(), 0700);
  });
  CHECK(said == "");
}

// Limits --------------------------------------------------------------------------------------------------------------

TEST_CASE("when descriptors run out, at each that is needed, it is said so, nothing is left open and nothing is made") {
  temporary_directory directory;
  const std::string said = in_own_process([&] {
    const auto path = directory / "m";
    map::create(path, small).close();
    map in_use = map::create(directory / "in use", small);
    rlimit all{};
    expect(::getrlimit(RLIMIT_NOFILE, &all) == 0, "getrlimit");
    const auto with = [&](rlim_t descriptors, const std::function<void()>& work) {
      const rlimit few{descriptors, all.rlim_max};
      expect(::setrlimit(RLIMIT_NOFILE, &few) == 0, "setrlimit");
      const auto error = error_of(work);
      expect(::setrlimit(RLIMIT_NOFILE, &all) == 0, "setrlimit");
      return error;
    };
    const std::size_t open_before = entries_in("/proc/self/fd");
    const auto first = static_cast<rlim_t>(::dup(0));
    ::close(static_cast<int>(first));
    for (int way = 0; way < 5; ++way) {
      int refused = 0;
      for (rlim_t limit = first;; ++limit) {
        map m;
        const auto error = with(limit, [&] {
          if (way == 0) m = map::create(directory / "new", small);
          if (way == 1) m = map::open(path);
          if (way == 2) m = map::open_read_only(path);
          if (way == 3) m = map::open_or_create(directory / "new", small);
          if (way == 4) m = map::open(directory / "in use");
        });
        if (way == 4 && error && error->code() == dm::errc::in_use) break;
        if (!error) {
          if (!m.is_read_only()) {
            // Nothing that is done with an open map needs another one.
            const auto none = with(0, [&] {
              for (std::uint64_t i = 0; i < 9'000; ++i) m.insert(i);
              m.flush();
              m.clear();
              m.shrink_to_fit();
              m.close();
            });
            expect(!none, none ? none->what() : "");
          }
          break;
        }
        ++refused;
        expect(error->code() == std::errc::too_many_files_open, error->what());
        expect(contains(error->what(), "too many files are open"), error->what());
        expect(!std::filesystem::exists(directory / "new"), "a file was left");
        expect(entries_in("/proc/self/fd") == open_before, "a descriptor was left open");
      }
      expect(refused >= (way == 4 ? 1 : 2), "too few refusals in way " + std::to_string(way));
      std::filesystem::remove(directory / "new");
      expect(entries_in("/proc/self/fd") == open_before, "a descriptor was left open");
    }
    expect(entries_in(directory.path()) == 2, "something was left behind");
  });
  CHECK(said == "");
}

TEST_CASE("what is past a limit on file sizes can be given back to the disk") {
  temporary_directory directory;
  const std::string said = in_own_process([&] {
    const auto path = directory / "m";
    map m = map::create(path, {.max_slots = 1'000'000});
    for (std::uint64_t i = 0; i < 500'000; ++i) m.insert(i);
    m.retain([](dm::key k, std::uint64_t&) { return k.index() < 400'000; });
    const rlimit limit{1 << 20, 1 << 20};
    expect(::setrlimit(RLIMIT_FSIZE, &limit) == 0, "setrlimit");
    const std::uintmax_t size = std::filesystem::file_size(path);
    m.shrink_to_fit();
    expect(std::filesystem::file_size(path) < size, "not given back");
    expect(code_of([&] { m.reserve(200'000); }) == dm::errc::full, "grown past the limit");
    expect(m.size() == 400'000 && m.verify().empty(), "not whole");
  });
  CHECK(said == "");
}

TEST_CASE("address space that does not suffice is an error that says what to do") {
  struct huge {
    std::uint64_t number;
    char bytes[(1 << 30) - 8];  // the largest value there can be
  };
  static_assert(sizeof(huge) == 1u << 30);
  temporary_directory directory;
  const auto too_large = error_of([&] { dm::mapped_map<huge>::create(directory / "m", {.max_slots = 1'000'000}); });
  REQUIRE(too_large);
  CHECK(too_large->code() == std::errc::not_enough_memory);
  CHECK(contains(too_large->what(), "max_slots"));
  CHECK(std::filesystem::is_empty(directory.path()));

#ifndef ADDRESS_SANITIZER  // which has taken more than any limit allows
  const std::string said = in_own_process([&] {
    map::create(directory / "m").close();  // 64 GiB of address space
    const rlimit limit{std::uint64_t{8} << 30, std::uint64_t{8} << 30};
    expect(::setrlimit(RLIMIT_AS, &limit) == 0, "setrlimit");
    for (int way = 0; way < 2; ++way) {
      const auto error = error_of([&] { way == 0 ? map::create(directory / "n") : map::open(directory / "m"); });
      expect(error && error->code() == std::errc::not_enough_memory, error ? error->what() : "went well");
      expect(contains(error->what(), "ulimit -v") && contains(error->what(), "max_slots"), error->what());
    }
    expect(!std::filesystem::exists(directory / "n"), "left a file");
    expect(map::open_read_only(directory / "m").empty(), "readers map only what there is");
    expect(bool(map::create(directory / "n", {.max_slots = 1'000'000}).insert(1)), "a smaller one does not fit");
  });
  CHECK(said == "");
#endif
}

// Others --------------------------------------------------------------------------------------------------------------

TEST_CASE("a file that somebody cuts short while it is open ends in SIGBUS, and is damaged from then on") {
  temporary_directory directory;
  const auto path = directory / "m";
  const auto [signal, said] = end_of([&] {
    map m = map::create(path, small);
    const dm::key k = m.insert(1);
    std::filesystem::resize_file(path, 4096);
    ::_exit(m.at(k) == 1 ? 1 : 2);
  });
  CHECK(signal == SIGBUS);
  for (int way = 0; way < 2; ++way)
    CHECK(code_of([&] { way == 0 ? map::open(path) : map::open_read_only(path); }) == dm::errc::damaged);
  CHECK(std::filesystem::file_size(path) == 4096);
}

TEST_CASE("a forked child may close its parent's map, which neither sees, and may do nothing else with it") {
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, small);
  const dm::key k = m.insert(1);
  const auto* place = m.get(k);

  CHECK(end_of([&] { m.close(); }) == std::pair(0, std::string()));
  CHECK(end_of([&] { map taken = std::move(m); }) == std::pair(0, std::string()));
  CHECK(end_of([&] {
          if (m.at(k) == 1) ::_exit(0);
        }).first == SIGSEGV);
  CHECK(end_of([&] { *const_cast<std::uint64_t*>(place) = 5; }).first == SIGSEGV);
#if DM_CHECK_THREADS
  const auto [signal, said] = end_of([&] { m.insert(2); });
  CHECK(signal == SIGABRT);
  CHECK(contains(said, "before fork()"));
#else
  CHECK(end_of([&] { m.insert(2); }).first == SIGSEGV);
#endif
  // What the child has put where the map was is the child's, and stays.
  CHECK(end_of([&] {
          const auto page = reinterpret_cast<std::uintptr_t>(place) / 4096 * 4096;
          void* own = ::mmap(reinterpret_cast<void*>(page), 4096, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
          if (own == MAP_FAILED) ::_exit(1);
          *static_cast<volatile char*>(own) = 1;
          m.close();
          *static_cast<volatile char*>(own) = 2;
          ::kill(::getpid(), SIGUSR1);  // got here
        }).first == SIGUSR1);

  CHECK(m.at(k) == 1);
  CHECK(m.size() == 1);
  CHECK(m.verify().empty());
  m.close();
  CHECK(map::open(path).recovery().outcome == dm::recovery_outcome::clean);

  // What is open for reading is for the children too.
  const map reader = map::open_read_only(path);
  CHECK(end_of([&] {
          if (reader.at(k) != 1) ::abort();
        }).first == 0);
}

TEST_CASE("a forked child can open the file itself once its parent has let go of it and it of the copy") {
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, small);
  int go[2];
  REQUIRE(::pipe(go) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    char byte = 0;
    ::close(go[1]);
    (void)!::read(go[0], &byte, 1);  // until the parent has closed
    m = map();
    std::error_code code;
    map own = map::open(path, code);
    ::_exit(!code && own.insert(3) && own.size() == 2 ? 0 : 1);
  }
  m.insert(1);
  m.close();
  ::close(go[0]);
  ::close(go[1]);
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
}

#if DM_CHECK_THREADS
TEST_CASE("two threads that change one map at once abort with a sentence that says so, whatever they do") {
  temporary_directory directory;
  const auto path = directory / "m";
  dm::key k;
  {
    map m = map::create(path, small);
    for (std::uint64_t i = 0; i < 10; ++i) k = m.insert(i);
  }
  const std::function<void(map&)> changes[] = {
      [](map& m) { m.insert(1); },
      [](map& m) { (void)m.allocate_handle(); },
      [&](map& m) { m.erase(k); },
      [&](map& m) { m.remove(k); },
      [&](map& m) { m.update(k, [](std::uint64_t&) {}); },
      [](map& m) { m.retain([](dm::key, std::uint64_t&) { return true; }); },
      [](map& m) { m.clear(); },
      [](map& m) { m.reserve(1); },
      [](map& m) { m.shrink_to_fit(); },
      [](map& m) { m.release_reserved(); },
      [](map& m) { m.close(); },
  };
  for (const auto& change : changes)
    for (int first = 0; first < 3; ++first) {
      const auto [signal, said] = end_of([&] {
        map m = map::open(path, {.sync_on_close = false});
        const auto meanwhile = [&] { std::thread([&] { change(m); }).join(); };
        if (first == 0) m.insert_with_key([&](dm::key) { return meanwhile(), 1u; });
        if (first == 1) m.update(k, [&](std::uint64_t&) { meanwhile(); });
        if (first == 2) m.retain([&](dm::key, std::uint64_t&) { return meanwhile(), true; });
      });
      CHECK(signal == SIGABRT);
      CHECK(contains(said, "two threads are changing this map at once"));
      CHECK(contains(said, path.string()));
    }
}

TEST_CASE("threads that take turns are not complained of, nor is one that changes the map from within a change") {
  temporary_directory directory;
  map m = map::create(directory / "m", small);
  for (int i = 0; i < 20; ++i) std::thread([&] { m.insert(1); }).join();
  const dm::key outer = m.insert_with_key([&](dm::key) {
    m.insert(2);
    return m.size();
  });
  CHECK(m.at(outer) == 21);
  CHECK_THROWS_AS(m.insert_with_key([](dm::key) -> std::uint64_t { throw 1; }), int);
  std::thread([&] { m.insert(3); }).join();
  CHECK(m.size() == 23);
  map moved = std::move(m);
  std::thread([&] { moved.close(); }).join();
}
#endif

// Large numbers -------------------------------------------------------------------------------------------------------

namespace {

dm::arena_header header_of(const std::filesystem::path& path) { return read_at<dm::arena_header>(path, 0); }

/// As if `count` slots had been used up, with no room for more yet: a sparse file and a few numbers.
template <class Map>
void use_up(Map& m, const std::filesystem::path& path, std::uint32_t count) {
  const dm::arena_header header = header_of(path);
  std::filesystem::resize_file(path, header.file_size_for(count));
  auto control = read_at<dm::control_block>(path, header.control_offset);
  control.retired += count - control.slot_count;
  control.slot_count = count;
  control.capacity = count;
  write_at(path, header.control_offset, control);
  REQUIRE(m.slot_count() == count);
}

}  // namespace

TEST_CASE("offsets past 4 GiB are 64 bits wide everywhere") {
  struct page_and_more {
    std::uint64_t number;
    char rest[65'000];
  };
  using large_map = dm::mapped_map<page_and_more>;
  temporary_directory directory;
  const auto path = directory / "m";
  large_map m = large_map::create(path, {.max_slots = 140'010});  // 9 GB
  const dm::key first = m.insert({1, {}});
  use_up(m, path, 140'000);
  const dm::key far = m.insert({2, "far"});
  CHECK(far.index() == 140'000);
  m.update(far, [](page_and_more& v) { v.number = 3; });
  const dm::key erased = m.insert({4, {}});
  CHECK(m.erase(erased));
  const dm::key again = m.insert({5, {}});
  CHECK(again.index() == erased.index());
  CHECK(m.at(far).number == 3);
  CHECK(m.at(first).number == 1);
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK(status.st_blocks * 512 < 8 << 20);  // blocks only where they were asked for
  const dm::arena_header header = header_of(path);
  const std::uint64_t at = header.slots_offset + 140'000 * std::uint64_t{header.slot_stride_bytes};
  CHECK(at > std::uint64_t{2} << 32);
  CHECK(read_at<std::uint32_t>(path, at) == far.occupied_version());
  CHECK(read_at<std::uint64_t>(path, at + header.value_offset) == 3);
  m.close();
  const large_map reader = large_map::open_read_only(path);
  CHECK(std::string(reader.at(far).rest) == "far");
  CHECK(reader.at(far).number == 3);
  CHECK(reader.at(again).number == 5);
  CHECK_FALSE(reader.contains(erased));
}

TEST_CASE("2^32 - 1 slots can be had, the last of them is used, and then the arena is full") {
  using tiny_map = dm::mapped_map<std::uint8_t>;
  temporary_directory directory;
  const auto path = directory / "m";
  tiny_map m = tiny_map::create(path, {.max_slots = 0xffff'ffff});
  use_up(m, path, 0xffff'fffd);
  const dm::key last_but_one = m.insert(1);
  auto handle = m.allocate_handle();
  const dm::key last = handle.key();
  m.insert(std::move(handle), 2);
  CHECK(last.index() == 0xffff'fffe);
  for (int way = 0; way < 3; ++way) {
    const auto full = error_of([&] {
      if (way == 0) m.insert(3);
      if (way == 1) (void)m.allocate_handle();
      if (way == 2) m.reserve(1);
    });
    REQUIRE(full);
    CHECK(full->code() == dm::errc::full);
    CHECK(contains(full->what(), "at most 4294967295 slots"));
  }
  for (const std::size_t additional : {std::size_t{1} << 32, ~std::size_t{0}})
    CHECK(code_of([&] { m.reserve(additional); }) == dm::errc::full);
  CHECK(m.at(last) == 2);
  CHECK(m.erase(last));
  CHECK(m.insert(4).index() == last.index());
  m.close();
  const tiny_map reader = tiny_map::open_read_only(path);
  CHECK(reader.size() == 2);
  CHECK(reader.at(last_but_one) == 1);
  CHECK_FALSE(reader.contains(last));
}

TEST_CASE("an arena is full at exactly max_slots") {
  temporary_directory directory;
  for (const std::uint64_t slots_max : {1u, 2u, 63u, 64u, 65u, 4'097u}) {
    const auto path = directory / std::to_string(slots_max);
    map m = map::create(path, {.max_slots = slots_max});
    dm::key k;
    for (std::uint64_t i = 0; i < slots_max; ++i) k = m.insert(i);
    const auto full = error_of([&] { m.insert(0); });
    REQUIRE(full);
    CHECK(full->code() == dm::errc::full);
    CHECK(contains(full->what(), "at most " + std::to_string(slots_max) + " slots"));
    CHECK(m.size() == slots_max);
    CHECK(m.verify().empty());
    CHECK(m.erase(k));
    CHECK(m.insert(7));
    m.close();
    CHECK(map::open(path, {.verify = true}).size() == slots_max);
  }
}
