// The verbs of dm-inspect: each has a file of its own that declares its options and does its work.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "deferred_map/inspect.hpp"
#include "exit_codes.hpp"
#include "output.hpp"
#include "terminal.hpp"

namespace tool {

/// Does a verb's work once its options are known; returns an exit code. Errors: dm::error, usage_error.
using runner = std::function<int()>;

struct verb {
  CLI::App* command;
  runner run;
};

/// Adds a verb to the command line.
using verb_maker = verb (*)(CLI::App& program);
verb make_info(CLI::App& program);
verb make_slots(CLI::App& program);
verb make_get(CLI::App& program);
verb make_check(CLI::App& program);
verb make_export(CLI::App& program);
verb make_import(CLI::App& program);
verb make_repair(CLI::App& program);
verb make_schema(CLI::App& program);
verb make_stats(CLI::App& program);
verb make_map(CLI::App& program);
verb make_owners(CLI::App& program);
verb make_diff(CLI::App& program);
verb make_watch(CLI::App& program);
verb make_log(CLI::App& program);
verb make_list(CLI::App& program);
verb make_gc(CLI::App& program);

/// Takes digits alone: a number below 0 would otherwise be read as a very large one.
CLI::Validator whole_number();
/// Takes one of these names, given as "table|json", for the value it stands for, and nothing else.
template <class Enum>
CLI::Validator one_of(std::string names, std::map<std::string, Enum> meanings) {
  return CLI::Validator(
      [names = std::move(names), meanings = std::move(meanings)](std::string& text) -> std::string {
        const auto found = meanings.find(text);
        if (found == meanings.end()) return "'" + text + "' is none of " + names;
        text = std::to_string(static_cast<int>(found->second));
        return {};
      },
      "");
}

/// How every verb is to print.
struct output_options {
  output_format format = output_format::table;
  colour_wish colour = colour_wish::automatic;
  bool quiet = false;
};
/// Declares --color and --quiet, which every verb has.
void add_print_options(CLI::App& command, output_options& options);
/// Declares these and --format. `formats_offered` is a list as "table|json".
void add_output_options(CLI::App& command, output_options& options, const std::string& formats_offered = "table|json");

/// What every verb is told that looks at an arena. Declares FILE, which may be "shm:NAME", and the output's options.
struct common_options : output_options {
  std::filesystem::path file;
};
void add_file_option(CLI::App& command, std::filesystem::path& file);
void add_common_options(CLI::App& command, common_options& options, const std::string& formats_offered = "table|json");
/// The path of a segment that is named "shm:NAME"; any other path as it is. For options that name an arena. Errors: usage_error.
std::string arena_path(const std::string& text);
void add_format_option(CLI::App& command, output_format& format, const std::string& names, const std::string& help);
/// Of verbs that show values.
void add_redact_option(CLI::App& command, bool& redact);
inline constexpr const char* all_formats = "table|json|ndjson|csv";

/// Opens the arena for a verb that needs its slots. Errors: dm::error also where the header does not tell
/// where they are, or is of a newer format.
dm::inspect::arena_file open_with_slots(const std::filesystem::path& file);

/// Opens it as the command line asks for: with its journal's commits, or without them. Errors: dm::error.
dm::inspect::arena_file open_as_asked(const std::filesystem::path& file);

/// The arena's schema, or where it cannot be read, one that says "bytes".
dm::schema schema_or_bytes(const dm::inspect::arena_file& arena);

/// Tells people, not programs, that what they see may be halfway through a change.
void warn_if_in_use(const dm::inspect::arena_file& arena);

}  // namespace tool
