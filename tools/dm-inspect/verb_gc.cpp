// gc: removes the segments that nobody uses any more; by itself it only says which these are.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "deferred_map/format/value_text.hpp"
#include "segments.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

struct gc_options : output_options {
  std::vector<std::string> names;
  bool remove = false;
  bool dry_run = false;
  std::string older_than;
};

enum class verdict { would_remove, removed, in_use, too_young, kept, failed };

const char* to_string(verdict v) {
  switch (v) {
    case verdict::would_remove:
      return "would remove";
    case verdict::removed:
      return "removed";
    case verdict::in_use:
      return "in use";
    case verdict::too_young:
      return "too young";
    case verdict::kept:
      return "kept";
    case verdict::failed:
      return "failed";
  }
  return "failed";
}

struct judged {
  dm::shm_info segment;
  verdict what = verdict::kept;
  std::string reason;
};

/// "90s", "30m", "12h", "7d", "2w" in seconds.
std::int64_t parse_age(const std::string& text) {
  std::int64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  constexpr std::pair<std::string_view, std::int64_t> units[] = {
      {"s", 1}, {"m", 60}, {"h", 60 * 60}, {"d", 24 * 60 * 60}, {"w", 7 * 24 * 60 * 60}};
  // A hundred years, so that nothing overflows.
  constexpr std::int64_t seconds_max = std::int64_t{100} * 366 * 24 * 60 * 60;
  for (const auto& [name, seconds] : units)
    if (code == std::errc() && unit == name && number >= 0 && number <= seconds_max / seconds) return number * seconds;
  throw usage_error(
      fmt::format("--older-than takes a number and a unit, such as 90s, 30m, 12h, 7d or 2w, and not '{}'", text));
}

/// What is to be done with it, as far as looking tells.
judged judge(const dm::shm_info& segment, std::optional<std::int64_t> not_since_unix_ns) {
  judged result{segment, verdict::would_remove, ""};
  if (!segment.fault.empty()) {
    result.what = verdict::kept;
    result.reason = segment.fault;
  } else if (segment.kind != dm::to_string(dm::arena_kind::shared)) {
    result.what = verdict::kept;
    result.reason = "it is no shared map's";
  } else if (segment.attached != 0) {
    result.what = verdict::in_use;
    result.reason = counted(segment.attached, "map") + (segment.attached == 1 ? " has it open" : " have it open");
  } else if (not_since_unix_ns && segment.last_opened_unix_ns > *not_since_unix_ns) {
    result.what = verdict::too_young;
  }
  return result;
}

/// Removes it, unless that is no longer right: it is looked at again, under the lock that attaching takes.
void remove(judged& each, std::optional<std::int64_t> not_since_unix_ns) {
  try {
    switch (dm::shm::remove_unused(each.segment.name, not_since_unix_ns)) {
      case dm::shm::removal::removed:
        each.what = verdict::removed;
        break;
      case dm::shm::removal::none:
        each.what = verdict::kept;
        each.reason = "somebody else removed it";
        break;
      case dm::shm::removal::in_use:
        each.what = verdict::in_use;
        each.reason = "somebody is about to use it";
        break;
      case dm::shm::removal::used_since:
        each.what = verdict::too_young;
        break;
    }
  } catch (const dm::error& e) {
    each.what = verdict::failed;
    each.reason = e.what();
  }
}

/// Those that are asked for, or all. Names that there are not are complained of, and make `all_there` false.
std::vector<dm::shm_info> chosen(const std::vector<std::string>& names, bool& all_there) {
  constexpr std::string_view prefix = "shm:";
  std::vector<dm::shm_info> segments = dm::shm::list();
  if (names.empty()) return segments;
  std::vector<dm::shm_info> found;
  for (const std::string& given : names) {
    const std::string name = given.starts_with(prefix) ? given.substr(prefix.size()) : given;
    const auto at = std::find_if(segments.begin(), segments.end(), [&](const auto& each) { return each.name == name; });
    if (at == segments.end()) {
      all_there = false;
      complain(
          fmt::format("there is no segment '{}'. Run 'dm-inspect list' to see which there are", dm::escaped(name)));
    } else {
      found.push_back(*at);
      segments.erase(at);  // named twice is named once
    }
  }
  return found;
}

