#include "value_json.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "deferred_map/format/value_text.hpp"

namespace tool {
namespace {

/// How many bytes at the start of `text` are one code point; 0 if they are none.
std::size_t code_point_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const bool overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  const bool half_a_pair = first == 0xed && byte(1) >= 0xa0;
  const bool too_large = first == 0xf4 && byte(1) >= 0x90;
  return overlong || half_a_pair || too_large ? 0 : length;
}

/// Bytes that are not UTF-8, and with `controls` control characters, as \\xNN, every backslash as two.
std::string escaped_bytes(std::string_view text, bool controls) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  while (!text.empty()) {
    const std::size_t length = code_point_length(text);
    const auto byte = static_cast<unsigned char>(text.front());
    if (length == 0 || (controls && (byte < 0x20 || byte == 0x7f))) {
      out += {'\\', 'x', digits[byte >> 4], digits[byte & 0xf]};
      text.remove_prefix(1);
      continue;
    }
    if (text.front() == '\\') out += '\\';
    out += text.substr(0, length);
    text.remove_prefix(length);
  }
  return out;
}

/// "NaN", and where it must come back as it is, which of the very many.
template <class Bits, class Number>
std::string nan_text(Number number, bool exact) {
  Bits bits;
  std::memcpy(&bits, &number, sizeof bits);
  const Number usual = std::numeric_limits<Number>::quiet_NaN();
  if (!exact || std::memcmp(&usual, &number, sizeof number) == 0) return "NaN";
  std::array<std::byte, sizeof bits> big_endian{};
  for (std::size_t i = 0; i < sizeof bits; ++i)
    big_endian[i] = static_cast<std::byte>(bits >> 8 * (sizeof bits - 1 - i) & 0xff);
  return "NaN:" + hex_text(big_endian);
}

class json_builder final : public dm::value_visitor {
 public:
  explicit json_builder(value_style style) noexcept : style_(style) {}

  json take() {
    if (is_full()) return "more than can be shown";
    return std::move(root_);
  }
  bool is_full() const override { return bytes_taken_ > bytes_taken_max; }

  void begin_struct(const dm::schema_field&) override { open(json::object()); }
  void end_struct(const dm::schema_field&) override { close(); }
  void begin_array(const dm::schema_field&) override { open(json::array()); }
  void end_array(const dm::schema_field&) override { close(); }
  void member(std::string_view name) override {
    name_ = text_json(name);
    bytes_taken_ += name_.size();
  }

