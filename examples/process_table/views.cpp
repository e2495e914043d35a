#include "views.hpp"

#include <fmt/format.h>
#include <pwd.h>

#include <algorithm>
#include <boost/describe/enumerators.hpp>
#include <boost/mp11/algorithm.hpp>
#include <map>
#include <string_view>
#include <unordered_map>

#include "deferred_map/fmt.hpp"

namespace process_table {
namespace {

std::string size_text(std::uint64_t bytes) {
  if (bytes < 10'000'000) return fmt::format("{} kB", bytes / 1000);
  if (bytes < 10'000'000'000) return fmt::format("{} MB", bytes / 1'000'000);
  return fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9);
}

std::string user_text(std::uint32_t uid) {
  static std::map<std::uint32_t, std::string> names;  // asking may mean asking a server
  const auto [at, is_new] = names.try_emplace(uid);
  if (is_new) {
    const passwd* user = ::getpwuid(uid);
    at->second = user != nullptr ? user->pw_name : std::to_string(uid);
  }
  return at->second;
}

/// Its name, as it was described for the file.
const char* state_text(process_state state) {
  const char* name = "unknown";
  boost::mp11::mp_for_each<boost::describe::describe_enumerators<process_state>>([&](auto known) {
    if (known.value == state) name = known.name;
  });
  return name;
}

/// As `ps` does: names in brackets are of those that have no command line, such as threads of the kernel.
std::string command_text(const process& p) {
  const std::string_view command = text(p.command);
  return command.empty() ? fmt::format("[{}]", text(p.name)) : std::string(command);
}

/// Counted over the processes that both looks have.
double updates_per_second(const look& before, const look& now) {
  std::unordered_map<dm::key, std::uint32_t> samples;
  for (const auto& [k, p] : before.rows) samples.emplace(k, p.samples);
  std::uint64_t updates = 0;
  for (const auto& [k, p] : now.rows)
    if (const auto at = samples.find(k); at != samples.end()) updates += p.samples - at->second;
  const double seconds = static_cast<double>(now.taken_unix_ns - before.taken_unix_ns) / 1e9;
  return seconds > 0 ? static_cast<double>(updates) / seconds : 0;
}

}  // namespace

look look_at(const process_map& map) {
  look result;
  map.for_each([&](dm::key k, const process& p) { result.rows.emplace_back(k, p); });
  result.taken_unix_ns = now_unix_ns();
  for (const sampler_mark& mark : marks_of_samplers(map))
    if (mark.alive || !result.sampler) result.sampler = mark;
  return result;
}

std::string news_text(const look& now) {
  std::int64_t last_unix_ns = 0;
  for (const auto& [k, p] : now.rows) last_unix_ns = std::max(last_unix_ns, p.sampled_unix_ns);
  const double seconds = static_cast<double>(std::max(now.taken_unix_ns - last_unix_ns, std::int64_t{0})) / 1e9;
  if (now.rows.empty()) return "nothing was sampled yet";
  if (now.sampler && now.sampler->alive)
    return fmt::format("sampled {:.1f} s ago by process {}", seconds, now.sampler->value.pid);
  return fmt::format("no news for {:.1f} s: the sampler {}", seconds,
                     now.sampler ? fmt::format("(process {}) was killed", now.sampler->value.pid) : "has stopped");
}

std::string top_text(const look& now, const look* before, const top_options& how) {
  std::vector<const process*> shown;
  for (const auto& [k, p] : now.rows) shown.push_back(&p);
  std::sort(shown.begin(), shown.end(), [&](const process* a, const process* b) {
    if (how.by == order::cpu && a->cpu_percent != b->cpu_percent) return a->cpu_percent > b->cpu_percent;
    if (a->resident_bytes != b->resident_bytes) return a->resident_bytes > b->resident_bytes;
    return a->pid < b->pid;
  });
  std::string out = fmt::format("{} processes", now.rows.size());
  if (before != nullptr) out += fmt::format(", {:.0f} updates a second", updates_per_second(*before, now));
  out += fmt::format("; {}\n{:>8} {:<10} {:<8} {:>6} {:>9} {:>4}  {}\n", news_text(now), "PID", "USER", "STATE", "CPU",
                     "RESIDENT", "THR", "COMMAND");
  for (std::size_t i = 0; i < std::min(shown.size(), how.rows_max); ++i) {
    const process& p = *shown[i];
    out += fmt::format("{:>8} {:<10.10} {:<8} {:>5.1f}% {:>9} {:>4}  {}\n", p.pid, user_text(p.uid),
                       state_text(p.state), p.cpu_percent, size_text(p.resident_bytes), p.threads, command_text(p));
  }
  return out;
}

std::string tree_text(const look& now) {
  using row = std::pair<dm::key, process>;
  std::unordered_map<dm::key, std::vector<const row*>> children;
  std::unordered_map<dm::key, const row*> known;
  for (const row& one : now.rows) known.emplace(one.first, &one);
  // Whose parent is none, or has ended, is a root: its stale key reaches nobody else, whoever has the slot now.
  for (const row& one : now.rows)
    children[known.contains(one.second.parent) ? one.second.parent : dm::key{}].push_back(&one);
  for (auto& [parent, them] : children)
    std::sort(them.begin(), them.end(), [](const row* a, const row* b) { return a->second.pid > b->second.pid; });

  std::string out;
  std::vector<std::pair<const row*, std::size_t>> waiting;  // and how deep
  const auto enter = [&](dm::key parent, std::size_t depth) {
    const auto at = children.find(parent);
    if (at == children.end()) return;
    for (const row* one : at->second) waiting.emplace_back(one, depth);
    children.erase(at);
  };
  enter({}, 0);
  while (!waiting.empty()) {
    const auto [one, depth] = waiting.back();
    waiting.pop_back();
    out += fmt::format("{:>8}  {:{}}{}{}\n", one->second.pid, "", depth < 2 ? 0 : 4 * (depth - 1),
                       depth == 0 ? "" : " \\_ ", command_text(one->second));
    enter(one->first, depth + 1);
  }
  return out;
}

std::string watch_text(const process& p) {
  return fmt::format("{:<8} {:>9} {:>4}  {}", state_text(p.state), size_text(p.resident_bytes), p.threads,
                     command_text(p));
}

}  // namespace process_table
