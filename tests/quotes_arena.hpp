// A shared arena of quotes: what tests of attaching, growing and reaping do to it by hand.
#pragma once

#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "deferred_map/format/index_layout.hpp"
#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/inspect.hpp"
#include "deferred_map/mapped_map.hpp"
#include "deferred_map/sharing/atomics.hpp"
#include "deferred_map/sharing/place.hpp"
#include "deferred_map/sharing/shared_arena.hpp"
#include "files.hpp"
#include "processes.hpp"
#include "small_filesystem.hpp"
#include "temporary_directory.hpp"

namespace quotes_arena {

using dm::sharing::region;
using dm::sharing::shared_arena;
namespace word = dm::sharing::word;
using atomics = dm::sharing::processor_atomics;

struct quote {
  std::uint64_t bid;
  std::uint64_t ask;
  std::uint32_t volume;
};

template <class T>
dm::stored_type shared_type_of() {
  dm::stored_type type;
  type.slot = dm::slot_layout_of(dm::arena_kind::shared, sizeof(T), alignof(T));
  type.description = dm::schema_of<T>();
  type.schema_version = type.description.version;
  return type;
}

inline const dm::stored_type quotes = shared_type_of<quote>();
inline const dm::arena_options small{.max_slots = 1000};

/// As an attachment that holds a handle: the slot names it, and the bit is set.
inline void hold(const region& memory, std::uint32_t index, std::uint32_t owner, std::uint32_t generation = 1) {
  atomics::store(memory.word(index), word::held(generation, owner), std::memory_order_release);
  atomics::fetch_or(memory.taken[index / 64], std::uint64_t{1} << (index % 64), std::memory_order_seq_cst);
}

inline void fill(const region& memory, std::uint32_t index, const quote& value, std::uint32_t generation = 1) {
  std::memcpy(memory.value(index), &value, sizeof value);
  atomics::fetch_or(memory.taken[index / 64], std::uint64_t{1} << (index % 64), std::memory_order_seq_cst);
  atomics::store(memory.word(index), word::occupied(generation, 0), std::memory_order_release);
}

inline quote value_at(const region& memory, std::uint32_t index) {
  quote value;
  std::memcpy(&value, memory.value(index), sizeof value);
  return value;
}

/// Gives back what the dead held.
inline void give_back(const region& memory, std::uint32_t dead) {
  for (std::uint32_t i = 0; i < *memory.slots_now; ++i) {
    const std::uint64_t w = atomics::load(memory.word(i), std::memory_order_acquire);
    if (!word::is_reserved(w) || word::owner_of(w) != dead) continue;
    atomics::fetch_and(memory.taken[i / 64], ~(std::uint64_t{1} << (i % 64)), std::memory_order_seq_cst);
    atomics::store(memory.word(i), word::vacant(word::generation_of(w) + 1), std::memory_order_release);
  }
}

inline void nobody_dead(const region&, std::uint32_t dead) {
  throw std::runtime_error("attachment " + std::to_string(dead) + " was taken for dead");
}

inline std::unique_ptr<shared_arena> create(const std::filesystem::path& path, const dm::arena_options& how = small) {
  return shared_arena::create(path, quotes, how);
}
inline std::unique_ptr<shared_arena> open(const std::filesystem::path& path, const dm::arena_options& how = {}) {
  return shared_arena::open(path, quotes, how, give_back);
}

inline dm::control_block control_of(const std::filesystem::path& path) {
  return read_at<dm::control_block>(path, read_at<dm::arena_header>(path, 0).control_offset);
}

/// As if the machine had been started again since.
inline void start_machine_again(const std::filesystem::path& path) {
  const std::size_t at = read_at<dm::arena_header>(path, 0).control_offset;
  write_at(path, at, control_of(path).boot_id ^ 0x1234'5678'9abc'def0u);
}

/// A child that attaches, holds slots [first, first + count), says so, and stays.
inline child_process holder(const std::filesystem::path& path, std::uint32_t first, std::uint32_t count) {
  return child_process([=](auto say) {
    const auto arena = open(path);
    arena->grow(first + count);
    for (std::uint32_t i = first; i < first + count; ++i) hold(arena->memory(), i, arena->attachment());
    say('r');
    stay();
  });
}

inline std::vector<std::filesystem::path> files_in(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) found.push_back(entry.path());
  return found;
}

inline void check(const std::string& said) {
  if (said.starts_with("unavailable"))
    WARN("not tested here, this machine allows no mounting: " << said);
  else
    CHECK(said == "");
}

/// What must hold of bitmap and hints where all slots are vacant.
inline std::string fault_of_fresh(const region& memory) {
  const std::uint64_t slots = *memory.slots_now;
  if (slots % 64 != 0 && slots != memory.slots_max) return "not in whole words";
  for (std::uint64_t at = 0; at < (slots + 63) / 64; ++at) {
    if ((memory.hints[at / 64] >> (at % 64) & 1) == 0) return "no hint at word " + std::to_string(at);
    const std::uint64_t behind = slots - at * 64 >= 64 ? 0 : ~std::uint64_t{0} << (slots - at * 64);
    if (memory.taken[at] != behind) return "other bits in word " + std::to_string(at);
  }
  for (std::uint64_t i = 0; i < slots; ++i)
    if (memory.word(static_cast<std::uint32_t>(i)) != 0) return "a slot that is not fresh";
  return {};
}

}  // namespace quotes_arena
