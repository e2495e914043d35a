// dm::shared_map beside LMDB and maps in Boost.Interprocess segments, used by several processes at once; and its gets
// beside those of the maps that one process has to itself.
//
//   bench_shared > RESULTS.json                what tools/lib/shared.py makes a table of
//       --repetitions N   of everything, in a random order of its own each time (5)
//       --seconds S       for which each is measured (0.5)
//       --values N        that every map is filled with (1000000)
//       --patience S      spent in all on waiting for other programs to be done, and on measuring again what they disturbed
//       --processes N,N   only readers, and insertions with removals, in so many processes: how it scales
//
// What is done, by one process or several (each on keys of its own where it changes anything):
//
//   read            random values
//   read_beside     random values, while another process updates random values at full speed
//   update          random values
//   update_beside   that other process
//   pairs           one value inserted, and removed
//   pairs_1000      1000 values inserted, and removed
//   churn           a random value removed, another inserted
//   pairs_apart     as pairs, but each process has a map that no other has open: what the machine is good for
//
// An operation of pairs and churn is an insertion and a removal. Values are of 64 bytes; a value that is not of one
// moment, or that is not there, is an error.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "deferred_map/deferred_map.hpp"
#include "deferred_map/mapped_map.hpp"
#include "json_list.hpp"
#include "shared_processes.hpp"
#include "shared_sides.hpp"

namespace bench {
namespace {

struct settings {
  std::uint64_t values = 1'000'000;
  std::size_t repetitions = 5;
  duration how_long;
  double patience_seconds = 300;
  std::vector<std::size_t> processes;
};

// Where the keys of a side's values are, by id: every process reads them, and churn replaces its own.
using key_list = shared_array<std::uint64_t>;

/// Ids number, number + of, number + 2 of, ... in random order.
std::vector<std::uint64_t> random_ids(const key_list& keys, std::size_t number, std::size_t of) {
  std::vector<std::uint64_t> ids;
  for (std::uint64_t id = number; id < keys.all().size(); id += of) ids.push_back(id);
  std::shuffle(ids.begin(), ids.end(), std::mt19937_64(number + of));
  return ids;
}

/// Walks a list around and around.
template <class T>
class circle {
 public:
  explicit circle(std::vector<T> all) : all_(std::move(all)) {}
  T& next() {
    if (++at_ == all_.size()) at_ = 0;
    return all_[at_];
  }
  const std::vector<T>& all() const { return all_; }

