// The processes of this machine in a map that many programs have open at once: one keeps it up to date, any number look
// on, and any of them may be killed at any moment.
//
// Start reading with process.hpp (what is in the map) and sampler.cpp (keys first, values after; taking over from the
// dead).
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "deferred_map/fmt.hpp"
#include "interrupts.hpp"
#include "process.hpp"
#include "sampler.hpp"
#include "views.hpp"

namespace {

using namespace process_table;
using namespace std::chrono_literals;

struct arguments {
  std::string name = "process-table";
  std::string file;
  double hz = 10;
  std::optional<double> seconds;
  bool once = false;
  std::optional<std::size_t> rows;
  std::string sort = "cpu";
  std::uint32_t pid = 0;

  std::filesystem::path path() const { return file.empty() ? dm::shm(name).path() : std::filesystem::path(file); }
};

process_map open_to_look(const arguments& given) {
  try {
    return process_map::open_read_only(given.path());
  } catch (const dm::error& e) {
    if (e.code() != dm::errc::not_found) throw;
    throw table_error(fmt::format("there is no process table {}. Start a sampler first: process_table sample{}",
                                  given.path().string(),
                                  !given.file.empty()             ? " --file " + given.file
                                  : given.name != "process-table" ? " --name " + given.name
                                                                  : ""));
  }
}

int run_sample(const arguments& given) {
  const interrupts interrupted;
  sampler at_work(given.path());
  if (at_work.killed_pid() != 0)
    fmt::print("the sampler before, process {}, was killed; its {} processes are taken over with their keys\n{}\n",
               at_work.killed_pid(), at_work.map().size(), at_work.map().recovery().to_string());
  std::size_t samples = 0;
  const auto start = std::chrono::steady_clock::now();
  const std::chrono::duration<double> period(1 / given.hz);
  do {
    const sample_counts counts = at_work.sample();
    if (samples++ == 0) {
      fmt::print("sampling into {}: {} processes, {} of them new, {} gone\n", at_work.map().path().string(),
                 counts.started + counts.updated, counts.started, counts.ended);
      std::fflush(stdout);
    }
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    if (given.seconds && passed.count() >= *given.seconds) break;
    // By the clock, not by the pause; samples for which there was no time are left out.
    const auto next = period - std::chrono::duration<double>(std::fmod(passed.count(), period.count()));
    if (interrupted.wait(std::chrono::duration_cast<std::chrono::nanoseconds>(next)) == interrupts::woken::to_stop)
      break;
  } while (true);
  fmt::print("{} samples\n", samples);
  return 0;
}

/// The terminal while `top` has it: keys come as they are typed, the cursor is hidden, what was there before comes back.
class screen {
 public:
  screen() {
    ::tcgetattr(STDIN_FILENO, &before_);
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    show("\x1b[?1049h\x1b[?25l");
  }
  ~screen() {
    show("\x1b[?25h\x1b[?1049l");
    ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  screen(const screen&) = delete;
  screen& operator=(const screen&) = delete;

  static winsize size() {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) return {24, 80, 0, 0};
    return size;
  }
  /// Each line is cut at the edge, and replaces what was there; no flicker.
  static void draw(std::string_view text) {
    const winsize edges = size();
    std::string out = "\x1b[H\x1b[?7l";
    for (std::size_t row = 0; !text.empty() && row < edges.ws_row; ++row) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      if (row != 0) out += '\n';
      out += text.substr(0, end);
      out += "\x1b[K";
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    show(out + "\x1b[J\x1b[?7h");
  }

