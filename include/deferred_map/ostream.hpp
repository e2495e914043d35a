// Maps, their entries and the states of slots for streams: `std::cout << map` is "{3:1: value, 4:2: value}".
//
// Keys and handles need no header of their own for this (key.hpp, handle.hpp).
#pragma once

#include <concepts>
#include <ostream>
#include <type_traits>

#include "deferred_map/container/iterator.hpp"
#include "deferred_map/container/map_of_entries.hpp"
#include "deferred_map/container/version.hpp"

namespace dm {

namespace detail {

/// Whether a stream takes a `const T&`.
template <class T, class Char, class Traits>
concept streams_to = requires(std::basic_ostream<Char, Traits>& out, const T& value) {
  { out << value } -> std::convertible_to<std::basic_ostream<Char, Traits>&>;
};

}  // namespace detail

/// The name of the state: "occupied". A width pads it.
template <class Char, class Traits>
std::basic_ostream<Char, Traits>& operator<<(std::basic_ostream<Char, Traits>& out, slot_state state) {
  return out << to_string(state);
}

/// "key: value", the key as "index:generation" and the value as the stream is set. A width is the value's.
template <class Char, class Traits, class Key, class T>
requires detail::streams_to<T, Char, Traits> std::basic_ostream<Char, Traits>
&operator<<(std::basic_ostream<Char, Traits>& out, const entry<Key, T>& shown) {
  const std::streamsize width = out.width(0);
  out << shown.key << Char{':'} << Char{' '};
  out.width(width);
  return out << static_cast<const T&>(shown.value);
}

/// "{key: value, key: value}" in the order the map is walked in, "{}" where it is empty. A width is that of each value.
/// Where values cannot be streamed there is no such operator. Cost: a walk.
template <class Char, class Traits, detail::map_of_entries Map>
requires detail::streams_to<typename Map::mapped_type, Char, Traits> std::basic_ostream<Char, Traits>
&operator<<(std::basic_ostream<Char, Traits>& out, const Map& map) {
  const std::streamsize width = out.width(0);
  out << Char{'{'};
  bool is_first = true;
  for (const auto shown : map) {
    if (!is_first) out << Char{','} << Char{' '};
    is_first = false;
    out.width(width);
    out << shown;
  }
  return out << Char{'}'};
}

}  // namespace dm
