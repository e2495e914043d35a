// Migrations that are killed. What others see of one changes at its system calls alone, so a kill before and after each
// of them is a kill at every moment that can be told from another.
#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

#include "migrating.hpp"
#include "temporary_directory.hpp"

using test::names_in;
using test::new_map;
using test::old_map;
using names = std::set<std::string>;

namespace {

constexpr std::uint32_t values = 200;

void migrate_it(const std::filesystem::path& from, const std::filesystem::path& to) {
  dm::migrate<v1::item, v2::item>(from, to, test::upgraded);
}

enum class child_end { killed, done, untraceable };

/// Runs `work` in a child, which is killed at the stop before or after a system call that `at_stop(number, is_entry)`
/// says false to.
child_end run_traced(const std::function<void()>& work, const std::function<bool(std::uint64_t, bool)>& at_stop) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
    ::raise(SIGSTOP);
    try {
      work();
      ::_exit(0);
    } catch (...) {
      ::_exit(1);
    }
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  if (WIFEXITED(status)) return child_end::untraceable;
  REQUIRE(::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD) == 0);
  for (;;) {
    REQUIRE(::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr) == 0);
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (WIFEXITED(status)) {
      REQUIRE(WEXITSTATUS(status) == 0);
      return child_end::done;
    }
    REQUIRE(WIFSTOPPED(status));
    REQUIRE(WSTOPSIG(status) == (SIGTRAP | 0x80));
    __ptrace_syscall_info info{};
    REQUIRE(::ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info) > 0);
    const bool is_entry = info.op == PTRACE_SYSCALL_INFO_ENTRY;
    if (at_stop(is_entry ? info.entry.nr : 0, is_entry)) continue;
    REQUIRE(::kill(child, SIGKILL) == 0);
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    return child_end::killed;
  }
}

/// Calls that change nothing outside the process, and whose number differs from run to run.
bool is_of_memory_only(std::uint64_t number) {
  for (const std::uint64_t one : {SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_getrandom,
                                  SYS_futex, SYS_clock_gettime, SYS_sched_yield})
    if (number == one) return true;
  return false;
}

/// Runs `work` in a child that is killed at its stop number `stop`.
child_end run_killed_at(std::uint64_t stop, const std::function<void()>& work) {
  std::uint64_t stops = 0;
  bool counts = false;
  return run_traced(work, [&](std::uint64_t number, bool is_entry) {
    if (is_entry) counts = !is_of_memory_only(number);
    return !counts || stops++ < stop;
  });
}

/// Whether the file system has files without names. Where it does not, a killed migration leaves a hidden file.
bool has_unnamed_files(const std::filesystem::path& directory) {
  const int descriptor = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor >= 0) ::close(descriptor);
  return descriptor >= 0;
}

bool can_be_tested(const temporary_directory& directory) {
  if (!has_unnamed_files(directory.path())) {
    WARN("not tested here: this file system has no unnamed files");
    return false;
  }
  if (run_killed_at(0, [] {}) == child_end::untraceable) {
    WARN("not tested here: processes cannot be traced");
    return false;
  }
  return true;
}

/// That `path` is the whole new file, as closed.
void is_whole_and_new(const std::filesystem::path& path, const old_map& old) {
  const new_map m = new_map::open_read_only(path, {.verify = true});
  REQUIRE(m.recovery().outcome == dm::recovery_outcome::clean);
  REQUIRE(m.size() == old.size());
  REQUIRE(m.retired_count() == old.retired_count());
  REQUIRE(m.generation_floor() == old.generation_floor());
  for (const auto [k, value] : old) REQUIRE(test::is_upgraded(m.at(k), k, value));
}

}  // namespace

