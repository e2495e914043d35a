// The lock-free algorithms of shared maps: everything that happens to slots, whoever may die at any instruction.
//
// Invariants (slot_word.hpp has those of the word itself):
//  1. Every operation takes effect by one atomic change of the slot's word.
//  2. A slot's bit in `taken` changes only while somebody owns the slot: set after it was claimed, cleared before it
//     becomes vacant. So a vacant slot's bit is 0 and an occupied one's is 1, always; and iteration, which looks at the
//     slots whose bits are set, misses nothing that was there throughout.
//  3. A slot that is off the bitmap names its owner (reserved, updating), or is occupied or retired. So a process that
//     dies anywhere leaves slots that name it, and never slots that are nobody's.
//  4. `hints` are hints: a bit that is 0 though something is vacant costs a search (`claim_any`), never a slot.
//
// The cost of an uncontended insert and remove is one locked instruction: a slot taken from the cache is this thread's
// alone, and is filled and published by plain stores; removing is one compare-and-swap, which puts it back there.
//
// Threads and processes: all of it may be called by all of them at once, on the same slots; but a `slot_cache` is one
// thread's, and a lease is one update's at a time.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "deferred_map/sharing/region.hpp"
#include "deferred_map/sharing/slot_word.hpp"
#include "deferred_map/sharing/value_copy.hpp"

namespace dm::sharing {

/// Slots that a thread owns and that no handle names, last in first out.
struct slot_cache {
  static constexpr std::uint32_t limit_max = 128;

  std::uint32_t count = 0;
  std::uint32_t limit = limit_max;  ///< how many stay in it; less in small maps, or caches would hold all there is
  std::uint64_t cursor = 0;         ///< the word of `taken` at which this thread looks for vacant slots
  std::uint32_t slots[limit_max + 1];
};

/// What `read` and the changing operations find.
enum class outcome : std::uint8_t {
  done,
  stale,  ///< the key names nothing (any more)
  busy,   ///< the slot is being updated by somebody
};

/// `Stride` and `ValueOffset`: of the region's slots, where they are known to the compiler; 0 where not.
template <class Atomics, std::size_t Stride = 0, std::size_t ValueOffset = 0>
class slot_operations {
 public:
  slot_operations() noexcept = default;
  /// `attachment`: who owns what is claimed here.
  slot_operations(const region& memory, std::uint32_t attachment) noexcept : memory_(memory), owner_(attachment) {}

  const region& memory() const noexcept { return memory_; }

  // Looking -----------------------------------------------------------------------------------------------------------

  std::uint64_t slots_now() const noexcept {
    // acquire: what `grow` made before it said so.
    return Atomics::load(*memory_.slots_now, std::memory_order_acquire);
  }
  /// Of a slot that exists.
  std::uint64_t word_of(std::uint32_t index) const noexcept {
    return Atomics::load(word_at(index), std::memory_order_acquire);
  }
  bool contains(std::uint32_t index, std::uint32_t generation) const noexcept {
    if (index >= slots_now()) return false;
    const std::uint64_t w = Atomics::load(word_at(index), std::memory_order_acquire);
    return is_alive(w, generation);
  }

  /// Copies the value of a life to `value`. Returns the word it was read under, or nothing where that life is over.
  /// Never waits: it is tried again only where somebody else has got something done meanwhile.
  std::optional<std::uint64_t> read(std::uint32_t index, std::uint32_t generation, void* value,
                                    std::size_t size_bytes) const noexcept {
    if (index >= slots_now()) return std::nullopt;
    return read_existing(index, generation, value, size_bytes);
  }
  std::optional<std::uint64_t> read_existing(std::uint32_t index, std::uint32_t generation, void* value,
                                             std::size_t size_bytes) const noexcept {
    const std::uint64_t& word_now = word_at(index);
    const std::uint64_t* const from = value_at(index);  // here, or it would be computed again after the acquire
    for (;;) {
      // acquire: the value that was complete before this word was stored.
      const std::uint64_t before = Atomics::load(word_now, std::memory_order_acquire);
      // Nearly always occupied, which one comparison tells.
      if (word::version_of(before) == version::occupied(generation)) [[likely]] {
        copy_out<Atomics>(value, size_bytes, from);
      } else {
        if (!is_alive(before, generation)) return std::nullopt;
        // While a slot is updating its new value is whole in the updater's scratch area.
        copy_out<Atomics>(value, size_bytes, memory_.lease_value(word::lease_of(before)));
      }
      // Who writes to the slot's value, or to the scratch area, has changed the word before and put a release fence
      // between. If a load above saw any such store, this fence makes the load below see the changed word.
      Atomics::fence(std::memory_order_acquire);
      if (Atomics::load(word_now, std::memory_order_relaxed) == before) [[likely]]
        return before;
    }
  }

