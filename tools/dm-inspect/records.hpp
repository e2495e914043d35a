// Records in every form there is: JSON, JSON lines, comma-separated values.
//
//   json     one object: what the verb says of the whole, and in it the list of records, a line for each
//   ndjson   a line for what the verb says first, a line for each record, a line {"end": true, ...} for what it says last
//   csv      RFC 4180: a line of column names, a line for each record; of a value a column for each leaf, "a.b", "a[0]"
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "output.hpp"
#include "value_json.hpp"

namespace tool {

struct record_options {
  value_style style = {};
  /// Of a CSV table: the members of records that become columns, then the leaves of `value_schema` where there is one.
  std::vector<std::string> columns = {};
  const dm::schema* value_schema = nullptr;
};

/// Requires: `format` is not `table`. Errors: usage_error where a value has more leaves than a table can have columns.
std::unique_ptr<record_writer> records(output_format format, record_options options);

/// One cell of a CSV line: quoted where it must be.
std::string csv_cell(const std::string& text);

}  // namespace tool
