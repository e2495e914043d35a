// The key: 64 bits that name one life of one slot.
//
//   63             34 33 32 31              0
//  +-----------------+-----+-----------------+
//  |   generation    | 1 1 |   slot index    |
//  +-----------------+-----+-----------------+
//   \_ the version an occupied slot of that generation holds, so a lookup compares one word
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <optional>
#include <string_view>
#include <type_traits>

#include "deferred_map/container/version.hpp"

namespace dm {

namespace detail {
struct key_access;
}

/// Names one value of one map for as long as that value lives, and nothing ever after.
///
/// A key is 64 bits, trivially copyable, and holds no pointer: it means the same in every process and after
/// every restart, so a key stored inside a value is a persistent pointer. It becomes *stale* when its value
/// is removed; a stale key never reaches a newer value, because a slot never lives two lives in one
/// generation and is retired after its last (2^30 - 2 of them).
///
/// `Tag` makes keys of different maps different types: `using order_key = dm::basic_key<struct order_tag>;`.
/// What the type system cannot see, and no check can, is a key used on another map of the same key type: it
/// is memory-safe there and names whatever lives in that slot in that generation, or nothing.
///
/// All bits zero is the null key. It never matches a slot.
template <class Tag = void>
class alignas(8) basic_key {
 public:
  using tag_type = Tag;

  /// The null key.
  constexpr basic_key() noexcept = default;

  /// The key of the life `generation` of slot `index`. Generation 0 is nobody's: the result is the null key.
  static constexpr basic_key from_parts(std::uint32_t index, std::uint32_t generation) noexcept {
    if (generation < version::first_generation || generation > version::last_generation) return {};
    return basic_key(index, version::occupied(generation));
  }

  /// The inverse of `bits()`. Bits that no map can have handed out give the null key.
  static constexpr basic_key from_bits(std::uint64_t bits) noexcept {
    const basic_key key(static_cast<std::uint32_t>(bits), static_cast<std::uint32_t>(bits >> 32));
    return key == from_parts(key.index(), key.generation()) ? key : basic_key{};
  }

  constexpr std::uint64_t bits() const noexcept { return std::uint64_t{version_} << 32 | index_; }
  constexpr std::uint32_t index() const noexcept { return index_; }
  constexpr std::uint32_t generation() const noexcept { return version::generation(version_); }

  /// The version word an occupied slot holds if this key is live there. Keys read from raw memory may hold
  /// anything; the state bits are forced so that no bit pattern whatever matches a slot that is not occupied.
  constexpr std::uint32_t occupied_version() const noexcept { return version_ | version::occupied_bits; }

  /// True unless this is the null key. Says nothing about whether the key is live: that only its map knows.
  explicit constexpr operator bool() const noexcept { return bits() != 0; }

  /// Orders by generation, then by slot: an order to sort by, not an age.
  friend constexpr auto operator<=>(basic_key a, basic_key b) noexcept { return a.bits() <=> b.bits(); }
  friend constexpr bool operator==(basic_key a, basic_key b) noexcept { return a.bits() == b.bits(); }

 private:
  friend struct detail::key_access;
  constexpr basic_key(std::uint32_t index, std::uint32_t version) noexcept : index_(index), version_(version) {}

  std::uint32_t index_ = 0;
  std::uint32_t version_ = 0;
};

using key = basic_key<>;

// Keys stand in files, inside values and schemas: these are their bytes (docs/FORMAT.md).
static_assert(sizeof(key) == 8 && alignof(key) == 8 && std::is_trivially_copyable_v<key> &&
              std::is_standard_layout_v<key> && std::has_unique_object_representations_v<key>);

namespace detail {
/// Maps make keys from an occupied version word, which needs no checking.
struct key_access {
  template <class Key>
  static constexpr Key make(std::uint32_t index, std::uint32_t occupied_version) noexcept {
    return Key(index, occupied_version);
  }
};
}  // namespace detail

/// Whether `K` is a `basic_key` of some tag.
template <class K>
inline constexpr bool is_basic_key = false;
template <class Tag>
inline constexpr bool is_basic_key<basic_key<Tag>> = true;

/// Reads "index:generation" in decimal, as keys print. Nothing but a whole, possible key is accepted; the
/// null key prints as "null" and is read back as such.
template <class Key = key>
constexpr std::optional<Key> parse_key(std::string_view text) noexcept {
  if (text == "null") return Key{};
  const auto number = [&text]() -> std::optional<std::uint32_t> {
    std::uint64_t value = 0;
    std::size_t digits = 0;
    while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
      value = value * 10 + static_cast<std::uint64_t>(text.front() - '0');
      if (++digits > 10) return std::nullopt;
      text.remove_prefix(1);
    }
    if (digits == 0 || value > 0xffff'ffffu) return std::nullopt;
    return static_cast<std::uint32_t>(value);
  };
  const auto index = number();
  if (!index || text.empty() || text.front() != ':') return std::nullopt;
  text.remove_prefix(1);
  const auto generation = number();
  if (!generation || !text.empty()) return std::nullopt;
  const Key key = Key::from_parts(*index, *generation);
  return key ? std::optional<Key>(key) : std::nullopt;
}

/// "index:generation" in decimal, or "null", whatever base the stream is set to; a width pads the whole.
template <class Char, class Traits, class Tag>
std::basic_ostream<Char, Traits>& operator<<(std::basic_ostream<Char, Traits>& out, basic_key<Tag> key) {
  if (!key) return out << "null";
  Char text[22];  // 10 digits, a colon, 10 digits, NUL
  Char* at = text + 21;
  *at = Char{};
  const auto prepend = [&at](std::uint32_t number) {
    do {
      *--at = static_cast<Char>('0' + number % 10);
    } while ((number /= 10) != 0);
  };
  prepend(key.generation());
  *--at = Char{':'};
  prepend(key.index());
  return out << at;
}

}  // namespace dm

/// Mixes index and generation (the finalizer of MurmurHash3), since both count upwards from small numbers and
/// most tables use the low bits only.
template <class Tag>
struct std::hash<dm::basic_key<Tag>> {
  std::size_t operator()(dm::basic_key<Tag> key) const noexcept {
    std::uint64_t x = key.bits();
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdu;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53u;
    x ^= x >> 33;
    return static_cast<std::size_t>(x);
  }
};