  // Claiming and giving back --------------------------------------------------------------------------------------------

  /// Claims vacant slots for an empty cache, as many as one word of `taken` has, at most one more than half the cache's
  /// limit. False where the hints lead to none: `claim_any` then knows.
  bool fill(slot_cache& cache) noexcept {
    const std::uint64_t words = (slots_now() + 63) / 64;
    if (words == 0) return false;
    if (cache.cursor >= words) cache.cursor = 0;
    // From this thread's own place on, then from the beginning up to it and around.
    if (claim_from_word(cache, cache.cursor)) return true;
    const std::uint64_t hint_words = (words + 63) / 64;
    const std::uint64_t first = cache.cursor / 64;
    for (std::uint64_t step = 0; step <= hint_words; ++step) {
      const std::uint64_t at = (first + step) % hint_words;
      std::uint64_t hints = Atomics::load(memory_.hints[at], std::memory_order_relaxed);
      if (step == 0) hints &= ~std::uint64_t{0} << (cache.cursor % 64);
      for (; hints != 0; hints &= hints - 1) {
        const std::uint64_t candidate = at * 64 + static_cast<unsigned>(std::countr_zero(hints));
        if (candidate < words && claim_from_word(cache, candidate)) return true;
      }
    }
    return false;
  }

  /// Where thread `number` of this attachment begins to look: each somewhere else.
  std::uint64_t first_cursor(std::uint32_t number) const noexcept {
    const std::uint64_t words = slots_now() / 64;
    const std::uint64_t place = (std::uint64_t{owner_} + std::uint64_t{number} * attachments_max) * 0x9e37'79b9u;
    return words == 0 ? 0 : place % words;
  }

  /// Searches all of the bitmap itself for something vacant: what is asked before it is said that there is none.
  bool claim_any(slot_cache& cache) noexcept {
    const std::uint64_t words = (slots_now() + 63) / 64;
    for (std::uint64_t at = 0; at < words; ++at)
      if (claim_from_word(cache, at)) return true;
    return false;
  }

  /// Makes the older half of the cache (or all of it) vacant again.
  void give_back(slot_cache& cache, bool all) noexcept {
    const std::uint32_t count = all ? cache.count : (cache.count + 1) / 2;
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint64_t w = Atomics::load(word_at(cache.slots[i]), std::memory_order_relaxed);
      make_vacant(cache.slots[i], word::generation_of(w));
    }
    for (std::uint32_t i = count; i < cache.count; ++i) cache.slots[i - count] = cache.slots[i];
    cache.count -= count;
  }

  /// A slot that somebody owns (this process; or a dead one, and then this process reaps it) becomes vacant.
  void make_vacant(std::uint32_t index, std::uint32_t generation) noexcept {
    const std::uint64_t at = index / 64;
    const std::uint64_t bit = std::uint64_t{1} << (index % 64);
    // The bit first: claimers go by it and then by the word, which still says that the slot is owned.
    Atomics::fetch_and(memory_.taken[at], ~bit, std::memory_order_seq_cst);
    // release: whoever claims the slot has seen all that was done to it.
    Atomics::store(word_at(index), word::vacant(generation), std::memory_order_release);
    hint_at(at);
  }

  // Filling -------------------------------------------------------------------------------------------------------------

