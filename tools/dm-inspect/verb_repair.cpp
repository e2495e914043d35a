// repair: a mended copy of a file with faults, or the mended file in its place.
#include <fmt/format.h>

#include "deferred_map/format/value_text.hpp"
#include "deferred_map/inspect/repair.hpp"
#include "progress.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

using dm::inspect::check_report;
using dm::inspect::finding;
using dm::inspect::repair_report;
using dm::inspect::severity;

struct repair_options : common_options {
  std::filesystem::path output;
  bool in_place = false;
  bool no_backup = false;
  bool dry_run = false;
  std::size_t limit = 20;
};

std::filesystem::path backup_of(const repair_options& options) {
  if (options.no_backup) return {};
  std::filesystem::path backup = options.file;
  backup += ".bak";
  return backup;
}

repair_report run_repair(const repair_options& options) {
  progress shown_to_people("repair", 100, options.quiet);
  const dm::inspect::repair_options how{
      .listed_per_rule_max = options.limit == 0 ? ~std::size_t{0} : options.limit,
      .progress = [&](std::uint64_t done, std::uint64_t of) { shown_to_people.at(of == 0 ? 0 : 100 * done / of); }};
  if (options.in_place && !options.dry_run) return dm::inspect::repair_in_place(options.file, backup_of(options), how);
  const auto arena = dm::inspect::arena_file::open(options.file);
  return options.dry_run ? dm::inspect::plan_repair(arena, how) : dm::inspect::repair_to(arena, options.output, how);
}

/// What the mended file is, or why there is none.
std::string result_of(const repair_options& options, const repair_report& report) {
  if (!report.is_needed) return "nothing to repair";
  if (!report.refusal.empty()) return report.refusal;
  if (!report.after) return "nothing was changed: a dry run";
  std::string where = dm::escaped((options.in_place ? options.file : options.output).string());
  if (options.in_place && !options.no_backup) {
    const auto backup = backup_of(options), journal = dm::inspect::journal_path_of(backup);
    std::error_code unseen;
    where += ", as it was in " + dm::escaped(backup.string());
    if (std::filesystem::exists(journal, unseen)) where += " and " + dm::escaped(journal.string());
  }
  return (report.is_clean() ? "repaired: " : "repaired, and faults are left: ") + where +
         (report.slots_lost == 0 ? "" : "; " + counted(report.slots_lost, "slot") + " could not be saved");
}

/// Of the findings before, those that have to do with repairing.
bool is_shown(const finding& found) { return found.level != severity::note || found.repairable; }

void print_table(const repair_options& options, const repair_report& report) {
  for (const finding& found : report.before.findings.listed()) {
    if (!report.is_needed || !is_shown(found)) continue;
    const std::string place = found.slot          ? "slot " + std::to_string(*found.slot)
                              : found.byte_offset ? "byte " + std::to_string(*found.byte_offset)
                                                  : "";
    fmt::print("{:<8} {:<22} {}\n", found.repairable ? (report.after ? "mended" : "can be") : "left", found.rule,
               place);
    print_field("", found.text);
    if (found.repairable) print_field("", "-> " + std::string(dm::inspect::mending_of(found.rule)));
  }
  if (report.is_needed && report.before.findings.not_listed() != 0)
    fmt::print("\nNot listed: {} more\n", with_commas(report.before.findings.not_listed()));
  print_field("Result", result_of(options, report));
}

void print_as_json(const repair_options& options, const repair_report& report) {
  json document = {
      {"schema_version", output_schema_version},
      {"verb", "repair"},
      {"file", options.file.string()},
      {"dry_run", options.dry_run},
      {"needed", report.is_needed},
      {"repaired", report.after.has_value()},
      {"output", report.after ? json((options.in_place ? options.file : options.output).string()) : json()},
      {"backup", report.after && options.in_place && !options.no_backup ? json(backup_of(options).string()) : json()}};
  json findings = json::array();
  for (const finding& found : report.before.findings.listed()) {
    if (!is_shown(found)) continue;
    findings.push_back(
        {{"rule", found.rule},
         {"severity", dm::inspect::to_string(found.level)},
         {"slot", found.slot ? json(*found.slot) : json()},
         {"byte_offset", found.byte_offset ? json(*found.byte_offset) : json()},
         {"text", found.text},
         {"repairable", found.repairable},
         {"mending", found.repairable ? json(std::string(dm::inspect::mending_of(found.rule))) : json()}});
  }
  document["findings"] = findings;
  document["not_listed"] = report.before.findings.not_listed();
  document["slots_lost"] = report.slots_lost;
  document["errors_left"] = report.after ? json(report.after->findings.total(severity::error)) : json();
  document["text"] = result_of(options, report);
  print_json(document);
}

int run(const repair_options& options) {
  const int ways = (options.output.empty() ? 0 : 1) + (options.in_place ? 1 : 0);
  if (ways > 1) throw usage_error("--output and --in-place exclude each other");
  if (ways == 0 && !options.dry_run)
    throw usage_error("say where the mended file is to be: --output COPY or --in-place; or --dry-run to look only");
  if (options.no_backup && !options.in_place) throw usage_error("--no-backup goes with --in-place");
  const repair_report report = run_repair(options);
  if (options.format == output_format::json)
    print_as_json(options, report);
  else
    print_table(options, report);
  if (!report.is_needed) return exit_clean;
  const int corrected = report.after ? exit_corrected : exit_clean;
  return corrected | (report.after && report.after->is_clean() ? exit_clean : exit_faults_left);
}

}  // namespace

verb make_repair(CLI::App& program) {
  CLI::App* command =
      program.add_subcommand("repair", "Makes a mended copy of a file with faults, or mends it in place");
  auto options = std::make_shared<repair_options>();
  add_file_option(*command, options->file);  // always with its journal
  add_output_options(*command, *options);
  command->add_option("--output", options->output, "The mended copy. An existing file is never replaced")
      ->type_name("COPY");
  command->add_flag("--in-place", options->in_place,
                    "Put the mended file in FILE's place, and keep FILE as it was as FILE.bak");
  command->add_flag("--no-backup", options->no_backup, "With --in-place: do not keep it");
  command->add_flag("--dry-run", options->dry_run, "Say what would be done, and change nothing");
  command->add_option("--limit", options->limit, "List at most N findings of each rule; 0 lists all (default 20)")
      ->check(whole_number())
      ->type_name("N");
  command->footer(
      "Counts, index and marks are rebuilt from the versions of the slots, and the header from its checksum; values "
      "are\n"
      "kept as they are. What is done about which fault is told in docs/INSPECT.md. A repair that is killed leaves "
      "the\n"
      "file as it was. Of a durable map's file, the mended one has all commits of the journal that can be read; in "
      "place,\n"
      "the journal goes to FILE.bak-journal. In place, nobody may have the file open. Room for a copy is needed either "
      "way.\n"
      "Exits with 0 where there was nothing to do, 1 where the mended file is sound, 5 where faults are left in it, 4 "
      "where\n"
      "nothing was done about faults (a dry run; or none can be mended), 8 where it could not run.\n\n"
      "Examples:\n"
      "  dm-inspect repair stock.arena --dry-run\n"
      "  dm-inspect repair stock.arena --output mended.arena\n"
      "  dm-inspect repair stock.arena --in-place");
  return {command, [options] { return run(*options); }};
}

}  // namespace tool
