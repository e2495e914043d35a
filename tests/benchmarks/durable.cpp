// dm::durable_map beside LMDB, SQLite and RocksDB on a real disk: commits that survive a loss of power, opening after a kill,
// gets; and what its rollback costs.
//
//   bench_durable > RESULTS.json               what tools/lib/durable.py makes a table of
//       --directory D     where the files lie (.); must be on a disk
//       --rounds N        (9) in each of which every side has its turns, in a random order
//       --seconds S       (1) of a turn: with so many seconds of commits, and what they have left to be done
//       --values N        (1000000) of 64 bytes
//       --sides NAME,...  only these, and dm: lmdb, sqlite, rocksdb, bare
//
// A turn is a number of commits of 1, 10, 100 or 1000 updates of random values, one after the other. Its time is that of
// the commits, and of what comes after them: waiting for threads that work in the background, and for everything that the
// side has written and not yet synced. All sides go on with the files as the turn before has left them, so checkpoints take
// the share of the time that they take in the long run. In the end every value of every side must be that of its last commit.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "deferred_map/mapped_map.hpp"
#include "disk.hpp"
#include "durable_sides.hpp"
#include "json_list.hpp"
#include "shared_processes.hpp"

namespace bench {
namespace {

struct settings {
  std::filesystem::path directory = ".";
  std::uint64_t values = 1'000'000;
  std::size_t rounds = 9;
  double seconds = 1;
  std::vector<std::string> sides;  // empty: all
  bool is_wanted(const std::string& side) const {
    return sides.empty() || side == dm_side::name || std::ranges::find(sides, side) != sides.end();
  }
  /// Calls `f.template operator()<Side>()` for each that is wanted and keeps values.
  template <class F>
  void for_each_side(F f) const {
    for_each_durable_side([&]<class Side>() {
      if (is_wanted(Side::name)) f.template operator()<Side>();
    });
  }
  std::string prefix(const char* side) const { return directory / "durable" / side; }
};

constexpr std::array<std::size_t, 4> batches{1, 10, 100, 1000};

double seconds_between(moment from, moment to) { return std::chrono::duration<double>(to - from).count(); }

double load() {
  double one_minute = 0;
  std::ifstream("/proc/loadavg") >> one_minute;
  return one_minute;
}

void tell(const std::string& what) {
  if (::isatty(2) != 0) std::fprintf(stderr, "\r\033[K%s", what.c_str());
}

// Commits -----------------------------------------------------------------------------------------------------------------

struct turn {
  std::uint64_t commits = 0;
  double seconds = 0;           // all of it
  double changing_seconds = 0;  // of that, before the commits were asked for
  double after_seconds = 0;     // of that, what was left to be done
  std::uint64_t disk_bytes = 0;
};

/// A side with its files open, and what it should have.
class contender {
 public:
  explicit contender(std::string side) : side_(std::move(side)) {}
  virtual ~contender() = default;
  contender(const contender&) = delete;
  contender& operator=(const contender&) = delete;

  const std::string& side() const { return side_; }
  virtual bool has_values() const = 0;
  virtual turn commit(std::size_t batch, double seconds, const disk& device) = 0;
  /// ns of one get, of many random ones.
  virtual double get_ns(const std::vector<std::uint64_t>& ids) = 0;
  /// Of all commits so far of so many updates, in microseconds.
  std::vector<float>& latencies(std::size_t batch) { return latencies_[batch]; }

 private:
  std::string side_;
  std::map<std::size_t, std::vector<float>> latencies_;
};

template <class Side>
class contender_of final : public contender {
 public:
  explicit contender_of(const settings& how)
      : contender(Side::name), prefix_(how.prefix(Side::name)), opened_(prefix_), stamps_(how.values) {}
  ~contender_of() override = default;

  Side& opened() { return opened_; }
  bool has_values() const override { return reads; }

  turn commit(std::size_t batch, double seconds, const disk& device) override {
    turn done;
    std::vector<float>& latencies = this->latencies(batch);
    std::vector<std::uint64_t> ids(batch);
    const std::uint64_t bytes_before = device.written_bytes();
    while (done.seconds < seconds) {
      ++stamp_;
      for (std::uint64_t& id : ids) {
        id = random_() % stamps_.size();
        stamps_[id] = stamp_;
      }
      const moment from = now();
      const moment changed = opened_.commit(ids, stamp_);
      const moment to = now();
      ++done.commits;
      done.seconds += seconds_between(from, to);
      done.changing_seconds += seconds_between(from, changed);
      latencies.push_back(static_cast<float>(seconds_between(from, to) * 1e6));
    }
    const moment from = now();
    opened_.settle();
    sync_files(prefix_);
    done.after_seconds = seconds_between(from, now());
    done.seconds += done.after_seconds;
    done.disk_bytes = device.written_bytes() - bytes_before;
    return done;
  }

