// The C library's calls, as this program sees them. Its headers are left out: they declare the same names otherwise.
#include <sys/syscall.h>

#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <utility>

#include "disk.hpp"

extern "C" long syscall(long number, ...) noexcept;

namespace {

disk::script now;
bool asking = false;
constexpr int current_directory = -100;  // AT_FDCWD

/// What the script says of a call: 0, disk::done, or an errno.
int say(disk::call made, int descriptor = -1) {
  if (!now || asking) return 0;
  asking = true;
  const int saved = errno;
  const int said = now(made, descriptor);
  errno = saved;
  asking = false;
  return said;
}

template <class... A>
long ask(disk::call made, int descriptor, long number, A... arguments) {
  const int said = say(made, descriptor);
  if (said == disk::done) return 0;
  if (said != 0) {
    errno = said;
    return -1;
  }
  return ::syscall(number, arguments...);
}

}  // namespace

disk::scripted::scripted(script asked) { now = std::move(asked); }
disk::scripted::~scripted() {
  now = nullptr;
  asking = false;  // where the script ended in an exception
}

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const unsigned mode = va_arg(arguments, unsigned);  // whatever is there, where there is none
  va_end(arguments);
  return static_cast<int>(ask(disk::call::open, flags, SYS_openat, current_directory, path, flags, mode));
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const unsigned mode = va_arg(arguments, unsigned);
  va_end(arguments);
  return open(path, flags, mode);
}
int fcntl(int descriptor, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  constexpr int set_lock = 37;  // F_OFD_SETLK
  if (command != set_lock) return static_cast<int>(::syscall(SYS_fcntl, descriptor, command, argument));
  return static_cast<int>(ask(disk::call::lock, descriptor, SYS_fcntl, descriptor, command, argument));
}
int fcntl64(int descriptor, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  return fcntl(descriptor, command, argument);
}
long pread(int descriptor, void* bytes, std::size_t size, long offset) {
  return ask(disk::call::read, descriptor, SYS_pread64, descriptor, bytes, size, offset);
}
long pread64(int descriptor, void* bytes, std::size_t size, long offset) {
  return pread(descriptor, bytes, size, offset);
}
long pwrite(int descriptor, const void* bytes, std::size_t size, long offset) {
  return ask(disk::call::write, descriptor, SYS_pwrite64, descriptor, bytes, size, offset);
}
long pwrite64(int descriptor, const void* bytes, std::size_t size, long offset) {
  return pwrite(descriptor, bytes, size, offset);
}
int posix_fallocate(int descriptor, long offset, long size) {  // returns its error
  const int saved = errno;
  const long result = ask(disk::call::allocate, descriptor, SYS_fallocate, descriptor, 0, offset, size);
  return result == 0 ? 0 : std::exchange(errno, saved);
}
int posix_fallocate64(int descriptor, long offset, long size) { return posix_fallocate(descriptor, offset, size); }
int ftruncate(int descriptor, long size) noexcept {
  return static_cast<int>(ask(disk::call::truncate, descriptor, SYS_ftruncate, descriptor, size));
}
int ftruncate64(int descriptor, long size) noexcept { return ftruncate(descriptor, size); }
int fdatasync(int descriptor) { return static_cast<int>(ask(disk::call::sync, descriptor, SYS_fdatasync, descriptor)); }
int fsync(int descriptor) {
  return static_cast<int>(ask(disk::call::sync_directory, descriptor, SYS_fsync, descriptor));
}
int msync(void* address, std::size_t size, int flags) {
  return static_cast<int>(ask(disk::call::sync_page, -1, SYS_msync, address, size, flags));
}
int linkat(int from_directory, const char* from, int to_directory, const char* to, int flags) noexcept {
  return static_cast<int>(ask(disk::call::link, -1, SYS_linkat, from_directory, from, to_directory, to, flags));
}
int link(const char* from, const char* to) noexcept {
  return linkat(current_directory, from, current_directory, to, 0);
}
int unlink(const char* path) noexcept {
  return static_cast<int>(ask(disk::call::unlink, -1, SYS_unlinkat, current_directory, path, 0));
}
int close(int descriptor) {
  // What is to fail closes all the same, as Linux does.
  const int said = say(disk::call::close, descriptor);
  const long result = ::syscall(SYS_close, descriptor);
  if (said <= 0) return static_cast<int>(result);
  errno = said;
  return -1;
}

}  // extern "C"
