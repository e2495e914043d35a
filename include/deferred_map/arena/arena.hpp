// An arena: one file (or segment), mapped once for all it can ever become, that holds the slots of one map.
//
// It knows sizes, alignment and schema of the values, never their type. It makes, opens, checks, maps, grows,
// syncs and closes the file; what an interrupted operation left behind is the map's to mend (maps/mapped_map.hpp).
//
// Invariants:
//  1. The mapping never moves while the arena is open: addresses in it are stable for its life.
//  2. Every byte of the header, schema, control block and scratch area, of the slots below `capacity` and of the
//     index words that stand for them has a real disk block before it is stored to. So no store ends in
//     SIGBUS for want of room; a full disk is an exception from `expand`.
//  3. An exclusive lock is held while it may be written to, a shared one while it is read. The kernel drops them.
//  4. `closed` and `synced` in the control block are 0 from before the first change until `close` (see `begin_use`).
//
// Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "deferred_map/arena/options.hpp"
#include "deferred_map/error.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/format/schema.hpp"

namespace dm {

/// What an arena is told of the values it is to hold.
struct stored_type {
  slot_layout slot;
  schema description;
  std::uint32_t schema_version = 0;
};

enum class arena_access {
  read_write,
  read_only,
  /// As read_only, while nobody else has it open: for who means to put another arena in its place (`publish_over`).
  read_to_replace,
};

/// How the file was found.
enum class left_as {
  closed,           ///< everything is in order
  killed,           ///< its user died while this machine was running: the stores that were executed are all there
  machine_stopped,  ///< the machine stopped while it was open: its parts may be of different moments
};

class arena {
 public:
  /// Makes a new arena that appears under its name only when it is complete, and opens it. An existing file
  /// is never replaced. Errors: errc::exists, not_found (the directory), full, read_only, bad_options, the system's.
  static std::unique_ptr<arena> create(const std::filesystem::path& path, arena_kind kind, const stored_type& type,
                                       const arena_options& options);

  /// Opens an arena after checking everything it relies on. Nothing in the file is changed until `begin_use`.
  /// Errors: errc::not_found, not_an_arena, damaged, newer_format, wrong_kind, type_mismatch, in_use,
  /// unclean_after_reboot (unless options.salvage), full, the system's.
  /// Blocks: fills holes, as copies have that leave out zeros, of at most 256 MiB or as much as the file has. Slots past
  /// that are damage; room for more of them is given up.
  static std::unique_ptr<arena> open(const std::filesystem::path& path, arena_kind kind, const stored_type& type,
                                     const arena_options& options, arena_access access);

  /// As `create`, but without a name yet: nobody sees it, and it is gone if this process dies or lets go of it.
  static std::unique_ptr<arena> create_unnamed(const std::filesystem::path& path, arena_kind kind,
                                               const stored_type& type, const arena_options& options);
  /// Marks a new arena as closed and synced, waits until it is on the disk, and only then gives it its name.
  /// Requires: it is from `create_unnamed`, and no operation is under way in it.
  /// Errors: errc::exists, the system's. It then has no name, unless it was the directory that could not be synced.
  void publish();
  /// The same, in the place of an arena of that name: whatever happens, the name leads to the one or to the other,
  /// whole.
  /// Requires: `replaced` was opened by that path to be replaced, and still is open.
  /// Errors: errc::not_found where the name no longer leads to `replaced`, the system's.
  void publish_over(const arena& replaced);

  /// The most slots of this layout there can ever be where `max_slots` is not given.
  static std::uint64_t default_slots_max(const slot_layout& slot) noexcept;
  /// Gives a new file the owner and group that `other` has, as far as this process may, and these access rights, or
  /// those that `other` has. Where it may not give the group, the group it has instead gets no rights.
  void take_rights_of(const arena& other, std::optional<std::uint32_t> permissions);

  arena(const arena&) = delete;
  arena& operator=(const arena&) = delete;
  /// Lets go of the file as it is, as a process that is killed does.
  ~arena();

  const std::filesystem::path& path() const noexcept;
  const arena_header& header() const noexcept;
  bool writable() const noexcept;
  left_as found() const noexcept;
  /// Of the process that had it open when it was killed.
  std::uint32_t last_owner_pid() const noexcept;
  std::string last_owner_program() const;

  control_block& control() noexcept;
  std::byte* slots() noexcept;
  std::uint64_t* index_words() noexcept;
  /// Room for one value.
  std::byte* scratch() noexcept;

  /// Says in the file that it is being changed: boot id, owner; `closed` and `synced` cleared, the clearing
  /// on disk. Must return before the first change. Can be killed at any instruction: each store leaves marks
  /// that tell the truth.
  void begin_use();

  /// Returns when the disk has the marks that memory has. For whoever changes a file that bears none before `begin_use`:
  /// that `synced` is 0 in memory does not say that its clearing ever reached the disk.
  void sync_marks();

  /// Room for `slots` slots at least, and somewhat more. Errors: errc::full, and then nothing has changed.
  void expand(std::uint64_t slots);
  /// Gives the blocks behind `slots` slots back to the file system.
  void truncate(std::uint64_t slots);
  /// After a stop of the machine: brings capacity and slot count into accord with the file.
  void salvage_bounds();

  /// Returns when everything stored so far is on the disk. Errors: the system's; the arena is then poisoned: the
  /// kernel reports a lost page once, so no later success means anything, and the file is never marked as synced again.
  void sync();
  /// Whether this process opened it, and not one that forked it.
  bool is_ours() const noexcept;
  /// Marks the file as closed, and with `sync_on_close` as synced, and lets go of it. Where the counts do not add up it
  /// makes no mark, so that the next to open it recovers it. In a child that was forked while it was open: only lets go.
  /// Errors: the system's, and errc::poisoned after a failed sync; the file then bears no mark that is not true.
  void close();
  /// Makes a read-only arena's memory unwritable, once its map has settled.
  void protect();

 private:
  struct state;
  explicit arena(std::unique_ptr<state> state) noexcept;
  void settle_on_disk();

  std::unique_ptr<state> state_;
};

}  // namespace dm
