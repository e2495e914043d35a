// Pages of the arena that differ from the file, or may. A bit each, and a list.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "deferred_map/format/arena_header.hpp"

namespace dm::journal {

class page_set {
 public:
  /// Adds the pages that hold the bytes [offset, offset + size).
  void add(std::uint64_t offset, std::uint64_t size_bytes) {
    const std::uint64_t last = (offset + size_bytes - 1) / arena_page_bytes;
    for (std::uint64_t page = offset / arena_page_bytes; page <= last; ++page) add_page(page);
  }
  bool contains(std::uint64_t page) const noexcept {
    return page / 64 < bits_.size() && (bits_[page / 64] >> (page % 64) & 1) != 0;
  }
  bool empty() const noexcept { return pages_.empty(); }
  std::uint64_t count() const noexcept { return pages_.size(); }
  /// In ascending order, so that neighbours are written together. Cost: sorting, where something was added since.
  const std::vector<std::uint64_t>& sorted() {
    if (!sorted_) std::sort(pages_.begin(), pages_.end());
    sorted_ = true;
    return pages_;
  }
  void clear() noexcept {
    for (const std::uint64_t page : pages_) bits_[page / 64] = 0;
    pages_.clear();
    sorted_ = true;
  }
  void swap(page_set& other) noexcept {
    bits_.swap(other.bits_);
    pages_.swap(other.pages_);
    std::swap(sorted_, other.sorted_);
  }

 private:
  void add_page(std::uint64_t page) {
    if (page / 64 >= bits_.size()) bits_.resize(std::max<std::uint64_t>(page / 64 + 1, bits_.size() * 2));
    std::uint64_t& word = bits_[page / 64];
    const std::uint64_t bit = std::uint64_t{1} << (page % 64);
    if ((word & bit) != 0) return;
    word |= bit;
    pages_.push_back(page);
    sorted_ = false;
  }

  std::vector<std::uint64_t> bits_;
  std::vector<std::uint64_t> pages_;
  bool sorted_ = true;
};

}  // namespace dm::journal
