// How a join looks into the maps it walks: their words of bits, their versions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "deferred_map/container/secondary_base.hpp"
#include "deferred_map/deferred_map.hpp"

namespace dm::detail {

/// A friend of the maps. What is read here is an index, a first sieve: versions decide.
struct walk_access {
  /// The deferred_map that a map is, or is made of where it calls this a friend.
  template <class T, class Key, class Allocator>
  static deferred_map<T, Key, Allocator>& primary(deferred_map<T, Key, Allocator>& map) noexcept {
    return map;
  }
  template <class T, class Key, class Allocator>
  static const deferred_map<T, Key, Allocator>& primary(const deferred_map<T, Key, Allocator>& map) noexcept {
    return map;
  }
  template <class Map>
  static auto& primary_of(Map& map) noexcept {
    return primary(map);  // called from here, where a private base is seen
  }

  template <class T, class Key, class Allocator>
  static std::uint32_t slot_count(const deferred_map<T, Key, Allocator>& map) noexcept {
    return map.storage_.control().slot_count;
  }
  template <class T, class Key, class Allocator, class Places>
  static std::uint32_t slot_count(const secondary_base<T, Key, Allocator, Places>& map) noexcept {
    return map.places_.slot_count();
  }

  /// A bit for each slot, 1 where there may be a value; those from `slot_count` on mean nothing.
  template <class T, class Key, class Allocator>
  static const std::uint64_t* words(const deferred_map<T, Key, Allocator>& map) noexcept {
    return map.storage_.taken_words();
  }
  template <class T, class Key, class Allocator, class Places>
  static const std::uint64_t* words(const secondary_base<T, Key, Allocator, Places>& map) noexcept {
    return map.places_.presence_words();
  }

  /// A reference to the value in that slot is about to be given to somebody, who may store to it unless it is const.
  template <class T, class Key, class Allocator>
  static void hands_out(deferred_map<T, Key, Allocator>& map, std::uint32_t position) noexcept {
    map.about_to_change(position);
  }
  template <class T, class Key, class Allocator>
  static void hands_out(const deferred_map<T, Key, Allocator>&, std::uint32_t) noexcept {}

  /// The slot at a position, which must be below slot_count.
  template <class T, class Key, class Allocator>
  static auto& slot(const deferred_map<T, Key, Allocator>& map, std::uint32_t position) noexcept {
    return map.storage_.slots()[position];
  }
  template <class T, class Key, class Allocator, class Places>
  static auto& slot(const secondary_base<T, Key, Allocator, Places>& map, std::uint32_t position) noexcept {
    return map.places_.slots()[position];
  }

  /// The index of the key of a value. Requires: there is one at that position.
  template <class T, class Key, class Allocator, class Places>
  static std::uint32_t index_at(const secondary_base<T, Key, Allocator, Places>& map, std::uint32_t position) noexcept {
    return map.places_.index_at(position);
  }

  template <class T, class Key, class Allocator, class Places>
  static constexpr bool is_hashed(const secondary_base<T, Key, Allocator, Places>*) noexcept {
    return Places::hashed;
  }
};

}  // namespace dm::detail
