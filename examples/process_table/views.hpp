// What a process table looks like: texts made of one look at the map, which writes nothing and waits for nobody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "process.hpp"
#include "sampler.hpp"

namespace process_table {

/// All values, copied, and who keeps them up to date.
struct look {
  std::int64_t taken_unix_ns = 0;
  std::vector<std::pair<dm::key, process>> rows;
  std::optional<sampler_mark> sampler;  // the living one; else one that was killed; nothing where it has stopped
};
look look_at(const process_map& map);

enum class order { cpu, memory };

struct top_options {
  std::size_t rows_max = 20;
  order by = order::cpu;
};

/// The table of the processes that use most. `before`: an earlier look, to tell how fast things change.
std::string top_text(const look& now, const look* before, const top_options& how);

/// All processes, each below its parent, by the parent keys in the values.
std::string tree_text(const look& now);

/// One line on one process: what `watch` compares, and prints where it has changed.
std::string watch_text(const process& p);

/// "sampled 0.1 s ago by process 17", or what has become of the sampler.
std::string news_text(const look& now);

}  // namespace process_table
