// The atomic operations that shared maps are made of, as a policy: the processor's here, a scheduler's in the tests
// that enumerate interleavings.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

// clang says it in another way than gcc.
#if defined(__SANITIZE_THREAD__)
#define DM_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define DM_THREAD_SANITIZER 1
#endif
#endif

namespace dm::sharing {

/// std::atomic_ref, and nothing more. Loads work on memory that is mapped read-only.
struct processor_atomics {
  static std::uint64_t load(const std::uint64_t& word, std::memory_order order) noexcept {
    return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(word)).load(order);
  }
  static void store(std::uint64_t& word, std::uint64_t value, std::memory_order order) noexcept {
    std::atomic_ref<std::uint64_t>(word).store(value, order);
  }
  static bool compare_exchange(std::uint64_t& word, std::uint64_t& expected, std::uint64_t desired,
                               std::memory_order success, std::memory_order failure) noexcept {
    return std::atomic_ref<std::uint64_t>(word).compare_exchange_strong(expected, desired, success, failure);
  }
  static std::uint64_t fetch_or(std::uint64_t& word, std::uint64_t bits, std::memory_order order) noexcept {
    return std::atomic_ref<std::uint64_t>(word).fetch_or(bits, order);
  }
  static std::uint64_t fetch_and(std::uint64_t& word, std::uint64_t bits, std::memory_order order) noexcept {
    return std::atomic_ref<std::uint64_t>(word).fetch_and(bits, order);
  }
  static void fence(std::memory_order order) noexcept {
#if defined(DM_THREAD_SANITIZER)
    // ThreadSanitizer knows no fences. It finds races between accesses that are not atomic; all between which these
    // fences stand are. (That the orders are right is what tests/interleavings is about.)
    std::atomic_signal_fence(order);
#else
    std::atomic_thread_fence(order);
#endif
  }
#if defined(__SSE2__) && !defined(DM_THREAD_SANITIZER)
  /// Two words that follow each other, as by two relaxed loads in no particular order, by one instruction. Should a
  /// processor split it, no harm is done: who copies a value looks afterwards whether the slot's word has changed, and only
  /// the order before that later load matters, which processors of this kind keep. `volatile` keeps the compiler from doing
  /// it twice or elsewhere, as it may not do with an atomic.
  using two_words = __m128i;
  static two_words load_two(const std::uint64_t* words) noexcept {
    return *reinterpret_cast<const volatile __m128i_u*>(words);
  }
#endif
  /// In a loop that waits for another process.
  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
  static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free, "shared maps need lock-free words of 64 bits");
};

}  // namespace dm::sharing
