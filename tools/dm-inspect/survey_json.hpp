// What verbs that look at all slots have in common to say.
#pragma once

#include "output.hpp"

namespace tool {

json counts_json(const dm::inspect::slot_counts& counts);
/// The same with "first" before it.
json region_json(const dm::inspect::slot_region& region);
json unreadable_json(const dm::inspect::survey& found);
/// Takes the survey, with progress for `verb`, and says what could not be read.
dm::inspect::survey survey_of(const dm::inspect::arena_file& arena, const char* verb, std::uint64_t regions,
                              bool quiet);
/// exit_faults_left where the head is damaged, or a slot impossible or unreadable.
int exit_code_of(const dm::inspect::arena_file& arena, const dm::inspect::survey& found);

}  // namespace tool
