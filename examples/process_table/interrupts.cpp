#include "interrupts.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

namespace process_table {

interrupts::interrupts() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction now;
    // What is ignored is read from the descriptor all the same once it is blocked.
    if (::sigaction(number, nullptr, &now) == 0 && now.sa_handler != SIG_IGN) ::sigaddset(&set, number);
  }
  // Blocked, and read from a descriptor: so none comes unseen between a look and the wait after it.
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_ = ::signalfd(-1, &set, SFD_CLOEXEC);
  if (signals_ < 0) throw std::system_error(errno, std::generic_category(), "signalfd");
}

interrupts::~interrupts() { ::close(signals_); }

interrupts::woken interrupts::wait(std::chrono::nanoseconds time, int input) const {
  const auto end = std::chrono::steady_clock::now() + time;
  for (;;) {
    const auto left = std::max(end - std::chrono::steady_clock::now(), std::chrono::steady_clock::duration::zero());
    const timespec timeout{std::chrono::duration_cast<std::chrono::seconds>(left).count(),
                           (left % std::chrono::seconds(1)).count()};
    std::array<pollfd, 2> watched{pollfd{signals_, POLLIN, 0}, pollfd{input, POLLIN, 0}};
    const int ready = ::ppoll(watched.data(), watched.size(), &timeout, nullptr);
    if (ready == 0) return woken::in_time;
    if (ready < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "ppoll");
    if (ready < 0) continue;
    return watched[0].revents != 0 ? woken::to_stop : woken::by_input;
  }
}

}  // namespace process_table
