// Pictures of an arena's slots: as rows of characters for terminals, as SVG for everything else.
//
// A picture is made of the regions of a survey: each is a cell, its shade the share of slots that have a value. Marks stand
// for what is rare and what people look for: slots that wait for their value, retired ones, faults.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "deferred_map/inspect/survey.hpp"

namespace dm::inspect {

/// What a terminal can show: no colours, the 16 that all have, 256, or 24 bits of them.
enum class palette : std::uint8_t { none, sixteen, many, all };

struct picture_style {
  palette colours = palette::none;
  bool unicode = false;  ///< else ASCII alone
};

/// How many cells there are room for.
struct picture_grid {
  std::size_t cells_in_row = 1;
  std::size_t rows = 1;

  std::size_t cells() const noexcept { return cells_in_row * rows; }
};

/// Room in lines of `columns` characters, which begin with the number of a slot below `slots`. At least one cell.
picture_grid grid_for(std::uint64_t slots, std::size_t columns, std::size_t rows) noexcept;

/// Rows of cells, with the number of each row's first slot before it. Ends with a line end, where there are slots.
std::string picture_text(const survey& slots, const picture_grid& grid, const picture_style& style);
/// What the cells mean: one line for what `slots` has.
std::string picture_legend(const survey& slots, const picture_style& style);

/// A whole SVG document of `slots`, in rows of `cells_in_row`, with a title, a legend, and on each cell what is in it as a
/// tooltip. `title` is plain text.
std::string picture_svg(const survey& slots, std::size_t cells_in_row, std::string_view title);

/// A bar that is `share` (0 to 1) of so many columns long. What is more than nothing is never shown as nothing.
std::string bar_text(double share, std::size_t columns, bool unicode);

/// What is in a region, in words: "slots 0 to 63: 50 occupied, 14 vacant".
std::string described(const slot_region& region);

}  // namespace dm::inspect
