// A program of ours that runs beside a test, which hears what it says and may kill it.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"

/// A program, with its standard output and errors to be read. Killed, at the latest, when this goes.
class running_program {
 public:
  running_program(const char* path, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), path);
    std::vector<char*> pointers;
    for (std::string& one : arguments) pointers.push_back(one.data());
    pointers.push_back(nullptr);
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], 1);
      ::dup2(ends[1], 2);
      ::execv(pointers.front(), pointers.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    said_ = ::fdopen(ends[0], "r");
  }
  running_program(const running_program&) = delete;
  running_program& operator=(const running_program&) = delete;
  ~running_program() {
    end(SIGKILL);
    std::fclose(said_);
  }

  pid_t pid() const { return pid_; }
  /// The next line; empty at the end.
  std::string line() {
    std::string text;
    for (int c; (c = std::fgetc(said_)) != EOF && c != '\n';) text += static_cast<char>(c);
    return text;
  }
  /// Waits for its end. The exit code, or minus the signal; and what it has said since.
  std::pair<int, std::string> finish() {
    std::string text;
    for (int c; (c = std::fgetc(said_)) != EOF;) text += static_cast<char>(c);
    return {end(0), text};
  }
  int end(int signal) {
    if (pid_ <= 0) return 0;
    if (signal != 0) ::kill(pid_, signal);
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  pid_t pid_ = -1;
  std::FILE* said_ = nullptr;
};
