#include "deferred_map/sharing/attachment.hpp"

#include <atomic>
#include <chrono>
#include <thread>

#include "deferred_map/container/map_identity.hpp"
#include "deferred_map/error.hpp"

namespace dm::sharing {
namespace {

void clean(const region& memory, std::uint32_t dead) { attachment::operations(memory, dead).reap(dead); }

/// How many slots a thread may put by: less where there are few, or the caches of some would be all that others are short
/// of. None below 256 slots, so that small maps are full exactly when they are full.
std::uint32_t cached_max(std::uint64_t slots_max) noexcept {
  return slots_max / 256 < slot_cache::limit_max ? static_cast<std::uint32_t>(slots_max / 256) : slot_cache::limit_max;
}

}  // namespace

attachment::attachment(std::unique_ptr<shared_arena> arena)
    : arena_(std::move(arena)),
      on_(arena_->memory(), arena_->attachment()),
      identity_(detail::next_map_identity()),
      parts_(std::make_shared<thread_parts>(on_, cached_max(arena_->memory().slots_max))),
      first_lease_(arena_->attachment() * leases_per_attachment) {}

std::unique_ptr<attachment> attachment::create(const std::filesystem::path& path, const stored_type& type,
                                               const arena_options& how) {
  return std::unique_ptr<attachment>(new attachment(shared_arena::create(path, type, how)));
}
std::unique_ptr<attachment> attachment::open(const std::filesystem::path& path, const stored_type& type,
                                             const arena_options& how) {
  return std::unique_ptr<attachment>(new attachment(shared_arena::open(path, type, how, clean)));
}
std::unique_ptr<attachment> attachment::open_read_only(const std::filesystem::path& path, const stored_type& type,
                                                       const arena_options& how) {
  return std::unique_ptr<attachment>(new attachment(shared_arena::open_read_only(path, type, how)));
}

void attachment::refill(slot_cache& cache) {
  for (;;) {
    if (on_.fill(cache)) return;
    // Before the file grows: what the dead have is to be had for nothing. But not waited for.
    if (arena_->try_reap(clean) != 0) continue;
    const std::uint64_t slots = on_.slots_now();
    try {
      // Somebody else may be faster, with the growth or with the slots it brings; then it is tried again.
      if (slots < on_.memory().slots_max && arena_->grow(slots + 1)) continue;
    } catch (const error&) {
      if (on_.claim_any(cache)) return;
      throw;
    }
    // Now it is worth waiting for who reaps. And the hints may have misled; the bitmap does not.
    reap();
    if (on_.claim_any(cache)) return;
    throw error(errc::full, arena_->path(),
                "this map is full: it can have " + std::to_string(on_.memory().slots_max) +
                    " slots, as fixed when it was made (max_slots), and all of them have values, belong to handles or "
                    "are kept ready by other threads. Remove values, or make a larger map");
  }
}

void attachment::wait_while_updating(std::uint32_t index, std::uint64_t seen) {
  const std::uint64_t& word_now = on_.memory().word(index);
  const auto is_over = [&] { return processor_atomics::load(word_now, std::memory_order_acquire) != seen; };
  // A copy of a small value takes nanoseconds.
  for (int spin = 0; spin < 128; ++spin) {
    if (is_over()) return;
    processor_atomics::pause();
  }
  // Not asked at once, since that is a system call; and from here on again and again, since an updater may die any time.
  for (int round = 0;; ++round) {
    if (finish_if_dead(index, seen) || is_over()) return;
    if (round < 16)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(round < 64 ? 50 : 1000));
    if (is_over()) return;
  }
}

bool attachment::finish_if_dead(std::uint32_t index, std::uint64_t seen) {
  const std::uint32_t updater = word::updater_of(seen);
  if (arena_->is_alive(updater)) return false;
  if (reap() != 0) return true;
  // Somebody else reaped it, or the word has changed by itself; or it can never change, since nobody is answerable for it.
  // Who reaps finishes the update before the entry is free.
  std::atomic_ref<std::uint32_t> entry(on_.memory().attachments[updater].state);
  if (entry.load(std::memory_order_acquire) == attachment_record::free && on_.word_of(index) == seen)
    throw error(errc::damaged, arena_->path(),
                "this arena is damaged: slot " + std::to_string(index) + " is being updated by attachment " +
                    std::to_string(updater) +
                    ", which does not exist. The value can be read. Restore a copy, or look "
                    "at what is left with dm-inspect check");
  return true;
}

std::uint32_t attachment::take_any_lease() noexcept {
  for (int tries = 1;; ++tries) {
    for (std::uint32_t which = 0; which < leases_per_attachment; ++which)
      if (take_lease(which)) return which;
    if (tries % 64 == 0)
      std::this_thread::yield();
    else
      processor_atomics::pause();
  }
}

std::uint32_t attachment::reap() { return arena_->reap(clean); }

void attachment::close() {
  if (arena_->writable() && arena_->is_ours()) {
    // Handles are rare at this point, and looking for their slots means looking at all.
    if (parts_->close() != 0) on_.reap_own();
  }
  arena_->detach();
}

void attachment::refuse_writing(const attachment* open) {
  if (open == nullptr)
    throw error(errc::bad_options, "", "this map is not open: it was closed or moved from, or never opened");
  throw error(errc::read_only, open->arena().path(), "this map was opened with open_read_only and cannot be changed");
}

}  // namespace dm::sharing
