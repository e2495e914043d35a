// owners: who has an arena open, who died with it, what each holds; and giving back what the dead hold.
#include <fmt/format.h>

#include "deferred_map/format/value_text.hpp"
#include "deferred_map/sharing/attachment.hpp"
#include "value_json.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

using dm::inspect::owner;
using dm::inspect::owner_report;
using dm::inspect::owner_state;

struct owners_options : common_options {
  bool reap = false;
};

bool is_shared(const dm::inspect::arena_file& arena) {
  return arena.layout().kind == static_cast<std::uint32_t>(dm::arena_kind::shared);
}

/// The arena's type as its own file describes it: all that attaching needs to know of it.
dm::stored_type type_in(const dm::inspect::arena_file& arena) {
  if (!arena.schema())
    throw dm::error(dm::errc::damaged, arena.path(),
                    "the file's description of its type cannot be read (" + dm::escaped(arena.schema_reason()) +
                        "), so nothing is changed. Restore a copy");
  const dm::arena_header& header = arena.layout();
  dm::stored_type type;
  type.slot = {header.slot_stride_bytes, header.version_offset, header.value_offset, header.value_size_bytes,
               header.value_align_bytes};
  type.description = *arena.schema();
  type.schema_version = header.schema_version;
  return type;
}

/// Attaches as any program would, which gives back what the dead hold, and detaches. Returns how many were dead.
std::uint32_t reap(const dm::inspect::arena_file& arena) {
  const auto attached = dm::sharing::attachment::open(arena.path(), type_in(arena), {});
  const std::uint32_t reaped = attached->arena().reaped_at_open();
  attached->close();
  return reaped;
}

std::string state_text(owner_state state, bool is_coloured) {
  const std::string padded = fmt::format("{:<7}", dm::inspect::to_string(state));
  if (!is_coloured || (state != owner_state::alive && state != owner_state::dead)) return padded;
  return fmt::format("\x1b[{}m{}\x1b[0m", state == owner_state::alive ? 32 : 31, padded);
}

void print_table(const dm::inspect::arena_file& arena, const owner_report& report, const owners_options& options) {
  const bool is_coloured = colours(options.colour) != dm::inspect::palette::none;
  if (!is_shared(arena) && !arena.locks().holders.empty()) print_field("In use by", dm::escaped(arena.locks().holders));
  if (report.owners.empty()) {
    fmt::print("{}\n", is_shared(arena) ? "Nobody is attached, and nobody died attached."
                                        : "Nobody has opened it for writing since it was made.");
    return;
  }
  fmt::print("{:>3}  {:>7}  {:<15}  {:<23}  {:<7}  {:>10}  {:>10}  {:>8}\n", "id", "pid", "program", "since", "state",
             "reserved", "kept ready", "updating");
  for (const owner& each : report.owners)
    fmt::print("{:>3}  {:>7}  {:<15}  {:<23}  {}  {:>10}  {:>10}  {:>8}\n",
               is_shared(arena) ? std::to_string(each.id) : "-", each.pid, dm::escaped(each.program),
               time_text(each.since_unix_ns), state_text(each.state, is_coloured), with_commas(each.reserved),
               with_commas(each.cached), with_commas(each.updating));
}

void print_as_json(const dm::inspect::arena_file& arena, const owner_report& report, std::uint32_t reaped) {
  const auto out = json_records();
  json head = json_head("owners", arena);
  head["kind"] = dm::to_string(static_cast<dm::arena_kind>(arena.layout().kind));
  head["left"] = dm::inspect::to_string(arena.left());
  head["lock_holders"] = text_json(arena.locks().holders);
  out->begin(head, "owners");
  for (const owner& each : report.owners)
    out->record({{"id", is_shared(arena) ? json(each.id) : json(nullptr)},
                 {"pid", each.pid},
                 {"program", text_json(each.program)},
                 {"since", each.since_unix_ns == 0 ? json(nullptr) : json(time_json(each.since_unix_ns))},
                 {"state", dm::inspect::to_string(each.state)},
                 {"reserved", each.reserved},
                 {"kept_ready", each.cached},
                 {"updating", each.updating}});
  out->end({{"alive", report.count(owner_state::alive)},
            {"dead", report.count(owner_state::dead)},
            {"reaped", reaped},
            {"nobodys_slots", report.nobodys_total}});
}

int show(const owners_options& options) {
  auto arena = open_with_slots(options.file);
  if (!arena.control())
    throw dm::error(dm::errc::damaged, options.file.string(),
                    "the file ends before it says who had it open. Run 'dm-inspect check' to see what is wrong");
  if (options.reap && !is_shared(arena))
    throw usage_error("--reap is for shared maps: of other files, whoever opens them next gives back what was held");
  owner_report report = find_owners(arena);
  std::uint32_t reaped = 0;
  if (options.reap && report.count(owner_state::dead) != 0) {
    reaped = reap(arena);
    arena = open_with_slots(options.file);
    report = find_owners(arena);
  }
  if (options.format == output_format::json)
    print_as_json(arena, report, reaped);
  else
    print_table(arena, report, options);
  if (reaped != 0 && options.format == output_format::table)
    fmt::print("\nGave back what {} held that had died.\n", counted(reaped, "owner"));
  if (const std::size_t dead = report.count(owner_state::dead); dead != 0 && is_shared(arena))
    complain(fmt::format("note: {} dead: what they hold is given back by whoever attaches next, or by --reap",
                         dead == 1 ? "one is" : std::to_string(dead) + " are"));
  if (!report.table_is_readable) complain("the table of who is attached cannot be read");
  if (report.nobodys_total != 0)
    complain(fmt::format("{} named an owner that there is not, the first of them slot {}. Run 'dm-inspect check'",
                         counted(report.nobodys_total, "slot"), report.nobodys.front()));
  const bool is_sound = report.nobodys_total == 0 && report.table_is_readable && !arena.head_is_damaged();
  return (reaped != 0 ? exit_corrected : exit_clean) | (is_sound ? exit_clean : exit_faults_left);
}

}  // namespace

verb make_owners(CLI::App& program) {
  CLI::App* command =
      program.add_subcommand("owners", "Who has it open, alive or dead, what each holds; --reap gives back");
  auto options = std::make_shared<owners_options>();
  add_common_options(*command, *options);
  command->add_flag("--reap", options->reap,
                    "Give back what dead owners of a shared map hold, and finish their updates. Writes to the arena");
  command->footer(
      "Alive is who holds the kernel's lock; no pid is asked. Of a file that one process uses at a time it is told "
      "who\n"
      "has it, or had it last. With --reap this program attaches for a moment, as any other would. Exits with 1 where\n"
      "something was given back.\n\n"
      "Examples:\n"
      "  dm-inspect owners shm:quotes\n"
      "  dm-inspect owners shm:quotes --reap\n"
      "  dm-inspect owners stock.arena --format json | jq '.owners[] | select(.state == \"dead\")'");
  return {command, [options] { return show(*options); }};
}

}  // namespace tool
