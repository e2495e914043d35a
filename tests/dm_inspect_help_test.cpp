// The man page and the completions, against what the program itself says that it has.
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include <nlohmann/json.hpp>

#include "inspect_tool.hpp"

namespace {

using strings = std::set<std::string>;

// In the man page and not in the program: what is being made elsewhere. Empty when all is there.
const strings verbs_to_come{};

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

strings verbs_in_help(const std::string& help) {
  strings verbs;
  bool within = false;
  for (const std::string& line : lines_of(help)) {
    std::smatch found;
    if (line == "Subcommands:")
      within = true;
    else if (line.empty())
      within = false;
    else if (within && std::regex_search(line, found, std::regex("^  ([a-z-]+) ")))
      verbs.insert(found[1]);
  }
  return verbs;
}

strings options_in_help(const std::string& help) {
  strings options;
  for (const std::string& line : lines_of(help)) {
    std::smatch found;
    if (std::regex_search(line, found, std::regex("^  (?:-[A-Za-z],)?(--[a-z-]+)"))) options.insert(found[1]);
  }
  return options;
}

/// The options that each section of the man page has a paragraph for. Sections of verbs by the verb.
std::map<std::string, strings> options_in_man_page(const std::string& page) {
  std::map<std::string, strings> sections;
  std::string section;
  for (std::string line : lines_of(page)) {
    std::smatch found;
    if (std::regex_search(line, found, std::regex("^\\.S[SH] ([A-Za-z-]+)"))) section = found[1];
    sections[section];
    line = std::regex_replace(line, std::regex("\\\\-"), "-");
    if (std::regex_search(line, found, std::regex("^(?:\\\\fB-[a-z]\\\\fR, )?\\\\fB(--[a-z-]+)\\\\fR")))
      sections[section].insert(found[1]);
  }
  return sections;
}

std::filesystem::path root() { return std::getenv("SOURCE_ROOT"); }

}  // namespace

TEST_CASE("the man page has each verb and each of its options, and none that there is not") {
  if (inspect_tool::path() == nullptr || std::getenv("SOURCE_ROOT") == nullptr) return;
  temporary_directory directory;
  auto sections = options_in_man_page(read_file(root() / "docs" / "dm-inspect.1"));
  const strings common = sections["Of"];  // "Of every verb"
  CHECK(common.size() >= 5);
  const strings verbs = verbs_in_help(inspect_tool::run(directory, "--help").out);
  REQUIRE(verbs.size() >= 11);
  for (const std::string& verb : verbs) {
    INFO(verb);
    CHECK_FALSE(verbs_to_come.contains(verb));
    REQUIRE(sections.contains(verb));
    const strings options = options_in_help(inspect_tool::run(directory, verb + " --help").out);
    REQUIRE(options.contains("--help"));
    for (const std::string& option : options) {
      INFO(option);
      CHECK((common.contains(option) || sections[verb].contains(option)));
    }
    for (const std::string& option : sections[verb]) {
      INFO(option);
      CHECK(options.contains(option));
    }
  }
  for (const auto& [section, options] : sections) {
    INFO(section);
    const bool is_verb = !section.empty() && section != "Of" && std::islower(static_cast<unsigned char>(section[0]));
    CHECK((!is_verb || verbs.contains(section) || verbs_to_come.contains(section)));
  }
}

TEST_CASE("each verb's help says what it does, and every exit code is in the man page") {
  if (inspect_tool::path() == nullptr || std::getenv("SOURCE_ROOT") == nullptr) return;
  temporary_directory directory;
  const std::string page = read_file(root() / "docs" / "dm-inspect.1");
  for (const char* code : {"0", "1", "4", "8", "16", "32"})
    CHECK(page.find(std::string("\n.B ") + code + "\n") != std::string::npos);
  for (const std::string& verb : verbs_in_help(inspect_tool::run(directory, "--help").out)) {
    INFO(verb);
    const auto help = inspect_tool::run(directory, verb + " --help");
    CHECK(help.code == 0);
    CHECK(help.errors.empty());
    CHECK(help.out.find("Usage: dm-inspect " + verb) != std::string::npos);
    const std::size_t examples = help.out.find("\nExamples:\n");
    REQUIRE(examples != std::string::npos);
    CHECK(help.out.find("dm-inspect " + verb, examples) != std::string::npos);
    for (const char* option : {"--color", "--quiet"}) CHECK(help.out.find(option) != std::string::npos);
  }
  if (inspect_tool::run_shell(directory, "command -v man > /dev/null && command -v groff > /dev/null").code != 0) {
    WARN("unavailable: man and groff, to read the man page with");
    return;
  }
  const auto read = inspect_tool::run_shell(
      directory, "LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -l '" + (root() / "docs" / "dm-inspect.1").string() + "'");
  CHECK(read.code == 0);
  CHECK(read.errors.empty());
  CHECK(read.out.find("gc [NAME...]") != std::string::npos);
}

namespace {

/// The names of all members, but not those of values: these are the type's own; nor the rules that findings are counted by.
void collect_names(const nlohmann::json& document, strings& names) {
  if (document.is_array())
    for (const auto& element : document) collect_names(element, names);
  if (!document.is_object()) return;
  for (const auto& [name, member] : document.items()) {
    names.insert(name);
    if (name != "value" && name != "by_rule") collect_names(member, names);
  }
}

}  // namespace

