// A shared arena: one file (or segment) that many processes have mapped at once. Who they are, which of them live, how it
// grows; what happens to its slots is not its business (slots.hpp).
//
// Invariants:
//  1. An attachment is alive exactly while somebody holds the lock on its byte. Nothing else is asked: no pid, no clock.
//  2. An entry of the table is `attached` from before any slot names it until after none does: the slots of one that died
//     are given back before its entry is free. So whoever is named by a slot has an entry.
//  3. Every byte that may be stored to has a real disk block: header, control block, table; the scratch areas of every
//     attachment there has been; the slots below `slots_now`, and the index words that stand for them.
//  4. `slots_now` is a multiple of 64, or `slots_max`. So a word of the bitmap, once it is there, has all its slots.
//  5. While anybody is attached, `closed` and `synced` are 0, on the disk too.
//
// Locks are the kernel's, on bytes far behind the end of the file, and belong to the open file description:
//
//    table      whoever attaches, detaches or reaps, for that long
//    growth     whoever makes the file longer, for that long
//    life of n  attachment n, for as long as it is attached
//
// The kernel drops them when their holder dies, in whatever way; so nobody ever waits for the dead. A process that was
// stopped (SIGSTOP) in the middle of attaching, reaping or growing keeps others from doing that until it goes on.
//
// Threads: `grow`, `reap`, `is_alive` and `owners` from any, at once. `detach` and destruction by one, as the last thing.
//
// Forked children share nothing of it: they do not have the memory, and their copy of the descriptor is closed in the
// moment of `fork`, so that the lock goes with the parent. A child that wants the map opens it itself. Only of maps that
// are open read-only a child has a copy that works.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "deferred_map/arena/arena.hpp"
#include "deferred_map/arena/options.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/sharing/rebuild.hpp"
#include "deferred_map/sharing/region.hpp"

namespace dm::sharing {

/// Who is attached, or was and has not been reaped.
struct owner_info {
  std::uint32_t id = 0;
  std::uint32_t pid = 0;  ///< in the pid namespace of the process itself
  std::string program;    ///< its name, at most 15 characters
  std::int64_t attached_unix_ns = 0;
  bool alive = false;
};

/// Gives back all that a dead attachment owns, and finishes what it had begun. It may have been killed half-way through
/// the same and be called again, by somebody else. Must not call back into the arena.
using cleaner = std::function<void(const region& memory, std::uint32_t dead)>;

class shared_arena {
 public:
  static constexpr std::uint32_t no_attachment = attachments_max;

  /// Makes a new arena that appears under its name only when it is complete, and attaches to it. An existing file is
  /// never replaced. `type.slot` is what slot_layout_of gives.
  /// Errors: errc::exists, not_found (the directory), full, read_only, bad_options, the system's.
  static std::unique_ptr<shared_arena> create(const std::filesystem::path& path, const stored_type& type,
                                              const arena_options& how);

  /// Attaches to an arena after checking everything it relies on. Those that died are reaped first, by `clean`, so that
  /// a full table is never one of dead entries. The first to attach after a stop of the machine finds an arena that was
  /// closed, or is refused; with `salvage` it makes of it what can be made.
  /// Errors: errc::not_found, not_an_arena, damaged, newer_format, wrong_kind, type_mismatch, unclean_after_reboot,
  /// read_only, full (128 are attached and alive; or the disk), the system's.
  static std::unique_ptr<shared_arena> open(const std::filesystem::path& path, const stored_type& type,
                                            const arena_options& how, const cleaner& clean);

  /// To look only. Needs no right but to read the file, writes nothing, takes no lock and is no attachment: nobody
  /// notices. Storing to its memory is a segmentation fault. Errors: as `open`, but for full and read_only.
  static std::unique_ptr<shared_arena> open_read_only(const std::filesystem::path& path, const stored_type& type,
                                                      const arena_options& how);

  shared_arena(const shared_arena&) = delete;
  shared_arena& operator=(const shared_arena&) = delete;
  /// Lets go of it as a process that is killed does: what names it is reaped by others.
  ~shared_arena();

  const std::filesystem::path& path() const noexcept;
  const arena_header& header() const noexcept;
  bool writable() const noexcept;
  /// Whether this process opened it, and not one that forked it. If not, nothing may be done but to destroy it.
  bool is_ours() const noexcept;
  /// Where everything lies in this process. References: as long as this lives.
  const region& memory() const noexcept;
  /// Which one we are, or `no_attachment` where it is open read-only.
  std::uint32_t attachment() const noexcept;

  /// How the first to attach found it; `closed` for whoever came to others.
  left_as found() const noexcept;
  /// Whether somebody was attached when we came.
  bool had_company() const noexcept;
  /// How many dead attachments opening reaped.
  std::uint32_t reaped_at_open() const noexcept;
  /// What salvaging did; all 0 where there was none.
  const rebuild_counts& salvaged() const noexcept;

  /// Whether that attachment lives, by the kernel's lock alone. An id that nobody has is dead. Errors: the system's.
  bool is_alive(std::uint32_t attachment) const;
  /// All entries of the table that are in use. Errors: the system's.
  std::vector<owner_info> owners() const;

  /// Slots for at least `slots`, and somewhat more. Returns false where that is more than `slots_max`. Takes the growth
  /// lock, where there are not as many already. Errors: errc::full, and then nothing has changed for anybody; the
  /// system's.
  bool grow(std::uint64_t slots);

  /// Calls `clean` for each attachment that is dead and makes its entry free. Returns how many; 0 without a lock where
  /// nobody is dead. While another process reaps, this waits for it: to return at once would be no answer, since what the
  /// caller wants (a slot, the end of an update) is what the other is about to give. Errors: the system's.
  std::uint32_t reap(const cleaner& clean);
  /// The same, but does nothing where somebody else is attaching, detaching or reaping (and may be stopped in it).
  std::uint32_t try_reap(const cleaner& clean);

  /// Returns when everything stored so far, by anybody, is on the disk. Errors: the system's; the arena is then never
  /// marked as synced again.
  void sync();

  /// Frees the entry and drops the lock. The last to go, where nobody dead is left to be reaped, marks the file as closed,
  /// and with `sync_on_close` as synced, once everything is on the disk. Requires: no slot names us any more. In a
  /// forked child: only lets go. Afterwards nothing may be done but to destroy it, also where this throws.
  /// Errors: the system's, and errc::poisoned after a failed sync; the file then bears no mark that is not true.
  void detach();

 private:
  struct state;
  explicit shared_arena(std::unique_ptr<state> state) noexcept;

  std::unique_ptr<state> state_;
};

}  // namespace dm::sharing
