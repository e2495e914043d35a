// log: the commits of a durable map, as its journal has them, and as they come.
#include <fmt/format.h>

#include <poll.h>
#include <unistd.h>
#include <cerrno>
#include <charconv>

#include "deferred_map/format/value_text.hpp"
#include "records.hpp"
#include "slot_record.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

using dm::inspect::change_kind;
using dm::inspect::commit_event;
using dm::inspect::commit_reader;
using dm::inspect::commit_view;
using dm::inspect::slot_change;

struct log_options : common_options {
  bool redact = false;
  bool changes = false;
  bool follow = false;
  bool snapshot = false;
  bool no_pin = false;
  bool durable = false;
  std::uint64_t from = 0;
  std::uint64_t to = ~std::uint64_t{0};
  std::uint64_t interval_ms = 100;
  std::string key;
};

bool has_key(change_kind kind) {
  return kind != change_kind::skip && kind != change_kind::truncate && kind != change_kind::impossible;
}

json change_json(const slot_change& change) {
  json record = {{"change", dm::inspect::to_string(change.kind)}};
  if (change.kind == change_kind::truncate) {
    record["slot_count"] = change.slot;
    return record;
  }
  if (has_key(change.kind)) record["key"] = key_text(change.slot, change.generation);
  record["slot"] = change.slot;
  record["generation"] = change.generation;
  record["old_state"] = dm::to_string(change.old_state);
  record["old_generation"] = change.old_generation;
  return record;
}

json commit_json(const commit_view& commit) {
  return {{"commit", commit.number},
          {"time", time_json(commit.unix_ns)},
          {"bytes", commit.record_bytes},
          {"slots_changed", commit.slots_changed},
          {"slot_count", commit.slot_count ? json(*commit.slot_count) : json(nullptr)},
          {"journal_generation", commit.generation},
          {"durable_commit", commit.vouched_commit}};
}

json gap_json(const dm::inspect::commit_gap& gap) {
  return {{"gap", true},
          {"after_commit", gap.after},
          {"next_commit", gap.next},
          {"reason", gap.reason},
          {"hint", "take a new snapshot: dm-inspect export, or log --snapshot"}};
}

/// Prints what the log tells, in one of the forms.
class log_printer {
 public:
  log_printer(const log_options& options, const dm::inspect::arena_file& arena)
      : options_(options),
        schema_(schema_or_bytes(arena)),
        with_changes_(options.changes || options.format == output_format::ndjson),
        style_{.redact = options.redact, .exact = true} {
    if (!options.key.empty()) {
      key_ = dm::inspect::parse_key_parts(options.key);
      if (!key_)
        throw usage_error(fmt::format(
            "'{}' is no key. A key is index:generation, as 3:1, or its 64 bits, as 0x700000003", options.key));
    }
    if (options.format == output_format::table) {
      if (arena.journal() && !arena.journal()->is_there)
        complain("note: there is no journal: all commits are in the arena");
      fmt::print("{:>12}  {:<23}  {:>12}  {:>10}  {}\n", "commit", "time", "bytes", "slots", "changes");
      return;
    }
    std::vector<std::string> columns{
        "commit", "time", "bytes", "slots_changed", "slot_count", "journal_generation", "durable_commit"};
    if (with_changes_)
      columns = {"commit", "time", "change", "key", "slot", "generation", "old_state", "old_generation", "slot_count"};
    out_ = records(options.format,
                   {.style = style_, .columns = columns, .value_schema = with_changes_ ? &schema_ : nullptr});
    json head = json_head("log", arena);
    head["type"] = text_json(arena.type_name());
    head["follow"] = options.follow;
    head["redacted"] = options.redact;
    out_->begin(head, "commits");
    flush();
  }

  void show(const commit_event& event) {
    if (event.gap) return gap(*event.gap);
    const commit_view& commit = event.commit;
    std::vector<const slot_change*> wanted;
    for (const slot_change& change : commit.changes)
      if (is_wanted(change)) wanted.push_back(&change);
    if (key_ && wanted.empty()) return;
    ++shown_;
    switch (options_.format) {
      case output_format::table:
        return table(commit, wanted);
      case output_format::json:
        return document(commit, wanted);
      case output_format::ndjson:
        return lines(commit, wanted);
      case output_format::csv:
        return rows(commit, wanted);
    }
  }

