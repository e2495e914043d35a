// The numbers of a map that owns its memory.
#pragma once

#include <cstdint>

namespace dm::detail {

/// A number of 32 bits of a type that nothing else in a program has. A store to a version, to the buffer, to a key or
/// to a value of type uint32_t can then not be one to a count, as far as the compiler knows, and counts need not be
/// loaded anew after each of them: that is a third of the instructions of an insert.
class count_apart {
 public:
  constexpr count_apart() noexcept = default;
  constexpr count_apart(std::uint32_t number) noexcept : number_(static_cast<apart>(number)) {}      // NOLINT: a number
  constexpr operator std::uint32_t() const noexcept { return static_cast<std::uint32_t>(number_); }  // NOLINT
  constexpr count_apart& operator+=(std::uint32_t n) noexcept { return *this = *this + n; }
  constexpr count_apart& operator-=(std::uint32_t n) noexcept { return *this = *this - n; }
  constexpr count_apart& operator++() noexcept { return *this += 1; }
  constexpr count_apart& operator--() noexcept { return *this -= 1; }

 private:
  enum class apart : std::uint32_t {};
  apart number_{};
};

/// The numbers of a map in its own memory. An arena's control block counts the occupied and the vacant as well; here
/// that would be one more store in every operation, and they follow from the others.
struct heap_control {
  count_apart slot_count;
  count_apart reserved;
  count_apart retired;
  count_apart generation_floor;
  count_apart buffer_count;  // vacant slots in the buffer ...
  count_apart bitmap_count;  // ... and those in the bitmap
  count_apart buffer_limit;
};

}  // namespace dm::detail
