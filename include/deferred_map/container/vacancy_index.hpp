// The vacancy index: finds a vacant slot in constant time and lets iteration skip empty slots 64 at a time.
//
//   buffer    [ 17 | 4 | 902 | ... ]        up to 128 recently vacated slots, last in first out; who stores the
//                                           index pushes and pops by itself and comes here when that is full or empty
//   level 0   one bit a slot                1 = taken, 0 = vacant
//   level 1   one bit a word of level 0     1 = that word has a vacant slot
//   level 2   one bit a word of level 1     1 = that word is not zero
//   ...       until a level is one word
//
// It is an index, not the truth: the versions of the slots are, and it can always be rebuilt from them.
//
// Invariants, for a map of `slot_count` slots:
//  1. Every vacant slot is either in the buffer, and then its level-0 bit is 1, or its level-0 bit is 0.
//     So churn, which goes through the buffer alone, never touches the bitmap.
//  2. The level-0 bit of every reserved, occupied or retired slot is 1, and so are the bits that follow
//     `slot_count` in the last word. So a word is all ones exactly when there is nothing in it to take.
//  3. A bit of level n + 1 is 1 exactly when the word of level n it stands for has something to take.
//
// Why not a free list through the vacant slots, as slot maps do: refilling after random removal is then a
// chain of cache misses, each waiting for the one before. Why not the bitmap alone: churn
// would take cold slots and touch three cache lines where the buffer touches one.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace dm {

/// Where the levels lie for a given capacity: one after the other from the first word, level 0 first.
struct index_shape {
  static constexpr unsigned levels_max = 7;  // 2^32 slots: 2^26 words, 2^20, 2^14, 2^8, 4, 1

  unsigned levels = 0;
  std::uint64_t words[levels_max] = {};   // in each level
  std::uint64_t offset[levels_max] = {};  // of each level's first word
  std::uint64_t words_total = 0;

  /// At least two levels, so that there is always a summary to ask.
  explicit constexpr index_shape(std::uint64_t capacity) noexcept {
    std::uint64_t bits = capacity;
    do {
      words[levels] = std::max<std::uint64_t>((bits + 63) / 64, 1);
      offset[levels] = words_total;
      words_total += words[levels];
      bits = words[levels++];
    } while (bits > 1 || levels < 2);
  }
};

/// `index_shape(capacity).words_total`, without the rest of it: small maps ask for it whenever they grow.
constexpr std::uint64_t index_words_total(std::uint64_t capacity) noexcept {
  std::uint64_t total = 0;
  std::uint64_t words = capacity;
  for (unsigned level = 0; words > 1 || level < 2; ++level) {
    words = std::max<std::uint64_t>((words + 63) / 64, 1);
    total += words;
  }
  return total;
}
static_assert(index_words_total(1) == index_shape(1).words_total);
static_assert(index_words_total(4096) == index_shape(4096).words_total);
static_assert(index_words_total(4097) == index_shape(4097).words_total);
static_assert(index_words_total(0xffff'ffff) == index_shape(0xffff'ffff).words_total);

/// Does nothing when a word of an index is about to change.
struct unwatched {
  void operator()(std::uint64_t&) const noexcept {}
};

/// A view of an index that somebody else stores: in a map's own memory, or in an arena. `Watch` is told of each word
/// before it changes.
template <class Watch>
class basic_vacancy_index {
 public:
  static constexpr std::uint32_t buffer_limit_max = 128;
  static constexpr std::uint32_t none = 0xffff'ffffu;
  static constexpr std::uint64_t full_word = ~std::uint64_t{0};

  /// For `slot_count` slots. `words` holds `index_shape(capacity)`; `buffer` holds `buffer_limit` entries, `buffer_count` of them in
  /// use. Requires: buffer_limit == 128, or buffer_limit >= the number of slots there can be (then it never spills).
  basic_vacancy_index(std::uint32_t slot_count, std::uint64_t* words, std::uint64_t capacity, std::uint32_t* buffer,
                      std::uint32_t buffer_limit, std::uint32_t& buffer_count, Watch watch = {}) noexcept
      : watch_(watch),
        slot_count_(slot_count),
        words_(words),
        capacity_(capacity),
        buffer_(buffer),
        buffer_limit_(buffer_limit),
        buffer_count_(buffer_count) {}

  /// Marks the word in which the new slot `index` begins as taken whole. Requires: index % 64 == 0.
  void append_word(std::uint32_t index) noexcept { set(words_[index / 64], full_word); }

  /// Clears the summaries that the new slot `index` is the first of: `rebuild` did not come so far, and in a file they
  /// may say anything. Requires: index % 4096 == 0.
  [[gnu::noinline]] void begin_summaries(std::uint32_t index) noexcept {
    const index_shape shape(capacity_);
    std::uint64_t word = index / 64;
    for (unsigned level = 1; level < shape.levels && word % 64 == 0; ++level) {
      word /= 64;
      set(words_[shape.offset[level] + word], 0);
    }
  }

