// slots: what is in the slots, one line or record each.
#include <fmt/format.h>

#include <charconv>

#include "deferred_map/format/value_text.hpp"
#include "progress.hpp"
#include "records.hpp"
#include "slot_record.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

using dm::slot_state;
using dm::inspect::slot_filter;

constexpr std::uint64_t limit_on_terminals = 20;

struct slots_options : common_options {
  bool redact = false;
  std::vector<std::string> states;
  std::string range;
  std::string generations;
  std::optional<std::uint64_t> limit;
};

/// "A:B", "A:", ":B" or "A": first and last.
void parse_range(const char* option, const std::string& text, std::uint64_t& first, std::uint64_t& last) {
  const auto number = [&](std::string_view digits, std::uint64_t& value) {
    if (digits.empty()) return;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (code != std::errc() || end != digits.data() + digits.size() || value > 0xffff'ffffu)
      throw usage_error(fmt::format("{} takes A:B, A:, :B or A, and '{}' is none of them", option, text));
  };
  const std::size_t colon = text.find(':');
  number(std::string_view(text).substr(0, colon), first);
  if (colon == std::string::npos)
    last = first;
  else
    number(std::string_view(text).substr(colon + 1), last);
  if (first > last) throw usage_error(fmt::format("{} '{}' ends before it begins", option, text));
}

slot_filter filter_of(const slots_options& options) {
  slot_filter filter;
  if (!options.range.empty()) {
    std::uint64_t last = 0xffff'ffffu;
    parse_range("--range", options.range, filter.index_begin, last);
    filter.index_end = last + 1;
  }
  if (!options.generations.empty()) {
    std::uint64_t first = 0;
    std::uint64_t last = filter.generation_max;
    parse_range("--generation", options.generations, first, last);
    filter.generation_min = static_cast<std::uint32_t>(first);
    filter.generation_max = static_cast<std::uint32_t>(last);
  }
  if (!options.states.empty()) filter.states = 0;
  for (const std::string& name : options.states)
    for (const slot_state state :
         {slot_state::vacant, slot_state::reserved, slot_state::occupied, slot_state::retired, slot_state::updating})
      if (name == dm::to_string(state)) filter.states |= slot_filter::bit(state);
  return filter;
}

/// Calls `print(slot)` for the slots that match, up to the limit. Returns whether there are more.
template <class Print>
bool visit(const dm::inspect::arena_file& arena, const slots_options& options, std::uint64_t limit,
           std::uint64_t& shown, Print print) {
  dm::inspect::slot_scan scan(arena, filter_of(options), dm::inspect::slot_parts::versions_and_values);
  progress shown_to_people("slots", arena.slot_count(), options.quiet || ::isatty(STDOUT_FILENO) != 0);
  while (const dm::inspect::slot_view* slot = scan.next()) {
    if (limit != 0 && shown == limit) return true;
    ++shown;
    shown_to_people.at(slot->index);
    print(*slot);
  }
  for (const dm::inspect::byte_range& range : scan.unreadable())
    complain(fmt::format("{} at byte {} cannot be read, and are shown as zeros", bytes_text(range.size_bytes),
                         with_commas(range.offset)));
  return false;
}

int show_table(const dm::inspect::arena_file& arena, const slots_options& options) {
  const dm::schema schema = schema_or_bytes(arena);
  const std::size_t columns = terminal_columns();
  const std::uint64_t limit = options.limit.value_or(columns == 0 ? 0 : limit_on_terminals);
  constexpr std::size_t value_column = 34;
  std::uint64_t shown = 0;
  fmt::print("{:>10}  {:>10}  {:<8}  {}\n", "slot", "generation", "state", "value");
  const bool more = visit(arena, options, limit, shown, [&](const dm::inspect::slot_view& slot) {
    const std::string value =
        cut_to(slot_remark(slot, schema, options.redact), columns > value_column ? columns - value_column : 0);
    const std::string line = fmt::format("{:>10}  {:>10}  {:<8}  {}", slot.index, slot.generation(),
                                         slot.readable ? dm::to_string(slot.state()) : "?", value);
    fmt::print("{}\n", std::string_view(line).substr(0, line.find_last_not_of(' ') + 1));
  });
  if (more) complain(fmt::format("note: more slots match than the {} shown; --limit 0 shows all", shown));
  return exit_clean;
}

int show_records(const dm::inspect::arena_file& arena, const slots_options& options) {
  const dm::schema schema = schema_or_bytes(arena);
  const auto out = records(options.format, {.style = {.redact = options.redact},
                                            .columns = {"slot", "state", "generation", "version", "key", "problem"},
                                            .value_schema = &schema});
  json head = json_head("slots", arena);
  head["type"] = text_json(arena.type_name());
  head["slot_count"] = arena.slot_count();
  head["left"] = dm::inspect::to_string(arena.left());
  std::uint64_t shown = 0;
  out->begin(head, "slots");
  const bool more = visit(arena, options, options.limit.value_or(0), shown, [&](const dm::inspect::slot_view& slot) {
    const json record = slot_record(slot, schema);
    if (has_value(slot))
      out->record(record, {schema, slot.value});
    else
      out->record(record);
  });
  out->end({{"shown", shown}, {"more", more}});
  return exit_clean;
}

int show(const slots_options& options) {
  filter_of(options);  // what is wrong with the command line comes before what is wrong with the file
  const auto arena = open_with_slots(options.file);
  warn_if_in_use(arena);
  if (!arena.schema()) complain("note: values are shown as bytes: " + dm::escaped(arena.schema_reason()));
  if (arena.control() && arena.slot_count() < arena.control()->slot_count)
    complain(fmt::format("the file was cut short: {} of {} slots are there", with_commas(arena.slot_count()),
                         with_commas(arena.control()->slot_count)));
  const int code = options.format == output_format::table ? show_table(arena, options) : show_records(arena, options);
  return code | (arena.head_is_damaged() ? exit_faults_left : exit_clean);
}

}  // namespace

verb make_slots(CLI::App& program) {
  CLI::App* command = program.add_subcommand("slots", "State, generation and value of each slot");
  auto options = std::make_shared<slots_options>();
  add_common_options(*command, *options, all_formats);
  add_redact_option(*command, options->redact);
  command
      ->add_option("--state", options->states,
                   "Only slots in these states: occupied, reserved, vacant, retired, updating")
      ->delimiter(',')
      ->allow_extra_args(false)  // or it would take FILE for another state
      ->check(CLI::IsMember({"occupied", "reserved", "vacant", "retired", "updating"}).description(""))
      ->type_name("STATE,...");
  command->add_option("--range", options->range, "Only slots A to B, both included; also A:, :B or A")
      ->type_name("A:B");
  command->add_option("--generation", options->generations, "Only generations A to B, both included")->type_name("A:B");
  command
      ->add_option("--limit", options->limit,
                   "At most N slots; 0 is all, which is the default but for tables on a terminal, where it is 20")
      ->check(whole_number())
      ->type_name("N");
  command->footer(
      "The generation of a vacant slot is that of its next life. On a terminal, values are cut to its "
      "width.\n\n"
      "Examples:\n"
      "  dm-inspect slots stock.arena --state occupied --range 0:99\n"
      "  dm-inspect slots stock.arena --generation 1000: --limit 5 --format json");
  return {command, [options] { return show(*options); }};
}

}  // namespace tool
