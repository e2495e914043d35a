#include "watch_view.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "deferred_map/format/value_text.hpp"
#include "exit_codes.hpp"
#include "survey_json.hpp"

namespace tool {
namespace {

using dm::inspect::owner;
using dm::inspect::owner_state;
using dm::inspect::palette;
using dm::inspect::picture_style;
using dm::inspect::region_activity;

constexpr std::size_t name_columns = 11;
constexpr std::size_t hottest_shown = 5;

/// Lines that are cut to the screen; colours take no room.
class screen_text {
 public:
  screen_text(screen_size size, const picture_style& style) : size_(size), style_(style) {}

  screen_text& add(std::string_view text, const char* colour = "") {
    const bool is_coloured = *colour != '\0' && style_.colours != palette::none;
    std::string cut;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const bool begins = (static_cast<unsigned char>(text[i]) & 0xc0u) != 0x80u;
      if (begins && column_ == size_.columns) break;
      column_ += begins;
      cut += text[i];
    }
    if (is_coloured && !cut.empty()) line_ += fmt::format("\x1b[{}m{}\x1b[0m", colour, cut);
    if (!is_coloured) line_ += cut;
    return *this;
  }
  /// Puts `text` at the right end, where there is room for it.
  screen_text& add_right(std::string_view text, const char* colour = "") {
    if (column_ + 1 + text.size() > size_.columns) return *this;
    return add(std::string(size_.columns - column_ - text.size(), ' ')).add(text, colour);
  }
  void end_line() {
    if (rows_ < size_.rows) text_ += line_ + "\n";
    ++rows_;
    line_.clear();
    column_ = 0;
  }
  std::size_t columns_left() const { return size_.columns - std::min(size_.columns, column_); }
  std::size_t rows_left() const { return size_.rows - std::min(size_.rows, rows_); }
  std::string take() { return std::move(text_); }

