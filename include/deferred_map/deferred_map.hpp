// The deferred map: a slot map whose slots can be reserved before they are filled.
//
// Invariants (`verify()` executes them):
//  1. occupied + reserved + vacant + retired == slot_count <= capacity.
//  2. Each count is the number of slots whose version says so.
//  3. Every version is one that some history can have left (version::is_possible).
//  4. The vacancy index agrees with the versions (vacancy_index.hpp).
//
// In persistent memory, where a process can be killed between any two stores, every operation also keeps these:
//  5. One store commits it: the slot's version. The value is complete before `occupied` is stored.
//  6. The count that goes down is stored first and the one that goes up last, so invariant 1 is false exactly while
//     an operation is under way. `recover()` mends everything else from the versions.
// After a process crash the memory holds exactly the stores that were executed, in program order, so all that
// has to be prevented is the compiler's reordering: `order_stores()`.
#pragma once

#include <array>
#include <atomic>
#include <cassert>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "deferred_map/allocator.hpp"
#include "deferred_map/container/attached_slots.hpp"
#include "deferred_map/container/failure.hpp"
#include "deferred_map/container/heap_slots.hpp"
#include "deferred_map/container/iterator.hpp"
#include "deferred_map/container/map_identity.hpp"
#include "deferred_map/container/requirements.hpp"
#include "deferred_map/container/version.hpp"
#include "deferred_map/handle.hpp"
#include "deferred_map/key.hpp"

namespace dm {

namespace detail {
struct walk_access;
struct archive_access;

template <class T, class Allocator>
struct choose_slots {
  using type = heap_slots<T, Allocator>;
};
template <class T, persistent_allocator Allocator>
struct choose_slots<T, Allocator> {
  using type = attached_slots<T, Allocator>;
};
}  // namespace detail

/// What `deferred_map::recover()` found and did.
struct recovery_counts {
  std::uint32_t slots_examined = 0;
  std::uint32_t reserved_given_back = 0;  // slots whose handles died with their process
  std::uint32_t occupied = 0;
  std::uint32_t impossible = 0;  // slots with a version no history leaves
  std::uint32_t first_impossible = 0;
};

/// A generational arena with handles.
///
/// `allocate_handle()` reserves a slot and tells its key; `insert(handle, value)` fills it later. So graphs
/// with cycles and multi-step initialisation need no placeholders. `insert(value)` does both at once.
///
/// Keys: 64 bits; valid from the insert until the value is removed, and never again: `get` with a stale key
/// returns null, whatever lives in the slot by then. A slot that has used its 2^30 - 2 generations is
/// retired. Neither `clear` nor `shrink_to_fit` nor any other operation makes an old key valid again.
///
/// Memory: a slot is `{ uint32 version; T }`, 16 bytes for a 64-bit T, plus an eighth of a byte and a bit of
/// index. Nothing is allocated before the first slot is needed. Large maps are on huge pages (default_allocator).
///
/// References: growing moves the values, as in std::vector, unless the allocator can grow in place (`try_expand`;
/// huge_page_allocator always does) or is persistent; then a `T&` stays valid for the value's life. Keys and
/// handles always stay valid; iterators survive growth, but not `shrink_to_fit`.
///
/// Errors: std::length_error past 2^32 - 1 slots, whatever the allocator throws, dm::bad_handle,
/// dm::stale_key. Unless a function says otherwise, one that throws has changed nothing; the exception, as
/// with std::vector, is growth with a T that cannot be copied and whose move throws. Compiled without
/// exceptions, errors print a message and abort.
///
/// Threads: as the standard containers: any number of readers, or one writer.
///
/// T: movable, with a destructor that does not throw; it may be incomplete where a map of it is a member, as with
/// std::vector. Copying a map needs a T that can be copied; std::is_copy_constructible says yes to every map, as it
/// does to every std::vector, and the error is a sentence. Constructors and destructors of T must not use the map
/// they are in; `insert_with_key` is for values that need it.
///
/// The layout is that of Rust's slotmap by Orson Peters (keys with versions, slots in one array); the
/// deferral of insertion and the vacancy index are our own.
template <class T, class Key = key, class Allocator = default_allocator<T>>
class deferred_map {
  static_assert(detail::require_arguments<T, Key, Allocator>());