  /// Moves the vacant slots of one or more words, lowest first, from the bitmap to the empty buffer, so that
  /// `pop` gives them in ascending order. Returns false where the bitmap holds none, or where it is not sound
  /// (it names words that hold nothing or lie behind `slot_count`): then it needs rebuilding.
  bool take_words(std::uint32_t slot_count) noexcept {
    const index_shape shape(capacity_);
    const std::uint32_t goal = std::clamp<std::uint32_t>(buffer_limit_ / 2, 1, 64);
    std::uint32_t* const buffer = buffer_;
    std::uint32_t filled = buffer_count_;  // not to be stored and loaded again for each slot
    while (filled < goal) {
      const std::uint64_t word = find_word(shape, slot_count);
      if (word == full_word) break;
      std::uint64_t vacant = ~words_[word];
      if (static_cast<std::uint32_t>(std::popcount(vacant)) > buffer_limit_ - filled) break;
      const auto first = static_cast<std::uint32_t>(word * 64);
      for (; vacant != 0; vacant &= vacant - 1)
        buffer[filled++] = first + static_cast<std::uint32_t>(std::countr_zero(vacant));
      set(words_[word], full_word);
      clear_summary(shape, word);
    }
    buffer_count_ = filled;
    std::reverse(buffer, buffer + filled);
    return filled != 0;
  }

  /// Replaces the whole index by what `taken` says, a word for each 64 slots, and empties the buffer. Levels
  /// are written only as far as `capacity_in_use` slots need: behind that an arena may have no blocks. Returns how
  /// many vacant slots there are.
  std::uint32_t rebuild(const std::uint64_t* taken, std::uint32_t slot_count, std::uint64_t capacity_in_use) noexcept {
    buffer_count_ = 0;
    if (words_ == nullptr || capacity_in_use == 0) return 0;  // there are no words that could be written to
    const index_shape shape(capacity_);
    const std::uint64_t words_used = (std::uint64_t{slot_count} + 63) / 64;
    std::uint32_t vacant = 0;
    for (std::uint64_t word = 0; word < words_used; ++word) {
      // In an arena most words are right already, and a first store to a page costs what reading sixteen pages does.
      if (words_[word] != taken[word]) set(words_[word], taken[word]);
      vacant += static_cast<std::uint32_t>(std::popcount(~taken[word]));
    }
    std::uint64_t words_below = (capacity_in_use + 63) / 64;
    for (unsigned level = 1; level < shape.levels; ++level) {
      const std::uint64_t* below = words_ + shape.offset[level - 1];
      std::uint64_t* summary = words_ + shape.offset[level];
      const std::uint64_t summary_words = std::max<std::uint64_t>((words_below + 63) / 64, 1);
      for (std::uint64_t word = 0; word < summary_words; ++word) set(summary[word], 0);
      const std::uint64_t until = level == 1 ? words_used : words_below;
      for (std::uint64_t word = 0; word < until; ++word)
        if (has_vacancy(level - 1, below[word])) summary[word / 64] |= std::uint64_t{1} << (word % 64);
      words_below = summary_words;
    }
    return vacant;
  }

  /// Moves the older half of a full buffer to the bitmap. `Trusted`: nobody else can have written to the buffer.
  template <class Trusted = std::false_type>
  void spill_half() noexcept {
    spill<Trusted>(buffer_limit_ / 2);
  }

  /// Moves every slot of the buffer to the bitmap.
  void spill_all() noexcept { spill(buffer_count_); }

  std::uint64_t* taken_words() const noexcept { return words_; }

