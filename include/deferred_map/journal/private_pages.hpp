// Which pages of the view are copies of our own, and how they lie in memory.
//
// The kernel makes such a copy at the first store to a page, wherever in memory a page is free. Where most pages of a
// stretch are copies, the stretch is *gathered*: copied whole into memory that lies together, as one huge page where the
// machine has such. Reading at random is then as fast as in a mapped_map (docs/BENCHMARKS.md); and the rest of the stretch is
// stored to without a fault. Once the file has all of a stretch again, its memory is given back.
//
// Invariants:
//  1. A page that is not in `differs` is the same in the view and in the file.
//  2. What is given back, pages or whole stretches, is not in `differs`, so that the file's bytes may take its place.
#pragma once

#include <cstdint>
#include <vector>

#include "deferred_map/arena/storage.hpp"
#include "deferred_map/journal/page_set.hpp"

namespace dm::journal {

class private_pages {
 public:
  explicit private_pages(storage& disk) noexcept;

  /// The bytes [offset, offset + size) of the view were stored to. Cost: a bit for each page.
  void add(std::uint64_t offset, std::uint64_t size_bytes);
  /// Gathers stretches that have become worth it, at most so many. Cost: a fraction of a millisecond for each.
  void gather(std::uint64_t most) noexcept;
  /// The file has these pages now, in ascending order, as they were when they were noted; those `changed` since have
  /// become different again. Requires: nothing is uncommitted.
  void give_back(const std::vector<std::uint64_t>& pages, const page_set& changed) noexcept;

 private:
  struct stretch {
    std::uint32_t differing = 0;  // pages
    bool gathered = false;
    bool waiting = false;  // to be gathered
  };

  storage* disk_;
  std::uint64_t pages_per_stretch_;
  std::vector<std::uint64_t> differs_;  // a bit for each page
  std::vector<stretch> stretches_;
  std::vector<std::uint64_t> waiting_;
};

}  // namespace dm::journal
