// The allocators of maps that live in a process's own memory: one that suits every map, and one whose values never move.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>

#include "deferred_map/memory/mapped_block.hpp"

namespace dm {

template <class T>
class huge_page_allocator;

namespace detail {

[[noreturn]] inline void out_of_memory() {
#if defined(__cpp_exceptions)
  throw std::bad_alloc();
#else
  std::fputs("deferred-map: out of memory\n", stderr);
  std::abort();
#endif
}

/// The size of `count` objects. Errors: as for memory that there is not.
template <class T>
std::size_t size_bytes_of(std::size_t count) {
  if (count > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / sizeof(T)) out_of_memory();
  return count * sizeof(T);
}

}  // namespace detail

/// The allocator of maps that are given none: malloc for blocks below 4 MiB; larger ones are mapped, on huge pages where the system has them (transparent_hugepage "madvise" or "always"), with address space
/// reserved behind them for 16 times the size: so a map of millions grows where it is instead of being copied,
/// and gives memory back to the system when it shrinks.
///
/// Stateless; all of them are equal. Errors: std::bad_alloc. Where there is no Linux it is malloc alone.
template <class T>
class default_allocator {
 public:
  using value_type = T;
  using is_always_equal = std::true_type;
  using propagate_on_container_move_assignment = std::true_type;

  /// From this size on blocks are mapped. Below, a new map costs what any container costs.
  static constexpr std::size_t mapped_from_bytes = detail::mapped_block::huge_from_bytes;
  /// Smaller blocks never grow in place, and who asks may know that.
  static constexpr std::size_t expands_from_bytes = mapped_from_bytes;

  constexpr default_allocator() noexcept = default;
  template <class U>
  constexpr default_allocator(const default_allocator<U>&) noexcept {}
  template <class U>
  constexpr default_allocator(const std::allocator<U>&) noexcept {}
  template <class U>
  constexpr default_allocator(const huge_page_allocator<U>&) noexcept {}

  [[nodiscard]] T* allocate(std::size_t n) {
    const std::size_t size_bytes = detail::size_bytes_of<T>(n);
    if (!is_mapped(size_bytes)) {
      if constexpr (is_over_aligned) return std::allocator<T>().allocate(n);
      void* const block = std::malloc(size_bytes != 0 ? size_bytes : 1);
      if (block == nullptr) [[unlikely]]
        detail::out_of_memory();
      return static_cast<T*>(block);
    }
    void* const block = detail::mapped_block::create(size_bytes, alignof(T),
                                                     size_bytes * growth_factor + detail::mapped_block::page_bytes);
    if (block == nullptr) [[unlikely]]
      detail::out_of_memory();
    return static_cast<T*>(block);
  }

  void deallocate(T* block, std::size_t n) noexcept {
    if (is_mapped(n * sizeof(T)))
      detail::mapped_block::destroy(block, alignof(T));
    else if constexpr (is_over_aligned)
      std::allocator<T>().deallocate(block, n);
    else
      std::free(block);
  }

  /// Moves a block of malloc's to a larger one of `new_n`, as bytes: realloc, which for large blocks is the kernel
  /// moving pages. Null where that cannot be, and nothing has changed.
  T* try_reallocate(T* block, std::size_t old_n, std::size_t new_n) {
    const std::size_t size_bytes = detail::size_bytes_of<T>(new_n);
    if (is_over_aligned || is_mapped(old_n * sizeof(T)) || is_mapped(size_bytes)) return nullptr;
    return static_cast<T*>(std::realloc(static_cast<void*>(block), size_bytes));
  }

  /// Makes a block of `old_n` one of `new_n` where it is; false if it cannot, and nothing has changed.
  bool try_expand(T* block, std::size_t old_n, std::size_t new_n) {
    return is_mapped(old_n * sizeof(T)) &&
           detail::mapped_block::expand(block, alignof(T), detail::size_bytes_of<T>(new_n));
  }

  /// Gives the memory behind the first `new_n` back to the system; false if it cannot, and nothing has changed.
  bool try_shrink(T* block, [[maybe_unused]] std::size_t old_n, std::size_t new_n) noexcept {
    if (!is_mapped(new_n * sizeof(T))) return false;
    detail::mapped_block::shrink(block, alignof(T), new_n * sizeof(T));
    return true;
  }

