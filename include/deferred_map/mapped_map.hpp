// The mapped map: a deferred_map in a memory-mapped file, which survives the death of its process at any instruction.
//
// Invariants beyond deferred_map's and the arena's:
//  1. Nothing in the file is changed before everything that opening relies on was checked.
//  2. `update` is committed by one store (`update_pending`); from then on whoever opens the file finishes the copy.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>
#include <type_traits>
#include <utility>

#include "deferred_map/arena/arena.hpp"
#include "deferred_map/arena/arena_allocator.hpp"
#include "deferred_map/deferred_map.hpp"
#include "deferred_map/maps/one_thread.hpp"
#include "deferred_map/maps/recovery_report.hpp"
#include "deferred_map/maps/stored_type_of.hpp"
#include "deferred_map/schema.hpp"

namespace dm {

namespace detail {

struct migration_access;

/// Holds the arena before, and lets go of it after, the map in it.
struct arena_holder {
  std::unique_ptr<arena> arena_;
};

}  // namespace detail

/// A generational arena in a file. Keys and values stay across restarts; a key stored inside a value is a
/// persistent pointer. One process at a time writes (the file is locked, and the lock goes with the process).
///
/// Survives: `kill -9` at any instruction. Every operation that returned is there, the one under way happened
/// wholly or not at all, slots reserved by handles are given back, and dead keys stay dead. Opening again is
/// O(1) if nothing was under way, else one pass over the versions.
///
/// Does not survive by itself: a stop of the machine while it is open (errc::unclean_after_reboot;
/// `durable_map` is the type that does). After `close()` everything is on the disk.
///
/// References: slots never move. A `T&` stays valid while its value lives and the map is open. Storing
/// through it is a plain store: a kill between two stores leaves the first without the second. `update` is
/// all or nothing.
///
/// T: trivially copyable, without pointers (see schema.hpp). The file describes T; opening it with another T
/// is errc::type_mismatch.
///
/// Errors: dm::error (a std::system_error) from whatever touches the file: opening, closing, growing. A map
/// whose disk is full throws errc::full from the insert that needed room, and is whole and usable.
///
/// Threads: one at a time, as deferred_map. In builds with assertions two threads that are caught in changing calls of one
/// map at once abort the program with a sentence that says so (maps/one_thread.hpp).
///
/// Forks: the map stays with the process that opened it. A child that is forked while it is open may close or destroy its
/// copy, which touches nothing; where it was open for writing, the child has no such memory, and any other use is a
/// segmentation fault (in builds with assertions a change aborts with a sentence). A child may use what is open read-only.
template <class T, class Key = key>
class mapped_map : private detail::arena_holder, private deferred_map<T, Key, arena_allocator<T>> {
  static_assert((require_storable<T>(), true), "mapped_map<T>: T cannot be stored in a file, for the reason given");
  using map = deferred_map<T, Key, arena_allocator<T>>;

 public:
  using typename map::const_iterator;
  using typename map::difference_type;
  using typename map::handle_type;
  using typename map::iterator;
  using typename map::key_type;
  using typename map::mapped_type;
  using typename map::size_type;
  using typename map::value_type;
  using options = arena_options;

  // Opening and closing ---------------------------------------------------------------------------------------------

  /// A map that is not open.
  mapped_map() noexcept = default;

  /// A new file. It appears under its name only when it is complete; an existing one is never replaced, and where this
  /// throws there is none.
  /// Errors: errc::exists, not_found (its directory), full, read_only, bad_options, or the system's.
  static mapped_map create(const std::filesystem::path& path, const options& how = {}) {
    return mapped_map(arena::create(path, arena_kind::mapped, detail::stored_type_of<T>(), how), how);
  }
  /// An existing file, recovered if its last user was killed. What is refused stays as it was.
  /// Errors: errc::not_found, not_an_arena, damaged, newer_format, type_mismatch, wrong_kind, in_use,
  /// unclean_after_reboot, or the system's.
  static mapped_map open(const std::filesystem::path& path, const options& how = {}) {
    return mapped_map(arena::open(path, arena_kind::mapped, detail::stored_type_of<T>(), how, arena_access::read_write),
                      how);
  }
  /// The file if there is one, else a new one. Two processes may do this at once.
  static mapped_map open_or_create(const std::filesystem::path& path, const options& how = {}) {
    for (;;) {
      try {
        return open(path, how);
      } catch (const error& e) {
        if (e.code() != errc::not_found) throw;
      }
      try {
        return create(path, how);
      } catch (const error& e) {
        if (e.code() != errc::exists) throw;  // else somebody was faster: open theirs
      }
    }
  }
  /// To look only: never changes the file, works without write permission, beside other readers, and on a
  /// file whose user was killed (it then sees the recovered state in memory of its own). Writing functions
  /// throw errc::read_only; storing through a `T&` is a segmentation fault.
  static mapped_map open_read_only(const std::filesystem::path& path, const options& how = {}) {
    return mapped_map(arena::open(path, arena_kind::mapped, detail::stored_type_of<T>(), how, arena_access::read_only),
                      how);
  }

