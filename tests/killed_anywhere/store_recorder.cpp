// Both names of each function that takes an offset are defined here, so the C library must not make them one.
#undef _FILE_OFFSET_BITS
#include "store_recorder.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

namespace killed {
namespace {

constexpr greg_t trap_flag = 0x100;
constexpr std::size_t page_bytes = 4096;

void* system_mmap(void* address, std::size_t size, int protection, int flags, int descriptor, off_t offset) {
  // Not dlsym: mmap is called before anything else works.
  return reinterpret_cast<void*>(::syscall(SYS_mmap, address, size, protection, flags, descriptor, offset));
}

class recorder;
recorder* active = nullptr;

class recorder {
 public:
  recorder(const std::filesystem::path& path, const std::function<std::size_t()>& keys_told)
      : view_(path), keys_told_(keys_told) {
    struct stat status {};
    ::fstat(view_.descriptor(), &status);
    device_ = status.st_dev;
    inode_ = status.st_ino;
    find_mapping();
    images_.push_back({view_.bytes(), keys_told_()});
    on_signal(SIGSEGV, &on_store, &old_segv_);
    on_signal(SIGTRAP, &on_trap, &old_trap_);
    active = this;
    protect(PROT_READ);
  }
  recorder(const recorder&) = delete;
  recorder& operator=(const recorder&) = delete;
  ~recorder() {
    active = nullptr;
    protect(PROT_READ | PROT_WRITE);
    ::sigaction(SIGSEGV, &old_segv_, nullptr);
    ::sigaction(SIGTRAP, &old_trap_, nullptr);
  }

  bool is_watched(int descriptor) const {
    struct stat status {};
    return ::fstat(descriptor, &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
  }
  void mapped(void* base, std::size_t size) {
    base_ = static_cast<std::byte*>(base);
    size_ = size;
    protect(PROT_READ);
  }
  void unmapped(void* base) {
    if (base == base_) base_ = nullptr;
  }
  void look() {
    if (view_.is(images_.back().bytes)) return;
    const std::string now = view_.bytes();
    for (std::size_t size = images_.back().bytes.size() + page_bytes; size < now.size(); size += page_bytes)
      images_.push_back({now.substr(0, size), keys_told_()});
    images_.push_back({now, keys_told_()});
  }
  std::vector<image> take() { return std::move(images_); }

 private:
  void find_mapping() {
    // 7f12...-7f13... rw-s 00000000 00:1b 1234      /dev/shm/...
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      std::istringstream fields(line);
      std::string range, mode, offset, device;
      std::uint64_t inode = 0;
      fields >> range >> mode >> offset >> device >> inode;
      if (inode != inode_ || mode != "rw-s") continue;
      const std::size_t dash = range.find('-');
      const std::uintptr_t begin = std::stoull(range.substr(0, dash), nullptr, 16);
      base_ = reinterpret_cast<std::byte*>(begin);
      size_ = std::stoull(range.substr(dash + 1), nullptr, 16) - begin;
    }
  }
  void protect(int protection) {
    if (base_ != nullptr) ::mprotect(base_, size_, protection);
  }
  static void on_signal(int number, void (*handler)(int, siginfo_t*, void*), struct sigaction* old) {
    struct sigaction action {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ::sigaction(number, &action, old);
  }
  static void on_store(int, siginfo_t* info, void* context) {
    auto* const address = static_cast<std::byte*>(info->si_addr);
    if (active == nullptr || active->base_ == nullptr || address < active->base_ ||
        address >= active->base_ + active->size_) {
      ::signal(SIGSEGV, SIG_DFL);  // not ours: happens again, and this time ends the process
      return;
    }
    active->protect(PROT_READ | PROT_WRITE);
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] |= trap_flag;
  }
  static void on_trap(int, siginfo_t*, void* context) {
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~trap_flag;
    if (active == nullptr) return;
    active->look();
    active->protect(PROT_READ);
  }

  file_view view_;
  const std::function<std::size_t()>& keys_told_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::byte* base_ = nullptr;
  std::size_t size_ = 0;
  std::vector<image> images_;
  struct sigaction old_segv_ {};
  struct sigaction old_trap_ {};
};

void look_after_call(int descriptor) {
  if (active != nullptr && active->is_watched(descriptor)) active->look();
}

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

std::vector<image> record_stores(const std::filesystem::path& path, const std::function<std::size_t()>& keys_told,
                                 const std::function<void()>& work) {
  recorder recording(path, keys_told);
  work();
  recording.look();
  return recording.take();
}

}  // namespace killed

// In place of the C library's, for the whole program. Each has two names, for offsets of 64 bits.
extern "C" {

void* mmap64(void* address, std::size_t size, int protection, int flags, int descriptor, off_t offset) noexcept {
  void* const base = killed::system_mmap(address, size, protection, flags, descriptor, offset);
  if (killed::active != nullptr && base != MAP_FAILED && (flags & MAP_SHARED) != 0 && (protection & PROT_WRITE) != 0 &&
      killed::active->is_watched(descriptor))
    killed::active->mapped(base, size);
  return base;
}
int munmap(void* address, std::size_t size) noexcept {
  if (killed::active != nullptr) killed::active->unmapped(address);
  return static_cast<int>(::syscall(SYS_munmap, address, size));
}
ssize_t pwrite64(int descriptor, const void* bytes, std::size_t size, off_t offset) {
  const ssize_t written = ::syscall(SYS_pwrite64, descriptor, bytes, size, offset);
  killed::look_after_call(descriptor);
  return written;
}
int ftruncate64(int descriptor, off_t size) noexcept {
  const int result = static_cast<int>(::syscall(SYS_ftruncate, descriptor, size));
  killed::look_after_call(descriptor);
  return result;
}
int posix_fallocate64(int descriptor, off_t offset, off_t size) {
  static const auto real = killed::next<int(int, off_t, off_t)>("posix_fallocate64");
  const int code = real(descriptor, offset, size);
  killed::look_after_call(descriptor);
  return code;
}
void* mmap(void*, std::size_t, int, int, int, off_t) noexcept __attribute__((alias("mmap64")));
ssize_t pwrite(int, const void*, std::size_t, off_t) __attribute__((alias("pwrite64")));
int ftruncate(int, off_t) noexcept __attribute__((alias("ftruncate64")));
int posix_fallocate(int, off_t, off_t) __attribute__((alias("posix_fallocate64")));
}
