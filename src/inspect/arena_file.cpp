#include "deferred_map/inspect/arena_file.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "../arena/posix_file.hpp"
#include "../arena/posix_storage.hpp"
#include "deferred_map/format/value_text.hpp"
#include "head_checks.hpp"
#include "journal_overlay.hpp"

namespace dm::inspect {
namespace {

constexpr std::size_t version_bytes = 4;

left_state left_as_marks_say(const control_block& control) {
  std::uint64_t boot_now = control.boot_id;
  try {
    boot_now = posix::boot_id();
  } catch (const dm::error&) {
    // Without /proc nothing tells this boot from another; take it for the same, and the rest is still told.
  }
  // After another start of the machine only what was synced counts; within one, what was closed.
  if (control.boot_id != boot_now)
    return control.synced != 0 && control.synced == control.checksum() ? left_state::closed
                                                                       : left_state::machine_stopped;
  if (control.recovering == recovering_salvage) return left_state::machine_stopped;
  return control.closed != 0 ? left_state::closed : left_state::killed;
}

bool begins_as_durable(const byte_source& source) {
  arena_header header;
  const auto bytes = std::as_writable_bytes(std::span(&header, 1));
  return source.read(0, bytes) == bytes.size() && header.magic == arena_header::magic_bytes &&
         header.kind == static_cast<std::uint32_t>(arena_kind::durable);
}

}  // namespace

const char* to_string(left_state state) noexcept {
  switch (state) {
    case left_state::closed:
      return "closed";
    case left_state::open:
      return "open";
    case left_state::killed:
      return "killed";
    case left_state::machine_stopped:
      return "machine stopped";
    case left_state::unknown:
      return "unknown";
  }
  return "unknown";
}

arena_file arena_file::open(const std::filesystem::path& path, journal_use use) {
  auto source = open_file(path);
  if (use == journal_use::ignore || !begins_as_durable(*source)) return {path, std::move(source)};
  // Before the journal is looked for: from here on neither it nor the arena is changed under us, but for what is added. Where
  // a file system has no locks, what is written meanwhile may show.
  (void)source->pin(durable_reader_lock_offset);
  return {path, std::move(source), open_journal(path)};
}

arena_file::arena_file(std::filesystem::path path, std::unique_ptr<byte_source> source)
    : path_(std::move(path)), source_(std::move(source)), size_bytes_(source_->size_bytes()) {
  read_all(nullptr, false);
}

arena_file::arena_file(std::filesystem::path path, std::unique_ptr<byte_source> source,
                       std::unique_ptr<byte_source> journal)
    : path_(std::move(path)), source_(std::move(source)), size_bytes_(source_->size_bytes()) {
  read_all(journal.get(), true);
}

void arena_file::read_all(const byte_source* journal, bool has_journal) {
  read_header();
  if (!has_layout_) {
    schema_reason_ = "the header does not tell where it is";
    return;
  }
  if (has_journal && is_durable()) apply_journal(journal);
  read_schema();
  read_control();
  if (journal_) findings_.insert(findings_.end(), journal_->findings.begin(), journal_->findings.end());
  if (!control_) return;
  const std::vector<finding> more = examine_control(*this);
  findings_.insert(findings_.end(), more.begin(), more.end());
}

void arena_file::apply_journal(const byte_source* journal) {
  std::optional<control_block> control(std::in_place);
  try {
    const auto bytes = std::as_writable_bytes(std::span(&*control, 1));
    if (source_->read(layout_.control_offset, bytes) != bytes.size()) control.reset();
  } catch (const dm::error&) {
    control.reset();
  }
  journal_reading found = read_journal(*source_, journal, journal_path_of(path_), layout_, control);
  journal_ = std::move(found.state);
  if (!journal_->is_applied) return;
  size_bytes_ = found.size_bytes;
  source_ = std::make_unique<overlay_source>(std::move(source_), std::move(found.patches), found.size_bytes);
}

void arena_file::read_header() {
  std::array<std::byte, sizeof(arena_header)> head{};
  // Without a header there is nothing to go on with, so here the medium's failure is the caller's.
  const std::size_t got = source_->read(0, head);
  header_examination examined = examine_header(path_, std::span(head).first(got), size_bytes_);
  findings_ = std::move(examined.findings);
  header_ = examined.header;
  newer_format_ = examined.newer_format;
  has_layout_ = examined.layout.has_value();
  layout_ = examined.layout.value_or(header_);
}

void arena_file::read_schema() {
  const auto bad = [this](std::string_view rule, std::string text, severity level = severity::error) {
    findings_.push_back({rule, level, sizeof(arena_header), std::nullopt, std::move(text)});
  };
  const std::uint64_t there = std::min(layout_.control_offset, size_bytes_);
  std::vector<std::byte> region(there - sizeof(arena_header));
  std::vector<byte_range> unreadable;
  region.resize(read_around_errors(*source_, sizeof(arena_header), region, unreadable));
  for (const byte_range& range : unreadable)
    findings_.push_back({"unreadable", severity::error, range.offset, std::nullopt,
                         std::to_string(range.size_bytes) + " bytes within the schema cannot be read"});
  if (region.size() < layout_.control_offset - sizeof(arena_header))
    bad("schema-cut-short", "the file ends within its schema");
  else if (const auto wrong = check_schema_region(layout_, region))
    bad("schema-checksum", "the schema does not have the checksum it should have");

  const std::size_t encoded = std::min<std::size_t>(region.size(), layout_.schema_size_bytes);
  schema_result decoded = decode(std::span(region).first(encoded), layout_.value_size_bytes);
  if (!decoded) {
    schema_reason_ = decoded.reason;
    return bad("schema-undecodable", "values cannot be shown: " + schema_reason_);
  }
  schema_ = std::move(decoded.value);
  const std::string& whole_name = schema_->fields.front().type_name;
  const std::string_view in_header(header_.type_name.data(),
                                   ::strnlen(header_.type_name.data(), header_.type_name.size()));
  if (!whole_name.starts_with(in_header) || (in_header.empty() && !whole_name.empty()))
    bad("schema-type-name",
        "header and schema name different types: \"" + escaped(in_header) + "\" and \"" + escaped(whole_name) + "\"",
        severity::warning);
}

void arena_file::read_control() {
  locks_ = source_->locks();
  const auto read_once = [this]() -> std::optional<control_block> {
    control_block control;
    try {
      const auto bytes = std::as_writable_bytes(std::span(&control, 1));
      if (source_->read(layout_.control_offset, bytes) == bytes.size()) return control;
      findings_.push_back(
          {"control-cut-short", severity::error, size_bytes_, std::nullopt, "the file ends before its counts do"});
    } catch (const dm::error& e) {
      findings_.push_back({"unreadable", severity::error, layout_.control_offset, std::nullopt,
                           "the control block cannot be read: " + e.code().message()});
    }
    return std::nullopt;
  };
  control_ = read_once();
  if (!control_) return;
  // The marks vouch for what was in the file, not for what the journal adds, and opening does not ask them then.
  if (journal_ && journal_->is_applied && journal_->shown_commit != journal_->arena_commit)
    control_->closed = control_->synced = 0;
  left_ = locks_.held == lock_state::mode::writing ? left_state::open : left_as_marks_say(*control_);
  if (journal_ && journal_->is_applied) return;  // one commit, and stays it
  // Of a file in use: two readings that agree are most likely of one moment. A busy writer is not waited for.
  for (int tries = 0; left_ == left_state::open && tries < 16; ++tries) {
    const std::optional<control_block> again = read_once();
    if (!again) return;
    const bool agree = std::memcmp(&*again, &*control_, sizeof *again) == 0;
    control_ = again;
    if (agree) return;
  }
}

bool arena_file::head_is_damaged() const noexcept {
  return std::any_of(findings_.begin(), findings_.end(),
                     [](const finding& found) { return found.level == severity::error; });
}

std::string arena_file::type_name() const {
  if (schema_) return schema_->fields.front().type_name;
  return {header_.type_name.data(), ::strnlen(header_.type_name.data(), header_.type_name.size())};
}

bool arena_file::mends_when_opened() const noexcept {
  // At a commit nothing was under way.
  if (journal_ && journal_->is_applied) return false;
  if (is_durable()) return left_ != left_state::closed && left_ != left_state::unknown;
  switch (left_) {
    case left_state::open:
    case left_state::machine_stopped:
      return true;
    // The same question that opening asks: only where the answer is no will it rely on counts and index as they are.
    case left_state::killed:
      if (layout_.kind == static_cast<std::uint32_t>(arena_kind::shared)) return true;
      return !control_->nothing_under_way() || control_->reserved != 0;
    case left_state::closed:
    case left_state::unknown:
      return false;
  }
  return false;
}

std::uint64_t arena_file::slots_in_file() const noexcept {
  if (!has_layout_ || size_bytes_ < layout_.slots_offset + version_bytes) return 0;
  const std::uint64_t there = (size_bytes_ - layout_.slots_offset - version_bytes) / layout_.slot_stride_bytes + 1;
  return std::min(there, layout_.slots_max);
}

std::uint32_t arena_file::slot_count() const noexcept {
  const auto there = static_cast<std::uint32_t>(slots_in_file());
  return control_ ? std::min(control_->slot_count, there) : there;
}

}  // namespace dm::inspect
