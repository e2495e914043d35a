// What arenas of every kind do alike: the head of a new file, the checks of an existing one's, blocks for slots.
#pragma once

#include <atomic>
#include <boost/interprocess/mapped_region.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "deferred_map/arena/arena.hpp"
#include "deferred_map/arena/options.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "posix_file.hpp"

namespace dm {

/// What boost::interprocess::mapped_region asks of a thing to be mapped. Ours, so that how the file is
/// opened, locked and grown stays with us.
class mappable {
 public:
  explicit mappable(int descriptor) noexcept : descriptor_(descriptor) {}
  boost::interprocess::mapping_handle_t get_mapping_handle() const noexcept { return {descriptor_, false}; }
  boost::interprocess::mode_t get_mode() const noexcept { return boost::interprocess::read_write; }

 private:
  int descriptor_;
};

/// Keeps the compiler from moving stores across; a killed process leaves its stores in program order.
inline void order_stores() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

/// Errors: errc::bad_options.
void require(bool met, const std::filesystem::path& path, const std::string& otherwise);
void require_no_fault(const std::optional<fault>& found, const std::filesystem::path& path);

/// Header and schema of a new arena, as the file's bytes up to the control block.
struct arena_head {
  arena_header header;
  std::vector<std::byte> bytes;
};
/// Errors: errc::bad_options, for what opening would refuse too.
arena_head head_of_new_arena(const std::filesystem::path& path, arena_kind kind, const stored_type& type,
                             const arena_options& options);

/// Reads the head of an existing arena; it never changes, so no lock is needed.
/// Errors: errc::not_an_arena, damaged, newer_format, wrong_kind, type_mismatch, the system's.
arena_header read_and_check_head(const posix::file& file, arena_kind kind, const stored_type& type);

/// What the marks say. Errors: the system's.
left_as how_it_was_left(const control_block& control);

/// Says in the control block that the arena is in use from now on: boot id, `closed`, owner, `synced`, in an order in which a
/// kill leaves the truth at each store. That the disk has it must be waited for before anything else changes.
void say_in_use(control_block& control);
[[noreturn]] void refuse_unclean(const std::filesystem::path& path);
[[noreturn]] void refuse_after_failure(const std::filesystem::path& path);

/// Errors: errc::damaged, for a file that ends before its slots begin.
[[noreturn]] void refuse_cut_short(const std::filesystem::path& path, const arena_header& header,
                                   std::uint64_t size_bytes);
/// Errors: errc::full where there can never be so many slots.
void require_slots_fit(const std::filesystem::path& path, const arena_header& header, std::uint64_t slots);

/// Real blocks for the slots [slots_before, slots) and the index words that stand for them.
/// Errors: errc::full, with the file possibly longer than before.
void allocate_slots(const posix::file& file, const arena_header& header, std::uint64_t slots_before,
                    std::uint64_t slots);
/// The same for the index alone, from `first_level` on.
void allocate_index(const posix::file& file, const arena_header& header, std::uint32_t first_level,
                    std::uint64_t slots_before, std::uint64_t slots);

// A copy made by tools that leave out runs of zeros has holes, where a store on a full disk would be SIGBUS: opening
// fills them. Where there are blocks already that costs microseconds.

/// How many of `wanted` bytes are holes.
std::uint64_t missing_bytes(const posix::file& file, std::uint64_t wanted);
/// Whether so much may be filled in without asking: a few bytes of a file can say that they are terabytes.
bool may_be_filled(const posix::file& file, std::uint64_t wanted);
/// Errors: errc::damaged where it may not, naming the number of slots.
void require_few_holes(const posix::file& file, std::uint64_t wanted, std::uint64_t slots);
/// What cannot end is not begun. Errors: errc::full, naming the number of slots.
void require_room(const posix::file& file, std::uint64_t wanted, std::uint64_t slots);
/// How many slots to get blocks for where there are `now` and `needed` are needed.
std::uint64_t slots_with_head_start(const arena_header& header, std::uint64_t now, std::uint64_t needed) noexcept;

}  // namespace dm
