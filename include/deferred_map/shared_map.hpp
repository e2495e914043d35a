// The shared map: a deferred map that many processes and threads use at once, any of which may die at any instruction.
//
// What happens to slots is sharing/slots.hpp; who is attached, and who has died, sharing/shared_arena.hpp; docs/SHARING.md
// tells the whole of it. Here is what users call.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "deferred_map/container/failure.hpp"
#include "deferred_map/handle.hpp"
#include "deferred_map/maps/recovery_report.hpp"
#include "deferred_map/schema.hpp"
#include "deferred_map/sharing/attachment.hpp"
#include "deferred_map/sharing/place.hpp"

namespace dm {

namespace detail {

/// What a shared arena is told of T.
template <class T>
stored_type shared_type_of() {
  static_assert(sizeof(T) <= 1u << 30, "an arena's values have at most 2^30 bytes");
  static_assert(alignof(T) <= 4096, "an arena's values are aligned to a page of 4096 bytes at most");
  stored_type type;
  type.slot = slot_layout_of(arena_kind::shared, sizeof(T), alignof(T));
  type.description = schema_of<T>();
  type.schema_version = type.description.version;
  return type;
}

/// Of a shared map: what opening did, in the words of the other maps.
recovery_report report_of(const sharing::shared_arena& arena);

/// Room for a copy of a value that need not be default constructible: on the stack, or on the heap where the value is too
/// large for anybody's stack. It becomes a T when bytes of one have been copied into it.
template <class T>
class value_room {
  static constexpr bool on_stack = sizeof(T) <= 4096;
  struct release {
    void operator()(std::byte* bytes) const noexcept { ::operator delete (bytes, std::align_val_t{alignof(T)}); }
  };

 public:
  std::byte* bytes() noexcept {
    if constexpr (on_stack)
      return storage_.bytes;
    else
      return storage_.bytes.get();
  }
  T copy() noexcept {
    if constexpr (on_stack)
      return std::bit_cast<T>(storage_);  // which stays in registers, unlike what is laundered
    else
      return value();
  }
  T& value() noexcept { return *std::launder(reinterpret_cast<T*>(bytes())); }

 private:
  struct here {
    alignas(T) std::byte bytes[sizeof(T)];
  };
  static_assert(sizeof(here) == sizeof(T));
  struct elsewhere {
    std::unique_ptr<std::byte[], release> bytes{
        static_cast<std::byte*>(::operator new (sizeof(T), std::align_val_t{alignof(T)}))};
  };
  std::conditional_t<on_stack, here, elsewhere> storage_;
};

}  // namespace detail

/// Who has a shared map open, or had it and died, and has not been reaped.
using shared_owner = sharing::owner_info;

/// What `try_update` did.
enum class try_result : std::uint8_t {
  done,
  stale,  ///< the key names nothing
  busy,   ///< a living process is in the midst of updating this very value
};

/// A generational arena in a file or a shared-memory segment, used by up to 128 processes (more exactly: open maps) at
/// once, and by as many threads of each as there are, without locks.
///
///   auto map = dm::shared_map<quote>::open_or_create(dm::shm("quotes"), {.max_slots = 1'000'000});   // or a path
///   const dm::key k = map.insert({.bid = 99, .ask = 101});
///   map.update(k, [](quote& q) { ++q.bid; });
///   if (const std::optional<quote> q = map.get(k)) ...
///
/// Survives: `kill -9` of any of its processes at any instruction. Every operation that returned is there, the one under
/// way happened wholly or not at all, and nobody else ever waits for the dead. A value is never seen torn. What a dead
/// process owned (handles, slots kept ready) is given back by whoever next attaches, runs out of room, meets an update
/// that the dead one had begun, or calls `reap`.
///
/// Does not survive a stop of the machine while it is open (errc::unclean_after_reboot), as mapped_map; a segment does not
/// outlive it at all.
///
/// Values are copied in and out; there are no references into the map, for nothing would keep others from changing what
/// they refer to. Keys are those of the other maps: 64 bits, the same in all processes, never reused.
///
/// Waiting: looking never waits for anybody. `remove` and `update` wait for a living process that is in the midst of copying
/// a new value into this very slot (nanoseconds, unless it is stopped); what needs a slot waits for who makes the file grow,
/// where there is none vacant. Nothing else waits.
///
/// T: trivially copyable, without pointers (see schema.hpp). The file describes T; opening it with another T is
/// errc::type_mismatch.
///
/// Layout: a slot is a word of 8 bytes and the value, in whole words. Who may write to the file is trusted, as far as this
/// goes: a hostile process that stores to the mapping can spoil the values of all.
///
/// Threads: all functions from any thread at once, but for opening, moving, swapping, closing and destroying. Forks: as
/// mapped_map; a child that wants the map opens it.
template <class T, class Key = key>
class shared_map {
  static_assert((require_storable<T>(), true), "shared_map<T>: T cannot be stored in a file, for the reason given");
  static constexpr slot_layout layout = slot_layout_of(arena_kind::shared, sizeof(T), alignof(T));
  using operations = sharing::slot_operations<sharing::processor_atomics, layout.stride_bytes, layout.value_offset>;

