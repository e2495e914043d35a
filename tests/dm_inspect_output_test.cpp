// What dm-inspect prints, letter by letter: tests/dm_inspect_output has commands and their output, on the golden files.
//
// A line that begins with "$ " is a command, what follows up to the next its output, both streams in one, and its last line
// the exit code. With REWRITE_OUTPUT=1 in the environment the files are written anew: look at the difference.
#include <algorithm>
#include <filesystem>
#include <sstream>
#include <vector>

#include "inspect_tool.hpp"

namespace {

struct exchange {
  std::string command;
  std::string output;
};

std::vector<exchange> read_exchanges(const std::filesystem::path& path) {
  std::istringstream lines(read_file(path));
  std::vector<exchange> found;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("$ "))
      found.push_back({line.substr(2), ""});
    else if (!found.empty())
      found.back().output += line + "\n";
  }
  return found;
}

std::string output_of(const temporary_directory& directory, const std::filesystem::path& files,
                      const std::string& command) {
  const auto tool = std::filesystem::path(inspect_tool::path());
  const auto result = inspect_tool::run_shell(
      directory, "cd '" + files.string() + "' && export PATH='" + tool.parent_path().string() +
                     "':\"$PATH\" LC_ALL=C TERM=dumb && unset NO_COLOR COLORTERM LANG LC_CTYPE && { " + command +
                     "; } 2>&1");
  return result.out + "[exit " + std::to_string(result.code) + "]\n";
}

}  // namespace

TEST_CASE("dm-inspect prints what it printed before, and leaves the files as they are") {
  const char* const root = std::getenv("SOURCE_ROOT");
  if (inspect_tool::path() == nullptr || root == nullptr) {
    WARN("SOURCE_ROOT and DM_INSPECT are not set");
    return;
  }
  const std::filesystem::path tests = std::filesystem::path(root) / "tests";
  // Copies: what a fault in the tool might do to them is not to be done to the golden files.
  temporary_directory copies;
  const std::filesystem::path files = copies / "golden";
  std::filesystem::copy(tests / "golden", files, std::filesystem::copy_options::recursive);
  std::vector<std::pair<std::filesystem::path, std::string>> before;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(files))
    if (entry.path().extension() == ".arena") before.emplace_back(entry.path(), read_file(entry.path()));
  REQUIRE(before.size() > 10);

  const bool rewrite = std::getenv("REWRITE_OUTPUT") != nullptr;
  temporary_directory directory;
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(tests / "dm_inspect_output")) {
    INFO(entry.path());
    std::string whole;
    for (const exchange& each : read_exchanges(entry.path())) {
      ++count;
      INFO(each.command);
      const std::string output = output_of(directory, files, each.command);
      whole += "$ " + each.command + "\n" + output;
      if (!rewrite) CHECK(output == each.output);
    }
    if (rewrite) write_file(entry.path(), whole);
  }
  CHECK(count > 10);
  for (const auto& [path, bytes] : before) {
    INFO(path);
    CHECK(read_file(path) == bytes);
  }
}
