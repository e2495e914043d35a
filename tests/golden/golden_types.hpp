// The types of the values in the golden files, and their values as the manifest has them. Frozen with the files: a new
// type may be added, none may be changed.
#pragma once

#include <array>
#include <boost/describe.hpp>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "deferred_map/key.hpp"

namespace golden {

using json = nlohmann::json;

enum class colour : std::uint8_t { red = 1, green = 2, blue = 200 };
BOOST_DESCRIBE_ENUM(colour, red, green, blue)

struct point {
  float x;
  double y;
};
BOOST_DESCRIBE_STRUCT(point, (), (x, y))

/// One field of each kind that a schema can have.
struct everything {
  dm::key next;
  point where;
  std::array<std::int16_t, 3> steps;
  colour paint;
  bool is_open;
  char letter;
  char name[12];
  std::array<std::byte, 5> raw;
  std::int64_t big;
  std::uint32_t small;
  std::array<point, 2> corners;
};
BOOST_DESCRIBE_STRUCT(everything, (), (next, where, steps, paint, is_open, letter, name, raw, big, small, corners))

/// Not described: its fields have no names in the file.
struct plain {
  std::uint32_t first;
  std::int64_t second;
  float third;
  std::array<std::uint8_t, 4> fourth;
};

struct alignas(64) aligned {
  std::uint64_t number;
};

/// Copied in many steps, so that a kill can come in the midst of an update.
struct page {
  std::array<std::uint64_t, 512> words;
};
BOOST_DESCRIBE_STRUCT(page, (), (words))

inline page page_of(std::uint64_t n) {
  page made;
  for (std::size_t i = 0; i < made.words.size(); ++i) made.words[i] = n * 1000 + i;
  return made;
}

inline std::string text_of(dm::key k) {
  std::ostringstream out;
  out << k;
  return out.str();
}

inline json json_of(std::uint64_t n) { return n; }

inline json json_of(const point& p) { return {{"x", p.x}, {"y", p.y}}; }

inline json json_of(const everything& e) {
  json raw = std::string();
  for (const std::byte b : e.raw) {
    constexpr const char* digits = "0123456789abcdef";
    raw.get_ref<std::string&>() +=
        {digits[std::to_integer<unsigned>(b) / 16], digits[std::to_integer<unsigned>(b) % 16]};
  }
  const char* paint = e.paint == colour::red ? "red" : e.paint == colour::green ? "green" : "blue";
  return {{"next", text_of(e.next)},
          {"where", json_of(e.where)},
          {"steps", e.steps},
          {"paint", paint},
          {"is_open", e.is_open},
          {"letter", std::string(1, e.letter)},
          {"name", std::string(e.name)},
          {"raw", raw},
          {"big", e.big},
          {"small", e.small},
          {"corners", {json_of(e.corners[0]), json_of(e.corners[1])}}};
}

inline json json_of(const plain& p) {
  return {{"field_0", p.first}, {"field_1", p.second}, {"field_2", p.third}, {"field_3", p.fourth}};
}

inline json json_of(const aligned& a) { return {{"field_0", a.number}}; }

inline json json_of(const page& p) { return {{"words", p.words}}; }

}  // namespace golden