 private:
  std::vector<T> all_;
  std::size_t at_ = 0;
};

/// Looks at every value once: they must be right, and the map's pages are this process's then.
template <class Side>
void look_at_all(const Side& side, const key_list& keys, pace& mine) {
  for (std::uint64_t id = 0; id < keys.all().size(); ++id) {
    const std::optional<std::uint64_t> found = side.read(keys[id], mine.torn);
    mine.missing += !found || *found != id;
  }
}

// The works: each of one process. ---------------------------------------------------------------------------------------

template <class Side>
work reader(const std::string& prefix, const key_list& keys, std::size_t number) {
  return [=](pace& mine) {
    const Side side(prefix);
    look_at_all(side, keys, mine);
    std::vector<std::uint64_t> random = random_ids(keys, 0, 1);
    std::shuffle(random.begin(), random.end(), std::mt19937_64(number));
    for (std::uint64_t& id : random) id = keys[id];
    circle looked_up(std::move(random));
    mine.run([&] { mine.missing += !side.read(looked_up.next(), mine.torn); });
  };
}

struct named {
  std::uint64_t id;
  std::uint64_t key;
};
std::vector<named> random_keys(const key_list& keys, std::size_t number, std::size_t of) {
  std::vector<named> all;
  for (const std::uint64_t id : random_ids(keys, number, of)) all.push_back({id, keys[id]});
  return all;
}

template <class Side>
work updater(const std::string& prefix, const key_list& keys) {
  return [=](pace& mine) {
    Side side(prefix);
    look_at_all(side, keys, mine);
    circle updated(random_keys(keys, 0, 1));
    std::uint64_t stamp = 0;
    mine.run([&] {
      const named& value = updated.next();
      mine.missing += !side.update(value.key, record::make(value.id, ++stamp));
    });
  };
}

/// `Batch` values are inserted, then removed.
template <class Side, std::size_t Batch>
work inserter(const std::string& prefix, const key_list& keys, std::size_t number) {
  return [=](pace& mine) {
    Side side(prefix);
    look_at_all(side, keys, mine);
    const std::uint64_t first = keys.all().size() + number * Batch;
    std::array<std::uint64_t, Batch> inserted;
    std::uint64_t stamp = 0;
    const auto insert_and_remove = [&] {
      for (std::size_t i = 0; i < Batch; ++i) inserted[i] = side.insert(record::make(first + i, ++stamp));
      for (const std::uint64_t key : inserted) mine.missing += !side.erase(key);
    };
    mine.run(insert_and_remove, Batch);
  };
}

template <class Side>
work churner(const std::string& prefix, const key_list& keys, std::size_t number, std::size_t of) {
  return [=](pace& mine) {
    Side side(prefix);
    look_at_all(side, keys, mine);
    circle mine_alone(random_keys(keys, number, of));
    std::uint64_t stamp = 0;
    mine.run([&] {
      named& value = mine_alone.next();
      mine.missing += !side.erase(value.key);
      value.key = side.insert(record::make(value.id, ++stamp));
    });
    for (const named& value : mine_alone.all()) keys[value.id] = value.key;
  };
}

// What is measured --------------------------------------------------------------------------------------------------------

/// Processes at once; their counts go to `name`, but those of `beside`, which are the last process's, where there is one.
struct scenario {
  std::string name;
  std::string beside;
  std::string side;
  std::vector<work> works;
};

template <class Side>
void add_several(std::vector<scenario>& all, const std::string& prefix, const key_list& keys, std::size_t processes) {
  const auto add = [&](const char* name, auto make_work) {
    scenario s{name, "", Side::name, {}};
    for (std::size_t number = 0; number < processes; ++number) s.works.push_back(make_work(number));
    all.push_back(std::move(s));
  };
  add("read", [&](std::size_t number) { return reader<Side>(prefix, keys, number); });
  add("pairs", [&](std::size_t number) { return inserter<Side, 1>(prefix, keys, number); });
  add("pairs_1000", [&](std::size_t number) { return inserter<Side, 1000>(prefix, keys, number); });
  add("churn", [&](std::size_t number) { return churner<Side>(prefix, keys, number, processes); });
}

template <class Side>
void add_writing(std::vector<scenario>& all, const std::string& prefix, const key_list& keys) {
  all.push_back({"update", "", Side::name, {updater<Side>(prefix, keys)}});
  all.push_back(
      {"read_beside", "update_beside", Side::name, {reader<Side>(prefix, keys, 1), updater<Side>(prefix, keys)}});
}

/// The segments of one side: filled at first, removed at last.
template <class Side>
class filled {
 public:
  filled(const std::string& prefix, std::uint64_t values) : prefix_(prefix), keys_(values) {
    try {
      run_process([&] { std::ranges::copy(Side::fill(prefix, values), keys_.all().begin()); });
    } catch (...) {
      Side::remove(prefix);
      throw;
    }
  }
  filled(const filled&) = delete;
  filled& operator=(const filled&) = delete;
  ~filled() { Side::remove(prefix_); }
  const key_list& keys() const { return keys_; }

