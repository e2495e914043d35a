// The bytes of the file that stand for something when they are locked (format/shared_layout.hpp), as locks.
#pragma once

#include <cstdint>

#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/sharing/slot_word.hpp"
#include "posix_file.hpp"

namespace dm::sharing {

namespace lock_byte = shared_layout::lock_byte;

/// A byte's lock, for a scope.
class held_byte {
 public:
  held_byte(const posix::file& file, std::uint64_t offset) : held_byte(file, offset, true) {}
  /// Where it is not to wait, it may have got nothing.
  held_byte(const posix::file& file, std::uint64_t offset, bool wait) : file_(file), offset_(offset) {
    if (wait)
      file_.lock_byte(offset_);
    else
      is_held_ = file_.try_lock_byte(offset_);
  }
  held_byte(const held_byte&) = delete;
  held_byte& operator=(const held_byte&) = delete;
  ~held_byte() {
    if (is_held_) file_.unlock_byte(offset_);
  }

  explicit operator bool() const noexcept { return is_held_; }

 private:
  const posix::file& file_;
  std::uint64_t offset_;
  bool is_held_ = true;
};

/// Whether an open file description other than `file`'s is an attachment, and alive.
inline bool others_are_attached(const posix::file& file) {
  return file.is_locked(lock_byte::life_of(0), attachments_max);
}

}  // namespace dm::sharing
