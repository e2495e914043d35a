// What watch shows of an arena: as a screen, as lines, as records.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "output.hpp"
#include "terminal.hpp"

namespace tool {

/// An arena at one moment, and what happened since the moment before.
struct watched_moment {
  std::int64_t unix_ns = 0;
  std::string path;  ///< safe to print, as all text here
  std::string kind;
  std::string type_name;
  std::string left_text;
  std::uint64_t slots_max = 0;
  dm::inspect::slot_counts counts;  ///< of all slots; estimated where `happened` is
  dm::inspect::owner_report owners;
  bool is_shared = false;

  /// Nothing at the first moment, and where the file is another.
  std::optional<dm::inspect::activity> happened;
  double seconds = 0;  ///< since the moment before
};

/// Operations of a kind in a second.
struct watched_rates {
  double inserts = 0;
  double removes = 0;
  std::optional<double> updates;
};
/// Requires: moment.happened.
watched_rates rates_of(const watched_moment& moment);

/// The regions in which most words changed, the most first; none in which none did.
std::vector<dm::inspect::region_activity> hottest(const dm::inspect::activity& happened, std::size_t count);

struct screen_size {
  std::size_t columns = 80;
  std::size_t rows = 24;
};

/// A whole screen, in lines that fit.
std::string watch_screen(const watched_moment& moment, const std::deque<watched_rates>& history,
                         double interval_seconds, screen_size size, const dm::inspect::picture_style& style);

std::string watch_line_head();
/// Requires: moment.happened.
std::string watch_line(const watched_moment& moment);
json watch_record(const watched_moment& moment);

}  // namespace tool
