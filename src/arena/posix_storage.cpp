#include "posix_storage.hpp"

#include <algorithm>
#include <optional>

#include "arena_parts.hpp"

namespace dm {
namespace {

class posix_storage_file final : public storage_file {
 public:
  explicit posix_storage_file(posix::file file) noexcept : file_(std::move(file)) {}

  std::uint64_t size_bytes() const override { return file_.size_bytes(); }
  std::size_t read(std::uint64_t offset, std::span<std::byte> out) const override {
    return file_.read_some(offset, out);
  }
  void write(std::uint64_t offset, std::span<const std::byte> bytes) override { file_.write_all(offset, bytes); }
  void sync() override { file_.sync(); }
  void start_writing(std::uint64_t offset, std::uint64_t size_bytes) noexcept override {
    file_.start_writing(offset, size_bytes);
  }
  void set_size(std::uint64_t size_bytes) override { file_.set_size(size_bytes); }

  posix::file& file() noexcept { return file_; }
  const posix::file& file() const noexcept { return file_; }

 private:
  posix::file file_;
};

class posix_storage final : public storage {
 public:
  posix_storage(posix::file arena, const arena_header& header, bool writable, std::uint32_t permissions)
      : arena_(std::move(arena)),
        header_(header),
        writable_(writable),
        permissions_(permissions),
        journal_path_(journal_path(arena_.file().path())) {
    open_journal();
  }
  ~posix_storage() override {
    if (base_ != nullptr) posix::give_back(base_, view_bytes_);
  }

  const std::filesystem::path& path() const noexcept override { return arena_.file().path(); }
  bool is_ours() const noexcept override { return opened_by_pid_ == posix::process_id(); }
  storage_file& arena() override { return arena_; }
  void allocate_slots(std::uint64_t slots_before, std::uint64_t slots) override {
    if (slots_before == 0) {
      // All that there is said to be: a few bytes can say that it is terabytes, and what cannot end is not begun.
      const std::uint64_t wanted = header_.index_offset + slots * header_.slot_stride_bytes;
      require_few_holes(arena_.file(), wanted, slots);
      require_room(arena_.file(), wanted, slots);
      arena_.file().allocate(0, header_.index_offset);
    }
    dm::allocate_slots(arena_.file(), header_, slots_before, slots);
  }

  storage_file* journal() override { return journal_ ? &*journal_ : nullptr; }
  storage_file& create_journal() override {
    journal_.emplace(posix::file::create_unnamed(journal_path_, permissions_));
    return *journal_;
  }
  void publish_journal() override {
    journal_->file().give_name();
    journal_->file().sync_directory();
  }
  void remove_journal() override {
    journal_->file().take_back_name();
    journal_.reset();
  }

  std::byte* view() override {
    view_bytes_ = header_.file_size_for(header_.slots_max);
    // A reader may learn of slots that the file had no bytes for when it was opened: for them there is memory of our own.
    // A writer makes the file longer first.
    base_ = static_cast<std::byte*>(posix::reserve_zeros(view_bytes_));
    const std::uint64_t in_file =
        writable_
            ? view_bytes_
            : std::min(view_bytes_, (arena_.size_bytes() + arena_page_bytes - 1) / arena_page_bytes * arena_page_bytes);
    if (in_file == 0) return base_;
    to_map_ = arena_.file().opened_again(false);
    posix::map_private_at(base_, in_file, to_map_, 0);
    return base_;
  }
  void discard(std::uint64_t offset, std::uint64_t size_bytes) noexcept override {
    posix::discard_pages(base_ + offset, size_bytes);
  }
  std::uint64_t stretch_bytes() const noexcept override { return posix::huge_page_bytes; }
  bool gather(std::uint64_t stretch) noexcept override {
    try {
      // Behind the end of the file there is nothing to be copied.
      const std::uint64_t end = (stretch + 1) * stretch_bytes();
      if (!can_gather_ || end > view_bytes_ || end > arena_.size_bytes()) return false;
      // Where there are too many mappings already, each try costs as much as one that succeeds: not again.
      return can_gather_ = posix::move_to_huge_page(base_ + stretch * stretch_bytes());
    } catch (...) {
      return false;
    }
  }
  bool scatter(std::uint64_t stretch) noexcept override {
    const std::uint64_t offset = stretch * stretch_bytes();
    try {
      posix::map_private_at(base_ + offset, stretch_bytes(), to_map_, offset);
      return true;
    } catch (...) {
      return false;
    }
  }

  bool try_keep_out_readers(std::uint64_t generation) override {
    return arena_.file().try_lock_range(posix::lock_mode::exclusive, durable_reader_lock_offset, generation + 1);
  }
  void let_in_readers(std::uint64_t generation) noexcept override {
    arena_.file().unlock_range(durable_reader_lock_offset, generation + 1);
  }
  void pin(std::uint64_t generation) override {
    arena_.file().lock_range(posix::lock_mode::shared, durable_reader_lock_offset + generation, 1);
  }
  void unpin(std::uint64_t generation) noexcept override {
    arena_.file().unlock_range(durable_reader_lock_offset + generation, 1);
  }
  void look_for_journal() override { open_journal(); }
  void protect(bool writable) override {
    if (writable)
      posix::allow_writing(base_, view_bytes_);
    else
      posix::protect_read_only(base_, view_bytes_);
  }

 private:
  void open_journal() {
    try {
      journal_.emplace(posix::file::open(journal_path_, writable_));
    } catch (const error& e) {
      if (e.code() != errc::not_found) throw;
    }
  }

  posix_storage_file arena_;
  std::optional<posix_storage_file> journal_;
  arena_header header_;
  bool writable_;
  std::uint32_t permissions_;
  std::filesystem::path journal_path_;
  std::uint32_t opened_by_pid_ = posix::process_id();
  posix::file to_map_;  // without the arena's locks
  bool can_gather_ = true;
  std::byte* base_ = nullptr;
  std::uint64_t view_bytes_ = 0;
};

}  // namespace

std::filesystem::path journal_path(const std::filesystem::path& arena) {
  std::filesystem::path path = arena;
  path += "-journal";
  return path;
}

std::unique_ptr<storage> make_posix_storage(posix::file arena, const arena_header& header, bool writable,
                                            std::uint32_t permissions) {
  return std::make_unique<posix_storage>(std::move(arena), header, writable, permissions);
}

}  // namespace dm
