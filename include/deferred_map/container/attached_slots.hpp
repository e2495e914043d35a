// The slots of a map whose allocator is persistent: they, the index and the counts are in memory that
// outlives the map object (an arena), where the map attaches to what it finds and destroys nothing.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "deferred_map/container/slot.hpp"
#include "deferred_map/container/vacancy_index.hpp"
#include "deferred_map/container/version.hpp"

namespace dm {

/// What an allocator offers whose slots outlive the map object.
///
/// `control()` names the counts of `detail::heap_control` and `vacant`, `capacity`, `buffer` and
/// `recovering`, in place; `slots()` and `index_words()` where they lie, laid out for `index_capacity()`
/// slots; `expand(n)` makes room for n slots at least or throws and has changed nothing; `truncate(n)` may
/// give back what is behind n slots.
template <class A>
concept persistent_allocator = requires(A allocator, std::uint64_t slots) {
  allocator.control().slot_count;
  allocator.control().vacant;
  allocator.control().recovering;
  { allocator.slots() } -> std::same_as<void*>;
  { allocator.index_words() } -> std::same_as<std::uint64_t*>;
  { allocator.index_capacity() } -> std::convertible_to<std::uint64_t>;
  allocator.expand(slots);
  allocator.truncate(slots);
};

/// A persistent allocator that is told what is about to change, so that it can be journaled or taken back:
/// `before_change(index)` before the version or the value of a slot is stored to, or a reference that lets somebody store
/// to it is handed out; `before_index_change(word)` before a word of the index is. The counts change unannounced.
/// Neither may throw. `next_generation(slot, next)`: the generation that a slot has next which leaves a life, at least
/// `next`; more, where some were given out in what was taken back.
template <class A>
concept watching_allocator = persistent_allocator<A> &&
    requires(A allocator, std::uint32_t slot, std::uint64_t& word, std::uint32_t generation) {
  { allocator.before_change(slot) }
  noexcept;
  { allocator.before_index_change(word) }
  noexcept;
  { allocator.next_generation(slot, generation) }
  noexcept->std::same_as<std::uint32_t>;
};

namespace detail {

template <class T, persistent_allocator Allocator>
class attached_slots {
 public:
  static constexpr bool persistent = true;
  static constexpr bool watched = watching_allocator<Allocator>;

  using slot_type = slot<T>;
  using control_type = std::remove_cvref_t<decltype(std::declval<Allocator&>().control())>;

  attached_slots() noexcept = default;
  explicit attached_slots(const Allocator& allocator) noexcept
      : slots_(static_cast<slot_type*>(allocator.slots())),
        control_(&allocator.control()),
        index_(allocator.index_words()),
        allocator_(allocator) {}

  attached_slots(attached_slots&& other) noexcept : allocator_(other.allocator_) { take(other); }
  attached_slots(const attached_slots&) = delete;
  attached_slots& operator=(const attached_slots&) = delete;

  slot_type* slots() const noexcept { return slots_; }
  control_type& control() noexcept { return *control_; }
  const control_type& control() const noexcept { return *control_; }
  std::uint32_t capacity() const noexcept { return control_->capacity; }
  std::uint32_t vacant() const noexcept { return control_->vacant; }
  std::uint32_t occupied() const noexcept { return control_->occupied; }
  const Allocator& allocator() const noexcept { return allocator_; }
  Allocator& allocator() noexcept { return allocator_; }

  std::uint32_t* buffer() noexcept { return control_->buffer; }
  static constexpr std::uint32_t buffer_limit() noexcept { return vacancy_index::buffer_limit_max; }

  void spill_buffer() noexcept { index().spill_half(); }
  bool fill_buffer() noexcept { return index().take_words(control_->slot_count); }
  void rebuild_index(const std::uint64_t* taken, std::uint32_t slot_count) noexcept {
    index().rebuild(taken, slot_count, control_->capacity);
  }

  void before_change(std::uint32_t index) noexcept {
    if constexpr (watched) allocator_.before_change(index);
  }

  /// Passes on which word of the index is about to change.
  struct watch_words {
    const Allocator* allocator;
    void operator()(std::uint64_t& word) const noexcept { allocator->before_index_change(word); }
  };
  using index_type = basic_vacancy_index<std::conditional_t<watched, watch_words, unwatched>>;
  index_type index() noexcept {
    if constexpr (watched)
      return {control_->slot_count,
              index_,
              allocator_.index_capacity(),
              control_->buffer,
              vacancy_index::buffer_limit_max,
              control_->buffer_count,
              watch_words{&allocator_}};
    else
      return {
          control_->slot_count,  index_, allocator_.index_capacity(), control_->buffer, vacancy_index::buffer_limit_max,
          control_->buffer_count};
  }
  const std::uint64_t* taken_words() const noexcept { return index_; }
  template <class IsVacant>
  const char* index_fault(IsVacant is_vacant) const {
    return const_cast<attached_slots*>(this)->index().first_fault(control_->slot_count, is_vacant);  // which only reads
  }

  template <class... A>
  static constexpr bool constructs_nothrow = std::is_nothrow_constructible_v<T, A...>;
  template <class... A>
  void construct(T* place, A&&... args) {
    std::construct_at(place, std::forward<A>(args)...);
  }
  void destroy(T*) noexcept {}  // T is trivially destructible

  void append_vacant(std::uint32_t vacant_version) noexcept {
    const std::uint32_t index = control_->slot_count;
    before_change(index);
    slots_[index].version = vacant_version;
    if (index % 64 == 0) {
      this->index().append_word(index);
      if (index % 4096 == 0) [[unlikely]]
        this->index().begin_summaries(index);
    }
    // From here until the operation's last store the counts do not add up, which is how opening after a crash
    // knows that something was under way.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    control_->slot_count = index + 1;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

  void drop_slots(std::uint32_t slot_count) noexcept { control_->slot_count = slot_count; }

  /// Slots in an arena never move.
  bool grows_in_place(std::uint64_t) noexcept { return true; }
  void grow(std::uint64_t slots_needed) { allocator_.expand(slots_needed); }
  void set_capacity(std::uint32_t capacity) {
    if (capacity > control_->capacity)
      allocator_.expand(capacity);
    else
      allocator_.truncate(capacity);
  }

  void take(attached_slots& other) noexcept {
    slots_ = std::exchange(other.slots_, nullptr);
    control_ = std::exchange(other.control_, &detached_);
    index_ = std::exchange(other.index_, nullptr);
    allocator_ = std::exchange(other.allocator_, Allocator{});
  }

  void swap_contents(attached_slots& other) noexcept {
    std::swap(slots_, other.slots_);
    std::swap(control_, other.control_);
    std::swap(index_, other.index_);
    std::swap(allocator_, other.allocator_);
  }

 private:
  // What a map without an arena looks at: no slots, and no capacity for any. Never written to, since the
  // first thing any writer needs is a slot.
  inline static control_type detached_{};

  slot_type* slots_ = nullptr;
  control_type* control_ = &detached_;
  std::uint64_t* index_ = nullptr;
  Allocator allocator_;
};

}  // namespace detail
}  // namespace dm