  using storage_type = typename detail::choose_slots<T, Allocator>::type;
  static constexpr bool persistent = storage_type::persistent;
  static constexpr bool watched = storage_type::watched;  // what changes is announced: watching_allocator
  using allocator_traits = std::allocator_traits<Allocator>;

 public:
  using key_type = Key;
  using handle_type = basic_handle<Key>;
  using mapped_type = T;
  using value_type = entry<Key, T>;
  using allocator_type = Allocator;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  using iterator = detail::slot_iterator<deferred_map, detail::yields::entries>;
  using const_iterator = detail::slot_iterator<const deferred_map, detail::yields::entries>;
  class drain_range;

  /// A begin and an end; what `keys()` and `values()` return.
  template <class Iterator>
  struct range {
    Iterator first;
    Iterator last;
    Iterator begin() const noexcept { return first; }
    Iterator end() const noexcept { return last; }
  };

  // Construction ----------------------------------------------------------------------------------------------------

  /// An empty map that owns no memory. With a persistent allocator: of nothing, and it can hold nothing.
  deferred_map() requires(std::is_default_constructible_v<Allocator>) = default;
  /// An empty map that owns no memory. With a persistent allocator: the map that is there.
  explicit deferred_map(const Allocator& allocator) noexcept : storage_(allocator) {}
  /// With room for `capacity` values.
  explicit deferred_map(size_type capacity, const Allocator& allocator = Allocator()) : storage_(allocator) {
    reserve(capacity);
  }

  /// Copies values, generations and retirements: every key of `other` names the same in the copy. Handles
  /// belong to `other`; the slots they reserve are vacant in the copy, in their next generation.
  deferred_map(const deferred_map& other) requires(!persistent)
      : deferred_map(other, allocator_traits::select_on_container_copy_construction(other.get_allocator())) {}
  deferred_map(const deferred_map& other, const Allocator& allocator) requires(!persistent) : storage_(allocator) {
    if constexpr (detail::require_copyable<T, Allocator>()) copy_from(other);
  }

  /// Takes everything, handles too: they are good for the new map. `other` is left empty and begins its
  /// generations anew: its old keys are the new map's.
  deferred_map(deferred_map&& other) noexcept
      : storage_(std::move(other.storage_)), identity_(std::exchange(other.identity_, 0)) {}
  deferred_map(deferred_map&& other, const Allocator& allocator) requires(!persistent) : storage_(allocator) {
    assign_from(std::move(other));
  }

  deferred_map& operator=(const deferred_map& other) requires(!persistent) {
    if (this != &other) copy_assign(other);
    return *this;
  }
  deferred_map& operator=(deferred_map&& other) noexcept(
      persistent || allocator_traits::propagate_on_container_move_assignment::value ||
      allocator_traits::is_always_equal::value);
  ~deferred_map() { static_assert(detail::require_value<T, Allocator>()); }

  void swap(deferred_map& other) noexcept;
  friend void swap(deferred_map& a, deferred_map& b) noexcept { a.swap(b); }

  Allocator get_allocator() const noexcept { return storage_.allocator(); }

  // Reserving and filling -------------------------------------------------------------------------------------------

  /// Reserves a slot: the one vacated last, or a new one. Cost: constant, amortised over growth.
  handle_type allocate_handle();

  /// Fills the slot that `handle` reserves and spends the handle. Errors: dm::bad_handle. If moving the value
  /// in throws, the slot stays reserved and the handle good. Never moves other values.
  T& insert(handle_type&& handle, T value) { return emplace(std::move(handle), std::move(value)); }
  template <class... A>
  T& emplace(handle_type&& handle, A&&... args);

