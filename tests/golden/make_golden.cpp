// Makes golden files, and for each what it holds as one line of JSON. Run by hand, once for each file:
//
//   build/test/tests/golden/make_golden DIRECTORY NAME...     (no NAME: all of them)
//
// A file that exists is never replaced. Files of killed processes are left by processes that were killed: where it
// matters at which instruction, the process is stepped through the operation one instruction at a time (x86-64). The one
// thing changed by hand is the boot id, which becomes one that no machine has.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "../files.hpp"
#include "deferred_map/inspect.hpp"
#include "deferred_map/mapped_map.hpp"
#include "golden_types.hpp"

namespace {

using golden::json;
using std::filesystem::path;
using numbers = dm::mapped_map<std::uint64_t>;

constexpr std::uint64_t no_machines_boot_id = 0x6e65'646c'6f67;  // "golden"

/// What a program knows of the map it changes.
template <class T>
class told {
 public:
  explicit told(dm::mapped_map<T>& of) : map(of) {}

  dm::key insert(const T& value) {
    const dm::key k = map.insert(value);
    live_[golden::text_of(k)] = golden::json_of(value);
    return k;
  }
  void erase(dm::key k) {
    if (!map.erase(k)) throw std::logic_error("no such key");
    live_.erase(golden::text_of(k));
    dead_.push_back(golden::text_of(k));
  }
  void update(dm::key k, const T& value) {
    if (!map.update(k, [&](T& v) { v = value; })) throw std::logic_error("no such key");
    live_[golden::text_of(k)] = golden::json_of(value);
  }
  void will_be(dm::key k, const T& value) { live_[golden::text_of(k)] = golden::json_of(value); }
  void will_be_dead(dm::key k) {
    live_.erase(golden::text_of(k));
    dead_.push_back(golden::text_of(k));
  }
  void has_died(const std::string& k) { dead_.push_back(k); }

  json written() const {
    return {{"slot_count", map.slot_count()},
            {"retired", map.retired_count()},
            {"generation_floor", map.generation_floor()},
            {"live", live_},
            {"dead", dead_}};
  }

  dm::mapped_map<T>& map;