 public:
  using key_type = Key;
  using mapped_type = T;
  using value_type = T;
  using size_type = std::size_t;
  using handle_type = basic_handle<Key>;
  using options = arena_options;

  // Opening and closing -------------------------------------------------------------------------------------------------

  /// A map that is not open.
  shared_map() noexcept = default;

  /// A new file or segment. It appears under its name only when it is complete, and an existing one is never replaced: a
  /// creator that is killed leaves nothing that is in anybody's way.
  /// Errors: errc::exists, not_found (the directory), full, read_only, bad_options, or the system's.
  static shared_map create(const place& where, const options& how = {}) {
    return shared_map(sharing::attachment::create(where.path(), detail::shared_type_of<T>(), how));
  }
  /// An existing one. Attachments of dead processes are reaped.
  /// Errors: errc::not_found, not_an_arena, damaged, newer_format, type_mismatch, wrong_kind, unclean_after_reboot,
  /// read_only, full (128 maps have it open already, all alive), or the system's.
  static shared_map open(const place& where, const options& how = {}) {
    return shared_map(sharing::attachment::open(where.path(), detail::shared_type_of<T>(), how));
  }
  /// The one if it is there, else a new one. Any number of processes may do this at once.
  static shared_map open_or_create(const place& where, const options& how = {}) {
    for (;;) {
      try {
        return open(where, how);
      } catch (const error& e) {
        if (e.code() != errc::not_found) throw;
      }
      try {
        return create(where, how);
      } catch (const error& e) {
        if (e.code() != errc::exists) throw;  // else somebody was faster: open theirs
      }
    }
  }
  /// To look only: needs no right to write, stores nothing, takes no lock and is not counted among the 128. Changing
  /// functions throw errc::read_only.
  static shared_map open_read_only(const place& where, const options& how = {}) {
    return shared_map(sharing::attachment::open_read_only(where.path(), detail::shared_type_of<T>(), how));
  }

  /// The same, without exceptions for what concerns the file: on failure the code says why, and the map is not open.
  static shared_map create(const place& where, std::error_code& code) {
    return without_throwing(code, [&] { return create(where); });
  }
  static shared_map create(const place& where, const options& how, std::error_code& code) {
    return without_throwing(code, [&] { return create(where, how); });
  }
  static shared_map open(const place& where, std::error_code& code) {
    return without_throwing(code, [&] { return open(where); });
  }
  static shared_map open(const place& where, const options& how, std::error_code& code) {
    return without_throwing(code, [&] { return open(where, how); });
  }
  static shared_map open_or_create(const place& where, std::error_code& code) {
    return without_throwing(code, [&] { return open_or_create(where); });
  }
  static shared_map open_or_create(const place& where, const options& how, std::error_code& code) {
    return without_throwing(code, [&] { return open_or_create(where, how); });
  }
  static shared_map open_read_only(const place& where, std::error_code& code) {
    return without_throwing(code, [&] { return open_read_only(where); });
  }
  static shared_map open_read_only(const place& where, const options& how, std::error_code& code) {
    return without_throwing(code, [&] { return open_read_only(where, how); });
  }

