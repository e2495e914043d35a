// Values as text, from their bytes and a schema.
#include "deferred_map/format/value_text.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"

using dm::field_kind;
using dm::schema;
using dm::schema_field;
using namespace std::string_literals;

namespace {

schema_field make(std::string name, field_kind kind, std::uint32_t offset, std::uint32_t size, std::uint32_t count = 1,
                  bool is_array = false, std::uint16_t depth = 1) {
  schema_field field;
  field.name = std::move(name);
  field.type_name = "t";
  field.kind = kind;
  field.offset = offset;
  field.size_bytes = size;
  field.count = count;
  field.is_array = is_array;
  field.depth = depth;
  return field;
}

template <class T>
std::span<const std::byte> bytes_of(const T& object) {
  return std::as_bytes(std::span(&object, 1));
}

// One value of one kind, as text.
template <class T>
std::string text_of(field_kind kind, const T& value) {
  schema s;
  s.fields.push_back(make("", kind, 0, sizeof(T), 1, false, 0));
  return to_text(s, bytes_of(value));
}

std::string text_of_chars(std::string_view chars) {
  schema s;
  s.fields.push_back(make("", field_kind::text, 0, 1, static_cast<std::uint32_t>(chars.size()), false, 0));
  return to_text(s, std::as_bytes(std::span(chars)));
}

std::uint64_t key_bits(std::uint64_t index, std::uint64_t generation) { return (generation << 2 | 3) << 32 | index; }

struct leg {
  std::uint16_t from;
  std::uint16_t to[2];
};
struct package {
  char name[8];
  std::uint32_t size;
  std::uint8_t kind;
  bool installed;
  std::uint64_t first;
  leg legs[2];
  std::byte raw[4];
  char tags[2][4];
};

schema package_schema() {
  const auto at = [](std::size_t offset) { return static_cast<std::uint32_t>(offset); };
  schema s;
  s.fields = {
      make("", field_kind::structure, 0, sizeof(package), 1, false, 0),
      make("name", field_kind::text, 0, 1, 8),
      make("size", field_kind::u32, at(offsetof(package, size)), 4),
      make("kind", field_kind::enumeration, at(offsetof(package, kind)), 1),
      make("installed", field_kind::boolean, at(offsetof(package, installed)), 1),
      make("first", field_kind::key, at(offsetof(package, first)), 8),
      make("legs", field_kind::structure, at(offsetof(package, legs)), sizeof(leg), 2, true),
      make("from", field_kind::u16, at(offsetof(package, legs)), 2, 1, false, 2),
      make("", field_kind::u16, at(offsetof(package, legs)) + 2, 2, 2, true, 2),
      make("raw", field_kind::bytes, at(offsetof(package, raw)), 4),
      make("tags", field_kind::text, at(offsetof(package, tags)), 4, 2, true),
  };
  s.fields[3].underlying = field_kind::u8;
  s.fields[3].enumerators = {{"package", 1}, {"source", 2}};
  REQUIRE_FALSE(first_fault(s, sizeof(package)));
  return s;
}

package libc() {
  package p;
  std::memset(&p, 0, sizeof p);
  p = {"libc6",
       13,
       1,
       true,
       key_bits(3, 1),
       {{1, {2, 3}}, {4, {5, 6}}},
       {std::byte{0xff}},
       {{'a'}, {'b', 'c', 'd', 'e'}}};
  return p;
}

}  // namespace

TEST_CASE("a value is one line of names and values", "[value_text]") {
  CHECK(to_text(package_schema(), bytes_of(libc())) ==
        "{name: \"libc6\", size: 13, kind: package(1), installed: true, first: 3:1, "
        "legs: [{from: 1, field_1: [2, 3]}, {from: 4, field_1: [5, 6]}], raw: 0xff000000, tags: [\"a\", "
        "\"bcde\"]}");
}

