// The schema: what a value looks like, written beside the values so that a tool can print them without the
// program that wrote them. A tree of fields, stored as a list in preorder with a depth in each field.
//
//   bytes                             what
//  +-----------------------------------+  0
//  | schema_head              32 bytes |  counts and sizes of what follows
//  +-----------------------------------+  32
//  | schema_field_record 0    40 bytes |  T itself: depth 0, offset 0
//  | schema_field_record 1             |  its first member: depth 1; the members of that one follow at depth 2
//  | ...                               |
//  +-----------------------------------+  32 + 40 * field_count
//  | schema_enumerator_record 16 bytes |  names and values, those of the first enumeration first
//  | ...                               |
//  +-----------------------------------+  ... + 16 * enumerator_count
//  | strings                           |  NUL-terminated, one after the other: for each field its name, its type
//  | ...                               |  name, the names of its enumerators. The first byte is always 0.
//  +-----------------------------------+  total_bytes
//
// All integers little-endian, all reserved bytes zero. There is exactly one encoding of a schema: strings are
// in the order of their use, each at the offset where the one before it ended, none is shared. So decoding
// never allocates more than a small multiple of what it reads, whatever the bytes say.
//
// Invariants, checked by `first_fault` before a schema is written and after one is read:
//  1. Field 0 is T: depth 0, offset 0, no name, `size_bytes * count` the size of a value. No other has depth 0.
//  2. A field is at most one deeper than the one before it, and deeper only below a structure.
//  3. A field lies within (the first element of) its parent; siblings ascend by offset and do not overlap.
//  4. Sizes fit kinds; `count` is 1 unless the field is an array or text.
//  5. Names and type names hold no control characters; every type has a name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace dm {

/// What the bytes of a field mean. The numbers are in files: they never change, new ones go to the end.
enum class field_kind : std::uint16_t {
  none = 0,          ///< no kind: what `underlying` is for everything but an enumeration
  bytes = 1,         ///< nothing is known but the size
  boolean = 2,       ///< one byte, 0 or 1
  character = 3,     ///< one byte of text
  text = 4,          ///< characters, up to the first NUL or the end
  u8 = 5,            ///< unsigned integers
  u16 = 6,           //
  u32 = 7,           //
  u64 = 8,           //
  i8 = 9,            ///< signed integers, two's complement
  i16 = 10,          //
  i32 = 11,          //
  i64 = 12,          //
  f32 = 13,          ///< IEEE 754 binary32
  f64 = 14,          ///< IEEE 754 binary64
  key = 15,          ///< a map's key: slot index in the low 32 bits, generation in the upper 30
  enumeration = 16,  ///< an integer of kind `underlying`, some of whose values have names
  structure = 17,    ///< what its children, the deeper fields that follow it, say
};

/// The name of a kind, as schemas and messages print it: "u32", "structure".
const char* to_string(field_kind kind) noexcept;

/// How many bytes a value of this kind has; 0 where the kind alone does not say.
std::uint32_t fixed_size(field_kind kind) noexcept;

/// One name of an enumeration. Unsigned 64-bit values above 2^63 - 1 are stored as their two's complement.
struct schema_enumerator {
  std::string name;
  std::int64_t value = 0;

  friend bool operator==(const schema_enumerator&, const schema_enumerator&) = default;
};

/// One field of T, or T itself.
///
/// Arrays of more than one dimension count their elements in one: `int[2][3]` is six. Text is an array of
/// characters already: `char[16]` has size 1 and count 16 and is not an array; `char[4][16]` is an array of
/// text, with size 16 and count 4. Bytes likewise, but for `std::byte[16]` having size 16 and count 1.
struct schema_field {
  std::string name;       ///< empty for T itself and where the program had no names to give
  std::string type_name;  ///< of one element
  field_kind kind = field_kind::none;
  field_kind underlying = field_kind::none;  ///< of an enumeration: how its values are stored
  std::uint32_t offset = 0;                  ///< from the start of T; below an array, of its first element
  std::uint32_t size_bytes = 0;              ///< of one element; of text that is no array: 1
  std::uint32_t count = 1;                   ///< elements; of text that is no array: its capacity
  std::uint16_t depth = 0;
  bool is_array = false;
  std::vector<schema_enumerator> enumerators;

  /// Bytes of all elements.
  std::uint64_t extent_bytes() const noexcept { return std::uint64_t{size_bytes} * count; }

  friend bool operator==(const schema_field&, const schema_field&) = default;
};

/// The description of one value type. See the top of this file for its invariants.
struct schema {
  std::vector<schema_field> fields;  ///< in preorder; `fields[0]` is T itself
  std::uint32_t version = 0;         ///< what the program says the meaning of T is at; 0 where it says nothing

