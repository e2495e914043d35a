// The ledger as people run it, killed at any moment.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "../examples/ledger/ledger.hpp"
#include "catch.hpp"
#include "effort.hpp"
#include "run_tool.hpp"

extern char** environ;

namespace {

struct killed_run {
  std::uint64_t last_said = 0;  // the last commit of which it said that it is on the disk
};

/// Runs the ledger, and kills it some time after it said something.
killed_run run_and_kill(const std::string& tool, const std::filesystem::path& file, unsigned after_us) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  const std::string name = file.string();
  const char* const arguments[] = {tool.c_str(),   "run", name.c_str(), "--transfers", "1000000",
                                   "--per-commit", "3",   "--say",      nullptr};
  pid_t pid = 0;
  const int failed = ::posix_spawn(&pid, tool.c_str(), &actions, nullptr, const_cast<char**>(arguments), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  REQUIRE(failed == 0);
  std::string said;
  char piece[4096];
  ssize_t got = ::read(ends[0], piece, sizeof piece);
  if (got > 0) said.append(piece, static_cast<std::size_t>(got));
  ::usleep(after_us);
  ::kill(pid, SIGKILL);
  int status = 0;
  ::waitpid(pid, &status, 0);
  while ((got = ::read(ends[0], piece, sizeof piece)) > 0) said.append(piece, static_cast<std::size_t>(got));
  ::close(ends[0]);
  REQUIRE(WIFSIGNALED(status));
  killed_run found;
  // The last line that is whole.
  const std::size_t end = said.rfind('\n');
  REQUIRE(end != std::string::npos);
  const std::size_t begin = end == 0 ? std::string::npos : said.rfind('\n', end - 1);
  found.last_said = std::stoull(said.substr(begin == std::string::npos ? 0 : begin + 1));
  return found;
}

}  // namespace

TEST_CASE("a ledger that is killed hundreds of times never makes or loses money, nor a commit that it spoke of") {
  const char* tool = std::getenv("LEDGER");
  if (tool == nullptr) {
    WARN("LEDGER is not set: the ledger is not tested");
    return;
  }
  temporary_directory directory;
  const auto file = directory / "book";
  const auto loaded = run_in_shell(directory, quoted(tool) + " load" + quoted(file) + "--accounts 300 --batch 50");
  INFO(loaded.errors);
  REQUIRE(loaded.code == 0);
  const int kills = exhaustive() ? 2000 : sanitized ? 40 : 300;
  std::mt19937 random(7);
  std::uint64_t transfers = 0;
  for (int i = 0; i < kills; ++i) {
    const killed_run ended = run_and_kill(tool, file, static_cast<unsigned>(random() % 6000));
    INFO("kill " << i);
    // To look is enough now and then: what the journal holds then goes on growing, over several lives.
    const auto book = i % 4 == 0 ? ledger::book::open(file) : ledger::book::open_read_only(file);
    REQUIRE(book.last_commit() >= ended.last_said);
    const ledger::audit found = ledger::check(book);
    REQUIRE(found.accounts == 300);
    REQUIRE(found.transfers >= transfers);
    transfers = found.transfers;
  }
  CHECK(transfers > static_cast<std::uint64_t>(kills));
  const auto checked = run_in_shell(directory, quoted(tool) + " check" + quoted(file));
  CHECK(checked.code == 0);
  CHECK(checked.out.find("nothing made, nothing lost") != std::string::npos);
}

TEST_CASE("a ledger whose loading was killed is loaded to its end, without accounts twice") {
  temporary_directory directory;
  const auto file = directory / "book";
  {
    auto book = ledger::book::create(file, {.max_slots = 10'000});
    struct stop {};
    CHECK_THROWS_AS(ledger::load(book, 1000, 100,
                                 [](std::uint64_t done) {
                                   if (done == 300) throw stop();
                                 }),
                    stop);
    CHECK(ledger::check(book).accounts == 300);
    ledger::load(book, 1000, 100, [](std::uint64_t) {});
    CHECK(ledger::check(book).accounts == 1000);
  }
}

TEST_CASE("the check of a ledger sees money that was made, and transfers that one side knows of") {
  temporary_directory directory;
  auto book = ledger::book::create(directory / "book", {.max_slots = 1000});
  ledger::load(book, 10, 10, [](std::uint64_t) {});
  const auto accounts = ledger::accounts_of(book);
  const dm::key moved = ledger::transfer(book, accounts[0], accounts[1], 500);
  CHECK(ledger::check(book).transfers == 1);
  CHECK(ledger::transfer(book, accounts[0], accounts[1], 100'00) == dm::key());
  SECTION("made") { book.get(accounts[2])->cents += 1; }
  SECTION("one side") { book.get(accounts[1])->from = {}; }
  SECTION("another's") { book.get(moved)->to = accounts[5]; }
  CHECK_THROWS_AS(ledger::check(book), std::runtime_error);
}
