// dm-inspect as people run it: a process of its own, on real files.
#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include "catch.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

struct tool_outcome {
  int code = -1;  // of the exit, or 128 + the signal that ended the shell
  std::string out;
  std::string errors;
};

/// Whether the build said where the tool is; warns where it did not.
inline bool has_tool() {
  const bool has = std::getenv("DM_INSPECT") != nullptr;
  if (!has) WARN("DM_INSPECT is not set: the tool is not tested");
  return has;
}

inline tool_outcome run_in_shell(const temporary_directory& directory, const std::string& command) {
  const std::string redirected =
      "{ " + command + "; } > '" + (directory / "out").string() + "' 2> '" + (directory / "err").string() + "'";
  const int status = std::system(redirected.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(directory / "out"),
          read_file(directory / "err")};
}

inline std::string quoted(const std::filesystem::path& path) { return " '" + path.string() + "' "; }

inline tool_outcome run_dm_inspect(const temporary_directory& directory, const std::string& arguments) {
  return run_in_shell(directory, std::string("'") + std::getenv("DM_INSPECT") + "' " + arguments);
}
