// A whole look at a shared arena's slots, while nobody is attached to it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "deferred_map/sharing/region.hpp"

namespace dm::sharing {

struct rebuild_counts {
  std::uint64_t slots_examined = 0;
  std::uint64_t reserved_given_back = 0;
  std::uint64_t updates_finished = 0;
  std::uint64_t impossible_mended = 0;
};

/// Makes every slot vacant, occupied or retired, whatever was found, and the bitmap and its hints accordingly: what was
/// reserved becomes vacant in its next generation; what was updating is finished from its scratch area where that is
/// about this very update, and keeps the value it has where not; an impossible word becomes vacant in its next
/// generation. Requires: nobody else changes anything. Can be killed anywhere and done again. Cost: all words.
rebuild_counts rebuild(const region& memory) noexcept;

/// What is wrong with words and bitmap, or nothing. Requires: as `rebuild`, and all that died has been reaped.
std::optional<std::string> first_fault(const region& memory);

}  // namespace dm::sharing
