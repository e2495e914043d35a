// shared_map, killed at every instruction of every operation: as its file is then (every distinct image is opened and
// judged), and as it is for a second process that goes on working on it.
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "../effort.hpp"
#include "../self_checking.hpp"
#include "deferred_map/shared_map.hpp"
#include "memory_directory.hpp"
#include "single_step.hpp"

namespace {

using namespace killed;
using map = dm::shared_map<self_checking>;

constexpr std::uint64_t slots_max = 1024;  // threads keep up to four slots ready
constexpr std::uint64_t known = 100;       // values there are from the start, numbered from 0; the first six are used

/// Values by key bits, of those that were there from the start, and the numbers of all others.
struct contents {
  std::map<std::uint64_t, std::uint64_t> old;
  std::multiset<std::uint64_t> others;
  friend bool operator==(const contents&, const contents&) = default;
};

void expect(bool holds, const std::string& otherwise) {
  if (!holds) throw std::runtime_error(otherwise);
}

class scene {
 public:
  explicit scene(std::filesystem::path path) : path_(std::move(path)) { make(); }

  const std::filesystem::path& path() const { return path_; }
  dm::key key(std::size_t number) const { return keys_[number]; }

  /// The file anew, as it was.
  void make() {
    std::filesystem::remove(path_);
    keys_.clear();
    map m = map::create(path_, {.max_slots = slots_max, .sync_on_close = false});
    for (std::uint64_t i = 0; i < known; ++i) keys_.push_back(m.insert(checked_value(i)));
  }

  contents contents_of(const map& m) const {
    contents found;
    m.for_each([&](dm::key k, const self_checking& v) {
      expect(v.is_whole(), "a value is torn");
      if (std::find(keys_.begin(), keys_.end(), k) != keys_.end())
        found.old[k.bits()] = v.number;
      else
        found.others.insert(v.number);
    });
    return found;
  }

 private:
  std::filesystem::path path_;
  std::vector<dm::key> keys_;
};

/// What the process that is killed has, and what it told its parent.
struct victim {
  const scene& in;
  map m;
  dm::handle handle;
  std::uint64_t* told;

