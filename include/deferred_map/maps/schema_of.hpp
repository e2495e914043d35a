// How `dm::schema_of` builds a schema. Included by deferred_map/schema.hpp, which says what it builds.
#pragma once

#include "deferred_map/schema.hpp"

namespace dm {
namespace detail {

// The C++ name of T as every compiler should spell it: demanglers differ in inline namespaces, in the blank
// between closing brackets and in the suffixes of template arguments.
template <class T>
std::string cpp_type_name() {
  std::string name = boost::core::demangle(typeid(T).name());
  const auto replace_all = [&name](std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = name.find(from, at)) != std::string::npos; at += to.size()) {
      name.replace(at, from.size(), to);
    }
  };
  replace_all("std::__1::", "std::");
  replace_all("std::__cxx11::", "std::");
  replace_all("> >", ">>");
  replace_all("> >", ">>");  // of three in a row, the first pass meets only one pair
  for (std::size_t at = 1; at < name.size(); ++at) {
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (is_digit(name[at - 1]) && (name[at] == 'u' || name[at] == 'l')) {
      std::size_t end = at;
      while (end < name.size() && (name[end] == 'u' || name[end] == 'l')) ++end;
      if (end == name.size() || name[end] == ',' || name[end] == '>') name.erase(at, end - at);
    }
  }
  return name;
}

// What T is without looking inside; `bytes` for what is no scalar, or none that a schema knows.
template <class T>
constexpr field_kind scalar_kind() {
  if constexpr (is_basic_key<T>) {
    return field_kind::key;
  } else if constexpr (std::is_same_v<T, std::byte> || is_marked_opaque<T>()) {
    return field_kind::bytes;
  } else if constexpr (std::is_enum_v<T>) {
    return field_kind::enumeration;
  } else if constexpr (std::is_same_v<T, bool>) {
    return field_kind::boolean;
  } else if constexpr (std::is_same_v<T, char> || std::is_same_v<T, char8_t>) {
    return field_kind::character;
  } else if constexpr (std::is_same_v<T, float>) {
    return field_kind::f32;
  } else if constexpr (std::is_same_v<T, double>) {
    return field_kind::f64;
  } else if constexpr (std::is_integral_v<T>) {
    switch (sizeof(T)) {
      case 1:
        return std::is_signed_v<T> ? field_kind::i8 : field_kind::u8;
      case 2:
        return std::is_signed_v<T> ? field_kind::i16 : field_kind::u16;
      case 4:
        return std::is_signed_v<T> ? field_kind::i32 : field_kind::u32;
      case 8:
        return std::is_signed_v<T> ? field_kind::i64 : field_kind::u64;
      default:
        return field_kind::bytes;
    }
  } else {
    return field_kind::bytes;
  }
}

// The integer an enumeration is stored as.
template <class Enum>
constexpr field_kind underlying_kind() {
  using integer = std::underlying_type_t<Enum>;
  if constexpr (scalar_kind<integer>() == field_kind::character) {
    return std::is_signed_v<integer> ? field_kind::i8 : field_kind::u8;
  } else {
    return scalar_kind<integer>();
  }
}

template <class Enum>
std::vector<schema_enumerator> enumerators_of() {
  std::vector<schema_enumerator> result;
  if constexpr (boost::describe::has_describe_enumerators<Enum>::value) {
    boost::mp11::mp_for_each<boost::describe::describe_enumerators<Enum>>([&result](auto descriptor) {
      result.push_back({descriptor.name, static_cast<std::int64_t>(descriptor.value)});
    });
  }
  return result;
}

// An object of any trivially copyable type to take the addresses of members in.
//
// No constructor runs, nor need there be one: trivially copyable types are implicit-lifetime types (they have
// a trivial constructor of some kind and a trivial destructor, or are aggregates), and allocating storage
// begins the life of such an object if that makes the program defined. Zeroed, because binding a reference to
// a bit-field reads it; on the heap, so that the copy it is then bound to, on the stack, cannot lie in it.
template <class T>
class zeroed_object {
 public:
  zeroed_object() : storage_(::operator new (sizeof(T), std::align_val_t{alignof(T)})) {
    std::memset(storage_, 0, sizeof(T));
  }
  zeroed_object(const zeroed_object&) = delete;
  zeroed_object& operator=(const zeroed_object&) = delete;
  ~zeroed_object() { ::operator delete (storage_, std::align_val_t{alignof(T)}); }

