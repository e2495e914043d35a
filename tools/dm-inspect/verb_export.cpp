// export: all that a map's keys mean, as text, so that `import` makes the same map again.
#include <fmt/format.h>

#include "progress.hpp"
#include "records.hpp"
#include "schema_json.hpp"
#include "slot_record.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

using dm::inspect::slot_view;

struct export_options : common_options {
  bool redact = false;
};

/// What there is to say of a slot that holds no value; null where it goes without saying.
json remark(const slot_view& slot, std::uint32_t first_generation) {
  const auto say = [&](const char* state) {
    return json{{"slot", slot.index}, {"state", state}, {"generation", slot.generation()}};
  };
  // Not even the generation is known, so no life of the slot can be told from one that was.
  if (!slot.readable) return {{"slot", slot.index}, {"state", "unreadable"}};
  if (!slot.possible) return say("impossible");
  switch (slot.state()) {
    case dm::slot_state::vacant:
      return slot.version == 0 || slot.generation() == first_generation ? json() : say("vacant");
    case dm::slot_state::reserved:
      return say("reserved");
    case dm::slot_state::retired:
      return say("retired");
    default:
      return say("unreadable");  // a value of which the file has not all
  }
}

/// A CSV table has a key in every line.
json in_one_line(json record) {
  if (!record.contains("key"))
    record["key"] = key_text(record["slot"], record.value("generation", dm::version::retired_generation));
  if (!record.contains("state")) record["state"] = "occupied";
  return record;
}

int run(const export_options& options) {
  const auto arena = open_with_slots(options.file);
  if (!arena.schema())
    throw dm::error(dm::errc::damaged, options.file.string(), "values cannot be told apart: " + arena.schema_reason());
  warn_if_in_use(arena);
  const dm::schema& schema = *arena.schema();
  const bool as_table = options.format == output_format::csv;
  const auto out = records(
      options.format,
      {.style = {.redact = options.redact, .exact = true}, .columns = {"key", "state"}, .value_schema = &schema});
  const std::uint32_t floor = arena.control() ? arena.control()->generation_floor : 0;
  const std::uint32_t first_generation = std::max(floor, dm::version::first_generation);
  json head = json_head("export", arena);
  head["export_version"] = 1;
  head["kind"] = dm::to_string(static_cast<dm::arena_kind>(arena.layout().kind));
  add_type(head, schema, arena.layout());
  head["slots_max"] = arena.layout().slots_max;
  head["slot_count"] = arena.slot_count();
  head["generation_floor"] = floor;
  head["left"] = dm::inspect::to_string(arena.left());
  head["redacted"] = options.redact;
  head["fields"] = fields_json(schema);
  out->begin(head, "records");

  const bool in_use =
      arena.left() == dm::inspect::left_state::open && !(arena.journal() && arena.journal()->is_applied);
  std::uint64_t values = 0;
  std::uint64_t lost = 0;
  {
    progress shown_to_people("export", arena.slot_count(), options.quiet);
    dm::inspect::slot_scan scan(arena, {}, dm::inspect::slot_parts::versions_and_values);
    while (const slot_view* slot = scan.next()) {
      shown_to_people.at(slot->index);
      if (has_value(*slot) && slot->value.size() >= arena.layout().value_size_bytes) {
        json record = {{"key", key_text(slot->index, slot->generation())}};
        if (as_table) record = in_one_line(record);
        if (!in_use) {
          out->record(record, {schema, slot->value});
          ++values;
          continue;
        }
        // Of a file in use: read again until it is of one moment.
        const auto now = dm::inspect::lookup(arena, {slot->index, slot->generation()});
        if (now.state != dm::inspect::key_state::live) {
          const json gone = {{"slot", slot->index}, {"state", "removed"}, {"generation", slot->generation()}};
          out->record(as_table ? in_one_line(gone) : gone);
          continue;
        }
        out->record(record, {schema, now.value});
        ++values;
        continue;
      }
      lost += !slot->readable || !slot->possible || has_value(*slot);
      const json record = remark(*slot, first_generation);
      if (!record.is_null()) out->record(as_table ? in_one_line(record) : record);
    }
  }
  const std::uint32_t slots_said = arena.control() ? arena.control()->slot_count : arena.slot_count();
  lost += slots_said - arena.slot_count();
  // A table has no other place for what holds of the slots behind the last.
  if (as_table) out->record({{"key", key_text(arena.slot_count(), first_generation)}, {"state", "end"}});
  out->end({{"values", values}, {"lost", lost}});
  if (lost != 0)
    complain(fmt::format("{} could not be read and {} left out", counted(lost, "slot"), lost == 1 ? "was" : "were"));
  return lost != 0 || arena.head_is_damaged() ? exit_faults_left : exit_clean;
}

}  // namespace

verb make_export(CLI::App& program) {
  CLI::App* command = program.add_subcommand("export", "All keys and values as text, for programs and for 'import'");
  auto options = std::make_shared<export_options>();
  options->format = output_format::ndjson;
  add_common_options(*command, *options, "ndjson|json|csv");
  add_redact_option(*command, options->redact);
  command->footer(
      "One record for each value: its key, and the value by its fields. Slots without a value have one where their\n"
      "generation is not the first, so that keys that are dead stay dead. Numbers, text of any bytes and NaNs come "
      "back\n"
      "bit for bit. Padding, and what lies behind the NUL of a text, is not exported.\n"
      "Exits with 4 where something could not be read.\n\n"
      "Examples:\n"
      "  dm-inspect export stock.arena > stock.ndjson\n"
      "  dm-inspect export stock.arena --format csv --redact");
  return {command, [options] { return run(*options); }};
}

}  // namespace tool
