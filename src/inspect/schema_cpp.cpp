#include "deferred_map/inspect/schema_cpp.hpp"

#include <algorithm>
#include <set>
#include <string_view>

#include "deferred_map/format/value_text.hpp"

namespace dm::inspect {
namespace {

constexpr std::size_t comment_column = 44;

/// How C++ spells what a field holds, where its type's own name says less or something that depends on the machine.
std::string spelling(const schema_field& field) {
  switch (field.kind) {
    case field_kind::boolean:
      return "bool";
    case field_kind::character:
    case field_kind::text:
      return "char";
    case field_kind::u8:
      return "std::uint8_t";
    case field_kind::u16:
      return "std::uint16_t";
    case field_kind::u32:
      return "std::uint32_t";
    case field_kind::u64:
      return "std::uint64_t";
    case field_kind::i8:
      return "std::int8_t";
    case field_kind::i16:
      return "std::int16_t";
    case field_kind::i32:
      return "std::int32_t";
    case field_kind::i64:
      return "std::int64_t";
    case field_kind::f32:
      return "float";
    case field_kind::f64:
      return "double";
    default:
      return escaped(field.type_name);
  }
}

class cpp_writer {
 public:
  explicit cpp_writer(const dm::schema& schema) : schema_(schema) {}

  std::string write() {
    const schema_field& root = schema_.fields.front();
    for (const schema_field& field : schema_.fields) enumeration(field);
    if (root.kind == field_kind::structure && !root.is_array) {
      line(0, "struct " + escaped(root.type_name) + " {", std::to_string(root.size_bytes) + " bytes");
      members(0, 1);
      line(0, "};", "");
    } else {
      declaration(0, "value", 0);
    }
    return std::move(out_);
  }

 private:
  void line(unsigned indent, const std::string& code, const std::string& comment) {
    std::string text(indent * std::size_t{2}, ' ');
    text += code;
    if (!comment.empty()) {
      text.resize(std::max(text.size() + 2, comment_column), ' ');
      text += "// " + comment;
    }
    out_ += text + '\n';
  }

  /// The names of an enumeration, once for each type.
  void enumeration(const schema_field& field) {
    if (field.kind != field_kind::enumeration || !enumerations_.insert(field.type_name).second) return;
    if (field.enumerators.empty()) return;
    schema_field underlying = field;
    underlying.kind = field.underlying;
    line(0, "enum class " + escaped(field.type_name) + " : " + spelling(underlying) + " {", "");
    for (const schema_enumerator& enumerator : field.enumerators)
      line(1, escaped(enumerator.name) + " = " + number(field, enumerator.value) + ",", "");
    out_ += "};\n\n";
  }

  static std::string number(const schema_field& field, std::int64_t value) {
    return field.underlying == field_kind::u64 ? std::to_string(static_cast<std::uint64_t>(value))
                                               : std::to_string(value);
  }

  void members(std::size_t index, unsigned indent) {
    const schema_field& parent = schema_.fields[index];
    const std::size_t end = subtree_end(schema_, index);
    std::uint64_t at = parent.offset;
    std::size_t position = 0;
    for (std::size_t child = index + 1; child < end; child = subtree_end(schema_, child)) {
      const schema_field& field = schema_.fields[child];
      padding(indent, at, field.offset);
      declaration(child, escaped(display_name(field, position++)), indent);
      at = field.offset + field.extent_bytes();
    }
    padding(indent, at, std::uint64_t{parent.offset} + parent.size_bytes);
  }

  void padding(unsigned indent, std::uint64_t from, std::uint64_t to) {
    if (to <= from) return;
    const std::string size = std::to_string(to - from);
    line(indent, "// " + size + (size == "1" ? " byte" : " bytes") + " of padding", std::to_string(from));
  }

  void declaration(std::size_t index, const std::string& name, unsigned indent) {
    const schema_field& field = schema_.fields[index];
    std::string declarator = name;
    if (field.is_array) declarator += "[" + std::to_string(field.count) + "]";
    if (field.kind == field_kind::text)
      declarator += "[" + std::to_string(field.is_array ? field.size_bytes : field.count) + "]";
    if (field.kind == field_kind::structure) {
      line(indent, "struct " + escaped(field.type_name) + " {", std::to_string(field.offset));
      members(index, indent + 1);
      line(indent, "} " + declarator + ";", "");
      return;
    }
    std::string comment = std::to_string(field.offset);
    if (field.kind == field_kind::bytes) comment += ": opaque, " + std::to_string(field.size_bytes) + " bytes";
    if (field.kind == field_kind::enumeration && field.enumerators.empty())
      comment += ": enumeration stored as " + std::string(dm::to_string(field.underlying));
    line(indent, spelling(field) + " " + declarator + ";", comment);
  }

  const dm::schema& schema_;
  std::set<std::string_view> enumerations_;  // those that were written; a schema may have very many
  std::string out_;
};

}  // namespace

std::string to_cpp(const dm::schema& schema) { return schema.fields.empty() ? "" : cpp_writer(schema).write(); }

}  // namespace dm::inspect
