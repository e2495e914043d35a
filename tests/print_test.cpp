// Maps as streams and {fmt} print them. The same beside <fmt/ranges.h>: print_ranges_test.cpp.
#include <iomanip>
#include <map>
#include <memory>
#include <random>
#include <ranges>
#include <sstream>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "catch.hpp"
#include "deferred_map/deferred_map.hpp"
#include "deferred_map/fmt.hpp"
#include "deferred_map/mapped_map.hpp"
#include "deferred_map/ostream.hpp"
#include "deferred_map/secondary_map.hpp"
#include "deferred_map/sparse_secondary_map.hpp"
#include "temporary_directory.hpp"

namespace {

template <class T>
std::string streamed(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

template <class T>
concept is_streamable = requires(std::ostream& out, const T& value) {
  out << value;
};
template <class T>
concept is_formattable = fmt::is_formattable<T>::value;

struct unprintable {};
using order_key = dm::basic_key<struct print_order_tag>;

/// Prints as what it holds, through both printers.
struct price {
  int cents;
  friend std::ostream& operator<<(std::ostream& out, price p) { return out << p.cents << "c"; }
};

/// Users may print their own maps as they like.
struct loud {};
std::ostream& operator<<(std::ostream& out, const dm::deferred_map<loud>& map) { return out << map.size() << "!"; }

struct price_list : dm::deferred_map<price> {};

}  // namespace

template <>
struct fmt::formatter<price> : fmt::formatter<std::string> {
  auto format(price p, fmt::format_context& context) const {
    return fmt::formatter<std::string>::format(std::to_string(p.cents) + "c", context);
  }
};

static_assert(is_streamable<dm::deferred_map<int>> && is_formattable<dm::deferred_map<int>>);
static_assert(is_streamable<dm::secondary_map<int>> && is_formattable<dm::secondary_map<int>>);
static_assert(is_streamable<dm::sparse_secondary_map<int>> && is_formattable<dm::sparse_secondary_map<int>>);
static_assert(is_streamable<dm::mapped_map<int>> && is_formattable<dm::mapped_map<int>>);
// What cannot be printed makes for no operator, not for an error inside of one.
static_assert(!is_streamable<dm::deferred_map<unprintable>> && !is_formattable<dm::deferred_map<unprintable>>);
static_assert(!is_streamable<dm::secondary_map<unprintable>> && !is_formattable<dm::secondary_map<unprintable>>);
static_assert(!is_streamable<dm::sparse_secondary_map<unprintable>>);
static_assert(!is_formattable<dm::sparse_secondary_map<unprintable>>);
static_assert(!is_streamable<dm::entry<dm::key, unprintable>> && !is_formattable<dm::entry<dm::key, unprintable>>);
static_assert(!is_streamable<dm::deferred_map<dm::deferred_map<unprintable>>>);
static_assert(!is_streamable<dm::deferred_map<std::unique_ptr<unprintable>>> || is_streamable<std::unique_ptr<int>>);
// Other containers with keys in them are not ours.
static_assert(!is_streamable<std::map<dm::key, int>> && !is_formattable<std::map<dm::key, int>>);
static_assert(!is_streamable<std::vector<dm::key>> && !is_formattable<std::vector<dm::key>>);
static_assert(!is_streamable<std::vector<dm::deferred_map<int>>>);

TEST_CASE("an empty map prints as braces") {
  const dm::deferred_map<int> map;
  CHECK(streamed(map) == "{}");
  CHECK(fmt::format("{}", map) == "{}");
  CHECK(streamed(dm::secondary_map<int>()) == "{}");
  CHECK(fmt::format("{}", dm::sparse_secondary_map<int>()) == "{}");
  dm::deferred_map<int> emptied;
  emptied.erase(emptied.insert(1));
  CHECK(streamed(emptied) == "{}");
  CHECK(fmt::format("{}", emptied) == "{}");
}

TEST_CASE("a map prints as its keys and values, in slot order") {
  dm::deferred_map<std::string> map;
  const dm::key first = map.insert("one");
  map.insert("two");
  auto handle = map.allocate_handle();
  CHECK(streamed(map) == "{0:1: one, 1:1: two}");
  CHECK(fmt::format("{}", map) == "{0:1: one, 1:1: two}");
  map.erase(first);
  CHECK(streamed(map) == "{1:1: two}");
  map.insert("three");
  map.insert(std::move(handle), "four");
  CHECK(streamed(map) == "{0:2: three, 1:1: two, 2:1: four}");
  CHECK(fmt::format("{}", map) == streamed(map));
}

TEST_CASE("secondary maps print as their keys and values") {
  dm::secondary_map<double> dense;
  dense.insert(dm::key::from_parts(3, 1), 0.5);
  dense.insert(dm::key::from_parts(70, 2), -2);
  CHECK(streamed(dense) == "{3:1: 0.5, 70:2: -2}");
  CHECK(fmt::format("{}", dense) == "{3:1: 0.5, 70:2: -2}");
  dm::sparse_secondary_map<char> sparse;
  sparse.insert(dm::key::from_parts(4000000000u, 7), 'x');
  CHECK(streamed(sparse) == "{4000000000:7: x}");
  CHECK(fmt::format("{}", sparse) == "{4000000000:7: x}");
}

TEST_CASE("a mapped map prints as its keys and values") {
  const temporary_directory directory;
  auto map = dm::mapped_map<int>::create(directory / "map");
  map.insert(7);
  CHECK(streamed(map) == "{0:1: 7}");
  CHECK(fmt::format("{}", map) == "{0:1: 7}");
}

TEST_CASE("an entry prints as key and value, whether the value may be changed or not") {
  int value = 7;
  const dm::entry<dm::key, int> mutable_entry{dm::key::from_parts(3, 1), value};
  const dm::entry<dm::key, const int> const_entry{dm::key(), value};
  CHECK(streamed(mutable_entry) == "3:1: 7");
  CHECK(streamed(const_entry) == "null: 7");
  CHECK(fmt::format("{} {:03}", mutable_entry, const_entry) == "3:1: 7 null: 007");
}

TEST_CASE("width, base and format are the values', and the keys stay as they are") {
  dm::deferred_map<int> map;
  for (int i = 0; i < 17; ++i) map.insert(1);
  map.clear();
  map.insert(42);
  map.insert(255);
  std::ostringstream out;
  out << std::hex << std::showbase << std::setfill('.') << std::setw(6) << map << '|' << 16;
  const std::string shown = out.str();
  // In slot order; which slots the two got is the map's business.
  const auto first = *map.begin();
  const auto second = *std::next(map.begin());
  std::ostringstream wanted;
  const auto padded = [](int value) { return std::string(value == 42 ? "..0x2a" : "..0xff"); };
  wanted << '{' << first.key << ": " << padded(first.value) << ", " << second.key << ": " << padded(second.value)
         << "}|0x10";
  CHECK(shown == wanted.str());
  CHECK(fmt::format("{:.>#6x}|0x10", map) == wanted.str());
}

TEST_CASE("a width set before a map does not pad what follows it") {
  std::ostringstream out;
  out << std::setw(5) << dm::deferred_map<int>() << 1;
  CHECK(out.str() == "{}1");
}

TEST_CASE("values that are keys or maps print as such, and a format reaches the innermost values") {
  dm::deferred_map<dm::key> links;
  const dm::key a = links.insert(dm::key());
  links.insert(a);
  CHECK(streamed(links) == "{0:1: null, 1:1: 0:1}");
  CHECK(fmt::format("{:>5}", links) == "{0:1:  null, 1:1:   0:1}");
  dm::deferred_map<dm::secondary_map<int, order_key>> nested;
  nested[nested.insert({})].insert(order_key::from_parts(5, 2), 10);
  CHECK(streamed(nested) == "{0:1: {5:2: 10}}");
  CHECK(fmt::format("{:x}", nested) == "{0:1: {5:2: a}}");
}

TEST_CASE("keys of a tag of one's own, values with printers of their own, and maps derived from print") {
  dm::deferred_map<price, order_key> orders;
  orders.insert(price{1250});
  CHECK(streamed(orders) == "{0:1: 1250c}");
  CHECK(fmt::format("{:>7}", orders) == "{0:1:   1250c}");
  price_list list;
  list.insert(price{3});
  CHECK(streamed(list) == "{0:1: 3c}");
  CHECK(fmt::format("{}", list) == "{0:1: 3c}");
}

TEST_CASE("a printer that the user gives for a map goes before ours") {
  dm::deferred_map<loud> map;
  map.insert({});
  CHECK(streamed(map) == "1!");
}

TEST_CASE("wide streams print maps and states") {
  dm::deferred_map<int> map;
  map.insert(7);
  std::wostringstream out;
  out << map << L' ' << dm::slot_state::vacant;
  CHECK(out.str() == L"{0:1: 7} vacant");
}

TEST_CASE("the states of slots print by name, padded to a width") {
  dm::deferred_map<int> map;
  const dm::key k = map.insert(1);
  std::ostringstream out;
  out << map.state(k.index()) << '|' << std::setw(9) << dm::slot_state::reserved << '|' << dm::slot_state::retired;
  CHECK(out.str() == "occupied| reserved|retired");
  CHECK(fmt::format("{:>9}", dm::slot_state::updating) == " updating");
}

TEST_CASE("a view that filters a map yields entries that print") {
  dm::deferred_map<int> map;
  for (int i = 0; i < 6; ++i) map.insert(i * i);
  std::ostringstream out;
  std::string formatted;
// clang 14 cannot read libstdc++'s views.
#if !defined(__clang__) || __clang_major__ >= 16
  const auto is_even = [](const auto& shown) { return shown.value % 2 == 0; };
  for (const auto shown : map | std::views::filter(is_even)) {
    out << shown << ';';
    formatted += fmt::format("{};", shown);
  }
#else
  for (const auto shown : map) {
    if (shown.value % 2 != 0) continue;
    out << shown << ';';
    formatted += fmt::format("{};", shown);
  }
#endif
  CHECK(out.str() == "0:1: 0;2:1: 4;4:1: 16;");
  CHECK(formatted == out.str());
}

TEST_CASE("keys hash for unordered containers, each tag its own") {
  dm::deferred_map<int, order_key> map;
  std::unordered_set<order_key> set;
  std::unordered_map<order_key, int> counts;
  for (int i = 0; i < 1000; ++i) {
    const order_key k = map.insert(i);
    CHECK(set.insert(k).second);
    counts[k] = i;
    if (i % 3 == 0) map.erase(k);  // and its slot goes to another generation
  }
  CHECK(set.size() == 1000);
  for (const auto [k, value] : map) CHECK(counts.at(k) == value);
}

TEST_CASE("what either printer makes of a key is read back as that key") {
  const unsigned seed = 11;
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::vector<order_key> keys{order_key(), order_key::from_parts(0, 1),
                              order_key::from_parts(0xffff'ffffu, dm::version::last_generation)};
  for (int i = 0; i < 2000; ++i)
    keys.push_back(order_key::from_parts(static_cast<std::uint32_t>(random()) >> random() % 32,
                                         static_cast<std::uint32_t>(random() % dm::version::last_generation) + 1));
  for (const order_key k : keys) {
    REQUIRE(dm::parse_key<order_key>(streamed(k)) == k);
    REQUIRE(dm::parse_key<order_key>(fmt::format("{}", k)) == k);
    // Not where padding was asked for: a key is the whole text or none.
    REQUIRE_FALSE(dm::parse_key<order_key>(fmt::format("{:>30}", k)));
  }
}
