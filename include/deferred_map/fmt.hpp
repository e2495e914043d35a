// Keys, handles and states for {fmt}: fmt::format("{}", key) is "3:1". Needs fmt, which the container does not.
#pragma once

#include <fmt/format.h>

#include <string_view>

#include "deferred_map/handle.hpp"
#include "deferred_map/key.hpp"

/// As `operator<<`: "index:generation", or "null". Takes the width, fill and alignment of strings.
template <class Tag>
struct fmt::formatter<dm::basic_key<Tag>> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(dm::basic_key<Tag> key, Context& context) const {
    if (!key) return fmt::formatter<std::string_view>::format("null", context);
    char text[24];  // 10 digits, a colon, 10 digits
    const auto end = fmt::format_to(text, "{}:{}", key.index(), key.generation());
    return fmt::formatter<std::string_view>::format(std::string_view(text, static_cast<std::size_t>(end - text)),
                                                    context);
  }
};

/// As its key.
template <class Key>
struct fmt::formatter<dm::basic_handle<Key>> : fmt::formatter<Key> {
  template <class Context>
  auto format(const dm::basic_handle<Key>& handle, Context& context) const {
    return fmt::formatter<Key>::format(handle.key(), context);
  }
};

template <>
struct fmt::formatter<dm::slot_state> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(dm::slot_state state, Context& context) const {
    return fmt::formatter<std::string_view>::format(dm::to_string(state), context);
  }
};
