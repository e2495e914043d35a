#include "value_from_json.hpp"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace tool {
namespace {

using dm::field_kind;
using dm::schema_field;

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
  throw std::runtime_error((path.empty() ? "the value" : "'" + path + "'") + " " + reason);
}

std::string shown(const json& value) {
  std::string text = dumped(value);
  constexpr std::size_t shown_max = 60;
  return text.size() > shown_max ? text.substr(0, shown_max) + "..." : text;
}

template <class T>
void put(std::vector<std::byte>& value, std::uint64_t at, T part) {
  std::memcpy(value.data() + at, &part, sizeof part);
}

/// Any integer that JSON can say, held against the range of the kind.
template <class Integer>
void put_integer(std::vector<std::byte>& value, std::uint64_t at, const json& from, const std::string& path) {
  if (!from.is_number_integer()) refuse(path, "must be an integer, and is " + shown(from));
  const bool fits = from.is_number_unsigned() ? std::in_range<Integer>(from.get<std::uint64_t>())
                                              : std::in_range<Integer>(from.get<std::int64_t>());
  if (!fits) refuse(path, "is " + shown(from) + ", which " + std::to_string(sizeof(Integer)) + " bytes cannot hold");
  put(value, at,
      from.is_number_unsigned() ? static_cast<Integer>(from.get<std::uint64_t>())
                                : static_cast<Integer>(from.get<std::int64_t>()));
}

void put_integer_of(field_kind kind, std::vector<std::byte>& value, std::uint64_t at, const json& from,
                    const std::string& path) {
  switch (kind) {
    case field_kind::boolean:
    case field_kind::u8:
      return put_integer<std::uint8_t>(value, at, from, path);
    case field_kind::u16:
      return put_integer<std::uint16_t>(value, at, from, path);
    case field_kind::u32:
      return put_integer<std::uint32_t>(value, at, from, path);
    case field_kind::u64:
      return put_integer<std::uint64_t>(value, at, from, path);
    case field_kind::i8:
      return put_integer<std::int8_t>(value, at, from, path);
    case field_kind::i16:
      return put_integer<std::int16_t>(value, at, from, path);
    case field_kind::i32:
      return put_integer<std::int32_t>(value, at, from, path);
    default:
      return put_integer<std::int64_t>(value, at, from, path);
  }
}

template <class Number, class Bits>
void put_floating(std::vector<std::byte>& value, std::uint64_t at, const json& from, const std::string& path) {
  if (from.is_number_integer()) {
    const auto number = from.is_number_unsigned() ? static_cast<Number>(from.get<std::uint64_t>())
                                                  : static_cast<Number>(from.get<std::int64_t>());
    return put(value, at, number);
  }
  if (from.is_number()) {
    const auto wide = from.get<double>();
    const auto number = static_cast<Number>(wide);
    if (std::isinf(number) || std::isinf(wide)) refuse(path, "is " + shown(from) + ", which is too large for it");
    return put(value, at, number);
  }
  if (from.is_string()) {
    const auto& text = from.get_ref<const std::string&>();
    if (text == "NaN") return put(value, at, std::numeric_limits<Number>::quiet_NaN());
    if (text == "Infinity") return put(value, at, std::numeric_limits<Number>::infinity());
    if (text == "-Infinity") return put(value, at, -std::numeric_limits<Number>::infinity());
    Bits bits = 0;
    if (text.starts_with("NaN:0x") && text.size() == 6 + 2 * sizeof bits) {
      const auto [end, code] = std::from_chars(text.data() + 6, text.data() + text.size(), bits, 16);
      if (code == std::errc() && end == text.data() + text.size() && std::isnan(std::bit_cast<Number>(bits)))
        return put(value, at, bits);  // by its bits: a signalling one would be quieted on its way through a register
    }
  }
  refuse(path, "must be a number, \"NaN\", \"Infinity\" or \"-Infinity\", and is " + shown(from));
}

void put_text(std::vector<std::byte>& value, std::uint64_t at, std::uint64_t capacity, std::string_view text,
              const std::string& path) {
  if (text.size() > capacity)
    refuse(path, "has " + std::to_string(text.size()) + " bytes of text where " + std::to_string(capacity) + " fit");
  std::memcpy(value.data() + at, text.data(), text.size());
}