 private:
  screen_size size_;
  picture_style style_;
  std::string text_;
  std::string line_;
  std::size_t column_ = 0;
  std::size_t rows_ = 0;
};

std::string rate_text(double rate) { return with_commas(static_cast<std::uint64_t>(std::llround(rate))); }

// Not within the function that chooses between them: g++ 12 leaves out what is in the second of two local arrays.
constexpr std::array<const char*, 9> level_blocks{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr std::array<const char*, 9> level_ascii{" ", ".", ":", "-", "=", "+", "*", "#", "@"};

/// `level` of 0 to 8, as one character.
std::string level_text(std::size_t level, bool unicode) {
  return (unicode ? level_blocks : level_ascii)[std::min<std::size_t>(level, 8)];
}
/// What is more than nothing is never shown as nothing.
std::size_t level_of(double number, double most) {
  if (!(number > 0) || !(most > 0)) return 0;
  return std::max<std::size_t>(static_cast<std::size_t>(std::lround(8 * std::min(number / most, 1.0))), 1);
}

/// The last numbers as a row of small bars, as high as they are beside the greatest of them.
template <class Get>
std::string spark_line(const std::deque<watched_rates>& history, std::size_t columns, bool unicode, Get get) {
  const std::size_t first = history.size() - std::min(history.size(), columns);
  double most = 0;
  for (std::size_t i = first; i < history.size(); ++i) most = std::max(most, get(history[i]));
  std::string text;
  for (std::size_t i = first; i < history.size(); ++i) text += level_text(level_of(get(history[i]), most), unicode);
  return text;
}

/// Reserved for handles, which wait for a value; and not kept ready by threads for the next of them.
std::uint64_t waiting(const dm::inspect::slot_counts& counts) {
  return counts.reserved - std::min(counts.reserved, counts.cached);
}

std::string name_text(const char* name) { return fmt::format("{:<{}}", name, name_columns); }

void add_slots(screen_text& screen, const watched_moment& moment, const picture_style& style) {
  const auto& counts = moment.counts;
  const double share = counts.slots == 0 ? 0 : static_cast<double>(counts.occupied) / static_cast<double>(counts.slots);
  // The share is that of the slots there are, and not of those there may be.
  screen.add(name_text("Slots"), "1")
      .add(fmt::format("{}, {:.1f} % occupied; at most {}  ", with_commas(counts.slots), 100 * share,
                       with_commas(moment.slots_max)));
  screen.add(dm::inspect::bar_text(share, std::min<std::size_t>(screen.columns_left(), 40), style.unicode), "32");
  screen.end_line();
  std::string text = name_text("") + fmt::format("{} occupied, {} reserved", with_commas(counts.occupied),
                                                 with_commas(waiting(counts)));
  if (moment.is_shared) text += fmt::format(", {} kept ready", with_commas(counts.cached));
  text += fmt::format(", {} vacant", with_commas(counts.vacant));
  if (counts.retired != 0) text += fmt::format(", {} retired", with_commas(counts.retired));
  screen.add(text);
  if (counts.impossible + counts.unreadable != 0)
    screen.add(fmt::format(", {} faulty: run check", with_commas(counts.impossible + counts.unreadable)), "1;31");
  screen.end_line();
}

void add_rates(screen_text& screen, const watched_moment& moment, const std::deque<watched_rates>& history,
               screen_size size, const picture_style& style) {
  const auto line = [&](const char* name, const char* colour, auto get) {
    const std::size_t room = size.columns > 30 ? size.columns - 30 : 0;
    screen.add(name_text(name), "1");
    screen.add(fmt::format("{:>14}  ", history.empty() ? "..." : rate_text(get(history.back()))));
    screen.add(spark_line(history, room, style.unicode, get), colour).end_line();
  };
  line("Inserts/s", "32", [](const watched_rates& rates) { return rates.inserts; });
  line("Removes/s", "31", [](const watched_rates& rates) { return rates.removes; });
  if (moment.is_shared) {
    line("Updates/s", "33", [](const watched_rates& rates) { return rates.updates.value_or(0); });
  } else {
    screen.add(name_text("Updates/s"), "1").add("             -  not told by the files of one process").end_line();
  }
}

/// Words that go on below each other, in so many more lines at most.
void add_wrapped(screen_text& screen, std::string_view text, std::size_t rows_more) {
  while (rows_more != 0 && text.size() > screen.columns_left()) {
    const std::size_t space = text.rfind(' ', screen.columns_left());
    if (space == std::string_view::npos || space == 0) break;
    screen.add(text.substr(0, space)).end_line();
    screen.add(name_text(""));
    text.remove_prefix(space + 1);
    --rows_more;
  }
  screen.add(text);
}

void add_owners(screen_text& screen, const watched_moment& moment, std::size_t rows) {
  const auto& all = moment.owners;
  screen.add(name_text("Owners"), "1");
  if (moment.is_shared)
    screen.add(fmt::format("{} alive", all.count(owner_state::alive)))
        .add(fmt::format(", {} dead", all.count(owner_state::dead)), all.count(owner_state::dead) != 0 ? "31" : "");
  else
    add_wrapped(screen, moment.left_text, rows);
  screen.end_line();
  if (!moment.is_shared) return;
  // Those who hold most first: of 128 the others are of little interest.
  std::vector<owner> sorted = all.owners;
  std::stable_sort(sorted.begin(), sorted.end(), [](const owner& a, const owner& b) {
    return a.reserved + a.cached + a.updating > b.reserved + b.cached + b.updating;
  });
  std::size_t shown = 0;
  for (const owner& each : sorted) {
    if (++shown > rows) break;
    // All of it fits into 80 columns, unless numbers are great.
    screen.add(fmt::format("{:>7}  ", each.pid)).add(fmt::format("{:<16}", dm::escaped(each.program)));
    screen.add(fmt::format("{:<8}", dm::inspect::to_string(each.state)),
               each.state == owner_state::alive ? "32" : "31");
    screen.add(fmt::format("{:>7} reserved {:>6} kept ready {:>2} updating", with_commas(each.reserved),
                           with_commas(each.cached), each.updating));
    screen.end_line();
  }
}

void add_heat(screen_text& screen, const watched_moment& moment, const picture_style& style) {
  screen.add(name_text("Changed"), "1");
  if (!moment.happened) {
    screen.add("...").end_line();
    return;
  }
  std::uint64_t most = 0;
  for (const region_activity& region : moment.happened->regions) most = std::max(most, region.changed);
  std::string levels;
  for (const region_activity& region : moment.happened->regions)
    levels += level_text(level_of(static_cast<double>(region.changed), static_cast<double>(most)), style.unicode);
  screen.add("[").add(levels, "35").add("]").end_line();
  for (const region_activity& region : hottest(*moment.happened, std::min(hottest_shown, screen.rows_left()))) {
    const double share = static_cast<double>(region.changed) / static_cast<double>(std::max<std::uint64_t>(most, 1));
    // Slots, and not changes: one that changed a thousand times since the last look is one. So it is no rate.
    screen.add(fmt::format("{:>10} {:>13} to {:>13}  {:>11} changed  ", "slots", with_commas(region.first),
                           with_commas(region.first + region.slots - 1), with_commas(region.changed)));
    const std::size_t room = std::min<std::size_t>(screen.columns_left(), 20);
    screen.add(dm::inspect::bar_text(share, room, style.unicode), "35").end_line();
  }
}

}  // namespace

watched_rates rates_of(const watched_moment& moment) {
  const auto rate = [&](std::uint64_t count) { return static_cast<double>(count) / moment.seconds; };
  watched_rates rates{rate(moment.happened->inserts), rate(moment.happened->removes), std::nullopt};
  if (moment.happened->updates) rates.updates = rate(*moment.happened->updates);
  return rates;
}

std::vector<region_activity> hottest(const dm::inspect::activity& happened, std::size_t count) {
  std::vector<region_activity> regions = happened.regions;
  std::erase_if(regions, [](const region_activity& region) { return region.changed == 0; });
  std::stable_sort(regions.begin(), regions.end(),
                   [](const region_activity& a, const region_activity& b) { return a.changed > b.changed; });
  if (regions.size() > count) regions.resize(count);
  return regions;
}

std::string watch_screen(const watched_moment& moment, const std::deque<watched_rates>& history,
                         double interval_seconds, screen_size size, const picture_style& style) {
  screen_text screen(size, style);
  screen.add(moment.path, "1").add_right(time_text(moment.unix_ns)).end_line();
  screen.add(fmt::format("{} of {}", moment.kind, moment.type_name));
  if (moment.happened && moment.happened->is_estimated) screen.add(", estimated from a part of its slots", "33");
  screen.add_right(fmt::format("every {:g} s, q quits", interval_seconds)).end_line();
  screen.end_line();
  add_slots(screen, moment, style);
  screen.end_line();
  add_rates(screen, moment, history, size, style);
  screen.end_line();
  // The heat of the slots has a line and five more below, and a line between.
  const std::size_t below = hottest_shown + 3;
  add_owners(screen, moment, screen.rows_left() > below ? screen.rows_left() - below : 0);
  screen.end_line();
  add_heat(screen, moment, style);
  return screen.take();
}

std::string watch_line_head() {
  return fmt::format("{:<23} {:>13} {:>13} {:>13} {:>12} {:>12} {:>12} {:>6} {:>6}\n", "time", "occupied", "reserved",
                     "vacant", "inserts/s", "removes/s", "updates/s", "alive", "dead");
}

std::string watch_line(const watched_moment& moment) {
  const watched_rates rates = rates_of(moment);
  return fmt::format("{:<23} {:>13} {:>13} {:>13} {:>12} {:>12} {:>12} {:>6} {:>6}\n", time_text(moment.unix_ns),
                     with_commas(moment.counts.occupied), with_commas(waiting(moment.counts)),
                     with_commas(moment.counts.vacant), rate_text(rates.inserts), rate_text(rates.removes),
                     rates.updates ? rate_text(*rates.updates) : "-", moment.owners.count(owner_state::alive),
                     moment.owners.count(owner_state::dead));
}

json watch_record(const watched_moment& moment) {
  const watched_rates rates = rates_of(moment);
  const auto& happened = *moment.happened;
  json record = {{"schema_version", output_schema_version},
                 {"verb", "watch"},
                 {"file", moment.path},
                 {"time", time_json(moment.unix_ns)},
                 {"seconds", moment.seconds},
                 {"estimated", happened.is_estimated},
                 {"slots", counts_json(moment.counts)},
                 {"inserts", happened.inserts},
                 {"removes", happened.removes},
                 {"updates", happened.updates ? json(*happened.updates) : json(nullptr)},
                 {"inserts_per_second", rates.inserts},
                 {"removes_per_second", rates.removes},
                 {"updates_per_second", rates.updates ? json(*rates.updates) : json(nullptr)},
                 {"alive", moment.owners.count(owner_state::alive)},
                 {"dead", moment.owners.count(owner_state::dead)}};
  record["hottest"] = json::array();
  for (const region_activity& region : hottest(happened, hottest_shown))
    record["hottest"].push_back({{"first", region.first}, {"slots", region.slots}, {"changed", region.changed}});
  return record;
}

}  // namespace tool
