// Fuzz target: the inspection, which trusts nothing, over a hostile file in memory (hostile_file.hpp), or a schema alone.
//
// What must hold: nothing outside of the file is read, memory and work stay in proportion to it, everything that is
// printed is safe to print, and what opening would refuse is never called clean.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deferred_map/inspect.hpp"
#include "hostile_file.hpp"

namespace {

using namespace dm::inspect;

/// No control characters: what a terminal may be given.
void check_printable(std::string_view text) {
  for (const char c : text) FUZZ_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
}

/// The bytes of a hostile file, counting what is asked for.
class memory_source final : public byte_source {
 public:
  explicit memory_source(const fuzz::hostile_file& file, std::uint64_t& bytes_read) noexcept
      : file_(&file), bytes_read_(&bytes_read) {}

  std::size_t read(std::uint64_t offset, std::span<std::byte> out) const override {
    *bytes_read_ += out.size();
    return file_->read(offset, out);
  }
  std::uint64_t size_bytes() const override { return file_->size_bytes(); }
  std::uint64_t next_data(std::uint64_t offset) const override { return file_->next_data(offset); }

 private:
  const fuzz::hostile_file* file_;
  std::uint64_t* bytes_read_;
};

/// Follows a value's parts: they must nest, and lie within the value.
class nesting_visitor final : public dm::value_visitor {
 public:
  explicit nesting_visitor(std::span<const std::byte> value) noexcept : value_(value) {}

  void begin_struct(const dm::schema_field&) override { open_.push_back('{'); }
  void end_struct(const dm::schema_field&) override { close('{'); }
  void begin_array(const dm::schema_field&) override { open_.push_back('['); }
  void end_array(const dm::schema_field&) override { close('['); }
  void text(const dm::schema_field&, std::string_view text) override {
    within(reinterpret_cast<const std::byte*>(text.data()), text.size());
  }
  void bytes(const dm::schema_field&, std::span<const std::byte> bytes) override { within(bytes.data(), bytes.size()); }
  void finish() const { FUZZ_CHECK(open_.empty()); }

 private:
  void close(char bracket) {
    FUZZ_CHECK(!open_.empty() && open_.back() == bracket);
    open_.pop_back();
  }
  void within(const std::byte* begin, std::size_t size) const {
    FUZZ_CHECK(size == 0 || (begin >= value_.data() && begin + size <= value_.data() + value_.size()));
  }
  std::span<const std::byte> value_;
  std::vector<char> open_;
};

void show(const dm::schema& schema, std::span<const std::byte> value) {
  nesting_visitor visitor(value);
  dm::visit_value(schema, value, visitor);
  visitor.finish();
  check_printable(dm::to_text(schema, value));
}

/// A schema that was accepted is sound, and has one encoding.
void check_schema(const dm::schema& schema, std::span<const std::byte> encoded, std::uint32_t value_size) {
  FUZZ_CHECK(!dm::first_fault(schema, value_size));
  const std::vector<std::byte> again = dm::encode(schema);
  FUZZ_CHECK(again.size() <= encoded.size() && std::memcmp(again.data(), encoded.data(), again.size()) == 0);
  FUZZ_CHECK(!dm::first_difference(schema, schema));
  static const dm::schema another = dm::schema_of<fuzz_types::everything>();
  dm::first_difference(schema, another);
  dm::first_difference(another, schema);
  for (const char c : to_cpp(schema)) FUZZ_CHECK(c == '\n' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f));
}

void run_schema(fuzz::input& program) {
  const std::uint32_t value_size = program.number16();
  const auto bytes = std::as_bytes(program.rest());
  const dm::schema_result decoded = dm::decode(bytes, value_size);
  FUZZ_CHECK(decoded || !decoded.reason.empty());
  if (!decoded) return;
  check_schema(*decoded.value, bytes, value_size);
  // Any bytes will do for a value, and too few of them too.
  show(*decoded.value, bytes.first(std::min<std::size_t>(bytes.size(), value_size)));
}

/// What opening would refuse.
bool would_be_refused(const fuzz::hostile_file& file, const arena_file& arena) {
  std::array<std::byte, sizeof(dm::arena_header)> head{};
  const std::size_t there = file.read(0, head);
  if (dm::check_header(std::span(head).first(there))) return true;
  const dm::arena_header& header = arena.header();
  std::vector<std::byte> region(
      static_cast<std::size_t>(std::min(header.control_offset, file.size_bytes()) - sizeof header));
  file.read(sizeof header, region);
  if (dm::check_schema_region(header, region)) return true;
  if (!dm::decode(std::span(region).first(header.schema_size_bytes), header.value_size_bytes)) return true;
  if (!arena.control() || file.size_bytes() < header.slots_offset) return true;
  return dm::check_control(header, *arena.control(), file.size_bytes()).has_value();
}

