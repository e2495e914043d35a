// schema: what the values look like.
#include <fmt/format.h>

#include <fstream>
#include <map>

#include "deferred_map/format/value_text.hpp"

#include "schema_json.hpp"
#include "value_json.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

void print_as_json(const dm::inspect::arena_file& arena, const dm::schema& schema) {
  const auto out = json_records();
  json head = json_head("schema", arena);
  add_type(head, schema, arena.layout());
  out->begin(head, "fields");
  for (const json& field : fields_json(schema)) out->record(field);
  out->end(json::object());
}

enum class schema_format { cpp, json, numpy };

struct schema_options : common_options {
  std::filesystem::path other;
  schema_format printed = schema_format::cpp;
};

const dm::schema& schema_of(const dm::inspect::arena_file& arena) {
  if (!arena.schema())
    throw dm::error(dm::errc::damaged, arena.path().string(), "the schema cannot be read: " + arena.schema_reason());
  return *arena.schema();
}

/// Of an arena, or of what `schema --format json` printed of one.
described_type type_in(const std::filesystem::path& file) {
  try {
    const auto arena = open_with_slots(file);
    return {schema_of(arena), arena.layout().value_size_bytes, arena.layout().value_align_bytes};
  } catch (const dm::error& e) {
    if (e.code() != dm::errc::not_an_arena) throw;
    std::ifstream in(file);
    const json document = json::parse(in, nullptr, false);
    if (!document.is_object()) throw;
    return type_from_json(document);
  }
}

/// The first difference of two types, with both sides of it; nothing where each reads the other's values.
std::optional<std::string> difference_of(const described_type& first, const described_type& second) {
  const dm::schema_sides sides{"first file", "second file"};
  if (auto difference = dm::first_difference(first.schema, second.schema, sides)) return difference;
  // The other way round too: enumerators that only the second knows are a difference of files.
  if (auto difference = dm::first_difference(second.schema, first.schema, {sides.in_program, sides.in_file}))
    return difference;
  if (first.value_align_bytes != second.value_align_bytes)
    return "the value type: the first file has it aligned to " + std::to_string(first.value_align_bytes) +
           ", the second file to " + std::to_string(second.value_align_bytes);
  return std::nullopt;
}

int compare(const schema_options& options) {
  const auto difference = difference_of(type_in(options.file), type_in(options.other));
  if (options.printed == schema_format::json)
    print_json({{"schema_version", output_schema_version},
                {"verb", "schema"},
                {"file", text_json(options.file.string())},
                {"other", text_json(options.other.string())},
                {"same", !difference.has_value()},
                {"difference", difference ? json(text_json(*difference)) : json()}});
  else
    fmt::print("{}\n", difference ? dm::escaped(*difference) : "the same type");
  return difference ? exit_faults_left : exit_clean;
}

int show(const schema_options& options) {
  if (!options.other.empty()) {
    if (options.printed == schema_format::numpy) throw usage_error("a comparison is printed as cpp or json");
    return compare(options);
  }
  const auto arena = open_with_slots(options.file);
  const dm::schema& schema = schema_of(arena);
  switch (options.printed) {
    case schema_format::json:
      print_as_json(arena, schema);
      break;
    case schema_format::numpy:
      fmt::print("{}", dm::inspect::numpy_program(arena));
      break;
    case schema_format::cpp:
      if (schema.version != 0) fmt::print("// version {}\n", schema.version);
      fmt::print("{}", dm::inspect::to_cpp(schema));
  }
  return arena.head_is_damaged() ? exit_faults_left : exit_clean;
}

}  // namespace

verb make_schema(CLI::App& program) {
  CLI::App* command =
      program.add_subcommand("schema", "What the values look like, as C++, JSON or numpy; or how two types differ");
  auto options = std::make_shared<schema_options>();
  add_file_option(*command, options->file);
  const std::map<std::string, schema_format> formats{{"cpp", schema_format::cpp},
                                                     {"table", schema_format::cpp},
                                                     {"json", schema_format::json},
                                                     {"numpy", schema_format::numpy}};
  command
      ->add_option("--format", options->printed,
                   "cpp for people (default; table is the same), json for programs, numpy for Python")
      ->transform(one_of("cpp|json|numpy", formats))
      ->type_name("cpp|json|numpy");
  add_print_options(*command, *options);
  command
      ->add_option("--compare", options->other,
                   "Name the first field that differs from OTHER's, an arena or what 'schema --format json' printed")
      ->transform(arena_path, "")
      ->type_name("OTHER");
  command->footer(
      "JSON lists the fields in preorder: those at a greater depth are members of the field before them. 'import "
      "--schema'\n"
      "reads it. numpy is a program that maps the slots, to be run or copied; it reads what a running program writes.\n"
      "With --compare it exits with 4 where the types differ.\n\n"
      "Examples:\n"
      "  dm-inspect schema stock.arena --format numpy > stock_arena.py\n"
      "  dm-inspect schema stock.arena --compare yesterday.arena");
  return {command, [options] { return show(*options); }};
}

}  // namespace tool
