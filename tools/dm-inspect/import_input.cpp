#include "import_input.hpp"

#include <cerrno>
#include <iterator>
#include <stdexcept>

#include "deferred_map/error.hpp"

namespace tool {
namespace {

constexpr std::size_t buffer_bytes = std::size_t{64} << 10;
// Longer than any record of a value that fits into an arena would reasonably be; where a file of zeros ends.
constexpr std::size_t line_bytes_max = std::size_t{4} << 30;

[[noreturn]] void refuse(std::uint64_t line, const std::string& reason) {
  throw std::runtime_error("line " + std::to_string(line) + ": " + reason);
}

std::string reason_of(const json::exception& e) {
  const std::string text = e.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
  const std::size_t end = text.find("] ");
  std::string reason = end == std::string::npos ? text : text.substr(end + 2);
  const std::string place = "parse error at ";
  if (reason.starts_with(place) && reason.find(": ") != std::string::npos)
    reason = reason.substr(reason.find(": ") + 2);
  return "this JSON cannot be read: " + reason;
}

/// Gives whatever `call` throws the number of the line.
template <class Call>
void at_line(std::uint64_t line, Call call) {
  try {
    call();
  } catch (const dm::error& e) {
    // Room and disks are not the input's fault; what the builder refuses is.
    if (e.code() != dm::errc::bad_options) throw;
    refuse(line, e.what());
  } catch (const std::runtime_error& e) {
    refuse(line, e.what());
  } catch (const json::exception& e) {  // a member of a kind that it cannot be
    refuse(line, reason_of(e));
  }
}

/// What nlohmann's parser reads by.
class character_iterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  character_iterator() = default;
  explicit character_iterator(text_input& input) : input_(&input) { ++*this; }
  const char& operator*() const noexcept { return current_; }
  character_iterator& operator++() {
    const int next = input_->next();
    if (next < 0)
      input_ = nullptr;
    else
      current_ = static_cast<char>(next);
    return *this;
  }
  character_iterator operator++(int) {
    character_iterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const character_iterator& a, const character_iterator& b) noexcept {
    return a.input_ == b.input_;
  }

 private:
  text_input* input_ = nullptr;
  char current_ = 0;
};

void read_lines(text_input& input, const json& first, const import_receiver& receiver) {
  bool has_head = false;
  bool has_end = false;
  std::uint64_t number = 1;
  const auto one = [&](const json& record) {
    if (has_end) refuse(number, "there is more after the line that says \"end\"");
    if (!record.is_object()) refuse(number, "a record is an object, and this is none");
    if (number == 1 && record.contains("export_version")) {
      has_head = true;
      return receiver.head(record);
    }
    if (record.contains("end")) {
      has_end = true;
      return receiver.end(record);
    }
    receiver.record(record);
  };
  at_line(number, [&] { one(first); });
  for (;;) {
    number = input.line_number();
    const auto line = input.line();
    if (!line) break;
    if (line->find_first_not_of(" \t\r") == std::string::npos) continue;
    json record;
    try {
      record = json::parse(*line);
    } catch (const json::exception& e) {
      refuse(number, reason_of(e));
    }
    at_line(number, [&] { one(record); });
  }
  // A record that a person wrote needs neither; an export that has a beginning has an end.
  if (has_head && !has_end)
    refuse(number, "the export ends here without the line that says \"end\": a part of it is missing");
}

void read_document(text_input& input, const import_receiver& receiver) {
  json head = json::object();
  std::string name;
  bool has_records = false;
  const auto callback = [&](int depth, json::parse_event_t event, json& parsed) {
    using happened = json::parse_event_t;
    if (event == happened::key && depth == 1) name = parsed.get<std::string>();
    if (event == happened::array_start && depth == 1 && name == "records") {
      has_records = true;
      at_line(input.line_number(), [&] { receiver.head(head); });
    }
    const bool is_record = depth == 2 && name == "records";
    if (is_record && event == happened::object_end) {
      at_line(input.line_number(), [&] { receiver.record(parsed); });
      return false;  // done with it, and not to be kept
    }
    if (is_record && (event == happened::value || event == happened::array_end))
      refuse(input.line_number(), "a record is an object, and this is none");
    if (depth == 1 && (event == happened::value || event == happened::array_end || event == happened::object_end) &&
        name != "records")
      head[name] = parsed;
    return true;
  };
  try {
    [[maybe_unused]] const json rest = json::parse(character_iterator(input), character_iterator(), callback);
  } catch (const json::exception& e) {
    refuse(input.line_number(), reason_of(e));
  }
  if (!has_records) refuse(input.line_number(), "there is no list \"records\" in this document");
  at_line(input.line_number(), [&] { receiver.end(head); });
}

/// The next row of RFC 4180, or nothing.
std::optional<csv_row> next_row(text_input& input) {
  if (input.peek() < 0) return std::nullopt;
  const std::uint64_t began = input.line_number();
  csv_row row;
  for (;;) {
    std::string cell;
    const bool is_quoted = input.peek() == '"';
    if (is_quoted) {
      input.next();
      for (;;) {
        const int c = input.next();
        if (c < 0) refuse(began, "a quotation mark is never closed");
        if (c == '"' && input.peek() != '"') break;
        if (c == '"') input.next();
        cell += static_cast<char>(c);
      }
    } else {
      while (input.peek() >= 0 && input.peek() != ',' && input.peek() != '\n' && input.peek() != '\r')
        cell += static_cast<char>(input.next());
    }
    row.push_back(is_quoted || !cell.empty() ? std::optional(std::move(cell)) : std::nullopt);
    int after = input.next();
    if (after == ',') continue;
    if (after == '\r') after = input.next();
    if (after == '\n' || after < 0) return row;
    refuse(began, "there is text behind a closing quotation mark");
  }
}

void read_table(text_input& input, const import_receiver& receiver) {
  const auto columns = next_row(input);
  at_line(1, [&] { receiver.columns(columns.value_or(csv_row())); });
  for (;;) {
    const std::uint64_t began = input.line_number();
    const auto row = next_row(input);
    if (!row) break;
    if (row->size() == 1 && !row->front()) continue;  // an empty line
    at_line(began, [&] { receiver.row(*row); });
  }
  at_line(input.line_number(), [&] { receiver.end(json()); });
}

}  // namespace

