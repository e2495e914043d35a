// Archives: the list of slots or entries that a map is, in blocks of bytes or as nodes of a text.
// Included by cereal.hpp only.
//
// `List` knows the labels: `label` (uint32 or a key), `label_name`, and `has_value(label)`. To be saved it has `count()`
// and `walk(f)`, which calls f(label, const T* or null) for each; to be loaded `announce(count)`, `check(label)`,
// `add(label)` and `add(label, T&&)`.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "deferred_map/cereal.hpp"
#include "deferred_map/container/cereal_reading.hpp"

namespace dm {
namespace detail {

/// One element of a list in a text archive.
template <class List>
struct list_node {
  List& list;
  typename List::label label{};
  const typename List::value_type* value = nullptr;

  template <class Archive>
  void CEREAL_SAVE_FUNCTION_NAME(Archive& archive) const {
    archive(cereal::make_nvp(List::label_name, label));
    if (value != nullptr) archive(cereal::make_nvp("value", *value));
  }
  template <class Archive>
  void CEREAL_LOAD_FUNCTION_NAME(Archive& archive) {
    const auto where = [this] { return std::string(List::label_name) + ' ' + std::to_string(list.added()); };
    typename List::label read{};
    if constexpr (std::is_same_v<typename List::label, std::uint32_t>)
      read = read_number(archive, list.kind, List::label_name, where);
    else
      reading(list.kind, where, [&] { archive(cereal::make_nvp(List::label_name, read)); });
    list.check(read, list.added());
    if (!List::has_value(read))
      list.add(read);
    else
      load_value<typename List::value_type>(archive, list.kind, list.added(), [&](auto&& loaded) {
        list.add(read, std::forward<decltype(loaded)>(loaded));
      });
  }
};

/// The array of a text archive.
template <class List>
struct list_nodes {
  List& list;

  template <class Archive>
  void CEREAL_SAVE_FUNCTION_NAME(Archive& archive) const {
    archive(cereal::make_size_tag(static_cast<cereal::size_type>(list.count())));
    list.walk([&](const auto& label, const auto* value) { archive(list_node<List>{list, label, value}); });
  }
  template <class Archive>
  void CEREAL_LOAD_FUNCTION_NAME(Archive& archive) {
    cereal::size_type count = 0;
    archive(cereal::make_size_tag(count));  // of what is there: text archives count their nodes
    if (count > 0xffff'ffffu) refuse_archive(list.kind, "it has more than 2^32 - 1 slots");
    list.announce(static_cast<std::uint32_t>(count));
    for (cereal::size_type i = 0; i < count; ++i) {
      list_node<List> node{list};
      archive(node);
    }
  }
};

template <class Archive, class List>
void save_blocks(Archive& archive, const List& list) {
  using T = typename List::value_type;
  using stored_label = typename List::stored_label;
  archive(list.count());
  std::array<stored_label, archive_block_slots> labels;
  std::array<const T*, archive_block_slots> values;
  std::size_t label_count = 0;
  std::size_t value_count = 0;
  const auto flush = [&] {
    archive(cereal::binary_data(labels.data(), label_count * sizeof(stored_label)));
    if constexpr (is_block_value<T>) {
      std::array<T, archive_block_slots> numbers;
      for (std::size_t i = 0; i < value_count; ++i) numbers[i] = *values[i];
      archive(cereal::binary_data(numbers.data(), value_count * sizeof(T)));
    } else {
      for (std::size_t i = 0; i < value_count; ++i) archive(cereal::make_nvp("value", *values[i]));
    }
    label_count = value_count = 0;
  };
  list.walk([&](const auto& label, const T* value) {
    labels[label_count++] = List::store(label);
    if (value != nullptr) values[value_count++] = value;
    if (label_count == archive_block_slots) flush();
  });
  if (label_count != 0) flush();
}

template <class Archive, class List>
void load_blocks(Archive& archive, List& list) {
  using T = typename List::value_type;
  using stored_label = typename List::stored_label;
  const std::uint32_t count = read_number(archive, list.kind, "the count of slots");
  list.announce(count);
  std::array<stored_label, archive_block_slots> labels;
  for (std::uint32_t first = 0; first < count;) {
    const std::uint32_t label_count = std::min(archive_block_slots, count - first);
    const auto where = [&](const char* what) {
      return [what, first, label_count, count] {
        return std::string(what) + ' ' + std::to_string(first) + " to " + std::to_string(first + label_count - 1) +
               " of " + std::to_string(count) + " slots";
      };
    };
    reading(list.kind, where("versions"),
            [&] { archive(cereal::binary_data(labels.data(), label_count * sizeof(stored_label))); });
    std::uint32_t value_count = 0;
    for (std::uint32_t i = 0; i < label_count; ++i) {
      const auto label = List::restore(labels[i]);
      list.check(label, first + i);
      value_count += List::has_value(label);
    }
    if constexpr (is_block_value<T>) {
      std::array<T, archive_block_slots> numbers;
      reading(list.kind, where("values"),
              [&] { archive(cereal::binary_data(numbers.data(), value_count * sizeof(T))); });
      const T* number = numbers.data();
      for (std::uint32_t i = 0; i < label_count; ++i) {
        const auto label = List::restore(labels[i]);
        if (List::has_value(label))
          list.add(label, T(*number++));
        else
          list.add(label);
      }
    } else {
      for (std::uint32_t i = 0; i < label_count; ++i) {
        const auto label = List::restore(labels[i]);
        if (!List::has_value(label))
          list.add(label);
        else
          load_value<T>(archive, list.kind, first + i,
                        [&](auto&& loaded) { list.add(label, std::forward<decltype(loaded)>(loaded)); });
      }
    }
    first += label_count;
  }
}

template <class Archive, class List>
void save_list(Archive& archive, List& list) {
  if constexpr (takes_blocks<Archive>)
    save_blocks(archive, list);
  else
    archive(cereal::make_nvp(List::nodes_name, list_nodes<List>{list}));
}

template <class Archive, class List>
void load_list(Archive& archive, List& list) {
  if constexpr (takes_blocks<Archive>) {
    load_blocks(archive, list);
  } else {
    list_nodes<List> nodes{list};
    reading(
        list.kind, [] { return std::string(List::nodes_name); },
        [&] { archive(cereal::make_nvp(List::nodes_name, nodes)); });
  }
}

}  // namespace detail
}  // namespace dm
