#include "terminal.hpp"

#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace tool {
namespace {

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : value;
}

}  // namespace

bool can_place_cursor() {
  const std::string_view terminal = variable("TERM");
  return ::isatty(STDOUT_FILENO) != 0 && !terminal.empty() && terminal != "dumb";
}

dm::inspect::palette colours(colour_wish wish) {
  using dm::inspect::palette;
  const std::string_view terminal = variable("TERM");
  if (wish == colour_wish::never) return palette::none;
  // https://no-color.org: set and not empty. Who says --color=always means it.
  if (wish == colour_wish::automatic && (!can_place_cursor() || !variable("NO_COLOR").empty())) return palette::none;
  const std::string_view more = variable("COLORTERM");
  if (more == "truecolor" || more == "24bit") return palette::all;
  return terminal.find("256color") != std::string_view::npos || !more.empty() ? palette::many : palette::sixteen;
}

bool is_utf8_locale() {
  // The first that is set decides, as everywhere.
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view locale = variable(name);
    if (locale.empty()) continue;
    for (std::size_t at = 0; at < locale.size(); ++at)
      if (::strncasecmp(locale.data() + at, "utf-8", 5) == 0 || ::strncasecmp(locale.data() + at, "utf8", 4) == 0)
        return true;
    return false;
  }
  return false;
}

std::size_t terminal_rows() {
  winsize size{};
  if (::isatty(STDOUT_FILENO) == 0) return 0;
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) return 24;
  return size.ws_row;
}

}  // namespace tool
