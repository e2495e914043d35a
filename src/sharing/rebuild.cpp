#include "deferred_map/sharing/rebuild.hpp"

#include <algorithm>

#include "deferred_map/sharing/atomics.hpp"

namespace dm::sharing {
namespace {

// Read-only maps may be looking meanwhile, so all of it is atomic; but nobody else stores, so little of it is ordered.
using atomics = processor_atomics;

constexpr std::uint64_t full_word = ~std::uint64_t{0};

std::uint64_t load(const std::uint64_t& word) noexcept { return atomics::load(word, std::memory_order_relaxed); }
void store(std::uint64_t& word, std::uint64_t value) noexcept {
  // release: whoever sees a word has the value it vouches for.
  atomics::store(word, value, std::memory_order_release);
}

/// Whether operations can leave it while they are not under way.
bool is_possible(std::uint64_t w) noexcept {
  if (word::is_vacant(w)) return word::auxiliary_of(w) == 0;
  const std::uint32_t generation = word::generation_of(w);
  if (generation < version::first_generation || generation > version::last_generation) return false;
  return !word::is_reserved(w) || word::owner_of(w) < attachments_max;
}

/// What becomes of a slot that can be nobody's any more.
std::uint64_t vacant_after(std::uint32_t generation) noexcept {
  return word::vacant(generation >= version::last_generation ? version::retired_generation : generation + 1);
}

bool scratch_is_about(const lease_head& head, std::uint32_t index, std::uint64_t w) noexcept {
  const std::uint32_t ticket = word::auxiliary_of(w) >> word::lease_bits;
  return load(head.target) == index && (load(head.ticket) & word::ticket_mask) == ticket;
}

void finish_from_scratch(const region& memory, std::uint32_t index, std::uint32_t lease) noexcept {
  const std::uint64_t* from = memory.lease_value(lease);
  std::uint64_t* to = memory.value(index);
  for (std::size_t i = 0; i < memory.value_words; ++i) atomics::store(to[i], load(from[i]), std::memory_order_relaxed);
}

/// The word the slot is to have.
std::uint64_t settle(const region& memory, std::uint32_t index, std::uint64_t w, rebuild_counts& counts) noexcept {
  if (!is_possible(w)) {
    ++counts.impossible_mended;
    // A vacant one with something in its other half has but that to lose.
    return word::is_vacant(w) ? word::vacant(word::generation_of(w)) : vacant_after(word::generation_of(w));
  }
  if (word::is_reserved(w)) {
    // Also where it says that it is in a cache and nobody knows its key: that may be older than the key.
    ++counts.reserved_given_back;
    return vacant_after(word::generation_of(w));
  }
  if (!word::is_updating(w)) return w;
  const lease_head& head = memory.lease(word::lease_of(w));
  std::uint32_t changes = 0;
  if (scratch_is_about(head, index, w)) {
    finish_from_scratch(memory, index, word::lease_of(w));
    changes = static_cast<std::uint32_t>(load(head.changes)) + 1;
    ++counts.updates_finished;
  }
  return word::occupied(word::generation_of(w), changes);
}

bool is_retired(std::uint64_t w) noexcept { return version::is_retired(word::version_of(w)); }

/// The bits behind the last slot, in the word of the bitmap that begins at `first`.
std::uint64_t behind_last(std::uint64_t first, std::uint64_t slots) noexcept {
  return slots - first >= 64 ? 0 : full_word << (slots - first);
}

}  // namespace

rebuild_counts rebuild(const region& memory) noexcept {
  rebuild_counts counts;
  const std::uint64_t slots = load(*memory.slots_now);
  std::uint64_t hints = 0;
  for (std::uint64_t first = 0; first < slots; first += 64) {
    std::uint64_t taken = behind_last(first, slots);
    for (std::uint64_t i = first; i < std::min(first + 64, slots); ++i) {
      const auto index = static_cast<std::uint32_t>(i);
      const std::uint64_t found = load(memory.word(index));
      const std::uint64_t settled = settle(memory, index, found, counts);
      if (settled != found) store(memory.word(index), settled);
      if (!word::is_vacant(settled) || is_retired(settled)) taken |= std::uint64_t{1} << (i - first);
    }
    store(memory.taken[first / 64], taken);
    const std::uint64_t at = first / 64;
    if (taken != full_word) hints |= std::uint64_t{1} << (at % 64);
    if (at % 64 == 63 || first + 64 >= slots) {
      store(memory.hints[at / 64], hints);
      hints = 0;
    }
  }
  counts.slots_examined = slots;
  return counts;
}

std::optional<std::string> first_fault(const region& memory) {
  const std::uint64_t slots = load(*memory.slots_now);
  for (std::uint64_t first = 0; first < slots; first += 64) {
    const std::uint64_t taken = load(memory.taken[first / 64]);
    const std::uint64_t behind = behind_last(first, slots);
    if ((taken & behind) != behind) return "the bitmap marks slots behind the last one vacant";
    for (std::uint64_t i = first; i < std::min(first + 64, slots); ++i) {
      const std::uint64_t w = load(memory.word(static_cast<std::uint32_t>(i)));
      const auto slot = [&] { return "slot " + std::to_string(i); };
      if (!is_possible(w)) return slot() + " has a word that no operation leaves";
      if (word::is_reserved(w) || word::is_updating(w))
        return slot() + " is owned by attachment " +
               std::to_string(word::is_reserved(w) ? word::owner_of(w) : word::updater_of(w)) +
               ", and nobody is attached";
      const bool is_taken = taken >> (i - first) & 1;
      if (is_taken != (word::is_occupied(w) || is_retired(w)))
        return slot() + (is_taken ? " is vacant, and the bitmap says that it is taken"
                                  : " is taken, and the bitmap says that it is vacant");
    }
  }
  return std::nullopt;
}

}  // namespace dm::sharing
