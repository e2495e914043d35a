// Archives: each map as a list (cereal_lists.hpp), to be saved and to be loaded. Included by cereal.hpp only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "deferred_map/cereal.hpp"
#include "deferred_map/container/archive_access.hpp"
#include "deferred_map/container/cereal_lists.hpp"
#include "deferred_map/container/cereal_reading.hpp"
#include "deferred_map/container/version.hpp"

namespace dm {
namespace detail {

// deferred_map -------------------------------------------------------------------------------------------------------

struct slot_labels {
  using label = std::uint32_t;
  using stored_label = std::uint32_t;
  static constexpr const char* label_name = "version";
  static constexpr const char* nodes_name = "slots";
  static constexpr stored_label store(label version_word) noexcept { return version_word; }
  static constexpr label restore(stored_label word) noexcept { return word; }
  static constexpr bool has_value(label version_word) noexcept { return version::is_occupied(version_word); }
};

template <class Map>
struct slots_to_save : slot_labels {
  using value_type = typename Map::mapped_type;

  explicit slots_to_save(const Map& saved) noexcept : map(saved) {}
  const Map& map;

  std::uint32_t count() const noexcept { return static_cast<std::uint32_t>(map.slot_count()); }

  /// Only persistent memory can hold such a slot, after damage.
  [[noreturn, gnu::cold, gnu::noinline]] static void refuse_damaged(std::uint32_t index, std::uint32_t word) {
    refuse_archive(deferred_map_kind, "nothing can be saved of this map: slot " + std::to_string(index) +
                                          " has version " + std::to_string(word) +
                                          ", which no operation leaves. Its verify() fails; recover() it first");
  }

  /// A reserved slot as what it will be: its handle stays behind.
  template <class F>
  void walk(F f) const {
    const std::uint32_t slot_count = count();
    for (std::uint32_t index = 0; index < slot_count; ++index) {
      const std::uint32_t word = archive_access::version(map, index);
      if (!version::is_possible(word) || word == 0) [[unlikely]]
        refuse_damaged(index, word);
      // One call, so that it is inlined.
      const bool occupied = version::is_occupied(word);
      f(version::is_reserved(word) ? version::next_vacant(word) : word,
        occupied ? std::addressof(archive_access::value(map, index)) : static_cast<const value_type*>(nullptr));
    }
  }
};

template <class Map>
struct slots_to_load : slot_labels {
  using value_type = typename Map::mapped_type;
  static constexpr archive_kind kind = deferred_map_kind;

  explicit slots_to_load(Map& built) noexcept : map(built) {}
  Map& map;
  std::uint32_t announced = 0;

  void announce(std::uint32_t count) noexcept { announced = count; }
  std::uint32_t added() const noexcept { return static_cast<std::uint32_t>(map.slot_count()); }
  static void check(label word, std::uint32_t index) {
    const bool written_by_us = version::is_possible(word) && !version::is_reserved(word) && word != 0;
    if (!written_by_us) [[unlikely]]
      refuse_archive(kind, "slot " + std::to_string(index) + " has version " + std::to_string(word) +
                               ", which is never saved: the archive is damaged");
  }
  void add(label word) { archive_access::append_vacant(map, word, announced); }
  template <class T>
  void add(label word, T&& value) {
    archive_access::append_occupied(map, word, announced, std::forward<T>(value));
  }
};

template <class Archive, class T, class Key, class A>
void load_deferred_map(Archive& archive, deferred_map<T, Key, A>& map, load_report& report) {
  using map_type = deferred_map<T, Key, A>;
  static_assert(!archive_access::is_persistent<map_type>,
                "a map in persistent memory saves but does not load: load into a dm::deferred_map<T>, and insert what "
                "it holds");
  constexpr archive_kind kind = deferred_map_kind;
  load_kind(archive, kind);
  const std::uint32_t floor = read_number(archive, kind, "generation_floor");
  if (floor > version::last_generation)
    refuse_archive(kind, "the generation floor is " + std::to_string(floor) + ", past the last generation");
  const std::uint32_t reserved = read_number(archive, kind, "reserved");

  map_type built(map.get_allocator());
  slots_to_load<map_type> slots(built);
  load_list(archive, slots);
  archive_access::finish(built, floor);
  const std::size_t empty_slots = built.slot_count() - built.size();
  if (reserved > empty_slots)
    refuse_archive(kind, std::to_string(reserved) + " slots are said to have been reserved, and " +
                             std::to_string(empty_slots) + " are empty");
  map.swap(built);
  report.slots = static_cast<std::uint32_t>(map.slot_count());
  report.values = static_cast<std::uint32_t>(map.size());
  report.retired = static_cast<std::uint32_t>(map.retired_count());
  report.reserved_vacated = reserved;
}

// Secondary maps: only through what anybody may call ------------------------------------------------------------------

inline constexpr archive_kind secondary_map_kind{"secondary_map", 's'};
inline constexpr archive_kind sparse_secondary_map_kind{"sparse_secondary_map", 'p'};

/// What loading a secondary map adds to, and what both kinds do alike.
template <class Map>
class entries_to_load {
 public:
  using value_type = typename Map::mapped_type;
  using key_type = typename Map::key_type;

  explicit entries_to_load(Map& built) noexcept : map_(built) {}
  void announce(std::uint32_t count) noexcept { announced_ = count; }
  std::uint32_t added() const noexcept { return added_; }

