#include "slot_record.hpp"

#include <fmt/format.h>

#include "deferred_map/format/value_text.hpp"

namespace tool {
namespace {

/// What is wrong with the slot's version, or nothing.
std::string problem_of(const dm::inspect::slot_view& slot) {
  if (!slot.readable) return "cannot be read from the medium";
  if (!slot.possible) return fmt::format("impossible version {:#010x}", slot.version);
  return {};
}

}  // namespace

std::string key_text(std::uint32_t index, std::uint32_t generation) { return fmt::format("{}:{}", index, generation); }

bool has_value(const dm::inspect::slot_view& slot) {
  return slot.readable && slot.possible &&
         (slot.state() == dm::slot_state::occupied || slot.state() == dm::slot_state::updating);
}

std::string value_text(const dm::schema& schema, std::span<const std::byte> value, bool redact) {
  return redact ? dumped(value_json(schema, value, {.redact = true})) : dm::to_text(schema, value);
}

std::string slot_remark(const dm::inspect::slot_view& slot, const dm::schema& schema, bool redact) {
  if (const std::string problem = problem_of(slot); !problem.empty()) return "(" + problem + ")";
  if (slot.version == 0) return "(never used)";
  return has_value(slot) ? value_text(schema, slot.value, redact) : std::string();
}

json slot_record(const dm::inspect::slot_view& slot, const dm::schema& schema) {
  json record = {{"slot", slot.index},
                 {"state", dm::to_string(slot.state())},
                 {"generation", slot.generation()},
                 {"version", slot.version}};
  if (const std::string problem = problem_of(slot); !problem.empty()) {
    record["problem"] = problem;
  } else if (has_value(slot)) {
    record["key"] = key_text(slot.index, slot.generation());
    if (slot.value.size() < schema.fields.front().extent_bytes()) record["problem"] = "the file ends within the value";
  } else if (slot.state() == dm::slot_state::reserved) {
    record["key"] = key_text(slot.index, slot.generation());
  }
  return record;
}

}  // namespace tool
