#include "dpkg_status.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <stdexcept>
#include <utility>

namespace package_graph {
namespace {

constexpr std::string_view blanks = " \t\r\n";

struct malformed : std::runtime_error {
  malformed(const char* place, const std::string& message) : std::runtime_error(message), where(place) {}
  const char* where;  // into the text
};

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(blanks);
  if (first == text.npos) return text.substr(text.size());
  return text.substr(first, text.find_last_not_of(blanks) + 1 - first);
}

bool same_but_for_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

/// For messages: input can be long, and must not steer the reader's terminal.
std::string quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text.substr(0, 40)) result += c >= ' ' && c != 127 ? c : '?';
  return result + (text.size() > 40 ? "...'" : "'");
}

bool is_name_character(char c) {
  return c > ' ' && c < 127 && std::string_view(":,|()[]<>$").find(c) == std::string_view::npos;
}
bool is_version_character(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view(".+~:-").find(c) != std::string_view::npos;
}

/// Takes a dependency field apart from front to back. A field may be folded: a line end is a blank like any other.
class dependency_reader {
 public:
  dependency_reader(std::string_view field, std::string_view architecture)
      : rest_(field), architecture_(architecture) {}

  /// Appends the alternatives of all dependencies; positions go on from `position`.
  void read(dependency_kind kind, std::size_t& position, std::vector<parsed_dependency>& out) {
    while (skip_blanks(), !rest_.empty()) {
      std::size_t alternative = 0;
      do {
        if (std::optional<parsed_dependency> one = read_one()) {
          one->kind = kind;
          one->position = small(position, "dependencies");
          one->alternative = small(alternative++, "alternatives");
          out.push_back(*one);
        }
      } while (take('|'));
      if (alternative != 0) ++position;
      if (!rest_.empty() && !take(',')) fail("expected ',' or '|' before " + quoted(rest_));
    }
  }

 private:
  [[noreturn]] void fail(const std::string& message) const { throw malformed(rest_.data(), message); }

  std::uint16_t small(std::size_t number, const char* what) const {
    if (number > std::numeric_limits<std::uint16_t>::max()) fail(std::string("more than 65536 ") + what);
    return static_cast<std::uint16_t>(number);
  }

  void skip_blanks() { rest_.remove_prefix(std::min(rest_.find_first_not_of(blanks), rest_.size())); }

  bool take(char c) {
    skip_blanks();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }

  template <class Predicate>
  std::string_view take_while(Predicate belongs) {
    const auto end = std::find_if_not(rest_.begin(), rest_.end(), belongs);
    const std::string_view taken = rest_.substr(0, static_cast<std::size_t>(end - rest_.begin()));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  /// `name:architecture (>= version) [architectures] <profiles>`; nothing if it is not meant for this architecture.
  std::optional<parsed_dependency> read_one() {
    parsed_dependency result;
    skip_blanks();
    result.name = take_while(is_name_character);
    if (result.name.empty()) {
      fail(rest_.empty() ? "a package name is missing at the end of the field"
                         : "expected a package name before " + quoted(rest_));
    }
    if (!rest_.empty() && rest_.front() == ':') {
      rest_.remove_prefix(1);
      result.architecture = take_while(is_name_character);
      if (result.architecture.empty()) fail("expected an architecture after ':'");
    }
    if (take('(')) {
      result.relation = read_relation();
      skip_blanks();
      result.version = take_while(is_version_character);
      if (result.version.empty()) fail("expected a version before " + quoted(rest_));
      if (!take(')')) fail("expected ')' before " + quoted(rest_));
    }
    bool meant = true;
    if (take('[')) meant = read_architectures();
    while (take('<')) {  // build profiles: not for installed packages; read, and of no consequence
      take_while([](char c) { return c != '>'; });
      if (!take('>')) fail("'<' without '>'");
    }
    return meant ? std::optional(result) : std::nullopt;
  }

  version_relation read_relation() {
    skip_blanks();
    const std::string_view sign = take_while([](char c) { return c == '<' || c == '=' || c == '>'; });
    if (sign == "<<") return version_relation::earlier;
    if (sign == "<=" || sign == "<") return version_relation::earlier_or_equal;  // what dpkg takes '<' for
    if (sign == "=") return version_relation::equal;
    if (sign == ">=" || sign == ">") return version_relation::later_or_equal;
    if (sign == ">>") return version_relation::later;
    fail(sign.empty() ? "expected one of << <= = >= >> before " + quoted(rest_)
                      : quoted(sign) + " is none of << <= = >= >>");
  }

  /// `amd64 i386` or `!amd64 !i386`: whether this package's architecture is among them.
  bool read_architectures() {
    bool named = false;
    bool negative = false;
    while (!take(']')) {
      if (take('!')) negative = true;
      const std::string_view name = take_while(is_name_character);
      if (name.empty()) fail("expected an architecture or ']'");
      named = named || name == architecture_ || name == "any";
    }
    return named != negative;
  }

  std::string_view rest_;
  std::string_view architecture_;
};

/// One stanza: the fields that matter, as they stand.
struct stanza {
  enum field { package, version, architecture, description, status, depends, pre_depends, recommends, provides };
  static constexpr std::array<std::string_view, 9> names{"Package",     "Version",    "Architecture",
                                                         "Description", "Status",     "Depends",
                                                         "Pre-Depends", "Recommends", "Provides"};
  std::array<std::optional<std::string_view>, names.size()> values;
  bool any = false;  // whether there was a field at all

