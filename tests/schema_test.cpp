// The schema as bytes: what goes in comes out, nothing else is let in, and differences are named.
#include "deferred_map/format/schema.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "catch.hpp"

using dm::field_kind;
using dm::schema;
using dm::schema_field;

namespace {

schema_field make(std::string name, std::string type, field_kind kind, std::uint32_t offset, std::uint32_t size,
                  std::uint32_t count = 1, std::uint16_t depth = 1) {
  schema_field field;
  field.name = std::move(name);
  field.type_name = std::move(type);
  field.kind = kind;
  field.offset = offset;
  field.size_bytes = size;
  field.count = count;
  field.depth = depth;
  field.is_array = count > 1 && kind != field_kind::text;
  return field;
}

constexpr std::uint32_t order_size = 64;

// struct order { char name[16]; double price; color c; leg legs[2]; key next; uint32 sizes[2]; }
schema order_schema() {
  schema result;
  result.version = 3;
  auto& f = result.fields;
  f.push_back(make("", "order", field_kind::structure, 0, order_size, 1, 0));
  f.push_back(make("name", "char", field_kind::text, 0, 1, 16));
  f.push_back(make("price", "f64", field_kind::f64, 16, 8));
  f.push_back(make("shade", "color", field_kind::enumeration, 24, 1));
  f.back().underlying = field_kind::u8;
  f.back().enumerators = {{"red", 1}, {"green", 2}};
  f.push_back(make("legs", "leg", field_kind::structure, 28, 8, 2));
  f.push_back(make("from", "u32", field_kind::u32, 28, 4, 1, 2));
  f.push_back(make("", "f32", field_kind::f32, 32, 4, 1, 2));
  f.push_back(make("next", "dm::key", field_kind::key, 48, 8));
  f.push_back(make("sizes", "u32", field_kind::u32, 56, 4, 2));
  return result;
}

std::string fault_after(const std::function<void(schema&)>& damage) {
  schema damaged = order_schema();
  damage(damaged);
  return first_fault(damaged, order_size).value_or("");
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string difference_after(const std::function<void(schema&)>& change) {
  schema changed = order_schema();
  change(changed);
  return first_difference(order_schema(), changed).value_or("");
}

// Decodes a copy that ends where its allocation ends, so that a sanitizer sees a read past it.
dm::schema_result decode_exactly(const std::vector<std::byte>& bytes, std::uint32_t value_size = order_size) {
  const auto copy = std::make_unique<std::byte[]>(bytes.size());
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return dm::decode({copy.get(), bytes.size()}, value_size);
}

template <class Record>
void edit(std::vector<std::byte>& bytes, std::size_t offset, const std::function<void(Record&)>& change) {
  Record record;
  std::memcpy(&record, bytes.data() + offset, sizeof record);
  change(record);
  std::memcpy(bytes.data() + offset, &record, sizeof record);
}

}  // namespace

TEST_CASE("a schema is decoded as it was encoded", "[schema]") {
  const schema original = order_schema();
  REQUIRE_FALSE(first_fault(original, order_size));
  const auto bytes = encode(original);
  const auto decoded = decode_exactly(bytes);
  CHECK(decoded.reason == "");
  REQUIRE(decoded);
  CHECK(*decoded.value == original);
  CHECK(encode(*decoded.value) == bytes);
}

TEST_CASE("bytes after the schema are not looked at", "[schema]") {
  auto bytes = encode(order_schema());
  bytes.resize(bytes.size() + 100, std::byte{0xff});
  CHECK(decode_exactly(bytes));
}

TEST_CASE("the layout of an encoded schema does not change", "[schema]") {
  schema tiny;
  tiny.version = 7;
  tiny.fields.push_back(make("", "e", field_kind::enumeration, 0, 2, 1, 0));
  tiny.fields[0].underlying = field_kind::i16;
  tiny.fields[0].enumerators = {{"x", -2}};
  // clang-format off
  const unsigned char expected[] = {
      'd', 'm', 'S', 'c',  1, 0,  0, 0,  94, 0, 0, 0,  1, 0, 0, 0,       // magic, layout, total, fields
      1, 0, 0, 0,  6, 0, 0, 0,  7, 0, 0, 0,  0, 0, 0, 0,                 // enumerators, strings, version
      1, 0, 0, 0,  2, 0, 0, 0,  16, 0,  10, 0,  0, 0,  0, 0,             // name, type, kind, underlying, depth, array
      0, 0, 0, 0,  2, 0, 0, 0,  1, 0, 0, 0,  0, 0, 0, 0,                 // offset, size, count, first enumerator
      1, 0, 0, 0,  0, 0, 0, 0,                                           // enumerators
      4, 0, 0, 0,  0, 0, 0, 0,  0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
      0,  0,  'e', 0,  'x', 0};
  // clang-format on
  const auto bytes = encode(tiny);
  REQUIRE(bytes.size() == std::size(expected));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    INFO("byte " << i);
    CHECK(std::to_integer<unsigned>(bytes[i]) == expected[i]);
  }
}

