// What the arena asks the machine: who runs, since when, and who holds a lock. Linux's /proc.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <fstream>
#include <random>
#include <span>
#include <sstream>
#include <vector>

#include "posix_file.hpp"

namespace dm::posix {
namespace {

std::string first_line(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

/// Whether a descriptor's /proc entry says that it holds a lock.
bool holds_lock(const std::filesystem::path& fdinfo) {
  std::ifstream in(fdinfo);
  // lock:	1: OFDLCK ADVISORY  WRITE -1 fe:00:1835 0 EOF
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("lock:")) return true;
  return false;
}

}  // namespace

std::string lock_holders(const file& locked) {
  struct stat status {};
  if (::fstat(locked.descriptor(), &status) != 0) return {};
  std::vector<std::string> holders;
  std::error_code ignored;  // processes come and go, and those of other users cannot be looked into
  const std::filesystem::directory_iterator end;
  for (std::filesystem::directory_iterator process("/proc", ignored); process != end; process.increment(ignored)) {
    const std::string pid = process->path().filename().string();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    const bool ourselves = pid == std::to_string(::getpid());
    std::filesystem::directory_iterator descriptor(process->path() / "fdinfo", ignored);
    for (; descriptor != end; descriptor.increment(ignored)) {
      const bool our_attempt = ourselves && descriptor->path().filename() == std::to_string(locked.descriptor());
      struct stat theirs {};
      const std::filesystem::path opened = process->path() / "fd" / descriptor->path().filename();
      if (our_attempt || ::stat(opened.c_str(), &theirs) != 0 || theirs.st_dev != status.st_dev ||
          theirs.st_ino != status.st_ino || !holds_lock(descriptor->path()))
        continue;
      holders.push_back("process " + pid + " (" + first_line(process->path() / "comm") + ")" +
                        (ourselves ? ", which is this one" : ""));
      break;
    }
  }
  std::string text;
  for (std::size_t i = 0; i < holders.size(); ++i) text += (i == 0 ? "" : ", ") + holders[i];
  return text;
}

std::uint64_t boot_id() {
  const std::filesystem::path path = "/proc/sys/kernel/random/boot_id";
  // 36 characters, 32 of them hexadecimal digits: 128 bits, 122 of them random.
  std::array<char, 36> text{};
  try {
    file::open(path, false).read_some(0, std::as_writable_bytes(std::span(text)));
  } catch (const error& e) {
    if (e.code() != errc::not_found) throw;
  }
  std::uint64_t halves[2] = {0, 0};
  std::size_t digits = 0;
  for (const char c : text) {
    if (c == '-') continue;
    if (c == '\0') break;
    const char* hex = "0123456789abcdef";
    const char* at = std::strchr(hex, c);
    if (at == nullptr || digits == 32) break;
    halves[digits / 16] = halves[digits / 16] << 4 | static_cast<std::uint64_t>(at - hex);
    ++digits;
  }
  if (digits != 32)
    throw error(std::make_error_code(std::errc::not_supported), path,
                "cannot be read, but is needed to tell a crash of the machine from one of a process. Is "
                "/proc mounted?");
  const std::uint64_t folded = halves[0] ^ halves[1];
  return folded == 0 ? 1 : folded;
}

std::string process_name() { return first_line("/proc/self/comm"); }

std::uint64_t process_start_ticks() {
  const std::string line = first_line("/proc/self/stat");
  // The name, in parentheses, may have anything in it, spaces and parentheses too; field 22 is the 20th after it.
  std::istringstream fields(line.substr(line.rfind(')') == std::string::npos ? line.size() : line.rfind(')') + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  std::uint64_t ticks = 0;
  return fields >> ticks ? ticks : 0;
}

std::int64_t now_unix_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void random_bytes(std::span<std::uint8_t, 16> bytes) {
  std::random_device random;
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
}

}  // namespace dm::posix
