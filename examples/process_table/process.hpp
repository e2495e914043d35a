// What a slot of the process table holds: one process of this machine, for as long as it lives.
//
// Invariants, which every reader may rely on, whoever was killed and when:
//  1. A key names one process (boot, pid and start) from its first sample to the first sample without it, and no other
//     process ever after.
//  2. `parent` names the process whose pid is `parent_pid`, or nothing: a parent that is not in the table (any more).
//  3. At most one value names a sampler that lives, but for the moment in which several start at once.
#pragma once

#include <boost/describe/class.hpp>
#include <boost/describe/enum.hpp>
#include <cstdint>
#include <stdexcept>
#include <string_view>

#include "deferred_map/key.hpp"
#include "deferred_map/shared_map.hpp"

namespace process_table {

/// The letters of /proc/PID/stat.
enum class process_state : std::uint32_t {
  unknown = 0,
  running = 'R',
  sleeping = 'S',
  waiting = 'D',
  stopped = 'T',
  traced = 't',
  zombie = 'Z',
  idle = 'I',
  dead = 'X',
};
BOOST_DESCRIBE_ENUM(process_state, unknown, running, sleeping, waiting, stopped, traced, zombie, idle, dead)

struct process {
  std::uint64_t boot = 0;  // pids and ticks begin again when the machine does, and a table in a file may outlive that
  std::uint64_t start_ticks = 0;
  std::uint32_t pid = 0;
  std::uint32_t parent_pid = 0;
  dm::key parent{};
  std::uint32_t uid = 0;
  process_state state = process_state::unknown;
  std::uint64_t user_ticks = 0;
  std::uint64_t system_ticks = 0;
  std::uint64_t resident_bytes = 0;
  std::int64_t sampled_unix_ns = 0;
  std::uint32_t threads = 0;
  std::uint32_t samples = 0;     // how often this process has been sampled
  float cpu_percent = 0;         // of one processor, over the last second or so
  std::int32_t samples_as = -1;  // the sampler's own process: its owner_id() in the map
  char name[16] = {};            // padded with zeros, as the next
  char command[96] = {};         // the command line as far as it fits; empty for threads of the kernel
};
BOOST_DESCRIBE_STRUCT(process, (),
                      (boot, start_ticks, pid, parent_pid, parent, uid, state, user_ticks, system_ticks, resident_bytes,
                       sampled_unix_ns, threads, samples, cpu_percent, samples_as, name, command))

static_assert(sizeof(process) == 200);  // with the word before it a slot of 208

using process_map = dm::shared_map<process>;

/// More processes than a machine has unless it was told otherwise; only the slots that are used cost memory.
inline constexpr std::uint64_t processes_max = 1u << 17;

template <std::size_t Size>
std::string_view text(const char (&padded)[Size]) {
  const std::string_view all(padded, Size);
  return all.substr(0, all.find('\0'));
}

/// What went wrong, and what to do, in words for the user.
struct table_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace process_table

template <>
struct dm::schema_traits<process_table::process> {
  static constexpr const char* name = "process_table::process";
  static constexpr std::uint32_t version = 1;
};
