#include "verbs.hpp"

#include <fmt/format.h>

#include <utility>

#include "deferred_map/format/value_text.hpp"
#include "deferred_map/sharing/place.hpp"

namespace tool {
namespace {

auto use_of_journals = dm::inspect::journal_use::apply;

constexpr std::string_view segment_prefix = "shm:";

constexpr std::pair<const char*, output_format> formats[] = {{"table", output_format::table},
                                                             {"json", output_format::json},
                                                             {"ndjson", output_format::ndjson},
                                                             {"csv", output_format::csv}};

}  // namespace

std::string arena_path(const std::string& text) {
  if (!text.starts_with(segment_prefix)) return text;
  try {
    return dm::shm(text.substr(segment_prefix.size())).path().string();
  } catch (const dm::error& e) {
    throw usage_error(e.what());
  }
}

CLI::Validator whole_number() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        const bool is_one = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
        return is_one ? std::string() : "'" + text + "' is no whole number";
      },
      "");
}

void add_format_option(CLI::App& command, output_format& format, const std::string& names, const std::string& help) {
  std::map<std::string, output_format> offered;
  for (const auto& [name, value] : formats)
    if (("|" + names + "|").find("|" + std::string(name) + "|") != std::string::npos) offered.emplace(name, value);
  command.add_option("--format", format, help)->transform(one_of(names, offered))->type_name(names);
}

void add_file_option(CLI::App& command, std::filesystem::path& file) {
  command.add_option("FILE", file, "The arena: a file, or shm:NAME for a shared-memory segment")
      ->required()
      ->transform(arena_path, "");
}

void add_common_options(CLI::App& command, common_options& options, const std::string& formats_offered) {
  add_file_option(command, options.file);
  command.add_flag_callback(
      "--without-journal", [] { use_of_journals = dm::inspect::journal_use::ignore; },
      "Of a durable map: the file alone, which may be of several commits, and not with its journal's commits");
  add_output_options(command, options, formats_offered);
}

void add_output_options(CLI::App& command, output_options& options, const std::string& formats_offered) {
  add_format_option(command, options.format, formats_offered,
                    formats_offered == "table|json"
                        ? "table for people (default), json for programs"
                        : "table for people (default); json, ndjson (a record a line) and csv for programs");
  add_print_options(command, options);
}

void add_print_options(CLI::App& command, output_options& options) {
  const std::map<std::string, colour_wish> wishes{
      {"auto", colour_wish::automatic}, {"always", colour_wish::always}, {"never", colour_wish::never}};
  command
      .add_option("--color", options.colour,
                  "Colours: auto (default) on terminals that have them, unless NO_COLOR is set; always; never")
      ->transform(one_of("auto|always|never", wishes))
      ->type_name("auto|always|never");
  command.add_flag_callback(
      "-q,--quiet",
      [&options] {
        options.quiet = true;
        keep_notes_back();
      },
      "No progress and no notes on stderr; errors are told all the same");
}

void add_redact_option(CLI::App& command, bool& redact) {
  command.add_flag("--redact", redact, "Show types and sizes in place of what values hold; keys stay");
}

dm::inspect::arena_file open_as_asked(const std::filesystem::path& file) {
  return dm::inspect::arena_file::open(file, use_of_journals);
}

dm::inspect::arena_file open_with_slots(const std::filesystem::path& file) {
  auto arena = open_as_asked(file);
  if (arena.has_newer_format()) throw dm::error(dm::errc::newer_format, file.string(), arena.findings().front().text);
  if (!arena.has_layout())
    throw dm::error(dm::errc::damaged, file.string(),
                    "the header is damaged so that the slots cannot be found. Run 'dm-inspect check' to see what is "
                    "wrong, and restore a copy");
  // What is shown is then not what opening it would give. Who looks again and again is told once, and not in the midst of a
  // screen.
  static std::string told;
  if (arena.journal() && !arena.journal()->reason.empty()) {
    const std::string now = file.string() + ": " + arena.journal()->reason;
    if (told == now) return arena;
    told = now;
    complain(dm::escaped(arena.journal()->reason) +
             (arena.journal()->is_applied
                  ? fmt::format(". Shown is commit {}", arena.journal()->shown_commit)
                  : std::string(". Shown is the arena alone, whose parts may be of different commits")));
  }
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
  if (arena.left() == dm::inspect::left_state::open && !(arena.journal() && arena.journal()->is_applied))
    complain("note: the file is in use, and what is shown may be halfway through a change");
}

}  // namespace tool
