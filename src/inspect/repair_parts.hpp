// What repair is made of: a head that is whole again, and whether a finding can be put right.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../arena/posix_file.hpp"
#include "deferred_map/inspect/arena_file.hpp"
#include "deferred_map/inspect/finding.hpp"

namespace dm::inspect {

/// Header and schema, as they were before they were damaged.
struct mended_head {
  arena_header header;
  std::vector<std::byte> schema_region;  ///< from behind the header to the control block
  bool header_is_sound = false;
  bool schema_is_sound = false;  ///< decodable and what the header vouches for
};

/// Mends what can be told to be right: by the checksum, which says of one byte what it was, or by everything else in the
/// header agreeing. Never guesses. Cost: some tenths of a second where something is wrong, nothing where nothing is.
mended_head mend_head(const arena_file& arena);

/// Decides for each finding of one file whether `repair` puts it right.
class repair_judge {
 public:
  explicit repair_judge(const arena_file& arena);
  bool is_repairable(const finding& found) const;

 private:
  bool header_was_damaged_ = false;
  bool header_is_sound_ = true;  // or was made so
  bool schema_is_sound_ = true;
  bool kind_is_known_ = true;
  bool mends_when_opened_ = false;
};

/// A file read with the first bytes replaced.
class patched_source final : public byte_source {
 public:
  patched_source(const byte_source& below, std::vector<std::byte> first_bytes)
      : below_(below), first_bytes_(std::move(first_bytes)) {}
  std::size_t read(std::uint64_t offset, std::span<std::byte> out) const override;
  std::uint64_t size_bytes() const override { return below_.size_bytes(); }
  std::uint64_t allocated_bytes() const override { return below_.allocated_bytes(); }
  std::uint64_t next_data(std::uint64_t offset) const override {
    return offset < first_bytes_.size() ? offset : below_.next_data(offset);
  }
  lock_state locks() const override { return below_.locks(); }

 private:
  const byte_source& below_;
  std::vector<std::byte> first_bytes_;
};

/// An open file of ours, whose locks are our own and so none to tell of.
class own_file_source final : public byte_source {
 public:
  explicit own_file_source(const posix::file& file) : file_(file) {}
  std::size_t read(std::uint64_t offset, std::span<std::byte> out) const override {
    return file_.read_some(offset, out);
  }
  std::uint64_t size_bytes() const override { return file_.size_bytes(); }
  std::uint64_t allocated_bytes() const override { return file_.allocated_bytes(); }
  std::uint64_t next_data(std::uint64_t offset) const override { return file_.next_data(offset); }

 private:
  const posix::file& file_;
};

}  // namespace dm::inspect