  shared_map(shared_map&& other) noexcept
      : on_(std::exchange(other.on_, {})),
        identity_(std::exchange(other.identity_, 0)),
        attached_(std::move(other.attached_)) {}
  shared_map& operator=(shared_map&& other) noexcept {
    shared_map moved(std::move(other));
    swap(moved);
    return *this;
  }
  shared_map(const shared_map&) = delete;
  shared_map& operator=(const shared_map&) = delete;
  /// Closes. An error goes unseen here; `close()` shows it.
  ~shared_map() {
    std::error_code unseen;
    close(unseen);
  }

  void swap(shared_map& other) noexcept {
    std::swap(on_, other.on_);
    std::swap(identity_, other.identity_);
    std::swap(attached_, other.attached_);
  }
  friend void swap(shared_map& a, shared_map& b) noexcept { a.swap(b); }

  bool is_open() const noexcept { return attached_ != nullptr; }
  bool is_read_only() const noexcept { return is_open() && !attached_->arena().writable(); }
  std::filesystem::path path() const { return is_open() ? attached_->arena().path() : std::filesystem::path(); }
  /// What opening found and did.
  recovery_report recovery() const { return is_open() ? detail::report_of(attached_->arena()) : recovery_report(); }

  /// Returns when everything done so far, by anybody, is on the disk. Good until the machine stops: without a `close` by
  /// the last, the file counts as left open. Errors: the system's, and errc::poisoned after a failed one.
  void flush() {
    require_writable();
    attached_->arena().sync();
  }
  void flush(std::error_code& code) {
    without_throwing(code, [&] { flush(); });
  }

  /// Gives back what this map owns (its handles are void) and lets go of the file. The last to close writes everything to
  /// the disk and marks the file as closed. Not open afterwards, also where this throws.
  /// Errors: the system's; errc::poisoned where an earlier write to the disk had failed.
  void close() {
    if (!is_open()) return;
    const std::unique_ptr<sharing::attachment> closing = std::move(attached_);
    on_ = {};
    identity_ = 0;
    closing->close();
  }
  void close(std::error_code& code) noexcept {
    try {
      without_throwing(code, [&] { close(); });
    } catch (...) {  // what is thrown while an error's text is put together
      code = std::make_error_code(std::errc::not_enough_memory);
    }
  }

  // Looking -------------------------------------------------------------------------------------------------------------
  // Lock-free, writes nothing, waits for nobody; a copy is tried again only where the value was changed during it.

  /// A copy of the value, as it was at one moment during the call.
  std::optional<T> get(Key k) const {
    detail::value_room<T> room;
    if (!on_.read(k.index(), k.generation(), room.bytes(), sizeof(T))) return std::nullopt;
    return room.copy();
  }
  /// The same into the caller's memory, which for large values saves a copy. False, with `value` perhaps overwritten by
  /// anything, where the key is stale.
  bool read(Key k, T& value) const noexcept {
    return on_.read(k.index(), k.generation(), std::addressof(value), sizeof(T)).has_value();
  }
  /// As `get`. Errors: stale_key.
  T at(Key k) const {
    std::optional<T> found = get(k);
    if (!found) fail::key_is_stale();
    return *found;
  }
  bool contains(Key k) const noexcept { return on_.contains(k.index(), k.generation()); }

  /// Calls visit(key, const T&) for each value, with copies. Weakly consistent: what is there throughout is visited, once;
  /// what is inserted, removed or updated meanwhile is or is not, but never torn. Cost: a bit a slot, and a copy a value.
  template <class F>
  void for_each(F visit) const {
    detail::value_room<T> room;
    on_.for_each_taken([&](std::uint32_t index) {
      const std::uint64_t w = on_.word_of(index);
      if (!sharing::word::is_alive(w)) return;
      const std::uint32_t generation = sharing::word::generation_of(w);
      if (!on_.read_existing(index, generation, room.bytes(), sizeof(T))) return;
      visit(key_of(index, generation), std::as_const(room.value()));
    });
  }