  void boolean(const dm::schema_field& field, std::uint8_t raw) override {
    shown(field, raw > 1 ? json(raw) : json(raw == 1));
  }
  void unsigned_integer(const dm::schema_field& field, std::uint64_t number) override { shown(field, number); }
  void signed_integer(const dm::schema_field& field, std::int64_t number) override { shown(field, number); }
  void floating(const dm::schema_field& field, float number) override {
    if (std::isnan(number)) return shown(field, nan_text<std::uint32_t>(number, style_.exact));
    // By way of its shortest text: 0.1f is to be 0.1, and not 0.10000000149011612.
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, number).ptr;
    double same = number;
    if (std::isfinite(number)) std::from_chars(text, end, same);
    // Rounded twice it may come back as its neighbour.
    if (style_.exact && static_cast<float>(same) != number) same = number;
    finite_or_name(field, same);
  }
  void floating(const dm::schema_field& field, double number) override {
    if (std::isnan(number)) return shown(field, nan_text<std::uint64_t>(number, style_.exact));
    finite_or_name(field, number);
  }
  void character(const dm::schema_field& field, char c) override { text(field, {&c, 1}); }
  void text(const dm::schema_field& field, std::string_view text) override {
    if (style_.exact && !is_utf8(text)) return shown(field, {{"bytes", hex_text(std::as_bytes(std::span(text)))}});
    shown(field, text_json(text));
  }
  void key(const dm::schema_field&, std::uint64_t bits) override {
    const auto parts = dm::inspect::parse_key_parts(hex_text(bits));
    if (bits == 0)
      add(nullptr);
    else if (parts)
      add(std::to_string(parts->index) + ":" + std::to_string(parts->generation));
    else
      add(hex_text(bits));
  }
  void enumeration(const dm::schema_field& field, std::int64_t value, std::string_view name) override {
    if (!name.empty() && (!style_.exact || first_of_that_name(field, name) == value))
      return shown(field, text_json(name));
    if (field.underlying == dm::field_kind::u64) return shown(field, static_cast<std::uint64_t>(value));
    shown(field, value);
  }
  void bytes(const dm::schema_field& field, std::span<const std::byte> bytes) override {
    shown(field, style_.redact ? json() : json(hex_text(bytes)));
  }
  void missing(const dm::schema_field&) override { add(nullptr); }

 private:
  struct level {
    json value;
    std::string name;  // in the level around it
    dm::inspect::member_names names;
  };

  void open(json value) { levels_.push_back({std::move(value), std::move(name_), {}}); }
  void close() {
    level done = std::move(levels_.back());
    levels_.pop_back();
    name_ = std::move(done.name);
    add(std::move(done.value));
  }
  /// Numbers of two names, or two numbers of one name, are told apart by the first.
  static std::int64_t first_of_that_name(const dm::schema_field& field, std::string_view name) {
    for (const dm::schema_enumerator& each : field.enumerators)
      if (each.name == name) return each.value;
    return 0;
  }
  void finite_or_name(const dm::schema_field& field, double number) {
    if (std::isinf(number)) return shown(field, number < 0 ? "-Infinity" : "Infinity");
    shown(field, number);
  }
  void shown(const dm::schema_field& field, json value) {
    if (style_.redact) return add(redacted_leaf(field));
    add(std::move(value));
  }
  void add(json value) {
    bytes_taken_ += sizeof(json);
    if (levels_.empty()) {
      root_ = std::move(value);
    } else if (level& around = levels_.back(); around.value.is_array()) {
      around.value.push_back(std::move(value));
    } else {
      name_ = around.names.next(name_);
      // Appended, not looked up: that the name is new is known, and objects may have very many.
      around.value.get_ref<json::object_t&>().emplace_back(std::move(name_), std::move(value));
    }
    name_.clear();
  }

  // A schema may put a name of a megabyte before each byte of a value.
  static constexpr std::size_t bytes_taken_max = std::size_t{512} << 20;

  value_style style_;
  json root_;
  std::size_t bytes_taken_ = 0;
  std::string name_;
  std::vector<level> levels_;
};

}  // namespace

json value_json(const dm::schema& schema, std::span<const std::byte> bytes, value_style style) {
  json_builder builder(style);
  dm::visit_value(schema, bytes, builder);
  return builder.take();
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = code_point_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string text_json(std::string_view text) {
  if (is_utf8(text)) return std::string(text);
  return escaped_bytes(text, false);
}

std::string redacted_leaf(const dm::schema_field& field) {
  if (field.kind == dm::field_kind::text)
    return "text(" + std::to_string(field.is_array ? field.size_bytes : field.count) + ")";
  if (field.kind == dm::field_kind::bytes) return "bytes(" + std::to_string(field.size_bytes) + ")";
  if (field.kind == dm::field_kind::enumeration) return std::string("enum(") + dm::to_string(field.underlying) + ")";
  return dm::to_string(field.kind);
}

std::string leaf_cell(const dm::inspect::leaf& part, std::span<const std::byte> value, value_style style) {
  if (part.offset > value.size() || part.size_bytes > value.size() - part.offset) return {};
  const dm::field_kind kind = part.field->kind;
  if (!style.redact && (kind == dm::field_kind::text || kind == dm::field_kind::character)) {
    const auto bytes = leaf_bytes(part, value);
    // Bytes may always be read as char.
    return escaped_bytes({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, true);
  }
  // The same rules as in a whole value: the leaf as the only field of a schema of its own.
  dm::schema alone;
  dm::schema_field& field = alone.fields.emplace_back(*part.field);
  field.depth = 0;
  field.offset = 0;
  if (field.is_array) field.count = 1;
  field.is_array = false;
  if (kind == dm::field_kind::text) {
    field.count = static_cast<std::uint32_t>(part.size_bytes);
    field.size_bytes = 1;
  }
  const json shown = value_json(
      alone, value.subspan(static_cast<std::size_t>(part.offset), static_cast<std::size_t>(part.size_bytes)), style);
  return shown.is_string() ? shown.get<std::string>() : dumped(shown);
}

std::string dumped(const json& value) { return value.dump(-1, ' ', true, json::error_handler_t::replace); }

}  // namespace tool
