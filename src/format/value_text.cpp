#include "deferred_map/format/value_text.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>

namespace dm {
namespace {

constexpr std::size_t shown_bytes_max = 32;
constexpr std::size_t line_bytes_max = std::size_t{16} << 20;

// Walks the schema's tree over the bytes of one value. Trusts the schema for nothing that it reads by: every
// read is checked against the bytes there are, so that a schema that was never validated shows nonsense and no more.
class walk {
 public:
  walk(const schema& schema, std::span<const std::byte> value, value_visitor& visitor)
      : schema_(schema), value_(value), visitor_(visitor) {}

  // Visits field `index`, all elements, in the element of its enclosing arrays that starts `shift` bytes
  // after the first. Returns the index after its subtree.
  std::size_t field(std::size_t index, std::uint64_t shift) {
    const schema_field& field = schema_.fields[index];
    const std::size_t end = subtree_end(schema_, index);
    const std::uint64_t begin = field.offset + shift;
    if (field.depth > schema_depth_max) {
      visitor_.missing(field);  // no sound schema gets here, and an unsound one must not exhaust the stack
    } else if (field.kind == field_kind::text && !field.is_array) {
      text(field, begin, field.extent_bytes());
    } else if (!field.is_array) {
      element(index, end, begin, shift);
    } else {
      visitor_.begin_array(field);
      for (std::uint64_t i = 0; i < field.count && !visitor_.is_full(); ++i) {
        const std::uint64_t skipped = i * field.size_bytes;
        if (field.size_bytes == 0 || !available(begin + skipped, field.size_bytes)) {
          visitor_.missing(field);
          break;
        }
        element(index, end, begin + skipped, shift + skipped);
      }
      visitor_.end_array(field);
    }
    return end;
  }

 private:
  void element(std::size_t index, std::size_t end, std::uint64_t at, std::uint64_t shift) {
    const schema_field& field = schema_.fields[index];
    switch (field.kind) {
      case field_kind::structure: {
        visitor_.begin_struct(field);
        std::size_t position = 0;
        for (std::size_t child = index + 1; child < end && !visitor_.is_full(); ++position) {
          visitor_.member(display_name(schema_.fields[child], position));
          child = this->field(child, shift);
        }
        return visitor_.end_struct(field);
      }
      case field_kind::text:
        return text(field, at, field.size_bytes);
      case field_kind::boolean:
        if (const auto raw = read<std::uint8_t>(field, at)) visitor_.boolean(field, *raw);
        return;
      case field_kind::character:
        if (const auto c = read<char>(field, at)) visitor_.character(field, *c);
        return;
      case field_kind::f32:
        if (const auto number = read<float>(field, at)) visitor_.floating(field, *number);
        return;
      case field_kind::f64:
        if (const auto number = read<double>(field, at)) visitor_.floating(field, *number);
        return;
      case field_kind::key:
        if (const auto bits = read<std::uint64_t>(field, at)) visitor_.key(field, *bits);
        return;
      case field_kind::enumeration:
        return enumeration(field, at);
      default:
        break;
    }
    if (field.kind >= field_kind::u8 && field.kind <= field_kind::u64) {
      if (const auto number = integer(field, field.kind, at)) {
        visitor_.unsigned_integer(field, static_cast<std::uint64_t>(*number));
      }
    } else if (field.kind >= field_kind::i8 && field.kind <= field_kind::i64) {
      if (const auto number = integer(field, field.kind, at)) visitor_.signed_integer(field, *number);
    } else if (!available(at, field.size_bytes)) {
      visitor_.missing(field);
    } else {
      visitor_.bytes(field, value_.subspan(static_cast<std::size_t>(at), field.size_bytes));
    }
  }

  void text(const schema_field& field, std::uint64_t at, std::uint64_t capacity) {
    if (!available(at, capacity)) return visitor_.missing(field);
    const auto bytes = value_.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(capacity));
    const auto nul = std::find(bytes.begin(), bytes.end(), std::byte{0});
    // Bytes may always be read as char.
    visitor_.text(field, {reinterpret_cast<const char*>(bytes.data()),
                          static_cast<std::size_t>(std::distance(bytes.begin(), nul))});
  }

  void enumeration(const schema_field& field, std::uint64_t at) {
    const auto number = integer(field, field.underlying, at);
    if (!number) return;
    for (const schema_enumerator& enumerator : field.enumerators) {
      if (enumerator.value == *number) return visitor_.enumeration(field, *number, enumerator.name);
    }
    visitor_.enumeration(field, *number, {});
  }

  // An integer of any kind, as the 64 bits it extends to. Tells the visitor where it is missing.
  std::optional<std::int64_t> integer(const schema_field& field, field_kind kind, std::uint64_t at) {
    switch (kind) {
      case field_kind::boolean:
      case field_kind::u8:
        return read<std::uint8_t>(field, at);
      case field_kind::u16:
        return read<std::uint16_t>(field, at);
      case field_kind::u32:
        return read<std::uint32_t>(field, at);
      case field_kind::i8:
        return read<std::int8_t>(field, at);
      case field_kind::i16:
        return read<std::int16_t>(field, at);
      case field_kind::i32:
        return read<std::int32_t>(field, at);
      default:
        return read<std::int64_t>(field, at);
    }
  }

  template <class Number>
  std::optional<Number> read(const schema_field& field, std::uint64_t at) {
    if (!available(at, sizeof(Number))) {
      visitor_.missing(field);
      return std::nullopt;
    }
    Number number;
    // Copied, never pointed to: values need not be aligned here, nor hold the type the schema claims.
    std::memcpy(&number, value_.data() + at, sizeof number);
    return number;
  }

  bool available(std::uint64_t at, std::uint64_t size) const {
    return size <= value_.size() && at <= value_.size() - size;
  }

