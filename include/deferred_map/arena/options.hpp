// How to make or open an arena. The defaults are right for a first use.
#pragma once

#include <cstdint>

namespace dm {

/// Options of `create`, `open`, `open_or_create` and `open_read_only`; for designated initialisers.
struct arena_options {
  /// The most slots there can ever be; fixed at creation. Costs address space, and a sparse bit a slot in the
  /// file, but no memory. 0: as many as fit into 64 GiB of address space, at most 2^32 - 1.
  std::uint64_t max_slots = 0;
  /// Slots to have real disk blocks for from the start. Used at creation.
  std::uint64_t reserve_slots = 0;
  /// Access rights of a new file, less the umask.
  std::uint32_t permissions = 0600;
  /// Open a file that was open when the machine stopped, and rebuild what can be rebuilt. Its parts may be of
  /// different moments: values may be old or half-written, removed values back, keys given out last unknown.
  bool salvage = false;
  /// Check every version and the whole index before use: linear in slots, where opening otherwise is not.
  bool verify = false;
  /// Closing waits until everything is on the disk, and only then marks the file so that it can be opened
  /// after a restart of the machine. Without it closing is quick, and the file good until the machine stops.
  bool sync_on_close = true;
};

}  // namespace dm
