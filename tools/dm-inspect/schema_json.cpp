#include "schema_json.hpp"

#include <stdexcept>

#include "value_json.hpp"

namespace tool {
namespace {

[[noreturn]] void refuse(const std::string& reason) { throw std::runtime_error("the schema " + reason); }

template <class Number>
Number number_in(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_unsigned()) refuse(std::string("has no number '") + name + "'");
  const auto number = found->get<std::uint64_t>();
  if (number > std::numeric_limits<Number>::max()) refuse(std::string("has too large a number '") + name + "'");
  return static_cast<Number>(number);
}

std::string text_in(const json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) refuse(std::string("has no text '") + name + "'");
  return found->get<std::string>();
}

bool flag_in(const json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

dm::field_kind kind_in(const json& object, const char* name) {
  const std::string text = text_in(object, name);
  for (auto number = static_cast<unsigned>(dm::field_kind::bytes);
       number <= static_cast<unsigned>(dm::field_kind::structure); ++number)
    if (text == dm::to_string(static_cast<dm::field_kind>(number))) return static_cast<dm::field_kind>(number);
  refuse("has an unknown kind '" + text + "'");
}

dm::schema_field field_in(const json& object) {
  if (!object.is_object()) refuse("has a field that is no object");
  dm::schema_field field;
  field.depth = number_in<std::uint16_t>(object, "depth");
  if (!flag_in(object, "unnamed")) field.name = text_in(object, "name");
  field.type_name = text_in(object, "type");
  field.kind = kind_in(object, "kind");
  field.offset = number_in<std::uint32_t>(object, "offset");
  field.size_bytes = number_in<std::uint32_t>(object, "size_bytes");
  field.count = number_in<std::uint32_t>(object, "count");
  field.is_array = flag_in(object, "is_array");
  if (field.kind != dm::field_kind::enumeration) return field;
  field.underlying = kind_in(object, "underlying");
  const auto names = object.find("enumerators");
  if (names == object.end() || !names->is_array()) refuse("has an enumeration without its list 'enumerators'");
  for (const json& each : *names) {
    if (!each.is_object() || !each.contains("value") || !each["value"].is_number_integer())
      refuse("has an enumerator without a value");
    const json& value = each["value"];
    field.enumerators.push_back({text_in(each, "name"), value.is_number_unsigned()
                                                            ? static_cast<std::int64_t>(value.get<std::uint64_t>())
                                                            : value.get<std::int64_t>()});
  }
  return field;
}

}  // namespace

json field_json(const dm::schema_field& field, std::size_t position) {
  json record = {{"name", text_json(field.depth == 0 ? "" : dm::display_name(field, position))},
                 {"type", text_json(field.type_name)},
                 {"kind", dm::to_string(field.kind)},
                 {"offset", field.offset},
                 {"size_bytes", field.size_bytes},
                 {"count", field.count},
                 {"is_array", field.is_array},
                 {"depth", field.depth}};
  if (field.depth != 0 && field.name.empty()) record["unnamed"] = true;
  if (field.kind == dm::field_kind::enumeration) {
    record["underlying"] = dm::to_string(field.underlying);
    json names = json::array();
    for (const dm::schema_enumerator& each : field.enumerators) {
      json value = each.value;
      if (field.underlying == dm::field_kind::u64) value = static_cast<std::uint64_t>(each.value);
      names.push_back({{"name", text_json(each.name)}, {"value", value}});
    }
    record["enumerators"] = names;
  }
  return record;
}

void add_type(json& head, const dm::schema& schema, const dm::arena_header& layout) {
  head["type"] = text_json(schema.fields.front().type_name);
  head["type_version"] = schema.version;
  head["value_size_bytes"] = layout.value_size_bytes;
  head["value_align_bytes"] = layout.value_align_bytes;
}

json fields_json(const dm::schema& schema) {
  json fields = json::array();
  std::vector<std::size_t> positions;  // of the next field at each depth
  for (const dm::schema_field& field : schema.fields) {
    positions.resize(field.depth + std::size_t{1});
    fields.push_back(field_json(field, positions.back()++));
  }
  return fields;
}

described_type type_from_json(const json& document) {
  if (!document.is_object()) refuse("is no JSON object, as 'dm-inspect schema --format json' prints it");
  described_type type;
  type.schema.version = number_in<std::uint32_t>(document, "type_version");
  type.value_size_bytes = number_in<std::uint32_t>(document, "value_size_bytes");
  type.value_align_bytes = number_in<std::uint32_t>(document, "value_align_bytes");
  const auto fields = document.find("fields");
  if (fields == document.end() || !fields->is_array()) refuse("has no list 'fields'");
  for (const json& each : *fields) type.schema.fields.push_back(field_in(each));
  if (const auto fault = dm::first_fault(type.schema, type.value_size_bytes))
    throw std::runtime_error("the type cannot be what the schema says: " + *fault);
  return type;
}

}  // namespace tool
