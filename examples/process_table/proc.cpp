#include "proc.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <string>

namespace process_table {
namespace {

/// The beginning of a file, as far as it fits. Nothing where its process has ended, or hides it.
template <std::size_t Size>
std::optional<std::string_view> read_beginning(const std::string& path, std::array<char, Size>& into) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  // A process must not seem to have ended because this one can open no more files.
  if (file < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
    throw table_error(path + " cannot be read: " + std::strerror(errno));
  if (file < 0) return std::nullopt;
  const ssize_t got = ::read(file, into.data(), into.size());
  ::close(file);
  if (got < 0) return std::nullopt;
  return std::string_view(into.data(), static_cast<std::size_t>(got));
}

/// Copies as many whole characters as fit. What would steer a terminal becomes a question mark: names and command lines
/// are whatever their processes say.
template <std::size_t Size>
void copy_text(std::string_view from, char (&to)[Size]) {
  std::size_t size = std::min(from.size(), Size);
  const auto goes_on = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; };  // within UTF-8
  if (size < from.size())
    while (size > 0 && goes_on(from[size])) --size;
  std::transform(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(size), to, [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return c == '\0' ? ' ' : byte < 0x20 || byte == 0x7f ? '?' : c;
  });
}

std::uint64_t boot() {
  static const std::uint64_t id = [] {
    std::array<char, 64> text;
    const auto read = read_beginning("/proc/sys/kernel/random/boot_id", text);
    std::uint64_t first = 0;  // the first 8 of 32 hexadecimal digits, and 4 more
    if (read && read->size() >= 13) {
      const std::string digits = std::string(read->substr(0, 8)) + std::string(read->substr(9, 4));
      std::from_chars(digits.data(), digits.data() + digits.size(), first, 16);
    }
    return first;
  }();
  return id;
}

process_state state_of(char letter) {
  constexpr std::string_view known = "RSDTtZIX";
  return known.find(letter) == known.npos ? process_state::unknown : static_cast<process_state>(letter);
}

}  // namespace

std::optional<process> parse_stat(std::string_view stat) {
  // PID (NAME) STATE PARENT ...: the name may have blanks and parentheses in it, what follows has none.
  const std::size_t open = stat.find('(');
  const std::size_t close = stat.rfind(')');
  if (open == stat.npos || close == stat.npos || close < open || close + 3 > stat.size()) return std::nullopt;
  process result;
  copy_text(stat.substr(open + 1, close - open - 1), result.name);
  result.state = state_of(stat[close + 2]);

  std::array<std::uint64_t, 25> field{};  // by their numbers in proc(5)
  const char* const end = stat.data() + stat.size();
  if (std::from_chars(stat.data(), end, field[1]).ec != std::errc()) return std::nullopt;
  const char* at = stat.data() + close + 3;
  for (std::size_t i = 4; i < field.size(); ++i) {
    while (at != end && *at == ' ') ++at;
    std::int64_t number = 0;  // some are negative, none that are kept is
    const auto [behind, fault] = std::from_chars(at, end, number);
    if (fault != std::errc()) return std::nullopt;
    field[i] = static_cast<std::uint64_t>(number);
    at = behind;
  }
  static const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  result.pid = static_cast<std::uint32_t>(field[1]);
  result.parent_pid = static_cast<std::uint32_t>(field[4]);
  result.user_ticks = field[14];
  result.system_ticks = field[15];
  result.threads = static_cast<std::uint32_t>(field[20]);
  result.start_ticks = field[22];
  result.resident_bytes = field[24] * page_bytes;
  return result;
}

std::optional<process> read_process(std::uint32_t pid) {
  const std::string directory = "/proc/" + std::to_string(pid);
  std::array<char, 1024> room;
  const auto stat = read_beginning(directory + "/stat", room);
  if (!stat) return std::nullopt;
  std::optional<process> result = parse_stat(*stat);
  if (!result) return std::nullopt;
  result->boot = boot();
  result->sampled_unix_ns = now_unix_ns();
  // What follows is about whoever has the pid now. Should that be another process by now, the next sample sets it right.
  struct stat owner;
  if (::stat(directory.c_str(), &owner) == 0) result->uid = owner.st_uid;
  if (auto command = read_beginning(directory + "/cmdline", room)) {
    while (!command->empty() && command->back() == '\0') command->remove_suffix(1);
    copy_text(*command, result->command);
  }
  return result;
}

std::vector<process> read_processes() {
  const auto close = [](DIR* directory) { ::closedir(directory); };
  const std::unique_ptr<DIR, decltype(close)> directory(::opendir("/proc"), close);
  if (!directory) throw table_error(std::string("/proc cannot be read: ") + std::strerror(errno));
  std::vector<process> result;
  while (const dirent* entry = ::readdir(directory.get())) {
    std::uint32_t pid = 0;
    const char* const end = entry->d_name + std::strlen(entry->d_name);
    const auto [behind, fault] = std::from_chars(entry->d_name, end, pid);
    if (fault != std::errc() || behind != end) continue;
    if (const auto one = read_process(pid)) result.push_back(*one);
  }
  return result;
}

std::int64_t now_unix_ns() noexcept {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::uint32_t ticks_per_second() noexcept {
  static const auto ticks = static_cast<std::uint32_t>(::sysconf(_SC_CLK_TCK));
  return ticks;
}

}  // namespace process_table
