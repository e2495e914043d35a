// The handle: the right, and the duty, to fill one reserved slot.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <utility>

#include "deferred_map/key.hpp"

namespace dm {

template <class T, class Key, class Allocator>
class deferred_map;

namespace detail {
struct handle_access;
}

/// Names one reserved slot of one map, and is good for exactly one `insert`, `emplace` or `release_handle`.
///
/// Move-only, 16 bytes. `key()` tells the key the value will have, before the value exists; it becomes live
/// with the `insert`. The handle carries its map's identity, so using it on another map, twice, or after it
/// was moved from is always a `dm::bad_handle`, in release builds too.
///
/// A handle does not know its map's address and so cannot give its slot back by itself: one that is dropped
/// leaves its slot reserved until `release_reserved()`. `dm::reservation` releases on scope exit.
template <class Key = key>
class [[nodiscard]] basic_handle {
 public:
  using key_type = Key;

  /// A spent handle.
  constexpr basic_handle() noexcept = default;
  constexpr basic_handle(basic_handle&& other) noexcept
      : key_(std::exchange(other.key_, Key{})), map_identity_(std::exchange(other.map_identity_, 0)) {}
  constexpr basic_handle& operator=(basic_handle&& other) noexcept {
    key_ = std::exchange(other.key_, Key{});
    map_identity_ = std::exchange(other.map_identity_, 0);
    return *this;
  }
  basic_handle(const basic_handle&) = delete;
  basic_handle& operator=(const basic_handle&) = delete;

  /// The key that `insert` with this handle makes live; null once the handle is spent.
  constexpr Key key() const noexcept { return key_; }
  constexpr std::uint32_t index() const noexcept { return key_.index(); }
  constexpr std::uint32_t generation() const noexcept { return key_.generation(); }
  /// False once spent or moved from.
  explicit constexpr operator bool() const noexcept { return map_identity_ != 0; }

 private:
  friend struct detail::handle_access;
  constexpr basic_handle(Key key, std::uint64_t map_identity) noexcept : key_(key), map_identity_(map_identity) {}

  Key key_;
  std::uint64_t map_identity_ = 0;  // 0: spent. Process-local, never stored in a file.
};

using handle = basic_handle<>;

static_assert(sizeof(handle) == 16);

namespace detail {

/// Maps make and spend handles; nobody else can.
struct handle_access {
  template <class Key>
  static constexpr basic_handle<Key> make(Key key, std::uint64_t map_identity) noexcept {
    return basic_handle<Key>(key, map_identity);
  }
  template <class Key>
  static constexpr std::uint64_t map_identity(const basic_handle<Key>& handle) noexcept {
    return handle.map_identity_;
  }
  template <class Key>
  static constexpr void spend(basic_handle<Key>& handle) noexcept {
    handle = basic_handle<Key>();
  }
};

}  // namespace detail

template <class Char, class Traits, class Key>
std::basic_ostream<Char, Traits>& operator<<(std::basic_ostream<Char, Traits>& out, const basic_handle<Key>& handle) {
  return out << handle.key();
}

}  // namespace dm
