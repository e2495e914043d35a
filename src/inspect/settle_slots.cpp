#include "settle_slots.hpp"

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "deferred_map/container/vacancy_index.hpp"
#include "deferred_map/container/version.hpp"
#include "deferred_map/format/index_layout.hpp"

namespace dm::inspect {
namespace {

constexpr std::uint64_t full_word = vacancy_index::full_word;
constexpr std::size_t chunk_bytes = std::size_t{1} << 20;
constexpr std::uint32_t long_stride_bytes = 64u << 10;

/// Words of the index, written one after the other.
class word_writer {
 public:
  word_writer(const posix::file& file, std::uint64_t offset) : file_(file), offset_(offset) {}
  void add(std::uint64_t word) {
    words_.push_back(word);
    if (words_.size() == 16 * 1024) flush();
  }
  void flush() {
    file_.write_all(offset_, std::as_bytes(std::span(words_)));
    offset_ += words_.size() * sizeof(std::uint64_t);
    words_.clear();
  }

 private:
  const posix::file& file_;
  std::uint64_t offset_;
  std::vector<std::uint64_t> words_;
};

class slot_settling {
 public:
  slot_settling(const posix::file& file, const arena_header& header, const settle_word& settle)
      : file_(file),
        header_(header),
        settle_(settle),
        levels_(header.slots_max),
        word_bytes_(is_shared(header) ? 8 : 4) {}

  settled_counts run(std::uint64_t slot_count, std::uint64_t capacity) {
    words_of_slots(slot_count);
    std::uint64_t words_used = (slot_count + 63) / 64;
    std::uint64_t words_below = (capacity + 63) / 64;
    // Of a shared arena only the first summary is used, as a hint.
    const std::uint32_t levels = is_shared(header_) ? 2 : levels_.levels;
    for (std::uint32_t level = 1; level < levels; ++level) {
      const std::uint64_t summary_words = std::max<std::uint64_t>((words_below + 63) / 64, 1);
      summaries(level, words_used, summary_words);
      words_used = (words_used + 63) / 64;
      words_below = summary_words;
    }
    return counts_;
  }

 private:
  std::uint64_t level_offset(std::uint32_t level) const {
    return header_.index_offset + levels_.offset[level] * sizeof(std::uint64_t);
  }

  void words_of_slots(std::uint64_t slot_count) {
    word_writer taken(file_, level_offset(0));
    const std::uint64_t stride = header_.slot_stride_bytes;
    const std::uint64_t at_once = stride > long_stride_bytes ? 1 : std::max<std::uint64_t>(chunk_bytes / stride, 1);
    std::vector<std::byte> chunk;
    std::uint64_t bits = 0;
    for (std::uint64_t first = 0; first < slot_count; first += at_once) {
      const std::uint64_t count = std::min(at_once, slot_count - first);
      const std::uint64_t offset = header_.slots_offset + first * stride;
      chunk.assign(static_cast<std::size_t>((count - 1) * stride + word_bytes_), std::byte{0});
      file_.read_some(offset, chunk);
      bool is_changed = false;
      for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t slot = first + i;
        std::uint64_t word = 0;
        std::memcpy(&word, chunk.data() + i * stride, word_bytes_);
        const std::uint64_t found = word;
        settle_(static_cast<std::uint32_t>(slot), word);
        if (word != found) {
          const auto bytes = std::as_bytes(std::span(&word, 1)).first(word_bytes_);
          // Of a shared arena `settle` may have stored the slot's value, which the chunk has as it was.
          if (is_shared(header_)) file_.write_all(offset + i * stride, bytes);
          std::copy(bytes.begin(), bytes.end(), chunk.begin() + static_cast<std::ptrdiff_t>(i * stride));
          is_changed = true;
        }
        if (is_taken(static_cast<std::uint32_t>(word))) bits |= std::uint64_t{1} << (slot % 64);
        if (slot % 64 == 63) {
          taken.add(bits);
          bits = 0;
        }
      }
      // At once: there may be millions of slots that were never made.
      if (is_changed && !is_shared(header_)) file_.write_all(offset, chunk);
    }
    // Behind the last slot there is nothing to take.
    if (slot_count % 64 != 0) taken.add(bits | full_word << (slot_count % 64));
    taken.flush();
  }

  bool is_taken(std::uint32_t word) {
    const slot_state state = version::state(word);
    if (state == slot_state::vacant)
      ++counts_.vacant;
    else
      ++(state == slot_state::retired ? counts_.retired : counts_.occupied);
    return state != slot_state::vacant;
  }

  void summaries(std::uint32_t level, std::uint64_t words_used, std::uint64_t summary_words) {
    word_writer summary(file_, level_offset(level));
    std::vector<std::uint64_t> below;
    for (std::uint64_t word = 0; word < summary_words; ++word) {
      const std::uint64_t first = word * 64;
      const std::uint64_t count = first < words_used ? std::min<std::uint64_t>(words_used - first, 64) : 0;
      below.assign(static_cast<std::size_t>(count), 0);
      file_.read_some(level_offset(level - 1) + first * sizeof(std::uint64_t),
                      std::as_writable_bytes(std::span(below)));
      std::uint64_t bits = 0;
      for (std::uint64_t i = 0; i < count; ++i)
        if (level == 1 ? below[i] != full_word : below[i] != 0) bits |= std::uint64_t{1} << i;
      summary.add(bits);
    }
    summary.flush();
  }

  const posix::file& file_;
  const arena_header& header_;
  const settle_word& settle_;
  index_levels levels_;
  std::size_t word_bytes_;
  settled_counts counts_;
};

}  // namespace

settled_counts settle_slots(const posix::file& file, const arena_header& header, std::uint64_t slot_count,
                            std::uint64_t capacity, const settle_word& settle) {
  return slot_settling(file, header, settle).run(slot_count, capacity);
}

}  // namespace dm::inspect
