#include "deferred_map/inspect/schema_numpy.hpp"

#include <string_view>

#include "deferred_map/format/value_text.hpp"
#include "deferred_map/inspect/leaves.hpp"

namespace dm::inspect {
namespace {

/// A bytes literal: a path may have any bytes in it.
std::string python_bytes(std::string_view text) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out = "b'";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '\'' && c != '\\')
      out += c;
    else
      out += {'\\', 'x', digits[byte >> 4], digits[byte & 0xf]};
  }
  return out + "'";
}

/// A text literal. What `escaped` makes of a name is what Python reads as the same, but that it reads bytes as code points.
std::string python_text(std::string_view text) { return "\"" + escaped(text) + "\""; }

class dtype_writer {
 public:
  explicit dtype_writer(const dm::schema& schema) : schema_(schema) {}

  /// Of field `index`, all elements.
  std::string of(std::size_t index) const {
    const schema_field& field = schema_.fields[index];
    const std::string one = element(index);
    return field.is_array ? "(" + one + ", (" + std::to_string(field.count) + ",))" : one;
  }

 private:
  std::string element(std::size_t index) const {
    const schema_field& field = schema_.fields[index];
    switch (field.kind) {
      case field_kind::structure:
        return structure(index);
      case field_kind::text:
        return "'S" + std::to_string(field.is_array ? field.size_bytes : field.count) + "'";
      case field_kind::enumeration:
        return scalar(field.underlying, field.size_bytes);
      default:
        return scalar(field.kind, field.size_bytes);
    }
  }

  static std::string scalar(field_kind kind, std::uint32_t size_bytes) {
    if (kind == field_kind::boolean) return "'?'";
    if (kind == field_kind::character) return "'S1'";
    if (kind == field_kind::f32) return "'<f4'";
    if (kind == field_kind::f64) return "'<f8'";
    if (kind == field_kind::key) return "'<u8'";
    const bool is_unsigned = kind >= field_kind::u8 && kind <= field_kind::u64;
    const bool is_signed = kind >= field_kind::i8 && kind <= field_kind::i64;
    return (is_unsigned ? "'<u" : is_signed ? "'<i" : "'V") + std::to_string(size_bytes) + "'";
  }

  std::string structure(std::size_t index) const {
    const schema_field& field = schema_.fields[index];
    const std::size_t end = subtree_end(schema_, index);
    std::string names, formats, offsets;
    member_names unique;
    std::size_t position = 0;
    for (std::size_t child = index + 1; child < end; child = subtree_end(schema_, child)) {
      const char* const comma = names.empty() ? "" : ", ";
      names += comma + python_text(unique.next(display_name(schema_.fields[child], position++)));
      formats += comma + of(child);
      offsets += comma + std::to_string(schema_.fields[child].offset - field.offset);
    }
    return "{'names': [" + names + "], 'formats': [" + formats + "], 'offsets': [" + offsets +
           "], 'itemsize': " + std::to_string(field.size_bytes) + "}";
  }

  const dm::schema& schema_;
};

}  // namespace

std::string to_numpy(const dm::schema& schema) {
  return schema.fields.empty() ? "" : "numpy.dtype(" + dtype_writer(schema).of(0) + ")";
}

std::string numpy_program(const arena_file& arena) {
  const arena_header& layout = arena.layout();
  const bool shared = layout.kind == static_cast<std::uint32_t>(arena_kind::shared);
  const std::string value_offset = std::to_string(layout.value_offset);
  // A last slot that the file has only a part of cannot be mapped.
  const std::uint64_t whole = arena.size_bytes() < layout.slots_offset
                                  ? 0
                                  : (arena.size_bytes() - layout.slots_offset) / layout.slot_stride_bytes;
  const std::uint64_t slots = whole < arena.slot_count() ? whole : arena.slot_count();
  std::string text;
  const auto line = [&text](const std::string& more) { text += more + '\n'; };
  line("import numpy");
  line("");
  line("# " + escaped(arena.type_name()));
  line("value_dtype = " + to_numpy(*arena.schema()));
  line("slot_dtype = numpy.dtype({'names': ['version', " + std::string(shared ? "'sequence', " : "") +
       "'value'], 'formats': ['<u4', " + (shared ? "'<u4', " : "") + "value_dtype], 'offsets': [0, " +
       (shared ? "4, " : "") + value_offset + "], 'itemsize': " + std::to_string(layout.slot_stride_bytes) + "})");
  line("offset = " + std::to_string(layout.slots_offset));
  line("stride = " + std::to_string(layout.slot_stride_bytes));
  line("shape = (" + std::to_string(slots) + ",)");
  line("path = " + python_bytes(arena.path().string()));
  line("");
  line("# A slot has a value where version & 3 == 3" +
       std::string(shared ? " (where it is 2, its new value lies elsewhere)" : "") +
       "; version >> 2 is its generation.");
  line("# The key of that value, as it stands in other values: version << 32 | slot.");
  if (slots == 0)
    line("slots = numpy.empty(shape, slot_dtype)  # numpy maps nothing of no size");
  else
    line(
        "slots = numpy.memmap(path.decode('utf-8', 'surrogateescape'), dtype=slot_dtype, mode='r', offset=offset, "
        "shape=shape)");
  line("values = slots['value'][slots['version'] & 3 == 3]");
  return text;
}

}  // namespace dm::inspect
