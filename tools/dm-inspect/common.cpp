#include "verbs.hpp"

#include <map>
#include <utility>

namespace tool {

namespace {

constexpr std::pair<const char*, output_format> formats[] = {{"table", output_format::table},
                                                             {"json", output_format::json},
                                                             {"ndjson", output_format::ndjson},
                                                             {"csv", output_format::csv}};

}  // namespace

void add_format_option(CLI::App& command, output_format& format, const std::string& names, const std::string& help) {
  std::map<std::string, output_format> offered;
  for (const auto& [name, value] : formats)
    if (("|" + names + "|").find("|" + std::string(name) + "|") != std::string::npos) offered.emplace(name, value);
  command.add_option("--format", format, help)
      ->transform(CLI::CheckedTransformer(offered).description(""))
      ->type_name(names);
}

void add_common_options(CLI::App& command, common_options& options, const std::string& formats_offered) {
  command.add_option("FILE", options.file, "The arena")->required();
  add_format_option(command, options.format, formats_offered,
                    formats_offered == "table|json"
                        ? "table for people (default), json for programs"
                        : "table for people (default); json, ndjson (a record a line) and csv for programs");
  command.add_flag("--quiet", options.quiet, "Show no progress");
}

void add_redact_option(CLI::App& command, bool& redact) {
  command.add_flag("--redact", redact, "Show types and sizes in place of what values hold; keys stay");
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
