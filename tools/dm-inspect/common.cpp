#include "verbs.hpp"

#include <map>

namespace tool {

void add_common_options(CLI::App& command, common_options& options) {
  command.add_option("FILE", options.file, "The arena")->required();
  const std::map<std::string, output_format> formats{{"table", output_format::table}, {"json", output_format::json}};
  command.add_option("--format", options.format, "table for people (default), json for programs")
      ->transform(CLI::CheckedTransformer(formats).description(""))
      ->type_name("table|json");
}

dm::inspect::arena_file open_with_slots(const std::filesystem::path& file) {
  auto arena = dm::inspect::arena_file::open(file);
  if (arena.has_newer_format()) throw dm::error(dm::errc::newer_format, file.string(), arena.findings().front().text);
  if (!arena.has_layout())
    throw dm::error(dm::errc::damaged, file.string(),
                    "the header is damaged so that the slots cannot be found. Run 'dm-inspect check' to see what is "
                    "wrong, and restore a copy");
  return arena;
}

dm::schema schema_or_bytes(const dm::inspect::arena_file& arena) {
  if (arena.schema()) return *arena.schema();
  dm::schema opaque;
  dm::schema_field& value = opaque.fields.emplace_back();
  value.type_name = arena.type_name();
  value.kind = dm::field_kind::bytes;
  value.size_bytes = arena.layout().value_size_bytes;
  return opaque;
}

void warn_if_in_use(const dm::inspect::arena_file& arena) {
  if (arena.left() == dm::inspect::left_state::open)
    complain("note: the file is in use, and what is shown may be halfway through a change");
}

}  // namespace tool
