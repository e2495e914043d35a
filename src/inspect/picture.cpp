#include "deferred_map/inspect/picture.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace dm::inspect {
namespace {

constexpr std::size_t levels = 5;
constexpr std::array<const char*, levels> blocks{"·", "░", "▒", "▓", "█"};
constexpr std::array<const char*, levels> ascii{".", ":", "+", "*", "#"};
constexpr std::array<const char*, levels> meanings{"empty", "to 1/3", "to 2/3", "more", "full"};
// Of the 256 colours that most terminals have: from dark grey to bright green.
constexpr std::array<const char*, levels> backgrounds{"48;5;236", "48;5;22", "48;5;28", "48;5;34", "48;5;40"};
constexpr std::array<const char*, levels> foregrounds{"90", "32", "32", "32", "92"};
constexpr std::array<double, levels> examples{0, 1.0 / 6, 0.5, 5.0 / 6, 1};  // of each level, a share

/// What is marked in a cell, the most important first.
enum class mark { impossible, unreadable, reserved, retired, cached, none };
struct mark_style {
  const char* text;
  const char* many;
  const char* sixteen;
  const char* svg;
  const char* meaning;
};
constexpr std::array<mark_style, 5> mark_styles{{
    {"!", "1;38;5;201", "1;35", "#c51b8a", "impossible"},
    {"?", "1;38;5;201", "1;35", "#7a0177", "unreadable"},
    {"r", "1;38;5;226", "1;33", "#feb24c", "reserved"},
    {"x", "1;38;5;203", "1;31", "#de2d26", "retired"},
    {"c", "38;5;117", "36", "#9ecae1", "kept ready"},
}};
const mark_style& style_of(mark m) { return mark_styles[static_cast<std::size_t>(m)]; }

std::uint64_t held(const slot_counts& cell) { return cell.reserved - std::min(cell.reserved, cell.cached); }

/// How many of `cell` a mark stands for.
std::uint64_t marked(const slot_counts& cell, mark m) {
  switch (m) {
    case mark::impossible:
      return cell.impossible;
    case mark::unreadable:
      return cell.unreadable;
    case mark::reserved:
      return held(cell);
    case mark::retired:
      return cell.retired;
    case mark::cached:
      return cell.cached;
    case mark::none:
      break;
  }
  return 0;
}

/// Slots that are kept ready are many and of little interest: they are marked where they are most of the cell.
mark mark_of(const slot_counts& cell) {
  for (const mark m : {mark::impossible, mark::unreadable, mark::reserved, mark::retired})
    if (marked(cell, m) != 0) return m;
  return cell.cached * 2 > cell.slots ? mark::cached : mark::none;
}

double share_of(const slot_counts& cell) {
  return cell.slots == 0 ? 0 : static_cast<double>(cell.occupied) / static_cast<double>(cell.slots);
}

std::size_t level_of(double share) {
  if (!(share > 0)) return 0;
  if (share >= 1) return levels - 1;
  return 1 + std::min(static_cast<std::size_t>(share * 3), std::size_t{2});
}

struct rgb {
  int red, green, blue;
};
/// `share` of the way from one colour to the other. What is not empty never looks so.
rgb between(rgb a, rgb b, double share) {
  const double way = share > 0 ? 0.15 + 0.85 * share : 0;
  const auto mix = [way](int from, int to) { return from + static_cast<int>(std::lround(way * (to - from))); };
  return {mix(a.red, b.red), mix(a.green, b.green), mix(a.blue, b.blue)};
}

std::string svg_fill(double share) {
  const rgb colour = between({232, 232, 232}, {0, 95, 40}, share);
  return "rgb(" + std::to_string(colour.red) + "," + std::to_string(colour.green) + "," + std::to_string(colour.blue) +
         ")";
}

std::string background(double share, palette colours) {
  if (colours != palette::all) return backgrounds[level_of(share)];
  const rgb colour = between({48, 48, 48}, {0, 190, 70}, share);
  return "48;2;" + std::to_string(colour.red) + ";" + std::to_string(colour.green) + ";" + std::to_string(colour.blue);
}

std::string with_commas(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3; text.insert(at, 1, ',')) at -= 3;
  return text;
}

/// One character, and the colours it is shown in.
struct shown {
  std::string text;
  std::string colours;
  bool operator==(const shown&) const = default;
};

