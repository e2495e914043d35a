// Fuzz target: an input is an archive. Loading it throws, or gives a map that is sound, and that saves and loads as the
// same. The first byte chooses the archive, the map and the type of its values.
//
// What is avoided, since it is cereal's own and no map can help it:
//  1. cereal's binary std::string and std::vector allocate whatever size the archive says. The text here loads by
//     itself, in pieces.
//  2. rapidjson and rapidxml parse by recursion: deep nesting overflows the stack before a map is asked. Inputs for
//     JSON and XML with more than `nesting_max` opening marks are passed over.
//  3. An XML node for something without a name that is not there is a null pointer in cereal. Maps name everything they
//     load, and so does every T here.
//  4. A binary bool, or char of JSON, may hold what no bool is. No T here has one.
//  5. rapidjson reads past a table when a number has hundreds of zeros behind its point and is read with full precision,
//     which is cereal's default. It is read without here.
//  6. What is thrown need not be ours: cereal itself throws from the constructors of text archives.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <istream>
#include <memory>
#include <span>
#include <sstream>
#include <streambuf>
#include <string>
#include <type_traits>
#include <utility>

#define CEREAL_RAPIDJSON_PARSE_DEFAULT_FLAGS kParseNanAndInfFlag  // see 5; with cereal's own rapidjson
#define RAPIDJSON_PARSE_DEFAULT_FLAGS kParseNanAndInfFlag         // and with the system's, as Debian has it
#include <cereal/archives/binary.hpp>
#include <cereal/archives/json.hpp>
#include <cereal/archives/portable_binary.hpp>
#include <cereal/archives/xml.hpp>

#include "deferred_map/cereal.hpp"
#include "fuzz_input.hpp"

namespace {

constexpr std::ptrdiff_t nesting_max = 400;

/// A text that does not believe the size it is told.
struct text {
  std::string letters;

  friend bool operator==(const text&, const text&) = default;

  template <class Archive>
  void save(Archive& archive) const {
    if constexpr (dm::detail::takes_blocks<Archive>) {
      archive(static_cast<std::uint32_t>(letters.size()));
      archive(cereal::binary_data(letters.data(), letters.size()));
    } else {
      archive(CEREAL_NVP(letters));
    }
  }
  template <class Archive>
  void load(Archive& archive) {
    if constexpr (dm::detail::takes_blocks<Archive>) {
      std::uint32_t size = 0;
      archive(size);
      letters.clear();
      for (std::array<char, 64> piece; size != 0;) {
        const std::uint32_t count = std::min<std::uint32_t>(size, piece.size());
        archive(cereal::binary_data(piece.data(), count));
        letters.append(piece.data(), count);
        size -= count;
      }
    } else {
      archive(CEREAL_NVP(letters));
    }
  }
};

/// A node of a graph: keys, and something below it.
struct node {
  dm::key next;
  text name;
  std::unique_ptr<std::uint32_t> weight;

  friend bool operator==(const node& a, const node& b) {
    return a.next == b.next && a.name == b.name && (a.weight == nullptr) == (b.weight == nullptr) &&
           (a.weight == nullptr || *a.weight == *b.weight);
  }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(CEREAL_NVP(next), CEREAL_NVP(name), CEREAL_NVP(weight));
  }
};

/// A number that cannot be made out of nothing.
struct given {
  std::uint64_t number;
  explicit given(std::uint64_t n) : number(n) {}

  friend bool operator==(const given&, const given&) = default;

  template <class Archive>
  void serialize(Archive& archive) {
    archive(CEREAL_NVP(number));
  }
  template <class Archive>
  static void load_and_construct(Archive& archive, cereal::construct<given>& construct) {
    std::uint64_t number = 0;
    archive(CEREAL_NVP(number));
    construct(number);
    if (number == 13) throw cereal::Exception("an unlucky number");  // when the value is there already
  }
};

/// Reads where the bytes are.
class bytes_to_read : public std::streambuf {
 public:
  explicit bytes_to_read(std::span<const std::uint8_t> bytes) {
    char* const begin = const_cast<char*>(reinterpret_cast<const char*>(bytes.data()));
    setg(begin, begin, begin + bytes.size());
  }
};

template <class Output, class Map>
std::string saved(const Map& map) {
  std::ostringstream out;
  {
    Output archive(out);
    archive(cereal::make_nvp("map", map));
  }
  return std::move(out).str();
}

template <class T, class Key, class A>
void compare(const dm::deferred_map<T, Key, A>& a, const dm::deferred_map<T, Key, A>& b) {
  using door = dm::detail::archive_access;
  FUZZ_CHECK(a.slot_count() == b.slot_count() && a.size() == b.size());
  FUZZ_CHECK(a.generation_floor() == b.generation_floor() && a.retired_count() == b.retired_count());
  for (std::uint32_t i = 0; i < a.slot_count(); ++i) FUZZ_CHECK(door::version(a, i) == door::version(b, i));
  for (const auto [key, value] : a) FUZZ_CHECK(value == b.at(key));
}
template <class T, class Key, class A, class Places>
void compare(const dm::detail::secondary_base<T, Key, A, Places>& a,
             const dm::detail::secondary_base<T, Key, A, Places>& b) {
  FUZZ_CHECK(a == b);
}