  /// The first fault found in invariants 1 to 3, given the state of each slot, or null.
  /// Cost: linear in the capacity in use.
  template <class IsVacant>
  const char* first_fault(std::uint32_t slot_count, IsVacant is_vacant) const {
    const index_shape shape(capacity_);
    if (buffer_count_ > buffer_limit_) return "the vacancy buffer holds more than its limit";
    for (std::uint32_t i = 0; i < buffer_count_; ++i) {
      const std::uint32_t index = buffer_[i];
      if (index >= slot_count) return "the vacancy buffer names a slot that does not exist";
      if (!is_vacant(index)) return "the vacancy buffer names a slot that is not vacant";
      if (!is_taken(index)) return "a slot in the vacancy buffer is marked vacant in the bitmap as well";
      for (std::uint32_t j = 0; j < i; ++j)
        if (buffer_[j] == index) return "the vacancy buffer names a slot twice";
    }
    std::uint64_t vacant_in_bitmap = 0;
    std::uint64_t vacant_slots = 0;
    for (std::uint32_t index = 0; index < slot_count; ++index) {
      const bool vacant = is_vacant(index);
      vacant_slots += vacant;
      if (is_taken(index)) continue;
      if (!vacant) return "the bitmap marks a slot vacant that is not";
      ++vacant_in_bitmap;
    }
    if (vacant_in_bitmap + buffer_count_ != vacant_slots)
      return "a vacant slot is neither in the buffer nor in the bitmap";
    const std::uint64_t words_used = (std::uint64_t{slot_count} + 63) / 64;
    if (slot_count % 64 != 0 && (words_[words_used - 1] >> (slot_count % 64)) != (full_word >> (slot_count % 64)))
      return "the bitmap marks slots behind the last one vacant";
    if (slot_count == 0) return nullptr;  // the summaries are cleared when the first slot comes (`begin_summaries`)
    std::uint64_t words_below = words_used;
    for (unsigned level = 1; level < shape.levels; ++level) {
      for (std::uint64_t word = 0; word < words_below; ++word) {
        const bool said = words_[shape.offset[level] + word / 64] >> (word % 64) & 1;
        if (said != has_vacancy(level - 1, words_[shape.offset[level - 1] + word]))
          return "a summary bit disagrees with the word it stands for";
      }
      if (words_below % 64 != 0 && words_[shape.offset[level] + words_below / 64] >> (words_below % 64) != 0)
        return "a summary bit stands for a word behind the last slot";
      words_below = std::max<std::uint64_t>((words_below + 63) / 64, 1);
    }
    return nullptr;
  }

 private:
  void set(std::uint64_t& word, std::uint64_t bits) const noexcept {
    watch_(word);
    word = bits;
  }
  static bool has_vacancy(unsigned level, std::uint64_t word) noexcept {
    return level == 0 ? word != full_word : word != 0;
  }
  bool is_taken(std::uint32_t index) const noexcept { return words_[index / 64] >> (index % 64) & 1; }

  /// The lowest word of level 0 with a vacant slot, or `full_word`. Follows the summaries downwards and
  /// believes none of them: in a file they may say anything.
  std::uint64_t find_word(const index_shape& shape, std::uint32_t slot_count) const noexcept {
    if (slot_count == 0) return full_word;
    const std::uint64_t last_slot = slot_count - 1;
    std::uint64_t word = 0;
    for (unsigned level = shape.levels - 1; level > 0; --level) {
      const std::uint64_t summary = words_[shape.offset[level] + word];
      if (summary == 0) return full_word;
      word = word * 64 + static_cast<unsigned>(std::countr_zero(summary));
      if (word > last_slot >> (6 * level)) return full_word;
    }
    return words_[word] == full_word ? full_word : word;
  }

  /// Word `word` of level 0 has become full.
  void clear_summary(const index_shape& shape, std::uint64_t word) noexcept {
    for (unsigned level = 1; level < shape.levels; ++level) {
      std::uint64_t& summary = words_[shape.offset[level] + word / 64];
      set(summary, summary & ~(std::uint64_t{1} << (word % 64)));
      if (summary != 0) return;
      word /= 64;
    }
  }

  /// Word `word` of level 0 was full and is no longer.
  [[gnu::noinline]] void set_summary(std::uint64_t word) noexcept {
    const index_shape shape(capacity_);
    for (unsigned level = 1; level < shape.levels; ++level) {
      std::uint64_t& summary = words_[shape.offset[level] + word / 64];
      const bool was_zero = summary == 0;
      set(summary, summary | std::uint64_t{1} << (word % 64));
      if (!was_zero) return;
      word /= 64;
    }
  }

  /// Moves the `count` oldest slots of the buffer to the bitmap.
  template <class Trusted = std::false_type>
  void spill(std::uint32_t count) noexcept {
    std::uint32_t* const buffer = buffer_;
    std::uint64_t* const words = words_;
    const std::uint32_t slot_count = slot_count_;
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint32_t index = buffer[i];
      if (Trusted::value ? false : index >= slot_count) [[unlikely]]
        continue;  // in a file the buffer may say anything, and behind the last slot there may be no blocks
      std::uint64_t& word = words[index / 64];
      if (word == full_word) [[unlikely]]
        set_summary(index / 64);
      set(word, word & ~(std::uint64_t{1} << (index % 64)));
    }
    std::copy(buffer + count, buffer + buffer_count_, buffer);
    buffer_count_ -= count;
  }

  [[no_unique_address]] Watch watch_;
  std::uint32_t slot_count_;
  std::uint64_t* words_;
  std::uint64_t capacity_;
  std::uint32_t* buffer_;
  std::uint32_t buffer_limit_;
  std::uint32_t& buffer_count_;
};

using vacancy_index = basic_vacancy_index<unwatched>;

}  // namespace dm
