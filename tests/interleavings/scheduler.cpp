#include "scheduler.hpp"

#include <xxhash.h>

namespace interleavings {
namespace {

constexpr std::size_t stack_bytes = std::size_t{256} << 10;

std::uint64_t mixed(std::uint64_t hash, std::uint64_t what) noexcept {
  hash ^= what + 0x9e37'79b9'7f4a'7c15u + (hash << 6) + (hash >> 2);
  hash *= 0xff51'afd7'ed55'8ccdu;
  return hash ^ hash >> 33;
}

}  // namespace

explored scheduler::explore(std::size_t locations, const std::function<void()>& begin,
                            const std::vector<program>& threads, const std::vector<bool>& waits_for_death,
                            const std::function<void()>& check, const limits& within) {
  scheduler runs(locations, within);
  for (std::size_t i = 0; i < threads.size(); ++i) {
    runs.fibers_.push_back(std::make_unique<fiber>());
    runs.fibers_.back()->stack = std::make_unique<std::byte[]>(stack_bytes);
  }
  current_ = &runs;
  explored result;
  do {
    result.complete = runs.run_once(begin, threads, waits_for_death, check, result);
    if (runs.failed_ != nullptr) throw violation{runs.failed_};
  } while (!result.complete && (within.executions_max == 0 || result.executions < within.executions_max));
  result.states = runs.seen_.size();
  current_ = nullptr;
  return result;
}

/// One execution. Returns whether it was the last.
bool scheduler::run_once(const std::function<void()>& begin, const std::vector<program>& threads,
                         const std::vector<bool>& waits_for_death, const std::function<void()>& check,
                         explored& result) {
  memory_ = std::make_unique<weak_memory>(locations_);
  outside_ = thread_views();
  depth_ = 0;
  order_ = 0;
  deaths_ = 0;
  woken_ = false;
  told_ = view();
  running_ = nobody;
  begin();
  for (std::size_t i = 0; i < threads.size(); ++i) {
    fiber& f = *fibers_[i];
    f.run = &threads[i];
    f.done = f.dead = f.waiting = false;
    f.needs_death = waits_for_death[i];
    f.history = i;
    f.views = thread_views();
    f.views.now = memory_->everything();
    f.views.acquired = f.views.now;
    f.views.released = f.views.now;
    ::getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = stack_bytes;
    f.context.uc_link = &main_;
    ::makecontext(&f.context, &scheduler::entry, 0);
  }
  bool cut = false;
  for (;;) {
    // Only where this execution is on new ground: along the path everything has been seen, of course.
    if (depth_ >= path_.size() && !seen_.insert(state_hash()).second) {
      cut = true;
      break;
    }
    std::vector<std::size_t> able;
    bool anybody_left = false;
    for (std::size_t i = 0; i < fibers_.size(); ++i) {
      const fiber& f = *fibers_[i];
      if (f.done || f.dead || (f.needs_death && deaths_ == 0)) continue;
      anybody_left = true;
      if (!f.waiting) able.push_back(i);
    }
    if (!anybody_left) break;
    if (able.empty()) {
      // Who waits may have seen old stores; in the end every store is seen. If that does not help, nothing will.
      if (woken_) {
        failed_ = "a survivor is blocked";
        return true;
      }
      woken_ = true;
      for (auto& f : fibers_) {
        if (!f->waiting) continue;
        f->waiting = false;
        f->views.now.join(memory_->everything());
      }
      continue;
    }
    // Who goes on, or who dies.
    const std::size_t may_die = deaths_ < within_.deaths_max ? able.size() : 0;
    const std::size_t choice = choose(able.size() + may_die);
    if (choice >= able.size()) {
      fibers_[able[choice - able.size()]]->dead = true;
      ++deaths_;
      for (auto& f : fibers_) f->waiting = false;
      continue;
    }
    running_ = able[choice];
    ::swapcontext(&main_, &fibers_[running_]->context);
    if (!fibers_[running_]->waiting) {
      woken_ = false;
      for (auto& f : fibers_) f->waiting = false;
    }
    running_ = nobody;
    if (failed_ != nullptr) return true;
  }
  if (cut) {
    ++result.cut_short;
  } else {
    ++result.executions;
    result.deaths += deaths_ != 0;
    outside_.now.join(memory_->everything());
    try {
      check();
    } catch (const violation& v) {
      failed_ = v.what;
      return true;
    }
  }
  // The next path: the last choice that has another.
  path_.resize(depth_ < path_.size() ? depth_ : path_.size());
  while (!path_.empty() && path_.back().first + 1 == path_.back().second) path_.pop_back();
  if (path_.empty()) return true;
  ++path_.back().first;
  return false;
}

void scheduler::entry() {
  scheduler& s = *current_;
  fiber& f = *s.fibers_[s.running_];
  try {
    (*f.run)();
  } catch (const violation& v) {
    s.failed_ = v.what;
  }
  f.done = true;
  // Returning goes to uc_link, which is where the scheduler waits.
}

std::size_t scheduler::choose(std::size_t count) {
  if (count == 1) return 0;
  if (depth_ == path_.size()) path_.emplace_back(0, static_cast<std::uint16_t>(count));
  return path_[depth_++].first;
}

void scheduler::step() {
  if (running_ == nobody) return;
  ::swapcontext(&fibers_[running_]->context, &main_);
}

void scheduler::remember(std::uint64_t what) noexcept {
  if (running_ != nobody) fibers_[running_]->history = mixed(fibers_[running_]->history, what);
}

std::uint64_t scheduler::load(const void* address, std::memory_order order) {
  step();
  if (order == std::memory_order_seq_cst) memory_->fence(views(), order);
  const std::size_t count = within_.old_stores ? memory_->choices(views(), location(address)) : 1;
  const std::uint64_t value = memory_->load(views(), location(address), choose(count), order);
  remember(value);
  return value;
}

void scheduler::store(const void* address, std::uint64_t value, std::memory_order order) {
  step();
  memory_->store(views(), location(address), value, order);
  remember(1);
}

bool scheduler::compare_exchange(const void* address, std::uint64_t& expected, std::uint64_t desired,
                                 std::memory_order order) {
  step();
  // One that fails is a relaxed load of whatever store may be seen; one that succeeds sees the newest.
  bool stored = false;
  if (memory_->last(location(address)) == expected) {
    exchange_now(location(address), order, [desired](std::uint64_t) { return desired; });
    stored = true;
  } else {
    expected = memory_->load(views(), location(address), 0, std::memory_order_relaxed);
  }
  remember(stored ? 2 : expected + 3);
  return stored;
}

void scheduler::fence(std::memory_order order) {
  // Orders this thread's own operations, and is no step that another could see.
  memory_->fence(views(), order);
}

void scheduler::wait(std::uint64_t state) {
  fiber& f = *fibers_[running_];
  f.history = mixed(running_, state);
  f.waiting = true;
  step();
}

void scheduler::note(std::uint64_t what) { order_ = mixed(order_, mixed(running_, what)); }

std::uint64_t scheduler::state_hash() const {
  std::vector<std::uint64_t> all;
  const auto mix = [&](std::uint64_t what) { all.push_back(what); };
  memory_->hash(mix);
  for (const auto& f : fibers_) {
    mix(f->history);
    mix(static_cast<std::uint64_t>(f->done) | static_cast<std::uint64_t>(f->dead) << 1 |
        static_cast<std::uint64_t>(f->waiting) << 2);
    weak_memory::mix_view(f->views.now, mix);
    weak_memory::mix_view(f->views.acquired, mix);
    weak_memory::mix_view(f->views.released, mix);
  }
  weak_memory::mix_view(told_, mix);
  mix(order_);
  mix(deaths_ * 2 + woken_);
  return XXH3_64bits(all.data(), all.size() * sizeof(std::uint64_t));
}

}  // namespace interleavings
