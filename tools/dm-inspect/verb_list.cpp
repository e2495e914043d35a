// list: the shared-memory segments there are, and which of them are left over.
#include <fmt/format.h>

#include "deferred_map/format/value_text.hpp"
#include "segments.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

void print_table(const std::vector<dm::shm_info>& segments, bool is_coloured) {
  if (segments.empty()) {
    fmt::print("There are no segments.\n");
    return;
  }
  std::size_t name_columns = 4, type_columns = 4;
  for (const dm::shm_info& each : segments) {
    name_columns = std::max(name_columns, dm::escaped(each.name).size());
    type_columns = std::max(type_columns, dm::escaped(each.type_name).size());
  }
  const std::int64_t now = now_unix_ns();
  fmt::print("{:<{}}  {:>10}  {:<{}}  {:>13}  {:>5}  {:>5}  {:>8}  {}\n", "name", name_columns, "memory", "type",
             type_columns, "slots", "alive", "dead", "opened", "use");
  for (const dm::shm_info& each : segments) {
    const std::string use = each.fault.empty() ? use_of(each) : "(" + dm::escaped(each.fault) + ")";
    const char* const colour = !is_coloured          ? ""
                               : !each.fault.empty() ? "\x1b[31m"
                               : each.attached == 0  ? "\x1b[33m"
                                                     : "\x1b[32m";
    const bool is_known = !each.kind.empty();
    fmt::print("{:<{}}  {:>10}  {:<{}}  {:>13}  {:>5}  {:>5}  {:>8}  {}{}{}\n", dm::escaped(each.name), name_columns,
               short_size(each.allocated_bytes), dm::escaped(each.type_name), type_columns,
               is_known ? with_commas(each.slot_count) : "", is_known ? std::to_string(each.attached) : "",
               is_known ? std::to_string(each.dead) : "", is_known ? age_text(each.last_opened_unix_ns, now) : "",
               colour, use, is_coloured ? "\x1b[0m" : "");
  }
}

int show(const output_options& options) {
  const std::vector<dm::shm_info> segments = dm::shm::list();
  if (options.format == output_format::json) {
    const auto out = json_records();
    out->begin(json_head("list"), "segments");
    for (const dm::shm_info& each : segments) out->record(segment_record(each));
    out->end(json::object());
  } else {
    print_table(segments, colours(options.colour) != dm::inspect::palette::none);
  }
  return exit_clean;
}

}  // namespace

verb make_list(CLI::App& program) {
  CLI::App* command = program.add_subcommand("list", "Shared-memory segments, who uses them, which are left over");
  auto options = std::make_shared<output_options>();
  add_output_options(*command, *options);
  command->footer(
      "Alive are maps that have the segment open for writing; those that only read are not seen. Dead are those whose\n"
      "process died and whose slots nobody gave back yet. Left over is a segment that nobody has open: it stays until\n"
      "it is removed or the machine stops. 'opened' is how long ago somebody last opened it for writing.\n\n"
      "Examples:\n"
      "  dm-inspect list\n"
      "  dm-inspect list --format json | jq -r '.segments[] | select(.use == \"left over\").name'");
  return {command, [options] { return show(*options); }};
}

}  // namespace tool
