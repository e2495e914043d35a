// Each thread's own part of a shared map: the slots it has put by, and how many handles it has given out.
//
// Invariants:
//  1. A part is used by one thread at a time; its slots are owned by the attachment, so other threads and processes
//     leave them alone.
//  2. When a thread ends, or the map is closed, whatever comes first, the slots of its part become vacant.
//
// Cost: a thread finds its part by comparing one number, where the map is among the last few it used.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "deferred_map/sharing/atomics.hpp"
#include "deferred_map/sharing/slots.hpp"

namespace dm::sharing {

struct thread_part {
  slot_cache cache;
  // Handles given out less handles spent, by this thread. A handle may be spent by another thread than took it, so one
  // part's number means nothing; the sum of all is how many are out.
  std::int64_t held = 0;
};

/// All parts of one map.
class thread_parts {
 public:
  using operations = slot_operations<processor_atomics>;

  thread_parts(const operations& on, std::uint32_t cached_max);

  /// A part for a thread that had none. Thread-safe. Throws std::bad_alloc.
  thread_part* take();
  /// By a thread that ends: its slots become vacant, its part another's. Does nothing once closed, or in a forked child.
  void give_back(thread_part* part) noexcept;
  /// All slots become vacant. Returns how many handles are out. Requires: no thread uses its part any more.
  std::int64_t close() noexcept;

 private:
  std::mutex mutex_;
  operations on_;
  std::uint32_t cached_max_;
  std::uint32_t made_by_pid_;
  bool closed_ = false;
  std::vector<std::unique_ptr<thread_part>> all_;
  std::vector<thread_part*> unused_;
};

/// Finds this thread's part of the map with this identity, or takes one. Throws std::bad_alloc.
thread_part& find_thread_part(std::uint64_t map_identity, const std::shared_ptr<thread_parts>& parts);

struct thread_part_entry {
  std::uint64_t map_identity;  // 0: nothing; identities never come back, so an entry of a closed map is found by nobody
  thread_part* part;
};
inline constexpr std::size_t thread_part_entries = 4;
// constinit and trivial, so that access is an address and no call.
constinit inline thread_local thread_part_entry recent_thread_parts[thread_part_entries] = {};

inline thread_part& this_thread_part(std::uint64_t map_identity, const std::shared_ptr<thread_parts>& parts) {
  const thread_part_entry& recent = recent_thread_parts[map_identity % thread_part_entries];
  if (recent.map_identity == map_identity) [[likely]]
    return *recent.part;
  return find_thread_part(map_identity, parts);
}

}  // namespace dm::sharing
