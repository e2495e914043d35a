// Files meet programs whose types have changed since: real files, real types. What may differ, and what is said of the
// first thing that may not.
#include <boost/describe.hpp>

#include "catch.hpp"
#include "deferred_map/mapped_map.hpp"
#include "files.hpp"
#include "temporary_directory.hpp"

namespace {

using customer_key = dm::basic_key<struct customer_tag>;
using supplier_key = dm::basic_key<struct supplier_tag>;

// Each namespace is the program of another day. They call their types the same (`schema_traits` below), as one program
// does over time.
namespace first {
enum class side : std::uint8_t { buy = 1, sell = 2 };
BOOST_DESCRIBE_ENUM(side, buy, sell)
struct leg {
  float rate;
  std::uint32_t days;
};
BOOST_DESCRIBE_STRUCT(leg, (), (rate, days))
struct order {
  customer_key customer;
  double price;
  std::uint32_t amount;
  side way;
  bool paid;
  char code[10];
  leg legs[2];
};
BOOST_DESCRIBE_STRUCT(order, (), (customer, price, amount, way, paid, code, legs))
}  // namespace first

// Only what differs from `first` is said.
#define PROGRAM(name_, side_, leg_, members, list) \
  namespace name_ {                                \
  using side = side_;                              \
  using leg = leg_;                                \
  struct order members;                            \
  BOOST_DESCRIBE_STRUCT(order, (), list)           \
  }
#define LIST(...) (__VA_ARGS__)
#define MEMBERS(...) \
  { __VA_ARGS__ }

namespace changed {
enum class side_renumbered : std::uint8_t { buy = 1, sell = 3 };
BOOST_DESCRIBE_ENUM(side_renumbered, buy, sell)
enum class side_with_more : std::uint8_t { none = 0, buy = 1, sell = 2, swap = 3 };
BOOST_DESCRIBE_ENUM(side_with_more, none, buy, sell, swap)
enum class side_with_less : std::uint8_t { buy = 1 };
BOOST_DESCRIBE_ENUM(side_with_less, buy)
enum class side_signed : std::int8_t { buy = 1, sell = 2 };
BOOST_DESCRIBE_ENUM(side_signed, buy, sell)
enum class side_undescribed : std::uint8_t { left = 1, right = 2 };
struct leg_with_signed_days {
  float rate;
  std::int32_t days;
};
BOOST_DESCRIBE_STRUCT(leg_with_signed_days, (), (rate, days))
struct leg_with_rate_in_points {
  std::uint32_t rate;
  std::uint32_t days;
};
BOOST_DESCRIBE_STRUCT(leg_with_rate_in_points, (), (rate, days))
}  // namespace changed

// clang-format off
PROGRAM(same, first::side, first::leg,
  MEMBERS(customer_key customer; double price; std::uint32_t amount; side way; bool paid; char code[10]; leg legs[2];),
  LIST(customer, price, amount, way, paid, code, legs))
PROGRAM(type_changed, first::side, first::leg,
  MEMBERS(customer_key customer; std::int64_t price; std::uint32_t amount; side way; bool paid; char code[10]; leg legs[2];),
  LIST(customer, price, amount, way, paid, code, legs))
PROGRAM(same_size, first::side, first::leg,
  MEMBERS(customer_key customer; double price; float amount; side way; bool paid; char code[10]; leg legs[2];),
  LIST(customer, price, amount, way, paid, code, legs))
PROGRAM(flag_to_number, first::side, first::leg,
  MEMBERS(customer_key customer; double price; std::uint32_t amount; side way; std::uint8_t paid; char code[10]; leg legs[2];),
  LIST(customer, price, amount, way, paid, code, legs))
PROGRAM(renamed, first::side, first::leg,
  MEMBERS(customer_key customer; double cost; std::uint32_t amount; side way; bool paid; char code[10]; leg legs[2];),
  LIST(customer, cost, amount, way, paid, code, legs))
PROGRAM(added_at_end, first::side, first::leg,
  MEMBERS(customer_key customer; double price; std::uint32_t amount; side way; bool paid; char code[10]; leg legs[2];
          std::uint64_t placed_unix_ns;),
  LIST(customer, price, amount, way, paid, code, legs, placed_unix_ns))
PROGRAM(added_in_between, first::side, first::leg,
  MEMBERS(customer_key customer; std::uint64_t placed_unix_ns; double price; std::uint32_t amount; side way; bool paid;
          char code[10]; leg legs[2];),
  LIST(customer, placed_unix_ns, price, amount, way, paid, code, legs))
PROGRAM(added_in_padding, first::side, first::leg,
  MEMBERS(customer_key customer; double price; std::uint32_t amount; side way; bool paid; char code[9]; char urgent; leg legs[2];),
  LIST(customer, price, amount, way, paid, code, urgent, legs))
PROGRAM(removed_at_end, first::side, first::leg,
  MEMBERS(customer_key customer; double price; std::uint32_t amount; side way; bool paid; char code[10];),
  LIST(customer, price, amount, way, paid, code))
PROGRAM(removed_in_between, first::side, first::leg,
  MEMBERS(customer_key customer; double price; side way; bool paid; char code[10]; leg legs[2];),
  LIST(customer, price, way, paid, code, legs))
PROGRAM(reordered, first::side, first::leg,
  MEMBERS(customer_key customer; std::uint32_t amount; double price; side way; bool paid; char code[10]; leg legs[2];),
  LIST(customer, amount, price, way, paid, code, legs))
PROGRAM(text_longer, first::side, first::leg,
  MEMBERS(customer_key customer; double price; std::uint32_t amount; side way; bool paid; char code[14]; leg legs[2];),
  LIST(customer, price, amount, way, paid, code, legs))
PROGRAM(array_longer, first::side, first::leg,
  MEMBERS(customer_key customer; double price; std::uint32_t amount; side way; bool paid; char code[10]; leg legs[3];),
  LIST(customer, price, amount, way, paid, code, legs))
PROGRAM(std_array, first::side, first::leg,
  MEMBERS(customer_key customer; double price; std::uint32_t amount; side way; bool paid; std::array<char, 10> code;
          std::array<leg, 2> legs;),
  LIST(customer, price, amount, way, paid, code, legs))
PROGRAM(key_of_another, first::side, first::leg,
  MEMBERS(supplier_key customer; double price; std::uint32_t amount; side way; bool paid; char code[10]; leg legs[2];),
  LIST(customer, price, amount, way, paid, code, legs))
PROGRAM(key_to_number, first::side, first::leg,
  MEMBERS(std::uint64_t customer; double price; std::uint32_t amount; side way; bool paid; char code[10]; leg legs[2];),
  LIST(customer, price, amount, way, paid, code, legs))

#define WITH_SIDE(name, side) PROGRAM(name, side, first::leg, \
  MEMBERS(customer_key customer; double price; std::uint32_t amount; side way; bool paid; char code[10]; leg legs[2];), \
  LIST(customer, price, amount, way, paid, code, legs))
