#include "shared_processes.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fstream>
#include <new>
#include <system_error>
#include <thread>

namespace bench {
namespace {

volatile std::sig_atomic_t was_interrupted = 0;

double seconds_of(clockid_t clock) {
  timespec at;
  clock_gettime(clock, &at);
  return static_cast<double>(at.tv_sec) + 1e-9 * static_cast<double>(at.tv_nsec);
}

/// What all processors of the machine have worked so far, or were kept from by its host.
double busy_seconds() {
  std::ifstream stat("/proc/stat");
  std::string cpu;
  double user = 0, nice = 0, system = 0, idle = 0, waiting = 0, irq = 0, softirq = 0, steal = 0;
  stat >> cpu >> user >> nice >> system >> idle >> waiting >> irq >> softirq >> steal;
  return (user + nice + system + irq + softirq + steal) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

/// Child processes, all of which are gone when this is.
class children {
 public:
  children() = default;
  children(const children&) = delete;
  children& operator=(const children&) = delete;
  ~children() {
    for (const pid_t child : running_) ::kill(child, SIGKILL);
    for (const pid_t child : running_) ::waitpid(child, nullptr, 0);
  }

  void start(const std::function<void()>& what, char* error, std::size_t error_bytes) {
    const pid_t parent = ::getpid();
    const pid_t child = ::fork();
    if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
    if (child > 0) {
      running_.push_back(child);
      return;
    }
    (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    std::signal(SIGINT, SIG_IGN);  // the parent sees to it
    std::signal(SIGTERM, SIG_DFL);
    try {
      what();
      ::_exit(0);
    } catch (const std::exception& e) {
      std::strncpy(error, e.what(), error_bytes - 1);
    }
    ::_exit(1);
  }
  /// How many have not ended yet.
  std::size_t left() {
    std::erase_if(running_, [](pid_t child) { return ::waitpid(child, nullptr, WNOHANG) == child; });
    return running_.size();
  }

 private:
  std::vector<pid_t> running_;
};

/// `still_waiting()` is asked every now and then.
template <class F>
void wait_while(F still_waiting) {
  while (still_waiting()) {
    if (was_interrupted != 0) throw interrupted();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void sleep(double seconds) {
  const double until = seconds_of(CLOCK_MONOTONIC) + seconds;
  wait_while([&] { return seconds_of(CLOCK_MONOTONIC) < until; });
}

}  // namespace

std::shared_ptr<void> shared_memory(std::size_t size_bytes) {
  void* const memory = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  return {memory, [size_bytes](void* p) { ::munmap(p, size_bytes); }};
}

void pace::wait_for_the_others() {
  mine_.reached.store(warming_up);
  // There may be more processes than processors.
  while (all_.now.load() == preparing) ::sched_yield();
}
double pace::clock_seconds() { return seconds_of(CLOCK_MONOTONIC); }
double pace::processor_seconds() { return seconds_of(CLOCK_PROCESS_CPUTIME_ID); }

counts run_processes(const std::vector<work>& all, const duration& how_long) {
  const auto memory = shared_memory(sizeof(pace::board));
  auto& board = *new (memory.get()) pace::board;
  const std::span places(board.places, all.size());

  children team;
  for (std::size_t i = 0; i < all.size(); ++i)
    team.start(
        [&, i] {
          pace mine(board, i);
          all[i](mine);
        },
        places[i].error, sizeof places[i].error);
  const auto require_success = [&] {
    for (const pace::place& place : places)
      if (place.error[0] != '\0') throw std::runtime_error(place.error);
  };
  const auto wait_until_all_are = [&](pace::phase phase) {
    const auto is_there = [&](const pace::place& place) { return place.reached.load() >= phase; };
    wait_while([&] { return team.left() == all.size() && !std::ranges::all_of(places, is_there); });
    if (team.left() == all.size()) return;
    require_success();
    throw std::runtime_error("a process has ended early");
  };

  wait_until_all_are(pace::warming_up);
  board.now = pace::warming_up;
  sleep(how_long.warm_up);
  board.now = pace::counting;
  // Who is kept waiting for a lock notices late.
  wait_until_all_are(pace::counting);
  const double busy_from = busy_seconds(), from = seconds_of(CLOCK_MONOTONIC);
  sleep(how_long.measured);
  board.now = pace::over;
  const double busy = busy_seconds() - busy_from, took = seconds_of(CLOCK_MONOTONIC) - from;
  wait_while([&] { return team.left() != 0; });
  require_success();

  counts counted;
  double ours = 0;
  for (const pace::place& place : places) {
    if (place.counted.seconds == 0) throw std::runtime_error("a process has ended early");
    counted.all.push_back(place.counted);
    ours += place.counted.processor_seconds / place.counted.seconds;
  }
  counted.others = std::max(0., busy / took - ours);
  return counted;
}

void wait_for_quiet(double others, double seconds) {
  for (double waited = 0; waited < seconds; waited += 0.2) {
    const double from = busy_seconds();
    sleep(0.2);
    if (busy_seconds() - from < others * 0.2) return;
  }
}

void run_process(const std::function<void()>& what) {
  struct result {
    char error[256];
    bool done;
  };
  const shared_array<result> shared(1);
  children child;
  child.start(
      [&] {
        what();
        shared[0].done = true;
      },
      shared[0].error, sizeof shared[0].error);
  wait_while([&] { return child.left() != 0; });
  if (shared[0].error[0] != '\0') throw std::runtime_error(shared[0].error);
  if (!shared[0].done) throw std::runtime_error("a process has ended early");
}

void handle_interruptions() {
  struct sigaction action {};
  action.sa_handler = [](int) { was_interrupted = 1; };
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
}

}  // namespace bench