  double get_ns(const std::vector<std::uint64_t>& ids) override {
    if constexpr (reads) {
      std::uint64_t expected = 0, sum = 0;
      for (const std::uint64_t id : ids) expected += stamps_[id];
      opened_.begin_reading();
      const moment from = now();
      for (const std::uint64_t id : ids) sum += opened_.read(id);
      const double seconds = seconds_between(from, now());
      opened_.end_reading();
      if (sum != expected) throw std::runtime_error(side() + " does not have the values of its last commits");
      return seconds * 1e9 / static_cast<double>(ids.size());
    } else {
      return ids.empty() ? 1 : 0;
    }
  }

 private:
  static constexpr bool reads = requires(Side & s) { s.begin_reading(); };
  std::string prefix_;
  Side opened_;
  std::vector<std::uint64_t> stamps_;  // of each value, the commit that was the last to change it
  std::uint64_t stamp_ = 0;
  std::mt19937_64 random_{42};
};

void print_turn(json_list& to, const contender& by, std::size_t batch, std::size_t round, const turn& done) {
  to.next();
  std::printf(R"({"side": "%s", "updates": %zu, "round": %zu, "commits": %llu, "seconds": %.4f, "changing": %.4f, )"
              R"("after": %.4f, "disk_bytes": %llu})",
              by.side().c_str(), batch, round, static_cast<unsigned long long>(done.commits), done.seconds,
              done.changing_seconds, done.after_seconds, static_cast<unsigned long long>(done.disk_bytes));
}

void print_latencies(std::vector<std::unique_ptr<contender>>& all) {
  json_list list("latencies_us");
  for (const auto& one : all)
    for (const std::size_t batch : batches) {
      std::vector<float>& of = one->latencies(batch);
      if (of.empty()) continue;
      std::sort(of.begin(), of.end());
      const auto at = [&](double share) {
        return of[static_cast<std::size_t>(share * static_cast<double>(of.size() - 1))];
      };
      list.next();
      std::printf(
          R"({"side": "%s", "updates": %zu, "count": %zu, "p50": %.1f, "p99": %.1f, "p999": %.1f, "max": %.1f})",
          one->side().c_str(), batch, of.size(), static_cast<double>(at(0.5)), static_cast<double>(at(0.99)),
          static_cast<double>(at(0.999)), static_cast<double>(of.back()));
    }
}

// Gets --------------------------------------------------------------------------------------------------------------------

/// The same values in a mapped_map.
class mapped {
 public:
  mapped(const settings& how) : map_(dm::mapped_map<record>::create(how.prefix("mapped"), {.sync_on_close = false})) {
    map_.reserve(how.values);
    for (std::uint64_t id = 0; id < how.values; ++id) map_.insert(record::make(id, 0));
  }
  double get_ns(const std::vector<std::uint64_t>& ids) const {
    std::uint64_t sum = 0;
    const moment from = now();
    for (const std::uint64_t id : ids) sum += map_[dm_side::key_of(id)].stamps[6];
    const double seconds = seconds_between(from, now());
    if (sum != 0) throw std::runtime_error("the mapped map has other values");
    return seconds * 1e9 / static_cast<double>(ids.size());
  }

