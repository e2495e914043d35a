// Words of the vacancy index, read one after the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "deferred_map/inspect/byte_source.hpp"

namespace dm::inspect {

/// One level of the index. Cheap where words are asked for in ascending order. Words behind the file's end are 0.
class index_words {
 public:
  index_words(const byte_source& source, std::uint64_t offset, std::uint64_t count,
              std::vector<byte_range>& unreadable) noexcept
      : source_(&source), offset_(offset), count_(count), unreadable_(&unreadable) {}

  std::uint64_t at(std::uint64_t word) {
    if (word < begin_ || word >= begin_ + buffer_.size()) fill(word);
    return buffer_[static_cast<std::size_t>(word - begin_)];
  }
  std::uint64_t offset_of(std::uint64_t word) const noexcept { return offset_ + word * sizeof(std::uint64_t); }

 private:
  static constexpr std::uint64_t words_at_once = 16 * 1024;

  void fill(std::uint64_t word) {
    const std::uint64_t rest = count_ > word ? count_ - word : 1;
    buffer_.assign(static_cast<std::size_t>(rest < words_at_once ? rest : words_at_once), 0);
    begin_ = word;
    read_around_errors(*source_, offset_of(word), std::as_writable_bytes(std::span(buffer_)), *unreadable_);
  }

  const byte_source* source_;
  std::uint64_t offset_;
  std::uint64_t count_;
  std::vector<byte_range>* unreadable_;
  std::uint64_t begin_ = 0;
  std::vector<std::uint64_t> buffer_;
};

}  // namespace dm::inspect