  /// A slot from the cache is a handle's from now on. Returns its generation.
  std::uint32_t hold(std::uint32_t index) noexcept {
    std::uint64_t& word_now = word_at(index);
    const std::uint32_t generation = word::generation_of(Atomics::load(word_now, std::memory_order_relaxed));
    Atomics::store(word_now, word::held(generation, owner_), std::memory_order_relaxed);
    return generation;
  }
  /// Whether the slot is held in this generation, by this attachment.
  bool is_held(std::uint32_t index, std::uint32_t generation) const noexcept {
    return index < slots_now() &&
           Atomics::load(word_at(index), std::memory_order_relaxed) == word::held(generation, owner_);
  }
  /// Of a slot that this thread has taken from its cache.
  std::uint32_t generation_of_taken(std::uint32_t index) const noexcept {
    return word::generation_of(Atomics::load(word_at(index), std::memory_order_relaxed));
  }

  /// A slot of one's own gets its value and begins its life.
  void publish(std::uint32_t index, std::uint32_t generation, const void* value, std::size_t size_bytes) noexcept {
    // A reader of the life before may be copying. Its word was changed before the slot became ours; the fence makes sure
    // that whoever sees one of the stores below sees that as well.
    Atomics::fence(std::memory_order_release);
    copy_in<Atomics>(value_at(index), value, size_bytes);
    // From here on the value is there. release: all of it.
    Atomics::store(word_at(index), word::occupied(generation, 0), std::memory_order_release);
  }

  /// A held slot goes to the cache, for its next life: somebody knows the key of this one.
  void release(std::uint32_t index, std::uint32_t generation, slot_cache& cache) noexcept {
    const std::uint32_t next = generation + 1;
    if (next == version::retired_generation) {
      // It stays off the bitmap for ever.
      Atomics::store(word_at(index), word::vacant(next), std::memory_order_release);
      return;
    }
    Atomics::store(word_at(index), word::cached(next, owner_), std::memory_order_relaxed);
    put(index, cache);
  }

  // Ending and changing -------------------------------------------------------------------------------------------------

  /// Ends a life: the slot goes to this thread's cache. With `value`, that gets what the value was at that moment.
  outcome remove(std::uint32_t index, std::uint32_t generation, slot_cache& cache, void* value,
                 std::size_t size_bytes) noexcept {
    if (index >= slots_now()) return outcome::stale;
    std::uint64_t& word_now = word_at(index);
    for (;;) {
      std::uint64_t before = Atomics::load(word_now, std::memory_order_acquire);
      if (!is_alive(before, generation)) return outcome::stale;
      if (word::is_updating(before)) return outcome::busy;
      if (value != nullptr) {
        // Consistent if the word is the same afterwards, which the compare-and-swap makes sure of.
        copy_out<Atomics>(value, size_bytes, value_at(index));
        Atomics::fence(std::memory_order_acquire);
      }
      const std::uint32_t next = generation + 1;
      const bool retires = next == version::retired_generation;
      const std::uint64_t after = retires ? word::vacant(next) : word::cached(next, owner_);
      // From here on the value is gone. acquire: its stores are before those of the next life.
      if (!Atomics::compare_exchange(word_now, before, after, std::memory_order_acq_rel, std::memory_order_relaxed))
        continue;
      if (!retires) put(index, cache);
      return outcome::done;
    }
  }

  /// Begins a change: from the word under which the value was read, with the new value, through a lease of this
  /// attachment. Once done it has happened; `finish_update` must follow. Not done (stale) where the word has changed.
  outcome begin_update(std::uint32_t index, std::uint64_t before, std::uint32_t lease, const void* value,
                       std::size_t size_bytes) noexcept {
    lease_head& head = memory_.lease(lease);
    const std::uint64_t ticket = Atomics::load(head.ticket, std::memory_order_relaxed) + 1;
    // A reader may be copying out of this scratch area for its update before this one. That slot's word was changed
    // before; the fence makes sure that whoever sees one of the stores below sees that as well.
    Atomics::fence(std::memory_order_release);
    Atomics::store(head.ticket, ticket, std::memory_order_relaxed);
    Atomics::store(head.target, index, std::memory_order_relaxed);
    Atomics::store(head.changes, word::auxiliary_of(before), std::memory_order_relaxed);
    copy_in<Atomics>(memory_.lease_value(lease), value, size_bytes);
    const std::uint64_t during = word::updating(word::generation_of(before), lease, static_cast<std::uint32_t>(ticket));
    // From here on the value is the new one. release: the scratch area, which is read from now on.
    std::uint64_t expected = before;
    return Atomics::compare_exchange(word_at(index), expected, during, std::memory_order_acq_rel,
                                     std::memory_order_relaxed)
               ? outcome::done
               : outcome::stale;
  }