void put_bytes(std::vector<std::byte>& value, std::uint64_t at, std::uint64_t size, const json& from,
               const std::string& path) {
  const auto bytes = from.is_string() ? bytes_from_hex(from.get_ref<const std::string&>()) : std::nullopt;
  if (!bytes || bytes->size() != size)
    refuse(path, "must be \"0x\" and " + std::to_string(2 * size) + " hexadecimal digits, and is " + shown(from));
  std::memcpy(value.data() + at, bytes->data(), bytes->size());
}

void put_key(std::vector<std::byte>& value, std::uint64_t at, const json& from, const std::string& path) {
  if (from.is_null()) return put(value, at, std::uint64_t{0});
  if (from.is_string()) {
    const auto& text = from.get_ref<const std::string&>();
    if (const auto key = dm::inspect::parse_key_parts(text)) return put(value, at, key->bits());
    std::uint64_t bits = 0;
    const auto [end, code] =
        std::from_chars(text.data() + std::min<std::size_t>(2, text.size()), text.data() + text.size(), bits, 16);
    if (text.starts_with("0x") && text.size() == 18 && code == std::errc() && end == text.data() + text.size())
      return put(value, at, bits);
  }
  refuse(path, "must be a key as \"3:1\", or null, and is " + shown(from));
}

void put_enumeration(const schema_field& field, std::vector<std::byte>& value, std::uint64_t at, const json& from,
                     const std::string& path) {
  if (!from.is_string()) return put_integer_of(field.underlying, value, at, from, path);
  const auto& name = from.get_ref<const std::string&>();
  for (const dm::schema_enumerator& each : field.enumerators)
    if (text_json(each.name) == name) {
      const json number =
          field.underlying == field_kind::u64 ? json(static_cast<std::uint64_t>(each.value)) : json(each.value);
      return put_integer_of(field.underlying, value, at, number, path);
    }
  refuse(path, "is " + shown(from) + ", which is no name of " + field.type_name);
}

void put_scalar(const schema_field& field, std::vector<std::byte>& value, std::uint64_t at, std::uint64_t size,
                const json& from, const std::string& path) {
  switch (field.kind) {
    case field_kind::bytes:
      return put_bytes(value, at, size, from, path);
    case field_kind::boolean:
      if (from.is_boolean()) return put(value, at, static_cast<std::uint8_t>(from.get<bool>()));
      return put_integer<std::uint8_t>(value, at, from, path);
    case field_kind::character:
    case field_kind::text: {
      const bool as_bytes = from.is_object() && from.size() == 1 && from.contains("bytes") && from["bytes"].is_string();
      if (as_bytes) {
        const auto bytes = bytes_from_hex(from["bytes"].get_ref<const std::string&>());
        if (!bytes) refuse(path, "must be text, and is " + shown(from));
        // Bytes may always be read as char.
        return put_text(value, at, size, {reinterpret_cast<const char*>(bytes->data()), bytes->size()}, path);
      }
      if (!from.is_string()) refuse(path, "must be text, and is " + shown(from));
      return put_text(value, at, size, from.get_ref<const std::string&>(), path);
    }
    case field_kind::f32:
      return put_floating<float, std::uint32_t>(value, at, from, path);
    case field_kind::f64:
      return put_floating<double, std::uint64_t>(value, at, from, path);
    case field_kind::key:
      return put_key(value, at, from, path);
    case field_kind::enumeration:
      return put_enumeration(field, value, at, from, path);
    default:
      return put_integer_of(field.kind, value, at, from, path);
  }
}

class reading {
 public:
  reading(const dm::schema& schema, std::vector<std::byte>& value) : schema_(schema), value_(value) {}

  void field(std::size_t index, std::uint64_t shift, const json& from) {
    const schema_field& of = schema_.fields[index];
    if (!of.is_array) return element(index, of.offset + shift, shift, from);
    if (!from.is_array()) refuse(path_, "must be a list, and is " + shown(from));
    if (from.size() != of.count)
      refuse(path_, "has " + std::to_string(from.size()) + " elements where there are " + std::to_string(of.count));
    const std::size_t length = path_.size();
    for (std::uint32_t i = 0; i < of.count; ++i) {
      const std::uint64_t skipped = std::uint64_t{i} * of.size_bytes;
      path_ += '[' + std::to_string(i) + ']';
      element(index, of.offset + shift + skipped, shift + skipped, from[i]);
      path_.resize(length);
    }
  }

