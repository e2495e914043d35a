#include "single_step.hpp"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <stdexcept>
#include <string>

namespace killed {
namespace {

/// Waits until the child stops; returns the signal it stopped for.
int wait_for_stop(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) throw std::runtime_error("waitpid");
  if (WIFEXITED(status)) throw std::runtime_error("the child ended early, with " + std::to_string(WEXITSTATUS(status)));
  if (WIFSIGNALED(status)) throw std::runtime_error("the child was killed by " + std::to_string(WTERMSIG(status)));
  return WSTOPSIG(status);
}

/// Kills and reaps a child, however the function that made it ends.
struct killed_on_exit {
  pid_t child;
  ~killed_on_exit() {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
};

}  // namespace

stepped single_step(const std::filesystem::path& path, const std::function<void()>& prepare,
                    const std::function<void()>& act, const std::function<void()>& look) {
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("fork");
  if (child == 0) {
    try {
      ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      prepare();
      ::raise(SIGSTOP);
      act();
      ::raise(SIGSTOP);
    } catch (...) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  const killed_on_exit guard{child};
  if (wait_for_stop(child) != SIGSTOP) throw std::runtime_error("the child stopped for something else");

  stepped result;
  std::optional<file_view> view;
  if (std::filesystem::exists(path)) {
    view.emplace(path);
    result.images.push_back({view->bytes()});
  }
  for (;;) {
    if (::ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0) throw std::runtime_error("ptrace");
    const int signal = wait_for_stop(child);
    if (signal == SIGSTOP) break;
    if (signal != SIGTRAP) throw std::runtime_error("the child got signal " + std::to_string(signal));
    ++result.instructions;
    if (look) look();
    if (!view) {
      if (::access(path.c_str(), F_OK) == 0) view.emplace(path);
      if (!view) continue;
    }
    if (result.images.empty() || !view->is(result.images.back().bytes)) result.images.push_back({view->bytes()});
  }
  return result;
}

}  // namespace killed