TEST_CASE(
    "killed before or after any system call, a migration in place leaves the whole old file or the whole new one") {
  temporary_directory directory, aside;
  if (!can_be_tested(directory)) return;
  const auto path = directory / "m";
  test::make_old_file(aside / "m", values);
  const std::string before = read_file(aside / "m");
  const old_map old = old_map::open_read_only(aside / "m");
  std::filesystem::copy_file(aside / "m", path);
  std::uint64_t stop = 0, new_ones = 0, hidden_ones = 0;
  for (child_end end = child_end::killed; end == child_end::killed; ++stop) {
    end = run_killed_at(stop, [&] { migrate_it(path, path); });
    REQUIRE(end != child_end::untraceable);
    INFO("killed at stop " << stop);
    const bool is_old = read_file(path) == before;
    if (!is_old) is_whole_and_new(path, old);
    names there = names_in(directory.path());
    REQUIRE(there.erase("m") == 1);
    if (!there.empty()) {
      // Named, but not yet renamed: the last two system calls that change anything.
      REQUIRE(is_old);
      REQUIRE(there.size() == 1);
      is_whole_and_new(directory / *there.begin(), old);
      ++hidden_ones;
    }
    if (!is_old) {
      ++new_ones;
      std::filesystem::remove(path);
      std::filesystem::copy_file(aside / "m", path);
    }
    if (end == child_end::done) REQUIRE(!is_old);
  }
  CHECK(stop > 50);
  CHECK(new_ones > 2);
  CHECK(hidden_ones == 2);  // after the link, and before the rename
  migrate_it(path, path);
  CHECK(names_in(directory.path()) == names{"m"});
  std::printf("migrate_kill: in place, %llu kills, %llu left the new file, %llu the old and a hidden one\n",
              static_cast<unsigned long long>(stop - 1), static_cast<unsigned long long>(new_ones - 1),
              static_cast<unsigned long long>(hidden_ones));
}

TEST_CASE("killed before or after any system call, a migration to another file leaves the whole of it or nothing") {
  temporary_directory directory;
  if (!can_be_tested(directory)) return;
  test::make_old_file(directory / "m", values);
  const std::string before = read_file(directory / "m");
  const old_map old = old_map::open_read_only(directory / "m");
  std::uint64_t stop = 0, new_ones = 0;
  for (child_end end = child_end::killed; end == child_end::killed; ++stop) {
    end = run_killed_at(stop, [&] { migrate_it(directory / "m", directory / "new"); });
    REQUIRE(end != child_end::untraceable);
    INFO("killed at stop " << stop);
    REQUIRE(read_file(directory / "m") == before);
    const names there = names_in(directory.path());
    if (there == names{"m", "new"}) {
      is_whole_and_new(directory / "new", old);
      std::filesystem::remove(directory / "new");
      ++new_ones;
    } else {
      REQUIRE(there == names{"m"});
      REQUIRE(end == child_end::killed);
    }
  }
  CHECK(stop > 50);
  CHECK(new_ones > 2);
  std::printf("migrate_kill: to another file, %llu kills, %llu left it\n", static_cast<unsigned long long>(stop - 1),
              static_cast<unsigned long long>(new_ones - 1));
}

TEST_CASE("killed at any value, a migration leaves the old file as it was, and nothing else") {
  temporary_directory directory;
  if (!has_unnamed_files(directory.path())) return;
  test::make_old_file(directory / "m", values);
  const std::string before = read_file(directory / "m");
  const auto count = static_cast<int>(old_map::open_read_only(directory / "m").size());
  for (const char* to : {"m", "new"})
    for (const int last : {1, 2, count / 2, count - 1, count}) {
      const pid_t child = ::fork();
      if (child == 0) {
        try {
          int calls = 0;
          dm::migrate<v1::item, v2::item>(directory / "m", directory / to, [&](dm::key k, const v1::item& i) {
            if (++calls == last) ::kill(::getpid(), SIGKILL);
            return test::upgraded(k, i);
          });
          ::_exit(0);
        } catch (...) {
          ::_exit(1);
        }
      }
      int status = 0;
      REQUIRE(::waitpid(child, &status, 0) == child);
      REQUIRE(WIFSIGNALED(status));
      REQUIRE(read_file(directory / "m") == before);
      REQUIRE(names_in(directory.path()) == names{"m"});
    }
}

TEST_CASE("the new file is on the disk before it has its name, and the name is before migrate returns") {
  temporary_directory directory;
  if (!can_be_tested(directory)) return;
  test::make_old_file(directory / "m", values);
  const auto order = [&](const char* to) {
    std::string calls;
    const child_end end = run_traced([&] { migrate_it(directory / "m", directory / to); },
                                     [&](std::uint64_t number, bool is_entry) {
                                       if (!is_entry) return true;
                                       if (number == SYS_fdatasync) calls += "data ";
                                       if (number == SYS_linkat) calls += "link ";
#ifdef SYS_rename
                                       if (number == SYS_rename) calls += "rename ";
#endif
                                       if (number == SYS_renameat || number == SYS_renameat2) calls += "rename ";
                                       if (number == SYS_fsync) calls += "directory ";
                                       if (number == SYS_pwrite64) calls += "write ";
                                       return true;
                                     });
    REQUIRE(end == child_end::done);
    return calls;
  };
  CHECK(order("new").ends_with("write data link directory "));
  CHECK(order("m").ends_with("write data link rename directory "));
}
