// The format is frozen: files that earlier versions left, in every state, are opened by this one; docs/FORMAT.md says what
// is in them, byte by byte.
#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "catch.hpp"
#include "deferred_map/inspect.hpp"
#include "deferred_map/mapped_map.hpp"
#include "files.hpp"
#include "golden/golden_types.hpp"
#include "temporary_directory.hpp"

namespace {

using golden::json;
using std::filesystem::path;

path source(const char* name) {
  const char* root = std::getenv("SOURCE_ROOT");  // set by meson; else from the root of the tree
  return path(root != nullptr ? root : ".") / name;
}

std::vector<json> manifest() {
  std::vector<json> entries;
  std::ifstream in(source("tests/golden/manifest.ndjson"));
  for (std::string line; std::getline(in, line);) entries.push_back(json::parse(line));
  REQUIRE(entries.size() >= 18);
  return entries;
}

path file_of(const json& entry) { return source("tests/golden") / (entry.at("file").get<std::string>() + ".arena"); }

/// The machine's boot id as files have it: from a file that was just made.
std::uint64_t boot_id_here(const temporary_directory& directory) {
  const path fresh = directory / "fresh.arena";
  dm::mapped_map<std::uint64_t>::create(fresh, {.max_slots = 1, .sync_on_close = false}).close();
  const auto header = read_at<dm::arena_header>(fresh, 0);
  const std::uint64_t boot_id = read_at<dm::control_block>(fresh, header.control_offset).boot_id;
  std::filesystem::remove(fresh);
  return boot_id;
}

/// A copy, as the file would lie here had its user been killed here. Files that were closed, or left by a machine that
/// stopped, are as they are.
path copy_of(const json& entry, const temporary_directory& directory) {
  const path copy = directory / "copy.arena";
  write_file(copy, read_file(file_of(entry)));
  if (entry.at("left") == "killed") {
    const auto header = read_at<dm::arena_header>(copy, 0);
    write_at(copy, header.control_offset + offsetof(dm::control_block, boot_id), boot_id_here(directory));
  }
  return copy;
}

dm::key key_of(const std::string& text) {
  const auto k = dm::parse_key(text);
  REQUIRE(k);
  return *k;
}

/// Everything the manifest says of what is in the map, and that no other life of any slot is reached.
template <class T>
void require_contents(const dm::mapped_map<T>& m, const json& entry) {
  const json& live = entry.at("live");
  REQUIRE(m.verify() == "");
  REQUIRE(m.size() == live.size());
  REQUIRE(m.reserved_count() == 0);
  REQUIRE(m.slot_count() == entry.at("slot_count"));
  REQUIRE(m.retired_count() == entry.at("retired"));
  REQUIRE(m.generation_floor() == entry.at("generation_floor"));
  for (const auto& [text, value] : live.items()) {
    const T* there = m.get(key_of(text));
    INFO("key " << text);
    REQUIRE(there != nullptr);
    REQUIRE(golden::json_of(*there) == value);
  }
  std::size_t walked = 0;
  for (const auto [k, value] : m) walked += live.contains(golden::text_of(k));
  REQUIRE(walked == live.size());
  for (const std::string text : entry.at("dead")) REQUIRE_FALSE(m.contains(key_of(text)));
}

/// New values never get a key that was ever given out.
template <class T>
void require_no_old_keys(dm::mapped_map<T>& m, const json& entry) {
  std::set<std::string> given_out;
  for (const auto& [text, value] : entry.at("live").items()) given_out.insert(text);
  for (const std::string text : entry.at("dead")) given_out.insert(text);
  std::set<std::uint32_t> retired;
  for (std::uint32_t i = 0; i < m.slot_count(); ++i)
    if (m.state(i) == dm::slot_state::retired) retired.insert(i);
  REQUIRE(retired.size() == m.retired_count());
  try {
    for (;;) {
      const dm::key k = m.insert(T{});
      REQUIRE(given_out.insert(golden::text_of(k)).second);
      REQUIRE_FALSE(retired.contains(k.index()));
      if (k.index() >= entry.at("slot_count")) REQUIRE(k.generation() >= std::max(m.generation_floor(), 1u));
    }
  } catch (const dm::error& e) {
    REQUIRE(e.code() == dm::errc::full);
  }
  REQUIRE(m.verify() == "");
}

dm::recovery_outcome outcome_of(const json& entry) {
  const std::string name = entry.at("recovery").at("outcome");
  if (name == "clean") return dm::recovery_outcome::clean;
  if (name == "nothing_under_way") return dm::recovery_outcome::nothing_under_way;
  if (name == "recovered") return dm::recovery_outcome::recovered;
  REQUIRE(name == "salvaged");
  return dm::recovery_outcome::salvaged;
}

void require_report(const dm::recovery_report& report, const json& entry) {
  const json& expected = entry.at("recovery");
  REQUIRE(report.outcome == outcome_of(entry));
  REQUIRE(report.slots_examined == expected.at("slots_examined"));
  REQUIRE(report.reserved_given_back == expected.at("reserved_given_back"));
  REQUIRE(report.updates_finished == expected.at("updates_finished"));
  REQUIRE(report.impossible_mended == 0);
  REQUIRE(report.killed_program == (report.outcome == dm::recovery_outcome::clean ? "" : "make_golden"));
}

template <class T>
void require_file(const json& entry) {
  using map = dm::mapped_map<T>;
  temporary_directory directory;
  const path copy = copy_of(entry, directory);
  const bool stopped = entry.at("left") == "machine_stopped";
  if (stopped) REQUIRE(code_of([&] { map::open(copy); }) == dm::errc::unclean_after_reboot);
  const typename map::options how{.salvage = stopped, .verify = true};
  {
    const std::string before = read_file(copy);
    const map reader = map::open_read_only(copy, how);
    require_report(reader.recovery(), entry);
    require_contents(reader, entry);
    REQUIRE(read_file(copy) == before);
  }
  {
    map m = map::open(copy, how);
    require_report(m.recovery(), entry);
    require_contents(m, entry);
    m.close();
  }
  map m = map::open(copy);
  REQUIRE(m.recovery().outcome == dm::recovery_outcome::clean);
  require_contents(m, entry);
  require_no_old_keys(m, entry);
}

std::set<std::string> rules_broken(const path& file) {
  std::set<std::string> rules;
  const dm::inspect::check_report report = dm::inspect::check(dm::inspect::arena_file::open(file));
  for (const auto& [rule, times] : report.findings.by_rule()) rules.emplace(rule);
  return rules;
}

// Tables and dumps in docs/FORMAT.md ----------------------------------------------------------------------------------

std::vector<std::string> lines_between(const std::string& from, const std::string& until) {
  std::vector<std::string> lines;
  bool within = false;
  std::ifstream in(source("docs/FORMAT.md"));
  for (std::string line; std::getline(in, line);) {
    if (within && line.starts_with(until)) return lines;
    if (within) lines.push_back(line);
    if (line == from) within = true;
  }
  FAIL("docs/FORMAT.md: nothing between '" << from << "' and '" << until << "'");
  return lines;
}

struct field {
  std::string name;
  std::size_t offset;
  std::size_t size;
};

std::size_t size_of_type(const std::string& type) {
  static const std::map<std::string, std::size_t> sizes{{"u16", 2}, {"u32", 4}, {"u64", 8}, {"i64", 8}};
  if (const auto found = sizes.find(type); found != sizes.end()) return found->second;
  std::smatch match;
  if (std::regex_match(type, match, std::regex("([0-9]+) bytes"))) return std::stoul(match[1]);
  if (std::regex_match(type, match, std::regex("([0-9]+) . (u[0-9]+)")) ||
      std::regex_match(type, match, std::regex("([0-9]+) .. (u[0-9]+)")))  // the sign of multiplication is two bytes
    return std::stoul(match[1]) * size_of_type(match[2]);
  FAIL("docs/FORMAT.md: no size known of '" << type << "'");
  return 0;
}

/// The rows "| offset | type | name | ..." of the `which`th table of a section.
std::vector<field> table_of(const std::string& section, int which) {
  std::vector<field> rows;
  for (const std::string& line : lines_between(section, "## ")) {
    std::smatch match;
    which -= line == "|---|---|---|---|";
    if (which < 0 && std::regex_match(line, match, std::regex(R"(\| ([0-9]+) \| ([^|]+) \| ([^|]*)\|.*)"))) {
      std::string name = match[3];
      while (name.ends_with(' ')) name.pop_back();
      rows.push_back({name, std::stoul(match[1]), size_of_type(match[2])});
    } else if (!rows.empty()) {
      break;
    }
  }
  return rows;
}

#define FIELD(type, name) \
  field { #name, offsetof(type, name), sizeof(type::name) }

/// Each field of the code stands in the table, at its offset and with its size, the table has no other named field, and no
/// byte is left out.
void require_table(const std::string& section, const std::vector<field>& in_code, std::size_t size_bytes,
                   int which = 0) {
  INFO(section << ", table " << which);
  const std::vector<field> in_table = table_of(section, which);
  std::size_t end = 0;
  std::size_t named = 0;
  for (const field& row : in_table) {
    INFO(row.name << " at " << row.offset);
    REQUIRE(row.offset == end);
    end = row.offset + row.size;
    if (row.name.empty() || row.name == "unused") continue;
    REQUIRE(named < in_code.size());
    const field& expected = in_code[named++];
    REQUIRE(row.name == expected.name);
    REQUIRE(row.offset == expected.offset);
    REQUIRE(row.size == expected.size);
  }
  REQUIRE(named == in_code.size());
  REQUIRE(end == size_bytes);
}

}  // namespace

TEST_CASE("every golden file is opened, and holds the keys and values it was made with") {
  for (const json& entry : manifest()) {
    const std::string type = entry.at("type");
    INFO(entry.at("file"));
    if (type == "number")
      require_file<std::uint64_t>(entry);
    else if (type == "everything")
      require_file<golden::everything>(entry);
    else if (type == "plain")
      require_file<golden::plain>(entry);
    else if (type == "aligned")
      require_file<golden::aligned>(entry);
    else if (type == "page")
      require_file<golden::page>(entry);
    else
      FAIL("no such type: " << type);
  }
}

TEST_CASE("every golden file is in the manifest") {
  std::set<std::string> listed;
  for (const json& entry : manifest()) listed.insert(file_of(entry).filename());
  std::set<std::string> there;
  for (const auto& file : std::filesystem::directory_iterator(source("tests/golden")))
    if (file.path().extension() == ".arena") there.insert(file.path().filename());
  CHECK(there == listed);
}

TEST_CASE("inspection finds nothing in closed golden files, and in the others what their next opener will mend") {
  temporary_directory directory;
  for (const json& entry : manifest()) {
    INFO(entry.at("file"));
    const auto expected = entry.at("findings").get<std::set<std::string>>();
    CHECK(rules_broken(copy_of(entry, directory)) == expected);
    // As it lies in the tree, a file that was open is of a machine that is no longer.
    if (entry.at("left") == "closed")
      CHECK(expected.empty());
    else
      CHECK(rules_broken(file_of(entry)).contains("machine-stopped"));
  }
}

TEST_CASE("the worked example in FORMAT.md is a golden file, byte by byte") {
  std::string bytes;
  std::optional<std::size_t> size;
  for (const std::string& line : lines_between("<!-- number.arena -->", "<!-- end -->")) {
    std::smatch match;
    if (!std::regex_match(line, match, std::regex("([0-9a-f]{8})(?: ((?: [0-9a-f]{2})+))?(?:   .*)?"))) continue;
    const std::size_t offset = std::stoul(match[1], nullptr, 16);
    REQUIRE_FALSE(size);
    REQUIRE(offset >= bytes.size());
    bytes.resize(offset);  // what is not shown is zero
    std::istringstream values(match[2]);
    values >> std::hex;
    for (unsigned value; values >> value;) bytes.push_back(static_cast<char>(value));
    if (match[2].length() == 0) size = offset;
  }
  REQUIRE(size);
  REQUIRE(bytes.size() == 20480);
  CHECK((bytes == read_file(source("tests/golden/number.arena"))));
}

TEST_CASE("the tables in FORMAT.md have every field of the structs, at its offset, and leave no byte out") {
  using head = dm::arena_header;
  require_table("## Header",
                {FIELD(head, magic),
                 FIELD(head, format_version),
                 FIELD(head, byte_order),
                 FIELD(head, kind),
                 FIELD(head, schema_version),
                 FIELD(head, compatible_features),
                 FIELD(head, incompatible_features),
                 FIELD(head, uuid),
                 FIELD(head, created_unix_ns),
                 FIELD(head, slot_stride_bytes),
                 FIELD(head, version_offset),
                 FIELD(head, sequence_offset),
                 FIELD(head, value_offset),
                 FIELD(head, value_size_bytes),
                 FIELD(head, value_align_bytes),
                 FIELD(head, slots_max),
                 FIELD(head, schema_offset),
                 FIELD(head, schema_size_bytes),
                 FIELD(head, schema_checksum),
                 FIELD(head, control_offset),
                 FIELD(head, control_size_bytes),
                 FIELD(head, scratch_offset),
                 FIELD(head, scratch_size_bytes),
                 FIELD(head, index_offset),
                 FIELD(head, index_size_bytes),
                 FIELD(head, slots_offset),
                 FIELD(head, type_name),
                 FIELD(head, checksum)},
                sizeof(head));
  using block = dm::control_block;
  const auto recovery = [](field f) { return field{"last_recovery." + f.name, f.offset + 128, f.size}; };
  using record = dm::recovery_record;
  require_table("## Control block",
                {FIELD(block, boot_id),
                 FIELD(block, closed),
                 FIELD(block, synced),
                 FIELD(block, opened_unix_ns),
                 FIELD(block, owner_pid),
                 FIELD(block, owner_program),
                 FIELD(block, slot_count),
                 FIELD(block, occupied),
                 FIELD(block, reserved),
                 FIELD(block, vacant),
                 FIELD(block, retired),
                 FIELD(block, generation_floor),
                 FIELD(block, buffer_count),
                 FIELD(block, capacity),
                 FIELD(block, recovering),
                 FIELD(block, update_pending),
                 FIELD(block, update_index),
                 FIELD(block, update_version),
                 FIELD(block, disk_failed),
                 recovery(FIELD(record, unix_ns)),
                 recovery(FIELD(record, outcome)),
                 recovery(FIELD(record, slots_examined)),
                 recovery(FIELD(record, reserved_given_back)),
                 recovery(FIELD(record, updates_finished)),
                 recovery(FIELD(record, impossible_mended)),
                 recovery(FIELD(record, killed_pid)),
                 recovery(FIELD(record, killed_program)),
                 recovery(FIELD(record, recoveries_total)),
                 FIELD(block, durable_commit),
                 FIELD(block, durable_chain),
                 FIELD(block, durable_generation),
                 FIELD(block, buffer)},
                sizeof(block));
  using schema = dm::schema_head;
  require_table("## Schema",
                {FIELD(schema, magic), FIELD(schema, layout), FIELD(schema, total_bytes), FIELD(schema, field_count),
                 FIELD(schema, enumerator_count), FIELD(schema, string_bytes), FIELD(schema, version)},
                sizeof(schema));
  using row = dm::schema_field_record;
  require_table("## Schema",
                {FIELD(row, name), FIELD(row, type_name), FIELD(row, kind), FIELD(row, underlying), FIELD(row, depth),
                 FIELD(row, is_array), FIELD(row, offset), FIELD(row, size_bytes), FIELD(row, count),
                 FIELD(row, first_enumerator), FIELD(row, enumerator_count)},
                sizeof(row), 1);
  using enumerator = dm::schema_enumerator_record;
  require_table("## Schema", {FIELD(enumerator, name), FIELD(enumerator, value)}, sizeof(enumerator), 2);
}
