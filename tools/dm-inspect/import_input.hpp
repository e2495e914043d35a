// The text that `import` reads: JSON lines, one JSON document, or comma-separated values, taken apart into records as they
// come, so that an export of any length takes constant memory.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "output.hpp"

namespace tool {

/// A file of text, read one character at a time, that knows in which line it is.
class text_input {
 public:
  /// "-" is the standard input. Errors: dm::error.
  explicit text_input(const std::filesystem::path& path);

  int next();  ///< -1 at the end. Errors: dm::error where reading fails.
  int peek();
  /// Up to the next line end, without it; nothing at the end of the file.
  std::optional<std::string> line();
  std::uint64_t line_number() const noexcept { return line_; }  ///< of the character that `next` gives next, from 1
  std::uint64_t bytes_read() const noexcept { return bytes_read_; }
  /// To be read again. Requires: it is what was read last.
  void unread(const std::string& text, std::uint64_t line_number);

 private:
  bool fill();

  struct closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, closer> file_;
  std::string buffer_;
  std::size_t at_ = 0;
  std::uint64_t line_ = 1;
  std::uint64_t bytes_read_ = 0;
};

/// One cell of a table, or nothing, which is not an empty text.
using csv_row = std::vector<std::optional<std::string>>;

/// Who is given what was read. Errors: whatever these throw is given back with the number of the line.
struct import_receiver {
  std::function<void(const json&)> head;
  std::function<void(const json&)> record;
  std::function<void(const json&)> end;  ///< the line of JSON lines that says so, or what stands around the list
  std::function<void(const csv_row&)> columns;
  std::function<void(const csv_row&)> row;
};

/// Reads all of it. Errors: std::runtime_error "line N: what is wrong".
void read_import(text_input& input, const import_receiver& receiver);

}  // namespace tool
