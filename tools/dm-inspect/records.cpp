#include "records.hpp"

#include <fmt/format.h>

#include "exit_codes.hpp"

namespace tool {
namespace {

/// Both forms of JSON: a record is an object, its value a member of it.
class json_writer : public record_writer {
 public:
  explicit json_writer(value_style style) noexcept : style_(style) {}
  using record_writer::record;
  void record(const json& record, const stored_value& value) override {
    json whole = record;
    whole["value"] = value_json(value.schema, value.bytes, style_);
    this->record(whole);
  }

 private:
  value_style style_;
};

class json_document_writer final : public json_writer {
 public:
  using json_writer::json_writer;
  using json_writer::record;
  void begin(const json& head, std::string_view list_name) override {
    std::string text = dumped(head);
    text.back() = ',';
    fmt::print("{}{}:[", text, dumped(json(std::string(list_name))));
  }
  void record(const json& record) override {
    fmt::print("{}\n{}", first_ ? "" : ",", dumped(record));
    first_ = false;
  }
  void end(const json& tail) override {
    const std::string text = dumped(tail);
    // "{}" has nothing to follow the list with.
    fmt::print("\n]{}{}\n", tail.empty() ? "" : ",", std::string_view(text).substr(1));
  }

 private:
  bool first_ = true;
};

class json_lines_writer final : public json_writer {
 public:
  using json_writer::json_writer;
  using json_writer::record;
  void begin(const json& head, std::string_view) override { fmt::print("{}\n", dumped(head)); }
  void record(const json& record) override { fmt::print("{}\n", dumped(record)); }
  void end(const json& tail) override {
    json last = {{"end", true}};  // whoever finds none knows that something is missing
    last.update(tail);
    fmt::print("{}\n", dumped(last));
  }
};

class csv_writer final : public record_writer {
 public:
  explicit csv_writer(record_options options) : options_(std::move(options)) {}

  void begin(const json&, std::string_view) override {
    for (const std::string& column : options_.columns) cell(column);
    if (options_.value_schema != nullptr) {
      // A schema may put a name of a megabyte before each byte of a value.
      constexpr std::size_t header_bytes_max = std::size_t{16} << 20;
      const bool all = dm::inspect::for_each_leaf(*options_.value_schema, [&](const dm::inspect::leaf& leaf) {
        cell(text_json(leaf.path));
        ++leaves_;
        return line_.size() <= header_bytes_max;
      });
      if (!all) throw usage_error("these values have too many parts for a table; use --format ndjson");
    }
    finish_line();
  }
  void record(const json& record) override {
    members(record);
    for (std::size_t i = 0; i < leaves_; ++i) blank();
    finish_line();
  }
  void record(const json& record, const stored_value& value) override {
    members(record);
    dm::inspect::for_each_leaf(value.schema, [&](const dm::inspect::leaf& leaf) {
      if (leaf.offset + leaf.size_bytes > value.bytes.size())
        blank();
      else
        cell(leaf_cell(leaf, value.bytes, options_.style));
      if (line_.size() > std::size_t{1} << 16) flush();
      return true;
    });
    finish_line();
  }
  void end(const json&) override {}

 private:
  void members(const json& record) {
    for (const std::string& column : options_.columns) {
      const auto found = record.find(column);
      if (found == record.end() || found->is_null())
        blank();
      else
        cell(found->is_string() ? found->get<std::string>() : dumped(*found));
    }
  }
  void blank() {
    if (!first_) line_ += ',';
    first_ = false;
  }
  void cell(const std::string& text) {
    blank();
    line_ += csv_cell(text);
  }
  void flush() {
    fmt::print("{}", line_);
    line_.clear();
  }
  void finish_line() {
    line_ += '\n';
    flush();
    first_ = true;
  }

  record_options options_;
  std::size_t leaves_ = 0;
  std::string line_;
  bool first_ = true;
};

}  // namespace

std::string csv_cell(const std::string& text) {
  // An empty text is not the same as none.
  if (!text.empty() && text.find_first_of(",\"\r\n") == std::string::npos && text.front() != ' ' && text.back() != ' ')
    return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::unique_ptr<record_writer> records(output_format format, record_options options) {
  if (format == output_format::csv) return std::make_unique<csv_writer>(std::move(options));
  if (format == output_format::ndjson) return std::make_unique<json_lines_writer>(options.style);
  return std::make_unique<json_document_writer>(options.style);
}

std::unique_ptr<record_writer> json_records() { return records(output_format::json, {}); }

}  // namespace tool
