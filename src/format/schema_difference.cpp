// What stands between a file's schema and a program's.
#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "deferred_map/format/schema.hpp"

namespace dm {
namespace {

// Finds the first difference of two schemas, walking both trees side by side.
class comparison {
 public:
  comparison(const schema& file, const schema& program, const schema_sides& sides)
      : file_(file), program_(program), sides_(sides) {}

  std::optional<std::string> compare(std::size_t f, std::size_t p, const std::string& path) const {
    const schema_field& in_file = file_.fields[f];
    const schema_field& in_program = program_.fields[p];
    if (!same_place(in_file, in_program)) return both_sides(path, in_file, in_program);
    if (in_file.kind != in_program.kind) {
      // A type described on one side only. There is nothing to hold its members against.
      const bool one_opaque = (in_file.kind == field_kind::bytes && in_program.kind == field_kind::structure) ||
                              (in_file.kind == field_kind::structure && in_program.kind == field_kind::bytes);
      if (one_opaque && in_file.size_bytes == in_program.size_bytes) return std::nullopt;
      return both_sides(path, in_file, in_program);
    }
    if (in_file.kind == field_kind::structure) {
      // Before the sizes: a new or missing member says more than the bytes it takes.
      if (auto difference = compare_members(f, p, path)) return difference;
    }
    if (in_file.size_bytes != in_program.size_bytes || in_file.underlying != in_program.underlying) {
      return both_sides(path, in_file, in_program);
    }
    return compare_enumerators(in_file, in_program, path);
  }

 private:
  static bool same_place(const schema_field& a, const schema_field& b) {
    // Scalars go by kind: `long` and `long long` may be the same eight bytes.
    const bool kind_names_type =
        a.kind == b.kind && (fixed_size(a.kind) != 0 || a.kind == field_kind::text) && a.kind != field_kind::key;
    return a.offset == b.offset && a.count == b.count && a.is_array == b.is_array &&
           (kind_names_type || a.type_name == b.type_name);
  }

  std::optional<std::string> compare_members(std::size_t f, std::size_t p, const std::string& path) const {
    const auto file_members = members(file_, f);
    const auto program_members = members(program_, p);
    const std::string prefix = path.empty() ? "" : path + (file_.fields[f].is_array ? "[]." : ".");
    for (std::size_t i = 0; i < std::max(file_members.size(), program_members.size()); ++i) {
      if (i == program_members.size())
        return only_in(sides_.in_file, sides_.in_program, prefix, file_.fields[file_members[i]], i);
      if (i == file_members.size())
        return only_in(sides_.in_program, sides_.in_file, prefix, program_.fields[program_members[i]], i);
      const schema_field& in_file = file_.fields[file_members[i]];
      const schema_field& in_program = program_.fields[program_members[i]];
      const bool named = !in_file.name.empty() && !in_program.name.empty();
      if (named && in_file.name != in_program.name) {
        const schema_field* moved = find(program_, program_members, in_file.name);
        if (moved == nullptr) {
          const bool renamed = find(file_, file_members, in_program.name) == nullptr;
          return only_in(sides_.in_file, sides_.in_program, prefix, in_file, i) +
                 (renamed ? ", which has '" + prefix + in_program.name + "' (" + describe(in_program) + ")" : "");
        }
        if (find(file_, file_members, in_program.name) == nullptr) {
          return only_in(sides_.in_program, sides_.in_file, prefix, in_program, i);
        }
        return both_sides(prefix + in_file.name, in_file, *moved);
      }
      const std::string name = prefix + (named ? in_file.name : display_name(in_program, i));
      if (auto difference = compare(file_members[i], program_members[i], name)) return difference;
    }
    return std::nullopt;
  }

