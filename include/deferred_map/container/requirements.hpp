// What maps ask of their template arguments, each with a sentence that says what to do instead.
//
// In two steps, so that a T may hold a map of its own type, as with std::vector: what can be asked of an incomplete T
// is asked where the type of the map is made, the rest where a map is destroyed. These are static_asserts and not
// constraints, since a constraint would be asked while T is incomplete.
#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>

#include "deferred_map/container/allocator_hooks.hpp"
#include "deferred_map/container/attached_slots.hpp"
#include "deferred_map/key.hpp"

namespace dm::detail {

/// Has what std::allocator_traits cannot do without.
template <class A>
concept allocator_of_blocks = std::is_object_v<A> && requires(A allocator, std::size_t n) {
  typename A::value_type;
  allocator.deallocate(allocator.allocate(n), n);
};

template <class A, class T>
inline constexpr bool allocates = false;
template <class A, class T>
requires requires { typename A::value_type; }
inline constexpr bool allocates<A, T> = std::is_same_v<typename A::value_type, T>;

/// Whether the arguments will do. The first that will not is the only one complained of, and false is returned so that
/// the map's own static_assert fails too: clang then looks no further into the map. T may be incomplete.
template <class T, class Key, class Allocator>
consteval bool require_arguments() {
  if constexpr (std::is_reference_v<T>) {
    static_assert(!std::is_reference_v<T>,
                  "T of a map is a reference: store a dm::key, a pointer or a std::reference_wrapper instead");
    return false;
  } else if constexpr (std::is_array_v<T>) {
    static_assert(!std::is_array_v<T>, "T of a map is an array, which cannot be moved: store a std::array instead");
    return false;
  } else if constexpr (!std::is_object_v<T>) {
    static_assert(std::is_object_v<T>, "T of a map must be the type of an object");
    return false;
  } else if constexpr (std::is_const_v<T> || std::is_volatile_v<T>) {
    static_assert(!std::is_const_v<T> && !std::is_volatile_v<T>,
                  "T of a map is const or volatile: leave that out, and use a const map where nothing may change");
    return false;
  } else if constexpr (!is_basic_key<Key>) {
    static_assert(is_basic_key<Key>,
                  "Key of a map must be dm::key or a dm::basic_key<Tag>; the allocator is the third argument");
    return false;
  } else if constexpr (!persistent_allocator<Allocator> && !allocator_of_blocks<Allocator>) {
    static_assert(allocator_of_blocks<Allocator>,
                  "Allocator of a map is not an allocator: it needs a value_type, allocate(n) and deallocate(p, n)");
    return false;
  } else {
    static_assert(allocates<Allocator, T>,
                  "Allocator of a map must be one of T, but its value_type is another: write std::allocator<T>");
    return allocates<Allocator, T>;
  }
}

/// The rest of what is asked of T, which is complete by now.
template <class T, class Allocator>
consteval bool require_value() {
  static_assert(std::is_nothrow_destructible_v<T>,
                "T of a map has a destructor that may throw, or none that can be called: make it public and noexcept");
  static_assert(std::is_move_constructible_v<T>,
                "T of a map can be neither moved nor copied: give it a move constructor, or store std::unique_ptr<T>");
  if constexpr (persistent_allocator<Allocator>)
    static_assert(std::is_trivially_copyable_v<T>,
                  "T in persistent memory must be trivially copyable: store keys for pointers, arrays for strings");
  return true;
}

/// Asked where a map is copied. As with std::vector, std::is_copy_constructible says yes to every map: a constraint
/// would be asked while T is incomplete.
template <class T, class Allocator>
consteval bool require_copyable() {
  constexpr bool is_copyable =
      std::is_copy_constructible_v<T> || constructs_itself<Allocator, T, const T&>;  // std::scoped_allocator_adaptor
  static_assert(is_copyable, "copying a map copies its values, and T cannot be copied: move the map with std::move");
  return is_copyable;
}

}  // namespace dm::detail
