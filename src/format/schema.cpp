#include "deferred_map/format/schema.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

namespace dm {
namespace {

// Records are copied to and from bytes as they are in memory.
static_assert(std::endian::native == std::endian::little, "arena files are little-endian, and so must the machine be");

template <class Record>
Record load(std::span<const std::byte> bytes, std::size_t offset) {
  Record record;
  // Copied, never pointed to: nothing says that the bytes are aligned.
  std::memcpy(&record, bytes.data() + offset, sizeof record);
  return record;
}

template <class Record>
void store(std::vector<std::byte>& bytes, std::size_t offset, const Record& record) {
  std::memcpy(bytes.data() + offset, &record, sizeof record);
}

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

bool can_underlie(field_kind kind) {
  return kind == field_kind::boolean || (kind >= field_kind::u8 && kind <= field_kind::i64);
}

// Whether an enumeration stored as `kind` can hold `value`.
bool fits(std::int64_t value, field_kind kind) {
  const auto between = [value](auto low, auto high) { return value >= low && value <= high; };
  switch (kind) {
    case field_kind::boolean:
      return between(0, 1);
    case field_kind::u8:
      return between(0, std::numeric_limits<std::uint8_t>::max());
    case field_kind::u16:
      return between(0, std::numeric_limits<std::uint16_t>::max());
    case field_kind::u32:
      return between(0, std::int64_t{std::numeric_limits<std::uint32_t>::max()});
    case field_kind::i8:
      return between(std::numeric_limits<std::int8_t>::min(), std::numeric_limits<std::int8_t>::max());
    case field_kind::i16:
      return between(std::numeric_limits<std::int16_t>::min(), std::numeric_limits<std::int16_t>::max());
    case field_kind::i32:
      return between(std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max());
    default:
      return true;
  }
}

// What is wrong with one field, its place in the tree aside.
const char* fault_of(const schema_field& field) {
  if (field.kind < field_kind::bytes || field.kind > field_kind::structure) return "is of an unknown kind";
  if (field.size_bytes == 0 || field.count == 0) return "has no bytes";
  const bool plain_text = field.kind == field_kind::text && !field.is_array;
  if (plain_text && field.size_bytes != 1) return "is text of characters that are not one byte each";
  if (!field.is_array && !plain_text && field.count != 1) return "is no array but has more than one element";
  const std::uint32_t size = fixed_size(field.kind == field_kind::enumeration ? field.underlying : field.kind);
  if (field.kind == field_kind::enumeration) {
    if (!can_underlie(field.underlying)) return "is an enumeration of something that is no integer";
  } else if (field.underlying != field_kind::none || !field.enumerators.empty()) {
    return "is no enumeration but says what is below one";
  }
  if (size != 0 && field.size_bytes != size) return "has a size that is not its kind's";
  if (field.type_name.empty()) return "has a type without a name";
  if (has_control_characters(field.name) || has_control_characters(field.type_name)) {
    return "has a name with control characters";
  }
  for (const schema_enumerator& enumerator : field.enumerators) {
    if (enumerator.name.empty()) return "has an enumerator without a name";
    if (has_control_characters(enumerator.name)) return "has an enumerator with control characters in its name";
    if (!fits(enumerator.value, field.underlying)) return "has an enumerator that its integer cannot hold";
  }
  return nullptr;
}

std::string at_field(std::size_t index, const char* fault) {
  return "field " + std::to_string(index) + " of the schema " + fault;
}

// Hands out the strings of an encoded schema in the only order they may be in.
class string_reader {
 public:
  explicit string_reader(std::span<const std::byte> bytes)
      : text_(reinterpret_cast<const char*>(bytes.data()), bytes.size()) {}  // bytes may always be read as char

  bool next(std::uint32_t offset, std::string& out) {
    if (offset != position_) return false;
    const std::size_t end = text_.find('\0', position_);
    if (end == std::string_view::npos) return false;
    out.assign(text_.substr(position_, end - position_));
    position_ = end + 1;
    return true;
  }

  bool at_end() const { return position_ == text_.size(); }

