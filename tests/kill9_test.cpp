// A writer that reports each finished operation through a pipe is killed at random moments. Whatever it
// reported must be there; the operation under way happened or did not; nothing else may differ.
#include <sys/wait.h>
#include <unistd.h>

#include <boost/describe.hpp>
#include <chrono>
#include <csignal>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "catch.hpp"
#include "deferred_map/mapped_map.hpp"
#include "temporary_directory.hpp"

namespace {

// Every word of a value is computed from its serial number, so a torn value shows.
struct record {
  std::uint64_t serial;
  std::array<std::uint64_t, 7> echo;
};
BOOST_DESCRIBE_STRUCT(record, (), (serial, echo))

record record_of(std::uint64_t serial) {
  record r{serial, {}};
  for (std::size_t i = 0; i < r.echo.size(); ++i) r.echo[i] = serial * (2 * i + 3);
  return r;
}
bool is_whole(const record& r) { return r.echo == record_of(r.serial).echo; }

using map = dm::mapped_map<record>;

enum class operation : std::uint32_t { none, insert, reserve, fill, release, remove, update, detach, refill };

/// What the writer says before (`begins`) and after each operation. 32 bytes: a pipe never tears it.
struct message {
  operation what;
  std::uint32_t done;
  std::uint64_t key_bits;
  std::uint64_t serial;
  std::uint64_t unused = 0;
};

struct model {
  std::map<std::uint64_t, std::uint64_t> live;  // key bits to serial
  std::set<std::uint64_t> dead;                 // keys that were removed, or reserved and never filled
  std::map<std::uint64_t, std::uint64_t> held;  // reserved, to the serial of the value taken out, or 0
};

void apply(model& m, const message& said) {
  switch (said.what) {
    case operation::insert:
    case operation::update:
      m.live[said.key_bits] = said.serial;
      break;
    case operation::fill:
    case operation::refill:
      m.held.erase(said.key_bits);
      m.live[said.key_bits] = said.serial;
      break;
    case operation::reserve:
      m.held[said.key_bits] = 0;
      break;
    case operation::release:
      m.held.erase(said.key_bits);
      m.dead.insert(said.key_bits);
      break;
    case operation::remove:
      m.live.erase(said.key_bits);
      m.dead.insert(said.key_bits);
      break;
    case operation::detach:
      m.live.erase(said.key_bits);
      m.held[said.key_bits] = said.serial;
      break;
    case operation::none:
      break;
  }
}

[[noreturn]] void write_for_ever(const std::filesystem::path& path, int to, std::uint32_t seed) {
  map m = map::open(path);
  std::mt19937 random(seed);
  std::vector<dm::key> live;
  for (const dm::key k : m.keys()) live.push_back(k);
  std::vector<dm::handle> held;
  std::uint64_t serial = (std::uint64_t{seed} << 32) + 1;
  const auto say = [&](operation what, dm::key k, std::uint32_t done) {
    const message text{what, done, k.bits(), serial};
    if (::write(to, &text, sizeof text) != sizeof text) ::_exit(2);
  };
  const auto pick = [&](auto& from) {
    const std::size_t i = random() % from.size();
    std::swap(from[i], from.back());
    auto picked = std::move(from.back());
    from.pop_back();
    return picked;
  };
  for (;; ++serial) {
    // Alternating seasons of growing and shrinking, so that the vacancy buffer spills and the bitmap is used.
    const bool growing = (serial >> 9) % 2 == 0;
    const unsigned dice = random() % 16;
    if (dice < (growing ? 6u : 2u)) {
      say(operation::insert, {}, 0);
      live.push_back(m.insert(record_of(serial)));
      say(operation::insert, live.back(), 1);
    } else if (dice < 8) {
      say(operation::reserve, {}, 0);
      held.push_back(m.allocate_handle());
      say(operation::reserve, held.back().key(), 1);
    } else if (dice < 10 && !held.empty()) {
      dm::handle h = pick(held);
      const dm::key k = h.key();
      say(operation::fill, k, 0);
      m.insert(std::move(h), record_of(serial));
      live.push_back(k);
      say(operation::fill, k, 1);
    } else if (dice == 10 && !held.empty()) {
      dm::handle h = pick(held);
      const dm::key k = h.key();
      say(operation::release, k, 0);
      m.release_handle(std::move(h));
      say(operation::release, k, 1);
    } else if (dice < (growing ? 12u : 15u) && !live.empty()) {
      const dm::key k = pick(live);
      say(operation::remove, k, 0);
      if (random() % 2 == 0)
        m.erase(k);
      else
        m.remove(k);
      say(operation::remove, k, 1);
    } else if (dice == 15 && !live.empty()) {
      const dm::key k = pick(live);
      say(operation::detach, k, 0);
      auto detached = m.detach(k);
      say(operation::detach, k, 1);
      held.push_back(std::move(detached->second));
    } else if (!live.empty()) {
      const dm::key k = live[random() % live.size()];
      say(operation::update, k, 0);
      m.update(k, [&](record& r) { r = record_of(serial); });
      say(operation::update, k, 1);
    }
  }
}

}  // namespace

