// How much a test does: less of many similar things under the sanitizers, where all takes ten times as long; all of it
// where `tools/test --exhaustive` asks for it.
#pragma once

#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool sanitized = true;
#elif defined(__has_feature)
inline constexpr bool sanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
inline constexpr bool sanitized = false;
#endif

inline bool exhaustive() { return std::getenv("DEFERRED_MAP_EXHAUSTIVE") != nullptr; }