  /// The same, without exceptions for what concerns the file: on failure the code says why, and the map is not open.
  static mapped_map create(const std::filesystem::path& path, std::error_code& code) {
    return without_throwing(code, [&] { return create(path); });
  }
  static mapped_map create(const std::filesystem::path& path, const options& how, std::error_code& code) {
    return without_throwing(code, [&] { return create(path, how); });
  }
  static mapped_map open(const std::filesystem::path& path, std::error_code& code) {
    return without_throwing(code, [&] { return open(path); });
  }
  static mapped_map open(const std::filesystem::path& path, const options& how, std::error_code& code) {
    return without_throwing(code, [&] { return open(path, how); });
  }
  static mapped_map open_or_create(const std::filesystem::path& path, std::error_code& code) {
    return without_throwing(code, [&] { return open_or_create(path); });
  }
  static mapped_map open_or_create(const std::filesystem::path& path, const options& how, std::error_code& code) {
    return without_throwing(code, [&] { return open_or_create(path, how); });
  }
  static mapped_map open_read_only(const std::filesystem::path& path, std::error_code& code) {
    return without_throwing(code, [&] { return open_read_only(path); });
  }
  static mapped_map open_read_only(const std::filesystem::path& path, const options& how, std::error_code& code) {
    return without_throwing(code, [&] { return open_read_only(path, how); });
  }

  mapped_map(mapped_map&& other) noexcept
      : detail::arena_holder(std::move(other)),
        map(std::move(static_cast<map&>(other))),
        writable_(std::exchange(other.writable_, false)),
        recovery_(std::exchange(other.recovery_, {})) {}
  mapped_map& operator=(mapped_map&& other) noexcept {
    mapped_map moved(std::move(other));
    swap(moved);
    return *this;
  }
  mapped_map(const mapped_map&) = delete;
  mapped_map& operator=(const mapped_map&) = delete;

  /// Closes. An error goes unseen here; the file is then left as by a kill, and recovered by the next to open
  /// it. Call `close()` to see it.
  ~mapped_map() {
    std::error_code unseen;
    close(unseen);
  }

  void swap(mapped_map& other) noexcept {
    std::swap(arena_, other.arena_);
    map::swap(other);
    std::swap(writable_, other.writable_);
    std::swap(recovery_, other.recovery_);
  }
  friend void swap(mapped_map& a, mapped_map& b) noexcept { a.swap(b); }

  bool is_open() const noexcept { return arena_ != nullptr; }
  bool is_read_only() const noexcept { return is_open() && !writable_; }
  /// The file. Empty where the map is not open.
  std::filesystem::path path() const { return is_open() ? arena_->path() : std::filesystem::path(); }
  /// What opening found and did.
  const recovery_report& recovery() const noexcept { return recovery_; }

  /// Returns when everything done so far is on the disk. It may still be of use only until the machine stops:
  /// without `close`, the file counts as left open. Errors: the system's, and errc::poisoned after a failed one.
  void flush() {
    require_writable();
    arena_->sync();
  }
  void flush(std::error_code& code) {
    without_throwing(code, [&] { flush(); });
  }

