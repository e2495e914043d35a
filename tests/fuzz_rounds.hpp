// How much of a random test is done: DEFERRED_MAP_FUZZ_ROUNDS and DEFERRED_MAP_FUZZ_SEED do more, or one again.
#pragma once

#include <cstdint>
#include <cstdlib>

inline std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}
