// A value's parts by name: "price", "address.street", "legs[2].amount". For tables with a column each, for comparing
// field by field, and for whoever builds a value from its parts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>

#include "deferred_map/format/schema.hpp"

namespace dm::inspect {

/// Gives the members of one structure names that differ: a second member "a" is "a#2", or the next such that is free.
class member_names {
 public:
  std::string next(std::string_view name);

 private:
  std::unordered_set<std::string> taken_;
};

/// One part that has no parts: a number, a key, a text, an enumerator, opaque bytes.
struct leaf {
  const schema_field* field = nullptr;
  std::uint64_t offset = 0;      ///< from the start of the value
  std::uint64_t size_bytes = 0;  ///< of this one element; of text its capacity
  /// Members by '.', elements by "[n]"; "value" where the value itself is no structure. Valid within the visit. As the file
  /// has it: may need escaping.
  std::string_view path;
};

/// Calls `visit` for each leaf in the order of the schema, until it returns false. Returns whether all were visited.
/// Memory: one path. Requires: a sound schema (`first_fault`).
bool for_each_leaf(const schema& of, const std::function<bool(const leaf&)>& visit);

/// The bytes of one leaf that mean something: of text those before the first NUL. Empty where `value` ends before them.
std::span<const std::byte> leaf_bytes(const leaf& part, std::span<const std::byte> value) noexcept;

}  // namespace dm::inspect
