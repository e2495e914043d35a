// Archives: what kind and format they are of, reading a number or a value, and saying where reading failed.
// Included by cereal.hpp only.
#pragma once

#include <array>
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "deferred_map/cereal.hpp"

namespace dm {
namespace detail {

/// Archives that take bytes as they are get whole blocks of slots at a time, others a named node for each slot.
template <class Archive>
inline constexpr bool takes_blocks =
    cereal::traits::is_output_serializable<cereal::BinaryData<char*>, Archive>::value ||
    cereal::traits::is_input_serializable<cereal::BinaryData<char*>, Archive>::value;

inline constexpr std::uint32_t archive_format = 1;
inline constexpr std::uint32_t archive_block_slots = 256;

/// One kind of map as archives know it.
struct archive_kind {
  const char* name;
  char letter;
};
inline constexpr archive_kind deferred_map_kind{"deferred_map", 'm'};

[[noreturn]] inline void refuse_archive(archive_kind kind, const std::string& why) {
  throw archive_error(std::string("archive of a ") + kind.name + ": " + why);
}

[[noreturn]] inline void refuse_because(archive_kind kind, const std::string& where, const std::exception& cause) {
  std::throw_with_nested(archive_error(std::string("archive of a ") + kind.name + ": " + where + ": " + cause.what()));
}

/// Does `read`, and says what was being read if cereal fails; `where()` gives the words. What T throws of its own,
/// and std::bad_alloc, goes through as it is, and so does what was said already.
template <class Where, class Read>
void reading(archive_kind kind, Where where, Read read) {
  try {
    read();
  } catch (const archive_error&) {
    throw;
  } catch (const cereal::Exception& cause) {
    refuse_because(kind, where(), cause);
  } catch (const std::invalid_argument& cause) {  // these two are how XML archives refuse a number
    refuse_because(kind, where(), cause);
  } catch (const std::out_of_range& cause) {
    refuse_because(kind, where(), cause);
  }
}

/// One number of the header or of a slot.
template <class Archive, class Where>
std::uint32_t read_number(Archive& archive, archive_kind kind, const char* name, Where where) {
  // Texts can say numbers that do not fit, and XML archives would cut them.
  using read_as = std::conditional_t<takes_blocks<Archive>, std::uint32_t, std::uint64_t>;
  read_as number{};
  reading(kind, where, [&] { archive(cereal::make_nvp(name, number)); });
  if (number > 0xffff'ffffu) refuse_archive(kind, where() + " is " + std::to_string(number) + ", more than 32 bits");
  return static_cast<std::uint32_t>(number);
}
template <class Archive>
std::uint32_t read_number(Archive& archive, archive_kind kind, const char* name) {
  return read_number(archive, kind, name, [name] { return std::string(name); });
}

template <class Archive>
void save_kind(Archive& archive, archive_kind kind) {
  if constexpr (takes_blocks<Archive>) {
    std::array<char, 4> mark{'d', 'm', kind.letter, static_cast<char>(archive_format)};
    archive(cereal::binary_data(mark.data(), mark.size()));
  } else {
    const std::string name = kind.name;
    archive(cereal::make_nvp("kind", name), cereal::make_nvp("format", archive_format));
  }
}

template <class Archive>
void load_kind(Archive& archive, archive_kind kind) {
  std::uint32_t format = 0;
  if constexpr (takes_blocks<Archive>) {
    std::array<char, 4> mark{};
    reading(
        kind, [] { return std::string("its first bytes"); },
        [&] { archive(cereal::binary_data(mark.data(), mark.size())); });
    if (mark[0] != 'd' || mark[1] != 'm' || mark[2] != kind.letter)
      refuse_archive(kind, "this is none, for it does not begin with \"dm" + std::string(1, kind.letter) +
                               "\": something else was saved, or was loaded in another order");
    format = static_cast<unsigned char>(mark[3]);
  } else {
    std::string name;
    reading(
        kind, [] { return std::string("kind"); }, [&] { archive(cereal::make_nvp("kind", name)); });
    if (name != kind.name) refuse_archive(kind, "this is none: its kind is \"" + name + '"');
    format = read_number(archive, kind, "format");
  }
  if (format == 0) refuse_archive(kind, "there is no format 0: the archive is damaged");
  if (format > archive_format)
    refuse_archive(kind, "it has format " + std::to_string(format) + ", this deferred-map reads up to format " +
                             std::to_string(archive_format) + ": load it with a newer deferred-map");
}

// A value, whichever way T wants to be loaded ------------------------------------------------------------------------

/// Loads T where it is, by the LoadAndConstruct of its author, and destroys it.
template <class T, class Archive>
class constructed_value {
 public:
  constructed_value() : wrapper_(std::addressof(value_)) {}
  constructed_value(const constructed_value&) = delete;
  constructed_value& operator=(const constructed_value&) = delete;
  ~constructed_value() {
    if (is_constructed()) std::destroy_at(std::addressof(value_));
  }
  T& load(Archive& archive) {
    archive(cereal::make_nvp("value", wrapper_));
    return *wrapper_.construct.ptr();  // throws if the author's function has constructed nothing
  }

 private:
  bool is_constructed() noexcept {
    try {  // cereal has no other way to ask
      return wrapper_.construct.ptr() != nullptr;
    } catch (const cereal::Exception&) {
      return false;
    }
  }
  union {
    T value_;
  };
  cereal::memory_detail::LoadAndConstructLoadWrapper<Archive, T> wrapper_;
};

/// Loads one value and gives it to `take(T&&)`.
template <class T, class Archive, class Take>
void load_value(Archive& archive, archive_kind kind, std::uint32_t position, Take take) {
  const auto where = [position] { return "value " + std::to_string(position); };
  if constexpr (cereal::traits::has_load_and_construct<T, Archive>::value) {
    constructed_value<T, Archive> holder;
    T* value = nullptr;
    reading(kind, where, [&] { value = std::addressof(holder.load(archive)); });
    take(std::move(*value));
  } else {
    static_assert(std::is_default_constructible_v<T>,
                  "loading a map of T: give T a public default constructor, or specialise "
                  "cereal::LoadAndConstruct<T>, so that there is something to load into");
    T value{};
    reading(kind, where, [&] { archive(cereal::make_nvp("value", value)); });
    take(std::move(value));
  }
}

/// Numbers, which archives of bytes take many at a time. Not bool: not every byte is one.
template <class T>
inline constexpr bool is_block_value = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;

}  // namespace detail
}  // namespace dm