  /// Gives a reserved slot back. The key that the handle told never becomes valid.
  void release_handle(handle_type&& handle);

  /// Whether `handle` names a slot that this map has reserved: whether `insert` would accept it.
  bool holds(const handle_type& handle) const noexcept {
    return handle && detail::handle_access::map_identity(handle) == identity_ && handle.index() < slot_count() &&
           slot_at(handle.index()).version == version::reserved(handle.generation());
  }

  /// Reserves and fills at once. Cost: constant, amortised over growth.
  Key insert(T value) { return fill_vacant_slot(std::move(value)); }
  /// Builds the value in its slot. The arguments may refer to values of this map.
  template <class... A>
  Key emplace(A&&... args);
  /// Inserts `make(key)`, for values that hold their own key. `make` may use the map.
  template <class F>
  Key insert_with_key(F make);

  // Looking up ------------------------------------------------------------------------------------------------------

  /// The value, or null where the key is stale, null, or not of this map. Cost: one cache miss.
  T* get(Key key) noexcept {
    T* const value = const_cast<T*>(std::as_const(*this).get(key));
    if constexpr (watched)
      if (value != nullptr) storage_.before_change(key.index());
    return value;
  }
  const T* get(Key key) const noexcept {
    auto* const slots = storage_.slots();  // before the branch, so that a loop needs to load it once
    const std::uint32_t index = key.index();
    if (index >= storage_.control().slot_count) [[unlikely]]
      return nullptr;
    return slots[index].version == key.occupied_version() ? std::addressof(slots[index].value) : nullptr;
  }

  /// The value. Errors: dm::stale_key.
  T& at(Key key) {
    T& value = const_cast<T&>(std::as_const(*this).at(key));
    about_to_change(key.index());
    return value;
  }
  const T& at(Key key) const {
    const T* value = get(key);
    if (value == nullptr) [[unlikely]]
      fail::key_is_stale();
    return *value;
  }

  /// The value. Requires: the key is live (asserted in debug builds).
  T& operator[](Key key) {
    T& value = const_cast<T&>(std::as_const(*this)[key]);
    about_to_change(key.index());
    return value;
  }
  const T& operator[](Key key) const {
    const T* value = get(key);
    assert(value != nullptr && "deferred_map::operator[]: the key is stale");
    return *value;
  }

  bool contains(Key key) const noexcept { return get(key) != nullptr; }
  iterator find(Key key) noexcept { return contains(key) ? iterator::at_slot(this, key.index()) : end(); }
  const_iterator find(Key key) const noexcept {
    return contains(key) ? const_iterator::at_slot(this, key.index()) : end();
  }

  /// Several values at once, or nothing if any key is stale or two are the same. Cost: N lookups, N^2 / 2 compares.
  template <std::size_t N>
  std::optional<std::array<T*, N>> get_disjoint(std::array<Key, N> keys) noexcept;

  /// out[i] = get(keys[i]) for every i; returns how many were live. No branch depends on a key: where many are stale
  /// that is two to three times as fast as the loop, and where all are live it gains nothing. Errors: std::invalid_argument if `out` is shorter than `keys`.
  size_type get_many(std::span<const Key> keys, std::span<T*> out);
  size_type get_many(std::span<const Key> keys, std::span<const T*> out) const;

  // Removing --------------------------------------------------------------------------------------------------------

  /// Takes the value out, or returns nothing where the key is stale.
  std::optional<T> remove(Key key);
  /// Destroys the value. False where the key is stale.
  bool erase(Key key) noexcept;
  /// Destroys the value and returns the iterator behind it. Requires: dereferenceable.
  iterator erase(iterator position) noexcept;
  /// Takes the value out and keeps its slot reserved: inserting with the handle brings the same key back.
  std::optional<std::pair<T, handle_type>> detach(Key key);
  /// Keeps the values for which `keep(Key, T&)` is true and destroys the others; returns how many went. If
  /// `keep` throws, those already judged are gone. `keep` must not insert or remove.
  template <class F>
  size_type retain(F keep);
  /// A range of `std::pair<Key, T>` that takes the values out as it goes. What is left when it is destroyed
  /// is destroyed too. The map must not be used while the range lives.
  drain_range drain() noexcept { return drain_range(*this); }
  /// Destroys all values. Reserved slots stay reserved and their handles good; memory is kept.
  void clear() noexcept;

