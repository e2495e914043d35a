// Where a story begins (a file in some state), what then happens to it (an operation), and what the program knows.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../effort.hpp"
#include "deferred_map/mapped_map.hpp"

namespace killed {

/// A value of 4 KiB, more than any instruction stores. (Sanitizers copy byte by byte, each an image: there, less.)
struct page {
  std::array<std::uint64_t, sanitized ? 32 : 512> words;
  friend bool operator==(const page&, const page&) = default;
};

/// Each byte of a value depends on the serial number, so that no mixture of two values is a third one.
template <class T>
T value_of(std::uint64_t serial) {
  if constexpr (std::is_same_v<T, page>) {
    page made;
    for (std::size_t i = 0; i < made.words.size(); ++i) made.words[i] = (serial + 1) * 0x0123'4567'89ab'cdefu + i;
    return made;
  } else {
    return static_cast<T>((serial + 1) * 0x0101'0101'0101'0101u);
  }
}

/// Key bits to values.
template <class T>
using contents = std::map<std::uint64_t, T>;

template <class Map>
auto contents_of(Map& map) {
  contents<typename Map::mapped_type> found;
  for (const auto [key, value] : map) found.emplace(key.bits(), value);
  return found;
}

/// A closed file, and every key that was ever told to the program that made it.
struct start {
  std::string name;
  std::string bytes;
  std::vector<std::uint64_t> told;
  bool index_lies = false;  ///< until somebody takes a slot and notices
};

/// What the process that is to be killed has in its hands.
template <class T>
struct program {
  dm::mapped_map<T> map;
  std::vector<dm::handle> handles;
  std::vector<std::uint64_t> told;  // keys that exist, or did, or will
  std::filesystem::path path;

  void tell(dm::key key) { told.push_back(key.bits()); }
  dm::key nth_live(std::size_t n) const {
    auto it = map.begin();
    while (n-- > 0) ++it;
    return it->key;
  }
};

template <class T>
struct operation {
  std::string name;
  std::size_t live_needed = 0;               ///< values there must be
  bool element_by_element = false;           ///< a kill may find it done for some of the values
  std::function<void(program<T>&)> prepare;  ///< not looked at
  std::function<void(program<T>&)> act;      ///< looked at, at every instruction
};

/// The states that stories begin in.
template <class T>
std::vector<start> starts(const std::filesystem::path& path);
/// A handle is out in half of the starts' stories (`prepare` keeps one).
template <class T>
std::vector<operation<T>> operations();

}  // namespace killed