WITH_SIDE(renumbered, changed::side_renumbered)
WITH_SIDE(enumerators_added, changed::side_with_more)
WITH_SIDE(enumerator_removed, changed::side_with_less)
WITH_SIDE(underlying_changed, changed::side_signed)
WITH_SIDE(undescribed_enum, changed::side_undescribed)
#define WITH_LEG(name, leg) PROGRAM(name, first::side, leg, \
  MEMBERS(customer_key customer; double price; std::uint32_t amount; side way; bool paid; char code[10]; leg legs[2];), \
  LIST(customer, price, amount, way, paid, code, legs))
WITH_LEG(nested_changed, changed::leg_with_signed_days)
WITH_LEG(nested_same_size, changed::leg_with_rate_in_points)
WITH_LEG(versioned, first::leg)
WITH_LEG(moved_without_a_name, first::leg)
// clang-format on

// Without Boost.Describe: fields have places, not names.
namespace plain {
struct pair {
  std::uint32_t a;
  std::array<float, 2> b;
};
struct other {
  std::uint32_t a;
  std::array<std::uint32_t, 2> b;
};
struct longer {
  std::uint32_t a;
  std::array<float, 2> b;
  std::uint32_t c;
};
}  // namespace plain

}  // namespace

#define NAMED(type, text)              \
  template <>                          \
  struct dm::schema_traits<type> {     \
    static constexpr auto name = text; \
  };
