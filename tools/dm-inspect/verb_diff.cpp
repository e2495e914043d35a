// diff: what is different between two arenas.
#include <fmt/format.h>

#include "deferred_map/format/value_text.hpp"
#include "deferred_map/inspect/diff.hpp"
#include "progress.hpp"
#include "records.hpp"
#include "slot_record.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

using dm::inspect::diff_report;
using dm::inspect::difference;
using dm::inspect::difference_kind;
using dm::inspect::slot_view;

struct diff_options : common_options {
  std::filesystem::path other;
  bool redact = false;
};

/// Slots up to it have nothing to do with the value of one; one with a value is told by its key.
std::string described(const slot_view* slot) {
  if (slot == nullptr) return "none";
  return fmt::format("{}, generation {}", dm::to_string(slot->state()), slot->generation());
}

json slot_json(const slot_view* slot) {
  if (slot == nullptr) return nullptr;
  return {{"state", dm::to_string(slot->state())}, {"generation", slot->generation()}};
}

/// One part of a value, as it would be in JSON.
json part_json(const dm::inspect::leaf& part, std::span<const std::byte> value, value_style style) {
  const std::string cell = leaf_cell(part, value, style);
  if (style.redact) return cell;
  using enum dm::field_kind;
  switch (part.field->kind) {
    case text:
    case character:
    case key:
    case bytes:
      return cell.empty() || cell != "null" ? json(cell) : json();
    default: {
      json parsed = json::parse(cell, nullptr, false);
      return parsed.is_number() || parsed.is_boolean() ? parsed : json(cell);
    }
  }
}

class printing {
 public:
  printing(const diff_options& options, const dm::inspect::arena_file& a, const dm::inspect::arena_file& b,
           const dm::schema& schema_a, const dm::schema& schema_b)
      : options_(options),
        style_{.redact = options.redact, .exact = true},
        a_(a),
        b_(b),
        schema_a_(schema_a),
        schema_b_(schema_b),
        out_(records(options.format, {.columns = {"kind", "key", "slot", "field", "a", "b"}})) {}

  bool as_table() const { return options_.format == output_format::table; }

  void begin() {
    if (as_table()) return;
    json head = json_head("diff", a_);
    head["other"] = text_json(b_.path().string());
    out_->begin(head, "differences");
  }
  void end(const diff_report& report) {
    if (as_table()) {
      fmt::print("{}\n", verdict(report));
      return;
    }
    out_->end({{"only_in_a", report.only_in_a},
               {"only_in_b", report.only_in_b},
               {"values", report.values},
               {"fields", report.fields},
               {"slots", report.slots},
               {"same_type", report.same_type},
               {"same_floor", report.same_floor},
               {"unreadable", report.unreadable},
               {"keys_in_both", report.same + report.values},
               {"same", report.is_same()}});
  }

  void one(const difference& found) {
    if (as_table())
      line(found);
    else
      record(found);
  }

 private:
  static std::string verdict(const diff_report& report) {
    if (report.is_same()) return "the same: " + counted(report.same, "key");
    return fmt::format("different: {} only in the first, {} only in the second, {} with another value, {}",
                       counted(report.only_in_a, "key"), with_commas(report.only_in_b), with_commas(report.values),
                       counted(report.slots, "slot") + " of another generation");
  }

  std::uint32_t floor_of(const dm::inspect::arena_file& arena) const {
    return arena.control() ? arena.control()->generation_floor : 0;
  }

  void line(const difference& found) {
    const auto key = [&](const slot_view* slot) { return key_text(found.slot, slot->generation()); };
    switch (found.kind) {
      case difference_kind::type:
        return fmt::print("type   {}\n", dm::escaped(found.text));
      case difference_kind::only_in_a:
        return fmt::print("- {}  {}\n", key(found.a), value_text(schema_a_, found.a->value, options_.redact));
      case difference_kind::only_in_b:
        return fmt::print("+ {}  {}\n", key(found.b), value_text(schema_b_, found.b->value, options_.redact));
      case difference_kind::value:
        return fmt::print("~ {}  {}: {} -> {}\n", key(found.a), dm::escaped(found.field->path),
                          dm::escaped(leaf_cell(*found.field, found.a->value, style_)),
                          dm::escaped(leaf_cell(*found.field, found.b->value, style_)));
      case difference_kind::slot:
        return fmt::print("slot {}  {} -> {}\n", found.slot, described(found.a), described(found.b));
      case difference_kind::floor:
        return fmt::print("floor  generation {} -> {}\n", floor_of(a_), floor_of(b_));
    }
  }

