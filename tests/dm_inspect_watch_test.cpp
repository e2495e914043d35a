// watch: on a terminal, which is as it was when it ends, however it ends; and elsewhere, a line at a time.
#include <atomic>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "deferred_map/mapped_map.hpp"
#include "deferred_map/shared_map.hpp"
#include "inspect_terminal.hpp"

namespace {

using inspect_tool::has_terminals;
using inspect_tool::on_terminal;
using json = nlohmann::json;

constexpr const char* enter = "\x1b[?1049h";
constexpr const char* leave = "\x1b[?1049l";
constexpr const char* two_looks = "Changed    \x1b[0m[";  // what is behind it takes two

bool is_left(const on_terminal& terminal) {
  const std::string& seen = terminal.seen();
  const std::size_t entered = seen.rfind(enter), left = seen.rfind(leave);
  const std::size_t hidden = seen.rfind("\x1b[?25l"), shown = seen.rfind("\x1b[?25h");
  const bool usual = (terminal.settings().c_lflag & (ICANON | ECHO)) == (ICANON | ECHO);
  return entered != std::string::npos && left != std::string::npos && left > entered && shown > hidden && usual;
}
bool is_entered(const on_terminal& terminal) {
  return (terminal.settings().c_lflag & (ICANON | ECHO)) == 0 &&
         (terminal.seen().rfind(leave) == std::string::npos ||
          terminal.seen().rfind(enter) > terminal.seen().rfind(leave));
}

std::filesystem::path make_file(const temporary_directory& directory) {
  const auto path = directory / "m.arena";
  auto m = dm::shared_map<std::uint64_t>::create(path, {.max_slots = 10'000});
  for (std::uint64_t i = 0; i < 100; ++i) m.insert(i);
  return path;
}

std::vector<std::string> watch(const std::filesystem::path& file, const std::string& interval = "60") {
  return {"watch", file.string(), "--interval", interval};
}

}  // namespace

TEST_CASE("watch draws on the other screen until q, and leaves the terminal and the file as they were") {
  if (inspect_tool::path() == nullptr || !has_terminals()) return;
  temporary_directory directory;
  const auto file = make_file(directory);
  const std::string before = read_file(file);
  on_terminal terminal(watch(file, "0.05"));
  REQUIRE(terminal.see(two_looks));  // two looks at least
  CHECK(is_entered(terminal));
  CHECK(terminal.seen().find("100 occupied") != std::string::npos);
  CHECK(terminal.seen().find("Inserts/s") != std::string::npos);
  terminal.type("xyz q");
  const int status = terminal.status();
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(is_left(terminal));
  CHECK(terminal.seen().ends_with(leave));
  CHECK(read_file(file) == before);
}

TEST_CASE("watch leaves the terminal as it was when it is interrupted, ended, or crashes") {
  if (inspect_tool::path() == nullptr || !has_terminals()) return;
  temporary_directory directory;
  const auto file = make_file(directory);
  {
    on_terminal terminal(watch(file));
    REQUIRE(terminal.see("q quits"));
    terminal.type("\x03");  // ^C, by way of the terminal
    const int status = terminal.status();
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 32);
    CHECK(is_left(terminal));
  }
  for (const int number : {SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGABRT, SIGBUS, SIGUSR1}) {
    INFO(::strsignal(number));
    on_terminal terminal(watch(file));
    REQUIRE(terminal.see("q quits"));
    CHECK(is_entered(terminal));
    ::kill(terminal.pid(), number);
    const int status = terminal.status();
    // A sanitizer's own handlers may turn a crash into an exit of theirs; the terminal is what counts.
    CHECK((WIFSIGNALED(status) ? WTERMSIG(status) == number : WEXITSTATUS(status) != 0));
    CHECK(is_left(terminal));
  }
}

TEST_CASE("watch gives the terminal back while it is stopped, and takes it again when it goes on") {
  if (inspect_tool::path() == nullptr || !has_terminals()) return;
  temporary_directory directory;
  const auto file = make_file(directory);
  on_terminal terminal(watch(file));
  REQUIRE(terminal.see("q quits"));
  ::kill(terminal.pid(), SIGTSTP);
  // The leader of a session whose parent is of another cannot be stopped by SIGTSTP: the kernel throws it away. So it goes
  // on at once; that it left and came back is to be seen all the same.
  REQUIRE(terminal.see(leave));
  ::kill(terminal.pid(), SIGCONT);
  REQUIRE(terminal.see(enter, 2));
  REQUIRE(terminal.see("q quits", 2));
  CHECK(is_entered(terminal));
  terminal.type("q");
  CHECK(WEXITSTATUS(terminal.status()) == 0);
  CHECK(is_left(terminal));
}

TEST_CASE("watch draws anew when the terminal has another size, fits small ones, and ends with its terminal") {
  if (inspect_tool::path() == nullptr || !has_terminals()) return;
  temporary_directory directory;
  const auto file = make_file(directory);
  {
    on_terminal terminal(watch(file));
    REQUIRE(terminal.see("q quits"));
    ::kill(terminal.pid(), SIGWINCH);
    REQUIRE(terminal.see("q quits", 2));
    terminal.hang_up();
    int status = terminal.status();
    CHECK((WIFSIGNALED(status) ? WTERMSIG(status) == SIGHUP : WEXITSTATUS(status) == 8));
  }
  for (const unsigned short columns : std::initializer_list<unsigned short>{1, 5, 20, 33, 300})
    for (const unsigned short rows : std::initializer_list<unsigned short>{1, 3, 7, 90}) {
      auto arguments = watch(file, "0.02");
      arguments.insert(arguments.end(), {"--count", "2"});
      on_terminal terminal(arguments, columns, rows);
      const int status = terminal.status();
      CHECK(WIFEXITED(status));
      CHECK(WEXITSTATUS(status) == 0);
      CHECK(is_left(terminal));
    }
}

TEST_CASE("bars and the line of what changed are drawn in ASCII where the locale has no more") {
  if (inspect_tool::path() == nullptr || !has_terminals()) return;
  temporary_directory directory;
  const auto path = directory / "m";
  auto shared = dm::shared_map<std::uint64_t>::create(path, {.max_slots = 10'000});
  shared.insert(1);
  on_terminal terminal(watch(path, "0.05"), 100, 30, "xterm-256color", "C");
  REQUIRE(terminal.see("every"));
  for (int i = 0; i < 1000; ++i) shared.erase(shared.insert(1));
  // The greatest of the rates, and the region that changed most; what is higher than nothing is no blank.
  CHECK(terminal.see("@"));
  terminal.type("q");
  CHECK(WEXITSTATUS(terminal.status()) == 0);
  CHECK(std::none_of(terminal.seen().begin(), terminal.seen().end(), [](char c) { return c < 0; }));
}

TEST_CASE("what watch shows fits into 80 columns, and what does not goes on in the next line") {
  if (inspect_tool::path() == nullptr || !has_terminals()) return;
  temporary_directory directory;
  auto shared = dm::shared_map<std::uint64_t>::create(directory / "shared", {.max_slots = 10'000});
  std::vector<dm::key> keys;
  for (std::uint64_t i = 0; i < 100; ++i) keys.push_back(shared.insert(i));
  {
    on_terminal terminal(watch(directory / "shared", "0.05"), 80, 24);
    REQUIRE(terminal.see(" updating"));  // the end of an owner's line
    for (int i = 0; i < 1000; ++i) shared.update(keys[50], [](std::uint64_t& n) { ++n; });
    // Slots that changed since the look before, however often.
    REQUIRE(terminal.see(" changed  "));
    terminal.type("q");
    CHECK(WEXITSTATUS(terminal.status()) == 0);
    CHECK(terminal.seen().find("          1 changed  ") != std::string::npos);
    CHECK(terminal.seen().find("100, 100.0 % occupied; at most 10,000") ==
          std::string::npos);  // kept ready are slots too
    CHECK(terminal.seen().find(" % occupied; at most 10,000 ") != std::string::npos);
  }
  dm::mapped_map<std::uint64_t>::create(directory / "closed", {.max_slots = 10, .sync_on_close = false}).close();
  on_terminal terminal(watch(directory / "closed"), 40, 24);
  REQUIRE(terminal.see("stops"));  // ... not synced, so good until the machine stops
}

TEST_CASE("on a terminal that cannot place a cursor, watch prints lines as elsewhere") {
  if (inspect_tool::path() == nullptr || !has_terminals()) return;
  temporary_directory directory;
  auto arguments = watch(make_file(directory), "0.02");
  arguments.insert(arguments.end(), {"--count", "2"});
  for (const char* kind : {"dumb", ""}) {
    on_terminal terminal(arguments, 100, 30, kind);
    CHECK(WEXITSTATUS(terminal.status()) == 0);
    CHECK(terminal.seen().starts_with("time "));
    CHECK(terminal.seen().find('\x1b') == std::string::npos);
  }
}

TEST_CASE("what is wrong with the file is told on the terminal as it was, and ends watch") {
  if (inspect_tool::path() == nullptr || !has_terminals()) return;
  temporary_directory directory;
  {
    on_terminal terminal(watch(directory / "none"));
    CHECK(WEXITSTATUS(terminal.status()) == 8);
    CHECK(terminal.seen().find(enter) == std::string::npos);
    CHECK(terminal.seen().find("no such file") != std::string::npos);
  }
  const auto file = make_file(directory);
  on_terminal terminal(watch(file, "0.05"));
  REQUIRE(terminal.see(two_looks));
  std::filesystem::remove(file);
  CHECK(WEXITSTATUS(terminal.status()) == 8);
  CHECK(is_left(terminal));
  CHECK(terminal.seen().rfind("no such file") > terminal.seen().rfind(leave));
}

TEST_CASE("where there is no terminal, watch prints a line for each interval, or a record") {
  if (inspect_tool::path() == nullptr) return;
  temporary_directory directory;
  const auto closed = make_file(directory);
  const std::string before = read_file(closed);
  const auto lines = inspect_tool::run(directory, "watch '" + closed.string() + "' --interval 0.02 --count 3");
  CHECK(lines.code == 0);
  CHECK(lines.errors.empty());
  CHECK(std::count(lines.out.begin(), lines.out.end(), '\n') == 4);
  CHECK(lines.out.starts_with("time "));
  CHECK(lines.out.find('\x1b') == std::string::npos);
  CHECK(read_file(closed) == before);

  auto shared = dm::shared_map<std::uint64_t>::create(directory / "shared", {.max_slots = 10'000});
  auto mapped = dm::mapped_map<std::uint64_t>::create(directory / "mapped", {.max_slots = 10'000});
  std::atomic<bool> over = false;
  std::thread user([&] {
    while (!over) {
      const dm::key k = shared.insert(1);
      shared.update(k, [](std::uint64_t& n) { ++n; });
      shared.erase(k);
      mapped.erase(mapped.insert(1));
    }
  });
  for (const std::string name : {"shared", "mapped"}) {
    const auto found = inspect_tool::run(
        directory, "watch '" + (directory / name).string() + "' --interval 0.1 --count 2 --format json");
    CHECK(found.code == 0);
    std::istringstream records(found.out);
    int count = 0;
    for (std::string line; std::getline(records, line); ++count) {
      const json record = json::parse(line);
      CHECK(record["schema_version"] == 1);
      CHECK(record["verb"] == "watch");
      CHECK(record["inserts"].get<std::uint64_t>() > 0);
      CHECK(record["removes"].get<std::uint64_t>() > 0);
      CHECK(record["updates"].is_null() == (name == "mapped"));
      CHECK(record["alive"] == 1);
      CHECK(record["hottest"].size() >= 1);
    }
    CHECK(count == 2);
  }
  over = true;
  user.join();
  // In lines the columns are as on the screen: what threads keep ready is no handle's.
  auto waiting = shared.allocate_handle();
  const auto line =
      inspect_tool::run(directory, "watch '" + (directory / "shared").string() + "' --interval 0.02 --count 1");
  CHECK(line.out.find("UTC             0             1 ") != std::string::npos);
  shared.release_handle(std::move(waiting));
  CHECK(mapped.verify().empty());
  CHECK(shared.empty());

  const std::string tool = inspect_tool::command_line("watch '" + closed.string() + "' --interval 0.02 ");
  const auto piped = inspect_tool::run_shell(directory, tool + "| head -3");
  CHECK(piped.code == 0);
  CHECK(piped.errors.empty());
  CHECK(std::count(piped.out.begin(), piped.out.end(), '\n') == 3);
  CHECK(inspect_tool::run_shell(directory, tool + "> /dev/full").code == 8);
  CHECK(inspect_tool::run_shell(directory, "timeout --preserve-status -s INT 0.3 " + tool + "> /dev/null").code == 32);
}
