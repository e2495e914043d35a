// The storage of a durable map in files.
#pragma once

#include <filesystem>
#include <memory>

#include "deferred_map/arena/storage.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "posix_file.hpp"

namespace dm {

// Locks, on bytes far behind the end of the arena, all dropped by the kernel when their holder dies:
//   [0, 2^60)        exclusively: the one process that writes
//   2^61 + g         shared: a reader that has not seen the end of generation g of the journal; g = 0: of none
inline constexpr std::uint64_t durable_writer_lock_bytes = std::uint64_t{1} << 60;
inline constexpr std::uint64_t durable_reader_lock_offset = std::uint64_t{1} << 61;

/// "NAME-journal".
std::filesystem::path journal_path(const std::filesystem::path& arena);

/// Of an arena that is open, and locked where it is to be written to.
/// Errors: the system's; errc::not_an_arena where something else has the journal's name.
std::unique_ptr<storage> make_posix_storage(posix::file arena, const arena_header& header, bool writable,
                                            std::uint32_t permissions);

}  // namespace dm
