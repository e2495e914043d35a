// check: every rule that does not hold, wherever it does not.
#include <fmt/format.h>

#include "deferred_map/format/value_text.hpp"
#include "progress.hpp"
#include "records.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

using dm::inspect::check_report;
using dm::inspect::finding;
using dm::inspect::severity;

struct check_options : common_options {
  std::size_t limit = 20;
};

std::string place_of(const finding& found) {
  if (found.slot) return "slot " + std::to_string(*found.slot);
  if (found.byte_offset) return "byte " + std::to_string(*found.byte_offset);
  return {};
}

std::string verdict(const check_report& report) {
  const auto total = [&](severity level, const char* noun) { return counted(report.findings.total(level), noun); };
  return fmt::format("{}: {}, {}, {}", report.is_clean() ? "clean" : "faults", total(severity::error, "error"),
                     total(severity::warning, "warning"), total(severity::note, "note"));
}

void print_table(const check_report& report) {
  for (const finding& found : report.findings.listed()) {
    fmt::print("{:<8} {:<22} {}\n", dm::inspect::to_string(found.level), found.rule, place_of(found));
    print_field("", found.text);
  }
  if (report.findings.not_listed() != 0) {
    fmt::print("\nNot listed: {} more. In all:\n", with_commas(report.findings.not_listed()));
    for (const auto& [rule, count] : report.findings.by_rule())
      fmt::print("  {:<22} {:>14}\n", rule, with_commas(count));
  }
  if (!report.findings.listed().empty()) fmt::print("\n");
  print_field("Examined",
              counted(report.slots_examined, "slot") + (report.is_complete ? "" : ", and not all there are"));
  print_field("  as found",
              fmt::format("{} occupied, {} reserved, {} vacant, {} retired{}", with_commas(report.occupied),
                          with_commas(report.reserved), with_commas(report.vacant), with_commas(report.retired),
                          report.impossible == 0 ? "" : ", " + with_commas(report.impossible) + " impossible"));
  print_field("Result", verdict(report));
}

void print_records(output_format format, const dm::inspect::arena_file& arena, const check_report& report) {
  const auto out = records(format, {.columns = {"rule", "severity", "repairable", "slot", "byte_offset", "text"}});
  json head = json_head("check", arena);
  head["left"] = dm::inspect::to_string(arena.left());
  out->begin(head, "findings");
  for (const finding& found : report.findings.listed()) {
    json record = {{"rule", found.rule}, {"severity", dm::inspect::to_string(found.level)}};
    record["slot"] = found.slot ? json(*found.slot) : json(nullptr);
    record["byte_offset"] = found.byte_offset ? json(*found.byte_offset) : json(nullptr);
    record["repairable"] = found.repairable;
    record["text"] = found.text;
    out->record(record);
  }
  json rules = json::object();
  for (const auto& [rule, count] : report.findings.by_rule()) rules[std::string(rule)] = count;
  out->end({{"not_listed", report.findings.not_listed()},
            {"errors", report.findings.total(severity::error)},
            {"warnings", report.findings.total(severity::warning)},
            {"notes", report.findings.total(severity::note)},
            {"by_rule", rules},
            {"complete", report.is_complete},
            {"slots_examined", report.slots_examined},
            {"occupied", report.occupied},
            {"reserved", report.reserved},
            {"vacant", report.vacant},
            {"retired", report.retired},
            {"impossible", report.impossible},
            {"clean", report.is_clean()}});
}

int show(const check_options& options) {
  const auto arena = open_as_asked(options.file);
  if (arena.has_newer_format())
    throw dm::error(dm::errc::newer_format, options.file.string(), arena.findings().front().text);
  progress shown_to_people("check", arena.slot_count(), options.quiet);
  const check_report report =
      dm::inspect::check(arena, {.listed_per_rule_max = options.limit == 0 ? ~std::size_t{0} : options.limit,
                                 .progress = [&](std::uint64_t done, std::uint64_t) { shown_to_people.at(done); }});
  shown_to_people.clear();
  if (options.format == output_format::table)
    print_table(report);
  else
    print_records(options.format, arena, report);
  return report.is_clean() ? exit_clean : exit_faults_left;
}

}  // namespace

verb make_check(CLI::App& program) {
  CLI::App* command = program.add_subcommand("check", "Everything that is wrong with a file");
  auto options = std::make_shared<check_options>();
  add_common_options(*command, *options, all_formats);
  command
      ->add_option("--limit", options->limit,
                   "List at most N findings of each rule and count the rest; 0 lists all (default 20)")
      ->check(whole_number())
      ->type_name("N");
  command->footer(
      "Reads every slot once, in constant memory. Exits with 4 where there are errors. Warnings and notes "
      "are none:\n"
      "a note says what the next to open the file mends, or what is on its way in a file that is in use.\n\n"
      "Examples:\n"
      "  dm-inspect check stock.arena && echo sound\n"
      "  dm-inspect check stock.arena --format csv --limit 0 > faults.csv");
  return {command, [options] { return show(*options); }};
}

}  // namespace tool
