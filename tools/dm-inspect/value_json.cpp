#include "value_json.hpp"

#include <charconv>
#include <cmath>
#include <unordered_map>
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

class json_builder final : public dm::value_visitor {
 public:
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

  void boolean(const dm::schema_field&, std::uint8_t raw) override { add(raw > 1 ? json(raw) : json(raw == 1)); }
  void unsigned_integer(const dm::schema_field&, std::uint64_t number) override { add(number); }
  void signed_integer(const dm::schema_field&, std::int64_t number) override { add(number); }
  void floating(const dm::schema_field&, float number) override {
    // By way of its shortest text: 0.1f is to be 0.1, and not 0.10000000149011612.
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, number).ptr;
    double same = number;
    if (std::isfinite(number)) std::from_chars(text, end, same);
    add_number(same);
  }
  void floating(const dm::schema_field&, double number) override { add_number(number); }
  void character(const dm::schema_field&, char c) override { add(text_json({&c, 1})); }
  void text(const dm::schema_field&, std::string_view text) override { add(text_json(text)); }
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
    if (!name.empty()) return add(text_json(name));
    if (field.underlying == dm::field_kind::u64) return add(static_cast<std::uint64_t>(value));
    add(value);
  }
  void bytes(const dm::schema_field&, std::span<const std::byte> bytes) override { add(hex_text(bytes)); }
  void missing(const dm::schema_field&) override { add(nullptr); }

 private:
  struct level {
    json value;
    std::string name;  // in the level around it
    std::unordered_map<std::string, int> names;
  };

  void open(json value) { levels_.push_back({std::move(value), std::move(name_), {}}); }
  void close() {
    level done = std::move(levels_.back());
    levels_.pop_back();
    name_ = std::move(done.name);
    add(std::move(done.value));
  }
  void add_number(double number) {
    if (std::isnan(number)) return add("NaN");
    if (std::isinf(number)) return add(number < 0 ? "-Infinity" : "Infinity");
    add(number);
  }
  void add(json value) {
    bytes_taken_ += sizeof(json);
    if (levels_.empty()) {
      root_ = std::move(value);
    } else if (level& around = levels_.back(); around.value.is_array()) {
      around.value.push_back(std::move(value));
    } else {
      const int times = ++around.names[name_];
      if (times > 1) name_ += "#" + std::to_string(times);
      // Appended, not looked up: that the name is new is known, and objects may have very many.
      around.value.get_ref<json::object_t&>().emplace_back(std::move(name_), std::move(value));
    }
    name_.clear();
  }

  // A schema may put a name of a megabyte before each byte of a value.
  static constexpr std::size_t bytes_taken_max = std::size_t{512} << 20;

  json root_;
  std::size_t bytes_taken_ = 0;
  std::string name_;
  std::vector<level> levels_;
};

}  // namespace

json value_json(const dm::schema& schema, std::span<const std::byte> bytes) {
  json_builder builder;
  dm::visit_value(schema, bytes, builder);
  return builder.take();
}

std::string text_json(std::string_view text) {
  std::string out;
  bool is_utf8 = true;
  for (std::string_view rest = text; !rest.empty() && is_utf8;) {
    const std::size_t length = code_point_length(rest);
    is_utf8 = length != 0;
    rest.remove_prefix(length);
  }
  if (is_utf8) return std::string(text);
  constexpr char digits[] = "0123456789abcdef";
  while (!text.empty()) {
    const std::size_t length = code_point_length(text);
    if (length == 0) {
      const auto byte = static_cast<unsigned char>(text.front());
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

}  // namespace tool