shown cell_of(double share, mark m, const picture_style& style) {
  shown cell;
  const std::size_t level = level_of(share);
  const bool is_marked = m != mark::none;
  const char* const shade = style.unicode ? blocks[level] : ascii[level];
  switch (style.colours) {
    case palette::many:
    case palette::all:
      // The shade is the background, so that a mark does not hide it.
      cell.colours = background(share, style.colours);
      if (is_marked) cell.colours += std::string(";") + style_of(m).many;
      cell.text = is_marked ? style_of(m).text : " ";
      break;
    case palette::sixteen:
      cell.colours = is_marked ? style_of(m).sixteen : foregrounds[level];
      cell.text = is_marked ? style_of(m).text : shade;
      break;
    case palette::none:
      cell.text = is_marked ? style_of(m).text : shade;
      break;
  }
  return cell;
}

/// Puts cells one after the other, changing colours only where they change.
class painter {
 public:
  void put(const shown& cell) {
    if (cell.colours != colours_) {
      if (!colours_.empty()) text_ += "\x1b[0m";
      if (!cell.colours.empty()) text_ += "\x1b[" + cell.colours + "m";
      colours_ = cell.colours;
    }
    text_ += cell.text;
  }
  std::string take() {
    put({});
    return std::move(text_);
  }

 private:
  std::string text_;
  std::string colours_;
};

std::size_t label_columns(std::uint64_t slots) { return with_commas(slots == 0 ? 0 : slots - 1).size(); }

/// For XML: nothing in it means anything, and nothing is a control character, which XML cannot have at all.
std::string xml(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '&')
      safe += "&amp;";
    else if (c == '<')
      safe += "&lt;";
    else if (c == '>')
      safe += "&gt;";
    else if (c == '"')
      safe += "&quot;";
    else
      safe += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  }
  return safe;
}

}  // namespace

picture_grid grid_for(std::uint64_t slots, std::size_t columns, std::size_t rows) noexcept {
  const std::size_t label = label_columns(slots) + 2;
  picture_grid grid;
  grid.cells_in_row = columns > label ? columns - label : 1;
  // Rows that begin with numbers one can add up in one's head.
  for (const std::size_t even : {std::size_t{100}, std::size_t{50}, std::size_t{10}})
    if (grid.cells_in_row >= 2 * even || grid.cells_in_row == even) {
      grid.cells_in_row -= grid.cells_in_row % even;
      break;
    }
  grid.rows = std::max<std::size_t>(rows, 1);
  return grid;
}

std::string picture_text(const survey& slots, const picture_grid& grid, const picture_style& style) {
  const std::size_t label = label_columns(slots.total.slots);
  std::string text;
  for (std::size_t first = 0; first < slots.regions.size(); first += grid.cells_in_row) {
    const std::string number = with_commas(slots.regions[first].first);
    text += std::string(label - std::min(label, number.size()), ' ') + number + "  ";
    painter row;
    const std::size_t end = std::min(first + grid.cells_in_row, slots.regions.size());
    for (std::size_t i = first; i < end; ++i)
      row.put(cell_of(share_of(slots.regions[i]), mark_of(slots.regions[i]), style));
    text += row.take() + "\n";
  }
  return text;
}

std::string picture_legend(const survey& slots, const picture_style& style) {
  const auto entry = [&](double share, mark m, const char* meaning) {
    painter one;
    one.put(cell_of(share, m, style));
    return one.take() + " " + meaning;
  };
  std::string text;
  for (std::size_t level = 0; level < levels; ++level)
    text += (level == 0 ? "" : "  ") + entry(examples[level], mark::none, meanings[level]);
  for (const mark m : {mark::reserved, mark::retired, mark::cached, mark::impossible, mark::unreadable})
    if (marked(slots.total, m) != 0) text += "  " + entry(0, m, style_of(m).meaning);
  return text + "\n";
}

