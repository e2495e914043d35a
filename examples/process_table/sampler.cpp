#include "sampler.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>

#include "deferred_map/reservation.hpp"
#include "proc.hpp"

namespace process_table {
namespace {

/// What tells processes apart, for ever.
auto identity(const process& p) { return std::tuple(p.boot, p.pid, p.start_ticks); }

/// The share of one processor that a process had, smoothed over about a second, from its last sample and this one.
float cpu_percent(const process& before, const process& now) {
  const double seconds = static_cast<double>(now.sampled_unix_ns - before.sampled_unix_ns) / 1e9;
  const std::uint64_t ticks_before = before.user_ticks + before.system_ticks;
  const std::uint64_t ticks_now = now.user_ticks + now.system_ticks;
  if (seconds <= 0 || ticks_now < ticks_before) return before.cpu_percent;
  const double share = 100.0 * static_cast<double>(ticks_now - ticks_before) / (seconds * ticks_per_second());
  return static_cast<float>(share + (before.cpu_percent - share) * std::exp(-seconds));
}

using identities = std::map<decltype(identity({})), dm::key>;

/// The processes in the table. Of two values of one process, one goes: what is left of somebody who was refused because the
/// sampler had come first, and had counted that process already.
identities take_stock(process_map& map) {
  identities known;
  std::vector<dm::key> superfluous;
  map.for_each([&](dm::key k, const process& p) {
    const auto [at, is_new] = known.try_emplace(identity(p), k);
    // A mark stays: whoever else starts now must see it.
    if (!is_new) superfluous.push_back(p.samples_as < 0 ? k : std::exchange(at->second, k));
  });
  for (const dm::key k : superfluous) map.erase(k);
  return known;
}

}  // namespace

std::vector<sampler_mark> marks_of_samplers(const process_map& map) {
  std::vector<sampler_mark> marks;
  map.for_each([&](dm::key k, const process& p) {
    if (p.samples_as >= 0) marks.push_back({k, p, false});
  });
  if (marks.empty()) return marks;
  const std::vector<dm::shared_owner> owners = map.owners();
  for (sampler_mark& mark : marks)
    mark.alive = std::any_of(owners.begin(), owners.end(), [&](const dm::shared_owner& owner) {
      // The pid too: the id of an owner who went is the next one's.
      return owner.alive && owner.id == static_cast<std::uint32_t>(mark.value.samples_as) &&
             owner.pid == mark.value.pid;
    });
  return marks;
}

sampler::sampler(const std::filesystem::path& where)
    : map_(process_map::open_or_create(where, {.max_slots = processes_max})) {
  become_the_sampler();
}

sampler::~sampler() {
  try {
    remove_mark(own_);
  } catch (const dm::error&) {  // the mark of an owner who is gone counts for nothing
  }
}

void sampler::become_the_sampler() {
  std::minstd_rand random(std::random_device{}());
  for (;;) {
    for (const sampler_mark& mark : marks_of_samplers(map_))
      if (mark.alive)
        throw table_error("process " + std::to_string(mark.value.pid) + " samples into " + map_.path().string() +
                          " already. Look with `process_table top`, or stop that process first");
    // First say so, then look whether somebody else has: of two who do this at once, one at least sees the other.
    mark_own_process();
    std::vector<sampler_mark> others = marks_of_samplers(map_);
    std::erase_if(others, [this](const sampler_mark& mark) { return mark.key == own_; });
    if (std::none_of(others.begin(), others.end(), [](const sampler_mark& mark) { return mark.alive; })) {
      for (const sampler_mark& killed : others) {
        killed_pid_ = killed.value.pid;
        remove_mark(killed.key);
      }
      return;
    }
    // Perhaps both saw the other. The first to come back has it.
    remove_mark(own_);
    std::this_thread::sleep_for(std::chrono::microseconds(100 + random() % 10'000));
  }
}

void sampler::mark_own_process() {
  std::optional<process> own = read_process(static_cast<std::uint32_t>(::getpid()));
  if (!own) throw table_error("/proc does not show this very process. Mount it (mount -t proc proc /proc)");
  own_ = {};
  map_.for_each([&](dm::key k, const process& p) {
    if (identity(p) == identity(*own)) own_ = k;
  });
  own->samples_as = static_cast<std::int32_t>(map_.owner_id());
  if (!map_.update(own_, [&own](process& p) { p.samples_as = own->samples_as; })) own_ = map_.insert(*own);
}

void sampler::remove_mark(dm::key from) {
  map_.update(from, [](process& p) { p.samples_as = -1; });
}

sample_counts sampler::sample(const std::function<std::vector<process>()>& read) {
  // In this order: what is in the table before, and not among those that were read after, has ended.
  identities known = take_stock(map_);
  std::vector<process> seen = read();

  // A key for each process before any has a value: a parent may come after its child, and the child's value names it.
  struct place {
    dm::key key;
    std::optional<dm::reservation<process_map>> fresh;  // of a process that is new
  };
  std::vector<place> places;
  std::map<std::uint32_t, dm::key> key_of_pid;
  for (const process& p : seen) {
    place& one = places.emplace_back();
    if (const auto at = known.find(identity(p)); at != known.end()) {
      one.key = at->second;
      known.erase(at);
    } else {
      one.key = one.fresh.emplace(map_).key();
    }
    key_of_pid[p.pid] = one.key;
  }

  sample_counts counts;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    process& now = seen[i];
    if (const auto parent = key_of_pid.find(now.parent_pid); parent != key_of_pid.end()) now.parent = parent->second;
    now.samples = 1;
    if (places[i].fresh) {
      places[i].fresh->insert(now);
      ++counts.started;
      continue;
    }
    counts.updated += map_.update(places[i].key, [&now](process& p) {
      const process before = std::exchange(p, now);
      p.samples = before.samples + 1;
      p.cpu_percent = cpu_percent(before, now);
      p.samples_as = before.samples_as;
    });
  }
  for (const auto& [ended, k] : known) counts.ended += map_.erase(k);
  return counts;
}

}  // namespace process_table
