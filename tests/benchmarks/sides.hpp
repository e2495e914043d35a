// The C++ containers that are measured, each behind the same few operations on one element, and the loops over
// them. A benchmark calls a loop, never an element: the sides in other languages offer the same loops
// (slotmap_side.hpp), so that no call is paid for each element and no side is measured by other code than the rest.
//
// A side says what its keys are: a word of 64 bits, whatever it makes of one (dm::key, pointer, number), except where
// that is not enough. The words are the side's own bits and cost nothing to turn into its key.
#pragma once

#include <benchmark/benchmark.h>
#include <plf_colony.h>

#include <algorithm>
#include <array>
#include <bit>
#include <boost/unordered/unordered_flat_map.hpp>
#include <concepts>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "deferred_map/deferred_map.hpp"

namespace bench {

using word = std::uint64_t;

template <std::size_t Bytes>
struct large_value {
  std::array<word, Bytes / 8> words;
};
/// A number where that is enough, as most programs have it.
template <std::size_t Bytes>
using value = std::conditional_t<Bytes == 8, word, large_value<Bytes>>;

template <std::size_t Bytes>
value<Bytes> value_of(word i) {
  if constexpr (Bytes == 8) {
    return i;
  } else {
    value<Bytes> v;
    v.words.fill(i);
    return v;
  }
}

inline word& first_word(word& v) { return v; }
inline word first_word(const word& v) { return v; }
template <std::size_t Bytes>
word& first_word(large_value<Bytes>& v) {
  return v.words[0];
}
template <std::size_t Bytes>
word first_word(const large_value<Bytes>& v) {
  return v.words[0];
}

/// A key in a value.
inline word to_word(word key) { return key; }
inline word to_word(dm::key key) { return key.bits(); }
inline void from_word(word bits, word& key) { key = bits; }
inline void from_word(word bits, dm::key& key) { key = std::bit_cast<dm::key>(bits); }

// One element at a time --------------------------------------------------------------------------------------------

template <std::size_t Bytes>
struct dm_elements {
  using key = dm::key;
  static constexpr const char* name = "dm";
  static constexpr bool tells_stale = true;
  static constexpr std::size_t bytes = Bytes;
  dm::deferred_map<value<Bytes>> map;

  void reserve(std::size_t n) { map.reserve(n); }
  dm::key insert(word i) { return map.insert(value_of<Bytes>(i)); }
  const value<Bytes>* find(dm::key key) const { return map.get(key); }
  bool erase(dm::key key) { return map.erase(key); }
  template <class F>
  void for_each(F f) const {
    for (const value<Bytes>& v : map.values()) f(v);
  }
  std::size_t find_many(std::span<const dm::key> keys, std::span<const value<Bytes>*> found) const {
    return map.get_many(keys, found);
  }
};

/// Keys are pointers: nothing tells a stale one. They are not enough to remove a value by (from a pointer colony has to
/// look for its block, one after the other): see colony_iterators.
template <std::size_t Bytes>
struct colony_elements {
  using key = word;
  static constexpr const char* name = "colony";
  static constexpr bool tells_stale = false;
  static constexpr std::size_t bytes = Bytes;
  plf::colony<value<Bytes>> map;

  void reserve(std::size_t n) { map.reserve(n); }
  word insert(word i) { return reinterpret_cast<word>(&*map.insert(value_of<Bytes>(i))); }
  const value<Bytes>* find(word key) const { return reinterpret_cast<const value<Bytes>*>(key); }
  template <class F>
  void for_each(F f) const {
    for (const value<Bytes>& v : map) f(v);
  }
};
/// The same with iterators of 24 bytes as keys, for the operations that remove.
template <std::size_t Bytes>
struct colony_iterators {
  using key = typename plf::colony<value<Bytes>>::iterator;
  static constexpr const char* name = "colony";
  static constexpr bool tells_stale = false;
  static constexpr std::size_t bytes = Bytes;
  plf::colony<value<Bytes>> map;

  void reserve(std::size_t n) { map.reserve(n); }
  key insert(word i) { return map.insert(value_of<Bytes>(i)); }
  const value<Bytes>* find(key k) const { return &*k; }
  bool erase(key k) {
    map.erase(k);
    return true;
  }
  template <class F>
  void for_each(F f) const {
    for (const value<Bytes>& v : map) f(v);
  }
};

/// Keys are numbers in the order of insertion, which is what programs hand out that keep their things in a hash
/// table. std::hash leaves them as they are, so that std::unordered_map gets neighbours for neighbours.
template <std::size_t Bytes, class Map>
struct hash_elements {
  using key = word;
  static constexpr std::size_t bytes = Bytes;
  Map map;
  word next = 0;

