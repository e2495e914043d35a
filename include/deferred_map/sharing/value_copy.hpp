// Copying values that other processes may be writing or reading at the same time: word by word, each a relaxed atomic.
//
// What makes such a copy mean something are the fences beside it and the word that is looked at again afterwards; see
// slots.hpp, and H. Boehm, "Can seqlocks get along with programming language memory models?" (MSPC 2012).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace dm::sharing {

template <class Atomics>
void copy_words(std::uint64_t* to, const std::uint64_t* from, std::size_t words) noexcept {
  for (std::size_t i = 0; i < words; ++i)
    Atomics::store(to[i], Atomics::load(from[i], std::memory_order_relaxed), std::memory_order_relaxed);
}

/// From shared memory into an object of this process's own.
template <class Atomics>
void copy_out(void* value, std::size_t size_bytes, const std::uint64_t* from) noexcept {
  auto* to = static_cast<std::byte*>(value);
  if constexpr (requires { Atomics::load_two(from); }) {
    for (; size_bytes >= 2 * sizeof(std::uint64_t); to += 2 * sizeof(std::uint64_t), from += 2) {
      const auto words = Atomics::load_two(from);
      std::memcpy(to, &words, sizeof words);
      size_bytes -= sizeof words;
    }
  }
  for (; size_bytes >= sizeof(std::uint64_t); to += sizeof(std::uint64_t), size_bytes -= sizeof(std::uint64_t)) {
    const std::uint64_t word = Atomics::load(*from++, std::memory_order_relaxed);
    std::memcpy(to, &word, sizeof word);
  }
  if (size_bytes != 0) {
    const std::uint64_t word = Atomics::load(*from, std::memory_order_relaxed);
    std::memcpy(to, &word, size_bytes);
  }
}

/// From an object of this process's own into shared memory.
template <class Atomics>
void copy_in(std::uint64_t* to, const void* value, std::size_t size_bytes) noexcept {
  const auto* from = static_cast<const std::byte*>(value);
  for (; size_bytes >= sizeof(std::uint64_t); from += sizeof(std::uint64_t), size_bytes -= sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, from, sizeof word);
    Atomics::store(*to++, word, std::memory_order_relaxed);
  }
  if (size_bytes != 0) {
    std::uint64_t word = 0;  // the bytes behind a value are zero
    std::memcpy(&word, from, size_bytes);
    Atomics::store(*to, word, std::memory_order_relaxed);
  }
}

}  // namespace dm::sharing