  // The program may know more enumerators than the file: whatever the file's values hold had a name when the
  // file was made, and has the same one still. A name that is gone or means another number would change what is stored.
  std::optional<std::string> compare_enumerators(const schema_field& in_file, const schema_field& in_program,
                                                 const std::string& path) const {
    if (in_file.enumerators.empty() || in_program.enumerators.empty()) return std::nullopt;  // undescribed there
    for (const schema_enumerator& theirs : in_file.enumerators) {
      const auto ours = std::find_if(in_program.enumerators.begin(), in_program.enumerators.end(),
                                     [&](const schema_enumerator& e) { return e.name == theirs.name; });
      const std::string start = subject(path) + ": enumerator '" + theirs.name + "' of " + in_file.type_name + " is " +
                                std::to_string(theirs.value) + " in the " + sides_.in_file;
      if (ours == in_program.enumerators.end()) return start + " and missing in the " + sides_.in_program;
      if (ours->value != theirs.value)
        return start + " and " + std::to_string(ours->value) + " in the " + sides_.in_program;
    }
    return std::nullopt;
  }

  static std::vector<std::size_t> members(const schema& schema, std::size_t index) {
    std::vector<std::size_t> result;
    const std::size_t end = subtree_end(schema, index);
    for (std::size_t i = index + 1; i < end; i = subtree_end(schema, i)) result.push_back(i);
    return result;
  }

  static const schema_field* find(const schema& schema, const std::vector<std::size_t>& among,
                                  const std::string& name) {
    for (const std::size_t i : among) {
      if (schema.fields[i].name == name) return &schema.fields[i];
    }
    return nullptr;
  }

  static std::string subject(const std::string& path) {
    return path.empty() ? "the value type" : "field '" + path + "'";
  }

  // "f64 at offset 8", "u32[3] at offset 16", "point (structure of 8 bytes) at offset 24"
  static std::string describe(const schema_field& field) {
    std::string what;
    const std::string size = std::to_string(field.size_bytes) + " bytes";
    switch (field.kind) {
      case field_kind::text:
        what = field.is_array ? "text of " + size : "text of " + std::to_string(field.count) + " bytes";
        break;
      case field_kind::bytes:
        what = field.type_name + " (" + size + ")";
        break;
      case field_kind::structure:
        what = field.type_name + " (structure of " + size + ")";
        break;
      case field_kind::enumeration:
        what = field.type_name + " (enum, " + to_string(field.underlying) + ")";
        break;
      case field_kind::key:
        what = field.type_name;
        break;
      default:
        what = to_string(field.kind);
    }
    if (field.is_array) what += "[" + std::to_string(field.count) + "]";
    return field.depth == 0 ? what : what + " at offset " + std::to_string(field.offset);
  }

  std::string both_sides(const std::string& path, const schema_field& file, const schema_field& program) const {
    return subject(path) + ": the " + sides_.in_file + " has " + describe(file) + ", the " + sides_.in_program +
           " has " + describe(program);
  }

  static std::string only_in(const std::string& here, const std::string& not_there, const std::string& prefix,
                             const schema_field& field, std::size_t position) {
    return subject(prefix + display_name(field, position)) + " (" + describe(field) + ") is in the " + here +
           " but not in the " + not_there;
  }

  const schema& file_;
  const schema& program_;
  const schema_sides& sides_;
};

}  // namespace

std::optional<std::string> first_difference(const schema& in_file, const schema& in_program,
                                            const schema_sides& sides) {
  if (in_file.fields.empty() || in_program.fields.empty()) {
    if (in_file.fields.empty() == in_program.fields.empty()) return std::nullopt;
    return "the " + (in_file.fields.empty() ? sides.in_file : sides.in_program) + "'s schema has no fields";
  }
  auto difference = comparison(in_file, in_program, sides).compare(0, 0, {});
  if (in_file.version == in_program.version) return difference;
  // Another version is a difference even where the bytes agree: prices may have become cents.
  std::string message = "the value type: the " + sides.in_file + " has version " + std::to_string(in_file.version) +
                        " of " + in_file.fields[0].type_name + ", the " + sides.in_program + " has version " +
                        std::to_string(in_program.version);
  if (difference) message += "; " + *difference;
  return message;
}

}  // namespace dm
