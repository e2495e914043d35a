// What a file is at one moment: what a process that is killed at that moment leaves behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace killed {

/// A file's bytes, and how many keys the program knew by then.
struct image {
  std::string bytes;
  std::size_t keys_told = 0;
};

/// Looks at a file through a mapping of its own: the page cache, which is what survives the process.
class file_view {
 public:
  explicit file_view(const std::filesystem::path& path);
  file_view(const file_view&) = delete;
  file_view& operator=(const file_view&) = delete;
  ~file_view();

  int descriptor() const noexcept { return descriptor_; }
  std::size_t size_bytes() const;
  bool is(const std::string& bytes) const;
  std::string bytes() const;

 private:
  static constexpr std::size_t mapped_bytes = std::size_t{16} << 20;  // no file in these tests is as large
  int descriptor_;
  const char* base_;
};

/// Makes the file be `bytes`, as it is written by nobody who maps it.
void restore(const std::filesystem::path& path, const std::string& bytes);

/// The bytes but for what only people read: process ids, names, times and the count of recoveries. Two images that
/// agree in this are recovered alike. Requires: an arena file.
std::string without_notes(std::string bytes);

}  // namespace killed
