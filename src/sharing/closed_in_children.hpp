// A file that forked children do not keep open.
//
// A lock belongs to the open file description, which a forked child shares: as long as the child has it open, the kernel
// keeps the lock, and a parent that was killed would count as alive. So children close it, in the moment of `fork`.
//
// Covers `fork`. Children made by the bare system call, by `vfork` or posix_spawn have it open until they `exec`.
//
// Threads: any.
#pragma once

#include "posix_file.hpp"

namespace dm::sharing {

class closed_in_children {
 public:
  /// Puts what `open()` returns into `file`, with no fork in between. `file` must stay where it is.
  template <class Open>
  closed_in_children(posix::file& file, Open open) : file_(&file) {
    const forks_wait waiting;
    file = open();
    link();
  }
  closed_in_children(const closed_in_children&) = delete;
  closed_in_children& operator=(const closed_in_children&) = delete;
  ~closed_in_children();

 private:
  struct forks_wait {
    forks_wait();
    forks_wait(const forks_wait&) = delete;
    forks_wait& operator=(const forks_wait&) = delete;
    ~forks_wait();
  };
  struct registry;

  void link() noexcept;

  posix::file* file_;
  closed_in_children* next_ = nullptr;
  closed_in_children* previous_ = nullptr;
};

}  // namespace dm::sharing
