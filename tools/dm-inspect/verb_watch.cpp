// watch: an arena while it is used: operations a second, who is there, where it changes.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "deferred_map/format/value_text.hpp"
#include "live_screen.hpp"
#include "segments.hpp"
#include "verbs.hpp"
#include "watch_view.hpp"

namespace tool {
namespace {

using std::chrono::steady_clock;

struct watch_options : common_options {
  double interval_seconds = 1;
  std::uint64_t count = 0;
};

// Cells of the line that shows where changes are; and regions among which the hottest are found.
constexpr std::size_t regions_in_lines = 64;
constexpr std::size_t history_max = 400;

/// Looks at an arena again and again, each time as if for the first: the file may grow, be replaced, be left.
class watcher {
 public:
  explicit watcher(const std::filesystem::path& file) : file_(file) {}

  /// Errors: dm::error where the file is gone, or no arena any more.
  watched_moment look(std::size_t regions) {
    const auto arena = open_with_slots(file_);
    watched_moment moment;
    moment.unix_ns = now_unix_ns();
    const auto now = steady_clock::now();
    dm::inspect::slot_sample sample(arena);
    const dm::inspect::summary head = dm::inspect::summarize(arena);
    moment.path = head.path;
    moment.kind = head.kind;
    moment.type_name = head.type_name;
    moment.left_text = head.left_text;
    moment.slots_max = head.slots_max;
    moment.is_shared = arena.layout().kind == static_cast<std::uint32_t>(dm::arena_kind::shared);
    moment.counts = in_all(sample);
    // What each holds is counted slot by slot: where that is too much for the sample it is for this.
    if (arena.control())
      moment.owners = dm::inspect::find_owners(
          arena, sample.is_whole() ? dm::inspect::owned_slots::counted : dm::inspect::owned_slots::not_counted);
    if (before_) {
      moment.happened = dm::inspect::compare(*before_, sample, regions);
      moment.seconds = std::max(std::chrono::duration<double>(now - then_).count(), 1e-6);
    }
    before_ = std::move(sample);
    then_ = now;
    return moment;
  }

 private:
  /// Of all slots, as those that were looked at are.
  static dm::inspect::slot_counts in_all(const dm::inspect::slot_sample& sample) {
    dm::inspect::slot_counts counts = sample.counts();
    if (sample.is_whole() || sample.looked_at() == 0) return counts;
    const double factor = static_cast<double>(sample.slot_count()) / static_cast<double>(sample.looked_at());
    for (std::uint64_t* const count :
         {&counts.occupied, &counts.reserved, &counts.vacant, &counts.retired, &counts.impossible, &counts.unreadable,
          &counts.updating, &counts.cached, &counts.never_used})
      *count = static_cast<std::uint64_t>(static_cast<double>(*count) * factor);
    counts.slots = sample.slot_count();
    return counts;
  }

  std::filesystem::path file_;
  std::optional<dm::inspect::slot_sample> before_;
  steady_clock::time_point then_;
};

steady_clock::duration interval_of(const watch_options& options) {
  return std::chrono::duration_cast<steady_clock::duration>(std::chrono::duration<double>(options.interval_seconds));
}

/// The next moment of a beat that began at `beat`, and not one that has passed: who is stopped for a while does not catch up.
steady_clock::time_point next_beat(steady_clock::time_point beat, steady_clock::duration interval) {
  const auto now = steady_clock::now();
  return beat + interval > now ? beat + interval : now + interval;
}

/// One line for each interval, or one JSON record, as it comes.
int print_lines(const watch_options& options) {
  watcher watched(options.file);
  const bool as_json = options.format == output_format::json;
  auto beat = steady_clock::now();
  watched.look(regions_in_lines);
  if (!as_json) fmt::print("{}", watch_line_head());
  for (std::uint64_t done = 0; options.count == 0 || done < options.count;) {
    // Whoever reads this is to see a line when it is printed; and where nobody reads any more it is over.
    if (!finish_output()) return exit_could_not_run;
    beat = next_beat(beat, interval_of(options));
    std::this_thread::sleep_until(beat);
    const watched_moment moment = watched.look(regions_in_lines);
    if (!moment.happened) {
      complain("note: the file was replaced by another");
      continue;
    }
    ++done;
    if (as_json)
      fmt::print("{}\n", watch_record(moment).dump(-1, ' ', true, json::error_handler_t::replace));
    else
      fmt::print("{}", watch_line(moment));
  }
  return exit_clean;
}

/// The last column stays free: what is erased behind a line would be its last character.
screen_size size_now() {
  return {std::max<std::size_t>(terminal_columns(), 20) - 1, std::max<std::size_t>(terminal_rows(), 3)};
}

int draw(const watch_options& options) {
  const dm::inspect::picture_style style{colours(options.colour), is_utf8_locale()};
  watcher watched(options.file);
  std::deque<watched_rates> history;
  // Before the screen is taken: what is wrong with the file is to be seen after.
  watched_moment moment = watched.look(1);
  live_screen screen;
  auto beat = steady_clock::now();
  for (std::uint64_t done = 0;;) {
    if (!screen.show(watch_screen(moment, history, options.interval_seconds, size_now(), style)))
      return exit_could_not_run;
    if (options.count != 0 && done == options.count) return exit_clean;
    const auto until = next_beat(beat, interval_of(options));
    switch (screen.wait(until)) {
      case live_event::quit_key:
        return exit_clean;
      case live_event::interrupted:
        return exit_interrupted;
      case live_event::gone:
        return exit_could_not_run;
      case live_event::redraw:
        continue;
      case live_event::time_passed:
        break;
    }
    beat = until;
    const std::size_t columns = size_now().columns;
    moment = watched.look(columns > 20 ? columns - 20 : 1);
    ++done;
    if (moment.happened)
      history.push_back(rates_of(moment));
    else
      history.clear();  // of another file
    if (history.size() > history_max) history.pop_front();
  }
}

int show(const watch_options& options) {
  const bool on_screen = can_place_cursor() && options.format == output_format::table;
  return on_screen ? draw(options) : print_lines(options);
}

}  // namespace

verb make_watch(CLI::App& program) {
  CLI::App* command = program.add_subcommand("watch", "An arena while it is used: operations a second, owners, heat");
  auto options = std::make_shared<watch_options>();
  add_common_options(*command, *options);
  command->add_option("--interval", options->interval_seconds, "Look every SECONDS, such as 0.2 (default 1)")
      ->check(CLI::Range(0.02, 86400.0).description(""))
      ->type_name("SECONDS");
  command->add_option("--count", options->count, "Stop after so many intervals; 0, the default, is never")
      ->check(whole_number())
      ->type_name("N");
  command->footer(
      "On a terminal it draws until q or ^C; elsewhere, or with --format json, it prints a line for each interval. It\n"
      "compares the slots' words: a generation more is a life that ended, and the words of shared maps count updates. "
      "A\n"
      "handle released without an insert counts as an insert and a remove. It takes no lock and changes nothing, so\n"
      "nobody is disturbed. Of more than some million slots, evenly spread blocks are looked at.\n\n"
      "Examples:\n"
      "  dm-inspect watch shm:quotes\n"
      "  dm-inspect watch stock.arena --interval 0.2\n"
      "  dm-inspect watch shm:quotes --format json --count 60 > minute.ndjson");
  return {command, [options] { return show(*options); }};
}

}  // namespace tool
