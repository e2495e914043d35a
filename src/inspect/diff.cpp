#include "deferred_map/inspect/diff.hpp"

#include <algorithm>
#include <cstring>

#include "deferred_map/container/version.hpp"

namespace dm::inspect {
namespace {

bool is_alive(const slot_view* slot) noexcept {
  return slot != nullptr && slot->readable && slot->possible &&
         (slot->state() == slot_state::occupied || slot->state() == slot_state::updating);
}

/// Of two files whose schemas cannot both be read: their bytes are all there is.
dm::schema bytes_alone(std::uint32_t size_bytes) {
  dm::schema opaque;
  schema_field& value = opaque.fields.emplace_back();
  value.kind = field_kind::bytes;
  value.type_name = "bytes";
  value.size_bytes = size_bytes;
  return opaque;
}

class comparing {
 public:
  comparing(const arena_file& a, const arena_file& b, const std::function<void(const difference&)>& visit)
      : a_(a), b_(b), visit_(visit), schema_(a.schema() ? *a.schema() : bytes_alone(a.layout().value_size_bytes)) {}

  diff_report run(const diff_options& options) {
    types();
    slot_scan in_a(a_, {}, slot_parts::versions_and_values);
    slot_scan in_b(b_, {}, slot_parts::versions_and_values);
    const std::uint64_t slots = std::max(a_.slot_count(), b_.slot_count());
    for (std::uint64_t slot = 0; slot < slots; ++slot) {
      const slot_view* const of_a = in_a.next();
      const slot_view* const of_b = in_b.next();
      if (of_a == nullptr && of_b == nullptr) break;  // cut short meanwhile
      one(static_cast<std::uint32_t>(slot), of_a, of_b);
      if (options.progress && slot % 4096 == 0) options.progress(slot, slots);
    }
    if (floor_of(a_) != floor_of(b_)) {
      report_.same_floor = false;
      visit_({.kind = difference_kind::floor, .slot = static_cast<std::uint32_t>(slots)});
    }
    return report_;
  }

 private:
  static std::uint32_t floor_of(const arena_file& arena) {
    return std::max(arena.control() ? arena.control()->generation_floor : 0, version::first_generation);
  }

  void types() {
    std::optional<std::string> difference;
    if (a_.schema() && b_.schema())
      difference = first_difference(*a_.schema(), *b_.schema(), {"first file", "second file"});
    else if (a_.schema() || b_.schema())
      difference = "the schema of one of them cannot be read";
    else if (a_.layout().value_size_bytes != b_.layout().value_size_bytes)
      difference = "values have different sizes";
    if (!difference) return;
    report_.same_type = false;
    visit_({.kind = difference_kind::type, .text = *difference});
  }

  void one(std::uint32_t slot, const slot_view* a, const slot_view* b) {
    const auto cannot_be_told = [](const slot_view* view) {
      return view != nullptr && (!view->readable || !view->possible);
    };
    if (cannot_be_told(a) || cannot_be_told(b)) ++report_.unreadable;
    const bool in_a = is_alive(a), in_b = is_alive(b);
    if (in_a && in_b && a->generation() == b->generation()) return values(slot, *a, *b);
    if (in_a) {
      ++report_.only_in_a;
      visit_({.kind = difference_kind::only_in_a, .slot = slot, .a = a, .b = b});
    }
    if (in_b) {
      ++report_.only_in_b;
      visit_({.kind = difference_kind::only_in_b, .slot = slot, .a = a, .b = b});
    }
    if (in_a || in_b || word_of(a_, a) == word_of(b_, b)) return;
    ++report_.slots;
    visit_({.kind = difference_kind::slot, .slot = slot, .a = a, .b = b});
  }

  /// A slot that was never made, or is all zeros, is what it would be made as.
  static std::uint32_t word_of(const arena_file& arena, const slot_view* slot) {
    return slot == nullptr || slot->version == 0 ? version::vacant(floor_of(arena)) : slot->version;
  }

  void values(std::uint32_t slot, const slot_view& a, const slot_view& b) {
    if (!report_.same_type ||
        (a.value.size() == b.value.size() && std::equal(a.value.begin(), a.value.end(), b.value.begin()))) {
      ++report_.same;
      return;
    }
    const std::uint64_t before = report_.fields;
    for_each_leaf(schema_, [&](const leaf& part) {
      const auto left = leaf_bytes(part, a.value), right = leaf_bytes(part, b.value);
      if (left.size() == right.size() && std::equal(left.begin(), left.end(), right.begin())) return true;
      ++report_.fields;
      visit_({.kind = difference_kind::value, .slot = slot, .a = &a, .b = &b, .field = &part});
      return true;
    });
    ++(report_.fields == before ? report_.same : report_.values);
  }

  const arena_file& a_;
  const arena_file& b_;
  const std::function<void(const difference&)>& visit_;
  dm::schema schema_;
  diff_report report_;
};

}  // namespace

const char* to_string(difference_kind kind) noexcept {
  switch (kind) {
    case difference_kind::type:
      return "type";
    case difference_kind::only_in_a:
      return "only_in_a";
    case difference_kind::only_in_b:
      return "only_in_b";
    case difference_kind::value:
      return "value";
    case difference_kind::slot:
      return "slot";
    case difference_kind::floor:
      return "floor";
  }
  return "unknown";
}

diff_report diff(const arena_file& a, const arena_file& b, const std::function<void(const difference&)>& visit,
                 const diff_options& options) {
  return comparing(a, b, visit).run(options);
}

}  // namespace dm::inspect
