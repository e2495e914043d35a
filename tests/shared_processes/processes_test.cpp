// Eight processes on one shared map, killed, stopped and replaced at random; every history of every key is checked.
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <set>

#include "../catch.hpp"
#include "../effort.hpp"
#include "../self_checking.hpp"
#include "../temporary_directory.hpp"
#include "deferred_map/shared_map.hpp"
#include "history.hpp"

namespace {

using namespace shared_processes;
using map = dm::shared_map<self_checking>;

constexpr std::size_t processes = 8;
constexpr std::size_t logs_in_an_epoch = 6 * processes;
constexpr std::size_t boxes = 48;  // keys that all processes know; few, so that they meet

std::uint64_t now_ns() noexcept {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(time.tv_nsec);
}

/// Memory of all processes, beside the map: what they did, and the keys they tell each other.
struct common {
  std::array<std::atomic<std::uint64_t>, boxes> keys;
  std::atomic<std::uint64_t> wrong;
  std::array<call_log, logs_in_an_epoch> logs;
};

struct unmap {
  void operator()(common* c) const noexcept { ::munmap(c, sizeof *c); }
};
std::unique_ptr<common, unmap> shared_memory() {
  void* const memory = ::mmap(nullptr, sizeof(common), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("mmap");
  return std::unique_ptr<common, unmap>(new (memory) common{});
}

class worker {
 public:
  worker(const std::filesystem::path& path, common& all, call_log& log, std::uint64_t first_number)
      : map_(map::open(path, {.sync_on_close = false})),
        all_(all),
        log_(log),
        number_(first_number),
        random_(first_number | 1) {}

  /// Until its log is full.
  void run() {
    while (log_.count < call_log::capacity) {
      auto& box = all_.keys[random_() % boxes];
      const std::uint64_t bits = box.load(std::memory_order_relaxed);
      const auto dice = random_() % 100;
      if (bits == 0) {
        put(box);
      } else if (dice < 45) {
        get(bits);
      } else if (dice < 85) {
        update(bits);
      } else if (dice < 92) {
        remove(bits);
        std::uint64_t expected = bits;
        box.compare_exchange_strong(expected, 0);
      } else if (dice < 97) {
        put(box);
      } else if (dice < 99) {
        hold();
      } else {
        walk();
      }
    }
    map_.close();
  }

 private:
  call& begin(what kind, std::uint64_t bits) {
    call& c = log_.calls[log_.count];
    c = {kind, 0, bits, 0, 0, now_ns(), 0};
    std::atomic_signal_fence(std::memory_order_seq_cst);
    ++log_.count;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    return c;
  }
  static void end(call& c, bool found) {
    c.found = found;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    c.ended_ns = now_ns();
  }
  void check(const self_checking& value) { all_.wrong += !value.is_whole(); }

  void put(std::atomic<std::uint64_t>& box) {
    call& c = begin(what::insert, 0);
    c.new_number = ++number_;
    dm::key k;
    if (random_() % 2 == 0) {
      auto h = map_.allocate_handle();
      c.key_bits = h.key().bits();
      std::atomic_signal_fence(std::memory_order_seq_cst);
      k = map_.insert(std::move(h), checked_value(number_));
    } else {
      k = map_.insert_with_key([&](dm::key key) {
        c.key_bits = key.bits();
        return checked_value(number_);
      });
    }
    end(c, true);
    const std::uint64_t displaced = box.exchange(k.bits());
    if (displaced != 0 && log_.count < call_log::capacity) remove(displaced);
  }
  void get(std::uint64_t bits) {
    call& c = begin(what::get, bits);
    const auto value = map_.get(dm::key::from_bits(bits));
    if (value) {
      check(*value);
      c.old_number = value->number;
    }
    end(c, value.has_value());
  }
  void update(std::uint64_t bits) {
    call& c = begin(what::update, bits);
    const std::uint64_t fresh = ++number_;
    const bool found = map_.update(dm::key::from_bits(bits), [&](self_checking& value) {
      check(value);
      c.old_number = value.number;
      std::atomic_signal_fence(std::memory_order_seq_cst);
      c.new_number = fresh;
      value = checked_value(fresh);
    });
    end(c, found);
  }
  void remove(std::uint64_t bits) {
    call& c = begin(what::remove, bits);
    const auto value = map_.remove(dm::key::from_bits(bits));
    if (value) {
      check(*value);
      c.old_number = value->number;
    }
    end(c, value.has_value());
  }
  void hold() {
    auto h = map_.allocate_handle();
    const dm::key k = h.key();
    if (random_() % 2 == 0) return;  // forgotten: given back when this process closes, or is reaped
    map_.release_handle(std::move(h));
    all_.wrong += map_.contains(k);
  }
  void walk() {
    map_.for_each([&](dm::key, const self_checking& value) { check(value); });
  }

  map map_;
  common& all_;
  call_log& log_;
  std::uint64_t number_;
  std::minstd_rand random_;
};

pid_t start(const std::filesystem::path& path, common& all, std::size_t log, std::uint64_t first_number) {
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork");
  if (child == 0) {
    try {
      worker(path, all, all.logs[log], first_number).run();
    } catch (const std::exception& e) {
      std::fprintf(stderr, "in a child: %s\n", e.what());
      ++all.wrong;
      ::_exit(1);
    }
    ::_exit(0);
  }
  return child;
}

}  // namespace

TEST_CASE("eight processes, killed and replaced at random, and every key's history could have happened in order") {
  const unsigned epochs = exhaustive() ? 400 : sanitized ? 12 : 60;
  temporary_directory directory(temporary_directory::in_memory());
  const auto path = directory / "m";
  map m = map::create(path, {.max_slots = 40'000});
  const auto all = shared_memory();
  std::minstd_rand random(20'261'126);
  std::vector<std::uint32_t> generations(40'000, 0);  // the highest that each slot's keys have had
  tally count;
  std::uint64_t kills = 0, stops = 0;
  contents before;
  for (unsigned epoch = 0; epoch < epochs; ++epoch) {
    std::vector<pid_t> alive;
    std::size_t used = 0;
    for (auto& log : all->logs) log.count = 0;
    const auto launch = [&] {
      alive.push_back(start(path, *all, used, (std::uint64_t{epoch} * logs_in_an_epoch + used + 1) << 32));
      ++used;
    };
    while (used < processes) launch();
    while (!alive.empty()) {
      ::usleep(static_cast<useconds_t>(random() % 200));
      const std::size_t which = random() % alive.size();
      int status = 0;
      switch (random() % 8) {
        case 0:
          ::kill(alive[which], SIGSTOP);
          ++stops;
          break;
        case 1:
          ::kill(alive[which], SIGCONT);
          break;
        case 2:
        case 3:
        case 4:
        case 5:
          if (used < logs_in_an_epoch && ::kill(alive[which], SIGKILL) == 0) {
            ::waitpid(alive[which], &status, 0);
            kills += WIFSIGNALED(status);
            alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(which));
            launch();
          }
          break;
        default:
          if (used == logs_in_an_epoch) ::kill(alive[which], SIGCONT);
          break;
      }
      for (std::size_t i = 0; i < alive.size();) {
        if (::waitpid(alive[i], &status, WNOHANG) == alive[i]) {
          REQUIRE(WIFEXITED(status));
          REQUIRE(WEXITSTATUS(status) == 0);
          alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(i));
          if (used < logs_in_an_epoch && alive.size() + used < logs_in_an_epoch) launch();
        } else {
          ++i;
        }
      }
      if (used == logs_in_an_epoch)
        for (const pid_t one : alive) ::kill(one, SIGCONT);
    }
    m.reap();

    // Nobody is left: no slot is anybody's, and what is there is what the histories say.
    REQUIRE(all->wrong == 0);
    REQUIRE(m.owners().size() == 1);
    contents after;
    m.for_each([&](dm::key k, const self_checking& v) {
      REQUIRE(v.is_whole());
      after[k.bits()] = v.number;
    });
    std::size_t reserved = 0;
    for (std::uint32_t i = 0; i < m.slot_count(); ++i) reserved += m.state(i) == dm::slot_state::reserved;
    REQUIRE(reserved == 0);
    std::vector<const call_log*> logs;
    for (std::size_t i = 0; i < used; ++i) logs.push_back(&all->logs[i]);
    REQUIRE(first_contradiction(logs, before, after, count) == "");
    // No key was given out again that somebody knew from earlier.
    std::vector<std::uint32_t> highest = generations;
    for (const call_log* log : logs)
      for (std::size_t i = 0; i < log->count; ++i) {
        const dm::key k = dm::key::from_bits(log->calls[i].key_bits);
        if (log->calls[i].kind != what::insert || !k) continue;
        REQUIRE(k.generation() > generations[k.index()]);
        highest[k.index()] = std::max(highest[k.index()], k.generation());
      }
    generations = std::move(highest);
    before = std::move(after);
    // Values that nobody knows any more, since who inserted them died before it told.
    std::set<std::uint64_t> known;
    for (const auto& box : all->keys) known.insert(box.load());
    for (auto it = before.begin(); it != before.end();) {
      if (known.contains(it->first)) {
        ++it;
        continue;
      }
      REQUIRE(m.erase(dm::key::from_bits(it->first)));
      it = before.erase(it);
    }
    m.close();  // what this process put by goes back, and the file is looked over
    m = map::open(path, {.verify = true});
  }
  std::printf(
      "%llu calls in %u epochs, %llu histories of keys checked, the longest of %llu calls; %llu kills, %llu of "
      "them within a call; %llu stops\n",
      static_cast<unsigned long long>(count.calls), epochs, static_cast<unsigned long long>(count.histories),
      static_cast<unsigned long long>(count.longest), static_cast<unsigned long long>(kills),
      static_cast<unsigned long long>(count.pending), static_cast<unsigned long long>(stops));
  CHECK(kills > epochs);
}
