// An allocator that keeps books: every block must come back once, with the size it was asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <new>
#include <stdexcept>
#include <type_traits>

namespace test {

/// The books of one or more allocators that count as equal.
class ledger {
 public:
  ledger() = default;
  ledger(const ledger&) = delete;
  ledger& operator=(const ledger&) = delete;

  /// The allocation after `count` more fails; a negative number means none.
  void fail_after(int count) { left_ = count; }
  bool has_failed() const { return failed_; }
  std::size_t allocations() const { return allocations_; }
  std::size_t blocks() const { return blocks_.size(); }
  bool is_clean() const { return blocks_.empty() && faults_ == 0; }
  std::size_t faults() const { return faults_; }

  void* allocate(std::size_t size_bytes, std::size_t alignment) {
    if (left_ >= 0 && left_-- == 0) {
      failed_ = true;
      throw std::bad_alloc();
    }
    ++allocations_;
    void* block = ::operator new(size_bytes, std::align_val_t(alignment));
    blocks_[block] = {size_bytes, alignment};
    return block;
  }
  void deallocate(void* block, std::size_t size_bytes, std::size_t alignment) {
    const auto found = blocks_.find(block);
    if (found == blocks_.end() || found->second.size_bytes != size_bytes || found->second.alignment != alignment) {
      ++faults_;
      return;
    }
    blocks_.erase(found);
    ::operator delete(block, std::align_val_t(alignment));
  }

 private:
  struct entry {
    std::size_t size_bytes;
    std::size_t alignment;
  };
  std::map<void*, entry> blocks_;
  std::size_t allocations_ = 0;
  std::size_t faults_ = 0;
  int left_ = -1;
  bool failed_ = false;
};

/// `Propagate`: bit 0 on copy assignment, bit 1 on move assignment, bit 2 on swap.
template <class T, unsigned Propagate = 0>
class checking_allocator {
 public:
  using value_type = T;
  using propagate_on_container_copy_assignment = std::bool_constant<(Propagate & 1) != 0>;
  using propagate_on_container_move_assignment = std::bool_constant<(Propagate & 2) != 0>;
  using propagate_on_container_swap = std::bool_constant<(Propagate & 4) != 0>;
  using is_always_equal = std::false_type;
  template <class U>
  struct rebind {
    using other = checking_allocator<U, Propagate>;
  };

  explicit checking_allocator(ledger& books) noexcept : books_(&books) {}
  template <class U>
  checking_allocator(const checking_allocator<U, Propagate>& other) noexcept : books_(&other.books()) {}

  T* allocate(std::size_t n) { return static_cast<T*>(books_->allocate(n * sizeof(T), alignof(T))); }
  void deallocate(T* block, std::size_t n) { books_->deallocate(block, n * sizeof(T), alignof(T)); }
  ledger& books() const noexcept { return *books_; }

  template <class U>
  friend bool operator==(const checking_allocator& a, const checking_allocator<U, Propagate>& b) noexcept {
    return &a.books() == &b.books();
  }

 private:
  ledger* books_;
};

}  // namespace test