 private:
  std::string prefix_;
  key_list keys_;
};

// The results -------------------------------------------------------------------------------------------------------------

void print(json_list& to, const std::string& name, const scenario& of, std::span<const count> counted, double others) {
  to.next();
  std::printf(R"({"scenario": "%s", "side": "%s", "processes": %zu, "per_second": [)", name.c_str(), of.side.c_str(),
              counted.size());
  const char* separator = "";
  for (const count& c : counted) std::printf("%s%.1f", std::exchange(separator, ", "), c.per_second());
  std::printf("], \"processor\": [");
  separator = "";
  for (const count& c : counted) std::printf("%s%.3f", std::exchange(separator, ", "), c.processor_seconds / c.seconds);
  std::printf("], \"others\": %.3f}", others);
}

counts run_checked(const scenario& s, const duration& how_long) {
  counts counted;
  try {
    counted = run_processes(s.works, how_long);
  } catch (const interrupted&) {
    throw;
  } catch (const std::exception& e) {
    throw std::runtime_error(s.side + ", " + s.name + ": " + e.what());
  }
  for (const count& c : counted.all)
    if (c.torn != 0 || c.missing != 0)
      throw std::runtime_error(s.side + ", " + s.name + ": " + std::to_string(c.torn) + " values were torn, " +
                               std::to_string(c.missing) + " were not what had been stored");
  return counted;
}

/// `patience`: seconds left of it.
void run(json_list& results, const scenario& s, const duration& how_long, double& patience) {
  // Of one processor. What others do takes the processor from one of the processes, or the lock's holder off it.
  constexpr double quiet = 0.06;
  counts counted = run_checked(s, how_long);
  while (counted.others > quiet && patience > 0) {
    const auto from = std::chrono::steady_clock::now();
    wait_for_quiet(quiet, patience);
    counts again = run_checked(s, how_long);
    if (again.others < counted.others) counted = std::move(again);
    patience -= std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
  }
  const std::span all(counted.all);
  print(results, s.name, s, s.beside.empty() ? all : all.first(all.size() - 1), counted.others);
  if (!s.beside.empty()) print(results, s.beside, s, all.last(1), counted.others);
}

// Gets of 8 bytes beside the maps of one process --------------------------------------------------------------------------

struct get_times {
  double shared_ns, mapped_ns, heap_ns;
};

/// ns for each get: the median of several passes over all keys, the maps taking turns.
get_times measure_gets(const std::string& prefix, std::uint64_t values) {
  const dm::shm segment(prefix + "get");
  const std::filesystem::path file = "/dev/shm/" + prefix + "get.arena";
  auto shared = dm::shared_map<std::uint64_t>::create(segment, {.max_slots = values});
  auto mapped = dm::mapped_map<std::uint64_t>::create(file, {.sync_on_close = false});
  dm::deferred_map<std::uint64_t> heap;
  mapped.reserve(values);
  heap.reserve(values);
  std::vector<std::uint64_t> order(values);
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937_64(42));
  const auto keys_of = [&](auto& map) {
    std::vector<dm::key> inserted, random;
    for (std::uint64_t i = 0; i < values; ++i) inserted.push_back(map.insert(i));
    for (const std::uint64_t i : order) random.push_back(inserted[i]);
    return random;
  };