  const T& operator*() const { return *static_cast<const T*>(storage_); }

  // How far into the object `member` starts; nothing if it does not lie in it.
  template <class Member>
  std::optional<std::uint32_t> offset_of(const Member* member) const {
    const auto begin = reinterpret_cast<std::uintptr_t>(storage_);  // integers: the pointers may be unrelated
    const auto at = reinterpret_cast<std::uintptr_t>(member);
    if (sizeof(Member) > sizeof(T)) return std::nullopt;
    if (at < begin || at - begin > sizeof(T) - sizeof(Member)) return std::nullopt;
    return static_cast<std::uint32_t>(at - begin);
  }

 private:
  void* storage_;
};

// A member and everything below it.
using subtree = std::vector<schema_field>;

template <class T>
subtree subtree_of(std::string name, std::uint32_t offset, std::uint16_t depth);

// Collects the members of one structure.
class member_list {
 public:
  member_list(std::uint32_t parent_offset, std::uint16_t parent_depth)
      : offset_(parent_offset), depth_(static_cast<std::uint16_t>(parent_depth + 1)) {}

  template <class Member>
  void add(std::string name, std::optional<std::uint32_t> offset) {
    if (!offset) {
      complete_ = false;  // a bit-field: the reference was bound to a copy
      return;
    }
    using element = typename array_shape<Member>::element;
    if constexpr (!std::is_empty_v<element> && array_shape<Member>::count != 0) {
      members_.push_back(subtree_of<Member>(std::move(name), offset_ + *offset, depth_));
    }
  }

  // The members in the order of their offsets, whatever order they were listed in; nothing if they cannot be said.
  std::optional<subtree> take() {
    if (!complete_) return std::nullopt;
    std::stable_sort(members_.begin(), members_.end(),
                     [](const subtree& a, const subtree& b) { return a[0].offset < b[0].offset; });
    subtree result;
    std::uint64_t end = 0;
    for (subtree& member : members_) {
      // One member in the tail padding of another: legal in C++, but not in a schema.
      if (member[0].offset < end) return std::nullopt;
      end = member[0].offset + member[0].extent_bytes();
      std::move(member.begin(), member.end(), std::back_inserter(result));
    }
    return result;
  }

 private:
  std::uint32_t offset_;
  std::uint16_t depth_;
  std::vector<subtree> members_;
  bool complete_ = true;
};

// The address of a described member. Without a reference on the way where that is possible: to a member of a
// packed struct there must be none.
template <class T, class Pointer>
auto address_of(const T& object, Pointer member) {
  using type = typename member_pointer<Pointer>::type;
  if constexpr (std::is_class_v<type> || std::is_union_v<type>) {
    return std::addressof(object.*member);
  } else {
    return &(object.*member);
  }
}

// Fields that no reference may be bound to: those of packed structs, which some compilers let pass, and
// references, which a zeroed object does not have.
template <class T, class... Field>
constexpr bool has_unreachable_field(boost::mp11::mp_list<Field...>) {
  return ((std::is_reference_v<Field> || alignof(Field) > alignof(T)) || ...);
}

template <class T>
std::optional<subtree> members_of(std::uint32_t offset, std::uint16_t depth) {
  member_list members(offset, depth);
  if constexpr (is_described_class<T>()) {
    const zeroed_object<T> object;
    boost::mp11::mp_for_each<described_members<T>>([&](auto descriptor) {
      using member = described_member<decltype(descriptor)>;
      using declaring_class = typename member::declaring_class;
      if constexpr (std::is_convertible_v<const T*, const declaring_class*>) {  // else of a private base
        members.add<typename member::type>(descriptor.name, object.offset_of(address_of(*object, descriptor.pointer)));
      }
    });
  } else if constexpr (is_plain<T>()) {
    if constexpr (has_unreachable_field<T>(plain_fields<T>{})) {
      return std::nullopt;
    } else {
      const zeroed_object<T> object;
      visit_fields(
          *object,
          [&]<class... Field>(const Field&... field) {
            (members.add<Field>({}, object.offset_of(std::addressof(field))), ...);
          },
          field_count<T>{});
    }
  } else if constexpr (!std::is_class_v<T> || !std::is_empty_v<T>) {
    return std::nullopt;
  }
  return members.take();
}

