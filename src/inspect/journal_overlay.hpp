// The bytes of a durable arena with its journal's whole commits in place of what they changed.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/inspect/journal_state.hpp"

namespace dm::inspect {

/// Ranges of bytes, each with the newest that was stored there. Memory: the distinct ranges, and some sixty bytes for each.
class byte_patches {
 public:
  void store(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Puts what is stored in [offset, offset + out.size()) over `out`.
  void apply(std::uint64_t offset, std::span<std::byte> out) const;
  /// The first offset from `offset` on where something is stored, or the greatest number.
  std::uint64_t next(std::uint64_t offset) const;
  void clear() { patches_.clear(); }

 private:
  std::map<std::uint64_t, std::vector<std::byte>> patches_;  // by offset; none overlaps the next
};

/// Reads the arena, then puts the patches over it. Behind the arena's end, up to where commits made room, there are zeros.
class overlay_source final : public byte_source {
 public:
  overlay_source(std::unique_ptr<byte_source> arena, byte_patches patches, std::uint64_t size_bytes)
      : arena_(std::move(arena)), patches_(std::move(patches)), size_bytes_(size_bytes) {}

  std::size_t read(std::uint64_t offset, std::span<std::byte> out) const override;
  std::uint64_t size_bytes() const override { return size_bytes_; }
  std::uint64_t allocated_bytes() const override { return arena_->allocated_bytes(); }
  std::uint64_t next_data(std::uint64_t offset) const override;
  lock_state locks() const override { return arena_->locks(); }
  std::optional<bool> is_locked(std::uint64_t offset, std::uint64_t count) const override {
    return arena_->is_locked(offset, count);
  }
  bool pin(std::uint64_t byte) const override { return arena_->pin(byte); }
  void unpin(std::uint64_t byte) const noexcept override { arena_->unpin(byte); }

 private:
  std::unique_ptr<byte_source> arena_;
  byte_patches patches_;
  std::uint64_t size_bytes_;
};

/// The journal beside an arena, or null where there is none. One that cannot be opened throws that when it is read.
std::unique_ptr<byte_source> open_journal(const std::filesystem::path& arena);

/// What a journal holds, judged by the rules that opening goes by (format/journal_rules.hpp).
struct journal_reading {
  journal_state state;
  byte_patches patches;          // empty where nothing is to be applied
  std::uint64_t size_bytes = 0;  // of the arena with them
};
/// `journal`: null where there is none. `control`: as the arena's file has it; nothing where that cannot be read.
journal_reading read_journal(const byte_source& arena, const byte_source* journal, const std::filesystem::path& path,
                             const arena_header& layout, const std::optional<control_block>& control);

}  // namespace dm::inspect