  template <class U>
  friend constexpr bool operator==(const default_allocator&, const default_allocator<U>&) noexcept {
    return true;
  }

 private:
  static constexpr std::size_t growth_factor = 16;
  static constexpr bool is_over_aligned = alignof(T) > alignof(std::max_align_t);

  static constexpr bool is_mapped(std::size_t size_bytes) noexcept {
    return detail::mapped_block::is_available && alignof(T) <= detail::mapped_block::page_bytes &&
           size_bytes >= mapped_from_bytes;
  }
};

/// For maps whose values must never move: every block is one reservation of address space, 64 GiB unless said
/// otherwise, in which it grows where it is from the first value on. Memory is used as values come, on huge
/// pages from 4 MiB on, and goes back to the system on `shrink_to_fit`.
///
///   dm::deferred_map<body, dm::key, dm::huge_page_allocator<body>> bodies;   // a body& is good for the body's life
///
/// A new map costs four system calls and a page: for many small maps `default_allocator` is better. Address
/// space is 128 TiB; where a limit (`ulimit -v`) leaves less, a block gets a smaller reservation and
/// growing past it moves the values after all. The map's index, which is not referred to, comes from `default_allocator`.
///
/// Equal to every other, since any of them can give back what another has got. Errors: std::bad_alloc.
template <class T>
class huge_page_allocator {
 public:
  using value_type = T;
  using is_always_equal = std::true_type;
  using propagate_on_container_copy_assignment = std::true_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  /// Where a map's index lives, which is rebuilt beside the old one whenever the map grows.
  using index_allocator = default_allocator<std::uint64_t>;

  static constexpr std::size_t default_reservation_bytes = std::size_t{64} << 30;

  /// `reservation_bytes`: address space for each block. Rounded up to 2 MiB, and to the block's size.
  constexpr huge_page_allocator() noexcept = default;
  explicit constexpr huge_page_allocator(std::size_t reservation_bytes) noexcept
      : reservation_bytes_(reservation_bytes) {}
  template <class U>
  constexpr huge_page_allocator(const huge_page_allocator<U>& other) noexcept
      : reservation_bytes_(other.reservation_bytes()) {}

  constexpr std::size_t reservation_bytes() const noexcept { return reservation_bytes_; }

  [[nodiscard]] T* allocate(std::size_t n) {
    static_assert(alignof(T) <= detail::mapped_block::page_bytes,
                  "huge_page_allocator<T>: T may be aligned to 64 KiB at most");
    void* const block = detail::mapped_block::is_available
                            ? detail::mapped_block::create(detail::size_bytes_of<T>(n), alignof(T), reservation_bytes_)
                            : std::allocator<T>().allocate(n);
    if (block == nullptr) [[unlikely]]
      detail::out_of_memory();
    return static_cast<T*>(block);
  }

  void deallocate(T* block, [[maybe_unused]] std::size_t n) noexcept {
    if constexpr (detail::mapped_block::is_available)
      detail::mapped_block::destroy(block, alignof(T));
    else
      std::allocator<T>().deallocate(block, n);
  }

  /// Makes a block of `old_n` one of `new_n` where it is; false if it cannot, and nothing has changed.
  bool try_expand(T* block, [[maybe_unused]] std::size_t old_n, std::size_t new_n) {
    return detail::mapped_block::expand(block, alignof(T), detail::size_bytes_of<T>(new_n));
  }

  /// Gives the memory behind the first `new_n` back to the system; false if it cannot, and nothing has changed.
  bool try_shrink(T* block, [[maybe_unused]] std::size_t old_n, std::size_t new_n) noexcept {
    if constexpr (detail::mapped_block::is_available) {
      detail::mapped_block::shrink(block, alignof(T), new_n * sizeof(T));
      return true;
    }
    return false;
  }

  template <class U>
  friend constexpr bool operator==(const huge_page_allocator&, const huge_page_allocator<U>&) noexcept {
    return true;
  }

 private:
  std::size_t reservation_bytes_ = default_reservation_bytes;
};

}  // namespace dm
