// A check for programs under development: that no two threads change one map at once, and no forked child its parent's.
//
// On where assertions are (no NDEBUG), or as DM_CHECK_THREADS says (0 or 1); else no instruction of it is compiled. The
// mark is there in all builds, so that parts of a program built with and without the check agree about the map's layout.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>

#ifndef DM_CHECK_THREADS
#ifdef NDEBUG
#define DM_CHECK_THREADS 0
#else
#define DM_CHECK_THREADS 1
#endif
#endif

namespace dm::detail {

/// Prints which map it is and what to do, and aborts.
[[noreturn]] void abort_two_threads(const std::filesystem::path& arena) noexcept;
[[noreturn]] void abort_forked(const std::filesystem::path& arena) noexcept;

/// Which thread is in a writing call of the map this is part of; 0: none. Never copied or moved with the map.
class thread_mark {
 public:
  thread_mark() noexcept = default;
  thread_mark(const thread_mark&) noexcept {}
  thread_mark& operator=(const thread_mark&) noexcept { return *this; }

 private:
  friend class writing_call;
  std::atomic<std::uintptr_t> thread_{0};
};

#if DM_CHECK_THREADS

/// Lives as long as one writing call. Calls of one thread may nest: `insert_with_key` hands out control in its midst.
class writing_call {
 public:
  /// `Arena`: what has the file open; tells whether this process opened it.
  template <class Arena>
  writing_call(thread_mark& mark, const Arena& arena) noexcept : mark_(mark) {
    static thread_local char here;  // its address is the thread's own
    const auto self = reinterpret_cast<std::uintptr_t>(&here);
    if (!arena.is_ours()) abort_forked(arena.path());
    std::uintptr_t found = 0;
    outermost_ = mark.thread_.compare_exchange_strong(found, self, std::memory_order_acquire);
    if (!outermost_ && found != self) abort_two_threads(arena.path());
  }
  writing_call(const writing_call&) = delete;
  writing_call& operator=(const writing_call&) = delete;
  ~writing_call() {
    if (outermost_) mark_.thread_.store(0, std::memory_order_release);
  }

 private:
  thread_mark& mark_;
  bool outermost_;
};

#else

class writing_call {
 public:
  template <class Arena>
  writing_call(thread_mark&, const Arena&) noexcept {}
};

#endif

}  // namespace dm::detail
