// Faults of every rule, planted one by one: each is found by its name, said to be repairable, and mended, and the values
// that it does not concern are there afterwards.
#include <unistd.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "catch.hpp"
#include "deferred_map/format/index_layout.hpp"
#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/inspect.hpp"
#include "deferred_map/mapped_map.hpp"
#include "deferred_map/shared_map.hpp"
#include "failing_source.hpp"
#include "files.hpp"
#include "parts_value.hpp"
#include "temporary_directory.hpp"

namespace {

using dm::inspect::arena_file;
using map = dm::mapped_map<parts::value>;
using shared_map = dm::shared_map<parts::value>;
using values = std::map<dm::key, std::uint64_t>;

/// A file's bytes, with its header and control block where they can be changed.
class editor {
 public:
  explicit editor(std::filesystem::path path) : path_(std::move(path)), bytes(read_file(path_)) {
    std::memcpy(static_cast<void*>(&header), bytes.data(), sizeof header);
    original = header;
    std::memcpy(static_cast<void*>(&control), &bytes[header.control_offset], sizeof control);
  }

  std::size_t slot(std::size_t index) const {
    return original.slots_offset + index * std::size_t{original.slot_stride_bytes};
  }
  std::uint32_t version(std::size_t index) const { return get<std::uint32_t>(slot(index)); }
  void set_version(std::size_t index, std::uint32_t word) { put(slot(index), word); }
  void set_word(std::size_t index, std::uint32_t word, std::uint32_t auxiliary) {
    put(slot(index), std::uint64_t{auxiliary} << 32 | word);
  }
  void flip_index_bit(unsigned level, std::size_t bit) {
    const dm::index_levels levels(original.slots_max);
    bytes[original.index_offset + levels.offset[level] * 8 + bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
  bool in_buffer(std::uint32_t index) const {
    const auto* const end = control.buffer + control.buffer_count;
    return std::find(control.buffer, end, index) != end;
  }
  std::uint32_t vacant_slot(bool buffered) const {
    for (std::uint32_t i = 0; i < control.slot_count; ++i)
      if (dm::version::is_vacant(version(i)) && in_buffer(i) == buffered) return i;
    FAIL("no such slot");
    return 0;
  }
  template <class T>
  T get(std::size_t offset) const {
    T value;
    std::memcpy(&value, &bytes[offset], sizeof value);
    return value;
  }
  template <class T>
  void put(std::size_t offset, const T& value) {
    std::memcpy(&bytes[offset], &value, sizeof value);
  }
  void cut(std::size_t size) {
    is_cut = true;
    bytes.resize(size);
  }
  /// As it was left by a process that was killed: no marks.
  void leave_open() { control.closed = control.synced = 0, keeps_marks = true; }
  void save() {
    if (!keeps_marks) control.closed = control.synced = control.checksum();
    put(0, header);
    if (!is_cut) put(original.control_offset, control);
    write_file(path_, bytes);
  }

 private:
  std::filesystem::path path_;

 public:
  std::string bytes;
  dm::arena_header header, original;
  dm::control_block control;
  bool keeps_marks = false;  // those there are, whether they fit or not
  bool is_cut = false;
};

/// What a fault does to the file, and to what is to be there afterwards.
struct fault {
  const char* rule;
  const char* what;
  std::function<void(editor&, values&)> plant;
};

/// 350 slots: 150 with a value, some vacant in the buffer, some in the bitmap, some given back into the floor.
struct sample {
  std::filesystem::path path;
  values live;
  std::vector<dm::key> dead;
};
sample make_mapped(const temporary_directory& directory) {
  sample made{directory / "sound.arena", {}, {}};
  map m = map::create(made.path, {.max_slots = 10'000});
  std::vector<dm::key> keys;
  for (std::uint64_t i = 0; i < 400; ++i) keys.push_back(m.insert(parts::plain(i)));
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (i >= 98 && i < 199) continue;
    if (i < 98 && i % 2 == 1) continue;
    m.erase(keys[i]);
    made.dead.push_back(keys[i]);
    if (i >= 380) {  // these have had another life
      const dm::key again = m.insert(parts::plain(i));
      m.erase(again);
      made.dead.push_back(again);
    }
  }
  m.shrink_to_fit();
  while (m.slot_count() < 350) keys.push_back(m.insert(parts::plain(1'000)));
  for (const dm::key k : keys) {
    if (k.index() < 150 || k.index() % 4 == 0 || !m.erase(k)) continue;  // past 128 the buffer spills
    made.dead.push_back(k);
  }
  made.live.clear();
  for (auto [k, value] : m) made.live.emplace(k, value.big);
  m.close();
  return made;
}
sample make_shared_file(const temporary_directory& directory) {
  sample made{directory / "sound.arena", {}, {}};
  shared_map m = shared_map::create(made.path, {.max_slots = 10'000});
  std::vector<dm::key> keys;
  for (std::uint64_t i = 0; i < 300; ++i) keys.push_back(m.insert(parts::plain(i)));
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (i % 3 != 0) {
      made.live.emplace(keys[i], i);
      continue;
    }
    m.remove(keys[i]);
    made.dead.push_back(keys[i]);
  }
  m.close();
  return made;
}

template <class Map>
std::string fault_of_values(Map& m, const values& expected) {
  for (const auto& [k, n] : expected) {
    const auto found = m.get(k);
    if (!found) return "a value is gone: slot " + std::to_string(k.index());
    const parts::value there = *found;
    parts::value whole = parts::plain(n);
    if (there.big != n || there.low != whole.low || there.real != whole.real || there.at[1].x != whole.at[1].x ||
        std::string(there.name) != whole.name)
      return "a value was changed: slot " + std::to_string(k.index());
  }
  return {};
}

/// Repairs `path` to `copy` and holds the result against everything it must be.
template <class Map>
void is_mended(const std::filesystem::path& path, const std::filesystem::path& copy, const std::string& rule,
               const values& expected, const std::vector<dm::key>& dead) {
  const std::string before = read_file(path);
  const auto arena = arena_file::open(path);
  const auto plan = dm::inspect::plan_repair(arena);
  bool is_found = false;
  for (const auto& found : plan.before.findings.listed()) {
    if (found.rule == rule && found.repairable) is_found = true;
    if (found.level == dm::inspect::severity::error) {
      INFO(found.rule << ": " << found.text);
      CHECK(found.repairable);
    }
    if (found.repairable) {
      INFO(found.rule);
      CHECK(!dm::inspect::mending_of(found.rule).empty());
    }
  }
  CHECK(is_found);
  CHECK(plan.is_needed);
  CHECK_FALSE(plan.after);
  const auto report = dm::inspect::repair_to(arena, copy);
  REQUIRE(report.after);
  for (const auto& left : report.after->findings.listed()) {
    INFO(left.rule << ": " << left.text);
    CHECK(left.level == dm::inspect::severity::note);
  }
  CHECK(read_file(path) == before);
  // Again there is nothing to do.
  const auto again = dm::inspect::repair_to(arena_file::open(copy), copy.string() + ".again");
  CHECK_FALSE(again.is_needed);
  CHECK_FALSE(std::filesystem::exists(copy.string() + ".again"));
  {
    Map m = Map::open(copy, {.verify = true});
    CHECK(fault_of_values(m, expected) == "");
    CHECK(m.size() == expected.size());
    std::set<dm::key> is_dead(dead.begin(), dead.end());
    for (int i = 0; i < 600; ++i) {
      const dm::key k = m.insert(parts::plain(7));
      if (is_dead.count(k) != 0)
        FAIL_CHECK("a dead key came alive: slot " << k.index() << ", generation " << k.generation());
    }
    CHECK(fault_of_values(m, expected) == "");
  }
  std::filesystem::remove(copy);
}

void forget(values& of, std::uint32_t slot) {
  for (auto at = of.begin(); at != of.end(); ++at)
    if (at->first.index() == slot) {
      of.erase(at);
      return;
    }
  FAIL("there is no value in slot " << slot);
}

constexpr std::uint32_t taken = 101;  // a slot with a value
using dm::version::occupied;
using dm::version::reserved;
using dm::version::vacant;

const fault mapped_faults[] = {
    // The header: one byte is known by the checksum, more by all the rest.
    {"header-magic", "the first byte", [](editor& e, values&) { e.header.magic[0] = 'x'; }},
    {"header-magic", "all of it", [](editor& e, values&) { e.header.magic = {}; }},
    {"header-checksum", "the checksum itself", [](editor& e, values&) { e.header.checksum ^= 0x1234'5678'9abc; }},
    {"header-checksum", "a byte of the uuid", [](editor& e, values&) { e.header.uuid[3] ^= 1; }},
    {"header-checksum", "the time, whole", [](editor& e, values&) { e.header.created_unix_ns = -1; }},
    {"header-checksum", "an unknown feature", [](editor& e, values&) { e.header.incompatible_features = 1; }},
    {"header-value", "a size too large", [](editor& e, values&) { e.header.value_size_bytes |= 0x8000'0000; }},
    {"header-value", "an alignment", [](editor& e, values&) { e.header.value_align_bytes = 7; }},
    {"header-slots-max", "too many", [](editor& e, values&) { e.header.slots_max |= std::uint64_t{1} << 40; }},
    {"header-schema-size", "too large", [](editor& e, values&) { e.header.schema_size_bytes |= 1u << 30; }},
    {"header-layout", "an offset, whole", [](editor& e, values&) { e.header.slots_offset = 0x0123'4567'89ab; }},
    {"header-slot-layout", "the stride", [](editor& e, values&) { e.header.slot_stride_bytes = 3; }},
    {"header-kind", "no kind there is", [](editor& e, values&) { e.header.kind = 9; }},
    {"header-checksum", "another kind", [](editor& e, values&) { e.header.kind = 2; }},
    {"header-byte-order", "two bytes", [](editor& e, values&) { e.header.byte_order = 0x0405'0201; }},
    {"header-version", "0", [](editor& e, values&) { e.header.format_version = 0; }},
    {"header-newer-format", "a version to come", [](editor& e, values&) { e.header.format_version = 2; }},
    {"header-type-name", "without an end", [](editor& e, values&) { e.header.type_name.fill('x'); }},
    {"header-reserved", "bytes that are 0", [](editor& e, values&) { e.header.unused.fill(1); }},
    // The schema.
    {"schema-checksum", "a letter of a name",
     [](editor& e, values&) { e.bytes[512 + e.header.schema_size_bytes - 3] ^= 1; }},
    {"schema-undecodable", "its magic", [](editor& e, values&) { e.bytes[512] ^= 1; }},
    {"schema-checksum", "what lies behind it",
     [](editor& e, values&) { std::memset(&e.bytes[512 + e.header.schema_size_bytes], 'x', 20); }},
    {"schema-checksum", "what the header says of it",
     [](editor& e, values&) { e.header.schema_checksum = 0x1234'5678; }},
    // How it was left.
    {"closed-mark", "a change after closing", [](editor& e, values&) { e.keeps_marks = true, ++e.control.buffer[0]; }},
    {"synced-mark", "that alone", [](editor& e, values&) { e.keeps_marks = true, e.control.synced ^= 8; }},
    {"closed-under-way", "closed within an operation",
     [](editor& e, values&) { ++e.control.reserved, --e.control.vacant; }},
    {"machine-stopped", "another boot, no mark", [](editor& e, values&) { e.leave_open(), e.control.boot_id ^= 1; }},
    {"not-closed", "killed within an operation", [](editor& e, values&) { e.leave_open(), --e.control.occupied; }},
    {"reserved-left", "killed with a handle",
     [](editor& e, values& v) {
       e.leave_open(), e.set_version(taken, reserved(1)), --e.control.occupied, ++e.control.reserved;
       forget(v, taken);
     }},
    {"update-pending", "a committed update",
     [](editor& e, values& v) {
       e.leave_open();
       e.put(e.header.scratch_offset, parts::plain(4'711));
       e.control.update_pending = 1, e.control.update_index = taken, e.control.update_version = occupied(1);
       v[dm::key::from_parts(taken, 1)] = 4'711;
     }},
    {"update-pending", "an update of a value that is gone",
     [](editor& e, values&) {
       e.leave_open();
       e.put(e.header.scratch_offset, parts::plain(4'711));
       e.control.update_pending = 1, e.control.update_index = taken, e.control.update_version = occupied(5);
     }},
    {"update-mark", "of no slot",
     [](editor& e, values&) { e.control.update_pending = 1, e.control.update_index = 9'999; }},
    {"recovering-mark", "3", [](editor& e, values&) { e.control.recovering = 3; }},
    {"not-closed", "a recovery under way", [](editor& e, values&) { e.leave_open(), e.control.recovering = 1; }},
    // Bounds, and the file's length.
    {"capacity-over-maximum", "", [](editor& e, values&) { e.control.capacity = 10'001; }},
    {"count-over-capacity", "", [](editor& e, values&) { e.control.capacity = 300; }},
    {"file-cut-short", "room that is not there", [](editor& e, values&) { e.control.capacity = 9'000; }},
    {"file-cut-short", "cut within the slots",
     [](editor& e, values& v) {
       e.save(), e.cut(e.slot(150) + 10);
       std::erase_if(v, [](const auto& entry) { return entry.first.index() >= 150; });
     }},
    {"file-cut-short", "cut within the index",
     [](editor& e, values& v) { e.save(), e.cut(e.header.index_offset + 9), v.clear(); }},
    {"control-cut-short", "cut within the control block",
     [](editor& e, values& v) { e.save(), e.cut(e.header.control_offset + 100), v.clear(); }},
    {"closed-mark", "the control block, whole",
     [](editor& e, values&) {
       e.keeps_marks = true, std::memset(static_cast<void*>(&e.control), 0x5a, sizeof e.control);
     }},
    {"closed-mark", "the control block, zeros but for a mark",
     [](editor& e, values&) { e.keeps_marks = true, e.control = {}, e.control.closed = 1; }},
    {"leftover-slot", "a count that is too small, of a killed process",
     [](editor& e, values&) { e.leave_open(), e.control.slot_count = 150; }},
    // Counts.
    {"count-sum", "", [](editor& e, values&) { ++e.control.vacant; }},
    {"count-occupied", "", [](editor& e, values&) { ++e.control.vacant, --e.control.occupied; }},
    {"count-vacant", "", [](editor& e, values&) { --e.control.vacant, ++e.control.occupied; }},
    {"count-reserved", "", [](editor& e, values&) { ++e.control.reserved, --e.control.vacant; }},
    {"count-retired", "", [](editor& e, values&) { ++e.control.retired, --e.control.vacant; }},
    {"generation-floor", "", [](editor& e, values&) { e.control.generation_floor = dm::version::last_generation + 1; }},
    {"shared-slots", "", [](editor& e, values&) { e.control.shared_slots = 64; }},
    // For people only.
    {"control-reserved", "", [](editor& e, values&) { e.control.unused_counts[0] = 1; }},
    {"recovery-record", "", [](editor& e, values&) { e.control.last_recovery.outcome = 9; }},
    {"owner-program", "", [](editor& e, values&) { std::memset(e.control.owner_program, 'x', 28); }},
    // Slots.
    {"version-impossible", "updating", [](editor& e, values& v) { e.set_version(taken, 6), forget(v, taken); }},
    {"version-impossible", "generation 0",
     [](editor& e, values& v) { e.set_version(taken, reserved(0)), forget(v, taken); }},
    {"version-impossible", "the retired one, with a value",
     [](editor& e, values& v) { e.set_version(taken, occupied(dm::version::retired_generation)), forget(v, taken); }},
    {"slot-never-made", "", [](editor& e, values&) { e.set_version(e.vacant_slot(false), 0); }},
    {"leftover-slot", "with a value, behind a count that is vouched for",
     [](editor& e, values&) { e.set_version(e.control.slot_count + 1, occupied(9)); }},
    {"leftover-slot", "past the floor",
     [](editor& e, values&) { e.set_version(e.control.slot_count + 1, vacant(99)); }},
    // Buffer and bitmap.
    {"buffer-too-long", "", [](editor& e, values&) { e.control.buffer_count = 129; }},
    {"buffer-out-of-range", "", [](editor& e, values&) { e.control.buffer_count = 1, e.control.buffer[0] = 9'000; }},
    {"buffer-not-vacant", "", [](editor& e, values&) { e.control.buffer_count = 1, e.control.buffer[0] = taken; }},
    {"buffer-duplicate", "",
     [](editor& e, values&) {
       e.control.buffer_count = 2, e.control.buffer[0] = e.control.buffer[1] = e.vacant_slot(false);
     }},
    {"index-taken-as-vacant", "", [](editor& e, values&) { e.flip_index_bit(0, taken); }},
    {"index-not-listed", "", [](editor& e, values&) { e.flip_index_bit(0, e.vacant_slot(false)); }},
    {"index-listed-twice", "",
     [](editor& e, values&) { e.control.buffer_count = 1, e.control.buffer[0] = e.vacant_slot(false); }},
    {"index-behind-last", "", [](editor& e, values&) { e.flip_index_bit(0, e.control.slot_count); }},
    {"index-summary", "level 1", [](editor& e, values&) { e.flip_index_bit(1, 0); }},
    {"index-summary", "level 2", [](editor& e, values&) { e.flip_index_bit(2, 0); }},
};

/// Says of slot `taken` that an update of it is under way, with the new value in the scratch area of lease 3.
void begin_update(editor& e, std::uint64_t ticket, std::uint64_t target) {
  e.set_word(taken, 1u << 2 | dm::version::updating_bits, 3u | 77u << 10);
  const std::size_t lease = e.header.scratch_offset + dm::shared_layout::table_bytes +
                            3 * dm::shared_layout::lease_stride_bytes(sizeof(parts::value));
  e.put(lease, ticket);
  e.put(lease + 8, target);
  e.put(lease + 16, std::uint64_t{5});
  e.put(lease + 32, parts::plain(4'711));
}

const fault shared_faults[] = {
    {"word-impossible", "vacant, with an owner", [](editor& e, values&) { e.set_word(99, vacant(2), 5); }},
    {"word-impossible", "reserved by nobody there can be",
     [](editor& e, values& v) { e.set_word(taken, reserved(1), 200), forget(v, taken); }},
    {"version-impossible", "", [](editor& e, values& v) { e.set_word(taken, occupied(0), 0), forget(v, taken); }},
    {"slot-owned", "reserved", [](editor& e, values& v) { e.set_word(taken, reserved(1), 3), forget(v, taken); }},
    {"slot-owned", "reserved, killed",
     [](editor& e, values& v) { e.leave_open(), e.set_word(taken, reserved(1), 3), forget(v, taken); }},
    {"slot-owned", "updating: the new value is finished",
     [](editor& e, values& v) { begin_update(e, 77, taken), v[dm::key::from_parts(taken, 1)] = 4'711; }},
    {"slot-owned", "updating: a scratch area of another update",
     [](editor& e, values&) { begin_update(e, 78, taken); }},
    {"slot-owned", "updating: a scratch area of another slot", [](editor& e, values&) { begin_update(e, 77, 100); }},
    {"index-taken-as-vacant", "", [](editor& e, values&) { e.flip_index_bit(0, taken); }},
    {"index-not-listed", "", [](editor& e, values&) { e.flip_index_bit(0, 99); }},
    {"index-not-listed", "never used", [](editor& e, values&) { e.flip_index_bit(0, e.control.slot_count - 1); }},
    {"attachment-left", "", [](editor& e, values&) { e.put(e.header.scratch_offset + 5 * 128, std::uint32_t{1}); }},
    {"shared-counts", "", [](editor& e, values&) { e.control.occupied = 3; }},
    {"shared-slots", "", [](editor& e, values&) { e.control.shared_slots += 64; }},
    {"control-block", "slots that are no whole word", [](editor& e, values&) { e.control.shared_slots -= 1; }},
    {"control-block", "closed within a salvage", [](editor& e, values&) { e.control.recovering = 1; }},
    {"closed-mark", "", [](editor& e, values&) { e.keeps_marks = true, ++e.control.unused_counts[0]; }},
    {"machine-stopped", "", [](editor& e, values&) { e.leave_open(), e.control.boot_id ^= 1; }},
    {"file-cut-short", "",
     [](editor& e, values& v) {
       e.save(), e.cut(e.slot(200));
       std::erase_if(v, [](const auto& entry) { return entry.first.index() >= 200; });
     }},
    {"header-checksum", "a sequence offset", [](editor& e, values&) { e.header.sequence_offset = 8; }},
    {"leftover-slot", "",
     [](editor& e, values&) {
       e.leave_open(), e.control.slot_count = e.control.capacity = 128, e.control.shared_slots = 128;
     }},
};

template <class Map>
void run_table(const temporary_directory& directory, const sample& sound, std::span<const fault> faults) {
  const auto damaged = directory / "damaged.arena", mended = directory / "mended.arena";
  for (const fault& each : faults) {
    INFO(each.rule << ": " << each.what);
    std::filesystem::copy_file(sound.path, damaged, std::filesystem::copy_options::overwrite_existing);
    values expected = sound.live;
    editor edit(damaged);
    each.plant(edit, expected);
    edit.save();
    std::vector<dm::key> dead = sound.dead;
    for (const auto& [k, n] : sound.live)
      if (expected.count(k) == 0) dead.push_back(k);
    // A shared map keeps no generations of slots that the file does not have any more.
    if constexpr (std::is_same_v<Map, shared_map>)
      if (edit.is_cut) std::erase_if(dead, [](dm::key k) { return k.index() >= 200; });
    is_mended<Map>(damaged, mended, each.rule, expected, dead);
  }
}

}  // namespace

TEST_CASE("each fault of a mapped map's file is found, said to be repairable and mended") {
  temporary_directory directory(temporary_directory::in_memory());
  static_assert(std::size(mapped_faults) + std::size(shared_faults) >= 40);
  run_table<map>(directory, make_mapped(directory), mapped_faults);
}

TEST_CASE("each fault of a shared map's file is found, said to be repairable and mended") {
  temporary_directory directory(temporary_directory::in_memory());
  run_table<shared_map>(directory, make_shared_file(directory), shared_faults);
}

TEST_CASE("a sound file needs no repair, and one of a killed process only where opening would mend it") {
  temporary_directory directory;
  const sample sound = make_mapped(directory);
  CHECK_FALSE(dm::inspect::repair_to(arena_file::open(sound.path), directory / "copy").is_needed);
  editor edit(sound.path);
  edit.leave_open();
  edit.save();
  CHECK_FALSE(dm::inspect::repair_to(arena_file::open(sound.path), directory / "copy").is_needed);
  CHECK_FALSE(std::filesystem::exists(directory / "copy"));
}

TEST_CASE("many faults at once, at random places, end in a sound map or in a refusal, and values that are there stay") {
  temporary_directory directory(temporary_directory::in_memory());
  const sample sound = make_mapped(directory);
  const auto seed = static_cast<unsigned>(std::random_device{}());
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  const std::string whole = read_file(sound.path);
  const editor edit(sound.path);
  const dm::index_levels levels(edit.header.slots_max);
  int repaired = 0;
  for (int round = 0; round < 100; ++round) {
    INFO("round " << round);
    std::string bytes = whole;
    std::set<std::uint32_t> touched;
    for (auto flips = 1 + random() % 5; flips != 0; --flips) {
      const std::size_t begin[] = {0, 512, edit.header.control_offset, edit.header.index_offset,
                                   edit.header.slots_offset};
      const std::size_t size[] = {512, edit.header.schema_size_bytes, 768, levels.words_total * 8,
                                  350 * std::size_t{edit.header.slot_stride_bytes}};
      const std::size_t part = random() % 5;
      std::size_t at = begin[part] + random() % size[part];
      if (part == 4) {  // versions only: what a value was cannot be told
        const auto slot = static_cast<std::uint32_t>(random() % 350);
        touched.insert(slot);
        at = edit.slot(slot) + random() % 4;
      }
      bytes[at] ^= static_cast<char>(1 + random() % 255);
    }
    write_file(directory / "damaged", bytes);
    std::optional<arena_file> arena;
    const auto unusable = error_of([&] { arena.emplace(arena_file::open(directory / "damaged")); });
    if (unusable) continue;
    const auto error = error_of([&] {
      const auto report = dm::inspect::repair_to(*arena, directory / "mended");
      if (!report.after || !report.after->is_clean()) {
        CHECK(read_file(directory / "damaged") == bytes);
        return;
      }
      ++repaired;
      map m = map::open(directory / "mended", {.verify = true});
      values expected = sound.live;
      std::erase_if(expected, [&](const auto& entry) { return touched.count(entry.first.index()) != 0; });
      CHECK(fault_of_values(m, expected) == "");
    });
    if (error) {
      INFO(error->what());
      // Of a kind that is not repaired, as a header may say by one byte, or so it may seem.
      CHECK((error->code() == dm::errc::bad_options || error->code() == dm::errc::type_mismatch));
    }
    std::filesystem::remove(directory / "mended");
  }
  CHECK(repaired > 40);
}

TEST_CASE("what the medium cannot give is lost, its keys stay dead, and all else is kept") {
  temporary_directory directory(temporary_directory::in_memory());
  const sample sound = make_mapped(directory);
  const std::string whole = read_file(sound.path);
  const editor edit(sound.path);
  std::size_t lost_in_all = 0;
  for (std::uint64_t page = edit.header.control_offset / 4096; page < whole.size() / 4096; ++page) {
    INFO(page);
    const arena_file arena("medium", std::make_unique<failing_source>(whole, page));
    const auto report = dm::inspect::repair_to(arena, directory / "mended");
    if (page * 4096 == edit.header.scratch_offset) continue;  // of no use in a file that was closed
    REQUIRE(report.after);
    CHECK(report.after->is_clean());
    map m = map::open(directory / "mended", {.verify = true});
    values expected = sound.live;
    std::vector<dm::key> lost;
    for (const auto& [k, n] : sound.live) {
      const std::size_t begin = edit.slot(k.index()), end = begin + edit.header.value_offset + sizeof(parts::value);
      if (begin < (page + 1) * 4096 && page * 4096 < end) lost.push_back(k), expected.erase(k);
    }
    lost_in_all += lost.size();
    CHECK(fault_of_values(m, expected) == "");
    for (int i = 0; i < 600; ++i) m.insert(parts::plain(7));
    for (const dm::key k : lost) CHECK_FALSE(m.contains(k));
    m.close();
    std::filesystem::remove(directory / "mended");
  }
  CHECK(lost_in_all > 100);
}

TEST_CASE("where a slot's generation is lost, no key comes alive that it may have had") {
  temporary_directory directory(temporary_directory::in_memory());
  const auto path = directory / "a.arena", mended = directory / "mended.arena";
  std::vector<dm::key> keys;
  {
    map m = map::create(path, {.max_slots = 64});
    for (std::uint64_t i = 0; i < 10; ++i) keys.push_back(m.insert(parts::plain(i)));
    m.close();
  }
  const std::string sound = read_file(path);
  // The slot that is taken again and again may have had any number of lives more than the others.
  constexpr std::uint32_t many = 5'000'000;
  const std::function<void(editor&)> losses[] = {
      [](editor& e) { e.set_version(9, 0); },  // zeros, as of a sector that the disk lost
      [](editor& e) { e.set_version(9, dm::version::reserved(0)); },
      [](editor& e) { e.save(), e.cut(e.slot(9)); },
      [](editor& e) { e.set_version(8, vacant(dm::version::retired_generation)), e.save(), e.cut(e.slot(9)); },
  };
  for (const auto& lose : losses) {
    write_file(path, sound);
    editor edit(path);
    lose(edit);
    edit.save();
    REQUIRE(dm::inspect::repair_to(arena_file::open(path), mended).is_clean());
    map m = map::open(mended, {.verify = true});
    bool is_taken_again = false;
    for (int i = 0; i < 54; ++i) {
      const dm::key k = m.insert(parts::plain(7));
      if (k.index() != 9) continue;
      is_taken_again = true;
      CHECK(k.generation() > many);
    }
    CHECK(is_taken_again);
    for (std::size_t i = 0; i < 8; ++i) CHECK(m[keys[i]].big == i);
    CHECK_FALSE(m.contains(keys[9]));
    m.close();
    std::filesystem::remove(mended);
  }
}

TEST_CASE("a value is not changed by a mark alone: a file that was closed has no update to finish") {
  temporary_directory directory(temporary_directory::in_memory());
  const auto path = directory / "a.arena", mended = directory / "mended.arena";
  dm::key k;
  {
    map m = map::create(path, {.max_slots = 64});
    k = m.insert(parts::plain(1));
    m.update(k, [](parts::value& value) { value = parts::plain(2); });
    *m.get(k) = parts::plain(3);
    m.close();
  }
  editor edit(path);
  edit.control.update_pending ^= 1;  // one bit
  edit.keeps_marks = true;
  edit.save();
  const auto report = dm::inspect::repair_to(arena_file::open(path), mended);
  CHECK(report.is_clean());
  map m = map::open(mended, {.verify = true});
  CHECK(fault_of_values(m, {{k, 3}}) == "");
}

TEST_CASE("a file is repaired the same however few of its faults are listed") {
  temporary_directory directory(temporary_directory::in_memory());
  const sample sound = make_mapped(directory);
  editor edit(sound.path);
  ++edit.control.vacant;
  edit.save();
  for (const std::size_t listed : {0, 1}) {
    const auto plan = dm::inspect::plan_repair(arena_file::open(sound.path), {.listed_per_rule_max = listed});
    CHECK(plan.is_needed);
    CHECK(plan.refusal == "");
  }
}

TEST_CASE("a file that is in use is not copied for a sound one because its header is damaged besides") {
  temporary_directory directory(temporary_directory::in_memory());
  const auto path = directory / "a.arena";
  map m = map::create(path, {.max_slots = 64});
  m.insert(parts::plain(1));
  for (const std::size_t at : {50, 64}) {  // of the uuid; of the slot's length, so that no slot is found
    const char before = read_file(path)[at];
    overwrite(path, at, std::string(1, static_cast<char>(before ^ 0x55)));
    const auto refused = error_of([&] { dm::inspect::repair_to(arena_file::open(path), directory / "mended.arena"); });
    REQUIRE(refused);
    CHECK(refused->code() == dm::errc::in_use);
    CHECK_FALSE(std::filesystem::exists(directory / "mended.arena"));
    overwrite(path, at, std::string(1, before));
  }
}

TEST_CASE("what a later version keeps in a file, and others may ignore, is kept") {
  temporary_directory directory(temporary_directory::in_memory());
  const sample sound = make_mapped(directory);
  editor edit(sound.path);
  edit.header.compatible_features = 1;
  edit.header.checksum = edit.header.computed_checksum();
  edit.control.unused_counts[0] = 7;
  edit.control.unused_recovery[0] = 9;
  ++edit.control.vacant;
  edit.put(edit.header.control_offset + 4000, std::uint32_t{11});  // behind what is described
  edit.save();
  REQUIRE(dm::inspect::repair_to(arena_file::open(sound.path), directory / "mended.arena").is_clean());
  const editor mended(directory / "mended.arena");
  CHECK(mended.control.unused_counts[0] == 7);
  CHECK(mended.control.unused_recovery[0] == 9);
  CHECK(mended.get<std::uint32_t>(edit.header.control_offset + 4000) == 11);
}
