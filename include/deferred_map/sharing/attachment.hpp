// A shared map as one process has it open, whatever its values are: the arena, its threads' parts, and what happens off
// the fast paths: taking slots when a thread has none, waiting for an updater, reaping, leaving.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "deferred_map/sharing/shared_arena.hpp"
#include "deferred_map/sharing/slots.hpp"
#include "deferred_map/sharing/thread_caches.hpp"

namespace dm::sharing {

class attachment {
 public:
  using operations = slot_operations<processor_atomics>;

  /// Errors: as shared_arena's functions of the same name.
  static std::unique_ptr<attachment> create(const std::filesystem::path& path, const stored_type& type,
                                            const arena_options& how);
  static std::unique_ptr<attachment> open(const std::filesystem::path& path, const stored_type& type,
                                          const arena_options& how);
  static std::unique_ptr<attachment> open_read_only(const std::filesystem::path& path, const stored_type& type,
                                                    const arena_options& how);

  shared_arena& arena() const noexcept { return *arena_; }
  const operations& on() const noexcept { return on_; }
  std::uint64_t identity() const noexcept { return identity_; }
  thread_part& of_this_thread() { return this_thread_part(identity_, parts_); }

  /// Puts slots into an empty cache: what is vacant, what dead processes owned, or new ones, in this order.
  /// Errors: errc::full, the system's (of the file's growth).
  void refill(slot_cache& cache);

  /// Returns when the word of that slot, which was seen to say that it is being updated, says something else. Where the
  /// updater is dead its update is finished. Errors: as `finish_if_dead`.
  void wait_while_updating(std::uint32_t index, std::uint64_t seen);
  /// The same without waiting for the living. False where the updater lives.
  /// Errors: errc::damaged where the word names an updater that there never was; the system's.
  bool finish_if_dead(std::uint32_t index, std::uint64_t seen);

  /// One of the attachment's scratch areas, for a scope. All of its threads share eight; each is held for the length of two
  /// copies of a value, so who finds none free waits for that long. Cost: one locked instruction.
  class lease {
   public:
    explicit lease(attachment& of) noexcept : of_(of), which_(recent_) {
      if (!of_.take_lease(which_)) [[unlikely]]
        recent_ = which_ = of_.take_any_lease();
    }
    lease(const lease&) = delete;
    lease& operator=(const lease&) = delete;
    // release: our stores to the scratch area, for whichever thread has it next.
    ~lease() { of_.leases_[which_].taken.store(false, std::memory_order_release); }

    std::uint32_t number() const noexcept { return of_.first_lease_ + which_; }

   private:
    // The one this thread had last: threads that have found one each leave one another alone.
    constinit static inline thread_local std::uint32_t recent_ = 0;

    attachment& of_;
    std::uint32_t which_;
  };

  /// Errors: the system's.
  std::uint32_t reap();

  /// Gives back what this process owns (handles are void afterwards) and detaches. In a forked child: only lets go.
  /// Requires: no other thread uses the map, now or later. Errors: as shared_arena::detach.
  void close();

  [[noreturn]] static void refuse_writing(const attachment* open);

 private:
  explicit attachment(std::unique_ptr<shared_arena> arena);
  bool take_lease(std::uint32_t which) noexcept {
    std::atomic<bool>& taken = leases_[which].taken;
    // acquire: the last stores to the scratch area, by whichever thread had it, come before ours.
    return !taken.load(std::memory_order_relaxed) && !taken.exchange(true, std::memory_order_acquire);
  }
  std::uint32_t take_any_lease() noexcept;

  std::unique_ptr<shared_arena> arena_;
  operations on_;
  std::uint64_t identity_;
  std::shared_ptr<thread_parts> parts_;
  std::uint32_t first_lease_;
  // In this process alone: which scratch area a thread has is nobody else's business.
  struct alignas(64) lease_state {
    std::atomic<bool> taken = false;
  };
  lease_state leases_[leases_per_attachment];
};

}  // namespace dm::sharing