template <class T>
subtree subtree_of(std::string name, std::uint32_t offset, std::uint16_t depth) {
  using shape = array_shape<T>;
  using element = typename shape::element;
  constexpr bool has_elements = shape::count != 0;  // else a std::array<U, 0>: one byte that means nothing

  subtree result(1);
  schema_field field;
  field.name = std::move(name);
  field.type_name = schema_type_name<std::conditional_t<has_elements, element, T>>();
  field.offset = offset;
  field.depth = depth;
  field.size_bytes = static_cast<std::uint32_t>(has_elements ? sizeof(element) : sizeof(T));
  field.count = static_cast<std::uint32_t>(has_elements ? shape::count : 1);
  field.is_array = has_elements && shape::rank != 0;
  if constexpr (has_elements) {
    field.kind = scalar_kind<element>();
    // The last dimension of characters and of bytes is one text, one run of bytes.
    if constexpr (scalar_kind<element>() == field_kind::character && shape::rank != 0) field.kind = field_kind::text;
    if constexpr (shape::rank != 0 &&
                  (std::is_same_v<element, std::byte> || scalar_kind<element>() == field_kind::character)) {
      field.is_array = shape::rank > 1;
      if (field.is_array || field.kind == field_kind::bytes) {
        field.size_bytes = static_cast<std::uint32_t>(shape::last);
        field.count = static_cast<std::uint32_t>(shape::count / shape::last);
      }
    }
    if constexpr (scalar_kind<element>() == field_kind::enumeration) {
      field.underlying = underlying_kind<element>();
      field.enumerators = enumerators_of<element>();
    }
    if constexpr (std::is_class_v<element> && !is_basic_key<element> && !is_marked_opaque<element>()) {
      if (auto members = members_of<element>(offset, depth)) {
        field.kind = field_kind::structure;
        std::move(members->begin(), members->end(), std::back_inserter(result));
      }
    }
  } else {
    field.kind = field_kind::bytes;
  }
  result.front() = std::move(field);
  return result;
}

}  // namespace detail

template <class T>
std::string schema_type_name() {
  if constexpr (requires { schema_traits<T>::name; }) {
    return schema_traits<T>::name;
  } else if constexpr (std::is_same_v<T, key>) {
    return "dm::key";
  } else if constexpr (std::is_array_v<T> || !std::is_same_v<T, std::remove_cv_t<T>>) {
    return schema_type_name<typename detail::array_shape<T>::element>();
  } else {
    constexpr field_kind kind = detail::scalar_kind<T>();
    if constexpr (std::is_arithmetic_v<T> && kind != field_kind::bytes) return to_string(kind);
    return detail::cpp_type_name<T>();
  }
}

template <class T>
schema schema_of() {
  require_storable<T>();
  static_assert(sizeof(T) <= 0xffff'ffffu, "a value in a file has less than 4 GiB");
  schema result;
  if constexpr (storable<T>) {  // or the errors of what follows would hide the reason given above
    result.version = schema_version<std::remove_cv_t<T>>();
    result.fields = detail::subtree_of<T>({}, 0, 0);
    // Beyond what a file can describe (thousands of members, names with control characters): a value of bytes.
    if (first_fault(result, sizeof(T))) {
      result.fields.resize(1);
      schema_field& value = result.fields.front();
      value.kind = field_kind::bytes;
      value.underlying = field_kind::none;
      value.enumerators.clear();
      value.size_bytes = static_cast<std::uint32_t>(sizeof(T));
      value.count = 1;
      value.is_array = false;
    }
  }
  return result;
}

}  // namespace dm
