// The tool as people run it: exit codes, what goes to which stream, JSON that parses, files that stay as they are.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/describe.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "catch.hpp"
#include "deferred_map/mapped_map.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

namespace dm_inspect_types {

enum class colour : std::uint8_t { red = 1, green = 2 };
BOOST_DESCRIBE_ENUM(colour, red, green)

struct record {
  dm::key next;
  std::uint64_t big;
  double real;
  float third;
  colour tint;
  char name[11];
  std::int64_t list[2];
};
BOOST_DESCRIBE_STRUCT(record, (), (next, big, real, third, tint, name, list))

}  // namespace dm_inspect_types

namespace {

using dm_inspect_types::colour;
using dm_inspect_types::record;
using record_map = dm::mapped_map<record>;

struct outcome {
  int code = -1;  // of the exit, or 128 + the signal that ended the shell
  std::string out;
  std::string errors;
};

/// The tool's path, or null with a warning where the build did not say.
const char* tool_path() {
  const char* path = std::getenv("DM_INSPECT");
  if (path == nullptr) WARN("DM_INSPECT is not set: the tool is not tested");
  return path;
}

outcome run_shell(const temporary_directory& directory, const std::string& command) {
  const std::string redirected =
      "{ " + command + "; } > '" + (directory / "out").string() + "' 2> '" + (directory / "err").string() + "'";
  const int status = std::system(redirected.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(directory / "out"),
          read_file(directory / "err")};
}

outcome run_tool(const temporary_directory& directory, const std::string& arguments) {
  return run_shell(directory, std::string("'") + std::getenv("DM_INSPECT") + "' " + arguments);
}

record numbered(std::uint64_t n) {
  record made{};
  made.big = ~std::uint64_t{0} - n;
  made.real = 0.5 * static_cast<double>(n);
  made.third = 0.1f;
  made.tint = colour::green;
  std::strcpy(made.name, "abc");
  made.list[1] = std::numeric_limits<std::int64_t>::min();
  return made;
}

std::filesystem::path make_records(const temporary_directory& directory) {
  const auto path = directory / "test.arena";
  record_map m = record_map::create(path, {.max_slots = 100'000});
  record odd = numbered(0);
  odd.real = std::numeric_limits<double>::quiet_NaN();
  odd.tint = static_cast<colour>(9);
  std::strcpy(odd.name, "M\xfcller\\");
  const dm::key first = m.insert(odd);
  record second = numbered(1);
  second.next = first;
  second.real = -std::numeric_limits<double>::infinity();
  std::strcpy(second.name, "M\xc3\xbcller\\\x1b");
  m.insert(second);
  for (std::uint64_t i = 2; i < 3'000; ++i) m.insert(numbered(i));
  m.erase(dm::key::from_parts(5, 1));
  m.close();
  return path;
}

}  // namespace

TEST_CASE("every verb works on a sound file, as a table and as JSON, and leaves it as it is") {
  if (tool_path() == nullptr) return;
  temporary_directory directory;
  const auto path = make_records(directory);
  const std::string before = read_file(path);
  for (const std::string verb : {"info", "slots", "check", "schema", "get"}) {
    const std::string arguments = verb + " '" + path.string() + "'" + (verb == "get" ? " 3:1" : "");
    INFO(arguments);
    const outcome table = run_tool(directory, arguments);
    CHECK(table.code == 0);
    CHECK(!table.out.empty());
    CHECK(table.errors.empty());
    const outcome as_json = run_tool(directory, arguments + " --format json");
    CHECK(as_json.code == 0);
    const auto document = nlohmann::json::parse(as_json.out, nullptr, false);
    REQUIRE(document.is_object());
    CHECK(document["schema_version"] == 1);
    CHECK(document["verb"] == verb);
    CHECK(document["file"] == path.string());
    CHECK(read_file(path) == before);
  }
}

TEST_CASE("values are real JSON") {
  if (tool_path() == nullptr) return;
  temporary_directory directory;
  const auto path = make_records(directory);
  const auto document =
      nlohmann::json::parse(run_tool(directory, "slots --range 0:5 --format json '" + path.string() + "'").out);
  REQUIRE(document["slots"].size() == 6);
  const auto& odd = document["slots"][0]["value"];
  CHECK(odd["next"].is_null());
  CHECK(odd["big"].get<std::uint64_t>() == ~std::uint64_t{0});
  CHECK(odd["real"] == "NaN");
  CHECK(odd["third"].dump() == "0.1");
  CHECK(odd["tint"] == 9);
  CHECK(odd["name"] == "M\\xfcller\\\\");
  CHECK(odd["list"][1].get<std::int64_t>() == std::numeric_limits<std::int64_t>::min());
  const auto& second = document["slots"][1]["value"];
  CHECK(second["next"] == "0:1");
  CHECK(second["real"] == "-Infinity");
  CHECK(second["tint"] == "green");
  CHECK(second["name"] == "M\xc3\xbcller\\\x1b");
  CHECK(document["slots"][1]["key"] == "1:1");
  CHECK(document["slots"][5]["state"] == "vacant");
  CHECK(document["slots"][5]["generation"] == 2);
  CHECK_FALSE(document["slots"][5].contains("value"));
}

TEST_CASE("slots can be chosen, and keys are asked for one by one") {
  if (tool_path() == nullptr) return;
  temporary_directory directory;
  const std::string path = " '" + make_records(directory).string() + "' ";
  const auto shown = [&](const std::string& options) {
    return nlohmann::json::parse(run_tool(directory, "slots --format json" + path + options).out)["shown"].get<int>();
  };
  CHECK(shown("") == 3'000);
  CHECK(shown("--state vacant") == 1);
  CHECK(run_tool(directory, "slots --state vacant" + path).code == 0);
  CHECK(shown("--state vacant,occupied") == 3'000);
  CHECK(shown("--state reserved") == 0);
  CHECK(shown("--range 10:19") == 10);
  CHECK(shown("--range 7") == 1);
  CHECK(shown("--range :7") == 8);
  CHECK(shown("--generation 2:") == 1);
  CHECK(shown("--limit 5") == 5);

  CHECK(run_tool(directory, "get" + path + "3:1 0x0000000700000003").code == 0);
  const outcome stale = run_tool(directory, "get --format json" + path + "5:1 3:1 70000:1");
  CHECK(stale.code == 4);
  const auto keys = nlohmann::json::parse(stale.out)["keys"];
  CHECK(keys[0]["state"] == "stale");
  CHECK(keys[0]["generations_apart"] == 1);
  CHECK(keys[1]["state"] == "live");
  CHECK(keys[2]["state"] == "no such slot");
}

TEST_CASE("exit codes say what happened, and errors are one line on stderr") {
  if (tool_path() == nullptr) return;
  temporary_directory directory;
  const auto file = make_records(directory);
  const std::string path = " '" + file.string() + "' ";
  const auto complains = [&](const std::string& arguments, int code) {
    INFO(arguments);
    const outcome result = run_tool(directory, arguments);
    CHECK(result.code == code);
    CHECK(result.out.empty());
    CHECK(result.errors.starts_with("dm-inspect: "));
    CHECK(std::count(result.errors.begin(), result.errors.end(), '\n') == 1);
  };
  complains("", 16);
  complains("frobnicate", 16);
  complains("info", 16);
  complains("info" + path + "--format xml", 16);
  complains("slots" + path + "--range 5:3", 16);
  complains("slots" + path + "--range x", 16);
  complains("slots" + path + "--state asleep", 16);
  complains("slots" + path + "--limit -1", 16);
  complains("get" + path, 16);
  complains("get" + path + "3", 16);
  complains("check '" + (directory / "none").string() + "'", 8);
  complains("check '" + directory.path().string() + "'", 8);
  write_file(directory / "text", "hello, this is text\n");
  complains("info '" + (directory / "text").string() + "'", 8);
  CHECK(run_tool(directory, "--help").code == 0);
  CHECK(run_tool(directory, "--help").out.find("Exit codes") != std::string::npos);
  CHECK(run_tool(directory, "check --help").code == 0);
  CHECK(run_tool(directory, "--version").out.starts_with("dm-inspect "));

  overwrite(file, 50, "x");  // in the uuid
  const std::string before = read_file(file);
  for (const std::string verb : {"info", "check", "slots"}) CHECK(run_tool(directory, verb + path).code == 4);
  const auto report = nlohmann::json::parse(run_tool(directory, "check --format json" + path).out);
  CHECK(report["clean"] == false);
  CHECK(report["findings"][0]["rule"] == "header-checksum");
  CHECK(read_file(file) == before);
}

TEST_CASE("a file that is open in this very process can be looked at") {
  if (tool_path() == nullptr) return;
  temporary_directory directory;
  const auto path = directory / "live.arena";
  record_map m = record_map::create(path, {.max_slots = 10'000});
  const dm::key k = m.insert(numbered(1));
  const auto handle = m.allocate_handle();
  CHECK(handle);
  const auto info = nlohmann::json::parse(run_tool(directory, "info --format json '" + path.string() + "'").out);
  CHECK(info["left"] == "open");
  CHECK(info["lock"] == "writing");
  CHECK(info["lock_holders"].get<std::string>().find(std::to_string(::getpid())) != std::string::npos);
  CHECK(info["slots"]["reserved"] == 1);
  const outcome slots = run_tool(directory, "slots '" + path.string() + "'");
  CHECK(slots.code == 0);
  CHECK(slots.out.find("reserved") != std::string::npos);
  CHECK(slots.errors.find("in use") != std::string::npos);
  CHECK(run_tool(directory, "check '" + path.string() + "'").code == 0);
  CHECK(m.contains(k));
  CHECK(m.verify().empty());
}

TEST_CASE("a closed pipe ends it quietly, and a full disk does not") {
  if (tool_path() == nullptr) return;
  temporary_directory directory;
  const std::string path = " '" + make_records(directory).string() + "' ";
  const std::string tool = std::string("'") + std::getenv("DM_INSPECT") + "' ";
  const outcome piped = run_shell(directory, tool + "slots" + path + "| head -1");
  CHECK(piped.code == 0);
  CHECK(piped.errors.empty());
  CHECK(std::count(piped.out.begin(), piped.out.end(), '\n') == 1);
  const outcome ignored = run_shell(directory, "trap '' PIPE; " + tool + "slots" + path + "| head -1");
  CHECK(ignored.errors.empty());
  CHECK(run_tool(directory, "slots" + path + "> /dev/full").code == 8);
  CHECK(run_tool(directory, "info" + path + "> /dev/full").code == 8);
}
