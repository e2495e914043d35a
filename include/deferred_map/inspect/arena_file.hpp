// An arena file as somebody finds it who did not make it and trusts nothing in it.
//
// Opening decodes as much as can be: a header whose checksum is wrong is still shown, offsets that are wrong
// are computed anew from the sizes they follow from, a schema that cannot be read is a reason in words. What
// is wrong is in `findings()`; only a file that is no arena at all is an exception.
//
// Invariants:
//  1. The file is never written to or mapped, and nobody is kept from it.
//  2. No number from the file decides how much memory is taken or which bytes are read before it was held against
//     the file's size.
//
// A durable arena is shown as its journal's whole commits make it, at the moment of opening: as long as the object lives
// its writer, who may go on committing, brings nothing into the arena. (A reader's pin, journal/durable_arena.hpp.)
//
// The object is what the file was when it was opened here; slots are read when they are asked for. Of a file
// that a process is changing, both may be of different moments. Threads: const members may be called at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/format/schema.hpp"
#include "deferred_map/inspect/byte_source.hpp"
#include "deferred_map/inspect/finding.hpp"
#include "deferred_map/inspect/journal_state.hpp"

namespace dm::inspect {

/// How the file was left, or that it was not.
enum class left_state : std::uint8_t {
  closed,           ///< nothing was under way
  open,             ///< a living process has it open for writing
  killed,           ///< its user died; the next to open it recovers it
  machine_stopped,  ///< the machine stopped while it was open (or it was copied from another machine while it
                    ///< was)
  unknown,          ///< the control block cannot be read
};

const char* to_string(left_state state) noexcept;

class arena_file {
 public:
  /// Cost and memory: of a durable arena, what its journal has. Errors: dm::error with errc::not_found, not_an_arena, or the
  /// system's.
  static arena_file open(const std::filesystem::path& path, journal_use use = journal_use::apply);
  /// By itself. `path` is for messages. Errors: dm::error with errc::not_an_arena.
  arena_file(std::filesystem::path path, std::unique_ptr<byte_source> source);
  /// A durable arena and its journal, or null where it has none.
  arena_file(std::filesystem::path path, std::unique_ptr<byte_source> source, std::unique_ptr<byte_source> journal);

  const std::filesystem::path& path() const noexcept { return path_; }
  const byte_source& bytes() const noexcept { return *source_; }
  /// Of a durable arena: what is beside it. Nothing for other kinds, and where it was to be ignored.
  const std::optional<journal_state>& journal() const noexcept { return journal_; }
  bool is_durable() const noexcept { return layout_.kind == static_cast<std::uint32_t>(arena_kind::durable); }
  std::uint64_t size_bytes() const noexcept { return size_bytes_; }

  /// What is wrong with header, schema and control block.
  const std::vector<finding>& findings() const noexcept { return findings_; }
  /// Whether one of `findings()` is an error.
  bool head_is_damaged() const noexcept;

  /// As it stands in the file.
  const arena_header& header() const noexcept { return header_; }
  /// Written by a later version of this library: nothing but the header's first fields may be believed.
  bool has_newer_format() const noexcept { return newer_format_; }
  /// Whether the sizes in the header can be true, so that slots can be found.
  bool has_layout() const noexcept { return has_layout_; }
  /// The header with the offsets that follow from its sizes. Requires: has_layout().
  const arena_header& layout() const noexcept { return layout_; }

  /// Nothing where it cannot be decoded; `schema_reason()` then says why.
  const std::optional<dm::schema>& schema() const noexcept { return schema_; }
  const std::string& schema_reason() const noexcept { return schema_reason_; }
  /// The type's whole name, or what the header has of it. As it is in the file: may need escaping.
  std::string type_name() const;

  /// Nothing where the file ends before it, or the medium cannot give it.
  const std::optional<control_block>& control() const noexcept { return control_; }

  left_state left() const noexcept { return left_; }
  const lock_state& locks() const noexcept { return locks_; }
  /// Whether what is out of step is put right by whoever opens the file next, or is being worked on now: then
  /// counts and index need not agree with the versions.
  bool mends_when_opened() const noexcept;

  /// Slots that exist and whose versions the file has: never more than the file's size allows.
  std::uint32_t slot_count() const noexcept;
  /// Slots for which the file has bytes, at most slots_max.
  std::uint64_t slots_in_file() const noexcept;
  /// Requires: has_layout().
  std::uint64_t offset_of_slot(std::uint64_t slot) const noexcept {
    return layout_.slots_offset + slot * layout_.slot_stride_bytes;
  }

 private:
  void read_header();
  void read_schema();
  void read_control();
  void read_all(const byte_source* journal, bool has_journal);
  void apply_journal(const byte_source* journal);

  std::filesystem::path path_;
  std::unique_ptr<byte_source> source_;
  std::optional<journal_state> journal_;
  std::uint64_t size_bytes_ = 0;
  std::vector<finding> findings_;
  arena_header header_;
  arena_header layout_;
  bool newer_format_ = false;
  bool has_layout_ = false;
  std::optional<dm::schema> schema_;
  std::string schema_reason_;
  std::optional<control_block> control_;
  lock_state locks_;
  left_state left_ = left_state::unknown;
};

}  // namespace dm::inspect
