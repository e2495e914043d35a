// Rendering a value from its bytes and its schema alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "deferred_map/format/schema.hpp"

namespace dm {

/// Receives the parts of one value, in the order of its schema. Override what is of interest; the rest does nothing.
///
/// Within a structure each part is preceded by `member`; within an array parts follow one another. The field
/// given along is the one the part belongs to, the same for every element of an array.
class value_visitor {
 public:
  virtual ~value_visitor() = default;

  virtual void begin_struct(const schema_field&) {}
  virtual void end_struct(const schema_field&) {}
  virtual void begin_array(const schema_field&) {}
  virtual void end_array(const schema_field&) {}
  /// The name of the member whose value comes next; "field_N" for members without one. As the file has it: it
  /// may need escaping (`escaped`).
  virtual void member(std::string_view /*name*/) {}

  /// The byte as it is: a file may hold other things than 0 and 1.
  virtual void boolean(const schema_field&, std::uint8_t /*raw*/) {}
  virtual void unsigned_integer(const schema_field&, std::uint64_t) {}
  virtual void signed_integer(const schema_field&, std::int64_t) {}
  virtual void floating(const schema_field&, float) {}
  virtual void floating(const schema_field&, double) {}
  virtual void character(const schema_field&, char) {}
  /// Up to the first NUL. Any bytes: not necessarily UTF-8.
  virtual void text(const schema_field&, std::string_view) {}
  /// The key's bits as they are: a file may hold bits that no map handed out.
  virtual void key(const schema_field&, std::uint64_t /*bits*/) {}
  /// `name` is empty where the schema has none for the value.
  virtual void enumeration(const schema_field&, std::int64_t /*value*/, std::string_view /*name*/) {}
  virtual void bytes(const schema_field&, std::span<const std::byte>) {}
  /// Asked before each element and member: whether enough was seen. What is left is then left out, and what was begun ended.
  virtual bool is_full() const { return false; }
  /// The part is not in the bytes given. Comes once for an array that ends early, in place of the rest of it.
  virtual void missing(const schema_field&) {}
};

/// Takes the value in `value` apart for `visitor`. Never reads outside `value`, however short it is and
/// whatever the schema says. Cost: linear in the elements of the value.
void visit_value(const schema& schema, std::span<const std::byte> value, value_visitor& visitor);

/// One line of text for the value in `value`:
/// `{name: "libc6", size: 13, kind: package(1), first: 3:1, links: [1, 2, 3], raw: 0x00ff}`.
///
/// Text is quoted and `escaped`. Keys are "index:generation", "null", or "bad key 0x..." for bits that are no
/// key's. Enumerations are name and number, or the number alone. A bool that is neither 0 nor 1 is
/// `true?(7)`. Bytes are hexadecimal, the first 32 of them. Parts beyond the end of `value` are `?`, and the
/// line then ends with " (only 8 of 16 bytes)". A line of more than some 16 MiB is cut off, and ends with " ...": a name
/// of a megabyte in an array of a megabyte would make a terabyte of text.
std::string to_text(const schema& schema, std::span<const std::byte> value);

/// `text` made safe for a terminal: quotes and backslashes get a backslash; control characters, invisible and
/// direction-changing code points, and bytes that are not UTF-8 become \xNN, byte by byte.
std::string escaped(std::string_view text);

}  // namespace dm
