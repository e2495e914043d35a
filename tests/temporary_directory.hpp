// A directory of a test's own, gone when the test is.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

class temporary_directory {
 public:
  temporary_directory() : temporary_directory(base()) {}
  explicit temporary_directory(const std::string& base) {
    std::string pattern = base + "/deferred-map-test.XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make " + pattern);
    path_ = pattern;
  }
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  ~temporary_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  /// A place whose files cost no disk, where there is one: for tests that make thousands of them.
  static std::string in_memory() {
    std::error_code ignored;
    return std::filesystem::is_directory("/dev/shm", ignored) && ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : base();
  }

  const std::filesystem::path& path() const noexcept { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  static std::string base() {
    const char* chosen = std::getenv("TMPDIR");
    return chosen != nullptr ? chosen : "/tmp";
  }

  std::filesystem::path path_;
};
