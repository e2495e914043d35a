// What archives may do with a map that nobody else may: read the version of each slot, and build a map slot by slot
// from versions. The only door.
//
// A map under construction (between the first `append` and `finish`):
//  1. Its slots and their values are right, and their count; so it can be destroyed at any moment.
//  2. Its vacancy index and its other counts are not, until `finish` makes them so: nothing else may be done with it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "deferred_map/container/version.hpp"
#include "deferred_map/deferred_map.hpp"

namespace dm::detail {

struct archive_access {
  /// What is made room for before the first slot has arrived. From then on room at most doubles, so memory is bounded
  /// by what arrived, whatever was announced.
  static constexpr std::size_t room_unseen_bytes = std::size_t{256} << 10;

  template <class Map>
  static constexpr bool is_persistent = Map::persistent;

  /// The deferred_map that a map is, where it is one in private, as a mapped_map is.
  template <class Map>
  static const auto& map_of(const Map& map) noexcept {
    return itself(map);  // called from here, where a private base is seen
  }

  /// The version word of slot `index`, as it is. Requires: index < map.slot_count().
  template <class T, class Key, class A>
  static std::uint32_t version(const deferred_map<T, Key, A>& map, std::uint32_t index) noexcept {
    return map.slot_at(index).version;
  }

  /// The value in slot `index`. Requires: the slot is occupied.
  template <class T, class Key, class A>
  static const T& value(const deferred_map<T, Key, A>& map, std::uint32_t index) noexcept {
    return map.slot_at(index).value;
  }

  /// One more slot at the end, vacant in a given version (retired ones are vacant too). `slots_announced` is how many
  /// there are said to be in all; it may be wrong. Requires: the version is vacant; slot_count < max_size.
  /// Errors: the allocator's.
  template <class T, class Key, class A>
  static void append_vacant(deferred_map<T, Key, A>& map, std::uint32_t vacant_version, std::uint32_t slots_announced) {
    make_room_for_one(map, slots_announced);
    map.storage_.append_vacant(vacant_version);
  }

  /// One more slot at the end, with a value. Requires: the version is occupied and possible; slot_count < max_size.
  /// Errors: the allocator's and those of T's constructor; the slot may then be there, vacant.
  template <class T, class Key, class A, class... Args>
  static void append_occupied(deferred_map<T, Key, A>& map, std::uint32_t occupied_version,
                              std::uint32_t slots_announced, Args&&... args) {
    make_room_for_one(map, slots_announced);
    auto& storage = map.storage_;
    const std::uint32_t index = storage.control().slot_count;
    storage.append_vacant(version::vacant(version::generation(occupied_version)));
    auto& slot = map.slot_at(index);
    storage.construct(std::addressof(slot.value), std::forward<Args>(args)...);
    slot.version = occupied_version;
  }

  /// Completes the map: after this all its invariants hold. Requires: the floor is no higher than the last generation.
  template <class T, class Key, class A>
  static void finish(deferred_map<T, Key, A>& map, std::uint32_t generation_floor) {
    auto& control = map.storage_.control();
    control.generation_floor = generation_floor;
    if (control.slot_count == 0) return;
    const auto found = map.scan_versions();
    control.retired = found.retired_count;
    if constexpr (is_persistent<deferred_map<T, Key, A>>) {  // elsewhere these follow from the others
      control.occupied = found.occupied_count;
      control.vacant = control.slot_count - found.occupied_count - found.retired_count;
    }
    map.storage_.rebuild_index(found.taken.data(), control.slot_count);
  }

 private:
  template <class T, class Key, class A>
  static const deferred_map<T, Key, A>& itself(const deferred_map<T, Key, A>& map) noexcept {
    return map;
  }

  /// Never more than what was announced, so that an honest archive leaves no room unused.
  template <class T, class Key, class A>
  static void make_room_for_one(deferred_map<T, Key, A>& map, std::uint32_t slots_announced) {
    auto& storage = map.storage_;
    const std::uint64_t count = storage.control().slot_count;
    const std::uint64_t capacity = storage.capacity();
    if (count < capacity) return;
    const std::uint64_t unseen = std::max<std::uint64_t>(room_unseen_bytes / sizeof(slot<T>), 1);
    const std::uint64_t wanted = std::max(capacity * 2, unseen);
    storage.set_capacity(
        static_cast<std::uint32_t>(std::clamp<std::uint64_t>(slots_announced, count + 1, std::max(wanted, count + 1))));
  }
};

}  // namespace dm::detail
