// One slot, for people and for programs.
#pragma once

#include <string>

#include "output.hpp"
#include "value_json.hpp"

namespace tool {

/// What is in the slot: its value, or what else there is to say.
std::string slot_remark(const dm::inspect::slot_view& slot, const dm::schema& schema, bool redact);

/// The value on one line for people.
std::string value_text(const dm::schema& schema, std::span<const std::byte> value, bool redact);

/// Whether there is a value in the slot, which then is a part of its record.
bool has_value(const dm::inspect::slot_view& slot);

/// {"slot": 3, "state": "occupied", "generation": 1, "version": 7, "key": "3:1"}. The key only where there is one;
/// "problem" where the slot cannot be what it says.
json slot_record(const dm::inspect::slot_view& slot, const dm::schema& schema);

/// "3:1"
std::string key_text(std::uint32_t index, std::uint32_t generation);

}  // namespace tool
