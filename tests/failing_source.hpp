// A medium that cannot be read everywhere.
#pragma once

#include <cstring>
#include <string>
#include <system_error>

#include "deferred_map/error.hpp"
#include "deferred_map/inspect/byte_source.hpp"

/// A file with a page that its medium cannot give.
class failing_source final : public dm::inspect::byte_source {
 public:
  failing_source(std::string bytes, std::uint64_t bad_page) : bytes_(std::move(bytes)), bad_(bad_page * 4096) {}
  std::size_t read(std::uint64_t offset, std::span<std::byte> out) const override {
    if (offset < bad_ + 4096 && bad_ < offset + out.size())
      throw dm::error(std::make_error_code(std::errc::io_error), "medium", "reading it failed");
    if (offset >= bytes_.size()) return 0;
    const std::size_t size = std::min<std::size_t>(out.size(), bytes_.size() - offset);
    std::memcpy(out.data(), &bytes_[offset], size);
    return size;
  }
  std::uint64_t size_bytes() const override { return bytes_.size(); }

 private:
  std::string bytes_;
  std::uint64_t bad_;
};
