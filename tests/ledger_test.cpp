// The ledger as people run it, killed at any moment.
#include <unistd.h>

#include <random>

#include "../examples/ledger/ledger.hpp"
#include "catch.hpp"
#include "effort.hpp"
#include "run_tool.hpp"
#include "running_program.hpp"

namespace {

/// Runs the ledger, and kills it some time after it said something. Returns the last commit of which it said that it is on
/// the disk.
std::uint64_t run_and_kill(const char* tool, const std::filesystem::path& file, unsigned after_us) {
  running_program ledger(tool, {"run", file.string(), "--transfers", "1000000", "--per-commit", "3", "--say"});
  // Before it says the first, what it says of a crash.
  std::string said;
  do said = ledger.line();
  while (said.find("went on after a crash") != std::string::npos);
  REQUIRE_FALSE(said.empty());
  ::usleep(after_us);
  REQUIRE(ledger.end(SIGKILL) == -SIGKILL);
  for (std::string next = said; !next.empty(); next = ledger.line()) said = next;
  return std::stoull(said);
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
    const std::uint64_t last_said = run_and_kill(tool, file, static_cast<unsigned>(random() % 6000));
    INFO("kill " << i);
    // To look is enough now and then: what the journal holds then goes on growing, over several lives.
    const auto book = i % 4 == 0 ? ledger::book::open(file) : ledger::book::open_read_only(file);
    REQUIRE(book.last_commit() >= last_said);
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
