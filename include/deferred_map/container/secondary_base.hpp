// What the two secondary maps have in common, which is all but where a key's value lies: their interface.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "deferred_map/container/failure.hpp"
#include "deferred_map/container/requirements.hpp"
#include "deferred_map/container/secondary_iterator.hpp"
#include "deferred_map/container/secondary_slots.hpp"
#include "deferred_map/container/version.hpp"
#include "deferred_map/key.hpp"

namespace dm {
namespace detail {

struct walk_access;
struct archive_access;

/// Values attached to the keys of another map. See secondary_map and sparse_secondary_map, which say what holds for
/// each: what it costs, what `reserve` counts, in which order it is walked.
///
/// Unless a function says otherwise, one that throws has changed nothing. The exceptions: growth with a T that
/// cannot be copied and whose move throws, as with std::vector; and putting a value in the place of another with a T
/// whose move throws: the old value is then moved back, and only if that throws too, it is gone.
template <class T, class Key, class Allocator, class Places>
class secondary_base {
  static_assert(require_arguments<T, Key, Allocator>());

  using allocator_traits = std::allocator_traits<Allocator>;

 public:
  using key_type = Key;
  using mapped_type = T;
  using value_type = entry<Key, T>;
  using allocator_type = Allocator;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  using iterator = secondary_iterator<secondary_base, yields::entries>;
  using const_iterator = secondary_iterator<const secondary_base, yields::entries>;

  /// A begin and an end; what `keys()` and `values()` return.
  template <class Iterator>
  struct range {
    Iterator first;
    Iterator last;
    Iterator begin() const noexcept { return first; }
    Iterator end() const noexcept { return last; }
  };

  // Construction ----------------------------------------------------------------------------------------------------

  /// An empty map that owns no memory.
  secondary_base() requires(std::is_default_constructible_v<Allocator>) = default;
  explicit secondary_base(const Allocator& allocator) noexcept : places_(allocator) {}
  /// With `reserve(capacity)` done.
  explicit secondary_base(size_type capacity, const Allocator& allocator = Allocator()) : places_(allocator) {
    reserve(capacity);
  }

  secondary_base(const secondary_base& other)
      : secondary_base(other, allocator_traits::select_on_container_copy_construction(other.get_allocator())) {}
  secondary_base(const secondary_base& other, const Allocator& allocator) : places_(allocator) {
    if constexpr (require_copyable<T, Allocator>())
      build_from(other.places_, [](const T& value) -> const T& { return value; });
  }

  /// Takes everything; `other` is left empty.
  secondary_base(secondary_base&& other) noexcept = default;
  secondary_base(secondary_base&& other, const Allocator& allocator) : places_(allocator) {
    move_from(std::move(other));
  }

  secondary_base& operator=(const secondary_base& other) {
    if (this != &other) copy_assign(other);
    return *this;
  }
  secondary_base& operator=(secondary_base&& other) noexcept(
      allocator_traits::propagate_on_container_move_assignment::value || allocator_traits::is_always_equal::value) {
    if (this != &other) move_assign(std::move(other));
    return *this;
  }
  ~secondary_base() { static_assert(require_value<T, Allocator>()); }

  void swap(secondary_base& other) noexcept {
    if constexpr (allocator_traits::propagate_on_container_swap::value)
      std::swap(places_.allocator(), other.places_.allocator());
    places_.swap_contents(other.places_);
  }

  Allocator get_allocator() const noexcept { return places_.allocator(); }

  // Adding ----------------------------------------------------------------------------------------------------------

  /// Gives `key` a value. Returns the one it had. If the slot of `key` has a value for an older generation, that one
  /// is destroyed, since its key is stale by now. If it has one for a newer generation, `key` is stale itself; then,
  /// as with a null key, nothing happens. Does not ask the other map whether the key is live there.
  /// Errors: std::length_error for a slot index no map has, or the allocator's.
  std::optional<T> insert(Key key, T value);

  /// Builds a value for `key` where it has none. Returns where the value of `key` is and whether it was built now;
  /// null and false where `insert` would do nothing. The arguments may refer to values of this map.
  template <class... A>
  std::pair<T*, bool> try_emplace(Key key, A&&... args);

  /// The value, made as `T()` where there is none. Errors: dm::stale_key where `insert` would do nothing.
  T& operator[](Key key) requires(std::is_default_constructible_v<T>) {
    T* value = try_emplace(key).first;
    if (value == nullptr) [[unlikely]]
      fail::key_is_stale();
    return *value;
  }

  // Looking up ------------------------------------------------------------------------------------------------------

  /// The value, or null where `key` has none.
  T* get(Key key) noexcept { return const_cast<T*>(std::as_const(*this).get(key)); }
  const T* get(Key key) const noexcept { return places_.get(key.index(), key.occupied_version()); }

  /// The value. Errors: dm::stale_key where `key` has none.
  T& at(Key key) { return const_cast<T&>(std::as_const(*this).at(key)); }
  const T& at(Key key) const {
    const T* value = get(key);
    if (value == nullptr) [[unlikely]]
      fail::key_is_stale();
    return *value;
  }

  bool contains(Key key) const noexcept { return get(key) != nullptr; }
  iterator find(Key key) noexcept {
    return contains(key) ? iterator(this, places_.position_of(*places_.find(key.index()))) : end();
  }
  const_iterator find(Key key) const noexcept {
    return contains(key) ? const_iterator(this, places_.position_of(*places_.find(key.index()))) : end();
  }

