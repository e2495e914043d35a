// Who has an arena open, or died with it, and what of it is theirs.
//
// Whether somebody is alive is told by the kernel's locks alone: a pid may be that of another process by now, or of another
// namespace. Asks for locks and takes none, so nobody notices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "deferred_map/inspect/arena_file.hpp"

namespace dm::inspect {

enum class owner_state : std::uint8_t {
  alive,
  dead,     ///< and what it holds has not been given back yet
  closed,   ///< had it last, and closed it (files of one process)
  unknown,  ///< the file system does not tell
};

const char* to_string(owner_state state) noexcept;

/// One open map: of a shared one an entry in its table, of others whoever opened it last for writing.
struct owner {
  std::uint32_t id = 0;   ///< its number in a shared map's table; else 0
  std::uint32_t pid = 0;  ///< as the process itself sees it
  std::string program;    ///< as it is in the file: may need escaping
  std::int64_t since_unix_ns = 0;
  owner_state state = owner_state::unknown;
  std::uint64_t reserved = 0;  ///< slots that handles of it wait to fill
  std::uint64_t cached = 0;    ///< slots that its threads keep ready
  std::uint64_t updating = 0;  ///< updates under way: values that it is copying into their slots
};

struct owner_report {
  std::vector<owner> owners;  ///< in the order of their numbers
  /// When somebody last opened it for writing, whether or not that is still open; 0: never since it was made.
  std::int64_t last_opened_unix_ns = 0;
  /// Slots that name an owner that there is not: damage. The first few.
  std::vector<std::uint32_t> nobodys;
  std::uint64_t nobodys_total = 0;
  bool table_is_readable = true;

  std::size_t count(owner_state state) const noexcept;
};

enum class owned_slots : std::uint8_t { counted, not_counted };

/// Requires: arena.has_layout() and arena.control(). Cost: a question to the kernel for each owner, and where slots are
/// counted, reads every slot once. Errors: none.
owner_report find_owners(const arena_file& arena, owned_slots slots = owned_slots::counted);

}  // namespace dm::inspect
