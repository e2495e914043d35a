// info: what a file is, how full it is, how it was left.
#include <fmt/format.h>

#include "deferred_map/format/value_text.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

using dm::inspect::summary;

std::string recovery_text(const summary& s) {
  const dm::recovery_record& record = s.last_recovery;
  std::string text = fmt::format("{}: {}", time_text(record.unix_ns),
                                 dm::to_string(static_cast<dm::recovery_outcome>(record.outcome)));
  if (record.killed_pid != 0)
    text += fmt::format(", after process {}{} was killed", record.killed_pid,
                        s.last_recovery_program.empty() ? "" : " (" + s.last_recovery_program + ")");
  if (record.slots_examined != 0) text += "; " + counted(record.slots_examined, "slot") + " examined";
  if (record.reserved_given_back != 0)
    text += ", " + counted(record.reserved_given_back, "reserved slot") + " given back";
  if (record.updates_finished != 0) text += ", " + counted(record.updates_finished, "update") + " finished";
  if (record.impossible_mended != 0)
    text += ", " + counted(record.impossible_mended, "unreadable slot") + " made vacant";
  return text + fmt::format(" (recovery {} of this file)", with_commas(record.recoveries_total));
}

std::string share(std::uint64_t part, std::uint64_t whole) {
  const std::string count = with_commas(part);
  return whole == 0
             ? count
             : fmt::format("{:<14} {:>5.1f} %", count, 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

using dm::inspect::journal_state;

void print_journal(const journal_state& journal) {
  fmt::print("\n");
  if (!journal.is_there) {
    print_field("Journal", journal.reason.empty() ? "none, and none is needed" : dm::escaped(journal.reason));
    return;
  }
  print_field("Journal", dm::escaped(journal.path.string()));
  print_field("  size",
              fmt::format("{}, on disk {}", bytes_text(journal.size_bytes), bytes_text(journal.allocated_bytes)));
  for (const auto& generation : journal.generations)
    print_field(
        generation.header.generation == journal.generations.back().header.generation ? "  generation" : "  older one",
        fmt::format("{}: {} from {} on, {}; ends at byte {}", with_commas(generation.header.generation),
                    counted(generation.commits, "commit"), with_commas(generation.header.first_commit),
                    bytes_text(generation.record_bytes), with_commas(generation.end_offset)));
  if (journal.commits != 0)
    print_field("  commits", fmt::format("{} to {}, {}", with_commas(journal.first_commit),
                                         with_commas(journal.last_commit), bytes_text(journal.record_bytes)));
  if (journal.last_unix_ns != 0) print_field("  last commit", time_text(journal.last_unix_ns));
  if (journal.vouched_commit != 0)
    print_field("  on the disk", fmt::format("commit {} at least", with_commas(journal.vouched_commit)));
  if (journal.is_torn) print_field("  torn", "behind the last commit lies a part of another, cut off or on its way");
  print_field("  opening", journal.reason.empty() ? "replays " + counted(journal.commits_to_replay, "commit")
                                                  : "is refused: " + dm::escaped(journal.reason));
}

void print_table(const summary& s) {
  print_field("File", s.path);
  print_field("Kind", fmt::format("{}, format version {}", s.kind, s.format_version));
  if ((s.compatible_features | s.incompatible_features) != 0)
    print_field("Features",
                fmt::format("compatible {:#x}, incompatible {:#x}", s.compatible_features, s.incompatible_features));
  print_field("Uuid", s.uuid);
  print_field("Created", time_text(s.created_unix_ns));
  print_field("Size", fmt::format("{}, on disk {}", bytes_text(s.file_size_bytes), bytes_text(s.allocated_bytes)));
  fmt::print("\n");
  print_field("Type", s.type_version == 0 ? s.type_name : fmt::format("{}, version {}", s.type_name, s.type_version));
  print_field("Value", fmt::format("{}, aligned to {}", bytes_text(s.value_size_bytes), s.value_align_bytes));
  print_field("Slot", fmt::format("{}, at most {}", bytes_text(s.slot_stride_bytes), counted(s.slots_max, "slot")));
  fmt::print("\n");
  if (s.has_control) {
    print_field("Slots", with_commas(s.slot_count));
    if (s.has_counts) {
      print_field("  occupied", share(s.occupied, s.slot_count));
      print_field("  reserved", share(s.reserved, s.slot_count));
      print_field("  vacant", share(s.vacant, s.slot_count));
      print_field("  retired", share(s.retired, s.slot_count));
    }
    print_field("Room for", counted(s.capacity, "slot"));
    if (s.generation_floor != 0) print_field("Generation floor", with_commas(s.generation_floor));
    fmt::print("\n");
  }
  print_field("State", s.left_text);
  if (s.opened_unix_ns != 0)
    print_field("Last opened", fmt::format("{} by process {}{}", time_text(s.opened_unix_ns), s.owner_pid,
                                           s.owner_program.empty() ? "" : " (" + s.owner_program + ")"));
  if (s.last_recovery.unix_ns != 0) print_field("Last recovery", recovery_text(s));
  if (s.journal) print_journal(*s.journal);
  if (s.is_damaged) print_field("Damaged", "yes: run 'dm-inspect check' to see what is wrong");
}

const char* lock_name(dm::inspect::lock_state::mode mode) {
  switch (mode) {
    case dm::inspect::lock_state::mode::none:
      return "none";
    case dm::inspect::lock_state::mode::reading:
      return "reading";
    case dm::inspect::lock_state::mode::writing:
      return "writing";
    case dm::inspect::lock_state::mode::unknown:
      return "unknown";
  }
  return "unknown";
}

json time_or_null(std::int64_t unix_ns) { return unix_ns == 0 ? json(nullptr) : json(time_json(unix_ns)); }

json journal_json(const journal_state& journal) {
  const auto number = [](std::uint64_t n) { return n == 0 ? json(nullptr) : json(n); };
  json generations = json::array();
  for (const auto& generation : journal.generations)
    generations.push_back({{"generation", generation.header.generation},
                           {"first_commit", generation.header.first_commit},
                           {"last_commit", generation.last_commit},
                           {"commits", generation.commits},
                           {"record_bytes", generation.record_bytes},
                           {"start_offset", generation.header.start_offset},
                           {"end_offset", generation.end_offset}});
  return {{"path", dm::escaped(journal.path.string())},
          {"condition", dm::inspect::to_string(journal.condition)},
          {"reason", journal.reason.empty() ? json(nullptr) : json(dm::escaped(journal.reason))},
          {"present", journal.is_there},
          {"size_bytes", journal.size_bytes},
          {"allocated_bytes", journal.allocated_bytes},
          {"generations", generations},
          {"first_commit", number(journal.first_commit)},
          {"last_commit", number(journal.last_commit)},
          {"commits", journal.commits},
          {"record_bytes", journal.record_bytes},
          {"last_commit_time", time_or_null(journal.last_unix_ns)},
          {"durable_commit", number(journal.vouched_commit)},
          {"torn", journal.is_torn},
          {"arena_commit", journal.arena_commit},
          {"commits_to_replay", journal.commits_to_replay},
          {"applied", journal.is_applied},
          {"shown_commit", number(journal.shown_commit)}};
}

json to_json(const summary& s, json document) {
  document["kind"] = s.kind;
  document["format_version"] = s.format_version;
  document["compatible_features"] = s.compatible_features;
  document["incompatible_features"] = s.incompatible_features;
  document["uuid"] = s.uuid;
  document["created"] = time_json(s.created_unix_ns);
  document["file_size_bytes"] = s.file_size_bytes;
  document["allocated_bytes"] = s.allocated_bytes;
  document["type"] = {{"name", s.type_name},
                      {"version", s.type_version},
                      {"value_size_bytes", s.value_size_bytes},
                      {"value_align_bytes", s.value_align_bytes},
                      {"slot_stride_bytes", s.slot_stride_bytes}};
  document["slots_max"] = s.slots_max;
  document["slots"] = nullptr;
  document["last_owner"] = nullptr;
  document["last_recovery"] = nullptr;
  if (s.has_control) {
    document["slots"] = {{"count", s.slot_count},
                         {"occupied", s.occupied},
                         {"reserved", s.reserved},
                         {"vacant", s.vacant},
                         {"retired", s.retired},
                         {"capacity", s.capacity},
                         {"generation_floor", s.generation_floor}};
    if (!s.has_counts)
      for (const char* count : {"occupied", "reserved", "vacant", "retired"}) document["slots"][count] = nullptr;
    if (s.opened_unix_ns != 0)
      document["last_owner"] = {
          {"pid", s.owner_pid}, {"program", s.owner_program}, {"opened", time_json(s.opened_unix_ns)}};
  }
  if (const dm::recovery_record& record = s.last_recovery; record.unix_ns != 0)
    document["last_recovery"] = {{"time", time_or_null(record.unix_ns)},
                                 {"outcome", dm::to_string(static_cast<dm::recovery_outcome>(record.outcome))},
                                 {"slots_examined", record.slots_examined},
                                 {"reserved_given_back", record.reserved_given_back},
                                 {"updates_finished", record.updates_finished},
                                 {"impossible_mended", record.impossible_mended},
                                 {"killed_pid", record.killed_pid},
                                 {"killed_program", s.last_recovery_program},
                                 {"recoveries_total", record.recoveries_total}};
  document["left"] = dm::inspect::to_string(s.left);
  document["left_text"] = s.left_text;
  document["synced"] = s.is_synced;
  document["lock"] = lock_name(s.locks.held);
  document["lock_holders"] = s.locks.holders;
  document["damaged"] = s.is_damaged;
  document["journal"] = s.journal ? journal_json(*s.journal) : json(nullptr);
  return document;
}

int show(const common_options& options) {
  const auto arena = open_as_asked(options.file);
  const summary s = dm::inspect::summarize(arena);
  if (options.format == output_format::json)
    print_json(to_json(s, json_head("info", arena)));
  else
    print_table(s);
  return s.is_damaged ? exit_faults_left : exit_clean;
}

}  // namespace

verb make_info(CLI::App& program) {
  CLI::App* command = program.add_subcommand("info", "What a file is, how full it is, and how it was left");
  auto options = std::make_shared<common_options>();
  add_common_options(*command, *options);
  command->footer(
      "Takes constant time; of a durable map, as long as reading its journal. Exits with 4 where header, schema or "
      "counts are damaged.\n\n"
      "Examples:\n"
      "  dm-inspect info stock.arena\n"
      "  dm-inspect info shm:quotes --format json | jq .slots.occupied");
  return {command, [options] { return show(*options); }};
}

}  // namespace tool