NAMED(first::side, "side")
NAMED(changed::side_renumbered, "side")
NAMED(changed::side_with_more, "side")
NAMED(changed::side_with_less, "side")
NAMED(changed::side_signed, "side")
NAMED(changed::side_undescribed, "side")
NAMED(first::leg, "leg")
NAMED(changed::leg_with_signed_days, "leg")
NAMED(changed::leg_with_rate_in_points, "leg")
NAMED(first::order, "order")
NAMED(same::order, "order")
NAMED(type_changed::order, "order")
NAMED(same_size::order, "order")
NAMED(flag_to_number::order, "order")
NAMED(renamed::order, "order")
NAMED(added_at_end::order, "order")
NAMED(added_in_between::order, "order")
NAMED(added_in_padding::order, "order")
NAMED(removed_at_end::order, "order")
NAMED(removed_in_between::order, "order")
NAMED(reordered::order, "order")
NAMED(text_longer::order, "order")
NAMED(array_longer::order, "order")
NAMED(std_array::order, "order")
NAMED(key_of_another::order, "order")
NAMED(key_to_number::order, "order")
NAMED(renumbered::order, "order")
NAMED(enumerators_added::order, "order")
NAMED(enumerator_removed::order, "order")
NAMED(underlying_changed::order, "order")
NAMED(undescribed_enum::order, "order")
NAMED(nested_changed::order, "order")
NAMED(nested_same_size::order, "order")
NAMED(plain::pair, "pair")
NAMED(plain::other, "pair")
NAMED(plain::longer, "pair")
template <>
struct dm::schema_traits<versioned::order> {
  static constexpr auto name = "order";
  static constexpr std::uint32_t version = 1;
};

namespace {

/// A file of the first program.
class first_file {
 public:
  first_file() {
    auto m = dm::mapped_map<first::order>::create(path(), {.max_slots = 100});
    key_ = m.insert({{}, 1.5, 7, first::side::sell, true, "bolts", {{0.5f, 30}, {0.25f, 60}}});
    m.close();
    bytes_ = read_file(path());
  }
  std::filesystem::path path() const { return directory_ / "orders"; }
  dm::key key() const { return key_; }

  /// What the program with the type T is told, if it is refused; the file is the same after it.
  template <class T>
  std::string told() const {
    std::string text;
    for (int way = 0; way < 3; ++way) {
      const auto error = error_of([&] {
        if (way == 0) dm::mapped_map<T>::open(path());
        if (way == 1) dm::mapped_map<T>::open_or_create(path());
        if (way == 2) dm::mapped_map<T>::open_read_only(path());
      });
      REQUIRE(error);
      CHECK(error->code() == dm::errc::type_mismatch);
      text = error->what();
      CHECK(text.find(path().string() + ": this arena holds another type than the program asks for: ") == 0);
      CHECK(
          text.ends_with(". Nothing was changed. Open it with the type it was made with, or migrate it (dm::migrate)"));
      CHECK(read_file(path()) == bytes_);
    }
    text.erase(0, text.find("asks for: ") + 10);
    text.erase(text.find(". Nothing was changed"));
    return text;
  }

 private:
  temporary_directory directory_;
  dm::key key_;
  std::string bytes_;
};

template <class T>
void opens_as(const first_file& file) {
  const auto m = dm::mapped_map<T>::open_read_only(file.path());
  CHECK(m.at(file.key()).price == 1.5);
  CHECK(m.at(file.key()).legs[1].days == 60);
}

}  // namespace

TEST_CASE("a type that says the same of itself opens the file, wherever it is declared") {
  const first_file file;
  opens_as<first::order>(file);
  opens_as<same::order>(file);
}

TEST_CASE("std::array and C arrays are the same bytes and the same schema") {
  opens_as<std_array::order>(first_file());
}

TEST_CASE("enumerators may be added, and an enum may lose its description") {
  const first_file file;
  opens_as<enumerators_added::order>(file);
  opens_as<undescribed_enum::order>(file);
}

TEST_CASE("a field whose type changed is named, with both") {
  const first_file file;
  CHECK(file.told<type_changed::order>() ==
        "field 'price': the file has f64 at offset 8, the program has i64 at offset 8");
}

TEST_CASE("a field of the same size that means something else is named, with both") {
  const first_file file;
  CHECK(file.told<same_size::order>() ==
        "field 'amount': the file has u32 at offset 16, the program has f32 at offset 16");
  CHECK(file.told<flag_to_number::order>() ==
        "field 'paid': the file has bool at offset 21, the program has u8 at offset 21");
}

TEST_CASE("a renamed field is named by both names") {
  CHECK(first_file().told<renamed::order>() ==
        "field 'price' (f64 at offset 8) is in the file but not in the program, which has 'cost' (f64 at offset 8)");
}

