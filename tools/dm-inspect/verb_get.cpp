// get: what keys name.
#include <fmt/format.h>

#include "deferred_map/format/value_text.hpp"
#include "records.hpp"
#include "slot_record.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

using dm::inspect::key_parts;
using dm::inspect::key_state;
using dm::inspect::lookup_result;

struct get_options : common_options {
  bool redact = false;
  std::vector<std::string> keys;
};

std::vector<key_parts> parsed(const std::vector<std::string>& texts) {
  std::vector<key_parts> keys;
  for (const std::string& text : texts) {
    const auto key = dm::inspect::parse_key_parts(text);
    if (!key)
      throw usage_error(
          fmt::format("'{}' is no key. A key is index:generation, as 3:1, or its 64 bits, as 0x700000003", text));
    keys.push_back(*key);
  }
  return keys;
}

json record_of(const key_parts& key, const lookup_result& found) {
  json record = {{"key", key_text(key.index, key.generation)},
                 {"bits", hex_text(key.bits())},
                 {"state", dm::inspect::to_string(found.state)},
                 {"text", found.to_string()}};
  if (found.state != key_state::no_such_slot && found.state != key_state::unreadable) {
    record["slot_state"] = dm::to_string(found.slot.state());
    record["slot_generation"] = found.slot.generation();
    record["generations_apart"] = found.generations_apart;
  }
  return record;
}

int show(const get_options& options) {
  const std::vector<key_parts> keys = parsed(options.keys);
  const auto arena = open_with_slots(options.file);
  const dm::schema schema = schema_or_bytes(arena);
  if (!arena.schema()) complain("note: values are shown as bytes: " + dm::escaped(arena.schema_reason()));
  const bool as_table = options.format == output_format::table;
  const auto out =
      records(options.format,
              {.style = {.redact = options.redact},
               .columns = {"key", "bits", "state", "text", "slot_state", "slot_generation", "generations_apart"},
               .value_schema = &schema});
  bool all_live = true;
  if (!as_table) out->begin(json_head("get", arena), "keys");
  for (const key_parts& key : keys) {
    const lookup_result found = lookup(arena, key);
    all_live = all_live && found.state == key_state::live;
    const bool is_live = found.state == key_state::live;
    if (as_table)
      fmt::print("{}  {}\n", key_text(key.index, key.generation),
                 is_live ? value_text(schema, found.value, options.redact) : found.to_string());
    else if (is_live)
      out->record(record_of(key, found), {schema, found.value});
    else
      out->record(record_of(key, found));
  }
  if (!as_table) out->end(json::object());
  return all_live ? exit_clean : exit_faults_left;
}

}  // namespace

verb make_get(CLI::App& program) {
  CLI::App* command = program.add_subcommand("get", "What keys name: a value, or since when no more");
  auto options = std::make_shared<get_options>();
  add_common_options(*command, *options, all_formats);
  add_redact_option(*command, options->redact);
  command->add_option("KEY", options->keys, "index:generation, as maps print keys, or the 64 bits of a key as 0x...")
      ->required()
      ->type_name("");
  command->footer(
      "Exits with 4 where a key is not live.\n\n"
      "Examples:\n"
      "  dm-inspect get stock.arena 3:1\n"
      "  dm-inspect get stock.arena 0x0000000700000003 17:4 --format json");
  return {command, [options] { return show(*options); }};
}

}  // namespace tool
