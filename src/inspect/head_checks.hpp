// The rules for what stands before the slots. Used while a file is opened; `check` adds those for slots and index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/inspect/arena_file.hpp"
#include "deferred_map/inspect/finding.hpp"

namespace dm::inspect {

struct header_examination {
  std::vector<finding> findings;
  arena_header header;                 // as it stands, zeros where the file is too short
  std::optional<arena_header> layout;  // with the offsets that follow from its sizes, where those can be true
  bool newer_format = false;
};

/// Looks at a file's first bytes, up to 512 of them. Errors: dm::error with errc::not_an_arena.
header_examination examine_header(const std::filesystem::path& path, std::span<const std::byte> bytes,
                                  std::uint64_t file_size_bytes);

/// Every rule of the control block. Requires: a layout and a control block.
std::vector<finding> examine_control(const arena_file& arena);

}  // namespace dm::inspect