 private:
  std::string_view text_;
  std::size_t position_ = 1;  // the byte before the first string is a NUL, so that no string has offset 0
};

}  // namespace

const char* to_string(field_kind kind) noexcept {
  switch (kind) {
    case field_kind::none:
      return "none";
    case field_kind::bytes:
      return "bytes";
    case field_kind::boolean:
      return "bool";
    case field_kind::character:
      return "char";
    case field_kind::text:
      return "text";
    case field_kind::u8:
      return "u8";
    case field_kind::u16:
      return "u16";
    case field_kind::u32:
      return "u32";
    case field_kind::u64:
      return "u64";
    case field_kind::i8:
      return "i8";
    case field_kind::i16:
      return "i16";
    case field_kind::i32:
      return "i32";
    case field_kind::i64:
      return "i64";
    case field_kind::f32:
      return "f32";
    case field_kind::f64:
      return "f64";
    case field_kind::key:
      return "key";
    case field_kind::enumeration:
      return "enum";
    case field_kind::structure:
      return "structure";
  }
  return "unknown";
}

std::uint32_t fixed_size(field_kind kind) noexcept {
  switch (kind) {
    case field_kind::boolean:
    case field_kind::character:
    case field_kind::u8:
    case field_kind::i8:
      return 1;
    case field_kind::u16:
    case field_kind::i16:
      return 2;
    case field_kind::u32:
    case field_kind::i32:
    case field_kind::f32:
      return 4;
    case field_kind::u64:
    case field_kind::i64:
    case field_kind::f64:
    case field_kind::key:
      return 8;
    default:
      return 0;
  }
}

std::string display_name(const schema_field& field, std::size_t position) {
  return field.name.empty() ? "field_" + std::to_string(position) : field.name;
}

std::size_t subtree_end(const schema& schema, std::size_t index) noexcept {
  std::size_t end = index + 1;
  while (end < schema.fields.size() && schema.fields[end].depth > schema.fields[index].depth) ++end;
  return end;
}

std::optional<std::string> first_fault(const schema& schema, std::uint32_t value_size) {
  const auto& fields = schema.fields;
  if (fields.empty()) return "the schema has no fields";
  if (fields.size() > schema_fields_max) return "the schema has more fields than a file can hold";

  // The bytes that the children of each open structure may still take, outermost first.
  struct room {
    std::uint64_t begin, end;
  };
  std::vector<room> rooms{{0, value_size}};
  std::size_t enumerator_count = 0;
  std::size_t string_bytes = 1;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const schema_field& field = fields[i];
    if (const char* fault = fault_of(field)) return at_field(i, fault);
    if ((i == 0) != (field.depth == 0)) return at_field(i, "is at the wrong depth");
    if (field.depth > schema_depth_max) return at_field(i, "is nested too deeply");
    if (field.depth >= rooms.size()) return at_field(i, "is below a field that is no structure");
    rooms.resize(field.depth + std::size_t{1});

    room& parent = rooms.back();
    const std::uint64_t end = std::uint64_t{field.offset} + field.extent_bytes();
    if (i == 0 && (field.offset != 0 || end != value_size)) return at_field(i, "is not as large as a value");
    if (i == 0 && !field.name.empty()) return at_field(i, "is the value itself but has a name");
    if (field.offset < parent.begin) return at_field(i, "overlaps or precedes the field before it");
    if (end > parent.end) return at_field(i, "is not within its parent");
    parent.begin = end;
    if (field.kind == field_kind::structure) {
      rooms.push_back({field.offset, std::uint64_t{field.offset} + field.size_bytes});
    }

    enumerator_count += field.enumerators.size();
    string_bytes += field.name.size() + field.type_name.size() + 2;
    for (const schema_enumerator& enumerator : field.enumerators) string_bytes += enumerator.name.size() + 1;
  }
  if (enumerator_count > schema_enumerators_max) return "the schema has more enumerators than a file can hold";
  if (string_bytes > schema_string_bytes_max) return "the schema has longer names than a file can hold";
  return std::nullopt;
}

std::vector<std::byte> encode(const schema& schema) {
  std::vector<schema_field_record> field_records;
  std::vector<schema_enumerator_record> enumerator_records;
  std::string strings(1, '\0');
  const auto add_string = [&strings](const std::string& text) {
    const auto offset = static_cast<std::uint32_t>(strings.size());
    strings.append(text.c_str(), text.size() + 1);
    return offset;
  };

  for (const schema_field& field : schema.fields) {
    schema_field_record record{};
    record.name = add_string(field.name);
    record.type_name = add_string(field.type_name);
    record.kind = static_cast<std::uint16_t>(field.kind);
    record.underlying = static_cast<std::uint16_t>(field.underlying);
    record.depth = field.depth;
    record.is_array = field.is_array ? 1 : 0;
    record.offset = field.offset;
    record.size_bytes = field.size_bytes;
    record.count = field.count;
    record.first_enumerator = static_cast<std::uint32_t>(enumerator_records.size());
    record.enumerator_count = static_cast<std::uint32_t>(field.enumerators.size());
    for (const schema_enumerator& enumerator : field.enumerators) {
      enumerator_records.push_back({add_string(enumerator.name), 0, enumerator.value});
    }
    field_records.push_back(record);
  }

  schema_head head{};
  head.magic = schema_head::right_magic;
  head.layout = schema_head::right_layout;
  head.field_count = static_cast<std::uint32_t>(field_records.size());
  head.enumerator_count = static_cast<std::uint32_t>(enumerator_records.size());
  head.string_bytes = static_cast<std::uint32_t>(strings.size());
  head.version = schema.version;
  const std::size_t total = sizeof head + field_records.size() * sizeof(schema_field_record) +
                            enumerator_records.size() * sizeof(schema_enumerator_record) + strings.size();
  head.total_bytes = static_cast<std::uint32_t>(total);

  std::vector<std::byte> bytes(total);
  std::size_t position = 0;
  const auto append = [&](const auto& record) {
    store(bytes, position, record);
    position += sizeof record;
  };
  append(head);
  for (const auto& record : field_records) append(record);
  for (const auto& record : enumerator_records) append(record);
  std::memcpy(bytes.data() + position, strings.data(), strings.size());
  return bytes;
}

