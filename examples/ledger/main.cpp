// ledger: money that is never made or lost, whatever happens to the program or the power.
//
//   ledger load FILE --accounts 100000      pays 100.00 into each of so many new accounts
//   ledger run FILE --transfers 50000       moves money at random; each commit is on the disk when it says so
//   ledger check FILE                       adds everything up, also beside a `run`
//   ledger show FILE "account 7"            an account's transfers, newest first
//
// Kill it at any moment, pull the plug, and run `check`.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <random>

#include "ledger.hpp"

namespace {

/// A line on a terminal that fills up; nothing elsewhere.
void show_progress(std::uint64_t done, std::uint64_t all) {
  if (::isatty(2) == 0) return;
  const auto filled = static_cast<int>(all == 0 ? 40 : done * 40 / all);
  fmt::print(stderr, "\r[{:#<{}}{:.<{}}] {:3} %{}", "", filled, "", 40 - filled, all == 0 ? 100 : done * 100 / all,
             done == all ? "\n" : "");
}

void run(ledger::book& book, std::uint64_t transfers, std::uint64_t per_commit, bool say) {
  const std::vector<dm::key> accounts = ledger::accounts_of(book);
  if (accounts.size() < 2)
    throw std::runtime_error("there are no two accounts. Begin with: ledger load FILE --accounts 1000");
  std::mt19937_64 random(std::random_device{}());
  const auto began = std::chrono::steady_clock::now();
  std::uint64_t moved = 0, commits = 0;
  while (moved < transfers) {
    for (std::uint64_t n = 0; n < per_commit && moved < transfers; ++n) {
      const dm::key from = accounts[random() % accounts.size()], to = accounts[random() % accounts.size()];
      ++moved;
      if (ledger::transfer(book, from, to, static_cast<std::int64_t>(random() % 20'00 + 1)) == dm::key()) continue;
      // Every so often somebody changes their mind, and none of it ever was.
      if (random() % 64 == 0) book.rollback();
    }
    const std::uint64_t before = book.last_commit(), commit = book.commit();
    commits += commit != before;
    if (say) fmt::print("{}\n", commit), std::fflush(stdout);
    if (commits % 256 == 0) show_progress(moved, transfers);
  }
  show_progress(transfers, transfers);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  if (!say) fmt::print("{} commits, {:.0f} a second\n", commits, static_cast<double>(commits) / took.count());
}

void report(const ledger::book& book) {
  const ledger::audit found = ledger::check(book);
  fmt::print("{} accounts, {} transfers, {}.{:02} in all, at commit {}: nothing made, nothing lost\n", found.accounts,
             found.transfers, found.cents / 100, found.cents % 100, book.last_commit());
}

void show(const ledger::book& book, const std::string& name) {
  for (const auto [key, e] : book) {
    if (e.kind != ledger::kind::account || name != e.name) continue;
    fmt::print("{}: {}.{:02}\n", e.name, e.cents / 100, e.cents % 100);
    for (dm::key at = e.from; const ledger::entry* moved = book.get(at);) {
      const bool in = moved->to == key;
      const ledger::entry* other = book.get(in ? moved->from : moved->to);
      fmt::print("{:>13}  {} {}\n", fmt::format("{}{}.{:02}", in ? "" : "-", moved->cents / 100, moved->cents % 100),
                 in ? "from" : "to", other == nullptr ? "?" : other->name);
      at = in ? moved->before_to : moved->before_from;
    }
    return;
  }
  throw std::runtime_error("there is no account of that name");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Accounts and transfers in a file that survives kill -9 and power loss");
  app.require_subcommand(1);
  std::string file, name;
  std::uint64_t accounts = 1000, transfers = 10'000, per_commit = 1, batch = 1000;
  bool say = false;
  auto* loading = app.add_subcommand("load", "Pay 100.00 into each of so many accounts");
  auto* running = app.add_subcommand("run", "Move money at random");
  auto* checking = app.add_subcommand("check", "Add everything up");
  auto* showing = app.add_subcommand("show", "An account's transfers, newest first");
  for (auto* verb : {loading, running, checking, showing}) verb->add_option("file", file, "The ledger")->required();
  loading->add_option("--accounts", accounts, "How many there are to be in all")->capture_default_str();
  loading->add_option("--batch", batch, "How many in each commit")->capture_default_str()->check(CLI::PositiveNumber);
  running->add_option("--transfers", transfers, "How many to try; some accounts will not have enough")
      ->capture_default_str();
  running->add_option("--per-commit", per_commit, "How many in each commit")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  running->add_flag("--say", say, "Print the number of each commit when it is on the disk");
  showing->add_option("name", name, "The account")->required();
  CLI11_PARSE(app, argc, argv);
  try {
    if (*checking || *showing) {
      const auto book = ledger::book::open_read_only(file);
      *checking ? report(book) : show(book, name);
      return 0;
    }
    auto book = *loading ? ledger::book::open_or_create(file) : ledger::book::open(file);
    if (book.recovery().outcome == dm::recovery_outcome::replayed)
      fmt::print(stderr, "went on after a crash: {} commits were in the journal\n", book.recovery().commits_replayed);
    if (*loading)
      ledger::load(book, accounts, batch, [&](std::uint64_t done) { show_progress(done, accounts); });
    else
      run(book, transfers, per_commit, say);
    book.close();
  } catch (const std::exception& e) {
    fmt::print(stderr, "ledger: {}\n", e.what());
    return 1;
  }
}
