#include "deferred_map/journal/journal_writer.hpp"

#include <algorithm>
#include <cstring>

#include "posix_file.hpp"

namespace dm::journal {
namespace {

constexpr std::uint64_t extent_bytes_max = std::uint64_t{8} << 20;
constexpr std::uint64_t page = 4096;

constexpr std::uint64_t page_ceil(std::uint64_t bytes) noexcept { return (bytes + page - 1) / page * page; }

void write_zeros(storage_file& file, std::uint64_t offset, std::uint64_t end) {
  static constexpr std::size_t piece_bytes = std::size_t{256} << 10;
  static const std::vector<std::byte> zeros(piece_bytes);
  while (offset < end) {
    const auto piece = std::min<std::uint64_t>(piece_bytes, end - offset);
    file.write(offset, std::span(zeros).first(piece));
    offset += piece;
  }
}

void write_again(storage_file& file, std::uint64_t offset, std::uint64_t end) {
  std::vector<std::byte> piece(std::min<std::uint64_t>(std::size_t{256} << 10, end - offset));
  while (offset < end) {
    const std::size_t got =
        file.read(offset, std::span(piece).first(std::min<std::uint64_t>(piece.size(), end - offset)));
    if (got == 0) break;
    file.write(offset, std::span(piece).first(got));
    offset += got;
  }
}

}  // namespace

journal_writer journal_writer::make(storage_file& file, const beginning& with, std::uint64_t nonce,
                                    std::uint64_t extent_bytes) {
  journal_writer made(file, nonce, extent_bytes);
  made.header_.arena_uuid = with.arena_uuid;
  made.header_.generation = with.generation;
  made.header_.first_commit = with.last_commit + 1;
  made.header_.seed = with.last_commit_chain;
  made.header_.start_offset = journal_head_bytes;
  made.chain_ = made.last_commit_chain_ = with.last_commit_chain;
  made.last_commit_ = made.durable_commit_ = with.last_commit;
  made.position_ = journal_head_bytes;
  made.extent_end_ = journal_head_bytes + extent_bytes;
  made.now_.push_back({made.position_, made.extent_end_});
  write_zeros(file, 0, made.extent_end_);
  made.write_header();
  made.sync();
  return made;
}

journal_writer journal_writer::resume(storage_file& file, const journal_cursor* older, const journal_cursor& current,
                                      std::uint64_t nonce, std::uint64_t extent_bytes) {
  journal_writer resumed(file, nonce, extent_bytes);
  resumed.header_ = current.header();
  resumed.position_ = current.position();
  resumed.chain_ = current.chain();
  resumed.last_commit_ = current.last_commit();
  resumed.last_commit_chain_ = current.last_commit_chain();
  resumed.has_older_ = older != nullptr;
  resumed.synced_ = false;
  for (const auto& part : current.walked()) {
    resumed.now_.push_back({part.offset, part.end});
    resumed.generation_bytes_ += part.end - part.offset;
  }
  if (older != nullptr)
    for (const auto& part : older->walked()) resumed.older_.push_back({part.offset, part.end});

  // Whatever no record lies in is free, the rest of the last extent first of all.
  std::vector<extent> used = resumed.now_;
  used.insert(used.end(), resumed.older_.begin(), resumed.older_.end());
  std::sort(used.begin(), used.end(), [](const extent& a, const extent& b) { return a.offset < b.offset; });
  const std::uint64_t file_end = file.size_bytes() / page * page;
  resumed.extent_end_ = std::max(resumed.position_, file_end);
  std::uint64_t free_from = journal_head_bytes;
  for (const extent& part : used) {
    if (part.offset > resumed.position_) resumed.extent_end_ = std::min(resumed.extent_end_, part.offset);
    if (part.offset > free_from) resumed.free_.push_back({free_from, part.offset});
    free_from = std::max(free_from, page_ceil(part.end));
  }
  if (file_end > free_from) resumed.free_.push_back({free_from, file_end});
  std::erase_if(resumed.free_, [&](const extent& part) {
    return part.offset == page_ceil(resumed.position_) || part.offset / page == resumed.position_ / page ||
           part.end - part.offset < extent_bytes / 4;
  });
  // A file that lost its growth, or a record right at its end: no room for a jump, which must always be there.
  if (resumed.extent_end_ < resumed.position_ + journal_jump_bytes) {
    resumed.extent_end_ = page_ceil(resumed.position_ + journal_jump_bytes);
    write_zeros(file, resumed.position_, resumed.extent_end_);
  }
  // What a record of the past lacks (where the file had lost its growth: zeros) may come to be there. It must not count then.
  write_zeros(file, resumed.position_, resumed.position_ + sizeof(journal_record));
  resumed.now_.back().end = resumed.extent_end_;

  // Invariant 5. A cleared header counts too: on its clearing depends whether space is free. What the generation before
  // holds was on the disk before this one was begun, and what was brought into the arena of either is brought there again.
  for (const std::uint64_t place : {0, 1})
    write_again(file, journal_header_offset(place), journal_header_offset(place) + sizeof(journal_header));
  const journal_cursor::place& from = current.in_doubt();
  for (std::size_t i = from.extent; i < current.walked().size(); ++i)
    write_again(file, i == from.extent ? from.offset : current.walked()[i].offset, current.walked()[i].end);
  return resumed;
}

void journal_writer::write_header() {
  header_.checksum = header_.computed_checksum();
  file_->write(journal_header_offset(header_.generation), std::as_bytes(std::span(&header_, 1)));
  synced_ = false;
}

journal_writer::extent journal_writer::take_extent(std::uint64_t bytes) {
  const auto fits =
      std::find_if(free_.begin(), free_.end(), [&](const extent& part) { return part.end - part.offset >= bytes; });
  if (fits != free_.end()) {
    const extent taken = *fits;
    free_.erase(fits);
    return taken;
  }
  const std::uint64_t begin = page_ceil(file_->size_bytes());
  const std::uint64_t wanted = std::clamp(begin / 4 / page * page, extent_bytes_, extent_bytes_max);
  const extent made{begin, begin + std::max(wanted, page_ceil(bytes))};
  // One that a single record fills is not written twice. The last byte gives it its size.
  write_zeros(*file_, bytes > wanted ? made.end - page : made.offset, made.end);
  return made;
}

void journal_writer::append(std::vector<std::byte>& record) {
  const std::uint64_t size = record.size();
  if (position_ + size + journal_jump_bytes > extent_end_) {
    const extent next = take_extent(size + journal_jump_bytes);
    journal_record head;
    head.kind = static_cast<std::uint32_t>(journal_record_kind::jump);
    head.size_bytes = journal_jump_bytes;
    head.previous = chain_;
    head.durable_commit = durable_commit_;
    head.unix_ns = posix::now_unix_ns();
    head.nonce = nonce_;
    std::array<std::byte, journal_jump_bytes> jump{};
    std::memcpy(jump.data(), &head, sizeof head);
    std::memcpy(jump.data() + sizeof head, &next.offset, sizeof next.offset);
    const std::uint64_t checksum = seal_record(jump);
    try {
      file_->write(position_, jump);
    } catch (...) {
      free_.push_back(next);
      throw;
    }
    synced_ = false;
    now_.push_back(next);
    position_ = next.offset;
    extent_end_ = next.end;
    chain_ = checksum;
  }
  journal_record head;
  std::memcpy(&head.range_count, record.data() + offsetof(journal_record, range_count), sizeof head.range_count);
  head.kind = static_cast<std::uint32_t>(journal_record_kind::commit);
  head.size_bytes = size;
  head.commit = last_commit_ + 1;
  head.previous = chain_;
  head.durable_commit = durable_commit_;
  head.unix_ns = posix::now_unix_ns();
  head.nonce = nonce_;
  std::memcpy(record.data(), &head, sizeof head);
  const std::uint64_t checksum = seal_record(record);
  file_->write(position_, record);
  synced_ = false;
  position_ += size;
  generation_bytes_ += size;
  chain_ = last_commit_chain_ = checksum;
  ++last_commit_;
}

void journal_writer::sync() {
  file_->sync();
  synced_ = true;
  durable_commit_ = last_commit_;
  free_.insert(free_.end(), freeing_.begin(), freeing_.end());
  freeing_.clear();
}

void journal_writer::begin_generation() {
  const extent first = take_extent(extent_bytes_ / 4);
  const journal_header before = header_;
  ++header_.generation;
  header_.first_commit = last_commit_ + 1;
  header_.seed = last_commit_chain_;
  header_.start_offset = first.offset;
  try {
    // A record that an earlier process wrote there, in a generation whose header the disk never had, would follow the same
    // commit as ours will: it must be gone before there is a header that leads to it.
    write_zeros(*file_, first.offset, first.offset + sizeof(journal_record));
    file_->sync();
    write_header();
  } catch (...) {
    header_ = before;
    free_.push_back(first);
    throw;
  }
  older_ = std::move(now_);
  now_ = {first};
  has_older_ = true;
  position_ = first.offset;
  extent_end_ = first.end;
  chain_ = last_commit_chain_;
  generation_bytes_ = 0;
}

void journal_writer::retire_older() {
  const std::array<std::byte, sizeof(journal_header)> nothing{};
  file_->write(journal_header_offset(header_.generation - 1), nothing);
  synced_ = false;
  freeing_.insert(freeing_.end(), older_.begin(), older_.end());
  older_.clear();
  has_older_ = false;
}

}  // namespace dm::journal
