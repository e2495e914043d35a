// A value as JSON, from its bytes and its schema.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "output.hpp"

namespace tool {

/// Structures become objects (a second member of one name is "name#2"), arrays lists, integers of any width
/// exact numbers, floating-point numbers the shortest that read back the same, or "NaN", "Infinity",
/// "-Infinity"; keys "index:generation", null, or "0x..." for bits that are no key's; enumerations their
/// name, or the number of one without; a bool that is neither 0 nor 1 its number; bytes "0x..."; text a
/// string (`text_json`). What `bytes` are too few for is null.
json value_json(const dm::schema& schema, std::span<const std::byte> bytes);

/// Text as it is where it is UTF-8; else every byte that is not, as \xNN, and every backslash as two.
std::string text_json(std::string_view text);

}  // namespace tool
