#include "deferred_map/sharing/thread_caches.hpp"

#include <algorithm>

#include "posix_file.hpp"

namespace dm::sharing {
namespace {

/// What a thread has to give back when it ends.
struct my_parts {
  struct one {
    std::uint64_t map_identity;
    std::weak_ptr<thread_parts> of;
    thread_part* part;
  };
  std::vector<one> all;

  ~my_parts();
};

// What is left of a thread whose `my_parts` is gone: it ends, but destructors may still use maps.
constinit thread_local bool ending = false;
thread_local my_parts mine;

my_parts::~my_parts() {
  ending = true;
  std::fill(std::begin(recent_thread_parts), std::end(recent_thread_parts), thread_part_entry{});
  for (const one& each : all)
    if (const auto of = each.of.lock()) of->give_back(each.part);
}

}  // namespace

thread_parts::thread_parts(const operations& on, std::uint32_t cached_max)
    : on_(on), cached_max_(cached_max), made_by_pid_(posix::process_id()) {}

thread_part* thread_parts::take() {
  const std::lock_guard one_at_a_time(mutex_);
  if (!unused_.empty()) {
    thread_part* const part = unused_.back();
    unused_.pop_back();
    return part;
  }
  unused_.reserve(all_.size() + 1);  // so that `give_back` never allocates
  all_.push_back(std::make_unique<thread_part>());
  thread_part* const part = all_.back().get();
  part->cache.limit = cached_max_;
  part->cache.cursor = on_.first_cursor(static_cast<std::uint32_t>(all_.size() - 1));
  return part;
}

void thread_parts::give_back(thread_part* part) noexcept {
  // A child has neither the memory nor, perhaps, a mutex that anybody will unlock.
  if (made_by_pid_ != posix::process_id()) return;
  const std::lock_guard one_at_a_time(mutex_);
  if (closed_) return;
  on_.give_back(part->cache, true);
  unused_.push_back(part);
}

std::int64_t thread_parts::close() noexcept {
  const std::lock_guard one_at_a_time(mutex_);
  closed_ = true;
  std::int64_t held = 0;
  for (const auto& part : all_) {
    on_.give_back(part->cache, true);
    held += part->held;
  }
  return held;
}

thread_part& find_thread_part(std::uint64_t map_identity, const std::shared_ptr<thread_parts>& parts) {
  thread_part* part = nullptr;
  if (!ending) {
    std::erase_if(mine.all, [](const my_parts::one& each) { return each.of.expired(); });
    for (const my_parts::one& each : mine.all)
      if (each.map_identity == map_identity) part = each.part;
    if (part == nullptr) {
      mine.all.reserve(mine.all.size() + 1);
      part = parts->take();
      mine.all.push_back({map_identity, parts, part});
    }
  } else {
    part = parts->take();  // closing the map gives it back
  }
  recent_thread_parts[map_identity % thread_part_entries] = {map_identity, part};
  return *part;
}

}  // namespace dm::sharing