TEST_CASE("the numbers of kinds do not change", "[schema]") {
  CHECK(static_cast<int>(field_kind::bytes) == 1);
  CHECK(static_cast<int>(field_kind::text) == 4);
  CHECK(static_cast<int>(field_kind::u8) == 5);
  CHECK(static_cast<int>(field_kind::i64) == 12);
  CHECK(static_cast<int>(field_kind::f64) == 14);
  CHECK(static_cast<int>(field_kind::key) == 15);
  CHECK(static_cast<int>(field_kind::structure) == 17);
}

TEST_CASE("a schema that breaks an invariant is told apart from a sound one", "[schema]") {
  const auto field = [](std::size_t i, auto change) { return fault_after([=](schema& s) { change(s.fields[i]); }); };
  CHECK(fault_after([](schema&) {}) == "");
  CHECK(contains(fault_after([](schema& s) { s.fields.clear(); }), "no fields"));
  CHECK(contains(field(0, [](auto& f) { f.depth = 1; }), "field 0 of the schema is at the wrong depth"));
  CHECK(contains(field(3, [](auto& f) { f.depth = 0; }), "field 3 of the schema is at the wrong depth"));
  CHECK(contains(field(3, [](auto& f) { f.depth = 2; }), "below a field that is no structure"));
  CHECK(contains(field(5, [](auto& f) { f.depth = 3; }), "below a field that is no structure"));
  CHECK(contains(field(0, [](auto& f) { f.size_bytes = 72; }), "not as large as a value"));
  CHECK(contains(field(0, [](auto& f) { f.name = "order"; }), "has a name"));
  CHECK(contains(field(8, [](auto& f) { f.count = 3; }), "not within its parent"));
  CHECK(contains(field(8, [](auto& f) { f.count = 0xffff'ffff; }), "not within its parent"));
  CHECK(contains(field(6, [](auto& f) { f.offset = 36; }), "not within its parent"));
  CHECK(contains(field(6, [](auto& f) { f.offset = 28; }), "overlaps"));
  CHECK(contains(field(2, [](auto& f) { f.offset = 8; }), "overlaps"));
  CHECK(contains(field(2, [](auto& f) { f.offset = 0xffff'fff8; }), "not within its parent"));
  CHECK(contains(field(2, [](auto& f) { f.size_bytes = 4; }), "not its kind's"));
  CHECK(contains(field(2, [](auto& f) { f.count = 0; }), "no bytes"));
  CHECK(contains(field(2, [](auto& f) { f.kind = field_kind::none; }), "unknown kind"));
  CHECK(contains(field(2, [](auto& f) { f.kind = static_cast<field_kind>(18); }), "unknown kind"));
  CHECK(contains(field(2, [](auto& f) { f.underlying = field_kind::u8; }), "no enumeration"));
  CHECK(contains(field(2, [](auto& f) { f.enumerators = {{"a", 1}}; }), "no enumeration"));
  CHECK(contains(field(1, [](auto& f) { f.size_bytes = 2; }), "not one byte each"));
  CHECK(contains(field(8, [](auto& f) { f.is_array = false; }), "no array"));
  CHECK(contains(field(3, [](auto& f) { f.underlying = field_kind::f32; }), "no integer"));
  CHECK(contains(field(3, [](auto& f) { f.enumerators[0].value = 256; }), "cannot hold"));
  CHECK(contains(field(3, [](auto& f) { f.enumerators[0].value = -1; }), "cannot hold"));
  CHECK(contains(field(3, [](auto& f) { f.enumerators[0].name = "a\nb"; }), "control characters"));
  CHECK(contains(field(3, [](auto& f) { f.enumerators[0].name = ""; }), "without a name"));
  CHECK(contains(field(1, [](auto& f) { f.name = "\x1b[2J"; }), "control characters"));
  CHECK(contains(field(1, [](auto& f) { f.name = std::string("a\0b", 3); }), "control characters"));
  CHECK(contains(field(1, [](auto& f) { f.type_name = "\x7f"; }), "control characters"));
  CHECK(contains(field(1, [](auto& f) { f.type_name = ""; }), "without a name"));
  CHECK(contains(field(1, [](auto& f) { f.name.assign(dm::schema_string_bytes_max, 'x'); }), "longer names"));
}

TEST_CASE("structures nest so deep and no deeper", "[schema]") {
  schema deep;
  for (std::uint16_t d = 0; d <= dm::schema_depth_max; ++d) {
    deep.fields.push_back(make("", "s", field_kind::structure, 0, 8, 1, d));
  }
  CHECK_FALSE(first_fault(deep, 8));
  CHECK(decode_exactly(encode(deep), 8));
  deep.fields.push_back(make("", "s", field_kind::structure, 0, 8, 1, dm::schema_depth_max + 1));
  CHECK_FALSE(decode_exactly(encode(deep), 8));
}

TEST_CASE("decode refuses what encode would not have written", "[schema]") {
  const auto refused = [](const std::function<void(std::vector<std::byte>&)>& damage) {
    auto bytes = encode(order_schema());
    damage(bytes);
    const auto result = decode_exactly(bytes);
    INFO(result.reason);
    return !result && !result.reason.empty();
  };
  const auto head = [&](const std::function<void(dm::schema_head&)>& change) {
    return refused([&](auto& bytes) { edit<dm::schema_head>(bytes, 0, change); });
  };
  const auto record = [&](std::size_t i, const std::function<void(dm::schema_field_record&)>& change) {
    return refused([&](auto& bytes) { edit<dm::schema_field_record>(bytes, 32 + 40 * i, change); });
  };
  CHECK(head([](auto& h) { h.magic ^= 1; }));
  CHECK(head([](auto& h) { h.layout = 2; }));
  CHECK(head([](auto& h) { h.reserved_0 = 1; }));
  CHECK(head([](auto& h) { h.reserved_1 = 1; }));
  CHECK(head([](auto& h) { h.field_count = 0; }));
  CHECK(head([](auto& h) { h.field_count = 0xffff'ffff; }));
  CHECK(head([](auto& h) { h.enumerator_count = 0xffff'ffff; }));
  CHECK(head([](auto& h) { h.string_bytes = 0; }));
  CHECK(head([](auto& h) { h.string_bytes = 0xffff'ffff; }));
  CHECK(head([](auto& h) { h.total_bytes -= 1; }));
  CHECK(record(2, [](auto& r) { r.reserved = 1; }));
  CHECK(record(2, [](auto& r) { r.is_array = 2; }));
  CHECK(record(2, [](auto& r) { r.name += 1; }));
  CHECK(record(2, [](auto& r) { r.type_name = 0xffff'ffff; }));
  CHECK(record(3, [](auto& r) { r.first_enumerator = 1; }));
  CHECK(record(3, [](auto& r) { r.enumerator_count = 1; }));
  CHECK(record(3, [](auto& r) { r.enumerator_count = 0xffff'ffff; }));
  CHECK(refused([](auto& bytes) { bytes.back() = std::byte{'x'}; }));  // the last string does not end
  CHECK(refused([](auto& bytes) { bytes.clear(); }));
  CHECK_FALSE(refused([](auto&) {}));
  CHECK_FALSE(decode_exactly(encode(order_schema()), order_size + 8));
}

TEST_CASE("enumerators that belong to no field are refused", "[schema]") {
  schema nameless = order_schema();
  nameless.fields[3].enumerators.clear();
  auto bytes = encode(nameless);
  const auto records_end = static_cast<std::ptrdiff_t>(sizeof(dm::schema_head) + 9 * sizeof(dm::schema_field_record));
  bytes.insert(bytes.begin() + records_end, sizeof(dm::schema_enumerator_record), std::byte{0});
  edit<dm::schema_head>(bytes, 0, [](auto& head) {
    head.enumerator_count = 1;
    head.total_bytes += sizeof(dm::schema_enumerator_record);
  });
  CHECK(decode_exactly(bytes).reason == "the schema has enumerators that belong to no field");
}

TEST_CASE("a schema cut off anywhere is refused", "[schema]") {
  const auto bytes = encode(order_schema());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CHECK_FALSE(decode_exactly({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)}));
  }
}

TEST_CASE("whatever bytes are decoded, the result keeps every invariant or has a reason", "[schema]") {
  const auto original = encode(order_schema());
  const auto check = [](const std::vector<std::byte>& bytes) {
    const auto result = decode_exactly(bytes);
    if (!result) return !result.reason.empty();
    // There is one encoding of a schema, so an accepted one is written back as it was read.
    const auto again = encode(*result.value);
    return !first_fault(*result.value, order_size) && again.size() <= bytes.size() &&
           std::equal(again.begin(), again.end(), bytes.begin());
  };

  for (std::size_t bit = 0; bit < original.size() * 8; ++bit) {
    auto bytes = original;
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    INFO("bit " << bit);
    REQUIRE(check(bytes));
  }

  const auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto below = [&random](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  const std::uint32_t interesting[] = {0, 1, 2, 17, 0x7f, 0xff, 0xffff, 0x10000, 0x7fff'ffff, 0x8000'0000, 0xffff'ffff};
  for (int round = 0; round < 20'000; ++round) {
    auto bytes = original;
    for (std::size_t n = 1 + below(4); n > 0; --n) {
      switch (below(4)) {
        case 0:
          bytes[below(bytes.size())] = static_cast<std::byte>(below(256));
          break;
        case 1:
          bytes[below(bytes.size())] ^= std::byte{1} << below(8);
          break;
        case 2: {
          if (bytes.size() < 4) break;
          const std::uint32_t value = interesting[below(std::size(interesting))];
          const std::size_t at = below(bytes.size() / 4) * 4;
          std::memcpy(bytes.data() + at, &value, std::min(sizeof value, bytes.size() - at));
          break;
        }
        default:
          if (below(8) == 0) bytes.resize(1 + below(bytes.size()));
      }
    }
    REQUIRE(check(bytes));
  }
  for (int round = 0; round < 2'000; ++round) {
    std::vector<std::byte> bytes(below(400));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(below(256));
    if (bytes.size() >= 6 && below(2) == 0) std::copy_n(original.begin(), 6, bytes.begin());
    REQUIRE(check(bytes));
  }
}

TEST_CASE("equal schemas have no difference", "[schema]") {
  CHECK(difference_after([](schema&) {}) == "");
}

TEST_CASE("the first field that differs is named with both sides of it", "[schema]") {
  CHECK(difference_after([](schema& s) { s.fields[2] = make("price", "f32", field_kind::f32, 16, 4); }) ==
        "field 'price': the file has f64 at offset 16, the program has f32 at offset 16");
  CHECK(difference_after([](schema& s) { s.fields[7].offset = 44; }) ==
        "field 'next': the file has dm::key at offset 48, the program has dm::key at offset 44");
  CHECK(difference_after([](schema& s) { s.fields[7].type_name = "dm::basic_key<user>"; }) ==
        "field 'next': the file has dm::key at offset 48, the program has dm::basic_key<user> at offset 48");
  CHECK(difference_after([](schema& s) { s.fields[1].count = 12; }) ==
        "field 'name': the file has text of 16 bytes at offset 0, the program has text of 12 bytes at offset "
        "0");
  CHECK(difference_after([](schema& s) { s.fields[8].kind = field_kind::i32; }) ==
        "field 'sizes': the file has u32[2] at offset 56, the program has i32[2] at offset 56");
  CHECK(difference_after([](schema& s) { s.fields[5].kind = field_kind::i32; }) ==
        "field 'legs[].from': the file has u32 at offset 28, the program has i32 at offset 28");
  CHECK(difference_after([](schema& s) { s.fields[6].kind = field_kind::i32; }) ==
        "field 'legs[].field_1': the file has f32 at offset 32, the program has i32 at offset 32");
  CHECK(difference_after([](schema& s) { s.fields[4].type_name = "part"; }) ==
        "field 'legs': the file has leg (structure of 8 bytes)[2] at offset 28, the program has part "
        "(structure of 8 "
        "bytes)[2] at offset 28");
  CHECK(difference_after([](schema& s) { s.fields[3].underlying = field_kind::i8; }) ==
        "field 'shade': the file has color (enum, u8) at offset 24, the program has color (enum, i8) at "
        "offset 24");
}

TEST_CASE("fields that one side lacks are named", "[schema]") {
  CHECK(difference_after([](schema& s) { s.fields.pop_back(); }) ==
        "field 'sizes' (u32[2] at offset 56) is in the file but not in the program");
  CHECK(difference_after([](schema& s) { s.fields.erase(s.fields.begin() + 1); }) ==
        "field 'name' (text of 16 bytes at offset 0) is in the file but not in the program");
  CHECK(difference_after([](schema& s) {
          s.fields[0].size_bytes += 8;
          s.fields.push_back(make("note", "u64", field_kind::u64, 64, 8));
        }) == "field 'note' (u64 at offset 64) is in the program but not in the file");
  CHECK(difference_after([](schema& s) {
          s.fields.insert(s.fields.begin() + 3, make("extra", "u8", field_kind::u8, 25, 1));
        }) == "field 'extra' (u8 at offset 25) is in the program but not in the file");
  CHECK(difference_after([](schema& s) { s.fields[2].name = "cost"; }) ==
        "field 'price' (f64 at offset 16) is in the file but not in the program, which has 'cost' (f64 at "
        "offset 16)");
}

TEST_CASE("a field that moved is found where it went", "[schema]") {
  CHECK(difference_after([](schema& s) { std::swap(s.fields[7].name, s.fields[8].name); }) ==
        "field 'next': the file has dm::key at offset 48, the program has u32[2] at offset 56");
}

TEST_CASE("types that differ in name, size or version differ", "[schema]") {
  CHECK(difference_after([](schema& s) { s.fields[0].type_name = "trade"; }) ==
        "the value type: the file has order (structure of 64 bytes), the program has trade (structure of 64 "
        "bytes)");
  CHECK(difference_after([](schema& s) { s.fields[0].size_bytes = 72; }) ==
        "the value type: the file has order (structure of 64 bytes), the program has order (structure of 72 "
        "bytes)");
  CHECK(difference_after([](schema& s) { s.version = 4; }) ==
        "the value type: the file has version 3 of order, the program has version 4");
  CHECK(difference_after([](schema& s) {
          s.version = 4;
          s.fields[2].name = "";
          s.fields[2].kind = field_kind::u64;
        }) ==
        "the value type: the file has version 3 of order, the program has version 4; "
        "field 'field_1': the file has f64 at offset 16, the program has u64 at offset 16");
}

TEST_CASE("fields without names are compared by position", "[schema]") {
  CHECK(difference_after([](schema& s) {
          for (auto& field : s.fields) field.name.clear();
        }) == "");
}

TEST_CASE("enumerators may be added, not lost or renumbered", "[schema]") {
  CHECK(difference_after([](schema& s) { s.fields[3].enumerators.push_back({"blue", 3}); }) == "");
  CHECK(difference_after([](schema& s) {
          s.fields[3].enumerators.insert(s.fields[3].enumerators.begin(), {"no", 0});
        }) == "");
  CHECK(difference_after([](schema& s) { s.fields[3].enumerators.clear(); }) == "");
  CHECK(difference_after([](schema& s) { s.fields[3].enumerators[1].value = 3; }) ==
        "field 'shade': enumerator 'green' of color is 2 in the file and 3 in the program");
  CHECK(difference_after([](schema& s) { s.fields[3].enumerators.pop_back(); }) ==
        "field 'shade': enumerator 'green' of color is 2 in the file and missing in the program");
}

TEST_CASE("where one side knows only bytes, type name and size decide", "[schema]") {
  schema opaque;
  opaque.version = 3;
  opaque.fields.push_back(make("", "order", field_kind::bytes, 0, order_size, 1, 0));
  CHECK_FALSE(first_difference(opaque, opaque));
  CHECK_FALSE(first_difference(opaque, order_schema()));
  CHECK_FALSE(first_difference(order_schema(), opaque));
  opaque.fields[0].size_bytes = 72;
  CHECK(first_difference(order_schema(), opaque).value_or("") ==
        "the value type: the file has order (structure of 64 bytes), the program has order (72 bytes)");
  opaque.fields[0].size_bytes = order_size;
  opaque.fields[0].type_name = "trade";
  CHECK(first_difference(order_schema(), opaque));

  CHECK(difference_after([](schema& s) {  // a member that is opaque on one side
          s.fields[4].kind = field_kind::bytes;
          s.fields.erase(s.fields.begin() + 5, s.fields.begin() + 7);
        }) == "");
}