  // Counting and room -----------------------------------------------------------------------------------------------

  size_type size() const noexcept { return storage_.occupied(); }
  bool empty() const noexcept { return size() == 0; }
  /// Slots that exist: occupied, reserved, vacant and retired.
  size_type slot_count() const noexcept { return storage_.control().slot_count; }
  /// Slots there is memory for.
  size_type capacity() const noexcept { return storage_.capacity(); }
  size_type reserved_count() const noexcept { return storage_.control().reserved; }
  size_type retired_count() const noexcept { return storage_.control().retired; }
  static constexpr size_type max_size() noexcept { return 0xffff'ffffu; }
  /// The generation that slots begin with if those given back by `shrink_to_fit` are made again.
  std::uint32_t generation_floor() const noexcept { return storage_.control().generation_floor; }

  /// Makes room for `additional` more values than there are. Errors: std::length_error, or the allocator's.
  void reserve(size_type additional);
  /// Gives back the vacant slots at the end, and the memory behind the last slot. Their generations are not
  /// forgotten: slots made again start above all of them. References are invalidated unless the slots stay in place.
  void shrink_to_fit();

  // Iteration: in slot order; cost of a walk: a step each value and a 64th of one each empty slot -------------------

  iterator begin() noexcept { return iterator(this, 0); }
  iterator end() noexcept { return iterator(); }
  const_iterator begin() const noexcept { return const_iterator(this, 0); }
  const_iterator end() const noexcept { return const_iterator(); }
  const_iterator cbegin() const noexcept { return begin(); }
  const_iterator cend() const noexcept { return end(); }

  auto keys() const noexcept {
    using keys_iterator = detail::slot_iterator<const deferred_map, detail::yields::keys>;
    return range<keys_iterator>{keys_iterator(this, 0), keys_iterator()};
  }
  auto values() noexcept {
    using values_iterator = detail::slot_iterator<deferred_map, detail::yields::values>;
    return range<values_iterator>{values_iterator(this, 0), values_iterator()};
  }
  auto values() const noexcept {
    using values_iterator = detail::slot_iterator<const deferred_map, detail::yields::values>;
    return range<values_iterator>{values_iterator(this, 0), values_iterator()};
  }

  // Looking behind --------------------------------------------------------------------------------------------------

  /// The state of slot `index`; one that was never made is vacant.
  slot_state state(std::uint32_t index) const noexcept {
    return index < slot_count() ? version::state(storage_.slots()[index].version) : slot_state::vacant;
  }
  /// The key a live value in slot `index` has, or the null key.
  Key key_at(std::uint32_t index) const noexcept {
    if (state(index) != slot_state::occupied) return Key{};
    return detail::key_access::make<Key>(index, storage_.slots()[index].version);
  }
  /// Gives up every outstanding handle: their slots become vacant, using them is dm::bad_handle. Returns how many.
  size_type release_reserved() noexcept;

  /// Checks every invariant. Returns what is wrong with the first that does not hold, or an empty string.
  /// Cost: linear in slots.
  std::string verify() const;

  /// Rebuilds counts and index from the versions and gives reserved slots back, for a map found in persistent
  /// memory whose last user was killed. Handles given out before are void. Can itself be killed at any
  /// instruction: the control block says `recovering` from the first store to the last, and then it starts again.
  ///
  /// If a slot has a version that no history leaves, nothing is changed and the report says so, unless
  /// `mend_impossible`: then those slots become vacant in their next generation. Cost: one pass over the slots.
  recovery_counts recover(bool mend_impossible = false) requires(persistent) {
    return rebuild_from_versions(mend_impossible);
  }
  /// Makes index and counts what the versions say; nothing is given back. For whoever changed a version behind the map's
  /// back. If it throws, nothing has changed. Cost: one pass over the slots.
  void count_anew() requires(watched) { mend_index_and_counts(); }

 private:
  template <class, detail::yields>
  friend class detail::slot_iterator;
  friend struct detail::walk_access;     // joins: the words of the index
  friend struct detail::archive_access;  // archives: versions out, versions in

  using slot_type = slot<T>;
  struct vacate_on_exit;
  struct release_on_exit;
  struct scan;

  // Persistent memory: keeps the compiler from moving stores across. Costs no instruction.
  static void order_stores() noexcept {
    if constexpr (persistent) std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  template <class Count>
  static void count_first(Count& count) noexcept {
    --count;
    order_stores();
  }
  template <class Count>
  static void count_last(Count& count) noexcept {
    order_stores();
    ++count;
    order_stores();
  }
  // The counts that only persistent memory has; elsewhere they follow from the others.
  void occupied_goes_down() noexcept {
    if constexpr (persistent) count_first(storage_.control().occupied);
  }
  void occupied_goes_up() noexcept {
    if constexpr (persistent) count_last(storage_.control().occupied);
  }
  void vacant_goes_down() noexcept {
    if constexpr (persistent) count_first(storage_.control().vacant);
  }
  void vacant_goes_up() noexcept {
    if constexpr (persistent) count_last(storage_.control().vacant);
  }
  /// Where somebody wants to know: slot `index` is about to be stored to, by us or through a reference given out.
  void about_to_change(std::uint32_t index) noexcept {
    if constexpr (watched) storage_.before_change(index);
  }
  static void commit(slot_type& slot, std::uint32_t version_word) noexcept {
    order_stores();
    slot.version = version_word;
    order_stores();
  }

  slot_type& slot_at(std::uint32_t index) const noexcept { return storage_.slots()[index]; }
  slot_type* live_slot(Key key) const noexcept;
  slot_type& reserved_slot(const handle_type& handle) const;
  std::uint64_t identity();

  struct taken_slot {
    std::uint32_t index;
    std::uint32_t vacant_version;
  };
  taken_slot take_vacant_slot(bool is_filled_at_once);
  bool is_there_to_take(std::uint32_t index) noexcept;
  void mend_index_and_counts();
  taken_slot append_slot(bool is_filled_at_once);
  void grow();
  bool next_slot_moves_others();
  template <class... Args>
  Key fill_vacant_slot(Args&&... args);
  void enter_vacant(std::uint32_t index) noexcept;
  void spill_buffer() noexcept;
  bool fill_buffer() noexcept;
  void vacate(std::uint32_t index, std::uint32_t old_version) noexcept;
  void destroy_and_vacate(std::uint32_t index, std::uint32_t occupied_version) noexcept;
  std::optional<T> take_out(Key key);

  scan scan_versions() const;
  void rebuild_index();
  recovery_counts rebuild_from_versions(bool mend_impossible);
  void copy_from(const deferred_map& other);
  void copy_assign(const deferred_map& other);
  void assign_from(deferred_map&& other);

  storage_type storage_;
  std::uint64_t identity_ = 0;  // what handles carry; 0 until the first is made
};

/// Destroys the values for which `predicate(Key, T&)` is true; returns how many.
template <class T, class Key, class Allocator, class Predicate>
std::size_t erase_if(deferred_map<T, Key, Allocator>& map, Predicate predicate) {
  return map.retain([&](Key key, T& value) { return !predicate(key, value); });
}

}  // namespace dm

#include "deferred_map/container/deferred_map_impl.hpp"
#include "deferred_map/container/deferred_map_rebuild.hpp"
