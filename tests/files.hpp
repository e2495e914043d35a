// Whole files as strings, for tests that plant damage and make sure that nothing else changed.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <system_error>

#include "deferred_map/error.hpp"

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// A struct that lies at `offset` in a file.
template <class T>
T read_at(const std::filesystem::path& path, std::size_t offset) {
  T value;
  std::ifstream in(path, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(offset));
  in.read(reinterpret_cast<char*>(&value), sizeof value);
  return value;
}

template <class T>
void write_at(const std::filesystem::path& path, std::size_t offset, const T& value) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(offset));
  file.write(reinterpret_cast<const char*>(&value), sizeof value);
}

inline void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// Overwrites bytes in the middle of a file, which keeps its size and its holes.
inline void overwrite(const std::filesystem::path& path, std::size_t offset, const std::string& bytes) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(offset));
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// The error that `call` ends in, or none.
template <class F>
std::optional<dm::error> error_of(F call) {
  try {
    call();
  } catch (const dm::error& e) {
    return e;
  }
  return std::nullopt;
}

/// The code of that error; none is the zero code.
template <class F>
std::error_code code_of(F call) {
  const auto error = error_of(call);
  return error ? error->code() : std::error_code();
}
