// Slots of an arena file, one after the other or by key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "deferred_map/container/version.hpp"
#include "deferred_map/inspect/arena_file.hpp"

namespace dm::inspect {

/// One slot, as it was when it was read.
struct slot_view {
  std::uint32_t index = 0;
  std::uint32_t version = 0;
  /// Of a shared map: the upper half of the slot's word (docs/SHARING.md). Else 0.
  std::uint32_t auxiliary = 0;
  /// The slot's bytes from its value on; of an occupied slot the value, of others what is left there; of an updating one
  /// the new value, which lies elsewhere. Shorter than a value, and maybe empty, where the file ends. Empty where values
  /// were not asked for. Valid until the next read.
  std::span<const std::byte> value;
  bool possible = true;  ///< whether some history of operations on a map of this kind leaves the version
  bool readable = true;  ///< false where the medium cannot give the version: then it is shown as 0

  slot_state state() const noexcept { return version::state(version); }
  /// Of a vacant slot: that of its next life.
  std::uint32_t generation() const noexcept { return version::generation(version); }
};

/// Whether some history of operations can have left this version in a slot of this arena: `updating` is a
/// state of shared maps only. Requires: arena.has_layout().
bool is_possible_version(const arena_file& arena, std::uint32_t word) noexcept;

/// Which slots to visit. The defaults are all.
struct slot_filter {
  static constexpr std::uint32_t all_states = ~std::uint32_t{0};
  static constexpr std::uint32_t bit(slot_state state) noexcept { return 1u << static_cast<unsigned>(state); }

  std::uint32_t states = all_states;  ///< an or of `bit(state)`
  std::uint64_t index_begin = 0;
  std::uint64_t index_end = ~std::uint64_t{0};  ///< behind the last
  std::uint32_t generation_min = 0;
  std::uint32_t generation_max = ~std::uint32_t{0};

  bool matches(const slot_view& slot) const noexcept {
    return (states & bit(slot.state())) != 0 && slot.generation() >= generation_min &&
           slot.generation() <= generation_max;
  }
};

enum class slot_parts : std::uint8_t { versions, versions_and_values };

/// Visits slots in ascending order. Memory: constant, or one value if that is more. Reads ahead, some
/// hundred kilobytes at a time.
///
/// Requires: the arena has a layout, and outlives the scan. Errors: none; what cannot be read is in `unreadable()`.
class slot_scan {
 public:
  slot_scan(const arena_file& arena, const slot_filter& filter, slot_parts parts);
  /// Not only the slots that exist but whatever lies in [first, end): for what is behind the last one.
  slot_scan(const arena_file& arena, std::uint64_t first, std::uint64_t end, slot_parts parts);

  /// The next slot that matches, or null. Valid until the next call.
  const slot_view* next();
  /// Passes over slots that are occupied and possible, at most so many, and returns how many they were: what `next()` would
  /// have given, without looking at it. 0 may also say that something is to be read first. Requires: no filter.
  std::uint64_t pass_over_occupied(std::uint64_t most) noexcept;
  /// Byte ranges met so far that the medium could not give.
  const std::vector<byte_range>& unreadable() const noexcept { return unreadable_; }

 private:
  bool refill();
  std::uint64_t version_bytes() const noexcept;
  std::span<const std::byte> value_being_copied();

  const arena_file* arena_;
  slot_filter filter_;
  slot_parts parts_;
  bool is_shared_;
  std::uint64_t next_ = 0;
  std::uint64_t end_ = 0;
  std::uint64_t chunk_begin_ = 0;  // slots [chunk_begin_, chunk_end_) are in buffer_
  std::uint64_t chunk_end_ = 0;
  std::size_t filled_ = 0;
  std::vector<std::byte> buffer_;
  std::vector<std::byte> elsewhere_;  // a value in a scratch area
  std::vector<byte_range> unreadable_;
  std::size_t unreadable_before_ = 0;  // how many of them are not of this chunk
  slot_view current_;
};

/// A key's two halves.
struct key_parts {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;

  /// As in memory and in files: index low, the occupied version high.
  std::uint64_t bits() const noexcept { return std::uint64_t{version::occupied(generation)} << 32 | index; }
};

/// Reads "index:generation", or a key's bits as "0x...". Nothing where no map can have handed out such a key.
std::optional<key_parts> parse_key_parts(std::string_view text);

/// What a key names.
enum class key_state : std::uint8_t {
  live,          ///< a value
  stale,         ///< a value that is gone
  reserved,      ///< a slot that waits for its value
  not_yet,       ///< a later life of the slot than it has had
  never_used,    ///< a slot of zeros: it exists and has never had a life
  no_such_slot,  ///< there are fewer slots
  retired,       ///< a value that is gone, in a slot that has used up its generations
  unreadable,    ///< the slot cannot be read, or has a version that no operation leaves
};

const char* to_string(key_state state) noexcept;

struct lookup_result {
  key_state state = key_state::no_such_slot;
  slot_view slot;  ///< its `value` points into `value`
  /// How many lives of the slot began (or, where it is vacant, will begin) after the key's; where it is
  /// `not_yet`, how many are to come before it.
  std::uint32_t generations_apart = 0;
  std::vector<std::byte> value;  ///< of a live key

  /// One sentence for people.
  std::string to_string() const;
};

/// What `key` names now. Of a file in use, the value is read again until its version is the same before and
/// after. Requires: arena.has_layout().
lookup_result lookup(const arena_file& arena, key_parts key);

}  // namespace dm::inspect
