// map: a picture of the slots.
#include <fmt/format.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "deferred_map/format/value_text.hpp"
#include "survey_json.hpp"
#include "verbs.hpp"

#include <unistd.h>

namespace tool {
namespace {

using dm::inspect::picture_grid;
using dm::inspect::picture_style;
using dm::inspect::survey;

// Where the output is no terminal, and where a picture of its own has room.
constexpr std::size_t columns_elsewhere = 80;
constexpr std::size_t rows_elsewhere = 24;
constexpr std::size_t svg_cells_in_row = 100;
constexpr std::size_t svg_rows = 60;
// Of a legend with the marks that are usual.
constexpr std::size_t legend_columns = 80;

struct map_options : common_options {
  std::string svg;
  std::optional<std::size_t> width;
  std::optional<std::size_t> height;
};

/// The whole picture as a file. Never in the place of an arena, which a slip of the hand might name.
void write_svg(const dm::inspect::arena_file& arena, const std::string& path, const std::string& svg) {
  if (path == "-") {
    fmt::print("{}", svg);
    return;
  }
  std::error_code unseen;
  std::array<char, sizeof dm::arena_header::magic_bytes> magic{};
  if (std::ifstream before(path, std::ios::binary); before.read(magic.data(), magic.size()))
    if (std::memcmp(magic.data(), dm::arena_header::magic_bytes.data(), magic.size()) == 0)
      throw usage_error(fmt::format("--svg would overwrite '{}', which is an arena. Name another file", path));
  if (std::filesystem::equivalent(arena.path(), path, unseen))
    throw usage_error("--svg would overwrite the file that is looked at. Name another file");
  errno = 0;
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << svg;
  out.close();
  if (!out) throw std::system_error(errno == 0 ? EIO : errno, std::generic_category(), "writing '" + path + "'");
}

std::string totals(const survey& found) {
  const auto& total = found.total;
  // As the marks have it: what threads keep ready waits for no value.
  std::string text = fmt::format("{}: {} occupied, {} reserved", counted(total.slots, "slot"),
                                 with_commas(total.occupied), with_commas(total.reserved - total.cached));
  if (total.cached != 0) text += fmt::format(", {} kept ready", with_commas(total.cached));
  text += fmt::format(", {} vacant, {} retired", with_commas(total.vacant), with_commas(total.retired));
  if (total.impossible != 0) text += fmt::format(", {} impossible", with_commas(total.impossible));
  if (total.unreadable != 0) text += fmt::format(", {} unreadable", with_commas(total.unreadable));
  return text;
}

std::string head_of(const survey& found) {
  return totals(found) +
         (found.total.slots == 0 ? std::string() : "; a cell is " + counted(found.slots_per_region, "slot"));
}

void print_picture(const dm::inspect::arena_file& arena, const survey& found, const picture_grid& grid,
                   const map_options& options) {
  const picture_style style{colours(options.colour), is_utf8_locale()};
  fmt::print("{}\n{}\n\n", dm::escaped(arena.path().string()), head_of(found));
  fmt::print("{}", dm::inspect::picture_text(found, grid, style));
  if (!found.regions.empty()) fmt::print("\n{}", dm::inspect::picture_legend(found, style));
}

void print_as_json(const dm::inspect::arena_file& arena, const survey& found) {
  const auto out = json_records();
  json head = json_head("map", arena);
  head["slots"] = counts_json(found.total);
  head["slots_per_cell"] = found.slots_per_region;
  out->begin(head, "cells");
  for (const dm::inspect::slot_region& region : found.regions) out->record(region_json(region));
  out->end({{"unreadable", unreadable_json(found)}});
}

/// Rows of cells for which the terminal has room beside the rest, so that its head does not scroll away.
std::size_t rows_on_terminal(const dm::inspect::arena_file& arena, bool quiet) {
  const std::size_t columns = terminal_columns() == 0 ? columns_elsewhere : terminal_columns();
  const auto lines = [&](std::size_t length) { return std::max<std::size_t>((length + columns - 1) / columns, 1); };
  // The numbers are not known before the slots have been looked at, but how long they can be.
  survey most;
  most.total.slots = most.total.occupied = most.total.vacant = most.slots_per_region = arena.slot_count();
  if (arena.layout().kind == static_cast<std::uint32_t>(dm::arena_kind::shared))
    most.total.reserved = most.total.cached = arena.slot_count();
  std::size_t around = lines(dm::escaped(arena.path().string()).size()) + lines(head_of(most).size()) +
                       lines(legend_columns) + 2;  // and empty ones
  ++around;                                        // the next prompt
  if (!quiet && ::isatty(STDERR_FILENO) != 0 && arena.left() == dm::inspect::left_state::open)
    around += lines(sizeof "dm-inspect: note: the file is in use, and what is shown may be halfway through a change");
  return terminal_rows() - std::min(terminal_rows(), around);
}

picture_grid grid_of(const map_options& options, const dm::inspect::arena_file& arena) {
  if (!options.svg.empty()) return {options.width.value_or(svg_cells_in_row), options.height.value_or(svg_rows)};
  const std::size_t columns = options.width.value_or(terminal_columns());
  const std::size_t rows =
      options.height.value_or(terminal_rows() == 0 ? rows_elsewhere : rows_on_terminal(arena, options.quiet));
  return dm::inspect::grid_for(arena.slot_count(), columns == 0 ? columns_elsewhere : columns, rows);
}

int show(const map_options& options) {
  const auto arena = open_with_slots(options.file);
  warn_if_in_use(arena);
  const picture_grid grid = grid_of(options, arena);
  const survey found = survey_of(arena, "map", grid.cells(), options.quiet);
  if (!options.svg.empty()) {
    const std::string name = dm::escaped(arena.path().filename().string());
    write_svg(
        arena, options.svg,
        dm::inspect::picture_svg(found, grid.cells_in_row,
                                 fmt::format("{} ({}): {}", name, dm::escaped(arena.type_name()), head_of(found))));
  } else if (options.format == output_format::json) {
    print_as_json(arena, found);
  } else {
    print_picture(arena, found, grid, options);
  }
  return exit_code_of(arena, found);
}

}  // namespace

verb make_map(CLI::App& program) {
  CLI::App* command = program.add_subcommand("map", "A picture of the slots, on the terminal or as SVG");
  auto options = std::make_shared<map_options>();
  add_common_options(*command, *options);
  command->add_option("--svg", options->svg, "Write an SVG picture to PATH instead; - is standard output")
      ->type_name("PATH");
  command->add_option("--width", options->width, "Columns to fill; of an SVG, cells in a row (default 100)")
      ->check(CLI::Range(1, 10'000).description(""))
      ->type_name("N");
  command->add_option("--height", options->height, "At most so many rows of cells")
      ->check(CLI::Range(1, 10'000).description(""))
      ->type_name("N");
  command->footer(
      "Each cell is a run of slots; its shade is the share that has values. Marked cells have slots that are reserved\n"
      "(r) or retired (x), that are for the most part kept ready by a shared map's threads (c), or that cannot be (!)\n"
      "or cannot be read (?). Without colour a mark hides the shade, and without a UTF-8 locale shades are ASCII.\n"
      "Exits with 4 where slots cannot be, or cannot be read.\n\n"
      "Examples:\n"
      "  dm-inspect map stock.arena\n"
      "  dm-inspect map stock.arena --color always | less -R\n"
      "  dm-inspect map shm:quotes --svg quotes.svg\n"
      "  dm-inspect map stock.arena --width 132 --height 10");
  return {command, [options] { return show(*options); }};
}

}  // namespace tool
