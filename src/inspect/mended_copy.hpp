// Writes what an arena file should be into a new file.
#pragma once

#include <cstdint>
#include <functional>

#include "../arena/posix_file.hpp"
#include "deferred_map/inspect/arena_file.hpp"

namespace dm::inspect {

/// Makes `out`, which is empty, the mended `arena`: closed, synced, and on the disk. Returns how many slots were lost.
/// Requires: the arena's head is sound. Errors: errc::full, the system's.
std::uint64_t write_mended(const arena_file& arena, const posix::file& out,
                           const std::function<void(std::uint64_t done, std::uint64_t of)>& progress);

}  // namespace dm::inspect