  const std::uint64_t passes = std::max<std::uint64_t>(1, 1'000'000 / values);
  const auto time = [&](const auto& map, const std::vector<dm::key>& keys) {
    std::uint64_t sum = 0;
    const auto from = std::chrono::steady_clock::now();
    for (std::uint64_t pass = 0; pass < passes; ++pass)
      for (const dm::key k : keys)
        if (const auto found = map.get(k)) sum += *found;
    const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - from;
    if (sum != passes * (values * (values - 1) / 2)) throw std::runtime_error("gets found something else");
    return taken.count() / static_cast<double>(passes * values);
  };
  const auto shared_keys = keys_of(shared), mapped_keys = keys_of(mapped), heap_keys = keys_of(heap);
  std::array<std::vector<double>, 3> taken;
  const std::function<double()> sides[] = {[&] { return time(shared, shared_keys); },
                                           [&] { return time(mapped, mapped_keys); },
                                           [&] { return time(heap, heap_keys); }};
  std::array<std::size_t, 3> turns{0, 1, 2};
  std::mt19937_64 random(static_cast<std::uint64_t>(::getpid()));
  for (int round = 0; round < 12; ++round) {
    std::shuffle(turns.begin(), turns.end(), random);
    for (const std::size_t side : turns) {
      const double ns = sides[side]();
      if (round != 0) taken[side].push_back(ns);
    }
  }
  std::array<double, 3> median;
  for (std::size_t side = 0; side < 3; ++side) {
    std::ranges::nth_element(taken[side], taken[side].begin() + 5);
    median[side] = taken[side][5];
  }
  return {median[0], median[1], median[2]};
}

void print_gets(json_list& results, const std::string& prefix, std::uint64_t values) {
  const shared_array<get_times> measured(1);
  const auto remove = [&] {
    dm::shm::remove(prefix + "get");
    std::filesystem::remove("/dev/shm/" + prefix + "get.arena");
  };
  try {
    run_process([&] { measured[0] = measure_gets(prefix, values); });
  } catch (...) {
    remove();
    throw;
  }
  remove();
  const get_times& t = measured[0];
  results.next();
  std::printf(R"({"values": %llu, "shared_ns": %.3f, "mapped_ns": %.3f, "heap_ns": %.3f})",
              static_cast<unsigned long long>(values), t.shared_ns, t.mapped_ns, t.heap_ns);
}

// All of it ---------------------------------------------------------------------------------------------------------------

void run_all(const settings& how) {
  const std::string prefix = "bench." + std::to_string(::getpid()) + ".";
  std::vector<scenario> all;
  std::vector<std::shared_ptr<void>> segments;
  const bool scaling = !how.processes.empty();
  for_each_shared_side([&]<class Side>() {
    const auto side = std::make_shared<filled<Side>>(prefix, how.values);
    segments.push_back(side);
    for (const std::size_t processes : scaling ? how.processes : std::vector<std::size_t>{1, 2})
      add_several<Side>(all, prefix, side->keys(), processes);
    if (!scaling) add_writing<Side>(all, prefix, side->keys());
  });
  // As many maps as processes, but for the values alike.
  scenario apart{"pairs_apart", "", dm_side::name, {}};
  for (std::size_t number = 0; !scaling && number < 2; ++number) {
    const std::string own = prefix + std::to_string(number) + ".";
    const auto map = std::make_shared<filled<dm_side>>(own, how.values);
    segments.push_back(map);
    apart.works.push_back(inserter<dm_side, 1>(own, map->keys(), number));
  }
  if (!scaling) all.push_back(apart);

  std::mt19937_64 random(std::random_device{}());
  double patience = how.patience_seconds;
  std::printf("{\"values\": %llu, \"value_bytes\": %zu, \"seconds\": %g, \"repetitions\": %zu,\n",
              static_cast<unsigned long long>(how.values), sizeof(record), how.how_long.measured, how.repetitions);
  {
    json_list results("runs");
    for (std::size_t repetition = 0; repetition < how.repetitions; ++repetition) {
      std::shuffle(all.begin(), all.end(), random);
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (::isatty(2) != 0)
          std::fprintf(stderr, "\r\033[K%zu/%zu %zu/%zu %s %s", repetition + 1, how.repetitions, i + 1, all.size(),
                       all[i].name.c_str(), all[i].side.c_str());
        run(results, all[i], how.how_long, patience);
      }
    }
  }
  std::printf(",\n");
  {
    json_list results("gets");
    for (std::size_t repetition = 0; !scaling && repetition < how.repetitions; ++repetition)
      for (const std::uint64_t values : {std::uint64_t{10'000}, how.values}) {
        const auto from = std::chrono::steady_clock::now();
        wait_for_quiet(0.06, patience);
        patience -= std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
        print_gets(results, prefix, values);
      }
  }
  if (::isatty(2) != 0) std::fprintf(stderr, "\r\033[K");
  std::printf("}\n");
}

bool parse(int argc, char** argv, settings& how) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i], value = argv[i + 1];
    if (option == "--repetitions") {
      how.repetitions = std::stoul(value);
    } else if (option == "--seconds") {
      how.how_long.measured = std::stod(value);
    } else if (option == "--patience") {
      how.patience_seconds = std::stod(value);
    } else if (option == "--values") {
      how.values = std::stoul(value);
    } else if (option == "--processes") {
      std::istringstream list(value);
      for (std::string number; std::getline(list, number, ',');) how.processes.push_back(std::stoul(number));
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
    std::fprintf(stderr, "usage: %s [--repetitions N] [--seconds S] [--values N] [--processes N,N...]\n", argv[0]);
    return 16;
  }
  bench::handle_interruptions();
  try {
    bench::run_all(how);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "\nbench_shared: %s\n", e.what());
    return 8;
  }
  return 0;
}
