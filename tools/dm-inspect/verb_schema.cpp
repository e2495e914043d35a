// schema: what the values look like.
#include <fmt/format.h>

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
