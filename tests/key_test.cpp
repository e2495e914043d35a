// Keys by themselves: what their bits say, how they print, parse, hash and compare.
#include "deferred_map/key.hpp"

#include <cstdint>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <type_traits>
#include <unordered_set>
#include <vector>

#include "catch.hpp"

using dm::key;

namespace {

std::string printed(key k) {
  std::ostringstream out;
  out << k;
  return out.str();
}

}  // namespace

static_assert(sizeof(key) == 8);
static_assert(std::is_trivially_copyable_v<key> && std::is_standard_layout_v<key>);
static_assert(!std::is_same_v<dm::basic_key<struct order_tag>, dm::basic_key<struct customer_tag>>);
static_assert(!std::is_convertible_v<dm::basic_key<struct order_tag>, key>);
static_assert(!std::is_convertible_v<std::uint64_t, key> && !std::is_constructible_v<key, std::uint64_t>);
static_assert(!std::is_convertible_v<key, bool> && !std::is_convertible_v<key, std::uint64_t>);
static_assert(dm::is_basic_key<key> && !dm::is_basic_key<std::uint64_t>);
static_assert(key::from_parts(3, 1).bits() == 0x0000'0007'0000'0003u, "a key can be made at compile time");
static_assert(dm::parse_key("3:1") == key::from_parts(3, 1));

TEST_CASE("the null key is all zeros, false, and equal to itself") {
  const key null;
  CHECK(null.bits() == 0);
  CHECK_FALSE(null);
  CHECK(null == key());
  CHECK(key::from_bits(0) == null);
}

TEST_CASE("parts and bits survive a round trip") {
  for (const std::uint32_t index : {0u, 1u, 63u, 0x8000'0000u, 0xffff'ffffu}) {
    for (const std::uint32_t generation : {1u, 2u, 0x1fff'ffffu, dm::version::last_generation}) {
      const key k = key::from_parts(index, generation);
      CHECK(k);
      CHECK(k.index() == index);
      CHECK(k.generation() == generation);
      CHECK(k.bits() >> 32 == (std::uint64_t{generation} << 2 | 3));
      CHECK(key::from_bits(k.bits()) == k);
      CHECK(k.occupied_version() == dm::version::occupied(generation));
    }
  }
}

TEST_CASE("a generation that no life has gives the null key") {
  CHECK_FALSE(key::from_parts(3, 0));
  CHECK_FALSE(key::from_parts(3, dm::version::retired_generation));
  CHECK_FALSE(key::from_parts(3, 0xffff'ffffu));
}

TEST_CASE("bits that no map can have handed out give the null key") {
  const std::uint64_t good = key::from_parts(3, 1).bits();
  CHECK(key::from_bits(good));
  for (const std::uint64_t bits : {std::uint64_t{3},  // no version at all
                                   good & ~(std::uint64_t{1} << 32), good & ~(std::uint64_t{1} << 33),
                                   good & ~(std::uint64_t{3} << 32),                        // not occupied
                                   std::uint64_t{3} << 32 | 3,                              // generation 0
                                   ~std::uint64_t{0}, std::uint64_t{0xffff'ffff} << 32}) {  // past the last
    CAPTURE(bits);
    CHECK_FALSE(key::from_bits(bits));
  }
  std::mt19937_64 random(20);
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t bits = random();
    const key k = key::from_bits(bits);
    REQUIRE((k.bits() == 0 || k.bits() == bits));
    REQUIRE((!k || k == key::from_parts(k.index(), k.generation())));
  }
}

TEST_CASE("whatever its bits, a key asks for an occupied version") {
  for (const std::uint64_t bits : {std::uint64_t{0}, std::uint64_t{1} << 34, ~std::uint64_t{0}})
    CHECK(dm::version::is_occupied(key::from_bits(bits).occupied_version()));
  CHECK(key().occupied_version() == dm::version::occupied(0));
}

TEST_CASE("a key prints as index and generation and is read back from it") {
  CHECK(printed(key::from_parts(3, 1)) == "3:1");
  CHECK(printed(key()) == "null");
  CHECK(printed(key::from_parts(0xffff'ffffu, dm::version::last_generation)) == "4294967295:1073741822");
  std::mt19937 random(7);
  for (int i = 0; i < 1000; ++i) {
    const auto index = static_cast<std::uint32_t>(random());
    const key k = key::from_parts(index, static_cast<std::uint32_t>(random() % dm::version::last_generation) + 1);
    CHECK(dm::parse_key(printed(k)) == k);
  }
  const auto null = dm::parse_key("null");
  REQUIRE(null);
  CHECK_FALSE(*null);
}

TEST_CASE("text that is not a whole and possible key is refused") {
  for (const char* text : {"",
                           ":",
                           "3",
                           "3:",
                           ":1",
                           "3:1 ",
                           " 3:1",
                           "3 :1",
                           "3:1x",
                           "x3:1",
                           "-3:1",
                           "+3:1",
                           "3:-1",
                           "3:1:1",
                           "0x3:1",
                           "3:0",
                           "3:1073741823",
                           "4294967296:1",
                           "3:4294967297",
                           "99999999999999999999:1",
                           "3:18446744073709551617",
                           "nul",
                           "nulll",
                           "null ",
                           "NULL",
                           "3;1",
                           "3::1",
                           "3.1",
                           "3:1.0",
                           "00000000003:1"}) {
    CAPTURE(text);
    CHECK_FALSE(dm::parse_key(text));
  }
  CHECK(dm::parse_key("0003:01") == key::from_parts(3, 1));
  CHECK_FALSE(dm::parse_key(std::string_view("3:1\0", 4)));
}

TEST_CASE("a tagged key prints and parses as itself") {
  using order_key = dm::basic_key<struct order_tag>;
  const std::optional<order_key> k = dm::parse_key<order_key>("5:2");
  REQUIRE(k);
  std::ostringstream out;
  out << *k;
  CHECK(out.str() == "5:2");
}

TEST_CASE("keys order by generation, then by index") {
  const key a = key::from_parts(9, 1);
  const key b = key::from_parts(1, 2);
  const key c = key::from_parts(2, 2);
  CHECK(a < b);
  CHECK(b < c);
  CHECK(key() < a);
  CHECK(std::set<key>{c, a, b} == std::set<key>{a, b, c});
  CHECK((a <=> a) == std::strong_ordering::equal);
}

TEST_CASE("the hash spreads neighbouring keys over the low and the high bits") {
  constexpr std::size_t buckets = 1024;
  constexpr std::uint32_t keys_each = 64;
  for (const bool by_generation : {false, true}) {
    std::vector<std::uint32_t> low(buckets);
    std::vector<std::uint32_t> high(buckets);
    std::unordered_set<std::size_t> distinct;
    for (std::uint32_t i = 0; i < buckets * keys_each; ++i) {
      const key k = by_generation ? key::from_parts(5, i + 1) : key::from_parts(i, 1);
      const std::size_t hash = std::hash<key>()(k);
      distinct.insert(hash);
      ++low[hash % buckets];
      ++high[hash >> 54];
    }
    CHECK(distinct.size() == buckets * keys_each);
    // Chance puts 64 +- 8 in each; eight deviations off is no chance.
    for (std::size_t i = 0; i < buckets; ++i) REQUIRE((low[i] < 128 && low[i] > 8 && high[i] < 128 && high[i] > 8));
  }
}

TEST_CASE("keys are found in an unordered set") {
  std::unordered_set<key> set{key::from_parts(1, 1), key::from_parts(1, 2)};
  CHECK(set.contains(key::from_parts(1, 2)));
  CHECK_FALSE(set.contains(key::from_parts(2, 1)));
}
