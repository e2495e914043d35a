// A value of a cache line and more that tells whether it is whole.
#pragma once

#include <array>
#include <boost/describe.hpp>
#include <cstddef>
#include <cstdint>

/// Every word is computed from the number, so a torn value shows.
struct self_checking {
  std::uint64_t number;
  std::array<std::uint64_t, 7> echo;

  bool is_whole() const noexcept {
    for (std::size_t i = 0; i < echo.size(); ++i)
      if (echo[i] != number * (2 * i + 3)) return false;
    return true;
  }
};
BOOST_DESCRIBE_STRUCT(self_checking, (), (number, echo))

inline self_checking checked_value(std::uint64_t number) noexcept {
  self_checking value{number, {}};
  for (std::size_t i = 0; i < value.echo.size(); ++i) value.echo[i] = number * (2 * i + 3);
  return value;
}
