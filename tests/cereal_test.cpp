// Saving and loading maps and keys with cereal: what survives, and what archives that lie can do.
#include <cstdint>
#include <cstring>
#include <iostream>
#include <memory>
#include <memory_resource>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <cereal/archives/binary.hpp>
#include <cereal/archives/json.hpp>
#include <cereal/archives/portable_binary.hpp>
#include <cereal/archives/xml.hpp>
#include <cereal/types/vector.hpp>

#include "catch.hpp"
#include "deferred_map/cereal.hpp"
#include "plain_arena.hpp"

namespace {

namespace version = dm::version;
using door = dm::detail::archive_access;

struct binary {
  using output = cereal::BinaryOutputArchive;
  using input = cereal::BinaryInputArchive;
};
struct portable {
  using output = cereal::PortableBinaryOutputArchive;
  using input = cereal::PortableBinaryInputArchive;
};
struct json {
  using output = cereal::JSONOutputArchive;
  using input = cereal::JSONInputArchive;
};
struct xml {
  using output = cereal::XMLOutputArchive;
  using input = cereal::XMLInputArchive;
};

template <class Format, class Map>
std::string saved(const Map& map) {
  std::ostringstream out;
  {
    typename Format::output archive(out);
    archive(cereal::make_nvp("map", map));
  }
  return out.str();
}

template <class Format, class Map>
dm::load_report load(const std::string& bytes, Map& map) {
  std::istringstream in(bytes);
  typename Format::input archive(in);
  dm::load_report report;
  archive(cereal::make_nvp("map", dm::with_report(map, report)));
  return report;
}

/// What loading is refused with; empty where it is not refused. Any other exception goes through.
template <class Format, class Map>
std::string refusal(const std::string& bytes, Map& map) {
  try {
    load<Format>(bytes, map);
    return {};
  } catch (const dm::archive_error& e) {
    return e.what();
  }
}

bool has(const std::string& text, const char* part) {
  INFO(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

/// A binary archive put together by hand.
class bytes {
 public:
  bytes& letters(const std::string& text) {
    data_ += text;
    return *this;
  }
  template <class Number>
  bytes& number(Number n) {
    char raw[sizeof(Number)];
    std::memcpy(raw, &n, sizeof n);
    data_.append(raw, sizeof n);
    return *this;
  }
  bytes& u32(std::uint32_t n) { return number(n); }
  bytes& u64(std::uint64_t n) { return number(n); }
  operator const std::string&() const { return data_; }  // NOLINT: implicit on purpose
  const std::string& text() const { return data_; }

 private:
  std::string data_;
};

/// The head of an archive of a deferred_map.
bytes head(std::uint32_t floor, std::uint32_t reserved, std::uint32_t slots) {
  return bytes().letters(std::string("dmm\1", 4)).u32(floor).u32(reserved).u32(slots);
}
constexpr std::uint32_t occupied(std::uint32_t generation) { return version::occupied(generation); }
constexpr std::uint32_t vacant(std::uint32_t generation) { return version::vacant(generation); }
constexpr std::uint32_t last = version::last_generation;

using numbers = dm::deferred_map<std::uint64_t>;

/// Slot by slot, what `loaded` must be after `original` was saved.
template <class Map>
void check_is_as_saved(const Map& original, const Map& loaded) {
  REQUIRE(loaded.verify() == "");
  REQUIRE(loaded.slot_count() == original.slot_count());
  CHECK(loaded.size() == original.size());
  CHECK(loaded.reserved_count() == 0);
  CHECK(loaded.generation_floor() == original.generation_floor());
  bool same = true;
  for (std::uint32_t i = 0; i < original.slot_count(); ++i) {
    const std::uint32_t word = door::version(original, i);
    same = same && door::version(loaded, i) == (version::is_reserved(word) ? version::next_vacant(word) : word);
  }
  CHECK(same);
}

struct node {
  std::string name;
  std::vector<dm::key> edges;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(CEREAL_NVP(name), CEREAL_NVP(edges));
  }
};

/// Counts what a map takes, and refuses more than there is.
struct meter {
  std::size_t taken_bytes = 0;
  std::size_t left_bytes = std::size_t{1} << 40;
};
template <class T>
struct metered {
  using value_type = T;
  meter* counts;
  explicit metered(meter& m) : counts(&m) {}
  template <class U>
  metered(const metered<U>& other) : counts(other.counts) {}
  T* allocate(std::size_t n) {
    if (n * sizeof(T) > counts->left_bytes) throw std::bad_alloc();
    counts->left_bytes -= n * sizeof(T);
    counts->taken_bytes += n * sizeof(T);
    return std::allocator<T>().allocate(n);
  }
  void deallocate(T* p, std::size_t n) { std::allocator<T>().deallocate(p, n); }
  template <class U>
  friend bool operator==(const metered& a, const metered<U>& b) {
    return a.counts == b.counts;
  }
};

/// Cannot be made out of nothing, counts the living, and throws where it is told to.
struct given {
  explicit given(int n) : number(n) { ++alive; }
  given(given&& other) noexcept : number(other.number) { ++alive; }
  ~given() { --alive; }
  int number;
  static inline int alive = 0;

  template <class Archive>
  void serialize(Archive& archive) {
    archive(CEREAL_NVP(number));
  }
  template <class Archive>
  static void load_and_construct(Archive& archive, cereal::construct<given>& construct) {
    int number = 0;
    archive(CEREAL_NVP(number));
    if (number == 14) return;  // constructs nothing
    construct(number);
    if (number == 13) throw cereal::Exception("an unlucky number");
  }
};

struct own_exception {};
struct throws_its_own {
  int number = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(CEREAL_NVP(number));
    if (Archive::is_loading::value && number == 2) throw own_exception{};
  }
};

}  // namespace