void run_file(const fuzz::hostile_file& file, fuzz::input& program) {
  std::uint64_t bytes_read = 0;
  std::optional<arena_file> opened;
  try {
    opened.emplace("a file", std::make_unique<memory_source>(file, bytes_read));
  } catch (const dm::error& e) {
    FUZZ_CHECK(e.code() == dm::errc::not_an_arena);
    return;
  }
  const arena_file& arena = *opened;
  // A schema of 64 MiB is the most that is read at once.
  FUZZ_CHECK(bytes_read <= std::min<std::uint64_t>(file.size_bytes(), 65 << 20) + 4096);

  const summary s = summarize(arena);
  for (const std::string* text :
       {&s.path, &s.kind, &s.uuid, &s.type_name, &s.owner_program, &s.last_recovery_program, &s.left_text})
    check_printable(*text);
  FUZZ_CHECK(s.is_damaged == arena.head_is_damaged());
  for (const finding& found : arena.findings()) check_printable(found.text);
  if (!arena.has_layout()) {
    FUZZ_CHECK(arena.head_is_damaged() && arena.slots_in_file() == 0 && arena.slot_count() == 0);
    FUZZ_CHECK(!check(arena).is_clean());
    return;
  }
  if (arena.schema()) {
    const dm::arena_header& layout = arena.layout();
    std::vector<std::byte> encoded(static_cast<std::size_t>(layout.schema_size_bytes));
    encoded.resize(file.read(sizeof layout, encoded));
    check_schema(*arena.schema(), encoded, layout.value_size_bytes);
  }

  bytes_read = 0;
  const check_report report = check(arena);
  for (const finding& found : report.findings.listed()) check_printable(found.text);
  FUZZ_CHECK(report.slots_examined ==
             report.occupied + report.reserved + report.vacant + report.retired + report.impossible);
  FUZZ_CHECK(report.slots_examined <= arena.slots_in_file());
  if (report.is_clean()) FUZZ_CHECK(report.is_complete && !would_be_refused(file, arena));
  // Each part once, and what the blocks that are there may be read in.
  std::uint64_t there = 0;
  for (const fuzz::part& each : file.parts()) there += each.bytes.size() + (std::uint64_t{2} << 20);
  FUZZ_CHECK(bytes_read <= 4 * there + arena.slot_count() / 4);

  slot_scan scan(arena, {}, slot_parts::versions_and_values);
  std::uint64_t last = 0;
  for (int shown = 0; shown < 100; ++shown) {
    const slot_view* const slot = scan.next();
    if (slot == nullptr) break;
    FUZZ_CHECK(shown == 0 || slot->index > last);
    last = slot->index;
    FUZZ_CHECK(slot->index < arena.slot_count() && slot->value.size() <= arena.layout().value_size_bytes);
    if (arena.schema() && shown < 8) show(*arena.schema(), slot->value);
    if (shown % 16 != 0) continue;
    const lookup_result found = lookup(arena, {slot->index, slot->generation()});
    check_printable(found.to_string());
    FUZZ_CHECK(found.slot.version == slot->version);
    const bool is_live =
        slot->possible && (slot->state() == dm::slot_state::occupied || slot->state() == dm::slot_state::updating);
    FUZZ_CHECK((found.state == key_state::live) == is_live);
    if (is_live) FUZZ_CHECK(std::equal(found.value.begin(), found.value.end(), slot->value.begin(), slot->value.end()));
  }
  const std::uint64_t bits = program.number64();
  const key_parts any{static_cast<std::uint32_t>(bits), static_cast<std::uint32_t>(bits >> 34)};
  check_printable(lookup(arena, any).to_string());
  const std::string_view text(reinterpret_cast<const char*>(program.rest().data()), program.rest().size());
  if (const auto parsed = parse_key_parts(text)) lookup(arena, *parsed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::seed_files seeds;
  fuzz::input program(std::span(data, size));
  if (size != 0 && data[0] == 0xff) {
    program.byte();
    run_schema(program);
    return 0;
  }
  static fuzz::hostile_file file;
  file.become(seeds, program);
  run_file(file, program);
  return 0;
}
