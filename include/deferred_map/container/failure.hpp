// How the container reports misuse: exceptions, or where they are switched off a message and abort().
// The one place that knows which; everything else calls `fail::...`.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace dm {

/// A key that is stale, null, or of another map was given where a live one is required.
class stale_key : public std::out_of_range {
 public:
  using std::out_of_range::out_of_range;
};

/// A handle that does not name a reserved slot of this map: spent, moved from, of another map, or given up by
/// `release_reserved()`.
class bad_handle : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

namespace fail {

#if defined(__cpp_exceptions)
template <class Exception>
[[noreturn, gnu::cold, gnu::noinline]] void raise(const char* what) {
  throw Exception(what);
}
#else
template <class Exception>
[[noreturn, gnu::cold, gnu::noinline]] void raise(const char* what) {
  std::fprintf(stderr, "deferred-map: %s\n", what);
  std::abort();
}
#endif

[[noreturn]] inline void key_is_stale() {
  raise<stale_key>("this key is stale or null: its value was removed, or it belongs to another map");
}
[[noreturn]] inline void handle_is_bad() {
  raise<bad_handle>(
      "this handle names no reserved slot of this map: it was spent or moved from, it belongs to another "
      "map, or "
      "its slot was given up by release_reserved()");
}
[[noreturn]] inline void too_many_slots() { raise<std::length_error>("a deferred_map holds at most 2^32 - 1 slots"); }
[[noreturn]] inline void output_too_short() {
  raise<std::invalid_argument>("get_many: the output span is shorter than the span of keys");
}

}  // namespace fail
}  // namespace dm