schema_result decode(std::span<const std::byte> bytes, std::uint32_t value_size) {
  const auto refuse = [](std::string reason) { return schema_result{std::nullopt, std::move(reason)}; };
  if (bytes.size() < sizeof(schema_head)) return refuse("the schema is cut off in its head");
  const auto head = load<schema_head>(bytes, 0);
  if (head.magic != schema_head::right_magic) return refuse("there is no schema where one should be");
  if (head.layout != schema_head::right_layout) {
    return refuse("the schema is laid out in a way this version does not know: " + std::to_string(head.layout));
  }
  if (head.reserved_0 != 0 || head.reserved_1 != 0) return refuse("the schema's head has bytes set that must be 0");
  if (head.field_count == 0 || head.field_count > schema_fields_max) {
    return refuse("the schema says it has " + std::to_string(head.field_count) + " fields");
  }
  if (head.enumerator_count > schema_enumerators_max) {
    return refuse("the schema says it has " + std::to_string(head.enumerator_count) + " enumerators");
  }
  if (head.string_bytes == 0 || head.string_bytes > schema_string_bytes_max) {
    return refuse("the schema says it has " + std::to_string(head.string_bytes) + " bytes of names");
  }
  // None of these can overflow: the counts are limited above.
  const std::size_t enumerators_at = sizeof(schema_head) + std::size_t{head.field_count} * sizeof(schema_field_record);
  const std::size_t strings_at = enumerators_at + std::size_t{head.enumerator_count} * sizeof(schema_enumerator_record);
  const std::size_t total = strings_at + head.string_bytes;
  if (head.total_bytes != total) return refuse("the schema's size does not agree with its counts");
  if (bytes.size() < total) return refuse("the schema is cut off");
  if (bytes[strings_at] != std::byte{0}) return refuse("the schema's names do not start where they should");

  string_reader strings(bytes.subspan(strings_at, head.string_bytes));
  schema result;
  result.version = head.version;
  result.fields.reserve(head.field_count);
  std::uint32_t enumerators_read = 0;
  for (std::uint32_t i = 0; i < head.field_count; ++i) {
    const auto record = load<schema_field_record>(bytes, sizeof(schema_head) + i * sizeof(schema_field_record));
    schema_field& field = result.fields.emplace_back();
    if (record.reserved != 0) return refuse(at_field(i, "has bytes set that must be 0"));
    if (record.is_array > 1) return refuse(at_field(i, "is neither an array nor not one"));
    if (!strings.next(record.name, field.name) || !strings.next(record.type_name, field.type_name)) {
      return refuse(at_field(i, "has a name that is not where it should be"));
    }
    field.kind = static_cast<field_kind>(record.kind);  // any value may be in it until first_fault has looked
    field.underlying = static_cast<field_kind>(record.underlying);
    field.depth = record.depth;
    field.is_array = record.is_array != 0;
    field.offset = record.offset;
    field.size_bytes = record.size_bytes;
    field.count = record.count;
    if (record.first_enumerator != enumerators_read ||
        record.enumerator_count > head.enumerator_count - enumerators_read) {
      return refuse(at_field(i, "has enumerators that are not where they should be"));
    }
    field.enumerators.resize(record.enumerator_count);
    for (schema_enumerator& enumerator : field.enumerators) {
      const auto stored =
          load<schema_enumerator_record>(bytes, enumerators_at + enumerators_read * sizeof(schema_enumerator_record));
      if (stored.reserved != 0) return refuse(at_field(i, "has an enumerator with bytes set that must be 0"));
      if (!strings.next(stored.name, enumerator.name)) {
        return refuse(at_field(i, "has an enumerator whose name is not where it should be"));
      }
      enumerator.value = stored.value;
      ++enumerators_read;
    }
  }
  if (enumerators_read != head.enumerator_count) return refuse("the schema has enumerators that belong to no field");
  if (!strings.at_end()) return refuse("the schema has names that belong to no field");
  if (auto fault = first_fault(result, value_size)) return refuse(std::move(*fault));
  return {std::move(result), {}};
}

}  // namespace dm