TEST_CASE("scalars are printed by their kind", "[value_text]") {
  CHECK(text_of(field_kind::u8, std::uint8_t{200}) == "200");
  CHECK(text_of(field_kind::i8, std::int8_t{-100}) == "-100");
  CHECK(text_of(field_kind::u16, std::uint16_t{65535}) == "65535");
  CHECK(text_of(field_kind::i16, std::int16_t{-2}) == "-2");
  CHECK(text_of(field_kind::u32, 4'000'000'000u) == "4000000000");
  CHECK(text_of(field_kind::i32, std::int32_t{-5}) == "-5");
  CHECK(text_of(field_kind::u64, std::numeric_limits<std::uint64_t>::max()) == "18446744073709551615");
  CHECK(text_of(field_kind::i64, std::numeric_limits<std::int64_t>::min()) == "-9223372036854775808");
  CHECK(text_of(field_kind::f32, 0.1f) == "0.1");
  CHECK(text_of(field_kind::f64, 0.1) == "0.1");
  CHECK(text_of(field_kind::f64, 2.0) == "2");
  CHECK(text_of(field_kind::f64, 1e300) == "1e+300");
  CHECK(text_of(field_kind::f64, std::numeric_limits<double>::infinity()) == "inf");
  CHECK(text_of(field_kind::character, 'a') == "'a'");
  CHECK(text_of(field_kind::character, '\0') == "'\\x00'");
}

TEST_CASE("a double is read back from its text as it was", "[value_text]") {
  const auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t bits = (random() & 0xbfff'ffff'ffff'ffffu) | 1ull << 60;  // finite, normal
    double number;
    std::memcpy(&number, &bits, sizeof number);
    CHECK(std::stod(text_of(field_kind::f64, number)) == number);
  }
}

TEST_CASE("a bool that is neither 0 nor 1 is shown for what it is", "[value_text]") {
  CHECK(text_of(field_kind::boolean, std::uint8_t{0}) == "false");
  CHECK(text_of(field_kind::boolean, std::uint8_t{1}) == "true");
  CHECK(text_of(field_kind::boolean, std::uint8_t{7}) == "true?(7)");
}

TEST_CASE("keys are index and generation, null, or bad", "[value_text]") {
  CHECK(text_of(field_kind::key, key_bits(7, 5)) == "7:5");
  CHECK(text_of(field_kind::key, key_bits(0xffff'ffff, (1u << 30) - 2)) == "4294967295:1073741822");
  CHECK(text_of(field_kind::key, std::uint64_t{0}) == "null");
  CHECK(text_of(field_kind::key, std::uint64_t{7}) == "bad key 0x0000000000000007");
  CHECK(text_of(field_kind::key, key_bits(7, 0)) == "bad key 0x0000000300000007");
  CHECK(text_of(field_kind::key, ~std::uint64_t{0}) == "bad key 0xffffffffffffffff");
}

TEST_CASE("enumerations are names where there is one", "[value_text]") {
  schema s;
  s.fields.push_back(make("", field_kind::enumeration, 0, 2, 1, false, 0));
  s.fields[0].underlying = field_kind::i16;
  s.fields[0].enumerators = {{"minus", -1}, {"alias", -1}};
  CHECK(to_text(s, bytes_of(std::int16_t{-1})) == "minus(-1)");
  CHECK(to_text(s, bytes_of(std::int16_t{9})) == "9");
  s.fields[0].size_bytes = 8;
  s.fields[0].underlying = field_kind::u64;
  CHECK(to_text(s, bytes_of(~std::uint64_t{0} - 1)) == "18446744073709551614");
}

TEST_CASE("text ends at its first NUL and is safe for a terminal", "[value_text]") {
  CHECK(text_of_chars("abc\0xyz"s) == "\"abc\"");
  CHECK(text_of_chars("abcd") == "\"abcd\"");
  CHECK(text_of_chars("\0"s) == "\"\"");
  CHECK(text_of_chars("a\"b\\c") == R"("a\"b\\c")");
  CHECK(text_of_chars("a\nb\x1b[2J\x7f") == R"("a\x0ab\x1b[2J\x7f")");
  CHECK(text_of_chars("grün €5 \xf0\x9f\x98\x80") == "\"grün €5 \xf0\x9f\x98\x80\"");
  CHECK(text_of_chars("\xff\xc3") == R"("\xff\xc3")");                          // no start, no end
  CHECK(text_of_chars("\xc0\xaf\xe0\x80\xaf") == R"("\xc0\xaf\xe0\x80\xaf")");  // overlong
  CHECK(text_of_chars("\xed\xa0\x80") == R"("\xed\xa0\x80")");                  // half a UTF-16 pair
  CHECK(text_of_chars("\xf4\x90\x80\x80") == R"("\xf4\x90\x80\x80")");          // beyond Unicode
  CHECK(text_of_chars("\xc2\x9b"
                      "31m") == R"("\xc2\x9b31m")");  // an escape of eight bits
  CHECK(text_of_chars("\xe2\x80\xae"
                      "x") == R"("\xe2\x80\xaex")");  // right to left
}

TEST_CASE("names from a file are safe for a terminal too", "[value_text]") {
  schema s = package_schema();
  s.fields.resize(2);
  s.fields[1].name = "\xc2\x9b";
  CHECK(to_text(s, bytes_of(libc())) == R"({\xc2\x9b: "libc6"})");
}

TEST_CASE("bytes are hexadecimal and shortened", "[value_text]") {
  std::vector<std::byte> data(33, std::byte{0x0a});
  schema s;
  s.fields.push_back(make("", field_kind::bytes, 0, 32, 1, false, 0));
  std::string hex = "0x";
  for (int i = 0; i < 32; ++i) hex += "0a";
  CHECK(to_text(s, std::span(data).first(32)) == hex);
  s.fields[0].size_bytes = 33;
  CHECK(to_text(s, data) == hex + "… (33 bytes)");
}

TEST_CASE("a value that is cut off shows what there is and says so", "[value_text]") {
  const package p = libc();
  const auto bytes = bytes_of(p);
  CHECK(to_text(package_schema(), bytes.first(12)) ==
        "{name: \"libc6\", size: 13, kind: ?, installed: ?, first: ?, legs: [?], raw: ?, tags: [?]} "
        "(only 12 of " +
            std::to_string(sizeof p) + " bytes)");
  CHECK(to_text(package_schema(), {}) ==
        "{name: ?, size: ?, kind: ?, installed: ?, first: ?, legs: [?], raw: ?, tags: [?]} (only 0 of " +
            std::to_string(sizeof p) + " bytes)");
  for (std::size_t size = 0; size <= bytes.size(); ++size) {
    const auto copy = std::make_unique<std::byte[]>(size);  // ends where its allocation ends
    std::copy_n(bytes.begin(), size, copy.get());
    CHECK_FALSE(to_text(package_schema(), {copy.get(), size}).empty());
  }
}

TEST_CASE("a schema that was never checked cannot make rendering read elsewhere", "[value_text]") {
  const auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto below = [&random](std::uint32_t n) {
    return std::uniform_int_distribution<std::uint32_t>(0, n - 1)(random);
  };
  const std::uint32_t numbers[] = {0, 1, 3, 8, 64, 0x7fff'ffff, 0xffff'fff8, 0xffff'ffff};
  for (int round = 0; round < 3'000; ++round) {
    schema s = package_schema();
    schema_field& field = s.fields[below(static_cast<std::uint32_t>(s.fields.size()))];
    switch (below(5)) {
      case 0:
        field.offset = numbers[below(8)];
        break;
      case 1:
        field.size_bytes = numbers[below(8)];
        break;
      case 2:
        field.count = numbers[below(8)];
        break;
      case 3:
        field.kind = static_cast<field_kind>(below(20));
        break;
      default:
        field.depth = static_cast<std::uint16_t>(numbers[below(8)]);
    }
    const auto copy = std::make_unique<std::byte[]>(sizeof(package));
    std::memset(copy.get(), 0x41, sizeof(package));
    to_text(s, {copy.get(), sizeof(package)});
  }
  schema deep;
  for (std::uint32_t d = 0; d < 0x10000; ++d) {
    deep.fields.push_back(make("", field_kind::structure, 0, 8, 1, false, static_cast<std::uint16_t>(d)));
  }
  CHECK_FALSE(to_text(deep, {}).empty());
  schema endless;
  endless.fields.push_back(make("", field_kind::bytes, 0, 0, 0xffff'ffff, true, 0));
  CHECK(to_text(endless, {}) == "[?]");
  CHECK(to_text(schema{}, {}) == "?");
}

TEST_CASE("a visitor meets the parts of a value in order", "[value_text]") {
  struct recorder : dm::value_visitor {
    std::string seen;
    void begin_struct(const schema_field&) override { seen += "{"; }
    void end_struct(const schema_field&) override { seen += "}"; }
    void begin_array(const schema_field& f) override { seen += "[" + std::to_string(f.count) + " "; }
    void end_array(const schema_field&) override { seen += "]"; }
    void member(std::string_view name) override { seen += std::string(name) + "="; }
    void unsigned_integer(const schema_field&, std::uint64_t n) override { seen += "u" + std::to_string(n) + " "; }
    void enumeration(const schema_field&, std::int64_t n, std::string_view name) override {
      seen += std::string(name) + "/" + std::to_string(n) + " ";
    }
    void text(const schema_field&, std::string_view t) override { seen += "'" + std::string(t) + "' "; }
    void key(const schema_field&, std::uint64_t bits) override { seen += "k" + std::to_string(bits & 0xff) + " "; }
    void boolean(const schema_field&, std::uint8_t raw) override { seen += "b" + std::to_string(raw) + " "; }
    void bytes(const schema_field&, std::span<const std::byte> b) override {
      seen += "x" + std::to_string(b.size()) + " ";
    }
  } visitor;
  visit_value(package_schema(), bytes_of(libc()), visitor);
  CHECK(visitor.seen ==
        "{name='libc6' size=u13 kind=package/1 installed=b1 first=k3 "
        "legs=[2 {from=u1 field_1=[2 u2 u3 ]}{from=u4 field_1=[2 u5 u6 ]}]raw=x4 tags=[2 'a' 'bcde' ]}");
}

// A file of a megabyte could make a line of 64 GiB, and the inspection run out of memory.
TEST_CASE("long names in a long array make a line that is cut off") {
  dm::schema schema;
  schema.fields.resize(2);
  dm::schema_field& list = schema.fields[0];
  list.type_name = "list";
  list.kind = dm::field_kind::structure;
  list.size_bytes = 1;
  list.count = 65'536;
  list.is_array = true;
  dm::schema_field& member = schema.fields[1];
  member.name = std::string(1'000'000, 'n');
  member.type_name = "u8";
  member.kind = dm::field_kind::u8;
  member.size_bytes = 1;
  member.depth = 1;
  REQUIRE_FALSE(dm::first_fault(schema, 65'536));
  const std::vector<std::byte> value(65'536);
  const std::string line = dm::to_text(schema, value);
  CHECK(line.size() > 16 << 20);
  CHECK(line.size() < 20 << 20);
  CHECK(line.ends_with("}] ..."));
}
