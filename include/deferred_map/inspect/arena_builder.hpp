// Makes an arena file slot by slot, knowing no type but its schema: for imports, and for whoever has values but not the
// program that they belong to.
//
// Invariants:
//  1. The file has no name until `publish`, and none if that fails: whatever goes wrong before leaves nothing behind.
//  2. What `publish` names is whole, closed and on the disk: any map of the type opens it.
//
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/schema.hpp"

namespace dm::inspect {

/// What the new arena is to be.
struct arena_plan {
  arena_kind kind = arena_kind::mapped;  ///< a durable one is made closed, at commit 0, and needs no journal
  schema description;
  std::uint32_t value_size_bytes = 0;
  std::uint32_t value_align_bytes = 0;
  std::uint64_t slots_max = 0;  ///< 0: as many as a map makes room for by itself
  std::uint32_t permissions = 0600;
};

class arena_builder {
 public:
  /// Errors: errc::bad_options (an unsound schema, a kind that cannot be made), exists, not_found (the directory), full,
  /// the system's.
  arena_builder(const std::filesystem::path& path, const arena_plan& plan);
  arena_builder(const arena_builder&) = delete;
  arena_builder& operator=(const arena_builder&) = delete;
  ~arena_builder();

  std::uint64_t slots_max() const noexcept;

  /// Gives a slot its version, and its value where it is occupied. In any order; ascending is quickest.
  /// Requires: the version is vacant (and not 0), retired or occupied; the value has the plan's size.
  /// Errors: errc::bad_options where the slot was set before or lies behind `slots_max`; full; the system's.
  void set(std::uint32_t slot, std::uint32_t version, std::span<const std::byte> value = {});

  /// Makes it the arena of `slot_count` slots or as many as were set, with those that were not set vacant in the
  /// generation floor, and gives it its name. The builder is done after that, also where this throws.
  /// Errors: errc::exists, bad_options (more slots than `slots_max`; a floor in a shared arena), full, the system's.
  void publish(std::uint64_t slot_count = 0, std::uint32_t generation_floor = 0);

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace dm::inspect