TEST_CASE("the document has each name that is in the JSON of a verb") {
  if (inspect_tool::path() == nullptr || std::getenv("SOURCE_ROOT") == nullptr) return;
  temporary_directory directory;
  const auto golden = root() / "tests" / "golden";
  const std::pair<const char*, const char*> commands[] = {
      {"info", "durable/killed.arena"},
      {"slots", "everything.arena"},
      {"get", "number.arena 0:1 1:1"},
      {"stats", "shared/closed.arena"},
      {"map", "number.arena"},
      {"owners", "shared/killed.arena"},
      {"watch", "shared/closed.arena --count 1 --interval 0.02"},
      {"check", "number-killed-erasing.arena"},
      {"repair", "number-stopped.arena --dry-run"},
      {"schema", "everything.arena"},
      {"schema --compare", "plain.arena --compare number.arena"},
      {"diff", "number.arena number-retired.arena"},
      {"export", "number.arena"},
      {"log", "durable/killed.arena --no-pin --changes"},
  };
  const std::vector<std::string> document = lines_of(read_file(root() / "docs" / "INSPECT.md"));
  const auto line_that_begins = [&](const std::string& begin) {
    for (const std::string& line : document)
      if (line.starts_with(begin)) return line;
    return std::string();
  };
  const std::string counts = line_that_begins("COUNTS are ");
  std::size_t count = 0;
  for (const auto& [verb, arguments] : commands) {
    INFO(verb);
    const std::string row = line_that_begins("| `" + std::string(verb) + "`");
    REQUIRE(!row.empty());
    // Where it says "as", the names are in another row.
    const std::string more = row.find("as `check`") != std::string::npos    ? line_that_begins("| `check`")
                             : row.find("as `schema`") != std::string::npos ? line_that_begins("| `schema`")
                                                                            : "";
    const auto result = inspect_tool::run_shell(
        directory, "cd '" + golden.string() + "' && " +
                       inspect_tool::command_line(std::string(verb).substr(0, std::string_view(verb).find(' ')) +
                                                  " --format json " + arguments));
    strings names;
    collect_names(nlohmann::json::parse(result.out), names);
    for (const std::string& name : names) {
      if (name == "schema_version" || name == "verb" || name == "file" || name == "commit") continue;
      INFO(name);
      ++count;
      CHECK((row + counts + more).find("`" + name + "`") != std::string::npos);
    }
  }
  CHECK(count > 120);
}

TEST_CASE("bash completes verbs, options, their values, files and segments") {
  if (inspect_tool::path() == nullptr || std::getenv("SOURCE_ROOT") == nullptr) return;
  temporary_directory directory;
  if (inspect_tool::run_shell(directory, "command -v bash > /dev/null").code != 0) {
    WARN("unavailable: bash");
    return;
  }
  write_file(directory / "some file", "");
  write_file(directory / "some.arena", "");
  const std::string script = (root() / "tools" / "dm-inspect" / "completions" / "dm-inspect.bash").string();
  // What bash sets when Tab is pressed at the end of a line, with the characters at which it breaks words by default.
  write_file(directory / "complete.sh", "source '" + script +
                                            "'\n"
                                            "cd \"$1\" && COMP_LINE=$2 COMP_POINT=${#2}\n"
                                            "COMP_WORDBREAKS=$' \\t\\n\"\\'><=;|&(:'\n"
                                            "_dm_inspect && printf '%s\\n' \"${COMPREPLY[@]}\"\n"
                                            "complete -p dm-inspect >&2\n");
  const auto completed = [&](const std::string& line) {
    const auto tool = std::filesystem::path(inspect_tool::path());
    const auto result = inspect_tool::run_shell(
        directory, "PATH='" + tool.parent_path().string() + "':\"$PATH\" bash --norc '" +
                       (directory / "complete.sh").string() + "' '" + directory.path().string() + "' '" + line + "'");
    INFO(result.errors);
    CHECK(result.code == 0);
    CHECK(result.errors == "complete -F _dm_inspect dm-inspect\n");
    strings found;
    for (const std::string& each : lines_of(result.out))
      if (!each.empty()) found.insert(each);
    return found;
  };
  CHECK(completed("dm-inspect ") == verbs_in_help(inspect_tool::run(directory, "--help").out));
  CHECK(completed("dm-inspect ow") == strings{"owners"});
  CHECK(completed("dm-inspect --ver") == strings{"--version"});
  CHECK(completed("dm-inspect map --") == options_in_help(inspect_tool::run(directory, "map --help").out));
  CHECK(completed("dm-inspect map --wid") == strings{"--width"});
  CHECK(completed("dm-inspect map --color ") == strings{"always", "auto", "never"});
  CHECK(completed("dm-inspect map --color=ne") == strings{"never"});
  CHECK(completed("dm-inspect slots --state occupied,v") == strings{"occupied,vacant"});
  CHECK(completed("dm-inspect gc --older-than ").empty());
  CHECK(completed("dm-inspect info some") == strings{"some file", "some.arena"});
  CHECK(completed("dm-inspect map --quiet some.") == strings{"some.arena"});
  CHECK(completed("dm-inspect map --svg some.") == strings{"some.arena"});
  CHECK(completed("dm-inspect list some").empty());
  CHECK(completed("dm-inspect nonsense --s").empty());

  if (!std::filesystem::is_directory("/dev/shm")) return;
  const std::string name = "completion-test-" + std::to_string(::getpid());
  const auto segment = std::filesystem::path("/dev/shm") / ("deferred-map." + name);
  write_file(segment, "");
  CHECK(completed("dm-inspect info shm:completion-test-").contains(name));  // behind the ':', where bash breaks words
  CHECK(completed("dm-inspect info sh").contains("shm:" + name));
  CHECK(completed("dm-inspect gc completion-test-").contains(name));
  std::filesystem::remove(segment);
}