  void open() { m = map::open(in.path(), {.sync_on_close = false}); }
};

/// Another process that dies in the midst of things: with three handles, with slots put by, and in an update that it had
/// begun. Its update of value 4 to 4004 has happened.
void die_in_the_midst(const scene& in) {
  // Whoever traces us would be stopped for the news of its death.
  sigset_t news;
  ::sigemptyset(&news);
  ::sigaddset(&news, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &news, nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto attached = dm::sharing::attachment::open(in.path(), dm::detail::shared_type_of<self_checking>(), {});
    map m = map::open(in.path());
    for (int i = 0; i < 3; ++i) (void)m.allocate_handle();
    auto on = attached->on();
    self_checking value;
    const auto before = on.read(in.key(4).index(), in.key(4).generation(), &value, sizeof value);
    value = checked_value(4004);
    (void)on.begin_update(in.key(4).index(), *before, attached->arena().attachment() * 8, &value, sizeof value);
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
}

struct operation {
  std::string name;
  std::function<void(victim&)> prepare;
  std::function<void(victim&)> act;
  /// What there is after each part of it, given what there was before.
  std::function<std::vector<contents>(const scene&, const contents&)> then;
  std::uint64_t stride = 17;  ///< between the instructions at which others work beside it, unless all are asked for
  bool changes_five = false;  ///< value 5, which the second process would like to change too
  bool removes_five = false;
  bool grows = false;  ///< there is no room but for who makes the file grow, which two cannot do at once
};

std::vector<contents> unchanged(const scene&, const contents&) { return {}; }
std::vector<contents> one_more(const scene&, contents c) {
  c.others.insert(1'000'000);
  return {c};
}

std::vector<operation> operations() {
  const auto open = [](victim& v) { v.open(); };
  const auto warm = [](victim& v) {
    v.open();
    v.m.erase(v.m.insert(checked_value(1)));
  };
  const auto hold = [](victim& v) {
    v.open();
    v.handle = v.m.allocate_handle();
    *v.told = v.handle.key().bits();
  };
  return {
      {"insert", open, [](victim& v) { v.m.insert(checked_value(1'000'000)); }, one_more},
      {"insert, with slots put by", warm, [](victim& v) { v.m.insert(checked_value(1'000'000)); }, one_more},
      {"insert(handle)", hold, [](victim& v) { v.m.insert(std::move(v.handle), checked_value(1'000'000)); }, one_more},
      {"insert_with_key", warm,
       [](victim& v) { v.m.insert_with_key([](dm::key) noexcept { return checked_value(1'000'000); }); }, one_more},
      {"insert, and the file grows",
       [](victim& v) {
         v.open();
         while (v.m.size() < v.m.slot_count()) v.m.insert(checked_value(2'000'000));
       },
       [](victim& v) { v.m.insert(checked_value(1'000'000)); }, one_more, 499, false, false, true},
      {"allocate_handle", warm,
       [](victim& v) {
         v.handle = v.m.allocate_handle();
         *v.told = v.handle.key().bits();
       },
       unchanged},
      {"release_handle", hold, [](victim& v) { v.m.release_handle(std::move(v.handle)); }, unchanged},
      {"remove", open, [](victim& v) { v.m.remove(v.in.key(5)); },
       [](const scene& in, contents c) {
         c.old.erase(in.key(5).bits());
         return std::vector{c};
       },
       17, false, true},
      {"erase six, which is more than are put by", open,
       [](victim& v) {
         for (std::size_t i = 0; i < 6; ++i) v.m.erase(v.in.key(i));
       },
       [](const scene& in, contents c) {
         std::vector<contents> all;
         for (std::size_t i = 0; i < 6; ++i) {
           c.old.erase(in.key(i).bits());
           all.push_back(c);
         }
         return all;
       },
       17, false, true},
      {"update twice", open,
       [](victim& v) {
         for (int i = 0; i < 2; ++i)
           v.m.update(v.in.key(5), [](self_checking& old) { old = checked_value(old.number + 1000); });
       },
       [](const scene& in, contents c) {
         std::vector<contents> all;
         for (int i = 0; i < 2; ++i) {
           c.old[in.key(5).bits()] += 1000;
           all.push_back(c);
         }
         return all;
       },
       17, true},
      {"get", open,
       [](victim& v) {
         const auto found = v.m.get(v.in.key(5));
         expect(found && found->is_whole(), "a value is not there, or torn");
       },
       unchanged, 3},
      {"get and for_each", open,
       [](victim& v) {
         expect(v.m.get(v.in.key(5)).has_value(), "a value is not there");
         std::uint64_t count = 0;
         v.m.for_each([&](dm::key, const self_checking&) { ++count; });
         expect(count >= known, "a walk missed something");
       },
       unchanged, 2999},
      {"reap",
       [](victim& v) {
         v.open();
         die_in_the_midst(v.in);
       },
       [](victim& v) { expect(v.m.reap() == 2, "not all of the dead were reaped"); }, unchanged, 7993},
      {"open", [](victim& v) { die_in_the_midst(v.in); }, [](victim& v) { v.open(); }, unchanged, 24989},
      {"close",
       [hold](victim& v) {
         hold(v);
         v.m.erase(v.m.insert(checked_value(1)));
       },
       [](victim& v) { v.m.close(); }, unchanged, 4999},
  };
}

struct told_page {
  std::uint64_t* word =
      static_cast<std::uint64_t*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ~told_page() { ::munmap(word, 4096); }
};

/// All of it is somebody's value or vacant, and what is vacant can be had, under keys that nobody knows.
void expect_nothing_lost(const scene& in, map& m, std::uint64_t told) {
  std::size_t live = 0;
  for (std::uint32_t i = 0; i < m.slot_count(); ++i) {
    const dm::slot_state state = m.state(i);
    live += state == dm::slot_state::occupied;
    expect(state == dm::slot_state::occupied || state == dm::slot_state::vacant, "a slot is somebody's who is dead");
  }
  std::size_t room = 0;
  try {
    for (;; ++room) {
      const dm::key k = m.insert(checked_value(7));
      expect(k.bits() != told, "the key of a handle was given out again");
      for (std::size_t i = 0; i < known; ++i) expect(k != in.key(i), "a key was given out again");
    }
  } catch (const dm::error& e) {
    expect(e.code() == dm::errc::full, e.what());
  }
  expect(room + live == slots_max,
         "of " + std::to_string(slots_max) + " slots " + std::to_string(room + live) + " can be had: some are lost");
}

/// One image of a file whose users are all dead.
class shared_judge {
 public:
  shared_judge(const scene& in, const std::filesystem::path& at, std::vector<contents> parts)
      : in_(in), at_(at), parts_(std::move(parts)) {}

  void examine(const image& killed, std::uint64_t told) {
    restore(at_, killed.bytes);
    {
      map m = map::open(at_, {.sync_on_close = false});
      const contents found = in_.contents_of(m);
      while (reached_ < parts_.size() && !(parts_[reached_] == found)) ++reached_;
      expect(reached_ < parts_.size(), "it holds neither what was there before nor what should be there after");
      expect_nothing_lost(in_, m, told);
      m.close();
    }
    map::open(at_, {.verify = true, .sync_on_close = false}).close();
  }
  bool is_finished() const { return reached_ + 1 == parts_.size(); }

 private:
  const scene& in_;
  std::filesystem::path at_;
  std::vector<contents> parts_;
  std::size_t reached_ = 0;
};

/// What there is before `act`, at every part of it, and after.
std::vector<contents> parts_of(const scene& in, const operation& what, const told_page& told) {
  // In a child, as the operation itself will be: it may leave a dead attachment.
  const std::filesystem::path& path = in.path();
  const pid_t child = ::fork();
  if (child == 0) {
    victim v{in, {}, {}, told.word};
    what.prepare(v);
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  map m = map::open_read_only(path);
  const contents before = in.contents_of(m);
  std::vector<contents> parts{before};
  for (contents& after : what.then(in, before)) parts.push_back(std::move(after));
  return parts;
}

struct live_counts {
  std::uint64_t kills = 0;
  std::uint64_t looks = 0;
  std::uint64_t busy = 0;
};

/// A child that stands still after so many instructions of `act`.
class stepped_child {
 public:
  stepped_child(const scene& in, const operation& what, const told_page& told, std::uint64_t instructions) {
    child_ = ::fork();
    if (child_ == 0) {
      try {
        ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
        victim v{in, {}, {}, told.word};
        what.prepare(v);
        ::raise(SIGSTOP);
        what.act(v);
        ::raise(SIGSTOP);
        ::_exit(0);  // as a kill, as far as the map is concerned
      } catch (...) {
        ::_exit(1);
      }
    }
    expect(stop() == SIGSTOP, "the child stopped for something else");
    for (; steps_ < instructions; ++steps_) {
      expect(::ptrace(PTRACE_SINGLESTEP, child_, nullptr, nullptr) == 0, "ptrace");
      const int signal = stop();
      finished_ = signal == SIGSTOP;
      if (finished_) return;
      expect(signal == SIGTRAP, "the child got signal " + std::to_string(signal));
    }
  }
  stepped_child(const stepped_child&) = delete;
  stepped_child& operator=(const stepped_child&) = delete;
  ~stepped_child() { kill(); }

  bool is_finished() const { return finished_; }
  void go_on() {
    if (finished_) return;
    ::ptrace(PTRACE_CONT, child_, nullptr, nullptr);
    expect(stop() == SIGSTOP, "the child did not finish");
  }
  void kill() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(std::exchange(child_, -1), nullptr, 0);
  }

 private:
  int stop() {
    int status = 0;
    expect(::waitpid(child_, &status, 0) == child_, "waitpid");
    if (WIFEXITED(status)) throw std::runtime_error("the child ended with " + std::to_string(WEXITSTATUS(status)));
    if (WIFSIGNALED(status)) throw std::runtime_error("the child died of " + std::to_string(WTERMSIG(status)));
    return WSTOPSIG(status);
  }

  pid_t child_ = -1;
  std::uint64_t steps_ = 0;
  bool finished_ = false;
};

/// While the victim stands still somewhere in the midst of `act`, everything works but to change what it is changing;
/// then it is killed, or goes on, and nothing is lost. Returns false where `act` is over by then.
bool work_beside(scene& in, const operation& what, const told_page& told, std::uint64_t instructions, bool is_killed,
                 live_counts& count) {
  in.make();
  map m = map::open(in.path(), {.sync_on_close = false});
  stepped_child standing(in, what, told, instructions);
  const dm::key five = in.key(5), other = in.key(50);
  std::uint64_t added = 0;
  const auto add = [](self_checking& v) { v = checked_value(v.number + 1); };

  const auto seen = m.get(five);
  expect(seen.has_value() || what.removes_five, "a value cannot be seen");
  expect(!seen || seen->is_whole(), "a value is seen torn");
  switch (m.try_update(five, add)) {
    case dm::try_result::done:
      ++added;
      break;
    case dm::try_result::busy:
      expect(what.changes_five, "a value that nobody changes is busy");
      ++count.busy;
      break;
    case dm::try_result::stale:
      expect(what.removes_five, "a value is gone");
  }
  expect(m.update(other, add), "another value cannot be changed");
  if (!what.grows) {
    const dm::key mine = m.insert(checked_value(3'000'000));
    expect(m.get(mine)->number == 3'000'000, "a new value cannot be seen");
    expect(m.remove(mine)->number == 3'000'000, "a new value cannot be removed");
  }
  std::size_t visited = 0;
  m.for_each([&](dm::key k, const self_checking& v) {
    expect(v.is_whole(), "a value is visited torn");
    visited += k.index() >= 6 && k.index() < known;
  });
  expect(visited == known - 6, "a walk missed something");
  expect(m.owners().size() >= 1, "no owners");
  ++count.looks;

  if (!is_killed) standing.go_on();
  standing.kill();
  ++count.kills;
  const bool more = !standing.is_finished();

  // Who meets the mark of the dead goes on without being told.
  if (m.update(five, add))
    ++added;
  else
    expect(what.removes_five, "a value is gone");
  m.reap();
  contents after = in.contents_of(m);
  if (const auto it = after.old.find(five.bits()); it != after.old.end()) {
    const std::uint64_t victims = it->second - 5 - added;
    expect(what.changes_five ? victims % 1000 == 0 && victims <= 2000 && (is_killed || victims == 2000) : victims == 0,
           "an update was lost: " + std::to_string(it->second));
  } else {
    expect(what.removes_five, "a value was lost");
  }
  expect(after.old.at(other.bits()) == 51, "an update of another value was lost");
  m.close();
  m = map::open(in.path(), {.verify = true, .sync_on_close = false});
  expect_nothing_lost(in, m, 0);
  return more;
}

}  // namespace

TEST_CASE("a shared file that was killed at any instruction is whole, and no slot of it is lost") {
  if (sanitized && !exhaustive()) return;  // too many instructions, and others than users run
  memory_directory directory;
  const told_page told;
  std::printf("%-45s %12s %8s\n", "shared_map", "instructions", "images");
  std::uint64_t instructions = 0, images = 0;
  for (const operation& what : operations()) {
    INFO(what.name);
    *told.word = 0;
    scene in(directory / "m");
    std::vector<contents> parts = parts_of(in, what, told);
    in.make();
    victim v{in, {}, {}, told.word};
    stepped steps = single_step(
        in.path(), [&] { what.prepare(v); }, [&] { what.act(v); });
    shared_judge judging(in, directory / "judged", std::move(parts));
    for (const image& killed : steps.images)
      REQUIRE_NOTHROW(judging.examine(killed, &killed == &steps.images.back() ? *told.word : 0));
    REQUIRE(judging.is_finished());
    std::printf("%-45s %12llu %8zu\n", what.name.c_str(), static_cast<unsigned long long>(steps.instructions),
                steps.images.size());
    std::fflush(stdout);
    instructions += steps.instructions;
    images += steps.images.size();
  }
  std::printf("%-45s %12llu %8llu\n", "all", static_cast<unsigned long long>(instructions),
              static_cast<unsigned long long>(images));
}

TEST_CASE("beside a process that stands still, and then dies, at any instruction others go on working") {
  if (sanitized && !exhaustive()) return;
  memory_directory directory;
  const told_page told;
  ::alarm(1500);  // were somebody to wait for ever, this would end it
  std::printf("%-45s %12s %8s %8s\n", "shared_map, beside it", "instructions", "kills", "busy");
  for (const operation& what : operations()) {
    INFO(what.name);
    // Each time from the start: some of them, unless all are asked for (and not all of thousands even then).
    const std::uint64_t stride = exhaustive() ? std::max<std::uint64_t>(1, what.stride / 17) : what.stride;
    scene in(directory / "m");
    live_counts count;
    std::uint64_t n = 0;
    for (bool more = true; more; n += stride) {
      INFO("after " << n << " instructions");
      REQUIRE_NOTHROW(more = work_beside(in, what, told, n, true, count));
      if (n / stride % 3 == 0) REQUIRE_NOTHROW(work_beside(in, what, told, n, false, count));
    }
    std::printf("%-45s %12llu %8llu %8llu\n", what.name.c_str(), static_cast<unsigned long long>(n - stride),
                static_cast<unsigned long long>(count.kills), static_cast<unsigned long long>(count.busy));
    std::fflush(stdout);
  }
  ::alarm(0);
}
