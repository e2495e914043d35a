// Maps and keys for cereal: `archive(map)` saves and loads. Needs cereal, which the container does not.
//
// A binary archive (any that takes cereal::BinaryData) of a deferred_map, numbers in the archive's byte order:
//
//   bytes        what
//   4            'd' 'm' 'm' and the format, 1
//   4            generation floor
//   4            reserved slots, which are in the archive as the vacant slots they will be
//   4            slots
//   then, for every 256 slots (the last time what is left):
//   4 each       version of the slot: vacant or occupied, never 0
//   as T is      value of each that is occupied, in the same order
//
// A text archive (JSON, XML) has the same by name: `kind`, `format`, `generation_floor`, `reserved`, and `slots`, an
// array of objects with `version` and, where that is occupied, `value`. Keys are their 64 bits in binary and
// "index:generation" in text.
//
// A secondary_map begins with 'd' 'm' 's' and the format, a sparse_secondary_map with 'd' 'm' 'p' and the format; then
// come the count of slots (of entries), and for every 256 the versions, 0 where there is no value (the 64-bit keys of
// the entries), and the values. In text: `kind`, `format`, and `slots` as above, or `entries` with `key` and `value`.
//
// What an archive says is not believed but checked:
//  1. A count makes no room: memory grows as slots arrive (archive_access.hpp).
//  2. Every version is one that saving can have written.
//  3. The map is built beside the old one and then switched to, so that loading happens wholly or not at all.
//
// What no map can help is what happens before it is asked. JSON and XML are parsed as a whole by rapidjson and rapidxml:
// deep nesting overflows their stack, and rapidjson 1.1 reads out of bounds where a number has hundreds of zeros behind
// its point, unless RAPIDJSON_PARSE_DEFAULT_FLAGS leaves kParseFullPrecisionFlag out. And a T that is a std::string or a
// std::vector allocates what a binary archive says its size is. For archives from strangers: binary ones, and a T that bounds
// what it loads.
#pragma once

#include <cereal/cereal.hpp>
#include <cereal/types/memory.hpp>
#include <cereal/types/string.hpp>

#include <cstdint>
#include <string>

#include "deferred_map/deferred_map.hpp"
#include "deferred_map/key.hpp"
#include "deferred_map/secondary_map.hpp"
#include "deferred_map/sparse_secondary_map.hpp"

namespace dm {

template <class T, class Key>
class mapped_map;

/// An archive does not hold what it should: it is damaged, truncated, of something else, or of a newer format. The
/// message says what is wrong and where. Where cereal or T noticed, theirs is nested (std::rethrow_if_nested).
class archive_error : public cereal::Exception {
 public:
  using cereal::Exception::Exception;
};

/// What loading found.
struct load_report {
  std::uint32_t slots = 0;             // in all: of a sparse map its values
  std::uint32_t values = 0;            // live keys
  std::uint32_t retired = 0;           // slots that have used their last generation
  std::uint32_t reserved_vacated = 0;  // slots that were reserved when saved, and are vacant in their next generation
};

}  // namespace dm

#include "deferred_map/container/cereal_maps.hpp"

