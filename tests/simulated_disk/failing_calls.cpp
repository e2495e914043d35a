// Durable maps on a disk whose calls fail: each call of a history in turn, with an input/output error or for want of room,
// once or from then on, having done any part of it.
//
//   failing_calls [--histories N] [--first SEED] [--transactions N]
//
// For want of room the map goes on; after a write or a sync that failed it can be read, and nothing more. Opened again, and
// after a loss of power at any later moment, it is at a commit that it may be at.
#include <cstdio>

#include "history.hpp"
#include "scene.hpp"

using namespace simulated;

namespace {

enum class manner { io_error_once, full_once, io_error_for_good, full_for_a_while };

struct totals {
  std::uint64_t runs = 0, failures = 0, poisoned = 0, went_on = 0, openings_failed = 0, cuts = 0;
};

void require_code(dm::errc wanted, const std::function<void()>& call) {
  try {
    call();
  } catch (const dm::error& e) {
    if (e.code() == wanted) return;
    throw wrong(std::string("not the error it should be: ") + e.what());
  }
  throw wrong("no error where there should be one");
}

/// Returns how many calls there were.
std::uint64_t run(const scene& in, std::uint64_t seed, std::uint64_t transactions, std::uint64_t failing,
                  manner how_it_fails, totals& total) {
  machine on(in.files, in.header);
  std::uint64_t calls = 0;
  bool mended = false;  // somebody changed the disk
  on.trouble_with_call = [&] {
    const std::uint64_t call = calls++;
    if (mended || call < failing) return trouble::none;
    switch (how_it_fails) {
      case manner::io_error_once:
        return call == failing ? trouble::io_error : trouble::none;
      case manner::full_once:
        return call == failing ? trouble::full : trouble::none;
      case manner::io_error_for_good:
        return trouble::io_error;
      case manner::full_for_a_while:
        return call < failing + 5 ? trouble::full : trouble::none;
    }
    return trouble::none;
  };
  states known;
  {
    machine untouched(in.files, in.header);
    known.add(0, *dm::durable_arena::attach(untouched.open(false), in.header, how, dm::arena_access::read_only));
  }
  program running(on, known, seed);
  const auto open = [&] {
    for (int tries = 0;; ++tries) {
      try {
        return running.open();
      } catch (const dm::error& e) {
        ++total.openings_failed;
        running.forget_handles();
        running.kill();
        if (tries > 8) throw wrong(std::string("it does not open any more: ") + e.what());
        if (tries > 1) mended = true;
      }
    }
  };
  open();
  for (std::uint64_t i = 0; i < transactions; ++i) {
    try {
      running.transaction();
    } catch (const dm::error& e) {
      ++total.failures;
      if (!running.is_open() || !running.it().is_open()) {  // in the midst of closing or opening
        running.forget_handles();
        running.kill();
        open();
        continue;
      }
      if (!running.arena().is_poisoned()) {
        // Nothing was written that could be lost: there was no room, or the file could not be made longer.
        if (e.code() != dm::errc::full && on.failed() != asked::room)
          throw wrong(std::string("it goes on after: ") + e.what());
        ++total.went_on;
        continue;
      }
      // It can be read, and nothing else.
      ++total.poisoned;
      std::uint64_t seen = 0;
      for (const auto [key, value] : std::as_const(running.it())) seen += std::as_const(running.it()).contains(key);
      if (seen != running.it().size()) throw wrong("a poisoned map cannot be read");
      require_code(dm::errc::poisoned, [&] { running.it().insert(record{}); });
      require_code(dm::errc::poisoned, [&] { running.it().commit(); });
      require_code(dm::errc::poisoned, [&] { running.it().rollback(); });
      running.forget_handles();
      running.kill();
      open();
    }
  }
  mended = true;
  running.forget_handles();
  const std::uint64_t all = calls;
  if (running.is_open() && running.arena().is_poisoned()) {  // by the last commit's share of a checkpoint
    running.kill();
    running.open();
  }
  running.commit(dm::sync::now);
  running.kill();
  // And then the power went, at any moment.
  medium disk(in.files);
  random_bits random(seed * 31 + failing);
  for (std::size_t i = 0; i <= on.trace().size(); ++i) {
    const bool last = i == on.trace().size();
    if (last || below(random, 4) == 0) {
      const std::uint64_t safe = last ? on.safe() : on.trace()[i].safe_commit;
      const std::uint64_t begun = last ? on.begun() : on.trace()[i].begun_commit;
      machine again(disk.cut(random), in.header);
      const auto arena = dm::durable_arena::attach(again.open(true), in.header, how, dm::arena_access::read_write);
      const std::uint64_t at = arena->last_commit();
      if (at < safe || at > begun)
        throw wrong("after event " + std::to_string(i) + " it is at commit " + std::to_string(at) + ", not one from " +
                    std::to_string(safe) + " to " + std::to_string(begun));
      ++total.cuts;
    }
    if (!last) disk.follow(on.trace()[i]);
  }
  ++total.runs;
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t histories = 2, first = 1, transactions = 30;
  if (!take_numbers(argc, argv, {{"--histories", &histories}, {"--first", &first}, {"--transactions", &transactions}}))
    return 2;
  const scene in = made_by([](const std::filesystem::path& path) { map::create(path, how).close(); });
  totals total;
  for (std::uint64_t seed = first; seed < first + histories; ++seed) {
    const std::uint64_t calls = run(in, seed, transactions, ~std::uint64_t{0}, manner::io_error_once, total);
    for (std::uint64_t failing = 0; failing < calls; ++failing)
      for (const manner m :
           {manner::io_error_once, manner::full_once, manner::io_error_for_good, manner::full_for_a_while}) {
        try {
          run(in, seed, transactions, failing, m, total);
        } catch (const std::exception& e) {
          std::printf("history %llu, call %llu, manner %d: %s\n", static_cast<unsigned long long>(seed),
                      static_cast<unsigned long long>(failing), static_cast<int>(m), e.what());
          return 1;
        }
      }
  }
  std::printf(
      "%llu runs, %llu calls that said that they failed, %llu times poisoned, %llu times gone on, %llu openings "
      "refused, %llu "
      "losses of power: each at a commit it may be at\n",
      static_cast<unsigned long long>(total.runs), static_cast<unsigned long long>(total.failures),
      static_cast<unsigned long long>(total.poisoned), static_cast<unsigned long long>(total.went_on),
      static_cast<unsigned long long>(total.openings_failed), static_cast<unsigned long long>(total.cuts));
}