TEMPLATE_TEST_CASE("a map of numbers is the same map after saving and loading", "", binary, portable, json, xml) {
  numbers map;
  std::vector<dm::key> keys;
  for (std::uint64_t i = 0; i < 1000; ++i) keys.push_back(map.insert(i * 0x9e37'79b9'7f4a'7c15u));
  std::vector<dm::key> dead;
  for (std::size_t i = 0; i < keys.size(); i += 3) {
    map.erase(keys[i]);
    dead.push_back(keys[i]);
  }
  for (int i = 0; i < 100; ++i) keys.push_back(map.insert(1));
  const dm::handle reserved = map.allocate_handle();

  numbers loaded;
  loaded.insert(4);
  const dm::load_report report = load<TestType>(saved<TestType>(map), loaded);
  check_is_as_saved(map, loaded);
  CHECK(report.slots == map.slot_count());
  CHECK(report.values == map.size());
  CHECK(report.retired == 0);
  CHECK(report.reserved_vacated == 1);
  for (const auto [key, value] : map) CHECK(loaded.at(key) == value);
  for (const dm::key key : dead) CHECK(!loaded.contains(key));
  CHECK(!loaded.contains(reserved.key()));
  CHECK(!loaded.holds(reserved));
}

TEMPLATE_TEST_CASE("texts of every kind survive", "", binary, portable, json, xml) {
  dm::deferred_map<std::string> map;
  const std::vector<std::string> texts{"", "a", "<&\"'>", "long enough to be on the heap, and a bit longer",
                                       " spaced "};
  std::vector<dm::key> keys;
  for (const auto& text : texts) keys.push_back(map.insert(text));
  dm::deferred_map<std::string> loaded;
  load<TestType>(saved<TestType>(map), loaded);
  check_is_as_saved(map, loaded);
  for (std::size_t i = 0; i < texts.size(); ++i) CHECK(loaded.at(keys[i]) == texts[i]);
}

TEMPLATE_TEST_CASE("keys inside values lead to the same values: a graph with cycles", "", binary, portable, json, xml) {
  dm::deferred_map<node> map;
  auto place = map.allocate_handle();
  const dm::key first = place.key();
  const dm::key second = map.insert({"second", {first, dm::key()}});
  map.insert(std::move(place), {"first", {second, first}});
  dm::deferred_map<node> loaded;
  load<TestType>(saved<TestType>(map), loaded);
  check_is_as_saved(map, loaded);
  CHECK(loaded.at(loaded.at(loaded.at(first).edges[0]).edges[0]).name == "first");
  CHECK(!loaded.at(second).edges[1]);
}

TEMPLATE_TEST_CASE("values that can only be moved survive, and maps in maps", "", binary, portable, json, xml) {
  dm::deferred_map<std::unique_ptr<int>> pointers;
  const dm::key some = pointers.insert(std::make_unique<int>(7));
  const dm::key null = pointers.insert(nullptr);
  dm::deferred_map<std::unique_ptr<int>> loaded;
  load<TestType>(saved<TestType>(pointers), loaded);
  CHECK(*loaded.at(some) == 7);
  CHECK(loaded.at(null) == nullptr);

  dm::deferred_map<numbers> outer;
  const dm::key inner_map = outer.insert(numbers());
  const dm::key inner = outer.at(inner_map).insert(5);
  dm::deferred_map<numbers> outer_loaded;
  load<TestType>(saved<TestType>(outer), outer_loaded);
  CHECK(outer_loaded.at(inner_map).at(inner) == 5);
}

TEMPLATE_TEST_CASE("an empty map, and one that was never used, survive", "", binary, portable, json, xml) {
  numbers map;
  numbers loaded;
  loaded.insert(1);
  CHECK(load<TestType>(saved<TestType>(map), loaded).slots == 0);
  check_is_as_saved(map, loaded);
  CHECK(loaded.capacity() == 0);
  map.insert(1);
  map.clear();
  map.shrink_to_fit();
  load<TestType>(saved<TestType>(map), loaded);
  check_is_as_saved(map, loaded);
  CHECK(loaded.generation_floor() == 2);
  CHECK(loaded.insert(1).generation() == 2);  // generation 1 was lived
}

TEMPLATE_TEST_CASE("a T without a default constructor is loaded as its author says", "", binary, portable, json, xml) {
  {
    dm::deferred_map<given> map;
    const dm::key key = map.emplace(4);
    dm::deferred_map<given> loaded;
    load<TestType>(saved<TestType>(map), loaded);
    CHECK(loaded.at(key).number == 4);
    for (const int bad : {13, 14}) {
      map.at(key).number = bad;
      has(refusal<TestType>(saved<TestType>(map), loaded), "value 0");
      CHECK(loaded.at(key).number == 4);
    }
  }
  CHECK(given::alive == 0);
}

TEMPLATE_TEST_CASE("whatever happened to a map, it goes on as the one that was loaded", "", binary, portable, json,
                   xml) {
  const auto seed = std::random_device{}();
  std::cout << "cereal_test: seed " << seed << '\n';
  INFO("seed " << seed);
  std::mt19937 engine(seed);
  const auto random = [&] { return static_cast<std::uint32_t>(engine()); };
  std::size_t retired_seen = 0;
  for (int history = 0; history < 30; ++history) {
    // Begins near the end of the generations, as only an archive by hand can make it.
    const std::uint32_t slots = random() % 200;  // less than a block
    bytes archive = head(random() % 3 == 0 ? last - random() % 3 : 0, 0, slots);
    for (std::uint32_t i = 0; i < slots; ++i) archive.u32(vacant(random() % 4 == 0 ? 1 : last + 1 - random() % 4));
    numbers map;
    load<binary>(archive, map);

    std::vector<dm::key> live;
    std::set<dm::key> dead;
    std::vector<dm::handle> handles;
    const auto step = [&](numbers& m) {
      switch (random() % 8) {
        case 0:
        case 1:
        case 2:
          live.push_back(m.insert(random()));
          break;
        case 3:
          handles.push_back(m.allocate_handle());
          break;
        case 4:
          if (live.empty() || random() % 40 != 0) break;
          m.shrink_to_fit();
          break;
        default:
          if (live.empty()) break;
          std::swap(live[random() % live.size()], live.back());
          m.erase(live.back());
          dead.insert(live.back());
          live.pop_back();
      }
    };
    for (int i = 0; i < 600; ++i) step(map);

    numbers loaded;
    const dm::load_report report = load<TestType>(saved<TestType>(map), loaded);
    check_is_as_saved(map, loaded);
    CHECK(report.reserved_vacated == map.reserved_count());
    CHECK(report.retired == loaded.retired_count());
    retired_seen += report.retired;

    // The handles' keys are dead in what was loaded, and alive only in the original.
    std::set<dm::key> used = dead;
    for (const dm::handle& handle : handles) used.insert(handle.key());
    used.insert(live.begin(), live.end());
    bool all_alive = true;
    bool any_dead_alive = false;
    bool any_used_again = false;
    for (const dm::key key : live) all_alive = all_alive && loaded.contains(key) && loaded.at(key) == map.at(key);
    for (numbers* m : {&map, &loaded}) {
      std::set<dm::key> used_here = used;
      for (int i = 0; i < 300; ++i) {
        const dm::key key = m->insert(1);
        any_used_again = any_used_again || !used_here.insert(key).second;
        if (i % 2 == 0) m->erase(key);
      }
      for (const dm::key key : dead) any_dead_alive = any_dead_alive || m->contains(key);
      CHECK(m->verify() == "");
    }
    for (const dm::handle& handle : handles) any_dead_alive = any_dead_alive || loaded.contains(handle.key());
    CHECK(all_alive);
    CHECK(!any_dead_alive);
    CHECK(!any_used_again);
  }
  CHECK(retired_seen > 0);
}

TEST_CASE("a slot reserved in its last generation is retired in what is loaded") {
  numbers map;
  load<binary>(head(0, 0, 1).u32(vacant(last)), map);
  const dm::handle handle = map.allocate_handle();
  REQUIRE(handle.generation() == last);
  numbers loaded;
  const dm::load_report report = load<binary>(saved<binary>(map), loaded);
  CHECK(report.reserved_vacated == 1);
  CHECK(report.retired == 1);
  CHECK(loaded.state(0) == dm::slot_state::retired);
  CHECK(loaded.insert(1).index() == 1);
  CHECK(map.holds(handle));  // saving takes nothing away
}

TEST_CASE("the bytes of a binary archive are those that are documented") {
  numbers map;
  const dm::key gone = map.insert(5);
  map.insert(6);
  map.erase(gone);
  const bytes expected = head(0, 0, 2).u32(vacant(2)).u32(occupied(1)).u64(6);
  CHECK(saved<binary>(map) == expected.text());

  dm::secondary_map<std::uint16_t> dense;
  dense.insert(dm::key::from_parts(1, 4), 9);
  CHECK(saved<binary>(dense) ==
        bytes().letters(std::string("dms\1", 4)).u32(2).u32(0).u32(occupied(4)).number(std::uint16_t{9}).text());
  dm::sparse_secondary_map<std::uint16_t> sparse;
  sparse.insert(dm::key::from_parts(1, 4), 9);
  CHECK(saved<binary>(sparse) == bytes()
                                     .letters(std::string("dmp\1", 4))
                                     .u32(1)
                                     .u64(dm::key::from_parts(1, 4).bits())
                                     .number(std::uint16_t{9})
                                     .text());
}

TEST_CASE("blocks of 256 slots, full ones and the last") {
  for (const std::uint64_t count : {255u, 256u, 257u, 512u, 1000u}) {
    numbers map;
    for (std::uint64_t i = 0; i < count; ++i) map.insert(i);
    for (std::uint32_t i = 0; i < count; i += 5) map.erase(dm::key::from_parts(i, 1));
    numbers loaded;
    load<binary>(saved<binary>(map), loaded);
    check_is_as_saved(map, loaded);
    for (const auto [key, value] : map) CHECK(loaded.at(key) == value);
  }
}

TEST_CASE("a portable archive of the other byte order is read") {
  numbers map;
  const dm::key key = map.insert(0x0102'0304'0506'0708u);
  std::stringstream stream;
  {
    cereal::PortableBinaryOutputArchive archive(stream, cereal::PortableBinaryOutputArchive::Options::BigEndian());
    archive(map);
  }
  numbers loaded;
  cereal::PortableBinaryInputArchive archive(stream);
  CHECK(dm::load_map(archive, loaded).values == 1);
  CHECK(loaded.at(key) == 0x0102'0304'0506'0708u);
}

TEST_CASE("several maps in one archive, and archive(map) without a report") {
  numbers a;
  const dm::key key = a.insert(1);
  dm::secondary_map<int> b;
  b.insert(key, 2);
  std::stringstream stream;
  {
    cereal::BinaryOutputArchive archive(stream);
    archive(a, b, key);
  }
  numbers a2;
  dm::secondary_map<int> b2;
  dm::key key2;
  cereal::BinaryInputArchive archive(stream);
  archive(a2, b2, key2);
  CHECK(key2 == key);
  CHECK(a2.at(key2) == 1);
  CHECK(b2.at(key2) == 2);
}

TEST_CASE("a map in persistent memory is saved like any other") {
  test::plain_arena<std::uint64_t> arena(100);
  test::plain_map<std::uint64_t> map({&arena});
  const dm::key key = map.insert(3);
  map.erase(map.insert(4));
  const std::string archive = saved<binary>(map);
  numbers loaded;
  CHECK(load<binary>(archive, loaded).slots == 2);
  CHECK(loaded.at(key) == 3);
  CHECK(loaded.verify() == "");

  arena.version(1) = version::updating_bits;
  CHECK_THROWS_AS(saved<binary>(map), dm::archive_error);
}

// What lies ----------------------------------------------------------------------------------------------------------

TEST_CASE("an archive of something else, or of a newer format, is refused with what to do") {
  numbers map;
  const dm::key key = map.insert(1);
  has(refusal<binary>(std::string("a text that is no archive"), map), "does not begin with \"dmm\"");
  has(refusal<binary>(saved<binary>(dm::secondary_map<std::uint64_t>()), map), "does not begin with \"dmm\"");
  has(refusal<binary>(bytes().letters(std::string("dmm\2", 4)).u32(0).u32(0).u32(0), map), "newer deferred-map");
  has(refusal<binary>(bytes().letters(std::string("dmm\0", 4)).u32(0).u32(0).u32(0), map), "no format 0");
  has(refusal<binary>(std::string(), map), "first bytes");
  const auto in_json = [](const char* kind, const char* format) {
    return std::string("{\"map\":{\"kind\":\"") + kind + "\",\"format\":" + format +
           ",\"generation_floor\":0,\"reserved\":0,\"slots\":[]}}";
  };
  has(refusal<json>(in_json("secondary_map", "1"), map), "secondary_map");
  has(refusal<json>(in_json("deferred_map", "2"), map), "newer deferred-map");
  has(refusal<json>(in_json("deferred_map", "-1"), map), "format");
  has(refusal<json>(in_json("deferred_map", "\"1\""), map), "format");
  has(refusal<json>("{\"map\":[]}", map), "kind");
  CHECK(refusal<json>(in_json("deferred_map", "1"), map).empty());
  CHECK(!map.contains(key));
}

TEST_CASE("every field that cannot be is refused, with what is wrong and where, and nothing has changed") {
  numbers map;
  const dm::key key = map.insert(99);
  const auto refused = [&](const bytes& archive, const char* why) {
    has(refusal<binary>(archive, map), why);
    CHECK(map.size() == 1);
    CHECK(map.at(key) == 99);
    CHECK(map.verify() == "");
  };
  refused(head(last + 1, 0, 0), "generation floor");
  refused(head(~0u, 0, 0), "generation floor");
  refused(head(0, 1, 0), "reserved");
  refused(head(0, 1, 1).u32(occupied(1)).u64(1), "reserved");
  refused(head(0, 2, 2).u32(occupied(1)).u32(vacant(1)).u64(1), "reserved");
  refused(head(0, 0, 1).u32(0), "slot 0 has version 0");
  refused(head(0, 0, 2).u32(vacant(1)).u32(version::reserved(1)), "slot 1");
  refused(head(0, 0, 2).u32(vacant(1)).u32(version::updating_bits | 4), "slot 1");
  refused(head(0, 0, 1).u32(occupied(0)).u64(1), "slot 0");
  refused(head(0, 0, 1).u32(occupied(last + 1)).u64(1), "slot 0");
  refused(head(0, 0, 2).u32(vacant(1)), "versions 0 to 1 of 2 slots");
  refused(head(0, 0, 2).u32(vacant(1)).u32(occupied(1)).u32(1), "values 0 to 1 of 2 slots");
  refused(head(0, 0, ~0u), "versions 0 to 255 of 4294967295 slots");

  numbers good;
  CHECK(refusal<binary>(head(last, 0, 2).u32(vacant(last + 1)).u32(occupied(last)).u64(1), good).empty());
  CHECK(good.verify() == "");
  CHECK(good.retired_count() == 1);
}

TEST_CASE("text archives are refused in the same way") {
  numbers map;
  const dm::key key = map.insert(99);
  const auto in_json = [](const std::string& floor, const std::string& reserved, const std::string& slots) {
    return "{\"map\":{\"kind\":\"deferred_map\",\"format\":1,\"generation_floor\":" + floor +
           ",\"reserved\":" + reserved + ",\"slots\":" + slots + "}}";
  };
  const auto in_xml = [](const std::string& floor, const std::string& slots) {
    return "<?xml version=\"1.0\"?><cereal><map><kind>deferred_map</kind><format>1</format><generation_floor>" + floor +
           "</generation_floor><reserved>0</reserved>" + slots + "</map></cereal>";
  };
  has(refusal<json>(in_json("4294967296", "0", "[]"), map), "more than 32 bits");
  has(refusal<json>(in_json("-1", "0", "[]"), map), "generation_floor");
  has(refusal<json>(in_json("0", "0", "{}"), map), "slots");
  has(refusal<json>(in_json("0", "0", "7"), map), "slots");
  has(refusal<json>(in_json("0", "0", "[7]"), map), "slots");
  has(refusal<json>(in_json("0", "0", "[{}]"), map), "version 0");
  has(refusal<json>(in_json("0", "0", "[{\"version\":4},{\"version\":7}]"), map), "value 1");
  has(refusal<json>(in_json("0", "0", "[{\"version\":7,\"value\":\"x\"}]"), map), "value 0");
  has(refusal<json>(in_json("0", "0", "[{\"version\":4},{\"version\":5}]"), map), "slot 1");
  has(refusal<json>(in_json("0", "2", "[{\"version\":4}]"), map), "reserved");
  has(refusal<xml>(in_xml("-1", "<slots/>"), map), "more than 32 bits");
  has(refusal<xml>(in_xml("x", "<slots/>"), map), "generation_floor");
  has(refusal<xml>(in_xml("0", ""), map), "slots");
  has(refusal<xml>(in_xml("0", "<slots><a><version>4294967303</version><value>1</value></a></slots>"), map),
      "more than 32 bits");
  has(refusal<xml>(in_xml("0", "<slots><a><version>7</version></a></slots>"), map), "value 0");
  has(refusal<xml>(in_xml("0", "<slots><a><version>7</version><value>x</value></a></slots>"), map), "value 0");
  has(refusal<xml>(in_xml("0", "<slots><a/></slots>"), map), "version 0");
  CHECK(map.at(key) == 99);
  CHECK(refusal<xml>(in_xml("0", "<slots><a><version>7</version><value>1</value></a></slots>"), map).empty());
}

TEST_CASE("an archive cut off anywhere is refused, and nothing has changed") {
  numbers source;
  for (std::uint64_t i = 0; i < 5; ++i) source.insert(i);
  source.erase(dm::key::from_parts(2, 1));
  dm::deferred_map<std::string> texts;
  texts.insert("hello");
  texts.insert("a longer text, so that it is on the heap");
  dm::sparse_secondary_map<std::uint64_t> sparse;
  for (std::uint32_t i = 0; i < 5; ++i) sparse.insert(dm::key::from_parts(i * 1000, 1), i);
  const auto cut_everywhere = [](const auto& full, auto target) {
    const std::string archive = saved<binary>(full);
    const std::string before = saved<binary>(target);
    for (std::size_t length = 0; length < archive.size(); ++length) {
      INFO("cut to " << length << " of " << archive.size());
      CHECK(!refusal<binary>(archive.substr(0, length), target).empty());
      CHECK(saved<binary>(target) == before);
    }
    CHECK(refusal<binary>(archive, target).empty());
  };
  cut_everywhere(source, numbers());
  cut_everywhere(texts, dm::deferred_map<std::string>());
  cut_everywhere(sparse, sparse);
}

TEST_CASE("an archive with any byte changed is refused or loads as a sound map") {
  numbers source;
  for (std::uint64_t i = 0; i < 4; ++i) source.insert(i);
  source.erase(dm::key::from_parts(1, 1));
  dm::secondary_map<std::uint16_t> dense;
  dense.insert(dm::key::from_parts(2, 1), 7);
  dense.insert(dm::key::from_parts(4, 3), 8);
  dm::sparse_secondary_map<std::uint16_t> sparse;
  sparse.insert(dm::key::from_parts(2, 1), 7);
  sparse.insert(dm::key::from_parts(4, 3), 8);
  const auto change_everywhere = [](const auto& full) {
    const std::string archive = saved<binary>(full);
    std::size_t loaded = 0;
    for (std::size_t at = 0; at < archive.size(); ++at)
      for (int flip = 1; flip < 256; ++flip) {
        std::string changed = archive;
        changed[at] = static_cast<char>(changed[at] ^ flip);
        auto map = full;
        if (!refusal<binary>(changed, map).empty()) continue;
        ++loaded;
        if (!map.verify().empty()) FAIL("byte " << at << " changed by " << flip << ": " << map.verify());
        std::remove_cvref_t<decltype(map)> again;
        load<binary>(saved<binary>(map), again);
        CHECK(saved<binary>(again) == saved<binary>(map));
      }
    CHECK(loaded > 0);
    return loaded;
  };
  CHECK(change_everywhere(source) > 3 * 8 * 255);  // any number is a value
  change_everywhere(dense);
  change_everywhere(sparse);
}

TEST_CASE("memory is bounded by what was read, not by what was announced") {
  struct large {
    std::uint64_t numbers[16] = {};
    void serialize(cereal::BinaryInputArchive& archive) { archive(cereal::binary_data(numbers, sizeof numbers)); }
  };
  using map_type = dm::deferred_map<large, dm::key, metered<large>>;
  constexpr std::size_t constant = 600'000;
  // A vacant slot is 4 bytes in an archive; growth takes at most twice what there is, and the old beside the new.
  constexpr std::size_t factor = 4 * (sizeof(dm::slot<large>) + 1) / 4;
  for (const std::uint32_t present : {0u, 1u, 1000u, 5000u, 100'000u}) {
    bytes archive = head(0, 0, ~0u);
    for (std::uint32_t i = 0; i < present; ++i) archive.u32(vacant(1));
    meter taken;
    map_type map{metered<large>(taken)};
    CHECK(!refusal<binary>(archive, map).empty());
    INFO(present << " slots of 4294967295, " << taken.taken_bytes << " bytes");
    CHECK(taken.taken_bytes <= constant + factor * archive.text().size());
  }
  // An honest one ends with exactly its slots.
  bytes archive = head(0, 0, 100'000);
  for (std::uint32_t i = 0; i < 100'000; ++i) archive.u32(vacant(1));
  meter taken;
  map_type map{metered<large>(taken)};
  load<binary>(archive, map);
  CHECK(map.capacity() == 100'000);

  meter taken_by_sparse;
  dm::sparse_secondary_map<std::uint64_t, dm::key, metered<std::uint64_t>> sparse{
      metered<std::uint64_t>(taken_by_sparse)};
  CHECK(!refusal<binary>(bytes().letters(std::string("dmp\1", 4)).u32(~0u), sparse).empty());
  CHECK(taken_by_sparse.taken_bytes <= 1'500'000);
  meter taken_by_dense;
  dm::secondary_map<std::uint64_t, dm::key, metered<std::uint64_t>> dense{metered<std::uint64_t>(taken_by_dense)};
  CHECK(!refusal<binary>(bytes().letters(std::string("dms\1", 4)).u32(~0u), dense).empty());
  CHECK(taken_by_dense.taken_bytes <= 1'000'000);
}

TEST_CASE("memory that runs out while loading is std::bad_alloc, and the map is unchanged") {
  using map_type = dm::deferred_map<std::uint64_t, dm::key, metered<std::uint64_t>>;
  numbers source;
  for (std::uint64_t i = 0; i < 20'000; ++i) source.insert(i);
  const std::string archive = saved<binary>(source);
  meter left;
  map_type map{metered<std::uint64_t>(left)};
  const dm::key key = map.insert(7);
  for (const std::size_t bytes_left : {0u, 1000u, 300'000u}) {
    left.left_bytes = bytes_left;
    CHECK_THROWS_AS(load<binary>(archive, map), std::bad_alloc);
    CHECK(map.at(key) == 7);
    CHECK(map.verify() == "");
  }
}

TEST_CASE("what T throws goes through; what cereal throws is nested in ours") {
  dm::deferred_map<throws_its_own> map;
  map.insert({2});
  const std::string archive = saved<binary>(map);
  dm::deferred_map<throws_its_own> loaded;
  CHECK_THROWS_AS(load<binary>(archive, loaded), own_exception);
  bool nested = false;
  try {
    load<binary>(archive.substr(0, archive.size() - 1), loaded);
  } catch (const dm::archive_error& e) {
    try {
      std::rethrow_if_nested(e);
    } catch (const cereal::Exception&) {
      nested = true;
    }
  }
  CHECK(nested);
}

TEST_CASE("a map keeps its allocator, and handles of what it was are bad") {
  std::pmr::monotonic_buffer_resource memory;
  using map_type = dm::deferred_map<std::pmr::string, dm::key, std::pmr::polymorphic_allocator<std::pmr::string>>;
  map_type source;
  const dm::key key = source.emplace("a text that is too long for the string itself");
  map_type map(&memory);
  dm::handle handle = map.allocate_handle();
  load<binary>(saved<binary>(source), map);
  CHECK(map.get_allocator().resource() == &memory);
  CHECK(map.at(key).get_allocator().resource() == &memory);
  CHECK(map.at(key) == source.at(key));
  CHECK_THROWS_AS(map.release_handle(std::move(handle)), dm::bad_handle);
}

// Keys and secondary maps --------------------------------------------------------------------------------------------

TEST_CASE("keys are 64 bits in binary and index:generation in text, and are checked") {
  const dm::key key = dm::key::from_parts(3, 1);
  CHECK(saved<binary>(key) == bytes().u64(key.bits()).text());
  has(saved<json>(key), "\"3:1\"");
  has(saved<json>(dm::key()), "\"null\"");
  has(saved<xml>(key), "<map>3:1</map>");
  const auto read_bits = [](std::uint64_t bits) {
    std::istringstream in(bytes().u64(bits).text());
    dm::key read = dm::key::from_parts(9, 9);
    cereal::BinaryInputArchive archive(in);
    archive(read);
    return read;
  };
  CHECK(read_bits(key.bits()) == key);
  CHECK(!read_bits(0));
  CHECK_THROWS_AS(read_bits(3), dm::archive_error);
  CHECK_THROWS_AS(read_bits(~std::uint64_t{0}), dm::archive_error);
  const auto read_text = [](const std::string& text) {
    std::istringstream in("{\"k\":\"" + text + "\"}");
    dm::key read;
    cereal::JSONInputArchive archive(in);
    archive(cereal::make_nvp("k", read));
    return read;
  };
  CHECK(read_text("3:1") == key);
  CHECK(!read_text("null"));
  for (const char* bad : {"", "3", "3:", "3:0", "3:1 ", "-3:1", "3:1073741823", "4294967296:1", "nul"})
    CHECK_THROWS_AS(read_text(bad), dm::archive_error);
}

TEMPLATE_TEST_CASE("secondary maps are the same after saving and loading", "", binary, portable, json, xml) {
  dm::secondary_map<std::uint64_t> dense;
  dm::sparse_secondary_map<std::string> sparse;
  std::uint32_t highest = 0;
  for (std::uint32_t i = 0; i < 700; i += 1 + i % 5) {
    highest = i;
    const dm::key key = dm::key::from_parts(i, i % 7 + 1);
    dense.insert(key, i);
    sparse.insert(key, std::to_string(i));
  }
  sparse.insert(dm::key::from_parts(4'000'000'000u, last), "far away");
  dm::secondary_map<std::uint64_t> dense_loaded;
  dense_loaded.insert(dm::key::from_parts(1, 1), 1);
  const dm::load_report report = load<TestType>(saved<TestType>(dense), dense_loaded);
  CHECK(dense_loaded.verify() == "");
  CHECK(dense_loaded == dense);
  CHECK(report.values == dense.size());
  CHECK(report.slots == highest + 1);
  dm::sparse_secondary_map<std::string> sparse_loaded;
  CHECK(load<TestType>(saved<TestType>(sparse), sparse_loaded).values == sparse.size());
  CHECK(sparse_loaded.verify() == "");
  CHECK(sparse_loaded == sparse);
  CHECK(saved<TestType>(sparse_loaded) == saved<TestType>(sparse));  // the order too
}

TEST_CASE("secondary maps refuse what cannot be, and are unchanged") {
  const auto key_bits = [](std::uint32_t index, std::uint32_t generation) {
    return dm::key::from_parts(index, generation).bits();
  };
  const auto dense_head = [](std::uint32_t slots) { return bytes().letters(std::string("dms\1", 4)).u32(slots); };
  const auto sparse_head = [](std::uint32_t entries) { return bytes().letters(std::string("dmp\1", 4)).u32(entries); };
  dm::secondary_map<std::uint64_t> dense;
  dense.insert(dm::key::from_parts(1, 1), 5);
  const auto dense_before = dense;
  has(refusal<binary>(dense_head(1).u32(vacant(1)), dense), "slot 0");
  has(refusal<binary>(dense_head(1).u32(version::reserved(1)), dense), "slot 0");
  has(refusal<binary>(dense_head(1).u32(occupied(0)).u64(1), dense), "slot 0");
  has(refusal<binary>(dense_head(1).u32(occupied(last + 1)).u64(1), dense), "slot 0");
  has(refusal<binary>(dense_head(~0u), dense), "4294967295");
  CHECK(dense == dense_before);
  dm::sparse_secondary_map<std::uint64_t> sparse;
  sparse.insert(dm::key::from_parts(1, 1), 5);
  const auto sparse_before = sparse;
  has(refusal<binary>(sparse_head(2).u64(key_bits(8, 1)).u64(key_bits(8, 1)).u64(1).u64(2), sparse), "slot 8");
  has(refusal<binary>(sparse_head(2).u64(key_bits(8, 1)).u64(key_bits(8, 2)).u64(1).u64(2), sparse), "slot 8");
  has(refusal<binary>(sparse_head(2).u64(key_bits(8, 2)).u64(key_bits(8, 1)).u64(1).u64(2), sparse), "slot 8");
  has(refusal<binary>(sparse_head(1).u64(0).u64(1), sparse), "entry 0");
  has(refusal<binary>(sparse_head(1).u64(6).u64(1), sparse), "entry 0");
  has(refusal<binary>(sparse_head(1).u64(key_bits(~0u, 1)).u64(1), sparse), "entry 0");
  has(refusal<binary>(sparse_head(~0u), sparse), "4294967295");
  CHECK(sparse == sparse_before);
}