  void record(const difference& found) {
    json record = {{"kind", dm::inspect::to_string(found.kind)}};
    switch (found.kind) {
      case difference_kind::type:
        record["text"] = text_json(found.text);
        break;
      case difference_kind::floor:
        record["a"] = floor_of(a_);
        record["b"] = floor_of(b_);
        break;
      case difference_kind::value:
        record["key"] = key_text(found.slot, found.a->generation());
        record["field"] = text_json(found.field->path);
        record["a"] = part_json(*found.field, found.a->value, style_);
        record["b"] = part_json(*found.field, found.b->value, style_);
        break;
      case difference_kind::only_in_a:
      case difference_kind::only_in_b: {
        const bool in_a = found.kind == difference_kind::only_in_a;
        const slot_view* const slot = in_a ? found.a : found.b;
        record["key"] = key_text(found.slot, slot->generation());
        if (options_.format != output_format::csv)
          record["value"] = value_json(in_a ? schema_a_ : schema_b_, slot->value, style_);
        [[fallthrough]];
      }
      case difference_kind::slot:
        record["slot"] = found.slot;
        record["a"] = options_.format == output_format::csv ? json(described(found.a)) : slot_json(found.a);
        record["b"] = options_.format == output_format::csv ? json(described(found.b)) : slot_json(found.b);
        break;
    }
    out_->record(record);
  }

  const diff_options& options_;
  value_style style_;
  const dm::inspect::arena_file& a_;
  const dm::inspect::arena_file& b_;
  const dm::schema& schema_a_;
  const dm::schema& schema_b_;
  std::unique_ptr<record_writer> out_;
};

int run(const diff_options& options) {
  const auto a = open_with_slots(options.file);
  const auto b = open_with_slots(options.other);
  warn_if_in_use(a);
  warn_if_in_use(b);
  const dm::schema schema_a = schema_or_bytes(a), schema_b = schema_or_bytes(b);
  printing out(options, a, b, schema_a, schema_b);
  progress shown_to_people("diff", std::max(a.slot_count(), b.slot_count()),
                           options.quiet || ::isatty(STDOUT_FILENO) != 0);
  out.begin();
  const diff_report report =
      dm::inspect::diff(a, b, [&](const difference& found) { out.one(found); },
                        {.progress = [&](std::uint64_t done, std::uint64_t) { shown_to_people.at(done); }});
  shown_to_people.clear();
  out.end(report);
  if (report.unreadable != 0) complain(counted(report.unreadable, "slot") + " could not be compared");
  return report.is_same() && report.unreadable == 0 ? exit_clean : exit_faults_left;
}

}  // namespace

verb make_diff(CLI::App& program) {
  CLI::App* command = program.add_subcommand("diff", "What is different between two arenas");
  auto options = std::make_shared<diff_options>();
  add_common_options(*command, *options, all_formats);
  command->add_option("OTHER", options->other, "The second arena, of any kind")->required()->transform(arena_path, "");
  add_redact_option(*command, options->redact);
  command->footer(
      "Exits with 0 where both hold the same, 4 where they do not, 8 where one cannot be read.\n"
      "'-' is a key only in the first, '+' only in the second, '~' a field of a key's value. 'slot' is a slot without "
      "a\n"
      "value whose generation or state is another, so that other keys are dead. Fields are the same where their bits "
      "are;\n"
      "padding, and what lies behind the NUL of a text, is no field. Memory is constant, however many slots there "
      "are.\n\n"
      "Examples:\n"
      "  dm-inspect diff stock.arena yesterday.arena\n"
      "  dm-inspect diff stock.arena copy.arena --format ndjson");
  return {command, [options] { return run(*options); }};
}

}  // namespace tool
