#include "deferred_map/format/journal.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace dm {
namespace {

constexpr std::size_t read_ahead_bytes = std::size_t{256} << 10;

template <class Struct>
std::span<std::byte> bytes_of(Struct& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

}  // namespace

std::uint64_t journal_header::computed_checksum() const noexcept {
  return XXH3_64bits(this, offsetof(journal_header, checksum));
}

std::uint64_t seal_record(std::span<std::byte> record) noexcept {
  const std::uint64_t checksum = XXH3_64bits(record.data() + 8, record.size() - 8);
  std::memcpy(record.data(), &checksum, sizeof checksum);
  return checksum;
}

journal_header_result check_journal_header(std::span<const std::byte> bytes, std::uint64_t place,
                                           const std::array<std::uint8_t, 16>& arena_uuid) {
  journal_header header;
  if (bytes.size() < sizeof header) return {std::nullopt, fault{errc::damaged, "it ends within its headers"}};
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::all_of(bytes.begin(), bytes.begin() + sizeof header, [](std::byte b) { return b == std::byte{0}; }))
    return {};
  if (header.magic != journal_header::magic_bytes)
    return {std::nullopt,
            fault{errc::not_an_arena, "it is no journal: it does not begin with a journal's magic number"}};
  if (header.checksum != header.computed_checksum()) {
    if (header.format_version > journal_header::format_version_now && header.format_version < 1000)
      return {std::nullopt,
              fault{errc::newer_format, "its journal has format version " + std::to_string(header.format_version) +
                                            ". Use a newer deferred-map"}};
    return {std::nullopt, fault{errc::damaged, "a header of the journal does not have the checksum it should have"}};
  }
  if (header.format_version != journal_header::format_version_now)
    return {std::nullopt, fault{errc::newer_format,
                                "its journal has format version " + std::to_string(header.format_version) +
                                    "; this program knows version " +
                                    std::to_string(journal_header::format_version_now) + ". Use a newer deferred-map"}};
  if (header.arena_uuid != arena_uuid)
    return {std::nullopt, fault{errc::damaged, "the journal beside it belongs to another arena"}};
  if (header.generation == 0 || header.generation >= journal_generations_max || header.generation % 2 != place ||
      header.first_commit == 0 || header.start_offset < journal_head_bytes || header.start_offset % 8 != 0)
    return {std::nullopt, fault{errc::damaged, "a header of the journal says what cannot be"}};
  return {header, std::nullopt};
}

journal_cursor::journal_cursor(reader read, const journal_header& header)
    : read_(std::move(read)),
      header_(header),
      position_(header.start_offset),
      chain_(header.seed),
      last_commit_(header.first_commit - 1),
      last_commit_chain_(header.seed),
      walked_{{header.start_offset, header.start_offset}},
      in_doubt_{header.first_commit, 0, header.start_offset} {}

// What lies at an offset may change while a journal is being written, so what was read ahead is kept for one walk only.
std::span<const std::byte> journal_cursor::bytes_at(std::uint64_t offset, std::uint64_t size) {
  if (offset < buffer_offset_ || offset + size > buffer_offset_ + buffer_size_ || offset + size < offset) {
    // Asked for piece by piece: a size that somebody made up is never taken as memory before the file has so much.
    buffer_offset_ = offset;
    buffer_size_ = 0;
    while (buffer_size_ < size) {
      const std::size_t piece = std::max(read_ahead_bytes, std::min<std::size_t>(buffer_size_, size - buffer_size_));
      if (buffer_.size() < buffer_size_ + piece) buffer_.resize(buffer_size_ + piece);
      const std::size_t got = read_(offset + buffer_size_, std::span(buffer_).subspan(buffer_size_, piece));
      buffer_size_ += got;
      if (got < piece) break;
    }
    if (buffer_size_ < size) return {};
  }
  return std::span<const std::byte>(buffer_).subspan(offset - buffer_offset_, size);
}

/// The head of the record at `offset`, if all of it is there and its checksum is right.
const journal_record* journal_cursor::record_at(std::uint64_t offset, journal_record& head) {
  std::span<const std::byte> bytes = bytes_at(offset, sizeof head);
  if (bytes.empty()) return nullptr;
  std::memcpy(&head, bytes.data(), sizeof head);
  if (head.magic != journal_record::right_magic || head.size_bytes < sizeof head || head.size_bytes % 8 != 0)
    return nullptr;
  bytes = bytes_at(offset, head.size_bytes);
  if (bytes.empty() || XXH3_64bits(bytes.data() + 8, bytes.size() - 8) != head.checksum) return nullptr;
  return &head;
}

const journal_commit* journal_cursor::next() {
  // Before any jump: that too is vouched for by a later commit only.
  const place before{last_commit_ + 1, walked_.size() - 1, position_};
  for (std::size_t jumps = 0; jumps < 1u << 20; ++jumps) {
    journal_record head;
    if (record_at(position_, head) == nullptr || head.previous != chain_) break;
    const std::span<const std::byte> body = bytes_at(position_, head.size_bytes).subspan(sizeof head);
    const auto kind = static_cast<journal_record_kind>(head.kind);
    if (kind == journal_record_kind::jump) {
      std::uint64_t target = 0;
      if (body.size() != sizeof target) break;
      std::memcpy(&target, body.data(), sizeof target);
      if (target < journal_head_bytes || target % 8 != 0) break;
      walked_.back().end = position_ + head.size_bytes;
      walked_.push_back({target, target});
      position_ = target;
      chain_ = head.checksum;
      continue;
    }
    if (kind != journal_record_kind::commit || head.commit != last_commit_ + 1) break;
    commit_.head = head;
    commit_.ranges = body;
    if (!commit_.for_each_range([](const journal_range&, std::span<const std::byte>) {})) break;
    note_vouched(head, before);
    position_ += head.size_bytes;
    walked_.back().end = position_;
    chain_ = last_commit_chain_ = head.checksum;
    last_commit_ = head.commit;
    return &commit_;
  }
  buffer_size_ = 0;
  return nullptr;
}

/// Two places are enough: however many commits went unsynced, the second is at most as many behind as one sync took along.
void journal_cursor::note_vouched(const journal_record& head, const place& before) noexcept {
  if (later_ && later_->commit <= head.durable_commit + 1) {
    in_doubt_ = *later_;
    later_.reset();
  }
  if (!later_) later_ = before;
}

bool journal_cursor::is_damaged_here(std::uint64_t limit_bytes) {
  constexpr std::uint64_t step = std::uint64_t{64} << 10;
  std::vector<std::byte> window(step + sizeof(journal_record));
  journal_cursor looking(read_, header_);
  for (std::uint64_t at = position_; at < position_ + limit_bytes; at += step) {
    const std::size_t got = read_(at, window);
    for (std::size_t i = 0; i + sizeof(journal_record) <= got && i < step; i += 8) {
      std::uint32_t magic = 0;
      std::memcpy(&magic, window.data() + i + offsetof(journal_record, magic), sizeof magic);
      if (magic != journal_record::right_magic) continue;
      journal_record head;
      std::memcpy(&head, window.data() + i, sizeof head);
      if (head.commit <= last_commit_ || head.durable_commit <= last_commit_ || head.durable_commit >= head.commit)
        continue;
      if (looking.record_at(at + i, head) != nullptr) return true;
    }
    if (got < window.size()) break;
  }
  return false;
}

}  // namespace dm
