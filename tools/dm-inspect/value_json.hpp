// A value as JSON, from its bytes and its schema.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "deferred_map/inspect/leaves.hpp"
#include "output.hpp"

namespace tool {

/// How values are shown.
struct value_style {
  bool redact = false;  ///< the type and size of each part in place of what it holds; keys stay, which are structure
  /// So that `value_from_json` gives the same bits: NaNs other than the usual one as "NaN:0x7ff0000000000001", text that is
  /// not UTF-8 as {"bytes": "0x..."}.
  bool exact = false;
};

/// Structures become objects (a second member of one name is "name#2"), arrays lists, integers of any width
/// exact numbers, floating-point numbers the shortest that read back the same, or "NaN", "Infinity",
/// "-Infinity"; keys "index:generation", null, or "0x..." for bits that are no key's; enumerations their
/// name, or the number of one without; a bool that is neither 0 nor 1 its number; bytes "0x..."; text a
/// string (`text_json`). What `bytes` are too few for is null.
json value_json(const dm::schema& schema, std::span<const std::byte> bytes, value_style style = {});

/// Text as it is where it is UTF-8; else every byte that is not, as \xNN, and every backslash as two.
std::string text_json(std::string_view text);

/// Whether all of it is UTF-8.
bool is_utf8(std::string_view text);

/// One leaf as a cell of a table: as in JSON, without the quotes; in text every backslash is two, and bytes that are not
/// UTF-8, and control characters, are \xNN. Empty where the value ends before it.
std::string leaf_cell(const dm::inspect::leaf& part, std::span<const std::byte> value, value_style style = {});

/// "u32", "text(16)", "bytes(20)": what stands for a value that is not shown.
std::string redacted_leaf(const dm::schema_field& field);

/// On one line, ASCII alone.
std::string dumped(const json& value);

}  // namespace tool
