// The durable map: a deferred_map whose commits survive power loss.
//
// Invariants beyond deferred_map's and the durable arena's:
//  1. Nothing is changed by whom the arena would refuse: every changing call asks first whether it is writable and whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "deferred_map/arena/arena_allocator.hpp"
#include "deferred_map/deferred_map.hpp"
#include "deferred_map/journal/durable_arena.hpp"
#include "deferred_map/maps/one_thread.hpp"
#include "deferred_map/maps/recovery_report.hpp"
#include "deferred_map/maps/stored_type_of.hpp"
#include "deferred_map/schema.hpp"

namespace dm {

namespace detail {

/// Holds the arena before, and lets go of it after, the map in it.
struct durable_holder {
  std::unique_ptr<durable_arena> arena_;
};

}  // namespace detail

/// A generational arena in a file, changed by transactions. What is done between two commits happens wholly or not at
/// all: any number of inserts, updates, removals, growth.
///
/// Made to survive a kill at any instruction, a stop of the machine and a loss of power: the map is then exactly at a commit,
/// the last one that returned or the one that was under way. What the disk must do for that, and how much of it is tested so
/// far: docs/DURABILITY.md. Opening it again replays the journal, in time proportional to the journal, not to the map.
///
/// Files: NAME, and NAME-journal while it is open or after a crash. They belong together: copy or move both, or close the
/// map first; then NAME alone has everything and the journal is gone.
///
/// Reading and changing: as deferred_map. Mutable access marks the value: a `get`, `at`, `[]` or `find` through a map that is
/// not const, or walking one, keeps a copy of the value until the next commit, which then looks whether it was changed.
/// Through a const map (`std::as_const`) nothing is marked, and reading costs what it costs in a mapped_map.
///
/// Memory: of a writer's own are only the pages that changed since they were last brought into the file, and all of each
/// 2 MiB of which half or more changed (as a huge page, where there are such: gets are as fast as a mapped_map's); of a reader's,
/// those that were changed by the commits it has seen.
///
/// References: slots never move. A `T&` stays valid while its value lives and the map is open. But store through it only in
/// the transaction in which it was given out: a commit or rollback forgets who was given what, and a store that was not
/// announced may be committed late, or never.
///
/// T: trivially copyable, without pointers (see schema.hpp). The file describes T; opening it with another T is
/// errc::type_mismatch.
///
/// Errors: dm::error (a std::system_error) from whatever touches the files. A full disk is errc::full from the insert that
/// needs room, or from the commit whose journal does; the map is then whole, nothing is lost, and it can be tried again.
/// After a write to the disk that failed the map is *poisoned*: it can be read, and everything else is errc::poisoned.
///
/// Processes: one at a time has it open for writing; any number may have it open read-only beside it, each at a whole commit
/// of its own until it asks for the next (`refresh`).
///
/// Threads: one at a time, as deferred_map. In builds with assertions two threads that are caught in changing calls of one
/// map at once abort the program with a sentence that says so (maps/one_thread.hpp).
///
/// Forks: the map stays with the process that opened it. A child must not change its copy; `commit` there is an error (in builds
/// with assertions, the end of the child).
template <class T, class Key = key>
class durable_map : private detail::durable_holder,
                    private deferred_map<T, Key, basic_arena_allocator<T, durable_arena>> {
  static_assert((require_storable<T>(), true), "durable_map<T>: T cannot be stored in a file, for the reason given");
  using map = deferred_map<T, Key, basic_arena_allocator<T, durable_arena>>;

 public:
  using typename map::const_iterator;
  using typename map::difference_type;
  using typename map::handle_type;
  using typename map::iterator;
  using typename map::key_type;
  using typename map::mapped_type;
  using typename map::size_type;
  using typename map::value_type;
  using options = durable_options;

  // Opening and closing ---------------------------------------------------------------------------------------------

  /// A map that is not open.
  durable_map() noexcept = default;

  /// A new file, and its journal. The file appears under its name only when it is complete; an existing one is never
  /// replaced, and where this throws there is none. It is on the disk when this returns, as an empty map.
  /// Errors: errc::exists (also where a journal of that name is left), not_found (its directory), full, read_only,
  /// bad_options, or the system's.
  static durable_map create(const std::filesystem::path& path, const options& how = {}) {
    return durable_map(durable_arena::create(path, detail::stored_type_of<T>(), how), how);
  }
  /// An existing file, at its last commit. Slots that were reserved at that commit are given back, which is a commit of
  /// its own.
  /// Errors: errc::not_found, not_an_arena, damaged (the arena, its journal, or the two do not belong together),
  /// newer_format, type_mismatch, wrong_kind, in_use, full, or the system's.
  static durable_map open(const std::filesystem::path& path, const options& how = {}) {
    return durable_map(durable_arena::open(path, detail::stored_type_of<T>(), how, arena_access::read_write), how);
  }
  /// The file if there is one, else a new one. Two processes may do this at once.
  static durable_map open_or_create(const std::filesystem::path& path, const options& how = {}) {
    for (;;) {
      try {
        return open(path, how);
      } catch (const error& e) {
        if (e.code() != errc::not_found) throw;
      }
      try {
        return create(path, how);
      } catch (const error& e) {
        // Else somebody was faster: open theirs. But a journal alone is nobody's map.
        std::error_code unseen;
        if (e.code() != errc::exists || !std::filesystem::exists(path, unseen)) throw;
      }
    }
  }
  /// To look only, at the last whole commit, also beside a process that writes; `refresh` moves on. Never changes a file and
  /// works without write permission. Writing functions throw errc::read_only; storing through a `T&` is a segmentation
  /// fault. While it is open the writer keeps its journal from the commit on that is seen here: refresh, or close, now and
  /// then.
  static durable_map open_read_only(const std::filesystem::path& path, const options& how = {}) {
    return durable_map(durable_arena::open(path, detail::stored_type_of<T>(), how, arena_access::read_only), how);
  }

  /// In an arena that is open already: on a storage of one's own (arena/storage.hpp), as tests of lost power need.
  /// Requires: it was opened for this T.
  static durable_map attach(std::unique_ptr<durable_arena> opened, const options& how = {}) {
    return durable_map(std::move(opened), how);
  }

  /// The same, without exceptions for what concerns the file: on failure the code says why, and the map is not open.
  static durable_map create(const std::filesystem::path& path, std::error_code& code) {
    return without_throwing(code, [&] { return create(path); });
  }
  static durable_map create(const std::filesystem::path& path, const options& how, std::error_code& code) {
    return without_throwing(code, [&] { return create(path, how); });
  }
  static durable_map open(const std::filesystem::path& path, std::error_code& code) {
    return without_throwing(code, [&] { return open(path); });
  }
  static durable_map open(const std::filesystem::path& path, const options& how, std::error_code& code) {
    return without_throwing(code, [&] { return open(path, how); });
  }
  static durable_map open_or_create(const std::filesystem::path& path, std::error_code& code) {
    return without_throwing(code, [&] { return open_or_create(path); });
  }
  static durable_map open_or_create(const std::filesystem::path& path, const options& how, std::error_code& code) {
    return without_throwing(code, [&] { return open_or_create(path, how); });
  }
  static durable_map open_read_only(const std::filesystem::path& path, std::error_code& code) {
    return without_throwing(code, [&] { return open_read_only(path); });
  }
  static durable_map open_read_only(const std::filesystem::path& path, const options& how, std::error_code& code) {
    return without_throwing(code, [&] { return open_read_only(path, how); });
  }

  durable_map(durable_map&& other) noexcept
      : detail::durable_holder(std::move(other)),
        map(std::move(static_cast<map&>(other))),
        writable_(std::exchange(other.writable_, false)),
        recovery_(std::exchange(other.recovery_, {})) {}
  durable_map& operator=(durable_map&& other) noexcept {
    durable_map moved(std::move(other));
    swap(moved);
    return *this;
  }
  durable_map(const durable_map&) = delete;
  durable_map& operator=(const durable_map&) = delete;

  /// Closes, as a kill would where that fails: what was committed is safe either way. What was not committed is gone.
  ~durable_map() {
    std::error_code unseen;
    close(unseen);
  }

  void swap(durable_map& other) noexcept {
    std::swap(arena_, other.arena_);
    map::swap(other);
    std::swap(writable_, other.writable_);
    std::swap(recovery_, other.recovery_);
  }
  friend void swap(durable_map& a, durable_map& b) noexcept { a.swap(b); }

  bool is_open() const noexcept { return arena_ != nullptr; }
  bool is_read_only() const noexcept { return is_open() && !writable_; }
  /// The file. Empty where the map is not open.
  std::filesystem::path path() const { return is_open() ? arena_->path() : std::filesystem::path(); }
  /// What opening found and did.
  const recovery_report& recovery() const noexcept { return recovery_; }

  /// Lets go of the files. What was not committed is gone, and handles are void. Everything that was committed is brought
  /// into the arena, which is marked as closed, and the journal is removed; where a process that has it open read-only
  /// still needs them as they are, they stay so, which is as safe. Closing what is not open does nothing. The map is not
  /// open afterwards, also where this throws. Errors: the system's; errc::poisoned after a failed write.
  void close() {
    if (!is_open()) return;
    const std::unique_ptr<durable_arena> closing = std::move(arena_);
    const bool was_writable = std::exchange(writable_, false);
    map closed(std::move(static_cast<map&>(*this)));
    if (!was_writable || !closing->is_ours()) return;
    if (!closing->is_poisoned()) {
      if (closing->has_changes()) count_anew(closed, closing->rollback());
      if (closed.reserved_count() != 0) {
        closed.release_reserved();
        closing->commit(sync::now);
      } else if (closing->has_changes()) {
        closing->commit(sync::now);  // keys that were given out and taken back stay so after a clean close
      }
    }
    closing->close();
  }
  void close(std::error_code& code) noexcept {
    try {
      without_throwing(code, [&] { close(); });
    } catch (...) {  // what is thrown while an error's text is put together
      code = std::make_error_code(std::errc::not_enough_memory);
    }
  }

  // Transactions ----------------------------------------------------------------------------------------------------

  /// Makes everything since the last commit last. When it returns it is on the disk; with sync::later it is safe from
  /// `kill -9` alone, until the next commit that waits, which takes it along. Where nothing changed, nothing is written.
  /// Returns the commit's number; they ascend by one. Cost: one write and one flush of what changed (docs/DURABILITY.md);
  /// now and then a share of bringing the journal into the arena. Handles and references stay good; see above for what a
  /// reference is worth. Errors: errc::full, and then it is as if it had not been called; the system's, and then it is
  /// unknown whether the commit will be there after a crash, and the map is poisoned.
  std::uint64_t commit(sync how = sync::now) {
    [[maybe_unused]] const changing call = writable_map();
    return arena_->commit(how);
  }
  std::uint64_t commit(sync how, std::error_code& code) {
    return without_throwing(code, [&] { return commit(how); });
  }
  std::uint64_t commit(std::error_code& code) { return commit(sync::now, code); }

  /// Takes back everything since the last commit. Keys and handles that were given out since then never become valid, not
  /// even by later inserts; values are what they were, where they were. Cost: proportional to what had changed.
  void rollback() {
    [[maybe_unused]] const changing call = writable_map();
    count_anew(*this, arena_->rollback());
  }

  /// Brings everything that was committed into the arena file and begins the journal anew: opening after a crash then has
  /// nothing to replay. Happens by itself, a little with each commit. Uncommitted changes are not touched by it, nor
  /// allowed. Returns false where a process that reads still needs the arena as it is. Errors: errc::bad_options where
  /// there are uncommitted changes; the system's, and then the map is poisoned.
  bool checkpoint() {
    [[maybe_unused]] const changing call = writable_map();
    if (arena_->has_changes())
      throw error(errc::bad_options, arena_->path(),
                  "there are changes that were not committed. Commit them, or roll them back, before a checkpoint");
    return arena_->checkpoint();
  }

  /// The number of the commit this map is at, with what was changed since on top. 0: nothing was ever committed.
  std::uint64_t last_commit() const noexcept { return is_open() ? arena_->last_commit() : 0; }

  /// Of a map opened read-only: moves on to the newest whole commit. Returns whether there was a newer one. References stay
  /// valid and show the new values; iterators end up somewhere. Cost: proportional to what was committed since.
  bool refresh() {
    if (!is_open()) detail::refuse_writing(nullptr);
    return arena_->refresh();
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

  // Changing: as deferred_map; errc::read_only, errc::poisoned, or errc::bad_options if not open --

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
  template <class F>
  size_type retain(F keep) {
    return writable_map()->retain(std::move(keep));
  }
  auto drain() { return writable_map()->drain(); }
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
  /// Gives vacant slots at the end up; the file becomes shorter when the map is closed.
  void shrink_to_fit() { writable_map()->shrink_to_fit(); }
  size_type release_reserved() { return writable_map()->release_reserved(); }

  /// Changes a value wholly or not at all: `change(T&)` works on a copy, which then takes the value's place. False where the
  /// key is stale, also if `change` made it so. If `change` throws, nothing has changed.
  template <class F>
  bool update(Key k, F change) {
    [[maybe_unused]] const changing call = writable_map();
    const T* place = std::as_const(*this).get(k);
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
  explicit durable_map(std::unique_ptr<durable_arena> opened, const options& how)
      : detail::durable_holder{std::move(opened)},
        map(basic_arena_allocator<T, durable_arena>(*arena_)),
        writable_(arena_->writable()) {
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

  /// The map, for the length of one call that changes it.
  class changing {
   public:
    explicit changing(durable_map& of) noexcept : map_(&of), call_(of.thread_mark_, *of.arena_) {}
    map* operator->() const noexcept { return map_; }

   private:
    map* map_;
    [[no_unique_address]] detail::writing_call call_;
  };
  changing writable_map() {
    if (!writable_) [[unlikely]]
      detail::refuse_writing(is_open() ? &arena_->path() : nullptr);
    if (arena_->is_poisoned()) [[unlikely]]
      arena_->require_usable();
    return changing(*this);
  }

  bool replace(Key k, const T& value) {
    T* place = map::get(k);
    if (place == nullptr) return false;
    std::memcpy(static_cast<void*>(place), std::addressof(value), sizeof(T));
    return true;
  }

  static void count_anew(map& in, bool needed) {
    if (needed) in.count_anew();
  }

  void settle(const options& how) {
    const replay_report& found = arena_->found();
    recovery_.commits_replayed = found.commits;
    recovery_.journal_bytes = found.bytes;
    // A journal can be whole beside an arena that is not: whoever asks for salvage asks for that too.
    const bool salvaged = found.salvaged || (how.salvage && writable_ && !map::verify().empty());
    if (!found.was_closed || salvaged) {
      recovery_.outcome = salvaged ? recovery_outcome::salvaged : recovery_outcome::replayed;
      recovery_.killed_pid = arena_->last_owner_pid();
      recovery_.killed_program = arena_->last_owner_program();
    }
    if (how.verify && !salvaged)
      if (const std::string fault = map::verify(); !fault.empty()) detail::refuse_unsound(arena_->path(), fault);
    if (!writable_) return;
    if (salvaged) {
      const recovery_counts counts = map::recover(true);
      recovery_.slots_examined = counts.slots_examined;
      recovery_.reserved_given_back = counts.reserved_given_back;
      recovery_.impossible_mended = counts.impossible;
    } else if (map::reserved_count() != 0) {
      recovery_.reserved_given_back = static_cast<std::uint32_t>(map::release_reserved());
      arena_->commit(sync::later);  // if it is lost, the next to open the map does it
    }
    if (recovery_.outcome != recovery_outcome::clean) detail::record(arena_->control(), recovery_);
    if (salvaged) {
      arena_->commit(sync::now);
      arena_->checkpoint();
    }
  }

  bool writable_ = false;
  detail::thread_mark thread_mark_;
  recovery_report recovery_;
};

}  // namespace dm