text_input::text_input(const std::filesystem::path& path)
    : path_(path), file_(std::fopen(path == "-" ? "/dev/stdin" : path.c_str(), "rbe")) {
  if (file_) return;
  const int code = errno;
  throw dm::error(
      code == ENOENT ? dm::make_error_code(dm::errc::not_found) : std::error_code(code, std::generic_category()), path,
      "opening it for reading failed: " + std::generic_category().message(code));
}

bool text_input::fill() {
  if (at_ < buffer_.size()) return true;
  buffer_.resize(buffer_bytes);
  at_ = 0;
  const std::size_t got = std::fread(buffer_.data(), 1, buffer_bytes, file_.get());
  const int code = errno;
  buffer_.resize(got);
  bytes_read_ += got;
  if (got == 0 && std::ferror(file_.get()) != 0)
    throw dm::error(std::error_code(code, std::generic_category()), path_,
                    "reading it failed: " + std::generic_category().message(code));
  return got != 0;
}

int text_input::peek() { return fill() ? static_cast<unsigned char>(buffer_[at_]) : -1; }

int text_input::next() {
  const int c = peek();
  if (c >= 0) ++at_;
  line_ += c == '\n';
  return c;
}

std::optional<std::string> text_input::line() {
  if (peek() < 0) return std::nullopt;
  std::string text;
  while (fill()) {
    const std::size_t end = buffer_.find('\n', at_);
    const std::size_t until = end == std::string::npos ? buffer_.size() : end;
    text.append(buffer_, at_, until - at_);
    at_ = until;
    if (text.size() > line_bytes_max) refuse(line_, "this line is longer than any record");
    if (end == std::string::npos) continue;
    next();
    break;
  }
  return text;
}

void text_input::unread(const std::string& text, std::uint64_t line_number) {
  buffer_ = text + buffer_.substr(at_);
  at_ = 0;
  line_ = line_number;
}

void read_import(text_input& input, const import_receiver& receiver) {
  if (input.peek() == 0xef) {  // the mark that some editors put before UTF-8
    input.next(), input.next(), input.next();
  }
  while (input.peek() == '\n' || input.peek() == ' ' || input.peek() == '\r') input.next();
  if (input.peek() < 0) refuse(1, "there is nothing to import: the file is empty");
  if (input.peek() != '{') return read_table(input, receiver);
  const std::uint64_t number = input.line_number();
  const std::string first = input.line().value_or("");
  const json parsed = json::parse(first, nullptr, false);
  // A first line that is a whole object is one of many, unless it is all there is.
  if (!parsed.is_discarded() && !parsed.contains("records")) return read_lines(input, parsed, receiver);
  input.unread(first + "\n", number);
  read_document(input, receiver);
}

}  // namespace tool