std::string picture_svg(const survey& slots, std::size_t cells_in_row, std::string_view title) {
  constexpr std::size_t cell = 12, gap = 1, margin = 16, top = 62, font = 12;
  cells_in_row = std::max<std::size_t>(std::min(cells_in_row, slots.regions.size()), 1);
  const std::size_t label = 8 * label_columns(slots.total.slots) + 8;
  const std::size_t rows = (slots.regions.size() + cells_in_row - 1) / cells_in_row;
  const std::size_t width = std::max<std::size_t>(2 * margin + label + cells_in_row * (cell + gap), 680);
  const std::size_t height = top + rows * (cell + gap) + margin;
  const auto number = [](std::size_t n) { return std::to_string(n); };
  const auto words = [&](std::size_t x, std::size_t y, const std::string& content, const char* more = "") {
    return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\"" + more + ">" + xml(content) + "</text>\n";
  };
  const auto square = [&](std::size_t x, std::size_t y, double share, const std::string& tooltip) {
    return "<rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" + number(cell) + "\" height=\"" +
           number(cell) + "\" fill=\"" + svg_fill(share) + "\"" +
           (tooltip.empty() ? "/>\n" : "><title>" + xml(tooltip) + "</title></rect>\n");
  };
  // A mark is a smaller square within, so that the shade around it can be seen.
  const auto inner = [&](std::size_t x, std::size_t y, const char* fill) {
    return "<rect x=\"" + number(x + 3) + "\" y=\"" + number(y + 3) + "\" width=\"6\" height=\"6\" fill=\"" + fill +
           "\" pointer-events=\"none\"/>\n";
  };
  std::string svg = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" +
                    number(width) + "\" height=\"" + number(height) + "\" viewBox=\"0 0 " + number(width) + " " +
                    number(height) + "\" font-family=\"monospace\" font-size=\"" + number(font) + "\">\n";
  svg += "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n";
  svg += words(margin, 22, std::string(title));
  std::size_t x = margin;
  const auto legend = [&](double share, const char* inside, const char* meaning) {
    svg += square(x, 34, share, "");
    if (inside != nullptr) svg += inner(x, 34, inside);
    svg += words(x + cell + 4, 44, meaning);
    x += cell + 16 + 7 * std::string_view(meaning).size();
  };
  for (std::size_t level = 0; level < levels; ++level) legend(examples[level], nullptr, meanings[level]);
  for (const mark m : {mark::reserved, mark::retired, mark::cached, mark::impossible, mark::unreadable})
    if (marked(slots.total, m) != 0) legend(0, style_of(m).svg, style_of(m).meaning);
  for (std::size_t i = 0; i < slots.regions.size(); ++i) {
    const slot_region& region = slots.regions[i];
    const std::size_t row_y = top + i / cells_in_row * (cell + gap);
    if (i % cells_in_row == 0)
      svg += words(margin + label - 8, row_y + 10, with_commas(region.first), " text-anchor=\"end\"");
    const std::size_t cell_x = margin + label + i % cells_in_row * (cell + gap);
    svg += square(cell_x, row_y, share_of(region), described(region));
    if (const mark m = mark_of(region); m != mark::none) svg += inner(cell_x, row_y, style_of(m).svg);
  }
  return svg + "</svg>\n";
}

std::string bar_text(double share, std::size_t columns, bool unicode) {
  constexpr std::array<const char*, 8> eighths{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (!(share > 0)) return {};  // and NaN
  const double length = std::min(share, 1.0) * static_cast<double>(columns);
  std::string text;
  if (unicode) {
    const auto parts = std::max<std::size_t>(static_cast<std::size_t>(std::lround(length * 8)), 1);
    for (std::size_t i = 0; i < parts / 8; ++i) text += "█";
    return text + eighths[parts % 8];
  }
  return std::string(std::max<std::size_t>(static_cast<std::size_t>(std::lround(length)), 1), '#');
}

std::string described(const slot_region& region) {
  std::string text = region.slots == 1 ? "slot " + with_commas(region.first)
                                       : "slots " + with_commas(region.first) + " to " +
                                             with_commas(region.first + std::max<std::uint64_t>(region.slots, 1) - 1);
  const char* before = ": ";
  const auto add = [&](std::uint64_t count, const char* what) {
    if (count == 0) return;
    text += before + (region.slots == 1 ? std::string() : with_commas(count) + " ") + what;
    before = ", ";
  };
  add(region.occupied, "occupied");
  add(held(region), "reserved");
  add(region.cached, "kept ready");
  add(region.vacant, "vacant");
  add(region.retired, "retired");
  add(region.impossible, "impossible");
  add(region.unreadable, "unreadable");
  return text;
}

}  // namespace dm::inspect
