// watch: on a terminal, which is as it was when it ends, however it ends; and elsewhere, a line at a time.
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "deferred_map/mapped_map.hpp"
#include "deferred_map/shared_map.hpp"
#include "inspect_tool.hpp"

namespace {

using json = nlohmann::json;

/// Whether this machine gives out terminals; warns where it does not, as in containers without /dev/pts.
bool has_terminals() {
  int master = -1, slave = -1;
  if (::openpty(&master, &slave, nullptr, nullptr, nullptr) != 0) {
    WARN("unavailable: terminals (is /dev/pts mounted?): watch is tested without one only");
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
                       unsigned short rows = 30) {
    winsize size{rows, columns, 0, 0};
    pid_ = ::forkpty(&master_, nullptr, nullptr, &size);
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      // What the tests' own starter has it ignore, as nohup does, is not to be seen here.
      for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGPIPE}) ::signal(number, SIG_DFL);
      ::setenv("TERM", "xterm-256color", 1);
      ::setenv("LC_ALL", "C.UTF-8", 1);
      std::vector<char*> words{const_cast<char*>(inspect_tool::path())};
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
