// How to make or open a durable map. The defaults are right for a first use.
#pragma once

#include <cstdint>

namespace dm {

/// What a commit waits for.
enum class sync {
  now,    ///< until it is on the disk: it survives power loss
  later,  ///< for nothing: it survives `kill -9`, and power loss from the next commit on that waits
};

/// Options of durable_map's `create`, `open`, `open_or_create` and `open_read_only`; for designated initialisers.
struct durable_options {
  /// The most slots there can ever be; fixed at creation. Costs address space, and a sparse bit a slot in the
  /// file, but no memory. 0: as many as fit into 64 GiB of address space, at most 2^32 - 1.
  std::uint64_t max_slots = 0;
  /// Slots to have real disk blocks for from the start. Used at creation.
  std::uint64_t reserve_slots = 0;
  /// Access rights of a new file and its journal, less the umask.
  std::uint32_t permissions = 0600;
  /// Open an arena whose journal is missing or damaged, and keep what can be kept: everything up to the last commit that
  /// can be read, or, without any journal, whatever of the arena had reached the disk, which may be of different moments.
  /// Also mends counts, index and versions that are damaged: linear in slots.
  bool salvage = false;
  /// Check every version and the whole index before use: linear in slots, where opening otherwise is not.
  bool verify = false;
  /// From how many bytes of journal on what it holds is brought into the arena, while commits go on in fresh space. The
  /// file becomes about twice as long. 0: as many bytes as the slots have, but at least 8 MiB and at most 128: a page that
  /// is changed a hundred times is then written to the arena once.
  std::uint64_t journal_bytes = 0;
};

}  // namespace dm
