// The journal of a durable arena: the file NAME-journal beside the arena NAME. What was committed and need not be in the
// arena yet.
//
//    0             4096            8192
//   +-------------+---------------+---------+-----------+---------+---------+----
//   | header of   | header of     | record  | record    | jump    |  (zeros)  | record ...
//   | even        | odd           |         |           |   to ------------> |
//   | generations | generations   |         |           |         |         |
//   +-------------+---------------+---------+-----------+---------+---------+----
//
// A *record* holds what one commit changed, as ranges of bytes of the arena (redo). A *jump* says where the next record
// lies, if not right behind. Records are chained: each holds the checksum of the one before it. A *generation* is a chain
// of records from the place its header names; once all that a generation changed is in the arena and on the disk, it is
// retired, its header cleared, and its space used again. There are never more than two: the one that is written to, and
// the one before it, which is on its way into the arena.
//
// What may be believed:
//  1. A header counts if its magic, uuid and checksum are right and it stands where its generation belongs. Of two that
//     count the older is replayed first, and must end exactly where the younger says that it begins (`first_commit`,
//     `seed`): it was on the disk before the younger was begun.
//  2. A record counts if its checksum is right and `previous` is the checksum of the record before it. The first that does
//     not ends the journal. It was never reported as durable, unless a later record says so (`durable_commit`).
//  3. So the commits of a journal are a prefix of those that were made: none is missing before one that counts.
//  4. Every opening writes records with a nonce of its own, so that a record which a crash cut off, and one written in
//     its place, never have the same checksum: what followed the first can never follow the second.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "deferred_map/error.hpp"

namespace dm {

/// Where records may begin: behind the two headers, each on a page of its own.
inline constexpr std::uint64_t journal_head_bytes = 8192;
/// Generations are below this: each has a byte of the arena to be locked by (arena/posix_storage.hpp).
inline constexpr std::uint64_t journal_generations_max = std::uint64_t{1} << 60;
constexpr std::uint64_t journal_header_offset(std::uint64_t generation) noexcept { return generation % 2 * 4096; }

/// The header of one generation.
struct journal_header {
  static constexpr std::array<std::uint8_t, 8> magic_bytes{0x89, 'D', 'M', 'J', 0x0d, 0x0a, 0x1a, 0x0a};
  static constexpr std::uint32_t format_version_now = 1;
  static constexpr std::uint32_t byte_order_tag = 0x0403'0201;

  std::array<std::uint8_t, 8> magic = magic_bytes;    //   0
  std::uint32_t format_version = format_version_now;  //   8
  std::uint32_t byte_order = byte_order_tag;          //  12
  std::array<std::uint8_t, 16> arena_uuid{};          //  16
  std::uint64_t generation = 0;                       //  32  from 1
  std::uint64_t first_commit = 0;                     //  40  the number of its first commit
  std::uint64_t seed = 0;                             //  48  checksum of the record of the commit before that
  std::uint64_t start_offset = 0;                     //  56  of its first record
  std::array<std::uint8_t, 56> unused{};              //  64  zero
  std::uint64_t checksum = 0;                         // 120  XXH3 of bytes [0, 120)

  std::uint64_t computed_checksum() const noexcept;
};
static_assert(std::is_trivially_copyable_v<journal_header> && sizeof(journal_header) == 128);
static_assert(std::has_unique_object_representations_v<journal_header>);
static_assert(offsetof(journal_header, generation) == 32 && offsetof(journal_header, start_offset) == 56);
static_assert(offsetof(journal_header, checksum) == 120);

/// Numbers in files: never renumber.
enum class journal_record_kind : std::uint32_t { commit = 1, jump = 2 };

/// The start of a record; its ranges, or the offset it jumps to, follow.
struct journal_record {
  static constexpr std::uint32_t right_magic = 0x63526d64;  // "dmRc"

