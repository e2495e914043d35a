// A schema as JSON, and back.
#pragma once

#include <string>

#include "output.hpp"

namespace tool {

/// What a schema's JSON says: all that is needed to make an arena of the type.
struct described_type {
  dm::schema schema;
  std::uint32_t value_size_bytes = 0;
  std::uint32_t value_align_bytes = 0;
};

/// One field. Those without a name, which positions stand for, are said to be "unnamed".
json field_json(const dm::schema_field& field, std::size_t position);

/// Adds "type", "type_version", "value_size_bytes" and "value_align_bytes" to the head of a document.
void add_type(json& head, const dm::schema& schema, const dm::arena_header& layout);

/// All fields, in preorder.
json fields_json(const dm::schema& schema);

/// What `add_type` and "fields" say in `document`. Errors: std::runtime_error with the reason.
described_type type_from_json(const json& document);

}  // namespace tool
