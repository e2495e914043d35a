// What can be printed as a map: whatever is walked as keys and values.
#pragma once

#include <concepts>
#include <type_traits>

#include "deferred_map/container/iterator.hpp"
#include "deferred_map/key.hpp"

namespace dm::detail {

/// deferred_map, mapped_map, both secondary maps, and what users derive from them. Asked of every type that is printed
/// with a dm type among its template arguments, hence the cheap questions first.
template <class Map>
concept map_of_entries = requires {
  typename Map::key_type;
  typename Map::mapped_type;
}
&&is_basic_key<typename Map::key_type>&& requires(const Map& map) {
  { *map.begin() } -> std::same_as<entry<typename Map::key_type, const typename Map::mapped_type>>;
  map.end();
};

}  // namespace dm::detail
