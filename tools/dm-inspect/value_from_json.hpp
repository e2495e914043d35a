// The bytes of a value from its JSON, or from the cells of a table. The other side of value_json.hpp, in its exact style.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "output.hpp"
#include "value_json.hpp"

namespace tool {

/// Fills `value`, which must be zeros of the value's size. Errors: std::runtime_error that names the field and says what is
/// wrong with it: missing, unknown, of the wrong kind, out of range.
void value_from_json(const dm::schema& schema, const json& from, std::vector<std::byte>& value);

/// Stores one leaf, from the text of a table's cell as `leaf_cell` gives it. Errors: as above.
void leaf_from_cell(const dm::schema_field& field, std::uint64_t offset, std::uint64_t size_bytes,
                    const std::string& path, const std::string& cell, std::vector<std::byte>& value);

/// The bytes of "0x00ff", or nothing.
std::optional<std::vector<std::byte>> bytes_from_hex(std::string_view text);

}  // namespace tool
