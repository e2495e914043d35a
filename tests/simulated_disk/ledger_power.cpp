// The ledger on a disk that loses its power: no cent is made or lost, and no transfer that it was told of.
#include <cstdio>

#include "../../examples/ledger/ledger.hpp"
#include "scene.hpp"

using namespace simulated;

namespace {

constexpr dm::durable_options small{.max_slots = 4096, .journal_bytes = 16384};

ledger::book open_on(machine& on) {
  return ledger::book::attach(
      dm::durable_arena::attach(on.open(true), on.header(), small, dm::arena_access::read_write), small);
}

}  // namespace

int main() {
  const auto [files, header] = made_by([](const std::filesystem::path& path) {
    auto book = ledger::book::create(path, small);
    ledger::load(book, 50, 10, [](std::uint64_t) {});
  });
  random_bits random(11);
  std::uint64_t states = 0, most = 0;
  try {
    machine on(files, header);
    std::vector<std::uint64_t> transfers_of;  // at each commit, from the first one made here
    auto book = open_on(on);
    const std::uint64_t first = book.last_commit();
    transfers_of.push_back(0);
    on.returned(first);
    const auto accounts = ledger::accounts_of(book);
    std::uint64_t transfers = 0;
    for (int i = 0; i < 600; ++i) {
      for (auto n = below(random, 3) + 1; n != 0; --n)
        transfers += ledger::transfer(book, accounts[below(random, 50)], accounts[below(random, 50)],
                                      static_cast<std::int64_t>(below(random, 2000) + 1)) != dm::key();
      on.begins(book.last_commit() + 1);
      const std::uint64_t commit = book.commit();
      on.returned(commit);
      transfers_of.resize(commit - first + 1, transfers);
    }
    book.close();
    medium disk(files);
    for (std::size_t i = 0; i <= on.trace().size(); ++i) {
      for (int k = 0; k < 12; ++k, ++states) {
        machine again(disk.cut(random), header);
        const auto found = open_on(again);
        const ledger::audit audit = ledger::check(found);
        const std::uint64_t safe = i < on.trace().size() ? on.trace()[i].safe_commit : on.safe();
        const std::uint64_t at = found.last_commit();
        if (audit.accounts != 50 || at < safe || audit.transfers != transfers_of.at(at - first))
          throw std::runtime_error("at commit " + std::to_string(at) + ": " + std::to_string(audit.transfers) +
                                   " transfers");
        most = std::max(most, audit.transfers);
        again.killed = true;
      }
      if (i < on.trace().size()) disk.follow(on.trace()[i]);
    }
  } catch (const std::exception& e) {
    std::printf("after %llu states: %s\n", static_cast<unsigned long long>(states), e.what());
    return 1;
  }
  std::printf("%llu losses of power, up to %llu transfers: nothing made, nothing lost\n",
              static_cast<unsigned long long>(states), static_cast<unsigned long long>(most));
}