TEST_CASE("whatever a killed writer reported is there, 200 times") {
  temporary_directory directory;
  const auto path = directory / "m";
  map::create(path).close();
  const std::uint32_t first_seed = std::random_device{}();
  INFO("first seed " << first_seed);
  model known;
  std::uint64_t operations = 0;
  std::size_t recovered = 0;
  for (std::uint32_t round = 0; round < 200; ++round) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(ends[0]);
      try {
        write_for_ever(path, ends[1], first_seed + round);
      } catch (...) {
        ::_exit(3);
      }
    }
    ::close(ends[1]);
    // The parent reads while the child runs, so that the pipe never holds it up, and kills it after a number
    // of reports that differs each time; where exactly that hits it is up to the scheduler.
    std::mt19937 random(first_seed ^ round);
    const std::uint64_t reports_before_kill = random() % 4000;
    std::uint64_t reports = 0;
    message pending{};
    bool killed = false;
    message text{};
    while (::read(ends[0], &text, sizeof text) == sizeof text) {
      if (text.done == 1) {
        apply(known, text);
        ++operations;
        pending = message{};
      } else {
        pending = text;
      }
      if (++reports >= reports_before_kill && !killed) {
        if (random() % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 200));
        ::kill(child, SIGKILL);
        killed = true;
      }
    }
    ::close(ends[0]);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    INFO("round " << round << ", the operation under way was " << static_cast<int>(pending.what));
    REQUIRE(WIFSIGNALED(status));

    map m = map::open(path);
    recovered += m.recovery().outcome == dm::recovery_outcome::recovered;
    const std::string fault = m.verify();
    REQUIRE(fault == "");
    REQUIRE(m.reserved_count() == 0);

    // The operation under way either happened or did not; find out which, and hold it to that.
    const dm::key k = dm::key::from_bits(pending.key_bits);
    const record* there = m.get(k);
    switch (pending.what) {
      case operation::fill:
        if (there != nullptr) {
          REQUIRE(there->serial == pending.serial);
          apply(known, pending);
        }
        break;
      case operation::remove:
        if (there == nullptr) apply(known, pending);
        break;
      case operation::update:
        if (there != nullptr && there->serial == pending.serial) apply(known, pending);
        break;
      case operation::detach:
        if (there == nullptr) apply(known, pending);
        break;
      case operation::insert:
        // Its key was never told; at most one value nobody knows may be there.
        for (const auto [unknown, value] : m)
          if (!known.live.contains(unknown.bits())) {
            REQUIRE(value.serial == pending.serial);
            message done = pending;
            done.key_bits = unknown.bits();
            apply(known, done);
          }
        break;
      default:
        break;
    }
    for (const auto& [bits, serial] : known.held) known.dead.insert(bits);
    known.held.clear();

    REQUIRE(m.size() == known.live.size());
    for (const auto& [bits, serial] : known.live) {
      const record* value = m.get(dm::key::from_bits(bits));
      REQUIRE(value != nullptr);
      REQUIRE(value->serial == serial);
      REQUIRE(is_whole(*value));
    }
    for (const std::uint64_t bits : known.dead) REQUIRE_FALSE(m.contains(dm::key::from_bits(bits)));
  }
  CHECK(operations > 10'000);
  CHECK(recovered > 10);
  std::printf("kill9: %llu operations reported, 200 kills, %zu of them within an operation or with handles out\n",
              static_cast<unsigned long long>(operations), recovered);
}
