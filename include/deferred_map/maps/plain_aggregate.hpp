// Taking plain aggregates apart without a description: how many fields, of which types, at which addresses.
//
// The technique is Boost.PFR's, the code is not. PFR answers for a type it cannot take with a hard error, and
// for which types differs from version to version: C arrays, bases, bit-fields and packed structs among them.
// A value type must not stop compiling, nor may a file stop matching its program, because of the Boost it was
// built with. So a type is first probed, by asking whether it can be initialised from stand-ins that convert
// to anything, or to certain things only; what cannot be taken apart is left alone.
#pragma once

#include <boost/mp11/list.hpp>
#include <boost/preprocessor/repetition/enum.hpp>
#include <boost/preprocessor/repetition/enum_params.hpp>
#include <boost/preprocessor/repetition/repeat_from_to.hpp>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

namespace dm {
namespace detail {

struct any_field {
  template <class U>
  operator U&() const& noexcept;
  template <class U>
  operator U&() const&& noexcept;
};
struct any_value {  // fits everything but a reference that can be written through
  template <class U>
  operator U() const&& noexcept;
};
struct any_union {
  template <class U>
  requires(std::is_union_v<U>) operator U&() const&& noexcept;
};
template <class T>
struct any_base {
  template <class U>
  requires(std::is_base_of_v<U, T> && !std::is_same_v<U, T>) operator U&() const&& noexcept;
};
template <std::size_t>
using any_field_at = any_field;

template <class T, std::size_t... I>
constexpr bool initialisable(std::index_sequence<I...>) {
  return requires { T{any_field_at<I>{}...}; };
}
template <class T, class Probe, std::size_t... Before, std::size_t... After>
constexpr bool initialisable_with(std::index_sequence<Before...>, std::index_sequence<After...>) {
  return requires { T{any_field_at<Before>{}..., Probe{}, any_field_at<After>{}...}; };
}
template <class T, std::size_t... Before, std::size_t... After>
constexpr bool initialisable_with_braces(std::index_sequence<Before...>, std::index_sequence<After...>) {
  return requires { T{any_field_at<Before>{}..., {}, any_field_at<After>{}...}; }
  || requires { T{any_field_at<Before>{}..., {any_field{}}, any_field_at<After>{}...}; };
}

template <class T, std::size_t... I>
constexpr bool initialisable_beyond(std::index_sequence<I...>) {
  return requires { T{any_field_at<I>{}..., {}}; };
}

// Never to change: whether a type has fields or is bytes is written into files. Each more costs every compile.
inline constexpr std::size_t plain_fields_max = 64;

// The most initialisers an aggregate takes, where the elements of C arrays count one by one; 0 if there are
// none, more than `plain_fields_max`, or the type defies probing.
template <class T, std::size_t N = plain_fields_max>
constexpr std::size_t count_initialisers() {
  if constexpr (N == plain_fields_max && initialisable<T>(std::make_index_sequence<N + 1>{})) {
    return 0;
  } else if constexpr (N == 0 || initialisable<T>(std::make_index_sequence<N>{})) {
    return N;
  } else {
    // Downwards one by one: where a field has no default, fewer initialisers need not do where more did.
    return count_initialisers<T, N - 1>();
  }
}
template <class T>
inline constexpr std::size_t initialiser_count = count_initialisers<T>();

template <class T, class Probe, std::size_t I>
inline constexpr bool probe_at = initialisable_with<T, Probe>(std::make_index_sequence<I>{},
                                                              std::make_index_sequence<initialiser_count<T> - I - 1>{});

// Whether `T{..., {}, ...}` leaves room for all the others: a C array would swallow the braces for all its elements.
template <class T, std::size_t I>
inline constexpr bool is_no_array_at = initialisable_with_braces<T>(
    std::make_index_sequence<I>{}, std::make_index_sequence<initialiser_count<T> - I - 1>{});

// Whether `f(integral_constant<size_t, I>)` holds for some initialiser of T.
template <class T, class F>
constexpr bool any_initialiser(F f) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return (f(std::integral_constant<std::size_t, I>{}) || ...);
  }
  (std::make_index_sequence<initialiser_count<T>>{});
}

// Structured bindings would not see the fields.
template <class T>
concept tuple_like = requires {
  std::tuple_size<T>::value;
};

// An aggregate that can be probed at all; whether it can be taken apart is the next question.
template <class T>
constexpr bool is_probeable() {
  if constexpr (std::is_class_v<T> && std::is_aggregate_v<T> && !std::is_empty_v<T> && !tuple_like<T>) {
    if constexpr (std::is_copy_constructible_v<T>) return initialiser_count<T> != 0;
  }
  return false;
}

// Whether the fields of T can be had by structured bindings, and are all that T consists of.
template <class T>
constexpr bool is_plain() {
  if constexpr (is_probeable<T>()) {
    if constexpr (!probe_at<T, any_base<T>, 0>) {
      // A field that takes no stand-in ends the count early: an anonymous union, to some compilers.
      if constexpr (initialisable_beyond<T>(std::make_index_sequence<initialiser_count<T>>{})) return false;
      return !any_initialiser<T>([]<std::size_t I>(std::integral_constant<std::size_t, I>) {
        return !is_no_array_at<T, I> || probe_at<T, any_union, I> || !probe_at<T, any_value, I>;
      });
    }
  }
  return false;
}

// For each number of fields a function that calls `visit` with references to all of them, and one that
// returns their declared types. The references are const: a bit-field then binds to a temporary, where one to
// non-const would not compile; `visit` tells it by its address.
#define DEFERRED_MAP_FIELD_TYPE(z, i, name) decltype(name##i)
#define DEFERRED_MAP_FIELDS(z, n, _)                                                        \
  template <class T, class Visit>                                                           \
  void visit_fields(const T& object, Visit visit, std::integral_constant<std::size_t, n>) { \
    const auto& [BOOST_PP_ENUM_PARAMS(n, f)] = object;                                      \
    visit(BOOST_PP_ENUM_PARAMS(n, f));                                                      \
  }                                                                                         \
  template <class T>                                                                        \
  auto list_fields(const T& object, std::integral_constant<std::size_t, n>) {               \
    [[maybe_unused]] const auto& [BOOST_PP_ENUM_PARAMS(n, f)] = object;                     \
    return boost::mp11::mp_list<BOOST_PP_ENUM(n, DEFERRED_MAP_FIELD_TYPE, f)>{};            \
  }
BOOST_PP_REPEAT_FROM_TO(1, 65, DEFERRED_MAP_FIELDS, _)
#undef DEFERRED_MAP_FIELDS
#undef DEFERRED_MAP_FIELD_TYPE

template <class T>
using field_count = std::integral_constant<std::size_t, initialiser_count<T>>;

// The types of the fields of a plain T, as declared with const added.
template <class T>
using plain_fields = decltype(list_fields(std::declval<const T&>(), field_count<T>{}));

}  // namespace detail
}  // namespace dm
