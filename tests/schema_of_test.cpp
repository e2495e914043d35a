// From C++ types to schemas: what is looked into, how, and what is refused.
#include "deferred_map/schema.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "deferred_map/format/value_text.hpp"

using dm::field_kind;
using dm::schema;
using dm::schema_field;
using dm::schema_of;

namespace shop {

enum class color : std::uint8_t { red = 1, green = 2, blue = 4 };
BOOST_DESCRIBE_ENUM(color, red, green, blue)
enum class plain_enum : std::int16_t { a };
enum class letter : char { a = 'a' };
enum class huge : std::uint64_t { top = 0xffff'ffff'ffff'ffff };
BOOST_DESCRIBE_ENUM(huge, top)

struct point {
  float x;
  double y;
};
BOOST_DESCRIBE_STRUCT(point, (), (x, y))

struct base {
  std::int32_t id;
};
BOOST_DESCRIBE_STRUCT(base, (), (id))

using customer_key = dm::basic_key<struct customer_tag>;  // never defined: a tag need not be

struct order : base {
  char name[16];
  std::array<char, 8> code;
  point where;
  point path[3];
  color shade;
  plain_enum plain;
  bool paid;
  char grade;
  dm::key next;
  customer_key customers[2];
  std::uint8_t digest[4];
  std::array<std::byte, 6> raw;
  int grid[2][3];
  std::array<std::array<std::uint16_t, 2>, 2> nested;
  char lines[3][10];
  std::byte pages[2][4];
  std::array<std::int64_t, 1> single;
  const float rate;
};
BOOST_DESCRIBE_STRUCT(order, (base),
                      (name, code, where, path, shade, plain, paid, grade, next, customers, digest, raw, grid, nested,
                       lines, pages, single, rate))

struct shuffled {  // described in another order than declared
  std::uint32_t first;
  std::uint32_t second;
};
BOOST_DESCRIBE_STRUCT(shuffled, (), (second, first))

struct [[gnu::packed]] packet {
  std::uint8_t type;
  std::uint32_t length;
  std::uint16_t ports[2];
};
BOOST_DESCRIBE_STRUCT(packet, (), (type, length, ports))

class account {
 public:
  explicit account(int number) : number_(number) {}
  int number() const { return number_; }

 private:
  int number_;
  BOOST_DESCRIBE_CLASS(account, (), (), (), (number_))
};

}  // namespace shop

namespace {

struct inner {
  std::uint8_t a;
  std::uint32_t b;
};
struct plain {
  std::uint16_t first;
  inner nested;
  std::array<inner, 2> array;
  shop::color shade;
  double last;
};
struct with_c_array {
  int a;
  char text[8];
};
struct with_long_array {
  int a;
  char text[5000];
};
struct around_c_array {
  std::uint32_t before;
  with_c_array inside;
};
struct with_base : inner {
  int c;
};
struct with_bits {
  unsigned a : 3;
  unsigned b : 5;
  int c;
};
struct with_one_bit {
  unsigned a : 1;
};
struct with_bit_at_end {
  int a;
  unsigned b : 1;
};
struct [[gnu::packed]] with_packed {
  char a;
  int b;
};
union either {
  int a;
  float b;
};
struct with_union {
  int a;
  either b;
};
struct with_anonymous_union {
  int a;
  union {
    int b;
    float c;
  };
};
class secret {
 public:
  int get() const { return a_; }

 private:
  int a_ = 0;
  [[maybe_unused]] int b_ = 0;
};
class no_default {
 public:
  explicit no_default(int v) : v_(v) {}
  int get() const { return v_; }

