// One slot, for people and for programs.
#pragma once

#include <string>

#include "output.hpp"
#include "value_json.hpp"

namespace tool {

/// What is in the slot: its value, or what else there is to say.
std::string slot_remark(const dm::inspect::slot_view& slot, const dm::schema& schema);

/// {"slot": 3, "state": "occupied", "generation": 1, "version": 7, "key": "3:1", "value": {...}}. Key and
/// value only where there is one; "problem" where the slot cannot be what it says.
json slot_record(const dm::inspect::slot_view& slot, const dm::schema& schema);

/// "3:1"
std::string key_text(std::uint32_t index, std::uint32_t generation);

}  // namespace tool