 private:
  void element(std::size_t index, std::uint64_t at, std::uint64_t shift, const json& from) {
    const schema_field& of = schema_.fields[index];
    if (of.kind != field_kind::structure) {
      const std::uint64_t size = of.kind == field_kind::text && !of.is_array ? of.extent_bytes() : of.size_bytes;
      return put_scalar(of, value_, at, size, from, path_);
    }
    if (!from.is_object()) refuse(path_, "must be an object, and is " + shown(from));
    const std::size_t length = path_.size();
    const std::size_t end = dm::subtree_end(schema_, index);
    dm::inspect::member_names names;
    std::size_t position = 0;
    std::size_t found = 0;
    auto next = from.begin();  // as exported, members come in order, and none needs to be looked for
    for (std::size_t child = index + 1; child < end; child = dm::subtree_end(schema_, child)) {
      const std::string name = names.next(text_json(dm::display_name(schema_.fields[child], position++)));
      const auto member = next != from.end() && next.key() == name ? next : from.find(name);
      if (!path_.empty()) path_ += '.';
      path_ += name;
      if (member == from.end()) refuse(path_, "is missing");
      field(child, shift, *member);
      path_.resize(length);
      next = std::next(member);
      ++found;
    }
    if (found == from.size()) return;
    for (const auto& item : from.items())
      if (names.next(item.key()) == item.key())
        refuse(path_.empty() ? item.key() : path_ + "." + item.key(), "is no field of " + of.type_name);
    refuse(path_, "has a member twice");
  }

  const dm::schema& schema_;
  std::vector<std::byte>& value_;
  std::string path_;
};

/// The bytes of a cell: "\\" is a backslash, "\x0a" a byte.
std::string unescaped(const std::string& cell, const std::string& path) {
  std::string text;
  for (std::size_t i = 0; i < cell.size(); ++i) {
    if (cell[i] != '\\') {
      text += cell[i];
    } else if (cell.compare(i, 2, "\\\\") == 0) {
      text += cell[++i];
    } else {
      unsigned byte = 0;
      const char* digits = cell.data() + i + 2;
      const auto [end, code] = cell.compare(i, 2, "\\x") == 0 && i + 4 <= cell.size()
                                   ? std::from_chars(digits, digits + 2, byte, 16)
                                   : std::from_chars_result{nullptr, std::errc::invalid_argument};
      if (code != std::errc() || end != digits + 2)
        refuse(path, "has a backslash that is neither \\\\ nor \\x and two hexadecimal digits");
      text += static_cast<char>(byte);
      i += 3;
    }
  }
  return text;
}

}  // namespace

std::optional<std::vector<std::byte>> bytes_from_hex(std::string_view text) {
  if (!text.starts_with("0x") || text.size() % 2 != 0) return std::nullopt;
  std::vector<std::byte> bytes;
  bytes.reserve(text.size() / 2 - 1);
  for (const char* digits = text.data() + 2; digits != text.data() + text.size(); digits += 2) {
    unsigned byte = 0;
    const auto [end, code] = std::from_chars(digits, digits + 2, byte, 16);
    if (code != std::errc() || end != digits + 2) return std::nullopt;
    bytes.push_back(static_cast<std::byte>(byte));
  }
  return bytes;
}

void value_from_json(const dm::schema& schema, const json& from, std::vector<std::byte>& value) {
  reading(schema, value).field(0, 0, from);
}

void leaf_from_cell(const schema_field& field, std::uint64_t offset, std::uint64_t size_bytes, const std::string& path,
                    const std::string& cell, std::vector<std::byte>& value) {
  if (field.kind == field_kind::text || field.kind == field_kind::character)
    return put_text(value, offset, size_bytes, unescaped(cell, path), path);
  if (field.kind == field_kind::enumeration)
    for (const dm::schema_enumerator& each : field.enumerators)
      if (text_json(each.name) == cell) return put_enumeration(field, value, offset, json(cell), path);
  json parsed = json::parse(cell, nullptr, false);
  if (parsed.is_discarded()) parsed = cell;
  put_scalar(field, value, offset, size_bytes, parsed, path);
}

}  // namespace tool