  /// Every value there is at a commit, as changes of that commit: a copy of the map begins with them.
  /// Returns which.
  std::uint64_t snapshot(const dm::inspect::arena_file& arena) {
    const std::uint64_t at = arena.journal()->shown_commit;
    out_->record({{"snapshot", true}, {"commit", at}});
    std::uint64_t values = 0;
    dm::inspect::slot_scan scan(arena, {}, dm::inspect::slot_parts::versions_and_values);
    while (const dm::inspect::slot_view* slot = scan.next()) {
      if (!has_value(*slot)) continue;
      out_->record({{"commit", at},
                    {"change", "present"},
                    {"key", key_text(slot->index, slot->generation())},
                    {"slot", slot->index},
                    {"generation", slot->generation()}},
                   {schema_, slot->value});
      ++values;
    }
    out_->record({{"commit", at},
                  {"end_of_commit", true},
                  {"snapshot", true},
                  {"slot_count", arena.slot_count()},
                  {"changes", values}});
    flush();
    return at;
  }

  void end() {
    if (out_) out_->end({{"shown", shown_}});
  }

 private:
  bool is_wanted(const slot_change& change) const {
    return !key_ || (change.kind == change_kind::truncate
                         ? key_->index >= change.slot
                         : has_key(change.kind) && change.slot == key_->index && change.generation == key_->generation);
  }
  static bool changes_value(const slot_change& change) { return !change.value.empty(); }

  void gap(const dm::inspect::commit_gap& found) {
    if (options_.format == output_format::json || options_.format == output_format::ndjson)
      out_->record(gap_json(found));
    else
      complain(fmt::format("between commit {} and commit {}: {}", found.after, found.next, found.reason));
    flush();
  }

  void table(const commit_view& commit, const std::vector<const slot_change*>& changes) {
    std::uint64_t kinds[8] = {};
    for (const slot_change& change : commit.changes) ++kinds[static_cast<std::size_t>(change.kind)];
    std::string text;
    for (std::size_t i = 0; i < std::size(kinds); ++i)
      if (kinds[i] != 0)
        text += fmt::format("{}{} {}", text.empty() ? "" : ", ", with_commas(kinds[i]),
                            dm::inspect::to_string(static_cast<change_kind>(i)));
    fmt::print("{:>12}  {:<23}  {:>12}  {:>10}  {}\n", commit.number, time_text(commit.unix_ns),
               with_commas(commit.record_bytes), with_commas(commit.slots_changed), text.empty() ? "-" : text);
    if (with_changes_) {
      for (const slot_change* change : changes) {
        const std::string name = change->kind == change_kind::truncate ? fmt::format("from slot {} on", change->slot)
                                                                       : key_text(change->slot, change->generation);
        const std::string line =
            fmt::format("{:>12}  {:<10} {:<16} {}", "", dm::inspect::to_string(change->kind), name,
                        changes_value(*change) ? value_text(schema_, change->value, options_.redact) : std::string());
        fmt::print("{}\n", std::string_view(line).substr(0, line.find_last_not_of(' ') + 1));
      }
    }
    flush();
  }

  void document(const commit_view& commit, const std::vector<const slot_change*>& changes) {
    json record = commit_json(commit);
    if (with_changes_) {
      record["changes"] = json::array();
      for (const slot_change* change : changes) {
        json one = change_json(*change);
        if (changes_value(*change)) one["value"] = value_json(schema_, change->value, style_);
        record["changes"].push_back(std::move(one));
      }
    }
    out_->record(record);
    flush();
  }

  void lines(const commit_view& commit, const std::vector<const slot_change*>& changes) {
    for (const slot_change* change : changes) change_record({{"commit", commit.number}}, *change);
    json last = {{"commit", commit.number}, {"end_of_commit", true}};
    last.update(commit_json(commit));
    last["changes"] = changes.size();
    out_->record(last);
    flush();
  }

  void rows(const commit_view& commit, const std::vector<const slot_change*>& changes) {
    if (!with_changes_)
      out_->record(commit_json(commit));
    else
      for (const slot_change* change : changes)
        change_record({{"commit", commit.number}, {"time", time_json(commit.unix_ns)}}, *change);
    flush();
  }

  void change_record(json record, const slot_change& change) {
    record.update(change_json(change));
    if (changes_value(change))
      out_->record(record, {schema_, change.value});
    else
      out_->record(record);
  }

  /// Who reads along sees whole commits as they come.
  void flush() const {
    if (options_.follow) (void)std::fflush(stdout);
  }

  const log_options& options_;
  dm::schema schema_;
  bool with_changes_;
  value_style style_;
  std::optional<dm::inspect::key_parts> key_;
  std::unique_ptr<record_writer> out_;
  std::uint64_t shown_ = 0;
};

/// Waits a while, or until nobody reads the output any more. Returns whether somebody may.
bool wait_for_more(std::uint64_t interval_ms) {
  pollfd output{STDOUT_FILENO, 0, 0};
  const int changed = ::poll(&output, 1, static_cast<int>(interval_ms));
  return changed <= 0 || (output.revents & (POLLERR | POLLHUP | POLLNVAL)) == 0;
}

