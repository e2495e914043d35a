#include "segments.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "value_json.hpp"

namespace tool {

json json_head(std::string_view verb) { return {{"schema_version", output_schema_version}, {"verb", verb}}; }

std::int64_t now_unix_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string age_text(std::int64_t unix_ns, std::int64_t now_unix_ns) {
  const std::int64_t seconds = std::max<std::int64_t>((now_unix_ns - unix_ns) / 1'000'000'000, 0);
  if (seconds < 60) return fmt::format("{} s", seconds);
  if (seconds < 60 * 60) return fmt::format("{} min", seconds / 60);
  if (seconds < 2 * 24 * 60 * 60) return fmt::format("{} h", seconds / (60 * 60));
  return fmt::format("{} d", seconds / (24 * 60 * 60));
}

std::string use_of(const dm::shm_info& segment) {
  if (!segment.fault.empty()) return "?";
  return segment.attached != 0 ? "in use" : "left over";
}

json segment_record(const dm::shm_info& segment) {
  json record = {{"name", text_json(segment.name)},
                 {"path", text_json(segment.path.string())},
                 {"size_bytes", segment.size_bytes},
                 {"allocated_bytes", segment.allocated_bytes}};
  const bool is_known = !segment.kind.empty();
  record["kind"] = is_known ? json(segment.kind) : json(nullptr);
  record["type"] = is_known ? json(text_json(segment.type_name)) : json(nullptr);
  record["slot_count"] = is_known ? json(segment.slot_count) : json(nullptr);
  record["alive"] = is_known ? json(segment.attached) : json(nullptr);
  record["dead"] = is_known ? json(segment.dead) : json(nullptr);
  record["last_opened"] = is_known ? json(time_json(segment.last_opened_unix_ns)) : json(nullptr);
  record["use"] = segment.fault.empty() ? json(use_of(segment)) : json(nullptr);
  record["fault"] = segment.fault.empty() ? json(nullptr) : json(text_json(segment.fault));
  return record;
}

std::string short_size(std::uint64_t bytes) {
  constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto scaled = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; scaled >= 1024 && unit + 1 < std::size(units); ++unit) scaled /= 1024;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", scaled, units[unit]);
}

}  // namespace tool
