// info: what a file is, how full it is, how it was left.
#include <fmt/format.h>

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
  return document;
}

int show(const common_options& options) {
  const auto arena = dm::inspect::arena_file::open(options.file);
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
  command->footer("Takes constant time. Exits with 4 where header, schema or counts are damaged.");
  return {command, [options] { return show(*options); }};
}

}  // namespace tool
