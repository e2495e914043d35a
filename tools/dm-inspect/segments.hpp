// Shared-memory segments as list and gc show them.
#pragma once

#include <cstdint>
#include <string>

#include "deferred_map/sharing/place.hpp"
#include "output.hpp"

namespace tool {

/// "schema_version" and "verb": what the JSON output of verbs begins with that look at no one file.
json json_head(std::string_view verb);

std::int64_t now_unix_ns();
/// How long ago, in the largest unit that fits: "5 s", "3 min", "2 h", "40 d". Of times to come, "0 s".
std::string age_text(std::int64_t unix_ns, std::int64_t now_unix_ns);

/// "in use", "left over" (nobody is attached), or "?" where it cannot be told.
std::string use_of(const dm::shm_info& segment);
/// All that is known of it.
json segment_record(const dm::shm_info& segment);
/// Of so many bytes: "512 B", "1.2 MiB".
std::string short_size(std::uint64_t bytes);

}  // namespace tool
