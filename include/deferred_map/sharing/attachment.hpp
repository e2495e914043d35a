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
  /// copies of a value, so who finds none free waits for that long.
  class lease {
   public:
    explicit lease(attachment& of) noexcept : of_(of), bit_(of.take_lease()) {}
    lease(const lease&) = delete;
    lease& operator=(const lease&) = delete;
    ~lease() { of_.free_leases_.fetch_or(1u << bit_, std::memory_order_release); }

    std::uint32_t number() const noexcept { return of_.arena_->attachment() * leases_per_attachment + bit_; }

   private:
    attachment& of_;
    std::uint32_t bit_;
  };

  /// Errors: the system's.
  std::uint32_t reap();

  /// Gives back what this process owns (handles are void afterwards) and detaches. In a forked child: only lets go.
  /// Requires: no other thread uses the map, now or later. Errors: as shared_arena::detach.
  void close();

  [[noreturn]] static void refuse_writing(const attachment* open);

 private:
  explicit attachment(std::unique_ptr<shared_arena> arena);
  std::uint32_t take_lease() noexcept;

  std::unique_ptr<shared_arena> arena_;
  operations on_;
  std::uint64_t identity_;
  std::shared_ptr<thread_parts> parts_;
  // In this process alone: which scratch area a thread has is nobody else's business.
  std::atomic<std::uint32_t> free_leases_{(1u << leases_per_attachment) - 1};
};

}  // namespace dm::sharing
