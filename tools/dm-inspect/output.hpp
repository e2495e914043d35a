// How dm-inspect prints: text for people, JSON for programs.
//
// JSON output begins with "schema_version", the version of the output's own form: it goes up when a name
// changes its meaning or goes away, not when one is added. Records (slots, keys, findings) go through a
// `record_writer`, one at a time, so that a further form of records is one more of those and a scan of any
// length takes constant memory.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "deferred_map/inspect.hpp"

namespace tool {

using json = nlohmann::ordered_json;

inline constexpr int output_schema_version = 1;

enum class output_format { table, json, ndjson, csv };

/// A value that goes with a record: its bytes, and the schema that says what they are.
struct stored_value {
  const dm::schema& schema;
  std::span<const std::byte> bytes;
};

/// "schema_version", "verb" and "file": what every JSON output begins with; of a durable arena "commit", which is shown.
json json_head(std::string_view verb, const dm::inspect::arena_file& arena);

/// Prints a whole JSON document, safe for terminals: nothing but ASCII.
void print_json(const json& document);

/// Prints `head` with a list of records in it, as they come, and `tail` behind them.
class record_writer {
 public:
  virtual ~record_writer() = default;
  virtual void begin(const json& head, std::string_view list_name) = 0;
  virtual void record(const json& record) = 0;
  /// A record with a value: in JSON its member "value", in a table the columns of its fields.
  virtual void record(const json& record, const stored_value& value) = 0;
  virtual void end(const json& tail) = 0;
};
/// One JSON object, a line for each record. Other forms: records.hpp.
std::unique_ptr<record_writer> json_records();

/// "Name         text", the text wrapped and indented where it is long.
void print_field(std::string_view name, std::string_view text);

/// Columns of the terminal; 0 where the output is none.
std::size_t terminal_columns();
/// `text`, cut to so many columns with an ellipsis at the end; 0 columns are any number. Never within a code point.
std::string cut_to(std::string_view text, std::size_t columns);

std::string with_commas(std::uint64_t number);                    ///< 1,234,567
std::string bytes_text(std::uint64_t bytes);                      ///< "1,048,576 bytes (1.0 MiB)"
std::string counted(std::uint64_t count, std::string_view noun);  ///< "1 slot", "2 slots"
std::string time_text(std::int64_t unix_ns);                      ///< "2025-01-31 12:00:00 UTC"
std::string time_json(std::int64_t unix_ns);                      ///< "2025-01-31T12:00:00.123456789Z"
std::string hex_text(std::span<const std::byte> bytes);           ///< "0x00ff"
std::string hex_text(std::uint64_t bits);                         ///< "0x" and 16 digits

/// Prints "dm-inspect: " and one line to stderr. Of what begins with "note: ", nothing after `keep_notes_back`.
void complain(std::string_view text);
void keep_notes_back();

/// Sends what is still buffered. Returns whether all of the output was written.
bool finish_output();

}  // namespace tool