  /// Gives back reserved slots (their handles are void), writes everything to the disk, marks the file as
  /// closed and lets go of it. Closing what is not open does nothing. The map is not open afterwards, also where this
  /// throws: the file then bears no mark that is not true, and the next to open it recovers it where it must.
  /// Errors: the system's; errc::poisoned where an earlier write to the disk had failed.
  void close() {
    if (!is_open()) return;
    if (writable_ && arena_->is_ours()) writable_map()->release_reserved();
    const std::unique_ptr<arena> closing = detach_arena();
    closing->close();
  }
  void close(std::error_code& code) noexcept {
    try {
      without_throwing(code, [&] { close(); });
    } catch (...) {  // what is thrown while an error's text is put together
      code = std::make_error_code(std::errc::not_enough_memory);
    }
  }

  // Looking up, counting, iterating: as deferred_map ----------------------------------------------------------------

  using map::at;
  using map::begin;
  using map::capacity;
  using map::cbegin;
  using map::cend;
  using map::contains;
  using map::empty;
  using map::end;
  using map::find;
  using map::generation_floor;
  using map::get;
  using map::get_disjoint;
  using map::get_many;
  using map::holds;
  using map::key_at;
  using map::keys;
  using map::max_size;
  using map::operator[];
  using map::reserved_count;
  using map::retired_count;
  using map::size;
  using map::slot_count;
  using map::state;
  using map::values;
  std::string verify() const { return is_open() ? map::verify() : std::string(); }

  // Changing: as deferred_map; on a map opened read-only errc::read_only, on one not open errc::bad_options --

  handle_type allocate_handle() { return writable_map()->allocate_handle(); }
  T& insert(handle_type&& h, const T& value) { return writable_map()->insert(std::move(h), value); }
  template <class... A>
  T& emplace(handle_type&& h, A&&... args) {
    return writable_map()->emplace(std::move(h), std::forward<A>(args)...);
  }
  void release_handle(handle_type&& h) { writable_map()->release_handle(std::move(h)); }
  Key insert(const T& value) { return writable_map()->insert(value); }
  template <class... A>
  Key emplace(A&&... args) {
    return writable_map()->emplace(std::forward<A>(args)...);
  }
  template <class F>
  Key insert_with_key(F make) {
    return writable_map()->insert_with_key(std::move(make));
  }
  std::optional<T> remove(Key k) { return writable_map()->remove(k); }
  bool erase(Key k) { return writable_map()->erase(k); }
  iterator erase(iterator position) { return writable_map()->erase(position); }
  std::optional<std::pair<T, handle_type>> detach(Key k) { return writable_map()->detach(k); }
  /// Element by element: a kill within leaves each value judged or not.
  template <class F>
  size_type retain(F keep) {
    return writable_map()->retain(std::move(keep));
  }
  auto drain() { return writable_map()->drain(); }
  /// Element by element, as `retain`.
  void clear() { writable_map()->clear(); }
  /// Real disk blocks for `additional` more values. Errors: errc::full, or the system's, and then nothing has changed.
  void reserve(size_type additional) {
    const changing call = writable_map();
    // Past what any map can hold the file has the better answer.
    const std::uint64_t vacant = arena_->control().vacant;
    if (additional > vacant && additional - vacant > max_size() - slot_count())
      arena_->expand(slot_count() + std::min<std::uint64_t>(additional - vacant, std::uint64_t{1} << 33));
    call->reserve(additional);
  }
  /// Gives vacant slots at the end, and the file's blocks behind the last slot, back to the file system.
  void shrink_to_fit() { writable_map()->shrink_to_fit(); }
  size_type release_reserved() { return writable_map()->release_reserved(); }

  /// Changes a value wholly or not at all: `change(T&)` works on a copy, which then takes the value's place
  /// in a way that a kill at any instruction leaves the old value or the new one. False where the key is
  /// stale, also if `change` made it so. If `change` throws, nothing has changed. Cost: two copies of T.
  template <class F>
  bool update(Key k, F change) {
    [[maybe_unused]] const changing call = writable_map();
    const T* place = get(k);
    if (place == nullptr) return false;
    if constexpr (sizeof(T) <= 4096) {
      T copy = *place;
      change(copy);
      return replace(k, copy);
    } else {
      const auto copy = std::make_unique<T>(*place);  // too large for anybody's stack
      change(*copy);
      return replace(k, *copy);
    }
  }

