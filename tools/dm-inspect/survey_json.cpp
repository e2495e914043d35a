#include "survey_json.hpp"

#include <fmt/format.h>

#include "exit_codes.hpp"
#include "progress.hpp"

namespace tool {

json counts_json(const dm::inspect::slot_counts& counts) {
  return {{"count", counts.slots},           {"occupied", counts.occupied}, {"updating", counts.updating},
          {"reserved", counts.reserved},     {"kept_ready", counts.cached}, {"vacant", counts.vacant},
          {"never_used", counts.never_used}, {"retired", counts.retired},   {"impossible", counts.impossible},
          {"unreadable", counts.unreadable}};
}

json region_json(const dm::inspect::slot_region& region) {
  json record = {{"first", region.first}};
  record.update(counts_json(region));
  return record;
}

json unreadable_json(const dm::inspect::survey& found) {
  json ranges = json::array();
  for (const dm::inspect::byte_range& range : found.unreadable)
    ranges.push_back({{"offset", range.offset}, {"size_bytes", range.size_bytes}});
  return ranges;
}

dm::inspect::survey survey_of(const dm::inspect::arena_file& arena, const char* verb, std::uint64_t regions,
                              bool quiet) {
  progress shown_to_people(verb, arena.slot_count(), quiet);
  dm::inspect::survey found = dm::inspect::take_survey(
      arena, {.regions = regions, .progress = [&](std::uint64_t done, std::uint64_t) { shown_to_people.at(done); }});
  shown_to_people.clear();
  for (const dm::inspect::byte_range& range : found.unreadable)
    complain(fmt::format("{} at byte {} cannot be read", bytes_text(range.size_bytes), with_commas(range.offset)));
  return found;
}

int exit_code_of(const dm::inspect::arena_file& arena, const dm::inspect::survey& found) {
  const bool is_sound = found.total.impossible == 0 && found.total.unreadable == 0 && !arena.head_is_damaged();
  return is_sound ? exit_clean : exit_faults_left;
}

}  // namespace tool