  std::string_view value(field f) const { return values[f].value_or(std::string_view()); }
};

/// Reads one line and takes it off the text.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

bool is_blank(std::string_view line) { return line.find_first_not_of(blanks) == line.npos; }
bool continues(std::string_view line) { return !line.empty() && (line.front() == ' ' || line.front() == '\t'); }

/// The fields up to the next blank line or the end.
stanza read_fields(std::string_view text) {
  stanza result;
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    if (continues(line)) throw malformed(line.data(), "a continuation line without a field above it");
    const std::size_t colon = line.find(':');
    if (colon == line.npos || colon == 0)
      throw malformed(line.data(), "expected 'Field: value', found " + quoted(trimmed(line)));
    const char* end = line.data() + line.size();
    for (std::string_view ahead = text; !ahead.empty();) {
      const std::string_view next = take_line(ahead);
      if (!continues(next)) break;
      end = next.data() + next.size();
      text = ahead;
    }
    const std::string_view name = trimmed(line.substr(0, colon));
    result.any = true;
    for (std::size_t i = 0; i < stanza::names.size(); ++i) {
      if (!same_but_for_case(name, stanza::names[i])) continue;
      if (result.values[i]) throw malformed(line.data(), "a second field " + quoted(name));
      const char* begin = line.data() + colon + 1;
      result.values[i] = trimmed(std::string_view(begin, static_cast<std::size_t>(end - begin)));
    }
  }
  return result;
}

void require_characters(std::string_view text, bool (*belongs)(char), const char* what) {
  const auto bad = std::find_if_not(text.begin(), text.end(), belongs);
  if (bad != text.end())
    throw malformed(text.data() + (bad - text.begin()), quoted(text) + " is not possible as " + what);
}

parsed_package read_package(const stanza& fields) {
  parsed_package result;
  result.name = fields.value(stanza::package);
  result.version = fields.value(stanza::version);
  result.architecture = fields.value(stanza::architecture);
  require_characters(result.name, is_name_character, "the name of a package");
  require_characters(result.version, is_version_character, "a version");
  require_characters(result.architecture, is_name_character, "an architecture");
  const std::string_view description = fields.value(stanza::description);
  result.summary = trimmed(description.substr(0, description.find('\n')));

  constexpr std::array fields_of_kinds{std::pair(stanza::pre_depends, dependency_kind::pre_depends),
                                       std::pair(stanza::depends, dependency_kind::depends),
                                       std::pair(stanza::recommends, dependency_kind::recommends),
                                       std::pair(stanza::provides, dependency_kind::provides)};
  std::size_t position = 0;
  for (const auto& [field, kind] : fields_of_kinds)
    dependency_reader(fields.value(field), result.architecture).read(kind, position, result.dependencies);
  return result;
}

/// Of a stanza in dpkg's own file, which keeps packages that were removed and left their configuration behind.
bool is_removed(std::string_view state) {
  return !state.empty() && (state.ends_with(" config-files") || state.ends_with(" not-installed"));
}

}  // namespace

status parse_status(std::string_view text) {
  status result;
  std::size_t line = 1;
  while (!text.empty()) {
    std::string_view ahead = text;
    std::size_t lines = 0;
    while (!ahead.empty() && is_blank(ahead.substr(0, ahead.find('\n')))) take_line(ahead), ++lines;
    line += std::exchange(lines, 0);
    text = ahead;
    if (text.empty()) break;
    while (!ahead.empty() && !is_blank(ahead.substr(0, ahead.find('\n')))) take_line(ahead), ++lines;
    const std::string_view all = text.substr(0, text.size() - ahead.size());
    try {
      const stanza fields = read_fields(all);
      if (is_removed(fields.value(stanza::status))) {
        ++result.not_installed;
      } else {
        if (fields.value(stanza::package).empty()) throw malformed(all.data(), "a stanza without a Package");
        if (fields.value(stanza::version).empty()) throw malformed(all.data(), "a package without a Version");
        result.packages.push_back(read_package(fields));
        result.packages.back().line = line;
      }
    } catch (const malformed& fault) {
      const auto before = std::count(all.data(), fault.where, '\n');
      result.malformed.push_back({line + static_cast<std::size_t>(before), fault.what()});
    }
    line += lines;
    text = ahead;
  }
  return result;
}

}  // namespace package_graph
