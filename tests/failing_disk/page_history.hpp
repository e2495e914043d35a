// A disk on which power may be lost: of each page it may hold any version since the page was last synced.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "deferred_map/format/control_block.hpp"

/// One file's pages, as a kernel may have written them by now. Fed with what the file contains at chosen moments.
class page_history {
 public:
  /// `page_bytes`: what the disk writes wholly or not at all; a sector of 512 or a page of 4096.
  page_history(std::size_t control_offset, std::size_t page_bytes)
      : page_bytes_(page_bytes), control_page_(control_offset / page_bytes) {}

  /// The file has these bytes now.
  void look(const std::string& bytes) {
    if (sizes_.empty() || sizes_.back() != bytes.size()) sizes_.push_back(bytes.size());
    const std::size_t pages = std::max(versions_.size(), (bytes.size() + page_bytes_ - 1) / page_bytes_);
    versions_.resize(pages, {std::string(page_bytes_, '\0')});
    for (std::size_t i = 0; i < pages; ++i) {
      std::string page = i * page_bytes_ < bytes.size() ? bytes.substr(i * page_bytes_, page_bytes_) : std::string();
      page.resize(page_bytes_, '\0');
      if (page == versions_[i].back()) continue;
      if (i == control_page_) add_between(versions_[i].back(), page);
      versions_[i].push_back(std::move(page));
    }
  }

  /// All that was looked at last is on the disk, and nothing older.
  void synced() {
    for (std::size_t i = 0; i < versions_.size(); ++i) synced_page(i);
    sizes_.erase(sizes_.begin(), sizes_.end() - 1);
  }
  /// The kernel's page with the control block is.
  void synced_control() {
    for (std::size_t i = 0; i < 4096 / page_bytes_; ++i) synced_page(control_page_ + i);
  }
  std::size_t control_page() const { return control_page_; }

  /// Which version of each page, and of the size, the power left.
  struct mixture {
    std::vector<std::size_t> of_page;
    std::size_t of_size = 0;
  };

  /// All mixtures if there are at most `budget`; else as many random ones, and up to as many plain ones.
  std::vector<mixture> mixtures(std::size_t budget, std::mt19937_64& random) const {
    std::size_t count = sizes_.size();
    for (const auto& page : versions_) count = std::min(count * page.size(), std::size_t{1} << 40);
    std::vector<mixture> all;
    if (count <= budget) {
      for (std::size_t n = 0; n < count; ++n) {
        std::size_t rest = n;
        all.push_back(chosen([&](std::size_t choices) {
          const std::size_t choice = rest % choices;
          rest /= choices;
          return choice;
        }));
      }
      return all;
    }
    // Everything new but one page, nothing new but one page, ...
    const std::size_t start = random() % versions_.size();
    for (std::size_t i = 0; i < versions_.size() && all.size() < budget; ++i) {
      const std::size_t odd = (start + i) % versions_.size();
      if (versions_[odd].size() == 1) continue;
      std::size_t at = 0;
      all.push_back(chosen([&](std::size_t choices) { return at++ == odd ? 0 : choices - 1; }));
      at = 0;
      all.push_back(chosen([&](std::size_t choices) { return at++ == odd ? choices - 1 : 0; }));
    }
    // ... and, with a leaning to one side or none, whatever comes.
    for (std::size_t i = 0; i < budget; ++i) {
      const std::uint64_t leaning = random() % 5;
      all.push_back(chosen([&](std::size_t choices) -> std::size_t {
        if (leaning == 1 && random() % 4 != 0) return 0;
        if (leaning == 2 && random() % 4 != 0) return choices - 1;
        return random() % choices;
      }));
    }
    return all;
  }

  const std::string& page(std::size_t i, const mixture& left) const { return versions_[i][left.of_page[i]]; }
  std::size_t pages() const { return versions_.size(); }
  std::size_t size_bytes(const mixture& left) const { return sizes_[left.of_size]; }

 private:
  void synced_page(std::size_t i) { versions_[i].erase(versions_[i].begin(), versions_[i].end() - 1); }

  template <class F>
  mixture chosen(F choose) const {
    mixture m;
    for (const auto& page : versions_) m.of_page.push_back(choose(page.size()));
    m.of_size = choose(sizes_.size());
    return m;
  }

  /// What the control page was between two looks, as far as the marks go: they are stored one by one.
  void add_between(const std::string before, const std::string& after) {  // a copy: versions move
    const auto with = [&](const std::string& page, std::uint64_t closed, std::uint64_t synced) {
      std::string between = page;
      std::memcpy(between.data() + offsetof(dm::control_block, closed), &closed, sizeof closed);
      std::memcpy(between.data() + offsetof(dm::control_block, synced), &synced, sizeof synced);
      versions_[control_page_].push_back(std::move(between));
    };
    const auto synced_of = [](const std::string& page) {
      std::uint64_t synced = 0;
      std::memcpy(&synced, page.data() + offsetof(dm::control_block, synced), sizeof synced);
      return synced;
    };
    with(before, 0, synced_of(before));
    const bool counts_alike = before.compare(64, std::string::npos, after, 64, std::string::npos) == 0;
    if (counts_alike) with(after, 0, synced_of(before));
    with(after, 0, synced_of(after));
  }

  std::size_t page_bytes_;
  std::size_t control_page_;
  std::vector<std::vector<std::string>> versions_;  // [0] is on the disk for certain
  std::vector<std::size_t> sizes_;
};
