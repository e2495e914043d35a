// Child processes of a test: that say when they are ready, are killed, or are killed at each system call in turn.
#pragma once

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

/// Runs work(say) in a child. Killed, at the latest, when this goes.
class child_process {
 public:
  /// What the child says to the test: one byte at a time.
  class mouth {
   public:
    explicit mouth(int to) noexcept : to_(to) {}
    void operator()(char word) const {
      if (::write(to_, &word, 1) != 1) ::_exit(3);
    }

   private:
    int to_;
  };

  template <class F>
  explicit child_process(F work) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(ends[0]);
      const mouth say(ends[1]);
      try {
        work(say);
      } catch (const std::exception& e) {
        const std::string text = std::string("in a child: ") + e.what() + "\n";
        (void)!::write(2, text.data(), text.size());
        say('!');
        ::_exit(1);
      }
      ::_exit(0);
    }
    ::close(ends[1]);
    from_ = ends[0];
  }
  child_process(child_process&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), from_(std::exchange(other.from_, -1)) {}
  child_process& operator=(child_process&&) = delete;
  ~child_process() {
    kill();
    if (from_ >= 0) ::close(from_);
  }

  pid_t pid() const noexcept { return pid_; }

  /// The next byte it says; 0 where it ended without.
  char hear() const {
    char word = 0;
    ssize_t got = 0;
    while ((got = ::read(from_, &word, 1)) < 0 && errno == EINTR) {
    }
    return got == 1 ? word : '\0';
  }

  /// kill -9, and returns when it is gone.
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
  }
  /// Its exit code, or minus the signal it died of.
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  pid_t pid_ = -1;
  int from_ = -1;
};

/// For a child that is to be killed.
[[noreturn]] inline void stay() {
  for (;;) ::pause();
}

enum class traced { killed, finished, unavailable };

/// Runs work() in a child and kills it at its n-th stop, of which there are two for each system call: before it, and after.
template <class F>
traced killed_at_stop(int n, F work) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(99);
    ::raise(SIGSTOP);
    try {
      work();
    } catch (const std::exception& e) {
      (void)!::write(2, e.what(), std::strlen(e.what()));
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status)) return traced::unavailable;
  for (int stop = 0; stop < n; ++stop) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
      if (WEXITSTATUS(status) != 0) throw std::runtime_error("the traced child failed");
      return traced::finished;
    }
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return traced::killed;
}
