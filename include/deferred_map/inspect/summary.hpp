// An arena file at a glance, without looking at a slot.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "deferred_map/inspect/arena_file.hpp"

namespace dm::inspect {

/// Everything about a file that takes constant time to know (of a durable arena: and what its journal holds). Strings are safe to print.
struct summary {
  std::string path;
  std::string kind;  ///< "mapped_map"
  std::uint32_t format_version = 0;
  std::string uuid;  ///< in its usual form of 36 characters
  std::int64_t created_unix_ns = 0;
  std::uint64_t compatible_features = 0;
  std::uint64_t incompatible_features = 0;

  std::string type_name;
  std::uint32_t type_version = 0;
  std::uint32_t value_size_bytes = 0;
  std::uint32_t value_align_bytes = 0;
  std::uint32_t slot_stride_bytes = 0;
  std::uint64_t slots_max = 0;

  bool has_control = false;  ///< whether the numbers from here to `last_recovery` were there to be read
  std::uint32_t capacity = 0;
  std::uint32_t slot_count = 0;
  bool has_counts = false;  ///< whether the file counts them: a shared map does not, its slots alone say what they are
  std::uint32_t occupied = 0;
  std::uint32_t reserved = 0;
  std::uint32_t vacant = 0;
  std::uint32_t retired = 0;
  std::uint32_t generation_floor = 0;
  std::int64_t opened_unix_ns = 0;  ///< when it was last opened for writing; 0: never since it was made
  std::uint32_t owner_pid = 0;
  std::string owner_program;
  bool is_synced = false;  ///< good also after the machine stops
  recovery_record last_recovery;
  std::string last_recovery_program;

  std::uint64_t file_size_bytes = 0;
  std::uint64_t allocated_bytes = 0;
  left_state left = left_state::unknown;
  std::string left_text;  ///< one sentence
  lock_state locks;
  bool is_damaged = false;
  std::optional<journal_state> journal;  ///< of a durable arena, where it was not to be ignored
};

summary summarize(const arena_file& arena);

/// "6f1e0c2a-....": sixteen bytes in the usual form of a uuid.
std::string uuid_text(const std::array<std::uint8_t, 16>& uuid);

}  // namespace dm::inspect
