// dm-inspect on a terminal: a pseudo-terminal of its own, whose settings and all that was written to it can be looked at.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "inspect_tool.hpp"

namespace inspect_tool {

/// Whether this machine gives out terminals; warns where it does not, as in containers without /dev/pts.
inline bool has_terminals() {
  int master = -1, slave = -1;
  if (::openpty(&master, &slave, nullptr, nullptr, nullptr) != 0) {
    WARN("unavailable: terminals (is /dev/pts mounted?): what is drawn on one is not tested");
    return false;
  }
  ::close(slave);
  ::close(master);
  return true;
}

/// The tool on a terminal of its own.
class on_terminal {
 public:
  explicit on_terminal(const std::vector<std::string>& arguments, unsigned short columns = 100,
                       unsigned short rows = 30, const char* kind = "xterm-256color", const char* locale = "C.UTF-8") {
    winsize size{rows, columns, 0, 0};
    pid_ = ::forkpty(&master_, nullptr, nullptr, &size);
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      // What the tests' own starter has it ignore, as nohup does, is not to be seen here.
      for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGPIPE}) ::signal(number, SIG_DFL);
      ::setenv("TERM", kind, 1);
      ::setenv("LC_ALL", locale, 1);
      std::vector<char*> words{const_cast<char*>(path())};
      for (const std::string& each : arguments) words.push_back(const_cast<char*>(each.c_str()));
      words.push_back(nullptr);
      // The terminal's own settings, to be found again.
      ::execv(words[0], words.data());
      ::_exit(99);
    }
    // The other side stays open here too, so that it can be asked for its settings when the tool is gone.
    slave_ = ::open(::ptsname(master_), O_RDWR | O_NOCTTY | O_CLOEXEC);
    REQUIRE(slave_ >= 0);
  }
  on_terminal(const on_terminal&) = delete;
  on_terminal& operator=(const on_terminal&) = delete;
  ~on_terminal() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    hang_up();
    ::close(slave_);
  }

  pid_t pid() const { return pid_; }
  const std::string& seen() const { return seen_; }
  termios settings() const {
    termios found{};
    REQUIRE(::tcgetattr(slave_, &found) == 0);
    return found;
  }
  void type(const std::string& keys) const {
    REQUIRE(::write(master_, keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
  }
  void hang_up() {
    if (master_ >= 0) ::close(master_);
    master_ = -1;
  }
  /// Reads until `text` has been seen so many times; false where it is not within a minute.
  bool see(const std::string& text, int times = 1) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    for (;;) {
      int count = 0;
      for (std::size_t at = seen_.find(text); at != std::string::npos; at = seen_.find(text, at + 1)) ++count;
      if (count >= times) return true;
      if (std::chrono::steady_clock::now() > give_up || !read_some(30'000)) return false;
    }
  }
  /// As waitpid has it, once the tool is gone and all that it wrote has been read.
  int status() {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    int status = 0;
    // Read meanwhile, or a tool that waits for that would wait for ever.
    while (::waitpid(pid_, &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > give_up) ::kill(pid_, SIGKILL);
      if (!read_some(20)) ::usleep(1000);
    }
    pid_ = -1;
    while (read_some(0)) {
    }
    return status;
  }

 private:
  bool read_some(int timeout_ms) {
    pollfd ready{master_, POLLIN, 0};
    if (master_ < 0 || ::poll(&ready, 1, timeout_ms) <= 0) return false;
    char bytes[4096];
    const ssize_t got = ::read(master_, bytes, sizeof bytes);
    if (got <= 0) return false;
    seen_.append(bytes, static_cast<std::size_t>(got));
    return true;
  }

  pid_t pid_ = -1;
  int master_ = -1;
  int slave_ = -1;
  std::string seen_;
};

}  // namespace inspect_tool