  const schema& schema_;
  std::span<const std::byte> value_;
  value_visitor& visitor_;
};

void append_hex(std::string& out, unsigned byte) {
  constexpr char digits[] = "0123456789abcdef";
  out += digits[byte >> 4 & 0xfu];
  out += digits[byte & 0xfu];
}

void append_escaped_byte(std::string& out, char byte) {
  out += "\\x";
  append_hex(out, static_cast<unsigned char>(byte));
}

// How many bytes at the start of `text` are one code point that can be shown as it is; 0 if they are not.
std::size_t printable_prefix(std::string_view text) {
  const auto byte = [&text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  std::uint32_t code = first & (0xffu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3fu);
  }
  const auto between = [code](std::uint32_t low, std::uint32_t high) { return code >= low && code <= high; };
  if ((length == 3 && code < 0x800) || (length == 4 && code < 0x10000) || code > 0x10ffff) return 0;  // overlong
  if (between(0xd800, 0xdfff)) return 0;                             // half a UTF-16 pair
  if (between(0x80, 0x9f)) return 0;                                 // terminals may take these for controls
  if (between(0x200b, 0x200f) || between(0x2028, 0x202e)) return 0;  // invisible, line breaks, text direction
  if (between(0x2060, 0x206f) || code == 0xfeff) return 0;
  return length;
}

// Writes what `to_text` promises.
class text_writer final : public value_visitor {
 public:
  std::string take() { return std::move(out_); }

  void begin_struct(const schema_field&) override { open('{'); }
  void end_struct(const schema_field&) override { close('}'); }
  void begin_array(const schema_field&) override { open('['); }
  void end_array(const schema_field&) override { close(']'); }
  void member(std::string_view name) override {
    separate();
    out_ += escaped(name);
    out_ += ": ";
    first_ = true;  // the value itself needs no comma before it
  }

  void boolean(const schema_field&, std::uint8_t raw) override {
    separate();
    out_ += raw == 0 ? "false" : "true";
    if (raw > 1) out_ += "?(" + std::to_string(raw) + ")";
  }
  void unsigned_integer(const schema_field&, std::uint64_t number) override { append(std::to_string(number)); }
  void signed_integer(const schema_field&, std::int64_t number) override { append(std::to_string(number)); }
  void floating(const schema_field&, float number) override { append_number(number); }
  void floating(const schema_field&, double number) override { append_number(number); }
  void character(const schema_field&, char c) override { append("'" + escaped({&c, 1}) + "'"); }
  void text(const schema_field&, std::string_view text) override { append("\"" + escaped(text) + "\""); }

  void key(const schema_field&, std::uint64_t bits) override {
    if (bits == 0) return append("null");
    const std::uint64_t generation = bits >> 34;
    // The state a key carries is "occupied", both bits set; generation 0 and the last but one belong to no value.
    if ((bits >> 32 & 0b11) != 0b11 || generation == 0 || generation > (std::uint64_t{1} << 30) - 2) {
      std::string line = "bad key 0x";
      for (unsigned shift = 64; shift != 0; shift -= 8) append_hex(line, bits >> (shift - 8) & 0xff);
      return append(line);
    }
    append(std::to_string(bits & 0xffff'ffffu) + ":" + std::to_string(generation));
  }

  void enumeration(const schema_field& field, std::int64_t value, std::string_view name) override {
    const std::string number =
        field.underlying == field_kind::u64 ? std::to_string(static_cast<std::uint64_t>(value)) : std::to_string(value);
    append(name.empty() ? number : escaped(name) + "(" + number + ")");
  }

  void bytes(const schema_field&, std::span<const std::byte> bytes) override {
    std::string hex = "0x";
    for (const std::byte byte : bytes.first(std::min(bytes.size(), shown_bytes_max))) {
      append_hex(hex, std::to_integer<unsigned>(byte));
    }
    if (bytes.size() > shown_bytes_max) hex += "… (" + std::to_string(bytes.size()) + " bytes)";
    append(hex);
  }

  void missing(const schema_field&) override { append("?"); }
  bool is_full() const override { return out_.size() > line_bytes_max; }

 private:
  void separate() {
    if (!first_) out_ += ", ";
    first_ = false;
  }
  void open(char bracket) {
    separate();
    out_ += bracket;
    first_ = true;
  }
  void close(char bracket) {
    out_ += bracket;
    first_ = false;
  }
  void append(std::string_view text) {
    separate();
    out_ += text;
  }
  template <class Number>
  void append_number(Number number) {
    char buffer[32];  // the shortest form of a double has at most 24 characters
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, number).ptr;
    append({buffer, static_cast<std::size_t>(end - buffer)});
  }

  std::string out_;
  bool first_ = true;
};

}  // namespace

void visit_value(const schema& schema, std::span<const std::byte> value, value_visitor& visitor) {
  if (!schema.fields.empty()) walk(schema, value, visitor).field(0, 0);
}

std::string to_text(const schema& schema, std::span<const std::byte> value) {
  if (schema.fields.empty()) return "?";
  text_writer writer;
  visit_value(schema, value, writer);
  const bool is_cut_off = writer.is_full();
  std::string line = writer.take();
  if (is_cut_off) line += " ...";
  const std::uint64_t expected = schema.fields[0].extent_bytes();
  if (value.size() < expected) {
    line += " (only " + std::to_string(value.size()) + " of " + std::to_string(expected) + " bytes)";
  }
  return line;
}

std::string escaped(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = printable_prefix(text);
    if (length == 0) {
      append_escaped_byte(out, text.front());
      text.remove_prefix(1);
      continue;
    }
    if (text.front() == '"' || text.front() == '\\') out += '\\';
    out += text.substr(0, length);
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace dm