  /// Several values at once, or nothing if any key has none or two are the same. Cost: N lookups, N^2 / 2 compares.
  template <std::size_t N>
  std::optional<std::array<T*, N>> get_disjoint(std::array<Key, N> keys) noexcept;

  /// out[i] = get(keys[i]) for every i; returns how many had a value. Much faster than the loop where many have
  /// none or the map is larger than the caches. Errors: std::invalid_argument if `out` is shorter than `keys`.
  size_type get_many(std::span<const Key> keys, std::span<T*> out) {
    // T* and const T* are similar types, so a T* may be written through a const T* lvalue.
    return std::as_const(*this).get_many(keys, std::span<const T*>(const_cast<const T**>(out.data()), out.size()));
  }
  size_type get_many(std::span<const Key> keys, std::span<const T*> out) const {
    if (out.size() < keys.size()) fail::output_too_short();
    return places_.get_many(keys, out.data());
  }

  // Removing: the place is empty then and remembers no generation ---------------------------------------------------

  /// Takes the value out, or returns nothing where `key` has none. If moving it out throws, it stays.
  std::optional<T> remove(Key key);
  /// Destroys the value. False where `key` has none.
  bool erase(Key key) noexcept;
  /// Destroys the value and returns the iterator behind it. Requires: dereferenceable.
  iterator erase(iterator position) noexcept;
  /// Keeps the values for which `keep(Key, T&)` is true and destroys the others; returns how many went. If `keep`
  /// throws, those already judged are gone. `keep` must not add or remove.
  template <class F>
  size_type retain(F keep);
  /// Destroys all values; memory is kept.
  void clear() noexcept { places_.clear(); }

  // Counting and room -----------------------------------------------------------------------------------------------

  size_type size() const noexcept { return places_.size(); }
  bool empty() const noexcept { return size() == 0; }
  /// What `reserve` could be called with without making room.
  size_type capacity() const noexcept { return places_.capacity(); }
  static constexpr size_type max_size() noexcept { return 0xffff'ffffu; }
  /// Makes room. What is counted differs: see the map. Errors: std::length_error, or the allocator's.
  void reserve(size_type count) { places_.reserve(count); }
  /// Gives back memory that is not needed for the values there are. References and iterators are invalidated.
  void shrink_to_fit() { places_.shrink_to_fit(); }

  // Iteration: cost of a walk: a step each value and a 64th of one each empty place ---------------------------------

  iterator begin() noexcept { return iterator(this); }
  iterator end() noexcept { return iterator(); }
  const_iterator begin() const noexcept { return const_iterator(this); }
  const_iterator end() const noexcept { return const_iterator(); }
  const_iterator cbegin() const noexcept { return begin(); }
  const_iterator cend() const noexcept { return end(); }

  auto keys() const noexcept {
    using keys_iterator = secondary_iterator<const secondary_base, yields::keys>;
    return range<keys_iterator>{keys_iterator(this), keys_iterator()};
  }
  auto values() noexcept {
    using values_iterator = secondary_iterator<secondary_base, yields::values>;
    return range<values_iterator>{values_iterator(this), values_iterator()};
  }
  auto values() const noexcept {
    using values_iterator = secondary_iterator<const secondary_base, yields::values>;
    return range<values_iterator>{values_iterator(this), values_iterator()};
  }

  // Looking behind --------------------------------------------------------------------------------------------------

  /// Checks every invariant. Returns what is wrong with the first that does not hold, or an empty string.
  std::string verify() const { return places_.first_fault(); }

  /// Whether both have values for the same keys, and equal ones. The order they are walked in plays no part.
  friend bool operator==(const secondary_base& a, const secondary_base& b) requires requires(const T& value) {
    { value == value } -> std::convertible_to<bool>;
  }
  {
    if (a.size() != b.size()) return false;
    for (const auto [key, value] : a) {
      const T* other = b.get(key);
      if (other == nullptr || !(value == *other)) return false;
    }
    return true;
  }

 private:
  template <class, yields>
  friend class secondary_iterator;
  friend struct walk_access;     // joins: the words of presence
  friend struct archive_access;  // archives

  using slot_type = typename Places::slot_type;
  struct put_back;

  static bool names_a_life(Key key) noexcept;
  template <class... A>
  slot_type& add(Key key, A&&... args);
  std::optional<T> replace(slot_type& slot, T&& value);
  void overwrite(slot_type& slot, Key key, T&& value);
  void exchange(slot_type& slot, T&& value, T& spare);
  std::optional<T> take_out(slot_type& slot, std::uint32_t index);
  void destroy_and_give_up(slot_type& slot, std::uint32_t index) noexcept;

  template <class How>
  void build_from(const Places& other, How how);
  void move_from(secondary_base&& other);
  void copy_assign(const secondary_base& other);
  void move_assign(secondary_base&& other);

  Places places_;
};

}  // namespace detail

/// Destroys the values for which `predicate(Key, T&)` is true; returns how many.
template <class T, class Key, class Allocator, class Places, class Predicate>
std::size_t erase_if(detail::secondary_base<T, Key, Allocator, Places>& map, Predicate predicate) {
  return map.retain([&](Key key, T& value) { return !predicate(key, value); });
}

}  // namespace dm

#include "deferred_map/container/secondary_base_impl.hpp"