int run(const log_options& options) {
  if (options.snapshot && options.format != output_format::ndjson)
    throw usage_error("a snapshot is lines of JSON: --snapshot needs --format ndjson");
  if (options.snapshot && options.from != 0)
    throw usage_error("a snapshot is of now: --snapshot and --from exclude each other");
  std::optional<dm::inspect::arena_file> arena(open_with_slots(options.file));
  if (!arena->is_durable())
    throw dm::error(dm::errc::wrong_kind, options.file.string(),
                    "this is no durable map: only those have a journal, and with it a history");
  int code = arena->journal() && !arena->journal()->reason.empty() ? exit_faults_left : exit_clean;
  if (arena->journal() && !arena->journal()->is_there && code != exit_clean) return code;  // it was said why
  log_printer print(options, *arena);
  // The arena stays as it is while this lives, so that nothing is missed between the snapshot and what follows.
  std::uint64_t from = options.from;
  if ((options.follow || options.snapshot) && from == 0 && arena->journal()) from = arena->journal()->shown_commit + 1;
  // A writer may be faster than who reads: what came since is for the next look.
  const std::uint64_t to = !options.follow && arena->journal() && arena->journal()->is_applied
                               ? std::min(options.to, arena->journal()->last_commit)
                               : options.to;
  try {
    commit_reader reader(options.file, {.from = from, .pin = !options.no_pin, .only_vouched = options.durable});
    std::uint64_t in_snapshot = 0;
    if (options.snapshot) in_snapshot = print.snapshot(*arena);
    arena.reset();
    for (;;) {
      while (const commit_event* event = reader.next()) {
        if (!event->gap && event->commit.number > to) break;
        if (!event->gap && event->commit.number <= in_snapshot) continue;
        print.show(*event);
        if (event->gap && options.snapshot) {
          const auto now = open_with_slots(options.file);
          if (now.journal() && now.journal()->shown_commit != 0) in_snapshot = print.snapshot(now);
        }
      }
      if (!options.follow || reader.position() >= to) break;
      if (!wait_for_more(options.interval_ms)) return code;
    }
  } catch (const dm::error& e) {
    if (e.code() != dm::errc::damaged && e.code() != dm::errc::not_found) throw;
    if (options.follow) complain(dm::escaped(e.what()));
    code |= exit_faults_left;
  }
  print.end();
  return code;
}

}  // namespace

verb make_log(CLI::App& program) {
  CLI::App* command = program.add_subcommand("log", "The commits of a durable map, and what each changed");
  auto options = std::make_shared<log_options>();
  add_common_options(*command, *options, all_formats);
  add_redact_option(*command, options->redact);
  command->add_flag("--changes", options->changes, "Each change too; ndjson always has them");
  command->add_option("--from", options->from, "Only commits from N on")->check(whole_number())->type_name("N");
  command->add_option("--to", options->to, "Only commits up to N; with --follow, end there")
      ->check(whole_number())
      ->type_name("N");
  command->add_option("--key", options->key, "Only what happened to this key")->type_name("KEY");
  command->add_flag("-f,--follow", options->follow,
                    "Go on with each commit as it is made, from the last one on (or from --from)");
  command->add_flag("--snapshot", options->snapshot,
                    "First every value there is, as the commit that the log goes on behind; again after a gap");
  command->add_flag("--durable", options->durable, "Only commits that are known to be on the disk");
  command->add_flag("--no-pin", options->no_pin,
                    "Do not hold back the restart of the journal: commits may be missed, and then that is said");
  command->add_option("--interval", options->interval_ms, "With --follow, look every N milliseconds (default 100)")
      ->check(CLI::Range(1, 3'600'000).description(""))
      ->type_name("N");
  command->footer(
      "ndjson: a line for each change, then one {\"commit\": N, \"end_of_commit\": true, ...}: a commit without it is "
      "not\n"
      "whole. Changes: insert, update (with \"value\"), remove, reserve, release, skip (keys that came and went within "
      "the\n"
      "commit), truncate (slots from slot_count on were given back). {\"gap\": true, ...}: commits are missing, or "
      "history is\n"
      "another one; take a new snapshot. docs/DURABILITY.md tells more.\n"
      "A commit is shown once it is whole in the journal; for a moment, and with sync::later for longer, it may not be "
      "on\n"
      "the disk: \"durable_commit\" says which is, and --durable waits for it.\n"
      "While --follow runs, the writer brings commits into the arena later, and leaves the journal when it closes.\n"
      "Exits with 4 where the journal is missing or damaged.\n\n"
      "Examples:\n"
      "  dm-inspect log stock.arena --changes\n"
      "  dm-inspect log stock.arena --key 3:1 --format ndjson\n"
      "  dm-inspect log stock.arena --follow --snapshot --format ndjson | replicate");
  return {command, [options] { return run(*options); }};
}

}  // namespace tool