TEST_CASE("a field that was added is named, wherever it is") {
  const first_file file;
  CHECK(file.told<added_at_end::order>() ==
        "field 'placed_unix_ns' (u64 at offset 48) is in the program but not in the file");
  CHECK(file.told<added_in_between::order>() ==
        "field 'placed_unix_ns' (u64 at offset 8) is in the program but not in the file");
  // Here the size and every later offset stay the same: the first to differ is the text that made room.
  CHECK(file.told<added_in_padding::order>() ==
        "field 'code': the file has text of 10 bytes at offset 22, the program has text of 9 bytes at offset 22");
}

TEST_CASE("a field that was removed is named, wherever it was") {
  const first_file file;
  CHECK(file.told<removed_at_end::order>() ==
        "field 'legs' (leg (structure of 8 bytes)[2] at offset 32) is in the file but not in the program");
  CHECK(file.told<removed_in_between::order>() ==
        "field 'amount' (u32 at offset 16) is in the file but not in the program");
}

TEST_CASE("fields in another order: the first that moved is named, with both places") {
  CHECK(first_file().told<reordered::order>() ==
        "field 'price': the file has f64 at offset 8, the program has f64 at offset 16");
}

TEST_CASE("an array or a text of another length is named, with both") {
  const first_file file;
  CHECK(file.told<text_longer::order>() ==
        "field 'code': the file has text of 10 bytes at offset 22, the program has text of 14 bytes at offset 22");
  CHECK(file.told<array_longer::order>() ==
        "field 'legs': the file has leg (structure of 8 bytes)[2] at offset 32, the program has leg (structure of 8 "
        "bytes)[3] at offset 32");
}

TEST_CASE("a field of a nested structure is named by its path") {
  const first_file file;
  CHECK(file.told<nested_changed::order>() ==
        "field 'legs[].days': the file has u32 at offset 36, the program has i32 at offset 36");
  CHECK(file.told<nested_same_size::order>() ==
        "field 'legs[].rate': the file has f32 at offset 32, the program has u32 at offset 32");
}

TEST_CASE("an enumerator that was renumbered or removed is named; so is another underlying type") {
  const first_file file;
  CHECK(file.told<renumbered::order>() ==
        "field 'way': enumerator 'sell' of side is 2 in the file and 3 in the program");
  CHECK(file.told<enumerator_removed::order>() ==
        "field 'way': enumerator 'sell' of side is 2 in the file and missing in the program");
  CHECK(file.told<underlying_changed::order>() ==
        "field 'way': the file has side (enum, u8) at offset 20, the program has side (enum, i8) at offset 20");
}

TEST_CASE("a key of another map, or a plain number, is no key of this one") {
  const first_file file;
  CHECK(
      file.told<key_of_another::order>() ==
      "field 'customer': the file has dm::basic_key<(anonymous namespace)::customer_tag> at offset 0, the program has "
      "dm::basic_key<(anonymous namespace)::supplier_tag> at offset 0");
  CHECK(
      file.told<key_to_number::order>() ==
      "field 'customer': the file has dm::basic_key<(anonymous namespace)::customer_tag> at offset 0, the program has "
      "u64 at offset 0");
}

TEST_CASE("another version is a difference even where every byte agrees") {
  CHECK(first_file().told<versioned::order>() ==
        "the value type: the file has version 0 of order, the program has version 1");
}

TEST_CASE("a type that has moved and kept no name is another type") {
  CHECK(first_file().told<moved_without_a_name::order>() ==
        "the value type: the file has order (structure of 48 bytes), the program has (anonymous "
        "namespace)::moved_without_a_name::order (structure of 48 bytes)");
}

TEST_CASE("of plain aggregates, fields are named by their number") {
  temporary_directory directory;
  dm::mapped_map<plain::pair>::create(directory / "m").close();
  const auto told = [&](auto example) {
    const auto error = error_of([&] { dm::mapped_map<decltype(example)>::open(directory / "m"); });
    REQUIRE(error);
    CHECK(error->code() == dm::errc::type_mismatch);
    return std::string(error->what());
  };
  CHECK(told(plain::other())
            .find("field 'field_1': the file has f32[2] at offset 4, the program has u32[2] at offset "
                  "4") != std::string::npos);
  CHECK(told(plain::longer()).find("field 'field_2' (u32 at offset 12) is in the program but not in the file") !=
        std::string::npos);
}