  friend bool operator==(const schema&, const schema&) = default;
};

/// Most fields, enumerators and bytes of strings a schema in a file may have, and the deepest nesting.
inline constexpr std::uint32_t schema_fields_max = 65'536;
inline constexpr std::uint32_t schema_enumerators_max = 65'536;
inline constexpr std::uint32_t schema_string_bytes_max = 1u << 20;
inline constexpr std::uint32_t schema_depth_max = 64;

/// The start of an encoded schema.
struct schema_head {
  static constexpr std::uint32_t right_magic = 0x63536d64;  // "dmSc"
  static constexpr std::uint16_t right_layout = 1;

  std::uint32_t magic;             //  0  right_magic
  std::uint16_t layout;            //  4  right_layout; a change of any record is another layout
  std::uint16_t reserved_0;        //  6
  std::uint32_t total_bytes;       //  8  head, records and strings
  std::uint32_t field_count;       // 12
  std::uint32_t enumerator_count;  // 16
  std::uint32_t string_bytes;      // 20
  std::uint32_t version;           // 24  schema::version
  std::uint32_t reserved_1;        // 28
};

/// One field, as it is stored.
struct schema_field_record {
  std::uint32_t name;              //  0  offset into the strings
  std::uint32_t type_name;         //  4  offset into the strings
  std::uint16_t kind;              //  8  field_kind
  std::uint16_t underlying;        // 10  field_kind
  std::uint16_t depth;             // 12
  std::uint16_t is_array;          // 14  0 or 1
  std::uint32_t offset;            // 16
  std::uint32_t size_bytes;        // 20
  std::uint32_t count;             // 24
  std::uint32_t first_enumerator;  // 28  index of the first of its enumerators, also where it has none
  std::uint32_t enumerator_count;  // 32
  std::uint32_t reserved;          // 36
};

/// One name of an enumeration, as it is stored.
struct schema_enumerator_record {
  std::uint32_t name;      // 0  offset into the strings
  std::uint32_t reserved;  // 4
  std::int64_t value;      // 8
};

static_assert(sizeof(schema_head) == 32 && offsetof(schema_head, total_bytes) == 8);
static_assert(offsetof(schema_head, string_bytes) == 20 && offsetof(schema_head, reserved_1) == 28);
static_assert(sizeof(schema_field_record) == 40 && offsetof(schema_field_record, kind) == 8);
static_assert(offsetof(schema_field_record, offset) == 16 && offsetof(schema_field_record, reserved) == 36);
static_assert(sizeof(schema_enumerator_record) == 16 && offsetof(schema_enumerator_record, value) == 8);
static_assert(std::has_unique_object_representations_v<schema_head> && std::is_trivially_copyable_v<schema_head> &&
              std::has_unique_object_representations_v<schema_field_record> &&
              std::is_trivially_copyable_v<schema_field_record> &&
              std::has_unique_object_representations_v<schema_enumerator_record> &&
              std::is_trivially_copyable_v<schema_enumerator_record>);

/// What decoding gives: a schema, or the reason why there is none.
struct schema_result {
  std::optional<schema> value;
  std::string reason;  ///< empty where there is a value

  explicit operator bool() const noexcept { return value.has_value(); }
};

/// The first invariant that a schema of values of `value_size` bytes breaks, in words; nothing if it is
/// sound. Cost: linear in fields, names and enumerators.
std::optional<std::string> first_fault(const schema& schema, std::uint32_t value_size);

/// The bytes of a schema. Requires: `first_fault(schema, ...)` found nothing; `decode` refuses the bytes otherwise.
std::vector<std::byte> encode(const schema& schema);

/// The schema in `bytes`, of values of `value_size` bytes. Trusts nothing it reads: whatever the bytes are,
/// it gives a schema that keeps every invariant, or a reason. Bytes after the schema's own are not looked at.
schema_result decode(std::span<const std::byte> bytes, std::uint32_t value_size);

/// What a sentence about two schemas calls them.
struct schema_sides {
  std::string in_file = "file";
  std::string in_program = "program";
};

/// What stands between a file and a program that wants to use it: nothing if each can read the other's
/// values, else a sentence that names the first field that differs and both sides of it.
///
/// Fields without names (plain aggregates have none to give) are compared by position with anything. Where
/// one side knows nothing but bytes, type name and size decide. The program may know more enumerators than the file.
std::optional<std::string> first_difference(const schema& in_file, const schema& in_program,
                                            const schema_sides& sides = {});

/// What to call a field: its name, or "field_3" for the fourth of its parent's where it has none.
std::string display_name(const schema_field& field, std::size_t position);

/// Where the subtree of field `index` ends: the index of the first field after it that is not below it.
std::size_t subtree_end(const schema& schema, std::size_t index) noexcept;

}  // namespace dm
