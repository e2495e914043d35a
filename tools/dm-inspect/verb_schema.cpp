// schema: what the values look like.
#include <fmt/format.h>

#include "value_json.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

json to_json(const dm::schema_field& field, std::size_t position) {
  json record = {{"name", text_json(field.depth == 0 ? "" : dm::display_name(field, position))},
                 {"type", text_json(field.type_name)},
                 {"kind", dm::to_string(field.kind)},
                 {"offset", field.offset},
                 {"size_bytes", field.size_bytes},
                 {"count", field.count},
                 {"is_array", field.is_array},
                 {"depth", field.depth}};
  if (field.kind == dm::field_kind::enumeration) {
    record["underlying"] = dm::to_string(field.underlying);
    json names = json::array();
    for (const dm::schema_enumerator& each : field.enumerators) {
      json value = each.value;
      if (field.underlying == dm::field_kind::u64) value = static_cast<std::uint64_t>(each.value);
      names.push_back({{"name", text_json(each.name)}, {"value", value}});
    }
    record["enumerators"] = names;
  }
  return record;
}

void print_as_json(const dm::inspect::arena_file& arena, const dm::schema& schema) {
  const auto out = json_records();
  json head = json_head("schema", arena);
  head["type"] = text_json(schema.fields.front().type_name);
  head["type_version"] = schema.version;
  head["value_size_bytes"] = arena.layout().value_size_bytes;
  head["value_align_bytes"] = arena.layout().value_align_bytes;
  out->begin(head, "fields");
  std::vector<std::size_t> positions;  // of the next field at each depth
  for (const dm::schema_field& field : schema.fields) {
    positions.resize(field.depth + std::size_t{1});
    out->record(to_json(field, positions.back()++));
  }
  out->end(json::object());
}

int show(const common_options& options) {
  const auto arena = open_with_slots(options.file);
  if (!arena.schema())
    throw dm::error(dm::errc::damaged, options.file.string(), "the schema cannot be read: " + arena.schema_reason());
  if (options.format == output_format::json) {
    print_as_json(arena, *arena.schema());
  } else {
    if (arena.schema()->version != 0) fmt::print("// version {}\n", arena.schema()->version);
    fmt::print("{}", dm::inspect::to_cpp(*arena.schema()));
  }
  return arena.head_is_damaged() ? exit_faults_left : exit_clean;
}

}  // namespace

verb make_schema(CLI::App& program) {
  CLI::App* command = program.add_subcommand("schema", "What the values look like, as C++ or JSON");
  auto options = std::make_shared<common_options>();
  add_common_options(*command, *options);
  command->footer("JSON lists the fields in preorder: those at a greater depth are members of the field before them.");
  return {command, [options] { return show(*options); }};
}

}  // namespace tool
