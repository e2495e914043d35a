// A block of anonymous memory at the front of a reservation of address space, so that it can grow where it is.
//
//   begin (2 MiB aligned)                                                     begin + reserved_bytes
//   | mark, 64 bytes or T's alignment | block ................. | no access ............ |
//   |<------------------- usable_bytes ------------------------>|
//
// Reserved address space costs nothing: no memory, no page tables, and it counts against no limit but that of address
// space itself (`ulimit -v`). Where such a limit leaves no room for the reservation, a smaller one does.
//
// Huge pages are asked for (madvise, which is what Linux distributions allow programs by default) once a block has
// `huge_from_bytes`, and only for whole huge pages: a page that is partly behind the block's end would cost
// memory that nobody asked for. A random look-up in a large map then costs one cache miss, not one and a walk
// through the page tables: -42 % at 1 M values of 64 bytes. Below a few MiB the look-up's page table entries are
// in the caches anyway, and a huge page is 2 MiB to clear.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace dm::detail::mapped_block {

inline constexpr std::size_t page_bytes = std::size_t{64} << 10;  // a multiple of every page size Linux uses
inline constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;
inline constexpr std::size_t huge_from_bytes = std::size_t{4} << 20;

/// Lies in front of the block: what has to be known to grow it or to give it back.
struct mark {
  std::size_t reserved_bytes;
  std::size_t usable_bytes;
};

/// From the begin of the reservation to the block. The alignment is at most `page_bytes`.
constexpr std::size_t offset_of_block(std::size_t alignment) noexcept { return std::max<std::size_t>(alignment, 64); }

constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) noexcept {
  return (bytes + unit - 1) / unit * unit;
}

#if defined(__linux__)

inline mark* mark_of(void* block, std::size_t alignment) noexcept {
  return reinterpret_cast<mark*>(static_cast<std::byte*>(block) - offset_of_block(alignment));
}

inline void advise_huge_pages(std::byte* begin, std::size_t usable_bytes) noexcept {
  // Advice that is not taken (old kernels, "never" in the system's settings) changes nothing but speed.
  if (usable_bytes >= huge_from_bytes)
    (void)::madvise(begin, usable_bytes / huge_page_bytes * huge_page_bytes, MADV_HUGEPAGE);
}

/// Address space without access, aligned to huge pages, or null.
inline std::byte* reserve(std::size_t bytes) noexcept {
  const std::size_t with_slack = bytes + huge_page_bytes;
  void* mapping = ::mmap(nullptr, with_slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  auto* const first = static_cast<std::byte*>(mapping);
  const std::size_t in_front =
      (huge_page_bytes - reinterpret_cast<std::uintptr_t>(first) % huge_page_bytes) % huge_page_bytes;
  if (in_front != 0) (void)::munmap(first, in_front);
  if (in_front != huge_page_bytes) (void)::munmap(first + in_front + bytes, huge_page_bytes - in_front);
  return first + in_front;
}

/// A block of `block_bytes`, all zero, with room to grow to about `growth_bytes` where it is, or null.
inline void* create(std::size_t block_bytes, std::size_t alignment, std::size_t growth_bytes) noexcept {
  constexpr std::size_t address_space = std::size_t{1} << 46;
  const std::size_t offset = offset_of_block(alignment);
  if (block_bytes > address_space / 2) return nullptr;
  const std::size_t usable_bytes = round_up(offset + block_bytes, page_bytes);
  const std::size_t least_bytes = round_up(usable_bytes, huge_page_bytes);
  std::size_t reserved_bytes = round_up(std::clamp(growth_bytes, least_bytes, address_space), huge_page_bytes);
  std::byte* begin = reserve(reserved_bytes);
  while (begin == nullptr && reserved_bytes > least_bytes) {
    reserved_bytes = std::max(least_bytes, round_up(reserved_bytes / 4, huge_page_bytes));
    begin = reserve(reserved_bytes);
  }
  if (begin == nullptr) return nullptr;
  if (::mprotect(begin, usable_bytes, PROT_READ | PROT_WRITE) != 0) {
    (void)::munmap(begin, reserved_bytes);
    return nullptr;
  }
  advise_huge_pages(begin, usable_bytes);
  void* const block = begin + offset;
  ::new (static_cast<void*>(begin)) mark{reserved_bytes, usable_bytes};
  return block;
}

/// Whether the block could be made to hold `block_bytes` where it is. What is added is zero.
inline bool expand(void* block, std::size_t alignment, std::size_t block_bytes) noexcept {
  mark* const m = mark_of(block, alignment);
  if (block_bytes > m->reserved_bytes) return false;
  const std::size_t wanted = round_up(offset_of_block(alignment) + block_bytes, page_bytes);
  if (wanted <= m->usable_bytes) return true;
  if (wanted > m->reserved_bytes) return false;
  auto* const begin = reinterpret_cast<std::byte*>(m);
  if (::mprotect(begin + m->usable_bytes, wanted - m->usable_bytes, PROT_READ | PROT_WRITE) != 0) return false;
  m->usable_bytes = wanted;
  advise_huge_pages(begin, wanted);
  return true;
}

/// Gives the memory behind the first `block_bytes` back to the system; the address space stays.
inline void shrink(void* block, std::size_t alignment, std::size_t block_bytes) noexcept {
  mark* const m = mark_of(block, alignment);
  const std::size_t wanted = round_up(offset_of_block(alignment) + block_bytes, page_bytes);
  if (wanted >= m->usable_bytes) return;
  auto* const tail = reinterpret_cast<std::byte*>(m) + wanted;
  const std::size_t tail_bytes = m->usable_bytes - wanted;
  // Mapped anew and not only emptied: what was advised and what was accounted goes too.
  if (::mmap(tail, tail_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED)
    m->usable_bytes = wanted;
}

inline void destroy(void* block, std::size_t alignment) noexcept {
  mark* const m = mark_of(block, alignment);
  (void)::munmap(static_cast<void*>(m), m->reserved_bytes);
}

inline constexpr bool is_available = true;

#else

inline void* create(std::size_t, std::size_t, std::size_t) noexcept { return nullptr; }
inline bool expand(void*, std::size_t, std::size_t) noexcept { return false; }
inline void shrink(void*, std::size_t, std::size_t) noexcept {}
inline void destroy(void*, std::size_t) noexcept {}

inline constexpr bool is_available = false;

#endif

}  // namespace dm::detail::mapped_block
