#include "live_screen.hpp"

#include <fcntl.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <system_error>
#include <utility>

namespace tool {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// The other screen, without a cursor and without wrapping of lines; and back.
constexpr char enter_sequence[] = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
constexpr char leave_sequence[] = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

// What ends a program that does not ask for it, and what only stops it. Those of the first row come from outside and are
// seen to in `wait`; those of the second from within, and leave time for nothing.
constexpr std::array asked_signals{SIGINT,   SIGTERM, SIGHUP,  SIGQUIT, SIGTSTP,
                                   SIGWINCH, SIGUSR1, SIGUSR2, SIGALRM, SIGXCPU};
constexpr std::array fatal_signals{SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};

// For signal handlers, which can be given nothing.
int keyboard = -1;  // the terminal, to read from; maybe standard input itself
bool opened_keyboard = false;
termios saved_settings;
volatile std::sig_atomic_t is_entered = 0;
int pipe_ends[2] = {-1, -1};
std::array<struct sigaction, asked_signals.size()> asked_before;
std::array<struct sigaction, fatal_signals.size()> fatal_before;

bool write_all(int to, std::string_view bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t written = ::write(to, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {  // whoever gave us the terminal set it so
      pollfd ready{to, POLLOUT, 0};
      ::poll(&ready, 1, -1);
      continue;
    }
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

/// Only what may be called in a signal handler.
void restore_terminal() noexcept {
  if (is_entered == 0) return;
  is_entered = 0;
  const int error = errno;
  write_all(STDOUT_FILENO, {leave_sequence, sizeof leave_sequence - 1});
  if (keyboard >= 0) ::tcsetattr(keyboard, TCSADRAIN, &saved_settings);
  errno = error;
}

extern "C" void on_asked_signal(int number) {
  const int error = errno;
  const char byte = static_cast<char>(number);
  // A full pipe means that there is enough to see to already.
  static_cast<void>(!::write(pipe_ends[1], &byte, 1));
  errno = error;
}

extern "C" void on_fatal_signal(int number) {
  restore_terminal();
  // SA_RESETHAND: now it ends the program.
  ::raise(number);
}

void end_by(int number) {
  std::signal(number, SIG_DFL);
  ::raise(number);
}

}  // namespace

live_screen::live_screen() {
  // Keys come from the terminal, also where standard input is something else.
  keyboard = ::isatty(STDIN_FILENO) != 0 ? STDIN_FILENO : ::open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY);
  opened_keyboard = keyboard >= 0 && keyboard != STDIN_FILENO;
  if (::pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK) != 0)
    throw std::system_error(errno, std::generic_category(), "making a pipe");
  // Before anything is changed: from then on there is no moment at which a signal leaves the terminal as it is not to be.
  struct sigaction asked {};
  asked.sa_handler = on_asked_signal;
  asked.sa_flags = SA_RESTART;
  for (std::size_t i = 0; i < asked_signals.size(); ++i) {
    ::sigaction(asked_signals[i], nullptr, &asked_before[i]);
    // What is ignored, as in a script's background, stays so.
    if (asked_before[i].sa_handler != SIG_IGN) ::sigaction(asked_signals[i], &asked, nullptr);
  }
  struct sigaction fatal {};
  fatal.sa_handler = on_fatal_signal;
  fatal.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
  for (std::size_t i = 0; i < fatal_signals.size(); ++i) ::sigaction(fatal_signals[i], &fatal, &fatal_before[i]);
  enter();
}

live_screen::~live_screen() {
  leave();
  for (std::size_t i = 0; i < asked_signals.size(); ++i) ::sigaction(asked_signals[i], &asked_before[i], nullptr);
  for (std::size_t i = 0; i < fatal_signals.size(); ++i) ::sigaction(fatal_signals[i], &fatal_before[i], nullptr);
  // What came while we were leaving and has not been seen to.
  for (char number = 0; ::read(pipe_ends[0], &number, 1) == 1;)
    if (number != SIGWINCH && number != SIGTSTP) ::raise(number);
  for (int& end : pipe_ends) ::close(std::exchange(end, -1));
  if (opened_keyboard) ::close(keyboard);
  keyboard = -1;
}

void live_screen::enter() {
  if (keyboard >= 0 && ::tcgetattr(keyboard, &saved_settings) == 0) {
    is_entered = 1;
    termios live = saved_settings;
    live.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);  // ^C and ^Z stay signals
    live.c_cc[VMIN] = 0;
    live.c_cc[VTIME] = 0;
    ::tcsetattr(keyboard, TCSADRAIN, &live);
  } else {
    if (opened_keyboard) ::close(keyboard);
    opened_keyboard = false;
    keyboard = -1;
    is_entered = 1;
  }
  write_all(STDOUT_FILENO, {enter_sequence, sizeof enter_sequence - 1});
}

void live_screen::leave() noexcept { restore_terminal(); }

live_event live_screen::stop_and_go_on() {
  leave();
  // The default, for the moment: this process stops here, and goes on here.
  struct sigaction usual {};
  struct sigaction ours {};
  usual.sa_handler = SIG_DFL;
  ::sigaction(SIGTSTP, &usual, &ours);
  ::raise(SIGTSTP);
  ::sigaction(SIGTSTP, &ours, nullptr);
  enter();
  return live_event::redraw;
}

live_event live_screen::wait(steady_clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    if (left.count() <= 0) return live_event::time_passed;
    std::array<pollfd, 2> sources{{{pipe_ends[0], POLLIN, 0}, {keyboard, POLLIN, 0}}};
    constexpr milliseconds::rep poll_max = 60'000;
    const int ready = ::poll(sources.data(), sources.size(), static_cast<int>(std::min(left.count(), poll_max)));
    if (ready <= 0) continue;
    char byte = 0;
    while (::read(pipe_ends[0], &byte, 1) == 1) {
      switch (byte) {
        case SIGINT:
          return live_event::interrupted;
        case SIGTSTP:
          return stop_and_go_on();
        case SIGWINCH:
          return live_event::redraw;
        default:
          leave();
          end_by(byte);
      }
    }
    if (sources[1].revents == 0) continue;
    const ssize_t got = ::read(keyboard, &byte, 1);
    if (got == 1 && (byte == 'q' || byte == 'Q')) return live_event::quit_key;
    if (got == 1 && byte == '\f') return live_event::redraw;  // ^L, as everywhere
    if (got == 1) continue;
    // Polling says that there is something and there is nothing: the terminal is gone.
    if (got == 0 || (errno != EINTR && errno != EAGAIN)) return live_event::gone;
  }
}

bool live_screen::show(std::string_view lines) {
  std::string frame = "\x1b[H";
  bool is_first = true;
  while (!lines.empty()) {
    const std::size_t end = lines.find('\n');
    // Not behind the last line: that would scroll.
    frame += is_first ? "" : "\r\n";
    is_first = false;
    frame += lines.substr(0, end);
    frame += "\x1b[0m\x1b[K";
    lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 1);
  }
  frame += "\x1b[J";
  return write_all(STDOUT_FILENO, frame);
}

}  // namespace tool
