#include "output.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "deferred_map/format/value_text.hpp"

namespace tool {
namespace {

constexpr std::size_t field_name_columns = 18;
constexpr std::size_t page_columns = 96;

bool notes_kept_back = false;

std::tm calendar(std::int64_t unix_ns, std::int64_t& ns) {
  constexpr std::int64_t second = 1'000'000'000;
  std::int64_t seconds = unix_ns / second;
  ns = unix_ns % second;
  if (ns < 0) {
    ns += second;
    --seconds;
  }
  const auto time = static_cast<std::time_t>(seconds);
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  return parts;
}

}  // namespace

json json_head(std::string_view verb, const dm::inspect::arena_file& arena) {
  json head = {{"schema_version", output_schema_version}, {"verb", verb}, {"file", arena.path().string()}};
  // Of which commit what follows is: where a log of later ones goes on.
  if (const auto& journal = arena.journal(); journal && journal->shown_commit != 0)
    head["commit"] = journal->shown_commit;
  return head;
}

void print_json(const json& document) {
  fmt::print("{}\n", document.dump(2, ' ', true, json::error_handler_t::replace));
}

void print_field(std::string_view name, std::string_view text) {
  constexpr std::size_t room = page_columns - field_name_columns;
  do {
    std::size_t length = text.size();
    if (length > room) {
      const std::size_t space = text.rfind(' ', room);
      // A word longer than the line (a path, mostly) is left whole, to be copied.
      length = space != std::string_view::npos && space != 0 ? space : std::min(text.find(' '), text.size());
    }
    fmt::print("{:<{}}{}\n", name, field_name_columns, text.substr(0, length));
    text.remove_prefix(std::min(length + 1, text.size()));
    name = "";
  } while (!text.empty());
}

std::size_t terminal_columns() {
  winsize size{};
  if (::isatty(STDOUT_FILENO) == 0) return 0;
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

std::string cut_to(std::string_view text, std::size_t columns) {
  const auto starts_code_point = [](char c) { return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u; };
  if (columns == 0) return std::string(text);
  std::size_t column = 0;
  std::size_t last_start = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!starts_code_point(text[i])) continue;
    if (column == columns) return std::string(text.substr(0, last_start)) + "…";
    ++column;
    last_start = i;
  }
  return std::string(text);
}

std::string with_commas(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3; text.insert(at, 1, ',')) at -= 3;
  return text;
}

std::string bytes_text(std::uint64_t bytes) {
  constexpr const char* units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  const std::string exact = with_commas(bytes) + (bytes == 1 ? " byte" : " bytes");
  if (bytes < 1024) return exact;
  double scaled = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; scaled >= 1024 && unit + 1 < std::size(units); ++unit) scaled /= 1024;
  return fmt::format("{} ({:.1f} {})", exact, scaled, units[unit]);
}

std::string counted(std::uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", with_commas(count), noun, count == 1 ? "" : "s");
}

std::string time_text(std::int64_t unix_ns) {
  std::int64_t ns = 0;
  const std::tm at = calendar(unix_ns, ns);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC", at.tm_year + 1900, at.tm_mon + 1, at.tm_mday,
                     at.tm_hour, at.tm_min, at.tm_sec);
}

std::string time_json(std::int64_t unix_ns) {
  std::int64_t ns = 0;
  const std::tm at = calendar(unix_ns, ns);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", at.tm_year + 1900, at.tm_mon + 1, at.tm_mday,
                     at.tm_hour, at.tm_min, at.tm_sec, ns);
}

std::string hex_text(std::span<const std::byte> bytes) {
  std::string text = "0x";
  text.reserve(2 + 2 * bytes.size());
  for (const std::byte byte : bytes)
    fmt::format_to(std::back_inserter(text), "{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

std::string hex_text(std::uint64_t bits) { return fmt::format("{:#018x}", bits); }

void keep_notes_back() { notes_kept_back = true; }

void complain(std::string_view text) {
  if (notes_kept_back && text.starts_with("note: ")) return;
  // Best effort: where stderr is gone there is nobody to tell.
  const std::string line = fmt::format("dm-inspect: {}\n", text);
  static_cast<void>(std::fwrite(line.data(), 1, line.size(), stderr));
}

bool finish_output() { return std::fflush(stdout) == 0 && std::ferror(stdout) == 0; }

}  // namespace tool