  /// Copies the new value from the scratch area to the slot and ends the change. By the updater; or, once that is dead,
  /// by whoever reaps it.
  void finish_update(std::uint32_t index, std::uint32_t lease) noexcept {
    std::uint64_t& word_now = word_at(index);
    const std::uint64_t during = Atomics::load(word_now, std::memory_order_relaxed);
    const lease_head& head = memory_.lease(lease);
    const auto changes = static_cast<std::uint32_t>(Atomics::load(head.changes, std::memory_order_relaxed)) + 1;
    // A reader of the old value may be copying out of the slot: it must see the word changed if it sees a store below.
    Atomics::fence(std::memory_order_release);
    copy_words<Atomics>(value_at(index), memory_.lease_value(lease), memory_.value_words);
    Atomics::store(word_now, word::occupied(word::generation_of(during), changes), std::memory_order_release);
  }

  // Iterating -----------------------------------------------------------------------------------------------------------

  /// Calls visit(index) for every slot that is owned or occupied. Weakly consistent: slots that are taken or given back
  /// meanwhile may or may not be among them; none that was off the bitmap throughout is missed.
  template <class Visit>
  void for_each_taken(Visit visit) const {
    const std::uint64_t slots = slots_now();
    for (std::uint64_t at = 0; at * 64 < slots; ++at) {
      std::uint64_t taken = Atomics::load(memory_.taken[at], std::memory_order_acquire);
      if (at * 64 + 64 > slots) taken &= ~(~std::uint64_t{0} << (slots % 64));
      for (; taken != 0; taken &= taken - 1)
        visit(static_cast<std::uint32_t>(at * 64 + static_cast<unsigned>(std::countr_zero(taken))));
    }
  }

  // Reaping -------------------------------------------------------------------------------------------------------------

  /// Gives back all that a dead attachment owned, and finishes the updates it had begun. Requires: it is dead, its entry is
  /// not free yet, and nobody else reaps (a lock that the kernel drops sees to both). May itself be killed anywhere and
  /// done again. Cost: looks at every slot.
  void reap(std::uint32_t dead) noexcept {
    const std::uint64_t slots = slots_now();
    for (std::uint64_t i = 0; i < slots; ++i) reap_slot(static_cast<std::uint32_t>(i), dead);
  }
  /// The same with what this attachment itself owns. Requires: none of its threads does anything else meanwhile.
  void reap_own() noexcept { reap(owner_); }
  void reap_slot(std::uint32_t index, std::uint32_t dead) noexcept {
    const std::uint64_t w = Atomics::load(word_at(index), std::memory_order_acquire);
    if (word::is_updating(w)) {
      if (word::updater_of(w) == dead) finish_update(index, word::lease_of(w));
    } else if (word::is_reserved(w) && word::owner_of(w) == dead) {
      // Of a handle's slot somebody may know the key; of a cached one nobody does.
      const std::uint32_t generation = word::generation_of(w) + (word::is_cached(w) ? 0 : 1);
      if (generation == version::retired_generation) {
        Atomics::fetch_or(memory_.taken[index / 64], std::uint64_t{1} << (index % 64), std::memory_order_relaxed);
        Atomics::store(word_at(index), word::vacant(generation), std::memory_order_release);
      } else {
        make_vacant(index, generation);
      }
    }
  }

