// What the terminal can show, and what the user wants to be shown: colours, Unicode, room.
#pragma once

#include <cstddef>

#include "deferred_map/inspect/picture.hpp"

namespace tool {

/// Whether standard output is a terminal that knows control sequences, as TERM has it.
bool can_place_cursor();

enum class colour_wish { automatic, always, never };

/// Whether to colour what goes to standard output, and how. By itself: on terminals that can, unless NO_COLOR is set.
dm::inspect::palette colours(colour_wish wish);

/// Whether the locale that the environment names has UTF-8. Asked of its name, so that it need not be installed.
bool is_utf8_locale();

/// Rows of the terminal; 0 where the output is none.
std::size_t terminal_rows();

}  // namespace tool
