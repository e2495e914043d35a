// dm-inspect as people run it: by a shell, with what it prints, and on which stream, and what it exits with.
#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include "catch.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

namespace inspect_tool {

struct outcome {
  int code = -1;  // of the exit, or 128 + the signal that ended the shell
  std::string out;
  std::string errors;
};

/// The tool's path, or null with a warning where the build did not say.
inline const char* path() {
  const char* found = std::getenv("DM_INSPECT");
  if (found == nullptr) WARN("DM_INSPECT is not set: the tool is not tested");
  return found;
}

inline outcome run_shell(const temporary_directory& directory, const std::string& command) {
  const std::string redirected =
      "{ " + command + "\n} > '" + (directory / "out").string() + "' 2> '" + (directory / "err").string() + "'";
  const int status = std::system(redirected.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(directory / "out"),
          read_file(directory / "err")};
}

/// The command line of the tool, with nothing of what the tests' own terminal can.
inline std::string command_line(const std::string& arguments, const std::string& variables = "LC_ALL=C") {
  return "env -u NO_COLOR -u COLORTERM -u LANG -u LC_CTYPE TERM=dumb " + variables + " '" + std::getenv("DM_INSPECT") +
         "' " + arguments;
}

inline outcome run(const temporary_directory& directory, const std::string& arguments,
                   const std::string& variables = "LC_ALL=C") {
  return run_shell(directory, command_line(arguments, variables));
}

}  // namespace inspect_tool