 private:
  static void show(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  termios before_{};
};

int run_top(const arguments& given) {
  const process_map map = open_to_look(given);
  const interrupts interrupted;
  top_options how{given.rows.value_or(20), given.sort == "cpu" ? order::cpu : order::memory};
  look before = look_at(map);
  if (given.once) {
    interrupted.wait(250ms);  // for the rate
    fmt::print("{}", top_text(look_at(map), &before, how));
    return 0;
  }
  const bool live = ::isatty(STDIN_FILENO) && ::isatty(STDOUT_FILENO);
  std::optional<screen> terminal;
  if (live) terminal.emplace();
  for (auto pause = 250ms;; pause = 1000ms) {  // the first soon: it tells how fast things change
    switch (interrupted.wait(pause, live ? STDIN_FILENO : -1)) {
      case interrupts::woken::to_stop:
        return 0;
      case interrupts::woken::by_input:
        if (char typed = 'q'; ::read(STDIN_FILENO, &typed, 1) != 1 || typed == 'q')
          return 0;
        else if (typed == 'c')
          how.by = order::cpu;
        else if (typed == 'm')
          how.by = order::memory;
        break;
      case interrupts::woken::in_time:
        break;
    }
    look now = look_at(map);
    if (live && !given.rows) how.rows_max = std::max<std::size_t>(screen::size().ws_row, 4) - 4;
    const std::string text = top_text(now, &before, how);
    if (live)
      screen::draw(text + "\nq quits, c sorts by processor, m by memory");
    else
      fmt::print("{}\n", text), std::fflush(stdout);
    before = std::move(now);
  }
}

int run_watch(const arguments& given) {
  const process_map map = open_to_look(given);
  const interrupts interrupted;
  dm::key watched{};
  std::uint64_t start = 0;
  map.for_each([&](dm::key k, const process& p) {
    if (p.pid != given.pid || (watched && p.start_ticks < start)) return;
    watched = k;  // of two, the one that has the pid now; the other is about to be removed
    start = p.start_ticks;
  });
  if (!watched) throw table_error(fmt::format("the table has no process {}; {}", given.pid, news_text(look_at(map))));
  fmt::print("process {}, key {}\n", given.pid, watched);
  std::string said, news;
  // From here on the pid is of no interest: the key is this process, and never another.
  while (const std::optional<process> now = map.get(watched)) {
    if (std::string text = watch_text(*now); text != said) fmt::print("{}\n", said = std::move(text));
    const look all = look_at(map);
    const bool alive = all.sampler && all.sampler->alive;
    if (std::string text = alive ? "" : news_text(all); text.empty() != news.empty())
      fmt::print("{}\n", (news = std::move(text)).empty() ? "there is a sampler again" : news);
    std::fflush(stdout);
    if (interrupted.wait(100ms) == interrupts::woken::to_stop) return 0;
  }
  fmt::print("ended: key {} is stale, and stays so, whoever gets its slot or its pid\n", watched);
  return 0;
}

int run_tree(const arguments& given) {
  const look now = look_at(open_to_look(given));
  fmt::print("{}", tree_text(now));
  return 0;
}

int run_remove(const arguments& given) {
  const std::filesystem::path path = given.path();
  {
    const process_map map = open_to_look(given);
    for (const sampler_mark& mark : marks_of_samplers(map))
      if (mark.alive)
        throw table_error(fmt::format("process {} samples into {}. Stop it first: kill {}", mark.value.pid,
                                      path.string(), mark.value.pid));
  }
  if (given.file.empty())
    dm::shm::remove(given.name);
  else
    std::filesystem::remove(path);
  fmt::print("removed {}\n", path.string());
  return 0;
}

int run(int argc, char** argv) {
  CLI::App program(
      "The processes of this machine in shared memory: one program samples, any number look on.\n"
      "Any of them may be killed at any moment.",
      "process_table");
  program.require_subcommand(1);
  arguments given;
  const auto verb = [&](const char* name, const char* what) {
    CLI::App* made = program.add_subcommand(name, what);
    CLI::Option* segment = made->add_option("--name", given.name, "of the segment (process-table)")->type_name("NAME");
    made->add_option("--file", given.file, "an arena file instead of a segment")->type_name("PATH")->excludes(segment);
    return made;
  };
  CLI::App* sample = verb("sample", "Keep the table up to date, until interrupted (or killed)");
  sample->add_option("--hz", given.hz, "samples a second (10)")->type_name("N")->check(CLI::Range(0.01, 10'000.0));
  sample->add_option("--seconds", given.seconds, "end after so long")->type_name("N")->check(CLI::Range(0.0, 1e9));
  CLI::App* top = verb("top", "Show who uses most, live; q ends it");
  top->add_flag("--once", given.once, "show it once");
  top->add_option("--rows", given.rows, "how many processes")->type_name("N");
  top->add_option("--sort", given.sort, "cpu or memory")->type_name("BY")->check(CLI::IsMember({"cpu", "memory"}));
  CLI::App* watch = verb("watch", "Tell what happens to one process, until it ends");
  watch->add_option("PID", given.pid, "of the process as it is now")->required()->type_name("");
  CLI::App* tree = verb("tree", "Show all, each below its parent");
  CLI::App* remove = verb("remove", "Take the table away");
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return program.exit(e) == 0 ? 0 : 2;
  }
  if (sample->parsed()) return run_sample(given);
  if (top->parsed()) return run_top(given);
  if (watch->parsed()) return run_watch(given);
  if (tree->parsed()) return run_tree(given);
  if (remove->parsed()) return run_remove(given);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {  // dm::error among them: the message says which file and what to do
    fmt::print(stderr, "process_table: {}\n", e.what());
    return 1;
  }
}