  void reserve(std::size_t n) { map.reserve(n); }
  word insert(word i) {
    map.emplace(next, value_of<Bytes>(i));
    return next++;
  }
  const value<Bytes>* find(word key) const {
    const auto found = map.find(key);
    return found == map.end() ? nullptr : &found->second;
  }
  bool erase(word key) { return map.erase(key) != 0; }
  template <class F>
  void for_each(F f) const {
    for (const auto& entry : map) f(entry.second);
  }
};
template <std::size_t Bytes>
struct flat_map_elements : hash_elements<Bytes, boost::unordered_flat_map<word, value<Bytes>>> {
  static constexpr const char* name = "flat_map";
  static constexpr bool tells_stale = true;
};
template <std::size_t Bytes>
struct unordered_map_elements : hash_elements<Bytes, std::unordered_map<word, value<Bytes>>> {
  static constexpr const char* name = "unordered_map";
  static constexpr bool tells_stale = true;
};

/// The floor: keys are indices, and nothing is ever checked or removed.
template <std::size_t Bytes>
struct vector_elements {
  using key = word;
  static constexpr const char* name = "vector";
  static constexpr bool tells_stale = false;
  static constexpr std::size_t bytes = Bytes;
  std::vector<value<Bytes>> map;

  void reserve(std::size_t n) { map.reserve(n); }
  word insert(word i) {
    map.push_back(value_of<Bytes>(i));
    return map.size() - 1;
  }
  const value<Bytes>* find(word key) const { return &map[key]; }
  template <class F>
  void for_each(F f) const {
    for (const value<Bytes>& v : map) f(v);
  }
};

// The loops --------------------------------------------------------------------------------------------------------

/// What is measured. A side is this, or anything that offers the same.
template <class Elements>
class side {
 public:
  using key = typename Elements::key;
  static constexpr const char* name = Elements::name;
  static constexpr std::size_t bytes = Elements::bytes;
  static constexpr bool tells_stale = Elements::tells_stale;  // whether a key of a value that is gone may be used
  static constexpr bool removes = requires(Elements e) { e.erase(key{}); };

  /// An empty map with room for `reserve` values; of 0 it does not ask.
  explicit side(std::size_t reserve) {
    if (reserve != 0) elements_.reserve(reserve);
  }

  /// Inserts values of first, first + 1, ... and writes the key of each.
  void insert(word first, std::span<key> keys) {
    for (key& k : keys) k = elements_.insert(first++);
  }
  /// The sum of the first word of each value that is found.
  word get(std::span<const key> keys) const {
    word sum = 0;
    for (const key& k : keys)
      if (const auto* v = elements_.find(k)) sum += first_word(*v);
    return sum;
  }
  /// Writes where each value is, null where the key is stale, and returns how many were found.
  std::size_t find(std::span<const key> keys, std::span<const value<bytes>*> found) const {
    std::size_t live = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      found[i] = elements_.find(keys[i]);
      live += found[i] != nullptr;
    }
    return live;
  }
  /// The same with the container's own operation for many keys.
  std::size_t find_many(std::span<const key> keys, std::span<const value<bytes>*> found) const requires
      requires(const Elements e) {
    e.find_many(keys, found);
  }
  { return elements_.find_many(keys, found); }
  /// Makes the first word of each value the key of the next: a ring through all of them.
  void link(std::span<const key> keys) requires requires(key k) { to_word(k); }
  {
    for (std::size_t i = 0; i < keys.size(); ++i)
      first_word(const_cast<value<bytes>&>(*elements_.find(keys[i]))) = to_word(keys[i + 1 == keys.size() ? 0 : i + 1]);
  }
  /// Follows the ring and returns the key that it came to, or nothing should a key be stale.
  key follow(key k, std::size_t steps) const requires requires { to_word(k); }
  {
    for (; steps != 0; --steps) {
      const auto* v = elements_.find(k);
      if (v == nullptr) [[unlikely]]
        return {};
      from_word(first_word(*v), k);
    }
    return k;
  }
  /// Returns how many there were.
  std::size_t erase(std::span<const key> keys) requires removes {
    std::size_t erased = 0;
    for (const key& k : keys) erased += elements_.erase(k);
    return erased;
  }
  /// Removes each and inserts another at once.
  void churn(std::span<key> keys) requires removes {
    word i = 0;
    for (key& k : keys) {
      elements_.erase(k);
      k = elements_.insert(i++);
    }
  }
  /// The sum of all values' first words.
  word walk() const {
    word sum = 0;
    elements_.for_each([&sum](const value<bytes>& v) { sum += first_word(v); });
    return sum;
  }
  /// Makes and destroys `maps` maps of `n` values.
  static void tiny(std::size_t maps, std::size_t n) {
    for (; maps != 0; --maps) {
      Elements elements;
      for (word i = 0; i < n; ++i) {
        key k = elements.insert(i);
        benchmark::DoNotOptimize(k);
      }
    }
  }

  const Elements& elements() const { return elements_; }

 private:
  Elements elements_;
};

template <std::size_t Bytes>
using dm_side = side<dm_elements<Bytes>>;
template <std::size_t Bytes>
using colony_side = side<colony_elements<Bytes>>;
template <std::size_t Bytes>
using colony_iterators_side = side<colony_iterators<Bytes>>;
template <std::size_t Bytes>
using flat_map_side = side<flat_map_elements<Bytes>>;
template <std::size_t Bytes>
using unordered_map_side = side<unordered_map_elements<Bytes>>;
template <std::size_t Bytes>
using vector_side = side<vector_elements<Bytes>>;

}  // namespace bench