  /// How many values there are, counted by looking: exact where nobody inserts or removes meanwhile, else a number between
  /// the fewest and the most that `for_each` could have visited. (A counter kept by all would be a locked
  /// instruction more in each insert and remove, on a cache line that all of them write to.) Cost: a bit a slot, and a word a value.
  size_type size() const noexcept {
    size_type count = 0;
    on_.for_each_taken([&](std::uint32_t index) { count += sharing::word::is_alive(on_.word_of(index)); });
    return count;
  }
  /// As `size() == 0`.
  bool empty() const noexcept { return size() == 0; }
  /// Slots that have memory, whatever is in them.
  size_type slot_count() const noexcept { return static_cast<size_type>(on_.slots_now()); }
  /// The most there can ever be.
  size_type max_size() const noexcept { return static_cast<size_type>(on_.memory().slots_max); }
  /// What the slot is at this moment. Slots that a thread keeps ready are reserved too. Requires: index < slot_count().
  slot_state state(std::uint32_t index) const noexcept {
    return version::state(sharing::word::version_of(on_.word_of(index)));
  }

  // Changing ------------------------------------------------------------------------------------------------------------
  // On a map that was opened read-only errc::read_only, on one that is not open errc::bad_options. From what needs a slot:
  // errc::full (`max_slots`, or the disk), and the system's errors; nothing has changed then.

  /// Reserves a slot and tells its key. It is this map's to fill or release, by any thread of this process.
  handle_type allocate_handle() {
    sharing::thread_part& mine = part();
    const std::uint32_t index = take(mine);
    const std::uint32_t generation = on_.hold(index);
    ++mine.held;
    return detail::handle_access::make(key_of(index, generation), identity_);
  }
  /// Fills a reserved slot: from now on everybody can see the value. Errors: bad_handle.
  Key insert(handle_type&& h, const T& value) {
    require_handle(h);
    sharing::thread_part& mine = part();
    on_.publish(h.index(), h.generation(), std::addressof(value), sizeof(T));
    --mine.held;
    const Key k = h.key();
    detail::handle_access::spend(h);
    return k;
  }
  /// The same with T(args...), or T{args...} of an aggregate.
  template <class... A>
  Key emplace(handle_type&& h, A&&... args) {
    require_handle(h);
    return insert(std::move(h), make(std::forward<A>(args)...));
  }
  /// Gives the slot up; its key never becomes anybody's. Errors: bad_handle.
  void release_handle(handle_type&& h) {
    require_handle(h);
    sharing::thread_part& mine = part();
    on_.release(h.index(), h.generation(), mine.cache);
    --mine.held;
    detail::handle_access::spend(h);
  }
  /// Whether the handle is this map's and its slot still waits to be filled.
  bool holds(const handle_type& h) const noexcept {
    return h && detail::handle_access::map_identity(h) == identity_ && on_.is_held(h.index(), h.generation());
  }

  /// Both steps at once. Cost: no locked instruction where this thread has a slot ready, as it has after `remove`.
  Key insert(const T& value) {
    const std::uint32_t index = take(part());
    const std::uint32_t generation = on_.generation_of_taken(index);
    on_.publish(index, generation, std::addressof(value), sizeof(T));
    return key_of(index, generation);
  }
  template <class... A>
  Key emplace(A&&... args) {
    return insert(make(std::forward<A>(args)...));
  }
  /// Inserts what make(key) returns. If it throws, the slot is given back and the key never was.
  template <class F>
  Key insert_with_key(F make_value) {
    handle_type h = allocate_handle();
    if constexpr (noexcept(make_value(h.key()))) {
      return insert(std::move(h), make_value(h.key()));
    } else {
      try {
        return insert(std::move(h), make_value(h.key()));
      } catch (...) {
        release_handle(std::move(h));
        throw;
      }
    }
  }

  /// Takes the value out. Of several who try, one gets it. Cost: one locked instruction.
  std::optional<T> remove(Key k) {
    detail::value_room<T> room;
    if (!remove_from(k, room.bytes())) return std::nullopt;
    return room.copy();
  }
  /// The same without the value.
  bool erase(Key k) { return remove_from(k, nullptr); }