namespace dm {

// Maps ---------------------------------------------------------------------------------------------------------------

/// Saves everything that makes keys mean the same: values, generations, retired slots and the generation floor.
/// Reserved slots are saved as vacant ones in their next generation, and counted: their handles stay with this map,
/// and their keys never become live in the map that is loaded.
/// Errors: the archive's, T's; archive_error if the map is in persistent memory and damaged.
template <class Archive, class T, class Key, class A>
void CEREAL_SAVE_FUNCTION_NAME(Archive& archive, const deferred_map<T, Key, A>& map) {
  detail::save_kind(archive, detail::deferred_map_kind);
  archive(cereal::make_nvp("generation_floor", map.generation_floor()));
  archive(cereal::make_nvp("reserved", static_cast<std::uint32_t>(map.reserved_count())));
  detail::slots_to_save<deferred_map<T, Key, A>> slots(map);
  detail::save_list(archive, slots);
}

/// A map in a file is saved as the map it is, so that it can be loaded as a deferred_map. It does not load: what is in
/// the file would have to be replaced as a whole, which no file survives a crash in.
template <class Archive, class T, class Key>
void CEREAL_SAVE_FUNCTION_NAME(Archive& archive, const mapped_map<T, Key>& map) {
  CEREAL_SAVE_FUNCTION_NAME(archive, detail::archive_access::map_of(map));
}
template <class Archive, class T, class Key>
void CEREAL_LOAD_FUNCTION_NAME(Archive&, mapped_map<T, Key>&) {
  static_assert(sizeof(Archive) == 0,
                "a mapped_map saves but does not load: load into a dm::deferred_map<T>, and insert what it holds");
}

/// Replaces the map by what the archive holds. Its allocator stays; handles of what it was are bad. Live keys of the
/// map that was saved are live in this one, dead ones are dead.
///
/// Requires: T can be default-constructed, or has cereal's LoadAndConstruct.
/// Errors: dm::archive_error if the archive holds anything but a map that was saved, the allocator's and T's own.
/// Whatever is thrown, the map is unchanged. Memory: what was taken is bounded by what was read of the archive: a
/// vacant slot has 4 bytes there and sizeof(slot<T>) here.
template <class Archive, class T, class Key, class A>
void CEREAL_LOAD_FUNCTION_NAME(Archive& archive, deferred_map<T, Key, A>& map) {
  load_report unseen;
  detail::load_deferred_map(archive, map, unseen);
}

/// Saves every key that has a value, and the values. A dense map is saved slot by slot up to the last value, a sparse
/// one entry by entry in the order it is walked. Errors: the archive's, T's.
template <class Archive, class T, class Key, class A>
void CEREAL_SAVE_FUNCTION_NAME(Archive& archive, const secondary_map<T, Key, A>& map) {
  detail::save_kind(archive, detail::secondary_map_kind);
  detail::dense_to_save<secondary_map<T, Key, A>> slots(map);
  detail::save_list(archive, slots);
}
template <class Archive, class T, class Key, class A>
void CEREAL_SAVE_FUNCTION_NAME(Archive& archive, const sparse_secondary_map<T, Key, A>& map) {
  detail::save_kind(archive, detail::sparse_secondary_map_kind);
  detail::sparse_to_save<sparse_secondary_map<T, Key, A>> entries(map);
  detail::save_list(archive, entries);
}

/// Replaces the map by what the archive holds; its allocator stays. Does not ask another map whether the keys are
/// live. Requires, errors, memory: as loading a deferred_map.
template <class Archive, class T, class Key, class A>
void CEREAL_LOAD_FUNCTION_NAME(Archive& archive, secondary_map<T, Key, A>& map) {
  load_report unseen;
  detail::load_reported(archive, map, unseen);
}
template <class Archive, class T, class Key, class A>
void CEREAL_LOAD_FUNCTION_NAME(Archive& archive, sparse_secondary_map<T, Key, A>& map) {
  load_report unseen;
  detail::load_reported(archive, map, unseen);
}

template <class Archive, class Map>
void CEREAL_LOAD_FUNCTION_NAME(Archive& archive, detail::reported_map<Map>& loaded) {
  detail::load_reported(archive, loaded.map, loaded.report);
}

/// For an input archive: loads into `map`, and says in `report` what was found.
///
///   archive(dm::with_report(orders, report));
///   archive(cereal::make_nvp("orders", dm::with_report(orders, report)));   // where it was saved under a name
///
/// Errors: as loading the map; the report is then unchanged.
template <class Map>
detail::reported_map<Map> with_report(Map& map, load_report& report) noexcept {
  return {map, report};
}

/// `archive(map)`, and returns what was found. Errors: as loading the map.
template <class Archive, class Map>
load_report load_map(Archive& archive, Map& map) {
  load_report report;
  archive(with_report(map, report));
  return report;
}

// Keys ---------------------------------------------------------------------------------------------------------------

/// A key in a text archive: "index:generation", or "null".
template <class Archive, class Tag,
          cereal::traits::EnableIf<cereal::traits::is_text_archive<Archive>::value> = cereal::traits::sfinae>
std::string CEREAL_SAVE_MINIMAL_FUNCTION_NAME(const Archive&, const basic_key<Tag>& key) {
  return key ? std::to_string(key.index()) + ':' + std::to_string(key.generation()) : "null";
}
/// Errors: archive_error if the text is no possible key.
template <class Archive, class Tag,
          cereal::traits::EnableIf<cereal::traits::is_text_archive<Archive>::value> = cereal::traits::sfinae>
void CEREAL_LOAD_MINIMAL_FUNCTION_NAME(const Archive&, basic_key<Tag>& key, const std::string& text) {
  const auto parsed = parse_key<basic_key<Tag>>(text);
  if (!parsed)
    throw archive_error("archive of a key: \"" + text.substr(0, 40) +
                        "\" is no key: it should be \"index:generation\" or \"null\"");
  key = *parsed;
}

/// A key in any other archive: its 64 bits.
template <class Archive, class Tag,
          cereal::traits::DisableIf<cereal::traits::is_text_archive<Archive>::value> = cereal::traits::sfinae>
std::uint64_t CEREAL_SAVE_MINIMAL_FUNCTION_NAME(const Archive&, const basic_key<Tag>& key) {
  return key.bits();
}
/// Errors: archive_error if no map can have handed out this key.
template <class Archive, class Tag,
          cereal::traits::DisableIf<cereal::traits::is_text_archive<Archive>::value> = cereal::traits::sfinae>
void CEREAL_LOAD_MINIMAL_FUNCTION_NAME(const Archive&, basic_key<Tag>& key, const std::uint64_t& bits) {
  const auto read = basic_key<Tag>::from_bits(bits);
  if (read.bits() != bits)
    throw archive_error("archive of a key: no map hands out a key of bits " + std::to_string(bits));
  key = read;
}

}  // namespace dm
