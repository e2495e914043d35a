// What is different between two arenas: keys, values, and the generations of slots without a value.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "deferred_map/inspect/arena_file.hpp"
#include "deferred_map/inspect/leaves.hpp"
#include "deferred_map/inspect/slots.hpp"

namespace dm::inspect {

enum class difference_kind : std::uint8_t {
  type,       ///< the values are of different types, and are not compared
  only_in_a,  ///< a key that names a value in the first alone
  only_in_b,  ///< and in the second alone
  value,      ///< a key that names a value in both, and a field that is not the same
  slot,       ///< a slot without a value in either, of another generation or state: other keys would be dead
  floor,      ///< slots that are made begin with another generation
};

const char* to_string(difference_kind kind) noexcept;

/// Valid within the visit.
struct difference {
  difference_kind kind = difference_kind::value;
  std::uint32_t slot = 0;
  const slot_view* a = nullptr;  ///< the slot; null where there is none
  const slot_view* b = nullptr;
  const leaf* field = nullptr;  ///< of a value: which part of it
  std::string text = {};        ///< of a type: the first field that differs
};

struct diff_report {
  std::uint64_t only_in_a = 0;
  std::uint64_t only_in_b = 0;
  std::uint64_t values = 0;  ///< keys with another value
  std::uint64_t fields = 0;  ///< fields of those
  std::uint64_t slots = 0;
  std::uint64_t same = 0;        ///< keys with the same value
  std::uint64_t unreadable = 0;  ///< slots that could not be compared: not readable, or of an impossible version
  bool same_type = true;
  bool same_floor = true;

  bool is_same() const noexcept { return only_in_a + only_in_b + values + slots == 0 && same_type && same_floor; }
};

struct diff_options {
  std::function<void(std::uint64_t slots_done, std::uint64_t slots)> progress;
};

/// Compares two arenas, of any kinds, slot by slot. Values are the same where each field has the same bits; padding, and
/// what lies behind the NUL of a text, is no field. What is reserved in one and vacant in the next generation in the other
/// is a difference: its key may still come alive.
/// Requires: both have a layout. Memory: constant, or a value of each. Errors: none, but what `visit` throws.
diff_report diff(const arena_file& a, const arena_file& b, const std::function<void(const difference&)>& visit,
                 const diff_options& options = {});

}  // namespace dm::inspect
