// From a C++ type to the schema of its values, and the rule for what may be stored in a file at all.
//
// A type is looked into by the first of these that applies:
//  1. `dm::schema_traits<T>::opaque` is true: it is bytes.
//  2. Numbers, bool, char, enumerations and keys are themselves; arrays (T[N], std::array) are their elements.
//  3. Boost.Describe: a described class has its described members, by name; a described enum its names.
//  4. A plain aggregate has its fields, by type and offset, without names. Plain means: no bases; no C arrays,
//     unions, references, bit-fields or members without a default; copyable and not packed; at most 64 fields.
//  5. Everything else is bytes: classes with private members, unions, `long double`, `__int128`.
//
// Members that have no bytes of their own (empty classes) and padding are not described.
#pragma once

#include <algorithm>
#include <array>
#include <boost/core/demangle.hpp>
#include <boost/describe/class.hpp>
#include <boost/describe/enum.hpp>
#include <boost/describe/enumerators.hpp>
#include <boost/describe/members.hpp>
#include <boost/describe/modifiers.hpp>
#include <boost/mp11/algorithm.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "deferred_map/format/schema.hpp"
#include "deferred_map/key.hpp"
#include "deferred_map/maps/plain_aggregate.hpp"

namespace dm {

/// What a program may say about the values it stores. Specialise it with any of
///
///     template <> struct dm::schema_traits<order> {
///       static constexpr const char* name = "order";   // instead of the C++ name: stays when the type moves
///       static constexpr std::uint32_t version = 2;    // files of another version are refused
///       static constexpr bool opaque = true;           // store the bytes, do not look inside
///       static constexpr bool allow_pointers = true;   // "I know what pointers in a file mean"
///     };
///
/// `version` counts for the type a map stores; the others for members too.
template <class T>
struct schema_traits {};

namespace detail {

template <class T>
constexpr bool is_marked_opaque() {
  if constexpr (requires { schema_traits<T>::opaque; }) return schema_traits<T>::opaque;
  return false;
}

template <class T>
constexpr bool allows_pointers() {
  if constexpr (requires { schema_traits<T>::allow_pointers; }) return schema_traits<T>::allow_pointers;
  return false;
}

template <class T>
constexpr bool is_described_class() {
  if constexpr (std::is_class_v<T>) return boost::describe::has_describe_members<T>::value;
  return false;
}

// All that a description lists and that has an address: private members too, since who lists them wants them seen.
template <class T>
using described_members =
    boost::describe::describe_members<T, boost::describe::mod_any_access | boost::describe::mod_inherited |
                                             boost::describe::mod_hidden>;

template <class Pointer>
struct member_pointer;
template <class Class, class Member>
struct member_pointer<Member Class::*> {
  using declaring_class = Class;
  using type = Member;
};
template <class Descriptor>
using described_member = member_pointer<std::remove_cvref_t<decltype(Descriptor::pointer)>>;

// Arrays of any dimensions, taken apart: what they are of, how many there are in all, how many in the last dimension.
template <class T>
struct array_shape {
  using element = T;
  static constexpr std::size_t rank = 0, count = 1, last = 1;
};
template <class T>
struct array_shape<const T> : array_shape<T> {};
template <class T>
struct array_shape<volatile T> : array_shape<T> {};
template <class T>
struct array_shape<const volatile T> : array_shape<T> {};
template <class T, std::size_t N>
struct outer_dimension {
  using element = typename array_shape<T>::element;
  static constexpr std::size_t rank = array_shape<T>::rank + 1;
  static constexpr std::size_t count = N * array_shape<T>::count;
  static constexpr std::size_t last = rank == 1 ? N : array_shape<T>::last;
};
template <class T, std::size_t N>
struct array_shape<T[N]> : outer_dimension<T, N> {};
template <class T, std::size_t N>
struct array_shape<const T[N]> : outer_dimension<T, N> {};
template <class T, std::size_t N>
struct array_shape<volatile T[N]> : outer_dimension<T, N> {};
template <class T, std::size_t N>
struct array_shape<const volatile T[N]> : outer_dimension<T, N> {};
template <class T, std::size_t N>
struct array_shape<std::array<T, N>> : outer_dimension<T, N> {};

template <class T>
inline constexpr bool is_view = false;
template <class C, class Traits>
inline constexpr bool is_view<std::basic_string_view<C, Traits>> = true;
template <class T, std::size_t N>
inline constexpr bool is_view<std::span<T, N>> = true;
template <class T>
inline constexpr bool is_view<std::reference_wrapper<T>> = true;
template <class T>
inline constexpr bool is_view<std::initializer_list<T>> = true;

template <class T>
constexpr bool holds_pointer();

// Whether the program said that T is not to be looked into, or that its pointers are well.
template <class T>
constexpr bool is_exempt() {
  return allows_pointers<T>() || is_marked_opaque<T>();
}

// Stand-ins for a member or base of T, where a C array beside it leaves no way to its type. The first fits whatever
// holds a pointer, however deep; the others tell whether it is a class that is exempt.
template <class T>
struct any_pointer_holder {
  template <class U>
  requires(!std::is_same_v<U, T>) && (holds_pointer<U>()) operator U&() const&& noexcept;
};
struct any_exempt {
  template <class U>
  requires(is_exempt<U>()) operator U&() const&& noexcept;
};
template <class T>
struct any_class_not_exempt {
  template <class U>
  requires(std::is_class_v<U> && !std::is_same_v<U, T> && !is_exempt<U>()) operator U&() const&& noexcept;
};

// Whether the member for which initialiser I of T stands holds a pointer. A stand-in that does not fit a class may
// still fit its first member; where it is not clear which of the two was exempt, there is a pointer.
template <class T, std::size_t I>
constexpr bool holds_pointer_at() {
  if constexpr (!probe_at<T, any_value, I>) return true;  // a reference
  if constexpr (probe_at<T, any_exempt, I> && !probe_at<T, any_class_not_exempt<T>, I>) return false;
  return probe_at<T, any_pointer_holder<T>, I>;
}

// Whether a pointer, or something that is one inside, is found in T. Not found: what opaque classes hide.
template <class T>
constexpr bool holds_pointer() {
  using element = typename array_shape<T>::element;
  if constexpr (is_exempt<element>()) {
    return false;
  } else if constexpr (std::is_reference_v<T> || std::is_pointer_v<element> || std::is_member_pointer_v<element> ||
                       std::is_null_pointer_v<element> || is_view<element>) {
    return true;
  } else if constexpr (is_basic_key<element>) {
    return false;
  } else if constexpr (is_described_class<element>()) {
    return []<class... D>(boost::mp11::mp_list<D...>) {
      return (holds_pointer<typename described_member<D>::type>() || ...);
    }(boost::mp11::mp_rename<described_members<element>, boost::mp11::mp_list>{});
  } else if constexpr (is_plain<element>()) {
    return []<class... Field>(boost::mp11::mp_list<Field...>) {
      return (holds_pointer<Field>() || ...);
    }(plain_fields<element>{});
  } else if constexpr (is_probeable<element>()) {
    return any_initialiser<element>(
        []<std::size_t I>(std::integral_constant<std::size_t, I>) { return holds_pointer_at<element, I>(); });
  } else {
    return false;
  }
}

}  // namespace detail

/// Whether values of type T may live in a file or in memory that processes share: copied byte by byte, and no
/// pointer found in them, neither in members that are described nor in the fields of plain aggregates.
template <class T>
concept storable = std::is_trivially_copyable_v<T> && !detail::holds_pointer<T>();

/// Does not compile unless T is `storable`, and says why.
template <class T>
constexpr void require_storable() {
  static_assert(std::is_trivially_copyable_v<T>,
                "values in a file are copied byte by byte, so they must be trivially copyable, and so must all their "
                "members: no std::string (use std::array<char, N>), no containers, no smart pointers, no constructors, "
                "destructors or assignments of your own that copy");
  static_assert(!detail::holds_pointer<T>(),
                "a pointer, reference or view means nothing in another process or after a restart: store a dm::key "
                "instead, or specialise dm::schema_traits<T> with allow_pointers to say you know better");
}

/// How schemas name the type T: by `schema_traits<T>::name`, by kind where T is a number, or by the C++ name,
/// spelt the same by every compiler.
template <class T>
std::string schema_type_name();

/// The version `schema_traits<T>` gives to what T means, or 0.
template <class T>
constexpr std::uint32_t schema_version() {
  if constexpr (requires { schema_traits<T>::version; }) return schema_traits<T>::version;
  return 0;
}

/// The schema of values of type T. Does not compile unless T is `storable`.
///
/// Cost: linear in the members of T, with allocations; made once when a map is created or opened.
template <class T>
schema schema_of();

}  // namespace dm

#include "deferred_map/maps/schema_of.hpp"
