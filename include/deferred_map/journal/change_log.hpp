// What changed since the last commit, with what was there before: what a commit writes to the journal, and what a rollback
// puts back.
//
// Slots are noted once, with their bytes, before the first store to them; words of the index each time, with what they
// were. The counts are few, and whoever commits keeps a copy of them.
//
// Memory: a bit for each slot there can be, reserved as address space and used as it is touched; for each slot changed its
// bytes, in blocks of a mebibyte that never move.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace dm::journal {

class change_log {
 public:
  /// `slots` is where the slots lie, `words` the index.
  change_log(const std::byte* slots, std::uint32_t stride_bytes, std::uint64_t slots_max, const std::uint64_t* words);
  change_log(const change_log&) = delete;
  change_log& operator=(const change_log&) = delete;
  ~change_log();

  /// Notes that a slot is about to be stored to. Cost: a bit to test; the first time a copy of the slot. Where there is no
  /// memory left the program ends: as with `kill -9`, the last commit is safe.
  void before_change(std::uint32_t slot) noexcept {
    std::uint64_t& word = noted_[slot / 64];
    const std::uint64_t bit = std::uint64_t{1} << (slot % 64);
    if ((word & bit) != 0) [[likely]]
      return;
    word |= bit;
    note(slot);
  }
  void before_index_change(const std::uint64_t& word) noexcept;

  bool empty() const noexcept { return slot_count_ == 0 && words_.empty(); }
  std::uint64_t slot_count() const noexcept { return slot_count_; }

  /// Calls `visit(slot index, bytes before)` for each slot, in the order of the first change.
  template <class Visit>
  void for_each_slot(Visit visit) const {
    std::uint64_t left = slot_count_;
    for (const auto& block : blocks_) {
      for (std::uint64_t i = 0; i < entries_per_block_ && left != 0; ++i, --left) {
        const std::byte* entry = block.get() + i * entry_bytes_;
        visit(*reinterpret_cast<const std::uint32_t*>(entry), entry + 8);
      }
    }
  }

  struct index_word {
    std::uint64_t position;  // in words
    std::uint64_t before;
  };
  /// Each word once, ascending, with what it was before the first change.
  const std::vector<index_word>& index_words();

  /// Forgets everything: it was committed, or taken back.
  void clear() noexcept;

 private:
  void note(std::uint32_t slot) noexcept;

  const std::byte* slots_;
  const std::uint64_t* index_;
  std::uint32_t stride_bytes_;
  std::uint64_t noted_bytes_;
  std::uint64_t* noted_;  // a bit for each slot
  std::uint64_t entry_bytes_;
  std::uint64_t entries_per_block_;
  std::vector<std::unique_ptr<std::byte[]>> blocks_;
  std::uint64_t slot_count_ = 0;
  std::vector<index_word> words_;
  std::size_t words_sorted_ = 0;  // how many of `words_` are known to be in order and each once
};

}  // namespace dm::journal
