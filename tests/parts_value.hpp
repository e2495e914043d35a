// A value with parts of every kind, some of them such as no text format has a plain word for.
#pragma once

#include <bit>
#include <boost/describe.hpp>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>

#include "deferred_map/mapped_map.hpp"

namespace parts {

enum class colour : std::uint8_t { red = 1, green = 2 };
BOOST_DESCRIBE_ENUM(colour, red, green)

struct point {
  float x;
  float y;
};
BOOST_DESCRIBE_STRUCT(point, (), (x, y))

struct value {
  dm::key next;
  std::uint64_t big;
  std::int64_t low;
  double real;
  point at[2];
  char name[11];
  char letter;
  bool flag;
  colour tint;
  std::int16_t list[3];
  std::byte raw[5];
};
BOOST_DESCRIBE_STRUCT(value, (), (next, big, low, real, at, name, letter, flag, tint, list, raw))

/// The same but for one field's type.
namespace other {
struct value {
  dm::key next;
  std::uint64_t big;
  std::int64_t low;
  std::uint64_t real;
  point at[2];
  char name[11];
  char letter;
  bool flag;
  colour tint;
  std::int16_t list[3];
  std::byte raw[5];
};
BOOST_DESCRIBE_STRUCT(value, (), (next, big, low, real, at, name, letter, flag, tint, list, raw))
}  // namespace other

inline value plain(std::uint64_t n) {
  value made{};
  made.big = n;
  made.low = -static_cast<std::int64_t>(n);
  made.real = 0.1 * static_cast<double>(n);
  made.at[1] = {0.5f, -0.25f};
  std::strcpy(made.name, "abc");
  made.letter = 'x';
  made.flag = true;
  made.tint = colour::green;
  made.list[2] = 7;
  made.raw[0] = std::byte{0xfe};
  return made;
}

/// Any bits at all in every field.
inline value random_bits(std::mt19937_64& random) {
  value made{};
  const auto any = [&](auto& field) {
    for (std::size_t i = 0; i < sizeof field; ++i)
      reinterpret_cast<unsigned char*>(&field)[i] = static_cast<unsigned char>(random());
  };
  any(made.next), any(made.big), any(made.low), any(made.real), any(made.at), any(made.name), any(made.letter);
  any(made.tint), any(made.list), any(made.raw);
  std::memset(&made.flag, static_cast<int>(random() % 256), 1);
  if (random() % 4 == 0) made.next = {};
  if (random() % 4 == 0)
    made.next =
        dm::key::from_parts(static_cast<std::uint32_t>(random()), static_cast<std::uint32_t>(1 + random() % 1000));
  // Not-a-numbers of every kind, infinities, zeros of both signs, the smallest there are.
  const double reals[] = {std::bit_cast<double>(0x7ff0'0000'0000'0001u + random() % 1000),
                          std::bit_cast<double>(0xfff8'0000'0000'0000u),
                          std::numeric_limits<double>::infinity(),
                          -std::numeric_limits<double>::infinity(),
                          -0.0,
                          std::numeric_limits<double>::denorm_min(),
                          std::numeric_limits<double>::max(),
                          std::numeric_limits<double>::quiet_NaN()};
  if (random() % 2 == 0) made.real = reals[random() % std::size(reals)];
  if (random() % 4 == 0) made.at[0].x = std::bit_cast<float>(0x7f80'0001u + static_cast<std::uint32_t>(random() % 9));
  // Behind the NUL that ends it, text means nothing.
  const std::size_t length = random() % (sizeof made.name + 1);
  for (std::size_t i = 0; i < sizeof made.name; ++i)
    if (i >= length || made.name[i] == 0) {
      std::memset(made.name + i, 0, sizeof made.name - i);
      break;
    }
  if (random() % 3 == 0) std::memcpy(made.name, "M\xc3\xbcller\\n\"\n", 11);
  return made;
}

}  // namespace parts
