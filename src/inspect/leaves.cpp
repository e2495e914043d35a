#include "deferred_map/inspect/leaves.hpp"

#include <algorithm>

namespace dm::inspect {
namespace {

class leaf_walk {
 public:
  leaf_walk(const schema& of, const std::function<bool(const leaf&)>& visit) : schema_(of), visit_(visit) {}

  bool run() {
    const schema_field& root = schema_.fields.front();
    // A structure's members have names of their own; anything else is "value".
    if (root.kind != field_kind::structure || root.is_array) path_ = "value";
    return field(0, 0);
  }

 private:
  /// Field `index` in the element of its enclosing arrays that begins `shift` bytes after the first.
  bool field(std::size_t index, std::uint64_t shift) {
    const schema_field& of = schema_.fields[index];
    if (!of.is_array) return element(index, of.offset + shift, shift);
    const std::size_t length = path_.size();
    for (std::uint32_t i = 0; i < of.count; ++i) {
      const std::uint64_t skipped = std::uint64_t{i} * of.size_bytes;
      path_ += '[' + std::to_string(i) + ']';
      if (!element(index, of.offset + shift + skipped, shift + skipped)) return false;
      path_.resize(length);
    }
    return true;
  }

  bool element(std::size_t index, std::uint64_t at, std::uint64_t shift) {
    const schema_field& of = schema_.fields[index];
    if (of.kind != field_kind::structure) {
      const std::uint64_t size = of.kind == field_kind::text && !of.is_array ? of.extent_bytes() : of.size_bytes;
      return visit_({&of, at, size, path_});
    }
    const std::size_t length = path_.size();
    const std::size_t end = subtree_end(schema_, index);
    member_names names;
    std::size_t position = 0;
    for (std::size_t child = index + 1; child < end; child = subtree_end(schema_, child)) {
      if (length != 0) path_ += '.';
      path_ += names.next(display_name(schema_.fields[child], position++));
      if (!field(child, shift)) return false;
      path_.resize(length);
    }
    return true;
  }

  const schema& schema_;
  const std::function<bool(const leaf&)>& visit_;
  std::string path_;
};

}  // namespace

std::string member_names::next(std::string_view name) {
  std::string candidate(name);
  for (unsigned number = 2; !taken_.insert(candidate).second; ++number)
    candidate = std::string(name) + "#" + std::to_string(number);
  return candidate;
}

bool for_each_leaf(const schema& of, const std::function<bool(const leaf&)>& visit) {
  return of.fields.empty() || leaf_walk(of, visit).run();
}

std::span<const std::byte> leaf_bytes(const leaf& part, std::span<const std::byte> value) noexcept {
  if (part.offset > value.size() || part.size_bytes > value.size() - part.offset) return {};
  const auto bytes = value.subspan(static_cast<std::size_t>(part.offset), static_cast<std::size_t>(part.size_bytes));
  if (part.field->kind != field_kind::text) return bytes;
  return bytes.first(static_cast<std::size_t>(std::find(bytes.begin(), bytes.end(), std::byte{0}) - bytes.begin()));
}

}  // namespace dm::inspect
