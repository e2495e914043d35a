#include "deferred_map/journal/private_pages.hpp"

#include <algorithm>

namespace dm::journal {

private_pages::private_pages(storage& disk) noexcept
    : disk_(&disk), pages_per_stretch_(disk.stretch_bytes() / arena_page_bytes) {}

void private_pages::add(std::uint64_t offset, std::uint64_t size_bytes) {
  const std::uint64_t last = (offset + size_bytes - 1) / arena_page_bytes;
  for (std::uint64_t page = offset / arena_page_bytes; page <= last; ++page) {
    const std::uint64_t at = page / pages_per_stretch_;
    if (at >= stretches_.size()) {
      const std::uint64_t count = std::max<std::uint64_t>(at + 1, stretches_.size() * 2);
      differs_.resize((count * pages_per_stretch_ + 63) / 64);
      stretches_.resize(count);
    }
    std::uint64_t& word = differs_[page / 64];
    const std::uint64_t bit = std::uint64_t{1} << (page % 64);
    if ((word & bit) != 0) continue;
    word |= bit;
    stretch& in = stretches_[at];
    if (++in.differing >= pages_per_stretch_ / 2 && !in.gathered && !in.waiting) {
      waiting_.push_back(at);
      in.waiting = true;
    }
  }
}

void private_pages::gather(std::uint64_t most) noexcept {
  for (; most != 0 && !waiting_.empty(); --most) {
    const std::uint64_t at = waiting_.back();
    waiting_.pop_back();
    stretch& in = stretches_[at];
    in.waiting = false;
    in.gathered = disk_->gather(at);
  }
}

void private_pages::give_back(const std::vector<std::uint64_t>& pages, const page_set& changed) noexcept {
  for (std::uint64_t i = 0; i < pages.size();) {
    const std::uint64_t at = pages[i] / pages_per_stretch_;
    stretch& in = stretches_[at];
    // Neighbours of one stretch.
    std::uint64_t end = i;
    for (; end < pages.size() && pages[end] == pages[i] + (end - i) && pages[end] / pages_per_stretch_ == at; ++end) {
      if (changed.contains(pages[end])) break;
      differs_[pages[end] / 64] &= ~(std::uint64_t{1} << (pages[end] % 64));
      --in.differing;
    }
    if (end == i) {
      ++i;
      continue;
    }
    if (!in.gathered)
      disk_->discard(pages[i] * arena_page_bytes, (end - i) * arena_page_bytes);
    else if (in.differing == 0)
      in.gathered = !disk_->scatter(at);
    i = end;
  }
}

}  // namespace dm::journal
