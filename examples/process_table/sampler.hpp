// Keeps a process table up to date. All it knows between two samples is in the map, so one that was killed is replaced by
// starting another: the same processes keep the same keys.
//
// Who is the sampler is in the map too: it marks the value of its own process with its owner_id(), and `owners()` tells,
// by a lock that the kernel drops, whether that owner lives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "proc.hpp"
#include "process.hpp"

namespace process_table {

struct sample_counts {
  std::size_t started = 0;  // seen for the first time
  std::size_t updated = 0;
  std::size_t ended = 0;
};

/// A value that bears a sampler's mark.
struct sampler_mark {
  dm::key key;
  process value;
  bool alive = false;
};

/// Those in the map: of the sampler at work, or of one that was killed and has no successor yet.
std::vector<sampler_mark> marks_of_samplers(const process_map& map);

class sampler {
 public:
  /// Opens the table, or makes it, and becomes its sampler. Requires: no other in this process.
  /// Errors: table_error where another one lives; dm::error.
  explicit sampler(const std::filesystem::path& where);
  /// Stops: what was sampled last stays to be looked at. Killed, it cannot, and need not.
  ~sampler();
  sampler(const sampler&) = delete;
  sampler& operator=(const sampler&) = delete;

  /// Brings the table in line with the processes that there are. Errors: as `read`'s; dm::error where the table is full,
  /// which then is as it was.
  sample_counts sample(const std::function<std::vector<process>()>& read = read_processes);

  process_map& map() noexcept { return map_; }
  /// The pid of the sampler that was killed before this one came; 0 where none was.
  std::uint32_t killed_pid() const noexcept { return killed_pid_; }

 private:
  void become_the_sampler();
  void mark_own_process();
  void remove_mark(dm::key from);

  process_map map_;
  dm::key own_{};
  std::uint32_t killed_pid_ = 0;
};

}  // namespace process_table
