// The example process_table: one samples, others look on, and whoever is killed, every process keeps its key and no slot is
// lost. Real processes, really killed.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "../examples/process_table/proc.hpp"
#include "../examples/process_table/process.hpp"
#include "../examples/process_table/sampler.hpp"
#include "../examples/process_table/views.hpp"
#include "catch.hpp"
#include "processes.hpp"
#include "running_program.hpp"

namespace {

using namespace process_table;

bool can_run() {
  std::error_code ignored;
  const bool can = std::filesystem::exists("/proc/self/stat", ignored) && ::access("/dev/shm", W_OK) == 0;
  if (!can) WARN("unavailable: no /proc, or no /dev/shm to write to");
  return can;
}

/// A segment of the test's own, gone when the test is.
class segment {
 public:
  segment() : name_("test-process-table-" + std::to_string(::getpid()) + "-" + std::to_string(++count)) {}
  ~segment() { dm::shm::remove(name_); }
  segment(const segment&) = delete;
  segment& operator=(const segment&) = delete;

  const std::string& name() const { return name_; }
  std::filesystem::path path() const { return dm::shm(name_).path(); }

 private:
  static inline int count = 0;
  std::string name_;
};

/// The example as people run it.
class program : public running_program {
 public:
  explicit program(std::vector<std::string> arguments) : running_program(path(), std::move(arguments)) {}