 private:
  dm::mapped_map<record> map_;
};

/// `when`: a name for the state in which the sides are.
void print_gets(const settings& how, const char* when, const std::vector<std::unique_ptr<contender>>& all,
                const std::vector<std::uint64_t>& ids) {
  json_list list((std::string("gets_") + when).c_str());
  for (std::size_t round = 0; round < how.rounds; ++round) {
    tell("gets, round " + std::to_string(round + 1));
    // A new one in each round: where in memory it lies differs.
    std::filesystem::remove(how.prefix("mapped"));
    const mapped beside(how);
    // Whoever follows on a slow one finds nothing in the processor's caches: everybody's first time does not count.
    const auto print = [&](const std::string& side, const std::function<double()>& get_ns) {
      get_ns();
      list.next();
      std::printf(R"({"side": "%s", "round": %zu, "ns": %.2f})", side.c_str(), round, get_ns());
    };
    for (int repetition = 0; repetition < 3; ++repetition) {
      print("mapped", [&] { return beside.get_ns(ids); });
      for (const auto& one : all)
        if (one->has_values() && (repetition == 0 || one->side() == dm_side::name))
          print(one->side(), [&] { return one->get_ns(ids); });
    }
  }
}

// Rollback ----------------------------------------------------------------------------------------------------------------

void print_rollbacks(json_list& list, dm_side& side, const std::vector<std::uint64_t>& random_ids) {
  std::size_t at = 0;
  for (const std::size_t count : std::initializer_list<std::size_t>{10, 100, 1000, 10'000, 100'000}) {
    if (count > random_ids.size()) break;
    // Enough of them for the clock, and for one interruption not to matter.
    const std::size_t times = std::max<std::size_t>(3, 10'000 / count);
    std::vector<double> seconds;
    for (std::size_t i = 0; i < times; ++i) {
      at = at + count > random_ids.size() ? 0 : at;
      side.change(std::span(random_ids).subspan(at, count), ~std::uint64_t{0});
      at += count;
      const moment from = now();
      side.rollback();
      seconds.push_back(seconds_between(from, now()));
    }
    std::ranges::nth_element(seconds, seconds.begin() + static_cast<std::ptrdiff_t>(times / 2));
    list.next();
    std::printf(R"({"slots": %zu, "us": %.3f})", count, seconds[times / 2] * 1e6);
  }
}

// Opening after a kill ----------------------------------------------------------------------------------------------------

constexpr std::uint64_t journal_wanted_bytes = std::uint64_t{16} << 20;

/// Commits until there is so much of a journal, in a process that is then killed.
template <class Side>
void kill_with_a_journal(const settings& how, std::uint64_t first_stamp) {
  const pid_t child = ::fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child == 0) {
    try {
      const std::string prefix = how.prefix(Side::name);
      Side opened(prefix);
      opened.let_journal_grow();
      std::mt19937_64 random(first_stamp);
      std::vector<std::uint64_t> ids(100);
      std::uint64_t updates = 0;
      for (std::uint64_t stamp = first_stamp; Side::journal_bytes(prefix, updates) < journal_wanted_bytes; ++stamp) {
        for (std::uint64_t& id : ids) id = random() % how.values;
        opened.commit(ids, stamp);
        updates += ids.size();
      }
      ::kill(::getpid(), SIGKILL);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "%s: %s\n", Side::name, e.what());
    }
    ::_exit(1);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
    throw std::runtime_error("a process that was to be killed ended by itself");
}

template <class Side>
void print_opening(json_list& list, const settings& how, std::size_t round) {
  struct result {
    double seconds;
    std::uint64_t replayed_bytes;
  };
  const shared_array<result> measured(1);
  const std::uint64_t first_stamp = (round + 1) << 32;
  kill_with_a_journal<Side>(how, first_stamp);
  run_process([&] {
    const std::uint64_t id = std::mt19937_64(first_stamp)() % how.values;  // of the first commit
    take_priority();
    const moment from = now();
    Side opened(how.prefix(Side::name));
    opened.begin_reading();
    const std::uint64_t stamp = opened.read(id);
    measured[0].seconds = seconds_between(from, now());
    if (stamp < first_stamp) throw std::runtime_error(std::string(Side::name) + " has lost a commit");
    if constexpr (requires { opened.replayed_bytes(); }) measured[0].replayed_bytes = opened.replayed_bytes();
    opened.end_reading();
    // As whoever is measured next expects them.
    std::vector<std::uint64_t> ids(how.values);
    std::iota(ids.begin(), ids.end(), 0u);
    opened.commit(ids, 0);
  });
  list.next();
  std::printf(R"({"side": "%s", "ms": %.3f, "replayed_bytes": %llu})", Side::name, measured[0].seconds * 1e3,
              static_cast<unsigned long long>(measured[0].replayed_bytes));
}

// All of it ---------------------------------------------------------------------------------------------------------------

void run_turns(const settings& how, const disk& device, std::vector<std::unique_ptr<contender>>& all,
               std::mt19937_64& random) {
  // Until the journals and logs have come around, so that what is done later about earlier commits is done from the start.
  for (const auto& one : all) {
    tell("warming up: " + one->side());
    one->commit(batches.back(), how.seconds, device);
    one->latencies(batches.back()).clear();
  }
  json_list list("turns");
  std::vector<contender*> order;
  for (const auto& one : all) order.push_back(one.get());
  for (std::size_t round = 0; round < how.rounds; ++round) {
    // One right after the other with the same number of updates: a disk can be twice as fast a minute later.
    for (const std::size_t batch : batches) {
      std::shuffle(order.begin(), order.end(), random);
      for (contender* const by : order) {
        if (!by->has_values() && batch != 1) continue;
        tell("round " + std::to_string(round + 1) + ": " + by->side() + ", " + std::to_string(batch));
        print_turn(list, *by, batch, round, by->commit(batch, how.seconds, device));
      }
    }
  }
}

void run_all(const settings& how) {
  const disk device(how.directory);
  std::filesystem::remove_all(how.directory / "durable");
  std::filesystem::create_directories(how.directory / "durable");
  std::mt19937_64 random(std::random_device{}());
  std::printf(
      "{\"values\": %llu, \"value_bytes\": %zu, \"seconds\": %g, \"rounds\": %zu, \"device\": \"%s\", "
      "\"load_before\": %.2f,\n",
      static_cast<unsigned long long>(how.values), sizeof(record), how.seconds, how.rounds, device.name().c_str(),
      load());
  std::printf("\"versions\": {");
  how.for_each_side([&]<class Side>() { std::printf("\"%s\": \"%s\", ", Side::name, Side::version().c_str()); });
  std::printf("\"bare\": \"\"},\n");

  // In processes of their own: forking one in which somebody's threads run is nobody's idea of a good time.
  how.for_each_side([&]<class Side>() {
    tell(std::string("filling ") + Side::name);
    run_process([&] { Side::fill(how.prefix(Side::name), how.values); });
  });
  bare_side::fill(how.prefix(bare_side::name), how.values);
  {
    json_list list("openings");
    for (std::size_t round = 0; round < how.rounds; ++round)
      how.for_each_side([&]<class Side>() {
        tell("opening after a kill: " + std::string(Side::name));
        print_opening<Side>(list, how, round);
      });
  }
  std::printf(",\n");

  std::vector<std::unique_ptr<contender>> all;
  how.for_each_side([&]<class Side>() { all.push_back(std::make_unique<contender_of<Side>>(how)); });
  if (how.is_wanted(bare_side::name)) all.push_back(std::make_unique<contender_of<bare_side>>(how));
  std::vector<std::uint64_t> ids(how.values);
  std::iota(ids.begin(), ids.end(), 0u);
  std::shuffle(ids.begin(), ids.end(), random);
  std::printf("\"has_priority\": %s,\n", take_priority() ? "true" : "false");
  print_gets(how, "opened", all, ids);
  std::printf(",\n");
  run_turns(how, device, all, random);
  std::printf(",\n");
  print_latencies(all);
  std::printf(",\n");
  print_gets(how, "updated", all, ids);
  std::printf(",\n");
  {
    tell("rollbacks");
    json_list list("rollbacks");
    auto& side = dynamic_cast<contender_of<dm_side>&>(*all.front()).opened();
    for (std::size_t round = 0; round < how.rounds; ++round) print_rollbacks(list, side, ids);
  }
  for (const auto& one : all) one->get_ns(ids);
  all.clear();
  std::filesystem::remove_all(how.directory / "durable");
  tell("");
  std::printf(",\n\"load_after\": %.2f}\n", load());
}

bool parse(int argc, char** argv, settings& how) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i], value = argv[i + 1];
    if (option == "--directory") {
      how.directory = value;
    } else if (option == "--rounds") {
      how.rounds = std::stoul(value);
    } else if (option == "--seconds") {
      how.seconds = std::stod(value);
    } else if (option == "--values") {
      how.values = std::stoul(value);
    } else if (option == "--sides") {
      std::istringstream list(value);
      for (std::string side; std::getline(list, side, ',');) how.sides.push_back(side);
    } else {
      return false;
    }
  }
  return argc % 2 == 1;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  bench::settings how;
  if (!bench::parse(argc, argv, how)) {
    std::fprintf(stderr, "usage: %s [--directory D] [--rounds N] [--seconds S] [--values N] [--sides NAME,NAME]\n",
                 argv[0]);
    return 16;
  }
  try {
    bench::run_all(how);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "\nbench_durable: %s\n", e.what());
    return 8;
  }
  return 0;
}