/// What was loaded is good for use.
template <class T, class Key, class A>
void use(dm::deferred_map<T, Key, A>& map) {
  for (int i = 0; i < 3; ++i) {
    auto handle = map.allocate_handle();
    FUZZ_CHECK(!map.contains(handle.key()));
    if (i != 0) map.release_handle(std::move(handle));
  }
  map.retain([](Key key, T&) { return key.index() % 2 == 0; });
  map.shrink_to_fit();
  FUZZ_CHECK(map.verify().empty());
}
template <class T, class Key, class A, class Places>
void use(dm::detail::secondary_base<T, Key, A, Places>& map) {
  map.retain([](Key key, T&) { return key.index() % 2 == 0; });
  map.shrink_to_fit();
  FUZZ_CHECK(map.verify().empty());
}

/// A binary archive of a deferred_map can be written in one way only: what was read is what is saved, but for the
/// count of slots that were reserved before. Not where a pointer's mark may be any number.
template <class T, class Key, class A>
void check_nothing_was_lost(const dm::deferred_map<T, Key, A>&, std::span<const std::uint8_t> read, std::string again) {
  if constexpr (!std::is_same_v<T, node>) {
    constexpr std::size_t reserved_at = 8;
    FUZZ_CHECK(again.size() <= read.size());
    std::copy_n(read.begin() + reserved_at, 4, again.begin() + reserved_at);
    FUZZ_CHECK(std::equal(again.begin(), again.end(), read.begin(),
                          [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; }));
  }
}
/// A dense secondary map may have had empty slots at the end, and that is all; a sparse one has its order.
template <class T, class Key, class A, class Places>
void check_nothing_was_lost(const dm::detail::secondary_base<T, Key, A, Places>&, std::span<const std::uint8_t>,
                            const std::string&) {}

template <class Input, class Output, class Map>
void load(std::span<const std::uint8_t> bytes, Map& map) {
  // Something that must be there still if loading fails.
  const std::string before = saved<cereal::BinaryOutputArchive>(map);
  bytes_to_read buffer(bytes);
  std::istream in(&buffer);
  dm::load_report report;
  try {
    Input archive(in);
    archive(cereal::make_nvp("map", dm::with_report(map, report)));
  } catch (const std::exception& e) {
    FUZZ_CHECK(e.what()[0] != '\0');
    FUZZ_CHECK(saved<cereal::BinaryOutputArchive>(map) == before);
    FUZZ_CHECK(report.slots == 0 && report.values == 0);
    return;
  }
  const std::string fault = map.verify();
  if (!fault.empty()) fuzz::stop(fault.c_str(), "verify()", 0);
  FUZZ_CHECK(report.values == map.size() && report.slots >= report.values);

  const std::string again = saved<Output>(map);
  if constexpr (std::is_same_v<Output, cereal::BinaryOutputArchive>) check_nothing_was_lost(map, bytes, again);
  Map second;
  std::istringstream in_again(again);
  Input archive(in_again);
  archive(cereal::make_nvp("map", second));
  compare(map, second);
  FUZZ_CHECK(saved<Output>(second) == again);
  use(map);
}

template <class Map>
void load_into(std::uint8_t archive, std::span<const std::uint8_t> bytes, Map&& map) {
  switch (archive) {
    case 0:
      return load<cereal::BinaryInputArchive, cereal::BinaryOutputArchive>(bytes, map);
    case 1:
      return load<cereal::PortableBinaryInputArchive, cereal::PortableBinaryOutputArchive>(bytes, map);
    case 2:
      if (std::count_if(bytes.begin(), bytes.end(), [](auto c) { return c == '{' || c == '['; }) > nesting_max) return;
      return load<cereal::JSONInputArchive, cereal::JSONOutputArchive>(bytes, map);
    default:
      if (std::count(bytes.begin(), bytes.end(), '<') > 2 * nesting_max) return;
      return load<cereal::XMLInputArchive, cereal::XMLOutputArchive>(bytes, map);
  }
}

/// A map with a value, a hole and a reserved slot, where it has such.
template <class Map, class... Values>
Map filled(Values&&... values) {
  Map map;
  if constexpr (requires { map.allocate_handle(); }) {
    const auto first = map.insert(typename Map::mapped_type(std::forward<Values>(values)...));
    (void)map.allocate_handle();
    map.erase(first);
    map.insert(typename Map::mapped_type(std::forward<Values>(values)...));
  } else {
    map.insert(dm::key::from_parts(3, 2), typename Map::mapped_type(std::forward<Values>(values)...));
  }
  return map;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::input input(std::span(data, size));
  const std::uint8_t choice = input.byte();
  const std::uint8_t archive = choice % 4;
  switch (choice / 4 % 8) {
    case 0:
      load_into(archive, input.rest(), filled<dm::deferred_map<std::uint64_t>>(7u));
      break;
    case 1:
      load_into(archive, input.rest(), filled<dm::deferred_map<text>>());
      break;
    case 2:
      load_into(archive, input.rest(), filled<dm::deferred_map<node>>());
      break;
    case 3:
      load_into(archive, input.rest(), filled<dm::deferred_map<given>>(7u));
      break;
    case 4:
      load_into(archive, input.rest(), filled<dm::secondary_map<std::uint16_t>>());
      break;
    case 5:
      load_into(archive, input.rest(), filled<dm::secondary_map<text>>());
      break;
    case 6:
      load_into(archive, input.rest(), filled<dm::sparse_secondary_map<std::uint64_t>>());
      break;
    default:
      load_into(archive, input.rest(), filled<dm::sparse_secondary_map<node>>());
      break;
  }
  return 0;
}
