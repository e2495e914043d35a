// What fuzz targets share: reading numbers from an input, and stopping when something is not as it must be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

namespace fuzz {

[[noreturn, gnu::cold, gnu::noinline]] inline void stop(const char* what, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, what);
  std::abort();
}

/// Stops the process, in every build, where `condition` is false.
#define FUZZ_CHECK(condition) ((condition) ? void() : ::fuzz::stop(#condition, __FILE__, __LINE__))
/// The same for a verdict in words: stops where there is one.
#define FUZZ_CHECK_SOUND(map)                                                \
  do {                                                                       \
    if (const std::string fault = (map).verify(); !fault.empty())            \
      ::fuzz::stop(("verify() says: " + fault).c_str(), __FILE__, __LINE__); \
  } while (false)

/// The bytes of an input, from the first to the last; behind the last all numbers are 0.
class input {
 public:
  explicit input(std::span<const std::uint8_t> bytes) noexcept : bytes_(bytes) {}

  bool at_end() const noexcept { return bytes_.empty(); }
  std::span<const std::uint8_t> rest() const noexcept { return bytes_; }

  std::uint8_t byte() noexcept {
    if (at_end()) return 0;
    const std::uint8_t first = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return first;
  }
  std::uint32_t number16() noexcept {
    const std::uint32_t low = byte();
    return low | std::uint32_t{byte()} << 8;
  }
  std::uint64_t number64() noexcept {
    std::uint64_t number = 0;
    for (unsigned shift = 0; shift < 64; shift += 8) number |= std::uint64_t{byte()} << shift;
    return number;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace fuzz