 private:
  json live_ = json::object();
  json dead_ = json::array();
};

/// Runs `work` in a child, and gives what the child wrote down. The child ends by itself (`how` exited) or by a kill.
json in_child(const path& file, const std::function<void(const path& notes)>& work,
              const std::function<bool()>& kill_when = {}) {
  const path notes = file.string() + ".json";
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      if (kill_when) ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      work(notes);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "%s: %s\n", file.c_str(), e.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child) throw std::runtime_error("waitpid");
  if (kill_when) {
    if (!WIFSTOPPED(status)) throw std::runtime_error(file.string() + ": it did not stop before its last operation");
    while (!kill_when()) {
      if (::ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0) throw std::runtime_error("ptrace");
      if (::waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
        throw std::runtime_error(file.string() + ": the moment never came");
    }
    ::kill(child, SIGKILL);
    if (::waitpid(child, &status, 0) != child) throw std::runtime_error("waitpid");
  }
  if (!WIFSIGNALED(status) && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
    throw std::runtime_error(file.string() + ": the child failed");
  json noted = json::parse(std::ifstream(notes));
  std::filesystem::remove(notes);
  return noted;
}

enum class ending { closed, killed };

/// `work(told)` makes the file's history; then it is closed, or its process killed between two operations.
template <class T, class Work>
json made(const path& file, std::uint64_t max_slots, ending how, Work work) {
  return in_child(file, [&](const path& notes) {
    auto map = dm::mapped_map<T>::create(file, {.max_slots = max_slots});
    told<T> history(map);
    work(history);
    std::ofstream(notes) << history.written();
    if (how == ending::killed) ::kill(::getpid(), SIGKILL);
    map.close();
  });
}

/// A view of a file that others change: to see when the moment has come.
class watched {
 public:
  explicit watched(const path& file) : header_(read_at<dm::arena_header>(file, 0)) {
    const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    base_ = static_cast<const std::byte*>(
        ::mmap(nullptr, std::filesystem::file_size(file), PROT_READ, MAP_SHARED, descriptor, 0));
    ::close(descriptor);
    if (base_ == MAP_FAILED) throw std::runtime_error("mmap");
  }
  const volatile dm::control_block& control() const {
    return *reinterpret_cast<const volatile dm::control_block*>(base_ + header_.control_offset);
  }
  const volatile std::uint32_t& version(std::uint32_t slot) const {
    return *reinterpret_cast<const volatile std::uint32_t*>(base_ + header_.slots_offset +
                                                            slot * header_.slot_stride_bytes);
  }
  const volatile std::uint64_t& word_of_value(std::uint32_t slot, std::size_t word) const {
    return *reinterpret_cast<const volatile std::uint64_t*>(
        base_ + header_.slots_offset + slot * header_.slot_stride_bytes + header_.value_offset + word * 8);
  }

 private:
  dm::arena_header header_;
  const std::byte* base_;
};

/// A new file, in which `before` makes a history; `last` is then stepped through, and the process killed in it as soon as
/// `moment` holds.
template <class T, class Before, class Last, class Moment>
json killed_within(const path& file, std::uint64_t max_slots, Before before, Last last, Moment moment) {
  // Made first, so that there is something to watch.
  dm::mapped_map<T>::create(file, {.max_slots = max_slots, .reserve_slots = max_slots}).close();
  const watched seen(file);
  return in_child(
      file,
      [&](const path& notes) {
        auto map = dm::mapped_map<T>::open(file);
        told<T> history(map);
        const dm::key k = before(history);
        std::ofstream(notes) << history.written();
        ::raise(SIGSTOP);
        last(map, k);
      },
      [&] { return moment(seen); });
}

/// The same for opening a file that somebody left.
void killed_while_opening(const path& file, const numbers::options& how,
                          const std::function<bool(const watched&)>& moment) {
  const watched seen(file);
  in_child(
      file,
      [&](const path& notes) {
        std::ofstream(notes) << json();
        ::raise(SIGSTOP);
        numbers::open(file, how);
      },
      [&] { return moment(seen); });
}

void set_boot_id(const path& file, std::uint64_t boot_id) {
  const auto header = read_at<dm::arena_header>(file, 0);
  write_at(file, header.control_offset + offsetof(dm::control_block, boot_id), boot_id);
}

/// The names of the rules that dm-inspect finds broken.
json findings_in(const path& file) {
  json rules = json::array();
  const dm::inspect::check_report report = dm::inspect::check(dm::inspect::arena_file::open(file));
  for (const auto& [rule, times] : report.findings.by_rule()) rules.push_back(rule);
  return rules;
}

std::uint32_t sum_of(const volatile dm::control_block& c) { return c.occupied + c.reserved + c.vacant + c.retired; }

// The histories -----------------------------------------------------------------------------------------------------

void three_numbers(told<std::uint64_t>& m) {
  m.insert(0x1111);
  const dm::key second = m.insert(0x2222);
  m.insert(0x3333);
  m.erase(second);
  m.erase(m.insert(0x4444));  // a second life of the same slot
}

/// 700 slots: many vacant ones in the bitmap, and a full buffer.
void full_index(told<std::uint64_t>& m) {
  std::vector<dm::key> keys;
  for (std::uint64_t i = 0; i < 700; ++i) keys.push_back(m.insert(i * i));
  const auto header = read_at<dm::arena_header>(m.map.path(), 0);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (i % 3 == 0 || i / 64 == 2) continue;  // a word stays full
    m.erase(keys[i]);
    if (i > 400 && read_at<dm::control_block>(m.map.path(), header.control_offset).buffer_count == 128) return;
  }
  throw std::logic_error("the buffer never was full");
}

/// The real thing: a billion lives for each of two slots.
void last_generations(told<std::uint64_t>& m) {
  m.insert(1);
  const auto live_until_the_last = [&] {
    dm::key k = m.map.insert(2);
    m.has_died(golden::text_of(k));
    while (k.generation() < dm::version::last_generation) {
      m.map.erase(k);
      k = m.map.insert(2);
    }
    return k;
  };
  const dm::key retired = live_until_the_last();
  m.map.erase(retired);
  m.has_died(golden::text_of(retired));
  const dm::key last = live_until_the_last();
  *m.map.get(last) = 3;
  m.will_be(last, 3);
  m.erase(m.insert(4));
}

void shrunk(told<std::uint64_t>& m) {
  std::vector<dm::key> keys;
  for (std::uint64_t i = 0; i < 10; ++i) keys.push_back(m.insert(i));
  for (std::uint64_t life = 0; life < 6; ++life) {
    m.erase(keys[7]);
    keys[7] = m.insert(100 + life);
  }
  for (std::size_t i = 6; i < 10; ++i) m.erase(keys[i]);
  m.map.shrink_to_fit();
  m.insert(1000);  // made anew, from the floor on
  m.erase(m.insert(1001));
}

golden::everything one_of_everything(dm::key next, std::uint32_t n) {
  golden::everything e{};
  e.next = next;
  e.where = {0.5f * static_cast<float>(n), -2.25 * n};
  e.steps = {-1, 0, static_cast<std::int16_t>(300 + n)};
  e.paint = n % 3 == 0 ? golden::colour::red : n % 3 == 1 ? golden::colour::green : golden::colour::blue;
  e.is_open = n % 2 == 0;
  e.letter = static_cast<char>('a' + n);
  std::snprintf(e.name, sizeof e.name, "number %u", n);
  for (std::size_t i = 0; i < e.raw.size(); ++i) e.raw[i] = static_cast<std::byte>(0xf0 + n + i);
  e.big = -1'000'000'000'000 - n;
  e.small = 4'000'000'000u + n;
  e.corners = {golden::point{1, 2}, golden::point{static_cast<float>(n), 1.0 / 8 * n}};
  return e;
}

dm::key a_ring(told<golden::everything>& m) {
  const dm::key first = m.insert(one_of_everything({}, 0));
  dm::key k = first;
  for (std::uint32_t n = 1; n < 4; ++n) k = m.insert(one_of_everything(k, n));
  m.update(first, one_of_everything(k, 4));
  return first;
}

/// Three pages and a vacant slot, `k` that of the second.
dm::key pages(told<golden::page>& m) {
  m.insert(golden::page_of(1));
  const dm::key k = m.insert(golden::page_of(2));
  m.erase(m.insert(golden::page_of(3)));
  m.update(k, golden::page_of(4));
  m.update(k, golden::page_of(5));
  return k;
}

/// `before` for an insert that takes the slot of the key returned, in its next life.
dm::key with_a_vacant_slot(told<std::uint64_t>& m) {
  m.insert(10);
  const dm::key k = m.insert(11);
  m.insert(12);
  m.erase(k);
  return k;
}
dm::key next_life(dm::key k) { return dm::key::from_parts(k.index(), k.generation() + 1); }

/// Of ten slots three are reserved when the process is killed.
void handles_out(told<std::uint64_t>& m) {
  std::vector<dm::key> keys;
  for (std::uint64_t i = 0; i < 10; ++i) keys.push_back(m.insert(i));
  m.erase(keys[4]);
  m.will_be_dead(m.map.allocate_handle().key());
  m.will_be_dead(m.map.allocate_handle().key());
  // Taken out, and never put back.
  m.will_be_dead(m.map.detach(keys[2])->second.key());
}

struct recipe {
  const char* type;
  const char* left;  // as the test brings it about: closed, killed or machine_stopped
  json report;       // of the recovery: outcome, examined, given back, finished
  std::function<json(const path&)> make;
};

json report(const char* outcome, int examined = 0, int given_back = 0, int finished = 0) {
  return {{"outcome", outcome},
          {"slots_examined", examined},
          {"reserved_given_back", given_back},
          {"updates_finished", finished}};
}

const std::map<std::string, recipe> recipes{
    {"empty",
     {"number", "closed", report("clean"),
      [](const path& file) { return made<std::uint64_t>(file, 8, ending::closed, [](auto&) {}); }}},
    {"number",
     {"number", "closed", report("clean"),
      [](const path& file) { return made<std::uint64_t>(file, 8, ending::closed, three_numbers); }}},
    {"number-index",
     {"number", "closed", report("clean"),
      [](const path& file) { return made<std::uint64_t>(file, 700, ending::closed, full_index); }}},
    {"number-retired",
     {"number", "closed", report("clean"),
      [](const path& file) { return made<std::uint64_t>(file, 8, ending::closed, last_generations); }}},
    {"number-floor",
     {"number", "closed", report("clean"),
      [](const path& file) { return made<std::uint64_t>(file, 16, ending::closed, shrunk); }}},
    {"everything",
     {"everything", "closed", report("clean"),
      [](const path& file) { return made<golden::everything>(file, 8, ending::closed, a_ring); }}},
    {"plain",
     {"plain", "closed", report("clean"),
      [](const path& file) {
        return made<golden::plain>(file, 8, ending::closed, [](auto& m) {
          const dm::key k = m.insert({1, -1, 1.5f, {1, 2, 3, 4}});
          m.insert({4'000'000'000u, -(std::int64_t{1} << 40), -0.25f, {255, 254, 253, 252}});
          m.erase(k);
        });
      }}},
    {"aligned",
     {"aligned", "closed", report("clean"),
      [](const path& file) {
        return made<golden::aligned>(file, 8, ending::closed, [](auto& m) {
          for (std::uint64_t n = 0; n < 5; ++n) m.insert({n * 11});
        });
      }}},
    {"page",
     {"page", "closed", report("clean"),
      [](const path& file) { return made<golden::page>(file, 3, ending::closed, pages); }}},
    {"number-killed-idle",
     {"number", "killed", report("nothing_under_way"),
      [](const path& file) { return made<std::uint64_t>(file, 8, ending::killed, three_numbers); }}},
    {"number-killed-inserting",
     {"number", "killed", report("recovered", 3),
      [](const path& file) {
        return killed_within<std::uint64_t>(
            file, 8, with_a_vacant_slot, [](numbers& m, dm::key) { m.insert(99); },
            [](const watched& seen) {  // the value written, and not committed
              return sum_of(seen.control()) == 2 && seen.word_of_value(1, 0) == 99;
            });
      }}},
    {"number-killed-inserted",
     {"number", "killed", report("recovered", 3),
      [](const path& file) {
        return killed_within<std::uint64_t>(
            file, 8,
            [](auto& m) {
              const dm::key k = with_a_vacant_slot(m);
              m.will_be(next_life(k), 99);
              return k;
            },
            [](numbers& m, dm::key) { m.insert(99); },
            [](const watched& seen) {  // committed, and not counted
              return sum_of(seen.control()) == 2 && dm::version::is_occupied(seen.version(1));
            });
      }}},
    {"number-killed-erasing",
     {"number", "killed", report("recovered", 3),
      [](const path& file) {
        return killed_within<std::uint64_t>(
            file, 8,
            [](auto& m) {
              m.insert(1);
              const dm::key k = m.insert(2);
              m.insert(3);
              m.will_be_dead(k);
              return k;
            },
            [](numbers& m, dm::key k) { m.erase(k); },
            [](const watched& seen) { return sum_of(seen.control()) == 2 && dm::version::is_vacant(seen.version(1)); });
      }}},
    {"everything-killed-handles",
     {"everything", "killed", report("recovered", 6, 2),
      [](const path& file) {
        return made<golden::everything>(file, 8, ending::killed, [](auto& m) {
          const dm::key first = a_ring(m);
          const dm::key never = m.map.allocate_handle().key();
          m.will_be_dead(m.map.allocate_handle().key());
          m.update(first, one_of_everything(never, 4));  // refers to a value that will never be
          m.will_be_dead(never);
        });
      }}},
    {"page-killed-updating",
     {"page", "killed", report("recovered", 3, 0, 1),
      [](const path& file) {
        return killed_within<golden::page>(
            file, 3,
            [](auto& m) {
              const dm::key k = pages(m);
              m.will_be(k, golden::page_of(6));
              return k;
            },
            [](auto& m, dm::key k) { m.update(k, [](golden::page& p) { p = golden::page_of(6); }); },
            [](const watched& seen) {
              return seen.control().update_pending == 1 && seen.word_of_value(1, 100) == 6100 &&
                     seen.word_of_value(1, 400) == 5400;
            });
      }}},
    {"number-killed-recovering",
     {"number", "killed", report("recovered", 11, 2),
      [](const path& file) {
        json noted = made<std::uint64_t>(file, 16, ending::killed, handles_out);
        killed_while_opening(file, {}, [](const watched& seen) {  // one given back, two not yet
          return seen.control().recovering == 1 && dm::version::is_vacant(seen.version(2)) &&
                 dm::version::is_reserved(seen.version(4));
        });
        return noted;
      }}},
    {"number-killed-salvaging",
     {"number", "machine_stopped", report("salvaged", 11, 2),
      [](const path& file) {
        json noted = made<std::uint64_t>(file, 16, ending::killed, handles_out);
        set_boot_id(file, no_machines_boot_id);
        killed_while_opening(file, {.salvage = true}, [](const watched& seen) {
          return seen.control().recovering == 2 && dm::version::is_vacant(seen.version(2)) &&
                 dm::version::is_reserved(seen.version(4));
        });
        return noted;
      }}},
    {"number-stopped",
     {"number", "machine_stopped", report("salvaged", 11, 3),
      [](const path& file) { return made<std::uint64_t>(file, 16, ending::killed, handles_out); }}},
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: make_golden DIRECTORY [NAME...]\n");
    return 16;
  }
  std::vector<std::string> names(argv + 2, argv + argc);
  if (names.empty())
    for (const auto& [name, how] : recipes) names.push_back(name);
  try {
    for (const std::string& name : names) {
      const recipe& how = recipes.at(name);
      const path file = path(argv[1]) / (name + ".arena");
      json line{{"file", name}, {"type", how.type}, {"left", how.left}, {"recovery", how.report}};
      line.update(how.make(file));
      if (line.at("left") == "machine_stopped") set_boot_id(file, no_machines_boot_id);
      line["findings"] = findings_in(file);
      set_boot_id(file, no_machines_boot_id);
      std::printf("%s\n", line.dump().c_str());
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "make_golden: %s\n", e.what());
    return 8;
  }
  return 0;
}
