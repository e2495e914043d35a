// Keys, handles, states, entries and maps for {fmt}: fmt::format("{}", key) is "3:1", and fmt::format("{:#x}", map) is
// "{3:1: 0x2a, 4:2: 0xff}". Needs fmt 9 or newer, which the container does not.
#pragma once

#include <fmt/format.h>

#include <concepts>
#include <string_view>
#include <type_traits>

#include "deferred_map/container/iterator.hpp"
#include "deferred_map/container/map_of_entries.hpp"
#include "deferred_map/handle.hpp"
#include "deferred_map/key.hpp"

namespace dm::detail {

/// Takes the width, fill and alignment of strings. Has one instead of being one, as <fmt/ranges.h> puts quotation marks
/// around whatever is like a string.
class text_formatter {
 public:
  constexpr auto parse(fmt::format_parse_context& context) { return text_.parse(context); }

 protected:
  template <class Context>
  auto write(std::string_view text, Context& context) const -> decltype(context.out()) {
    return text_.format(text, context);
  }

 private:
  fmt::formatter<std::string_view> text_;
};

}  // namespace dm::detail

/// As `operator<<`: "index:generation", or "null". Takes the width, fill and alignment of strings.
template <class Tag>
struct fmt::formatter<dm::basic_key<Tag>> : dm::detail::text_formatter {
  template <class Context>
  auto format(dm::basic_key<Tag> key, Context& context) const -> decltype(context.out()) {
    if (!key) return write("null", context);
    char text[24];  // 10 digits, a colon, 10 digits
    const auto end = fmt::format_to(text, "{}:{}", key.index(), key.generation());
    return write(std::string_view(text, static_cast<std::size_t>(end - text)), context);
  }
};

/// As its key.
template <class Key>
struct fmt::formatter<dm::basic_handle<Key>> : fmt::formatter<Key> {
  template <class Context>
  auto format(const dm::basic_handle<Key>& handle, Context& context) const -> decltype(context.out()) {
    return fmt::formatter<Key>::format(handle.key(), context);
  }
};

/// The name of the state: "occupied".
template <>
struct fmt::formatter<dm::slot_state> : dm::detail::text_formatter {
  template <class Context>
  auto format(dm::slot_state state, Context& context) const -> decltype(context.out()) {
    return write(dm::to_string(state), context);
  }
};

namespace dm::detail {

/// Whether {fmt} has a formatter for T.
template <class T>
concept has_formatter = std::default_initializable<fmt::formatter<std::remove_const_t<T>>>;

}  // namespace dm::detail

/// "key: value". What stands behind the colon of the format is the value's: "{:>5}", "{:#x}".
template <class Key, class T>
requires dm::detail::has_formatter<T>
struct fmt::formatter<dm::entry<Key, T>> : fmt::formatter<std::remove_const_t<T>> {
  template <class Context>
  auto format(const dm::entry<Key, T>& shown, Context& context) const -> decltype(context.out()) {
    context.advance_to(fmt::formatter<Key>().format(shown.key, context));
    auto out = context.out();
    *out++ = ':';
    *out++ = ' ';
    context.advance_to(out);
    return fmt::formatter<std::remove_const_t<T>>::format(static_cast<const T&>(shown.value), context);
  }
};

/// "{key: value, key: value}" in the order the map is walked in. The format is that of each value.
template <dm::detail::map_of_entries Map>
requires dm::detail::has_formatter<typename Map::mapped_type>
struct fmt::formatter<Map> : fmt::formatter<dm::entry<typename Map::key_type, const typename Map::mapped_type>> {
  template <class Context>
  auto format(const Map& map, Context& context) const -> decltype(context.out()) {
    auto out = context.out();
    *out++ = '{';
    bool is_first = true;
    for (const auto shown : map) {
      if (!is_first) {
        *out++ = ',';
        *out++ = ' ';
      }
      is_first = false;
      context.advance_to(out);
      out = fmt::formatter<dm::entry<typename Map::key_type, const typename Map::mapped_type>>::format(shown, context);
    }
    *out++ = '}';
    return out;
  }
};

// <fmt/ranges.h> formats whatever has a begin and an end, and would do so with maps as well, which is one formatter too
// many. Declared here as it is there, since it may be included before, after or not at all.
FMT_BEGIN_NAMESPACE
template <typename T, typename Char>
struct is_range;
FMT_END_NAMESPACE

template <dm::detail::map_of_entries Map, class Char>
struct fmt::is_range<Map, Char> : std::false_type {};