  static const char* path() { return std::getenv("PROCESS_TABLE"); }
  static bool available() {
    if (path() == nullptr) WARN("PROCESS_TABLE is not set: the program is not tested");
    return path() != nullptr && can_run();
  }
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

auto identity(const process& p) { return std::tuple(p.boot, p.pid, p.start_ticks); }

std::map<std::uint32_t, dm::key> keys_by_pid(const process_map& map) {
  std::map<std::uint32_t, dm::key> keys;
  map.for_each([&](dm::key k, const process& p) { keys[p.pid] = k; });
  return keys;
}

/// A process that never was. The first and the last byte of its value vary together.
process made_up(std::uint32_t pid, std::uint32_t parent_pid, std::uint64_t start, std::uint64_t ticks = 0) {
  process p;
  p.pid = pid;
  p.parent_pid = parent_pid;
  p.start_ticks = start;
  p.user_ticks = ticks;
  p.sampled_unix_ns = now_unix_ns();
  std::strcpy(p.name, "made up");
  std::memset(p.command, 'a' + static_cast<int>(ticks % 26), sizeof p.command);
  return p;
}

std::string fault_of_made_up(const process& p) {
  if (text(p.name) != "made up") return {};
  for (const char c : p.command)
    if (c != 'a' + static_cast<int>(p.user_ticks % 26)) return "a torn value of process " + std::to_string(p.pid);
  return {};
}

/// Made-up processes, and the one that asks: a sampler sees itself.
std::vector<process> with_self(std::vector<process> others) {
  others.push_back(read_process(static_cast<std::uint32_t>(::getpid())).value());
  return others;
}

/// What must hold of a map whose sampler has stopped after a sample of exactly these.
void check_settled(const std::filesystem::path& path, std::size_t count, std::size_t slots_max) {
  const process_map map = process_map::open_read_only(path);
  std::set<decltype(identity({}))> seen;
  map.for_each([&](dm::key, const process& p) {
    CHECK(seen.insert(identity(p)).second);
    CHECK(p.samples_as == -1);
  });
  CHECK(seen.size() == count);
  std::map<dm::slot_state, std::size_t> states;
  for (std::uint32_t i = 0; i < map.slot_count(); ++i) ++states[map.state(i)];
  CHECK(states[dm::slot_state::occupied] == count);
  CHECK(states[dm::slot_state::reserved] == 0);
  CHECK(states[dm::slot_state::retired] == 0);
  CHECK(map.slot_count() <= slots_max);
  CHECK(map.owners().empty());
}

volatile std::sig_atomic_t asked_to_stop = 0;

/// Looks on until it is asked to stop. Says 'r' when it has the map open. Exits with 0 if it never saw anything wrong.
child_process onlooker(const std::filesystem::path& path, bool attached) {
  return child_process([=](auto say) {
    asked_to_stop = 0;
    std::signal(SIGTERM, [](int) { asked_to_stop = 1; });
    process_map map = attached ? process_map::open(path) : process_map::open_read_only(path);
    say('r');
    struct history {
      decltype(identity({})) who;
      std::uint32_t samples = 0;
    };
    std::map<dm::key, history> known;
    std::size_t looks = 0;
    do {
      map.for_each([&](dm::key k, const process& p) {
        const auto [at, is_new] = known.try_emplace(k, history{identity(p), p.samples});
        if (at->second.who != identity(p)) throw std::runtime_error("a key reached another process");
        if (p.samples < at->second.samples) throw std::runtime_error("a value went back");
        at->second.samples = p.samples;
        if (const auto parent = map.get(p.parent); parent && parent->pid != p.parent_pid)
          throw std::runtime_error("a parent's key reached another process");
        if (const std::string fault = fault_of_made_up(p); !fault.empty()) throw std::runtime_error(fault);
      });
      if (attached) map.reap();  // in the way of whoever attaches
      ++looks;
    } while (asked_to_stop == 0);
    if (known.empty() || looks < 2) throw std::runtime_error("nothing was seen");
  });
}

int end_of(child_process& one) {
  ::kill(one.pid(), SIGTERM);
  return one.wait();
}

}  // namespace

// Reading /proc ---------------------------------------------------------------------------------------------------------

TEST_CASE("a line of /proc is read whatever the process calls itself") {
  const std::string numbers = " S 7 1 1 0 -1 4194560 0 0 0 0 11 22 0 0 20 0 3 0 4444 9999 5 18446744073709551615 1 1";
  for (const std::string name : {"cat", "a) R 1 (b", "((", "))", "", " ", ") ) S 9 9"}) {
    const auto p = parse_stat("123 (" + name + ")" + numbers);
    REQUIRE(p);
    CHECK(text(p->name) == name);
    CHECK(p->pid == 123);
    CHECK(p->state == process_state::sleeping);
    CHECK(p->parent_pid == 7);
    CHECK(p->user_ticks == 11);
    CHECK(p->system_ticks == 22);
    CHECK(p->threads == 3);
    CHECK(p->start_ticks == 4444);
    CHECK(p->resident_bytes == 5 * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
  }
  CHECK(parse_stat("1 (a) ?" + numbers.substr(2))->state == process_state::unknown);
  CHECK(text(parse_stat("1 (\x1b[31m)" + numbers)->name) == "?[31m");
  for (const std::string wrong : {"", "1", "1 (", "1 (a", "1 a)", "1 (a)", "1 (a) ", "1 (a) S", "1 (a) S 7 1", "x (a)"})
    CHECK_FALSE(parse_stat(wrong));
}

TEST_CASE("a real process is found with its name, parent and command line") {
  if (!can_run()) return;
  const child_process child([](auto say) {
    ::prctl(PR_SET_NAME, "a) R 1 (b");
    say('r');
    stay();
  });
  REQUIRE(child.hear() == 'r');
  const std::vector<process> all = read_processes();
  const auto find = [&](pid_t pid) {
    return *std::find_if(all.begin(), all.end(), [&](const process& p) { return p.pid == static_cast<unsigned>(pid); });
  };
  const process found = find(child.pid());
  CHECK(text(found.name) == "a) R 1 (b");
  CHECK(found.parent_pid == static_cast<std::uint32_t>(::getpid()));
  CHECK(found.uid == ::geteuid());
  CHECK(found.threads == 1);
  CHECK(found.resident_bytes > 0);
  CHECK(text(found.command) == text(find(::getpid()).command));
  CHECK(found.start_ticks >= find(::getpid()).start_ticks);
  CHECK(found.boot != 0);
}

// Sampling --------------------------------------------------------------------------------------------------------------

TEST_CASE("a value names its parent's key though the parent comes after it") {
  if (!can_run()) return;
  const segment place;
  sampler at_work(place.path());
  const auto counts = at_work.sample([] {
    return with_self({made_up(5'000'001, 5'000'002, 1), made_up(5'000'002, 5'000'003, 1)});
  });
  CHECK(counts.started == 2);
  CHECK(counts.updated == 1);  // ourselves: a sampler has a value before it samples
  const auto keys = keys_by_pid(at_work.map());
  CHECK(at_work.map().at(keys.at(5'000'001)).parent == keys.at(5'000'002));
  CHECK(at_work.map().at(keys.at(5'000'002)).parent == dm::key{});
}

TEST_CASE("the key of a process that ended is stale, also where its pid or its slot is another's by now") {
  if (!can_run()) return;
  const segment place;
  sampler at_work(place.path());
  at_work.sample([] { return with_self({made_up(5'000'001, 0, 1), made_up(5'000'002, 5'000'001, 2)}); });
  const dm::key ended = keys_by_pid(at_work.map()).at(5'000'001);
  const dm::key child = keys_by_pid(at_work.map()).at(5'000'002);
  const auto counts = at_work.sample([] { return with_self({made_up(5'000'001, 0, 3), made_up(5'000'002, 1, 2, 9)}); });
  CHECK(counts.started == 1);
  CHECK(counts.updated == 2);
  CHECK(counts.ended == 1);
  CHECK_FALSE(at_work.map().contains(ended));
  CHECK(keys_by_pid(at_work.map()).at(5'000'001) != ended);
  at_work.sample([] { return with_self({made_up(5'000'001, 0, 3), made_up(5'000'002, 1, 2), made_up(4, 0, 4)}); });
  CHECK(keys_by_pid(at_work.map()).at(4).index() == ended.index());  // the same slot, last out, first in
  CHECK_FALSE(at_work.map().contains(ended));
  CHECK(keys_by_pid(at_work.map()).at(5'000'002) == child);
  CHECK(at_work.map().at(child).samples == 3);
}

TEST_CASE("the share of a processor is told from one sample to the next") {
  if (!can_run()) return;
  const segment place;
  sampler at_work(place.path());
  process p = made_up(5'000'001, 0, 1);
  at_work.sample([&] { return with_self({p}); });
  const dm::key k = keys_by_pid(at_work.map()).at(p.pid);
  CHECK(at_work.map().at(k).cpu_percent == 0);
  for (int i = 0; i < 10; ++i) {
    p.sampled_unix_ns += 1'000'000'000;
    p.user_ticks += ticks_per_second() / 2;
    at_work.sample([&] { return with_self({p}); });
  }
  CHECK(at_work.map().at(k).cpu_percent == Approx(50).margin(1));
}

TEST_CASE("a second sampler is refused while the first lives, and takes over when it was killed") {
  if (!can_run()) return;
  const segment place;
  child_process first([&](auto say) {
    sampler at_work(place.path());
    at_work.sample();
    say('r');
    stay();
  });
  REQUIRE(first.hear() == 'r');
  const auto keys = keys_by_pid(process_map::open_read_only(place.path()));
  const pid_t pid = first.pid();
  try {
    sampler second(place.path());
    FAIL("there were two");
  } catch (const table_error& e) {
    CHECK(contains(e.what(), "process " + std::to_string(pid) + " samples"));
  }
  CHECK(keys_by_pid(process_map::open_read_only(place.path())) == keys);
  first.kill();
  {
    sampler second(place.path());
    CHECK(second.killed_pid() == static_cast<std::uint32_t>(pid));
    CHECK(second.map().recovery().to_string() ==
          "1 user had been killed with it open: what they had begun was finished, what they held was given back");
    CHECK(second.sample().ended >= 1);
    CHECK_FALSE(second.map().contains(keys.at(static_cast<std::uint32_t>(pid))));
    CHECK(keys_by_pid(second.map()).at(1) == keys.at(1));
  }
  const sampler third(place.path());  // the second one has stopped, and was not killed
  CHECK(third.killed_pid() == 0);
}

TEST_CASE("of samplers that start at once exactly one samples") {
  if (!can_run()) return;
  for (int round = 0; round < 20; ++round) {
    const segment place;
    int gate[2];
    REQUIRE(::pipe(gate) == 0);
    std::vector<child_process> all;
    for (int i = 0; i < 6; ++i)
      all.emplace_back([&](auto say) {
        ::close(gate[1]);
        char nothing;
        (void)!::read(gate[0], &nothing, 1);  // until the gate is closed
        try {
          sampler at_work(place.path());
          say('s');
          stay();
        } catch (const table_error&) {
          say('r');
        }
      });
    ::close(gate[0]);
    ::close(gate[1]);
    std::string said;
    for (const child_process& one : all) said += one.hear();
    CHECK(std::count(said.begin(), said.end(), 's') == 1);
    CHECK(std::count(said.begin(), said.end(), 'r') == 5);
  }
}

// Killing ---------------------------------------------------------------------------------------------------------------

TEST_CASE("samplers killed in the midst of changing the map: every key stays, nothing is torn, no slot is lost") {
  if (!can_run()) return;
  const segment place;
  constexpr std::uint32_t lasting = 30;
  // 30 that last, 20 that are others in each sample; children before their parents.
  const auto made_up_now = [](std::uint64_t n) {
    std::vector<process> all;
    for (std::uint32_t i = 0; i < lasting; ++i) all.push_back(made_up(5'000'000 + i, 5'000'001 + i, 1, n));
    for (std::uint32_t i = 0; i < 20; ++i) {
      const auto now = static_cast<std::uint64_t>(now_unix_ns());
      all.push_back(made_up(6'000'000 + i, 5'000'000 + i, now, n));
    }
    return with_self(all);
  };
  std::map<std::uint32_t, dm::key> keys;
  std::size_t slots = 0;
  {
    sampler first(place.path());
    first.sample([&] { return made_up_now(0); });
    keys = keys_by_pid(first.map());
    slots = first.map().slot_count();
  }
  child_process reader = onlooker(place.path(), false);
  child_process attached = onlooker(place.path(), true);
  REQUIRE(reader.hear() == 'r');
  REQUIRE(attached.hear() == 'r');

  const auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 100; ++round) {
    child_process victim([&](auto say) {
      sampler at_work(place.path());
      say('r');
      for (std::uint64_t n = 1;; ++n) at_work.sample([&] { return made_up_now(n); });
    });
    if (round % 3 != 0) REQUIRE(victim.hear() == 'r');  // else it may be killed while it opens, or reaps
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    victim.kill();
    const process_map map = process_map::open_read_only(place.path());
    for (std::uint32_t pid = 5'000'000; pid < 5'000'000 + lasting; ++pid) {
      const auto p = map.get(keys.at(pid));
      REQUIRE(p);
      CHECK(p->pid == pid);
    }
  }
  CHECK(end_of(reader) == 0);
  CHECK(end_of(attached) == 0);
  {
    sampler last(place.path());
    last.sample([&] { return made_up_now(1); });
  }
  check_settled(place.path(), lasting + 20 + 1, slots);
}

TEST_CASE("the program killed at any moment: the machine's processes keep their keys") {
  if (!program::available()) return;
  const segment place;
  std::vector<child_process> lasting;
  for (int i = 0; i < 3; ++i) lasting.emplace_back([](auto) { stay(); });
  std::map<std::uint32_t, dm::key> keys;
  std::size_t slots = 0;
  std::size_t most = 0;
  {
    sampler first(place.path());
    first.sample();
    keys = keys_by_pid(first.map());
    slots = first.map().slot_count();
  }
  child_process reader = onlooker(place.path(), false);
  child_process attached = onlooker(place.path(), true);
  REQUIRE(reader.hear() == 'r');
  REQUIRE(attached.hear() == 'r');

  const auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 60; ++round) {
    program victim({"sample", "--name", place.name(), "--hz", "1000"});
    if (round % 2 == 0) {
      std::string line = victim.line();
      while (!line.empty() && !line.starts_with("sampling into")) line = victim.line();
      REQUIRE(!line.empty());
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
    REQUIRE(victim.end(SIGKILL) == -SIGKILL);
    const process_map map = process_map::open_read_only(place.path());
    for (const child_process& one : lasting) {
      const auto p = map.get(keys.at(static_cast<std::uint32_t>(one.pid())));
      REQUIRE(p);
      CHECK(p->pid == static_cast<std::uint32_t>(one.pid()));
    }
    most = std::max(most, map.size());
  }
  CHECK(end_of(reader) == 0);
  CHECK(end_of(attached) == 0);

  const auto ended = static_cast<std::uint32_t>(lasting.front().pid());
  lasting.front().kill();
  std::size_t count = 0;
  {
    sampler last(place.path());
    last.sample();
    CHECK_FALSE(last.map().contains(keys.at(ended)));
    for (std::size_t i = 1; i < lasting.size(); ++i)
      CHECK(last.map().contains(keys.at(static_cast<std::uint32_t>(lasting[i].pid()))));
    count = last.map().size();
  }
  check_settled(place.path(), count, std::max(slots, 2 * most));
}

// Looking ---------------------------------------------------------------------------------------------------------------

TEST_CASE("the tree follows keys, and a parent that has ended makes a root") {
  look all;
  const auto add = [&](std::uint32_t pid, dm::key parent, const char* command) {
    process p = made_up(pid, 0, 1);
    p.parent = parent;
    std::memset(p.command, 0, sizeof p.command);
    std::strcpy(p.command, command);
    all.rows.emplace_back(dm::key::from_parts(pid, 1), p);
  };
  const auto key_of = [](std::uint32_t pid) { return dm::key::from_parts(pid, 1); };
  add(20, key_of(3), "grandchild");
  add(3, key_of(1), "child");
  add(4, key_of(1), "");
  add(1, dm::key{}, "init");
  add(9, dm::key::from_parts(1, 2), "orphan");  // the slot is somebody's, the key is not
  CHECK(tree_text(all) ==
        "       1  init\n"
        "       3   \\_ child\n"
        "      20       \\_ grandchild\n"
        "       4   \\_ [made up]\n"
        "       9  orphan\n");
}

TEST_CASE("the table shows who uses most, how fast things change, and what has become of the sampler") {
  look before, now;
  now.taken_unix_ns = 10'000'000'000;
  before.taken_unix_ns = now.taken_unix_ns - 500'000'000;
  for (std::uint32_t pid : {1u, 2u, 3u}) {
    process p = made_up(pid, 0, 1);
    p.sampled_unix_ns = 9'000'000'000;
    p.samples = 10;
    before.rows.emplace_back(dm::key::from_parts(pid, 1), p);
    p.samples = 15;
    p.cpu_percent = pid == 2 ? 60.0f : 0.0f;
    p.resident_bytes = pid * 1'000'000;
    now.rows.emplace_back(dm::key::from_parts(pid, 1), p);
  }
  const std::string text = top_text(now, &before, {.rows_max = 2});
  CHECK(text.starts_with("3 processes, 30 updates a second; no news for 1.0 s: the sampler has stopped\n"));
  CHECK(std::count(text.begin(), text.end(), '\n') == 4);
  CHECK(text.find("\n       2 ") < text.find("\n       3 "));
  CHECK(contains(text, "60.0%   2000 kB"));
  const std::string by_memory = top_text(now, nullptr, {.rows_max = 2, .by = order::memory});
  CHECK(by_memory.find("\n       3 ") < by_memory.find("\n       2 "));
  now.sampler = sampler_mark{now.rows[0].first, now.rows[0].second, true};
  CHECK(news_text(now) == "sampled 1.0 s ago by process 1");
  now.sampler->alive = false;
  CHECK(news_text(now) == "no news for 1.0 s: the sampler (process 1) was killed");
  CHECK(news_text({}) == "nothing was sampled yet");
}

TEST_CASE("the program says what to do where there is no table, and does not take one away that is in use") {
  if (!program::available()) return;
  const segment place;
  for (std::vector<std::string> arguments :
       std::vector<std::vector<std::string>>{{"top"}, {"tree"}, {"watch", "1"}, {"remove"}}) {
    arguments.insert(arguments.end(), {"--name", place.name()});
    const auto [code, said] = program(arguments).finish();
    CHECK(code == 1);
    CHECK(said == "process_table: there is no process table " + place.path().string() +
                      ". Start a sampler first: process_table sample --name " + place.name() + "\n");
  }
  program sampling({"sample", "--name", place.name()});
  CHECK(contains(sampling.line(), "sampling into " + place.path().string()));
  const pid_t killed = sampling.pid();
  CHECK(program({"sample", "--name", place.name()}).finish().first == 1);
  const auto [code, said] = program({"remove", "--name", place.name()}).finish();
  CHECK(code == 1);
  CHECK(contains(said, "kill " + std::to_string(killed)));
  CHECK(contains(program({"top", "--once", "--name", place.name()}).finish().second,
                 "by process " + std::to_string(killed)));
  CHECK(sampling.end(SIGKILL) == -SIGKILL);
  CHECK(contains(program({"top", "--once", "--name", place.name()}).finish().second,
                 "the sampler (process " + std::to_string(killed) + ") was killed"));
  const std::string taken_over = program({"sample", "--seconds", "0", "--name", place.name()}).line();
  CHECK(taken_over.starts_with("the sampler before, process " + std::to_string(killed) + ", was killed; its "));
  program stopped({"sample", "--name", place.name()});
  const std::string pid_of_stopped = std::to_string(stopped.pid());
  stopped.line();
  CHECK(stopped.end(SIGTERM) == 0);
  CHECK(contains(program({"top", "--once", "--name", place.name()}).finish().second, "the sampler has stopped"));
  CHECK(contains(program({"tree", "--name", place.name()}).finish().second, " " + pid_of_stopped + "  "));
  CHECK(program({"remove", "--name", place.name()}).finish().first == 0);
  CHECK_FALSE(std::filesystem::exists(place.path()));
  CHECK(program({"nonsense"}).finish().first == 2);
  CHECK(program({"--help"}).finish().first == 0);
}

TEST_CASE("watch ends when its process does") {
  if (!program::available()) return;
  const segment place;
  child_process watched([](auto) { stay(); });
  program sampling({"sample", "--name", place.name(), "--hz", "100"});
  sampling.line();
  const auto key = keys_by_pid(process_map::open_read_only(place.path())).at(static_cast<std::uint32_t>(watched.pid()));
  std::ostringstream key_text;
  key_text << key;
  program watching({"watch", std::to_string(watched.pid()), "--name", place.name()});
  CHECK(watching.line() == "process " + std::to_string(watched.pid()) + ", key " + key_text.str());
  CHECK(contains(watching.line(), "B    1  "));
  watched.kill();
  const auto [code, said] = watching.finish();
  CHECK(code == 0);
  CHECK(contains(said, "ended: key " + key_text.str() + " is stale"));
}