void print_table(const std::vector<judged>& all, bool removes) {
  std::size_t columns = 4;
  for (const judged& each : all) columns = std::max(columns, dm::escaped(each.segment.name).size());
  const std::int64_t now = now_unix_ns();
  std::uint64_t bytes = 0, count = 0;
  if (!all.empty()) fmt::print("{:<{}}  {:>10}  {:>8}  {}\n", "name", columns, "memory", "opened", "verdict");
  for (const judged& each : all) {
    if (each.what == verdict::removed || each.what == verdict::would_remove) {
      ++count;
      bytes += each.segment.allocated_bytes;
    }
    fmt::print("{:<{}}  {:>10}  {:>8}  {}{}\n", dm::escaped(each.segment.name), columns,
               short_size(each.segment.allocated_bytes),
               each.segment.kind.empty() ? "?" : age_text(each.segment.last_opened_unix_ns, now), to_string(each.what),
               each.reason.empty() ? "" : ": " + dm::escaped(each.reason));
  }
  if (!all.empty()) fmt::print("\n");
  fmt::print("{} {}, {}.{}\n", removes ? "Removed" : "Would remove", counted(count, "segment"), short_size(bytes),
             removes || count == 0 ? "" : " Nothing was removed: --remove removes.");
}

void print_as_json(const std::vector<judged>& all, bool removes) {
  const auto out = json_records();
  json head = json_head("gc");
  head["dry_run"] = !removes;
  out->begin(head, "segments");
  std::uint64_t removed = 0;
  for (const judged& each : all) {
    json record = segment_record(each.segment);
    record["verdict"] = to_string(each.what);
    record["reason"] = each.reason.empty() ? json(nullptr) : json(each.reason);
    out->record(record);
    removed += each.what == verdict::removed;
  }
  out->end({{"removed", removed}});
}

int run(const gc_options& options) {
  std::optional<std::int64_t> not_since;
  if (!options.older_than.empty()) not_since = now_unix_ns() - parse_age(options.older_than) * 1'000'000'000;
  bool all_there = true;
  std::vector<judged> all;
  for (const dm::shm_info& segment : chosen(options.names, all_there)) all.push_back(judge(segment, not_since));
  int code = all_there ? exit_clean : exit_could_not_run;
  if (options.remove)
    for (judged& each : all)
      if (each.what == verdict::would_remove) remove(each, not_since);
  for (const judged& each : all) {
    if (each.what == verdict::removed) code |= exit_corrected;
    if (each.what == verdict::failed) code |= exit_could_not_run;
  }
  if (options.format == output_format::json)
    print_as_json(all, options.remove);
  else
    print_table(all, options.remove);
  return code;
}

}  // namespace

verb make_gc(CLI::App& program) {
  CLI::App* command = program.add_subcommand("gc", "Removes segments that nobody uses; says which, unless --remove");
  auto options = std::make_shared<gc_options>();
  command->add_option("NAME", options->names, "Only these segments; all, where none is named")->type_name("");
  CLI::Option* const remove = command->add_flag("--remove", options->remove, "Remove them, and not only say which");
  command->add_flag("--dry-run", options->dry_run, "Say what would be removed, and remove nothing (default)")
      ->excludes(remove);
  command
      ->add_option("--older-than", options->older_than,
                   "Only what nobody has opened for writing for so long: 90s, 30m, 12h, 7d, 2w")
      ->type_name("AGE");
  add_output_options(*command, *options);
  command->footer(
      "Removes shared maps' segments that no map has open for writing, however they were left, and what is in them.\n"
      "Each is looked at again under the lock that attaching takes, so none is removed that somebody just begins to\n"
      "use. Maps that are open read-only are not seen: they go on with what they have. What is no shared map, or "
      "cannot\n"
      "be read, stays. Exits with 1 where something was removed, with 8 where that failed.\n\n"
      "Examples:\n"
      "  dm-inspect gc\n"
      "  dm-inspect gc --older-than 7d --remove\n"
      "  dm-inspect gc quotes --remove");
  return {command, [options] { return run(*options); }};
}

}  // namespace tool