 protected:
  void skip() noexcept { ++added_; }
  template <class T>
  void put(archive_kind kind, key_type key, std::size_t needed, T&& value) {
    if (needed > map_.capacity()) make_room(needed);
    const std::size_t before = map_.size();
    map_.try_emplace(key, std::forward<T>(value));
    if (map_.size() == before)
      refuse_archive(kind, "entry " + std::to_string(added_) + " is for slot " + std::to_string(key.index()) +
                               ", as one before it: the archive is damaged");
    ++added_;
  }

 private:
  /// As archive_access makes room: it at most doubles, and is never more than what was announced.
  void make_room(std::size_t needed) {
    constexpr std::size_t unseen =
        std::max<std::size_t>(archive_access::room_unseen_bytes / sizeof(slot<value_type>), 1);
    const std::size_t wanted = std::max({needed, map_.capacity() * 2, unseen});
    map_.reserve(std::clamp<std::size_t>(announced_, needed, wanted));
  }

  Map& map_;
  std::uint32_t announced_ = 0;
  std::uint32_t added_ = 0;
};

template <class Map>
struct dense_to_save : slot_labels {
  using value_type = typename Map::mapped_type;

  explicit dense_to_save(const Map& saved) : map(saved) {
    for (const auto key : map.keys()) slots = key.index() + 1;
  }
  const Map& map;
  std::uint32_t slots = 0;  // behind the last that has a value

  std::uint32_t count() const noexcept { return slots; }
  template <class F>
  void walk(F f) const {
    std::uint32_t index = 0;
    for (const auto [key, value] : map) {
      for (; index < key.index(); ++index) f(std::uint32_t{0}, static_cast<const value_type*>(nullptr));
      f(key.occupied_version(), std::addressof(value));
      ++index;
    }
  }
};

template <class Map>
struct dense_to_load : slot_labels, entries_to_load<Map> {
  using base = entries_to_load<Map>;
  using typename base::value_type;
  static constexpr archive_kind kind = secondary_map_kind;
  using base::base;

  static void check(label word, std::uint32_t index) {
    if (word != 0 && (!version::is_occupied(word) || !version::is_possible(word)))
      refuse_archive(kind, "slot " + std::to_string(index) + " has version " + std::to_string(word) +
                               ", which is never saved: the archive is damaged");
  }
  void add(label) noexcept { base::skip(); }
  template <class T>
  void add(label word, T&& value) {
    const std::uint32_t index = base::added();
    base::put(kind, Map::key_type::from_parts(index, version::generation(word)), std::size_t{index} + 1,
              std::forward<T>(value));
  }
};

template <class Key>
struct entry_labels {
  using label = Key;
  using stored_label = std::uint64_t;
  static constexpr const char* label_name = "key";
  static constexpr const char* nodes_name = "entries";
  static constexpr stored_label store(Key key) noexcept { return key.bits(); }
  static constexpr Key restore(stored_label bits) noexcept { return Key::from_bits(bits); }
  static constexpr bool has_value(Key) noexcept { return true; }
};

template <class Map>
struct sparse_to_save : entry_labels<typename Map::key_type> {
  using value_type = typename Map::mapped_type;

  explicit sparse_to_save(const Map& saved) noexcept : map(saved) {}
  const Map& map;

  std::uint32_t count() const noexcept { return static_cast<std::uint32_t>(map.size()); }
  template <class F>
  void walk(F f) const {
    for (const auto [key, value] : map) f(key, std::addressof(value));
  }
};

template <class Map>
struct sparse_to_load : entry_labels<typename Map::key_type>, entries_to_load<Map> {
  using base = entries_to_load<Map>;
  using typename base::key_type;
  using typename base::value_type;
  static constexpr archive_kind kind = sparse_secondary_map_kind;
  using base::base;

  static void check(key_type key, std::uint32_t position) {
    if (!key || key.index() == 0xffff'ffffu)
      refuse_archive(kind, "entry " + std::to_string(position) + " has a key that no map hands out");
  }
  void add(key_type) noexcept {}
  template <class T>
  void add(key_type key, T&& value) {
    base::put(kind, key, std::size_t{base::added()} + 1, std::forward<T>(value));
  }
};

template <class List, class Archive, class Map>
void load_secondary_map(Archive& archive, Map& map, load_report& report) {
  load_kind(archive, List::kind);
  Map built(map.get_allocator());
  List entries(built);
  load_list(archive, entries);
  map.swap(built);
  report = {};
  report.slots = entries.added();
  report.values = static_cast<std::uint32_t>(map.size());
}

// One name for loading any of the maps.
template <class Archive, class T, class Key, class A>
void load_reported(Archive& archive, deferred_map<T, Key, A>& map, load_report& report) {
  load_deferred_map(archive, map, report);
}
template <class Archive, class T, class Key, class A>
void load_reported(Archive& archive, secondary_map<T, Key, A>& map, load_report& report) {
  load_secondary_map<dense_to_load<secondary_map<T, Key, A>>>(archive, map, report);
}
template <class Archive, class T, class Key, class A>
void load_reported(Archive& archive, sparse_secondary_map<T, Key, A>& map, load_report& report) {
  load_secondary_map<sparse_to_load<sparse_secondary_map<T, Key, A>>>(archive, map, report);
}

/// A map and where its report goes; see `with_report`.
template <class Map>
struct reported_map {
  Map& map;
  load_report& report;
};

}  // namespace detail
}  // namespace dm