 private:
  // What every operation begins with: two instructions where the stride is known, a multiplication else.
  std::uint64_t& word_at(std::uint32_t index) const noexcept {
    if constexpr (Stride == 0)
      return memory_.word(index);
    else
      return *reinterpret_cast<std::uint64_t*>(memory_.slots + index * Stride);
  }
  std::uint64_t* value_at(std::uint32_t index) const noexcept {
    if constexpr (Stride == 0)
      return memory_.value(index);
    else
      return reinterpret_cast<std::uint64_t*>(memory_.slots + index * Stride + ValueOffset);
  }

  static bool is_alive(std::uint64_t w, std::uint32_t generation) noexcept {
    // occupied 0b11 and updating 0b10: the upper of the two bits.
    return (word::version_of(w) | 1) == version::occupied(generation);
  }

  void put(std::uint32_t index, slot_cache& cache) noexcept {
    cache.slots[cache.count++] = index;
    if (cache.count > cache.limit) [[unlikely]]
      give_back(cache, false);
  }

  bool claim_from_word(slot_cache& cache, std::uint64_t at) noexcept {
    const std::uint64_t slots = slots_now();
    std::uint64_t taken = Atomics::load(memory_.taken[at], std::memory_order_relaxed);
    if (at * 64 + 64 > slots) taken |= ~std::uint64_t{0} << (slots % 64);
    const std::uint32_t goal = cache.limit / 2 + 1;
    for (std::uint64_t vacant = ~taken; vacant != 0 && cache.count < goal; vacant &= vacant - 1) {
      const auto index = static_cast<std::uint32_t>(at * 64 + static_cast<unsigned>(std::countr_zero(vacant)));
      if (claim(index)) cache.slots[cache.count++] = index;
    }
    if (cache.count == 0) {
      forget_hint_at(at);
      return false;
    }
    // The lowest is taken first.
    for (std::uint32_t i = 0; i < cache.count / 2; ++i) std::swap(cache.slots[i], cache.slots[cache.count - 1 - i]);
    cache.cursor = at;
    return true;
  }

  bool claim(std::uint32_t index) noexcept {
    std::uint64_t& word_now = word_at(index);
    std::uint64_t before = Atomics::load(word_now, std::memory_order_relaxed);
    if (!word::is_vacant(before)) return false;
    const std::uint32_t generation = word::generation_of(before);
    if (generation == version::retired_generation) return false;
    const std::uint32_t next = generation == 0 ? version::first_generation : generation;
    // Claimed and stamped in the same instant. acquire: all that was done to the slot before it became vacant.
    if (!Atomics::compare_exchange(word_now, before, word::cached(next, owner_), std::memory_order_acquire,
                                   std::memory_order_relaxed))
      return false;
    // Before anybody is told of the slot, so that iteration finds what will be in it.
    Atomics::fetch_or(memory_.taken[index / 64], std::uint64_t{1} << (index % 64), std::memory_order_seq_cst);
    return true;
  }

  /// Something in word `at` is vacant. The bit of `taken` was cleared before, and who forgets the hint looks at that again
  /// after: in the total order of these four operations one of the two sees the other.
  void hint_at(std::uint64_t at) noexcept {
    const std::uint64_t bit = std::uint64_t{1} << (at % 64);
    if ((Atomics::load(memory_.hints[at / 64], std::memory_order_seq_cst) & bit) == 0)
      Atomics::fetch_or(memory_.hints[at / 64], bit, std::memory_order_seq_cst);
  }
  void forget_hint_at(std::uint64_t at) noexcept {
    const std::uint64_t bit = std::uint64_t{1} << (at % 64);
    if ((Atomics::load(memory_.hints[at / 64], std::memory_order_relaxed) & bit) == 0) return;
    Atomics::fetch_and(memory_.hints[at / 64], ~bit, std::memory_order_seq_cst);
    if (Atomics::load(memory_.taken[at], std::memory_order_seq_cst) != ~std::uint64_t{0})
      Atomics::fetch_or(memory_.hints[at / 64], bit, std::memory_order_seq_cst);
  }

  region memory_;
  std::uint32_t owner_ = 0;
};

}  // namespace dm::sharing