 private:
  int v_;
};
struct holds_no_default {
  int a;
  no_default b;
  int c;
};
struct holds_secret {
  int a;
  secret b;
  int c;
};
struct empty {};
struct holds_empty {
  empty e;
  int a;
};
struct with_const {
  const int a;
  int b;
};
struct with_large_array {
  int a;
  std::array<char, 70'000> text;
};
#define EIGHT(x) char x##0, x##1, x##2, x##3, x##4, x##5, x##6, x##7;
struct with_just_enough {
  EIGHT(a) EIGHT(b) EIGHT(c) EIGHT(d) EIGHT(e) EIGHT(f) EIGHT(g) EIGHT(h)
};
struct with_many {
  EIGHT(a) EIGHT(b) EIGHT(c) EIGHT(d) EIGHT(e) EIGHT(f) EIGHT(g) EIGHT(h) char one_more;
};
#undef EIGHT
struct with_long_double {
  long double a;
  int b;
};
struct opaque_by_wish {
  int a;
  int b;
};
struct named_by_wish {
  int a;
};
struct holds_named {
  named_by_wish n;
};

struct knows_better {
  int* a;
  int b;
};
}  // namespace

template <>
struct dm::schema_traits<knows_better> {
  static constexpr bool allow_pointers = true;
};

namespace {

// Pointers, in all the places where they are found.
struct with_pointer {
  int a;
  const char* b;
};
struct deep_pointer {
  std::array<with_pointer, 2> a;
};
struct with_reference {
  int& a;
};
struct with_const_reference {
  int a;
  const int& b;
};
struct with_view {
  std::string_view a;
};
struct with_span {
  std::span<const int> a;
};
struct with_member_pointer {
  int inner::*a;
};
struct with_function_pointer {
  void (*a)();
};
struct pointer_beside_array {
  int a[4];
  int* b;
};
struct reference_beside_array {
  int a[4];
  int& b;
};
// Beside C arrays, where the aggregate as a whole is bytes.
struct deep_pointer_beside_array {
  char text[8];
  with_pointer a;
};
struct array_of_pointer_holders {
  with_pointer a[2];
};
struct pointer_below_two_arrays {
  deep_pointer_beside_array a[3];
  char text[8];
};
struct std_array_beside_array {
  std::array<with_pointer, 2> a;
  char text[8];
};
struct view_beside_array {
  char text[8];
  std::string_view a;
};
struct base_with_pointer {
  int a;
  int* b;
};
struct derived_from_pointer : base_with_pointer {
  int c;
};
struct pointer_behind_exempt {
  int a[2];
  struct {
    knows_better a;
    int* b;
  } b;
};
struct array_of_pointers {
  int* a[2];
};
struct no_pointer_beside_arrays {
  inner a[2];
  char text[3][4];
  std::optional<int> b;
  dm::key next[2];
};
class with_virtual {
 public:
  virtual ~with_virtual() = default;
  virtual int get() const { return a; }
  int a = 0;
};
struct described_nested_pointer {
  int a;
  with_pointer nested[2];
};
BOOST_DESCRIBE_STRUCT(described_nested_pointer, (), (a, nested))
struct described_base_with_pointer {
  int* p;
};
BOOST_DESCRIBE_STRUCT(described_base_with_pointer, (), (p))
struct described_derived : described_base_with_pointer {
  int b;
};
BOOST_DESCRIBE_STRUCT(described_derived, (described_base_with_pointer), (b))
struct described_pointer {
  void* a[2];
};
BOOST_DESCRIBE_STRUCT(described_pointer, (), (a))
struct holds_knows_better {
  knows_better a;
  char text[8];
};
struct with_string {
  std::string a;
};

template <class T>
struct box {
  T value;
};

const schema_field* find(const schema& s, std::string_view name) {
  for (const schema_field& field : s.fields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

// Field `name` of `s`, as "kind type at offset: size x count", with [] for arrays.
std::string about(const schema& s, std::string_view name) {
  const schema_field* f = find(s, name);
  if (f == nullptr) return "none";
  return std::string(to_string(f->kind)) + " " + f->type_name + " at " + std::to_string(f->offset) + ": " +
         std::to_string(f->size_bytes) + "x" + std::to_string(f->count) + (f->is_array ? "[]" : "");
}

template <class T>
std::string about_type() {
  const schema s = schema_of<T>();
  REQUIRE_FALSE(first_fault(s, sizeof(T)));
  const auto decoded = dm::decode(encode(s), sizeof(T));
  REQUIRE(decoded);
  REQUIRE(*decoded.value == s);
  return about(s, "") + (s.fields.size() == 1 ? "" : " with " + std::to_string(s.fields.size() - 1));
}

std::string at(const char* kind_and_type, std::size_t offset, const char* size_and_count) {
  return std::string(kind_and_type) + " at " + std::to_string(offset) + ": " + size_and_count;
}

template <class T>
bool is_opaque() {
  const schema s = schema_of<T>();
  return s.fields.size() == 1 && s.fields[0].kind == field_kind::bytes && s.fields[0].size_bytes == sizeof(T);
}

}  // namespace

template <>
struct dm::schema_traits<opaque_by_wish> {
  static constexpr bool opaque = true;
};
template <>
struct dm::schema_traits<named_by_wish> {
  static constexpr const char* name = "wish";
  static constexpr std::uint32_t version = 4;
};

TEST_CASE("a described struct is its members, by name", "[schema_of]") {
  using shop::order;
#if defined(__clang__)
#pragma clang diagnostic ignored "-Winvalid-offsetof"
#else
#pragma GCC diagnostic ignored "-Winvalid-offsetof"  // of a class with a base: conditionally supported, and is
#endif
  const schema s = schema_of<order>();
  CHECK_FALSE(first_fault(s, sizeof(order)));
  CHECK(s.fields[0].type_name == "shop::order");
  CHECK(s.fields[0].size_bytes == sizeof(order));
  CHECK(s.fields[1].name == "id");
  CHECK(about(s, "id") == at("i32 i32", 0, "4x1"));
  CHECK(about(s, "name") == at("text char", offsetof(order, name), "1x16"));
  CHECK(about(s, "code") == at("text char", offsetof(order, code), "1x8"));
  CHECK(about(s, "where") == at("structure shop::point", offsetof(order, where), "16x1"));
  CHECK(about(s, "x") == at("f32 f32", offsetof(order, where.x), "4x1"));
  CHECK(about(s, "y") == at("f64 f64", offsetof(order, where.y), "8x1"));
  CHECK(about(s, "path") == at("structure shop::point", offsetof(order, path), "16x3[]"));
  CHECK(about(s, "shade") == at("enum shop::color", offsetof(order, shade), "1x1"));
  CHECK(about(s, "plain") == at("enum shop::plain_enum", offsetof(order, plain), "2x1"));
  CHECK(about(s, "paid") == at("bool bool", offsetof(order, paid), "1x1"));
  CHECK(about(s, "grade") == at("char char", offsetof(order, grade), "1x1"));
  CHECK(about(s, "next") == at("key dm::key", offsetof(order, next), "8x1"));
  CHECK(about(s, "customers") == at("key dm::basic_key<shop::customer_tag>", offsetof(order, customers), "8x2[]"));
  CHECK(about(s, "digest") == at("u8 u8", offsetof(order, digest), "1x4[]"));
  CHECK(about(s, "raw") == at("bytes std::byte", offsetof(order, raw), "6x1"));
  CHECK(about(s, "grid") == at("i32 i32", offsetof(order, grid), "4x6[]"));
  CHECK(about(s, "nested") == at("u16 u16", offsetof(order, nested), "2x4[]"));
  CHECK(about(s, "lines") == at("text char", offsetof(order, lines), "10x3[]"));
  CHECK(about(s, "pages") == at("bytes std::byte", offsetof(order, pages), "4x2[]"));
  CHECK(about(s, "single") == at("i64 i64", offsetof(order, single), "8x1[]"));
  CHECK(about(s, "rate") == at("f32 f32", offsetof(order, rate), "4x1"));
}

TEST_CASE("members of an array of structs are those of its first element", "[schema_of]") {
  const schema s = schema_of<std::array<shop::point, 3>>();
  REQUIRE(s.fields.size() == 3);
  CHECK(s.fields[0].kind == field_kind::structure);
  CHECK(s.fields[0].is_array);
  CHECK(s.fields[0].count == 3);
  CHECK(s.fields[0].size_bytes == sizeof(shop::point));
  CHECK(s.fields[1].offset == 0);
  CHECK(s.fields[2].offset == offsetof(shop::point, y));
}

TEST_CASE("a described enum has names", "[schema_of]") {
  const schema s = schema_of<shop::color>();
  REQUIRE(s.fields.size() == 1);
  CHECK(s.fields[0].kind == field_kind::enumeration);
  CHECK(s.fields[0].underlying == field_kind::u8);
  CHECK(s.fields[0].enumerators == std::vector<dm::schema_enumerator>{{"red", 1}, {"green", 2}, {"blue", 4}});
  CHECK(schema_of<shop::huge>().fields[0].enumerators == std::vector<dm::schema_enumerator>{{"top", -1}});
  CHECK(schema_of<shop::plain_enum>().fields[0].enumerators.empty());
  CHECK(schema_of<shop::plain_enum>().fields[0].underlying == field_kind::i16);
  CHECK(dm::fixed_size(schema_of<shop::letter>().fields[0].underlying) == 1);
}

TEST_CASE("members are in the order of their offsets, however they were listed", "[schema_of]") {
  const schema s = schema_of<shop::shuffled>();
  CHECK(s.fields[1].name == "first");
  CHECK(s.fields[2].name == "second");
}

TEST_CASE("a packed struct can be described", "[schema_of]") {
  const schema s = schema_of<shop::packet>();
  CHECK(about(s, "length") == "u32 u32 at 1: 4x1");
  CHECK(about(s, "ports") == "u16 u16 at 5: 2x2[]");
}

TEST_CASE("a class that describes its private members shows them", "[schema_of]") {
  CHECK(about(schema_of<shop::account>(), "number_") == "i32 i32 at 0: 4x1");
}

TEST_CASE("a plain aggregate is its fields, without names", "[schema_of]") {
  const schema s = schema_of<plain>();
  CHECK_FALSE(first_fault(s, sizeof(plain)));
  REQUIRE(s.fields.size() == 10);
  const std::size_t offsets[] = {0,
                                 offsetof(plain, first),
                                 offsetof(plain, nested),
                                 offsetof(plain, nested.a),
                                 offsetof(plain, nested.b),
                                 offsetof(plain, array),
                                 offsetof(plain, array) + offsetof(inner, a),
                                 offsetof(plain, array) + offsetof(inner, b),
                                 offsetof(plain, shade),
                                 offsetof(plain, last)};
  const field_kind kinds[] = {field_kind::structure,   field_kind::u16,       field_kind::structure, field_kind::u8,
                              field_kind::u32,         field_kind::structure, field_kind::u8,        field_kind::u32,
                              field_kind::enumeration, field_kind::f64};
  const int depths[] = {0, 1, 1, 2, 2, 1, 2, 2, 1, 1};
  for (std::size_t i = 0; i < s.fields.size(); ++i) {
    INFO("field " << i);
    CHECK(s.fields[i].offset == offsets[i]);
    CHECK(s.fields[i].kind == kinds[i]);
    CHECK(s.fields[i].depth == depths[i]);
    CHECK(s.fields[i].name == "");
  }
  CHECK(s.fields[8].enumerators.size() == 3);
  CHECK(about_type<with_const>() == "structure (anonymous namespace)::with_const at 0: 8x1 with 2");
  CHECK(schema_of<with_just_enough>().fields.size() == 65);
  CHECK(about_type<with_large_array>() == "structure (anonymous namespace)::with_large_array at 0: 70004x1 with 2");
}

TEST_CASE("what cannot be taken apart is bytes", "[schema_of]") {
  CHECK(is_opaque<with_c_array>());
  CHECK(is_opaque<with_long_array>());
  CHECK(is_opaque<with_many>());
  CHECK(is_opaque<with_base>());
  CHECK(is_opaque<with_bits>());
  CHECK(is_opaque<with_one_bit>());
  CHECK(is_opaque<with_bit_at_end>());
  CHECK(is_opaque<with_packed>());
  CHECK(is_opaque<either>());
  CHECK(is_opaque<with_union>());
  CHECK(is_opaque<with_anonymous_union>());
  CHECK(is_opaque<secret>());
  CHECK(is_opaque<no_default>());
  CHECK(is_opaque<holds_no_default>());
  CHECK(is_opaque<std::optional<int>>());
  CHECK(is_opaque<long double>());
  CHECK(is_opaque<opaque_by_wish>());
}

TEST_CASE("what cannot be taken apart inside of what can is bytes there", "[schema_of]") {
  CHECK(about_type<around_c_array>() == "structure (anonymous namespace)::around_c_array at 0: 16x1 with 2");
  CHECK(schema_of<around_c_array>().fields[2].kind == field_kind::bytes);
  CHECK(schema_of<around_c_array>().fields[2].offset == 4);
  CHECK(schema_of<around_c_array>().fields[2].size_bytes == sizeof(with_c_array));
  CHECK(about_type<holds_secret>() == "structure (anonymous namespace)::holds_secret at 0: 16x1 with 3");
  CHECK(schema_of<holds_secret>().fields[2].kind == field_kind::bytes);
  CHECK(schema_of<holds_secret>().fields[2].offset == 4);
  CHECK(schema_of<with_long_double>().fields[1].kind == field_kind::bytes);
  CHECK(schema_of<with_long_double>().fields[1].size_bytes == sizeof(long double));
}

TEST_CASE("members without bytes of their own are left out", "[schema_of]") {
  CHECK(about_type<holds_empty>() == "structure (anonymous namespace)::holds_empty at 0: 8x1 with 1");
  CHECK(about_type<empty>() == "structure (anonymous namespace)::empty at 0: 1x1");
}

TEST_CASE("scalars, keys and arrays are values too", "[schema_of]") {
  CHECK(about_type<int>() == "i32 i32 at 0: 4x1");
  CHECK(about_type<long>() == about_type<std::int64_t>());
  CHECK(about_type<long long>() == "i64 i64 at 0: 8x1");
  CHECK(about_type<unsigned long long>() == "u64 u64 at 0: 8x1");
  CHECK(about_type<signed char>() == "i8 i8 at 0: 1x1");
  CHECK(about_type<std::uint8_t>() == "u8 u8 at 0: 1x1");
  CHECK(about_type<std::int16_t>() == "i16 i16 at 0: 2x1");
  CHECK(about_type<char32_t>() == "u32 u32 at 0: 4x1");
  CHECK(about_type<bool>() == "bool bool at 0: 1x1");
  CHECK(about_type<char>() == "char char at 0: 1x1");
  CHECK(about_type<float>() == "f32 f32 at 0: 4x1");
  CHECK(about_type<double>() == "f64 f64 at 0: 8x1");
  CHECK(about_type<dm::key>() == "key dm::key at 0: 8x1");
  CHECK(about_type<std::byte>() == "bytes std::byte at 0: 1x1");
  CHECK(about_type<std::array<char, 32>>() == "text char at 0: 1x32");
  CHECK(about_type<char[4][8]>() == "text char at 0: 8x4[]");
  CHECK(about_type<std::array<int, 5>>() == "i32 i32 at 0: 4x5[]");
  CHECK(about_type<const int[5]>() == "i32 i32 at 0: 4x5[]");
  CHECK(about_type<std::array<std::byte, 5>>() == "bytes std::byte at 0: 5x1");
  CHECK(about_type<std::array<int, 0>>() == "bytes std::array<int, 0> at 0: 1x1");
}

TEST_CASE("types are called what the program wants, else the same by every compiler", "[schema_of]") {
  CHECK(dm::schema_type_name<named_by_wish>() == "wish");
  CHECK(schema_of<holds_named>().fields[1].type_name == "wish");
  CHECK(dm::schema_type_name<box<box<std::array<int, 3>>>>() ==
        "(anonymous namespace)::box<(anonymous namespace)::box<std::array<int, 3>>>");
  CHECK(dm::schema_type_name<box<box<box<box<int>>>>>().ends_with("box<int>>>>"));
  CHECK(schema_of<named_by_wish>().version == 4);
  CHECK(schema_of<holds_named>().version == 0);
}

TEST_CASE("pointers, references and views are found wherever they are", "[schema_of]") {
  STATIC_REQUIRE(dm::storable<shop::order>);
  STATIC_REQUIRE(dm::storable<plain>);
  STATIC_REQUIRE(dm::storable<with_c_array>);
  STATIC_REQUIRE(dm::storable<secret>);
  STATIC_REQUIRE(dm::storable<int>);
  STATIC_REQUIRE(dm::storable<dm::key>);
  STATIC_REQUIRE(!dm::storable<int*>);
  STATIC_REQUIRE(!dm::storable<std::nullptr_t>);
  STATIC_REQUIRE(!dm::storable<std::array<int*, 2>>);
  STATIC_REQUIRE(!dm::storable<with_pointer>);
  STATIC_REQUIRE(!dm::storable<deep_pointer>);
  STATIC_REQUIRE(!dm::storable<with_reference>);
  STATIC_REQUIRE(!dm::storable<with_const_reference>);
  STATIC_REQUIRE(!dm::storable<with_view>);
  STATIC_REQUIRE(!dm::storable<with_span>);
  STATIC_REQUIRE(!dm::storable<with_member_pointer>);
  STATIC_REQUIRE(!dm::storable<with_function_pointer>);
  STATIC_REQUIRE(!dm::storable<pointer_beside_array>);
  STATIC_REQUIRE(!dm::storable<reference_beside_array>);
  STATIC_REQUIRE(!dm::storable<deep_pointer_beside_array>);
  STATIC_REQUIRE(!dm::storable<array_of_pointer_holders>);
  STATIC_REQUIRE(!dm::storable<pointer_below_two_arrays>);
  STATIC_REQUIRE(!dm::storable<std_array_beside_array>);
  STATIC_REQUIRE(!dm::storable<view_beside_array>);
  STATIC_REQUIRE(!dm::storable<derived_from_pointer>);
  STATIC_REQUIRE(!dm::storable<pointer_behind_exempt>);
  STATIC_REQUIRE(!dm::storable<array_of_pointers>);
  STATIC_REQUIRE(dm::storable<no_pointer_beside_arrays>);
  STATIC_REQUIRE(!dm::storable<with_virtual>);
  STATIC_REQUIRE(!dm::storable<described_pointer>);
  STATIC_REQUIRE(!dm::storable<described_nested_pointer>);
  STATIC_REQUIRE(!dm::storable<described_derived>);
  STATIC_REQUIRE(!dm::storable<std::string_view>);
  STATIC_REQUIRE(!dm::storable<std::span<int>>);
  STATIC_REQUIRE(!dm::storable<with_string>);
  STATIC_REQUIRE(!dm::storable<std::string>);
  STATIC_REQUIRE(!dm::storable<std::unique_ptr<int>>);
}

TEST_CASE("who knows better may store pointers", "[schema_of]") {
  STATIC_REQUIRE(dm::storable<knows_better>);
  STATIC_REQUIRE(dm::storable<holds_knows_better>);
  const schema s = schema_of<knows_better>();
  REQUIRE(s.fields.size() == 3);
  CHECK(s.fields[1].kind == field_kind::bytes);
  CHECK(s.fields[1].type_name == "int*");
  CHECK(s.fields[1].size_bytes == sizeof(int*));
}

TEST_CASE("a value is printed by the schema of its type", "[schema_of]") {
  const plain value{1, {2, 3}, {{{4, 5}, {6, 7}}}, shop::color::blue, 0.5};
  CHECK(to_text(schema_of<plain>(), std::as_bytes(std::span(&value, 1))) ==
        "{field_0: 1, field_1: {field_0: 2, field_1: 3}, field_2: [{field_0: 4, field_1: 5}, {field_0: 6, "
        "field_1: 7}], "
        "field_3: blue(4), field_4: 0.5}");
  const shop::account account(12);
  CHECK(to_text(schema_of<shop::account>(), std::as_bytes(std::span(&account, 1))) == "{number_: 12}");
}