  /// Changes a value wholly or not at all, and in everybody's sight at once: change(T&) works on a copy, which then takes
  /// the value's place provided nobody else has changed it meanwhile; else it is done again with the newer value, so
  /// `change` may be called several times. False where the key is stale. If `change` throws, nothing has changed.
  /// Cost: three copies of T and two locked instructions.
  template <class F>
  bool update(Key k, F change) {
    return update_unless_busy(k, change, [&](std::uint64_t seen) {
             attached_->wait_while_updating(k.index(), seen);
             return true;
           }) == try_result::done;
  }
  /// The same, but where a living process is in the midst of updating this very value (it may be stopped in there) it does
  /// not wait and says so.
  template <class F>
  try_result try_update(Key k, F change) {
    return update_unless_busy(k, change,
                              [&](std::uint64_t seen) { return attached_->finish_if_dead(k.index(), seen); });
  }

  /// Gives back what dead processes own and finishes what they had begun. Returns how many had died. Cost: one system call
  /// for each attachment; where somebody died, a look at all slots. Errors: the system's.
  std::uint32_t reap() {
    require_writable();
    return attached_->reap();
  }
  /// Who has it open, and who died with it open and has not been reaped. Errors: the system's.
  std::vector<shared_owner> owners() const {
    return is_open() ? attached_->arena().owners() : std::vector<shared_owner>();
  }
  /// Which of `owners` we are. Requires: open, and not read-only.
  std::uint32_t owner_id() const noexcept { return attached_->arena().attachment(); }

 private:
  explicit shared_map(std::unique_ptr<sharing::attachment> attached)
      : on_(attached->arena().memory(), attached->arena().attachment()),
        identity_(attached->arena().writable() ? attached->identity() : 0),
        attached_(std::move(attached)) {}

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

  static Key key_of(std::uint32_t index, std::uint32_t generation) noexcept {
    return detail::key_access::make<Key>(index, version::occupied(generation));
  }
  /// `identity_` is 0 where nothing may be changed.
  void require_writable() const {
    if (identity_ == 0) [[unlikely]]
      sharing::attachment::refuse_writing(attached_.get());
  }
  sharing::thread_part& part() {
    require_writable();
    return attached_->of_this_thread();
  }
  std::uint32_t take(sharing::thread_part& mine) {
    if (mine.cache.count == 0) [[unlikely]]
      attached_->refill(mine.cache);
    return mine.cache.slots[--mine.cache.count];
  }
  void require_handle(const handle_type& h) const {
    require_writable();
    if (!holds(h)) [[unlikely]]
      fail::handle_is_bad();
  }
  template <class... A>
  static T make(A&&... args) {
    if constexpr (std::is_constructible_v<T, A...>)
      return T(std::forward<A>(args)...);
    else
      return T{std::forward<A>(args)...};
  }

  bool remove_from(Key k, void* value) {
    sharing::thread_part& mine = part();
    for (;;) {
      switch (on_.remove(k.index(), k.generation(), mine.cache, value, sizeof(T))) {
        case sharing::outcome::done:
          return true;
        case sharing::outcome::stale:
          return false;
        case sharing::outcome::busy:
          if (const std::uint64_t seen = on_.word_of(k.index()); sharing::word::is_updating(seen))
            attached_->wait_while_updating(k.index(), seen);
      }
    }
  }

  /// when_busy(word): whether to try again.
  template <class F, class WhenBusy>
  try_result update_unless_busy(Key k, F& change, WhenBusy when_busy) {
    require_writable();
    detail::value_room<T> room;
    for (;;) {
      const std::optional<std::uint64_t> before = on_.read(k.index(), k.generation(), room.bytes(), sizeof(T));
      if (!before) return try_result::stale;
      if (sharing::word::is_updating(*before)) {
        if (!when_busy(*before)) return try_result::busy;
        continue;
      }
      change(room.value());
      const sharing::attachment::lease scratch(*attached_);
      if (on_.begin_update(k.index(), *before, scratch.number(), room.bytes(), sizeof(T)) != sharing::outcome::done)
        continue;
      on_.finish_update(k.index(), scratch.number());
      return try_result::done;
    }
  }

  operations on_;
  std::uint64_t identity_ = 0;
  std::unique_ptr<sharing::attachment> attached_;
};

}  // namespace dm