  std::uint64_t checksum = 0;         //  0  XXH3 of bytes [8, size_bytes)
  std::uint32_t magic = right_magic;  //  8
  std::uint32_t kind = 0;             // 12  a journal_record_kind
  std::uint64_t size_bytes = 0;       // 16  of all of it, a multiple of 8
  std::uint64_t commit = 0;           // 24  its number, one more than that of the commit before; of a jump, 0
  std::uint64_t previous = 0;         // 32  checksum of the record before it
  std::uint64_t durable_commit = 0;   // 40  the last commit that was known to be on the disk when this was written
  std::int64_t unix_ns = 0;           // 48  when
  std::uint64_t nonce = 0;            // 56  of the opening that wrote it
  std::uint64_t range_count = 0;      // 64  of a jump: 0
};
static_assert(std::is_trivially_copyable_v<journal_record> && sizeof(journal_record) == 72);
static_assert(std::has_unique_object_representations_v<journal_record>);
static_assert(offsetof(journal_record, size_bytes) == 16 && offsetof(journal_record, range_count) == 64);

/// Bytes of the arena that a commit changed: this, then as many bytes, then zeros up to a multiple of 8.
struct journal_range {
  std::uint64_t offset = 0;       // 0  in the arena
  std::uint32_t size_bytes = 0;   // 8
  std::uint32_t old_version = 0;  // 12  of a slot: its version before the commit
};
static_assert(sizeof(journal_range) == 16 && std::has_unique_object_representations_v<journal_range>);

inline constexpr std::uint64_t journal_jump_bytes = sizeof(journal_record) + 8;
constexpr std::uint64_t journal_padded(std::uint64_t bytes) noexcept { return (bytes + 7) / 8 * 8; }

/// Sets the checksum of a complete record. Requires: `record` begins with a journal_record.
std::uint64_t seal_record(std::span<std::byte> record) noexcept;

/// A header that counts, or why it does not. An empty message: there is none at all (zeros, as where it was cleared).
struct journal_header_result {
  std::optional<journal_header> value;
  std::optional<fault> reason;
};
/// Looks at the header that stands in one of the two places. `place`: 0 or 1.
journal_header_result check_journal_header(std::span<const std::byte> bytes, std::uint64_t place,
                                           const std::array<std::uint8_t, 16>& arena_uuid);

/// One commit as it stands in the journal. References: until the cursor moves on.
struct journal_commit {
  journal_record head;
  std::span<const std::byte> ranges;  ///< behind the head

  /// Calls `visit(const journal_range&, std::span<const std::byte>)` for each. Stops and returns false where they do not
  /// fit into the record.
  template <class Visit>
  bool for_each_range(Visit visit) const {
    std::span<const std::byte> rest = ranges;
    for (std::uint64_t i = 0; i < head.range_count; ++i) {
      journal_range range;
      if (rest.size() < sizeof range) return false;
      std::copy_n(rest.begin(), sizeof range, std::as_writable_bytes(std::span(&range, 1)).begin());
      rest = rest.subspan(sizeof range);
      const std::uint64_t padded = journal_padded(range.size_bytes);
      if (rest.size() < padded) return false;
      visit(range, rest.first(range.size_bytes));
      rest = rest.subspan(padded);
    }
    return rest.empty();
  }
};

/// Walks the commits of one generation, believing nothing. Reads through `read(offset, out)`, which returns how many bytes
/// there were. Memory: the largest record.
class journal_cursor {
 public:
  using reader = std::function<std::size_t(std::uint64_t, std::span<std::byte>)>;

  journal_cursor(reader read, const journal_header& header);

  /// The next commit, or null where the chain ends (for now: later it may go on).
  const journal_commit* next();

  /// What was read ahead may be older than what is there now. For whoever looks again at a journal that is being written.
  void forget_read_ahead() noexcept { buffer_size_ = 0; }

  /// Where the next record would begin, and the checksum that it would have to name.
  std::uint64_t position() const noexcept { return position_; }
  std::uint64_t chain() const noexcept { return chain_; }
  /// The last commit that was walked over, or the one before the first, and its record's checksum.
  std::uint64_t last_commit() const noexcept { return last_commit_; }
  std::uint64_t last_commit_chain() const noexcept { return last_commit_chain_; }
  const journal_header& header() const noexcept { return header_; }
  /// Places where the chain went: (offset, end) in the order of the walk.
  struct extent {
    std::uint64_t offset;
    std::uint64_t end;
  };
  const std::vector<extent>& walked() const noexcept { return walked_; }
  /// From here on nobody vouches for what was walked over: no later record says that it was on the disk. (At the first such
  /// commit, or some before it.)
  struct place {
    std::uint64_t commit;
    std::size_t extent;  // in walked()
    std::uint64_t offset;
  };
  const place& in_doubt() const noexcept { return in_doubt_; }

  /// Behind the end of the chain: whether a whole record follows in the same stretch, of a commit that a later one vouches
  /// for. Then the journal did not end here, it was damaged here. Cost: reads up to `limit_bytes`.
  bool is_damaged_here(std::uint64_t limit_bytes);

 private:
  std::span<const std::byte> bytes_at(std::uint64_t offset, std::uint64_t size);
  const journal_record* record_at(std::uint64_t offset, journal_record& head);
  void note_vouched(const journal_record& head, const place& before) noexcept;

  reader read_;
  journal_header header_;
  std::uint64_t position_;
  std::uint64_t chain_;
  std::uint64_t last_commit_;
  std::uint64_t last_commit_chain_;
  std::vector<extent> walked_;
  place in_doubt_;
  std::optional<place> later_;  // becomes in_doubt_ once all before it is vouched for
  std::vector<std::byte> buffer_;
  std::uint64_t buffer_offset_ = 0;
  std::size_t buffer_size_ = 0;
  journal_commit commit_;
};

}  // namespace dm
