// stats: how often, how long, how full: the slots in numbers and bars.
#include <fmt/format.h>

#include "survey_json.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

using dm::inspect::histogram;
using dm::inspect::histogram_bar;
using dm::inspect::slot_region;
using dm::inspect::survey;

constexpr std::size_t bar_columns = 40;

struct stats_options : common_options {
  std::uint64_t regions = 16;
};

/// Prints rows of a label, a number and a bar.
class chart {
 public:
  explicit chart(const stats_options& options)
      : unicode_(is_utf8_locale()), is_coloured_(colours(options.colour) != dm::inspect::palette::none) {}

  void row(const std::string& label, const std::string& number, double share) const {
    const std::string bar = dm::inspect::bar_text(share, bar_columns, unicode_);
    if (bar.empty())
      fmt::print("  {:>25}  {:>13}\n", label, number);
    else if (is_coloured_)
      fmt::print("  {:>25}  {:>13}  \x1b[32m{}\x1b[0m\n", label, number, bar);
    else
      fmt::print("  {:>25}  {:>13}  {}\n", label, number, bar);
  }

  void bars(const histogram& numbers) const {
    std::uint64_t most = 1;
    const std::vector<histogram_bar> all = numbers.bars();
    for (const histogram_bar& bar : all) most = std::max(most, bar.count);
    std::size_t empty = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const histogram_bar& bar = all[i];
      // Between the few that are in use and the last ones of a retired slot lie thirty rows of nothing.
      empty = bar.count == 0 ? empty + 1 : 0;
      if (empty > 1 && i + 1 < all.size() && all[i + 1].count == 0) {
        if (empty == 2) fmt::print("  {:>25}\n", "...");
        continue;
      }
      row(bar.low == bar.high ? with_commas(bar.low)
                              : fmt::format("{} to {}", with_commas(bar.low), with_commas(bar.high)),
          with_commas(bar.count), static_cast<double>(bar.count) / static_cast<double>(most));
    }
  }

 private:
  bool unicode_;
  bool is_coloured_;
};

double share_of(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

void print_state(const char* name, std::uint64_t count, std::uint64_t whole) {
  print_field(name, fmt::format("{:<14} {:>5.1f} %", with_commas(count), 100 * share_of(count, whole)));
}

void print_table(const survey& found, bool is_shared, const stats_options& options) {
  const chart draw(options);
  const auto& total = found.total;
  print_field("Slots", with_commas(total.slots));
  print_state("  occupied", total.occupied, total.slots);
  if (total.updating != 0) print_state("    updating", total.updating, total.slots);
  print_state("  reserved", total.reserved, total.slots);
  if (total.cached != 0) print_state("    kept ready", total.cached, total.slots);
  print_state("  vacant", total.vacant, total.slots);
  if (total.never_used != 0) print_state("    never used", total.never_used, total.slots);
  print_state("  retired", total.retired, total.slots);
  if (total.impossible != 0) print_state("  impossible", total.impossible, total.slots);
  if (total.unreadable != 0) print_state("  unreadable", total.unreadable, total.slots);

  fmt::print("\n");
  const histogram& generations = found.generations;
  print_field("Generations", generations.count() == 0
                                 ? "none: no slot was ever used"
                                 : fmt::format("{} to {}, on average {:.2f}; the greatest first in slot {}",
                                               with_commas(generations.min()), with_commas(generations.max()),
                                               generations.mean(), with_commas(found.generation_max_slot)));
  draw.bars(generations);

  fmt::print("\n");
  const histogram& holes = found.holes;
  print_field("Holes",
              holes.count() == 0
                  ? "none: no slot is vacant"
                  : fmt::format("{} of vacant slots, {} to {} long, on average {:.2f}; the longest at slot {}",
                                counted(holes.count(), "run"), with_commas(holes.min()), with_commas(holes.max()),
                                holes.mean(), with_commas(found.longest_hole_first)));
  draw.bars(holes);

  if (is_shared && found.updates.count() != 0) {
    fmt::print("\n");
    print_field("Updates",
                fmt::format("of a value in its life: {} to {}, on average {:.2f}", with_commas(found.updates.min()),
                            with_commas(found.updates.max()), found.updates.mean()));
    draw.bars(found.updates);
  }

  fmt::print("\n");
  print_field("Fill", found.regions.empty() ? "none: there are no slots"
                                            : fmt::format("{} of {}", counted(found.regions.size(), "region"),
                                                          counted(found.slots_per_region, "slot")));
  for (const slot_region& region : found.regions) {
    const double share = share_of(region.occupied, region.slots);
    draw.row(region.slots <= 1
                 ? with_commas(region.first)
                 : fmt::format("{} to {}", with_commas(region.first), with_commas(region.first + region.slots - 1)),
             fmt::format("{:.1f} %", 100 * share), share);
  }
}

json histogram_json(const histogram& numbers) {
  json bars = json::array();
  for (const histogram_bar& bar : numbers.bars())
    bars.push_back({{"low", bar.low}, {"high", bar.high}, {"count", bar.count}});
  return {{"count", numbers.count()},
          {"min", numbers.min()},
          {"max", numbers.max()},
          {"mean", numbers.mean()},
          {"bars", bars}};
}

json to_json(const survey& found, bool is_shared, json document) {
  document["slots"] = counts_json(found.total);
  document["generations"] = histogram_json(found.generations);
  document["generations"]["max_slot"] =
      found.generations.count() == 0 ? json(nullptr) : json(found.generation_max_slot);
  document["holes"] = histogram_json(found.holes);
  document["holes"]["longest_first"] = found.holes.count() == 0 ? json(nullptr) : json(found.longest_hole_first);
  document["updates"] = is_shared ? histogram_json(found.updates) : json(nullptr);
  document["slots_per_region"] = found.slots_per_region;
  document["regions"] = json::array();
  for (const slot_region& region : found.regions) document["regions"].push_back(region_json(region));
  document["unreadable"] = unreadable_json(found);
  return document;
}

int show(const stats_options& options) {
  const auto arena = open_with_slots(options.file);
  warn_if_in_use(arena);
  const survey found = survey_of(arena, "stats", options.regions, options.quiet);
  const bool is_shared = arena.layout().kind == static_cast<std::uint32_t>(dm::arena_kind::shared);
  if (options.format == output_format::json)
    print_json(to_json(found, is_shared, json_head("stats", arena)));
  else
    print_table(found, is_shared, options);
  return exit_code_of(arena, found);
}

}  // namespace

verb make_stats(CLI::App& program) {
  CLI::App* command = program.add_subcommand("stats", "Histograms: generations, holes, how full each region is");
  auto options = std::make_shared<stats_options>();
  add_common_options(*command, *options);
  command->add_option("--regions", options->regions, "Show the fill of N regions (default 16)")
      ->check(CLI::Range(1, 65536).description(""))
      ->type_name("N");
  command->footer(
      "Reads every slot once, and believes no count. The generation of a vacant slot is that of its next life. Bars\n"
      "are drawn in ASCII where the locale has no UTF-8. Exits with 4 where slots cannot be, or cannot be read.\n\n"
      "Examples:\n"
      "  dm-inspect stats stock.arena\n"
      "  dm-inspect stats shm:quotes --regions 64\n"
      "  dm-inspect stats stock.arena --format json | jq .holes.max");
  return {command, [options] { return show(*options); }};
}

}  // namespace tool
