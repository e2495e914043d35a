#include "deferred_map/journal/change_log.hpp"

#include <algorithm>
#include <cstring>

#include "posix_file.hpp"

namespace dm::journal {
namespace {

constexpr std::uint64_t block_bytes = std::uint64_t{1} << 20;

}  // namespace

change_log::change_log(const std::byte* slots, std::uint32_t stride_bytes, std::uint64_t slots_max,
                       const std::uint64_t* words)
    : slots_(slots),
      index_(words),
      stride_bytes_(stride_bytes),
      noted_bytes_((slots_max + 63) / 64 * 8),
      noted_(static_cast<std::uint64_t*>(posix::reserve_zeros(noted_bytes_))),
      entry_bytes_(8 + (std::uint64_t{stride_bytes} + 7) / 8 * 8),
      entries_per_block_(std::max<std::uint64_t>(block_bytes / entry_bytes_, 1)) {}

change_log::~change_log() { posix::give_back(noted_, noted_bytes_); }

void change_log::note(std::uint32_t slot) noexcept {
  const std::uint64_t block = slot_count_ / entries_per_block_;
  if (block == blocks_.size())
    blocks_.push_back(std::make_unique_for_overwrite<std::byte[]>(entry_bytes_ * entries_per_block_));
  std::byte* entry = blocks_[block].get() + slot_count_ % entries_per_block_ * entry_bytes_;
  std::memcpy(entry, &slot, sizeof slot);
  std::memcpy(entry + 8, slots_ + std::uint64_t{slot} * stride_bytes_, stride_bytes_);
  ++slot_count_;
}

void change_log::before_index_change(const std::uint64_t& word) noexcept {
  words_.push_back({static_cast<std::uint64_t>(&word - index_), word});
}

const std::vector<change_log::index_word>& change_log::index_words() {
  if (words_sorted_ != words_.size()) {
    // Stable: of several notes of one word the first tells what it was.
    std::stable_sort(words_.begin(), words_.end(),
                     [](const index_word& a, const index_word& b) { return a.position < b.position; });
    words_.erase(std::unique(words_.begin(), words_.end(),
                             [](const index_word& a, const index_word& b) { return a.position == b.position; }),
                 words_.end());
    words_sorted_ = words_.size();
  }
  return words_;
}

void change_log::clear() noexcept {
  for_each_slot([this](std::uint32_t slot, const std::byte*) { noted_[slot / 64] = 0; });
  slot_count_ = 0;
  words_.clear();
  words_sorted_ = 0;
  // What one large transaction needed is not kept for the small ones that follow.
  if (blocks_.size() > 16) blocks_.resize(1);
  if (words_.capacity() > 1u << 20) words_.shrink_to_fit();
}

}  // namespace dm::journal
