// import: a new arena from what `export` printed, with the same keys.
#include <fmt/format.h>

#include <charconv>
#include <fstream>
#include <stdexcept>
#include <unordered_map>

#include "deferred_map/format/value_text.hpp"
#include "import_input.hpp"
#include "progress.hpp"
#include "schema_json.hpp"
#include "value_from_json.hpp"
#include "verbs.hpp"

namespace tool {
namespace {

namespace version = dm::version;

struct import_options : output_options {
  std::filesystem::path file;
  std::filesystem::path into;
  std::filesystem::path like;
  std::filesystem::path schema;
  std::string kind;
  std::uint64_t max_slots = 0;
};

[[noreturn]] void refuse(const std::string& reason) { throw std::runtime_error(reason); }

std::optional<dm::arena_kind> kind_named(const std::string& name) {
  if (name == "mapped" || name == "mapped_map") return dm::arena_kind::mapped;
  if (name == "shared" || name == "shared_map") return dm::arena_kind::shared;
  if (name == "durable" || name == "durable_map") return dm::arena_kind::durable;
  return std::nullopt;
}

/// What is asked for: by a file that it is to be like, by a schema, or by the export itself.
struct wanted_arena {
  std::optional<dm::inspect::arena_plan> plan;  // nothing: the export's head is to say

  explicit wanted_arena(const import_options& options) {
    if (!options.like.empty()) {
      const auto like = open_with_slots(options.like);
      if (!like.schema())
        throw dm::error(dm::errc::damaged, options.like.string(), "its schema cannot be read: " + like.schema_reason());
      const dm::arena_header& layout = like.layout();
      plan = {.kind = static_cast<dm::arena_kind>(layout.kind),
              .description = *like.schema(),
              .value_size_bytes = layout.value_size_bytes,
              .value_align_bytes = layout.value_align_bytes,
              .slots_max = layout.slots_max};
    } else if (!options.schema.empty()) {
      std::ifstream in(options.schema);
      const json document = in ? json::parse(in, nullptr, false) : json();
      try {
        if (!in) refuse("cannot be read");
        if (document.is_discarded()) refuse("is no JSON");
        described_type type = type_from_json(document);
        plan = {.description = std::move(type.schema),
                .value_size_bytes = type.value_size_bytes,
                .value_align_bytes = type.value_align_bytes};
      } catch (const std::runtime_error& e) {
        throw std::runtime_error(options.schema.string() + ": " + e.what());
      }
    }
  }
};

class importer {
 public:
  explicit importer(const import_options& options) : options_(options), wanted_(options) {}