 private:
  friend struct detail::walk_access;     // joins
  friend struct detail::archive_access;  // archives
  friend struct detail::migration_access;
  explicit mapped_map(std::unique_ptr<arena> opened, const options& how)
      : detail::arena_holder{std::move(opened)}, map(arena_allocator<T>(*arena_)), writable_(arena_->writable()) {
    settle(how);
  }

  template <class F>
  static auto without_throwing(std::error_code& code, F call) {
    code.clear();
    try {
      return call();
    } catch (const error& e) {
      code = e.code();
    }
    return decltype(call())();
  }

  void require_writable() const {
    if (!writable_) [[unlikely]]
      detail::refuse_writing(is_open() ? &arena_->path() : nullptr);
  }
  /// The map, for the length of one call that changes it.
  class changing {
   public:
    explicit changing(mapped_map& of) noexcept : map_(&of), call_(of.thread_mark_, *of.arena_) {}
    map* operator->() const noexcept { return map_; }

   private:
    map* map_;
    [[no_unique_address]] detail::writing_call call_;
  };
  changing writable_map() {
    require_writable();
    return changing(*this);
  }

  std::unique_ptr<arena> detach_arena() noexcept {
    map emptied(std::move(static_cast<map&>(*this)));
    writable_ = false;
    return std::move(arena_);
  }

  static void order_stores() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

  bool replace(Key k, const T& value) {
    T* place = get(k);
    if (place == nullptr) return false;
    control_block& control = arena_->control();
    std::memcpy(arena_->scratch(), std::addressof(value), sizeof(T));
    control.update_index = k.index();
    control.update_version = k.occupied_version();
    order_stores();
    control.update_pending = 1;  // from this store on the update has happened
    order_stores();
    std::memcpy(static_cast<void*>(place), std::addressof(value), sizeof(T));
    order_stores();
    control.update_pending = 0;
    order_stores();
    return true;
  }

  /// Mends what the last user left, in an order in which each step can be killed and done again.
  void settle(const options& how) {
    control_block& control = arena_->control();
    const std::int64_t started_ns = detail::monotonic_ns();
    if (arena_->found() == left_as::machine_stopped) {
      recovery_.outcome = recovery_outcome::salvaged;
      control.recovering = recovering_salvage;  // before the boot id says that this is an ordinary crash
      order_stores();
      arena_->begin_use();
      control.update_pending = 0;  // the scratch area may be of any moment
      arena_->salvage_bounds();
      take_over(map::recover(true));
    } else {
      if (arena_->found() == left_as::killed) {
        recovery_.outcome = recovery_outcome::nothing_under_way;
        if (detail::needs_recovery(control)) {
          arena_->sync_marks();
          const recovery_counts counts = map::recover();
          if (counts.impossible != 0) detail::refuse_impossible_version(arena_->path(), counts.first_impossible);
          recovery_.outcome = recovery_outcome::recovered;
          take_over(counts);
          finish_update();
        }
      }
      // Before the first mark is touched: a file that is refused stays as it is.
      if (how.verify)
        if (const std::string fault = map::verify(); !fault.empty()) detail::refuse_unsound(arena_->path(), fault);
      arena_->begin_use();
    }
    if (recovery_.outcome != recovery_outcome::clean) {
      recovery_.killed_pid = arena_->last_owner_pid();
      recovery_.killed_program = arena_->last_owner_program();
      recovery_.duration_ns = detail::monotonic_ns() - started_ns;
      detail::record(arena_->control(), recovery_);
    }
    arena_->protect();
  }

  void take_over(const recovery_counts& counts) noexcept {
    recovery_.slots_examined = counts.slots_examined;
    recovery_.reserved_given_back = counts.reserved_given_back;
    recovery_.impossible_mended = counts.impossible;
  }

  /// An update that was committed and not yet copied is copied now, from the scratch area.
  void finish_update() {
    control_block& control = arena_->control();
    if (control.update_pending == 0) return;
    const std::uint32_t index = control.update_index;
    const Key k = map::key_at(index);
    if (k && k.occupied_version() == control.update_version) {
      std::memcpy(static_cast<void*>(get(k)), arena_->scratch(), sizeof(T));
      recovery_.updates_finished = 1;
    }
    order_stores();
    control.update_pending = 0;
    order_stores();
  }

  bool writable_ = false;
  detail::thread_mark thread_mark_;
  recovery_report recovery_;
};

}  // namespace dm