  void head(const json& head) {
    if (head.contains("redacted") && head["redacted"] == json(true))
      refuse("this export was made with --redact: it has no values");
    if (head.contains("export_version") && head["export_version"] != json(1))
      refuse("this export was made by a later version of dm-inspect");
    if (head.contains("fields")) {
      const described_type type = type_from_json(head);
      if (!wanted_.plan) {
        wanted_.plan = {.description = type.schema,
                        .value_size_bytes = type.value_size_bytes,
                        .value_align_bytes = type.value_align_bytes};
        if (const auto kind = kind_named(head.value("kind", ""))) wanted_.plan->kind = *kind;
      } else if (const auto difference = dm::first_difference(type.schema, wanted_.plan->description)) {
        refuse("the export is of another type than the one asked for (\"the file\" is the export): " + *difference);
      }
    }
    if (wanted_.plan && wanted_.plan->slots_max == 0)
      wanted_.plan->slots_max = head.value("slots_max", std::uint64_t{0});
    slot_count_ = head.value("slot_count", std::uint64_t{0});
    floor_ = head.value("generation_floor", std::uint32_t{0});
    if (floor_ > version::last_generation) refuse("a generation floor of " + std::to_string(floor_) + " is impossible");
    if (slot_count_ > 0xffff'ffffu) refuse(std::to_string(slot_count_) + " slots are impossible");
  }

  void record(const json& record) {
    dm::inspect::arena_builder& into = builder();
    if (record.contains("key") && record.contains("value")) {
      const auto key = record["key"].is_string()
                           ? dm::inspect::parse_key_parts(record["key"].get_ref<const std::string&>())
                           : std::nullopt;
      if (!key) refuse("the key is " + dumped(record["key"]) + ", and a key is \"3:1\"");
      value_.assign(plan().value_size_bytes, std::byte{0});
      value_from_json(plan().description, record["value"], value_);
      into.set(key->index, version::occupied(key->generation), value_);
      ++values_;
      return;
    }
    if (!record.contains("slot") || !record["slot"].is_number_unsigned() || !record.contains("state") ||
        !record["state"].is_string())
      refuse("a record has a \"key\" and a \"value\", or a \"slot\" and its \"state\"");
    const auto slot = record["slot"].get<std::uint64_t>();
    if (slot > 0xffff'fffeu) refuse("there is no slot " + std::to_string(slot));
    const json generation = record.value("generation", json());
    if (!generation.is_null() &&
        (!generation.is_number_unsigned() || generation.get<std::uint64_t>() > version::retired_generation))
      refuse("the generation " + dumped(generation) + " is impossible");
    slot_without_value(static_cast<std::uint32_t>(slot), record["state"].get<std::string>(),
                       generation.is_null() ? version::retired_generation : generation.get<std::uint32_t>());
  }

  void columns(const csv_row& names) {
    if (names.size() < 2 || names[0] != "key" || names[1] != "state")
      refuse("this is neither JSON nor a table that begins with the columns key,state");
    if (!wanted_.plan) refuse("a table does not say what its values are: --like or --schema must");
    builder();
    std::unordered_map<std::string, std::size_t> found;
    for (std::size_t i = 2; i < names.size(); ++i)
      if (!found.emplace(names[i].value_or(""), i).second)
        refuse("the column '" + names[i].value_or("") + "' is there twice");
    dm::inspect::for_each_leaf(plan().description, [&](const dm::inspect::leaf& part) {
      std::string path = text_json(part.path);
      const auto column = found.find(path);
      if (column == found.end()) refuse("there is no column '" + path + "'");
      leaves_.push_back({part.field, part.offset, part.size_bytes, column->second, std::move(path)});
      found.erase(column);
      return true;
    });
    if (!found.empty()) refuse("the column '" + found.begin()->first + "' is no field of these values");
    column_count_ = names.size();
  }

  void row(const csv_row& cells) {
    if (has_end_) refuse("there is more after the row that says \"end\"");
    if (cells.size() < 2 || !cells[0] || !cells[1]) refuse("a row has a key and a state");
    const std::string& state = *cells[1];
    const std::size_t colon = cells[0]->find(':');
    std::uint64_t slot = 0;
    std::uint64_t generation = 0;
    if (colon == std::string::npos || !number_from(cells[0]->substr(0, colon), slot) ||
        !number_from(cells[0]->substr(colon + 1), generation) || slot > 0xffff'ffffu ||
        generation > version::retired_generation)
      refuse("the key is '" + *cells[0] + "', and a key is 3:1");
    if (state == "end") {
      has_end_ = true;
      slot_count_ = slot;
      // A floor of 1 is what there is without one.
      floor_ = generation > version::first_generation ? static_cast<std::uint32_t>(generation) : 0;
      return;
    }
    if (slot == 0xffff'ffffu) refuse("there is no slot " + std::to_string(slot));
    if (state != "occupied")
      return slot_without_value(static_cast<std::uint32_t>(slot), state, static_cast<std::uint32_t>(generation));
    if (generation < version::first_generation || generation > version::last_generation)
      refuse("the key is '" + *cells[0] + "', whose generation is impossible");
    if (cells.size() != column_count_)
      refuse("the row has " + std::to_string(cells.size()) + " cells, and there are " + std::to_string(column_count_) +
             " columns");
    value_.assign(plan().value_size_bytes, std::byte{0});
    for (const leaf_column& leaf : leaves_) {
      const auto& cell = cells[leaf.column];
      if (!cell) refuse("'" + leaf.path + "' is missing");
      leaf_from_cell(*leaf.field, leaf.offset, leaf.size_bytes, leaf.path, *cell, value_);
    }
    builder().set(static_cast<std::uint32_t>(slot), version::occupied(static_cast<std::uint32_t>(generation)), value_);
    ++values_;
  }

  void end(const json& tail) {
    if (tail.is_object() && tail.contains("values") && tail["values"] != json(values_))
      refuse("the export says that it has " + dumped(tail["values"]) + " values, and " + std::to_string(values_) +
             " were here");
    if (column_count_ != 0 && !has_end_)
      refuse("the table ends here without the row that says \"end\": a part of it is missing");
  }

  std::uint64_t publish() {
    builder().publish(slot_count_, floor_);
    return values_;
  }

 private:
  struct leaf_column {
    const dm::schema_field* field;
    std::uint64_t offset;
    std::uint64_t size_bytes;
    std::size_t column;
    std::string path;
  };

  static bool number_from(const std::string& digits, std::uint64_t& number) {
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    return code == std::errc() && end == digits.data() + digits.size();
  }

  const dm::inspect::arena_plan& plan() const { return *wanted_.plan; }

  /// Made by the first record: what the head says of it is known by then.
  dm::inspect::arena_builder& builder() {
    if (builder_) return *builder_;
    if (!wanted_.plan) refuse("the input does not say what its values are: --like or --schema must");
    dm::inspect::arena_plan& plan = *wanted_.plan;
    if (const auto kind = kind_named(options_.kind)) plan.kind = *kind;
    if (options_.max_slots != 0) plan.slots_max = options_.max_slots;
    builder_.emplace(options_.into, plan);
    return *builder_;
  }

  void slot_without_value(std::uint32_t slot, const std::string& state, std::uint32_t generation) {
    std::uint32_t next = generation;
    if (state == "retired")
      next = version::retired_generation;
    else if (state == "reserved" || state == "removed" || state == "impossible" || state == "unreadable")
      next = std::min(generation + 1, version::retired_generation);  // its key may be known, and must not come alive
    else if (state != "vacant")
      refuse("the state '" + state + "' is none");
    if (next < version::first_generation) refuse("the generation 0 is that of no slot");
    builder().set(slot, version::vacant(next));
  }

  const import_options& options_;
  wanted_arena wanted_;
  std::optional<dm::inspect::arena_builder> builder_;
  std::vector<std::byte> value_;
  std::vector<leaf_column> leaves_;
  std::size_t column_count_ = 0;
  bool has_end_ = false;
  std::uint64_t values_ = 0;
  std::uint64_t slot_count_ = 0;
  std::uint32_t floor_ = 0;
};

int run(const import_options& options) {
  if (!options.like.empty() && !options.schema.empty()) throw usage_error("--like and --schema exclude each other");
  text_input input(options.file);
  std::error_code unknown;
  const std::uintmax_t size = std::filesystem::file_size(options.file, unknown);
  importer into(options);
  std::uint64_t values = 0;
  try {
    progress shown_to_people("import", unknown ? 0 : size, options.quiet);
    const auto count = [&] { shown_to_people.at(input.bytes_read()); };
    read_import(input, {.head = [&](const json& head) { into.head(head); },
                        .record =
                            [&](const json& record) {
                              into.record(record);
                              count();
                            },
                        .end = [&](const json& tail) { into.end(tail); },
                        .columns = [&](const csv_row& names) { into.columns(names); },
                        .row =
                            [&](const csv_row& cells) {
                              into.row(cells);
                              count();
                            }});
    values = into.publish();
  } catch (const dm::error&) {
    throw;
  } catch (const std::runtime_error& e) {
    throw std::runtime_error(options.file.string() + ": " + e.what() + ". Nothing was made");
  }
  fmt::print("{}: {}\n", dm::escaped(options.into.string()), counted(values, "value"));
  return exit_clean;
}

}  // namespace

verb make_import(CLI::App& program) {
  CLI::App* command = program.add_subcommand("import", "A new arena from what 'export' printed");
  auto options = std::make_shared<import_options>();
  command->add_option("FILE", options->file, "What export printed, as ndjson, json or csv; - is the standard input")
      ->required();
  command->add_option("--into", options->into, "The new arena. An existing file is never replaced")->required();
  command->add_option("--like", options->like, "Of the type, the kind and the most slots of this arena")
      ->transform(arena_path, "")
      ->type_name("ARENA");
  command
      ->add_option("--schema", options->schema, "Of the type that this file has: the output of 'schema --format json'")
      ->type_name("JSON");
  command->add_option("--kind", options->kind, "Of this kind, whatever it was")
      ->check(CLI::IsMember({"mapped", "shared", "durable"}).description(""))
      ->type_name("mapped|shared|durable");
  command->add_option("--max-slots", options->max_slots, "The most slots there can ever be")
      ->check(whole_number())
      ->type_name("N");
  add_print_options(*command, *options);
  command->footer(
      "Keys are what they were, and dead keys stay dead. Without --like and --schema the export says what it is of; a\n"
      "table does not. Handles of reserved slots died with their process: such slots become vacant.\n"
      "What is wrong with the input is said with its line, and then no file is made (exit code 8).\n\n"
      "Examples:\n"
      "  dm-inspect export old.arena | dm-inspect import - --into new.arena\n"
      "  dm-inspect import stock.csv --into new.arena --like stock.arena");
  return {command, [options] { return run(*options); }};
}

}  // namespace tool
