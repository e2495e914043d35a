#include <charconv>
#include <cstring>

#include "deferred_map/inspect/slots.hpp"

namespace dm::inspect {
namespace {

/// Reads the whole of `text` as a number.
template <class Number>
bool read_number(std::string_view text, Number& number, int base = 10) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return code == std::errc() && end == text.data() + text.size();
}

bool is_a_life(std::uint32_t generation) {
  return generation >= version::first_generation && generation <= version::last_generation;
}

std::string lives(std::uint32_t count) { return std::to_string(count) + (count == 1 ? " generation" : " generations"); }

void judge(lookup_result& result, std::uint32_t generation) {
  const slot_view& slot = result.slot;
  const std::uint32_t now = slot.generation();
  result.generations_apart = now > generation ? now - generation : generation - now;
  const slot_state state = slot.state();
  if (!slot.readable || !slot.possible)
    result.state = key_state::unreadable;
  else if (slot.version == 0)
    result.state = key_state::never_used;
  else if (state == slot_state::retired)
    result.state = key_state::retired;
  else if (generation < now)
    result.state = key_state::stale;
  else if (generation > now || state == slot_state::vacant)
    result.state = key_state::not_yet;
  else
    result.state = state == slot_state::reserved ? key_state::reserved : key_state::live;
}

}  // namespace

const char* to_string(key_state state) noexcept {
  switch (state) {
    case key_state::live:
      return "live";
    case key_state::stale:
      return "stale";
    case key_state::reserved:
      return "reserved";
    case key_state::not_yet:
      return "not yet";
    case key_state::never_used:
      return "never used";
    case key_state::no_such_slot:
      return "no such slot";
    case key_state::retired:
      return "retired";
    case key_state::unreadable:
      return "unreadable";
  }
  return "unknown";
}

std::optional<key_parts> parse_key_parts(std::string_view text) {
  key_parts key;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    std::uint64_t bits = 0;
    if (!read_number(text.substr(2), bits, 16)) return std::nullopt;
    key = {static_cast<std::uint32_t>(bits), version::generation(static_cast<std::uint32_t>(bits >> 32))};
    return is_a_life(key.generation) && key.bits() == bits ? std::optional(key) : std::nullopt;
  }
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos || !read_number(text.substr(0, colon), key.index) ||
      !read_number(text.substr(colon + 1), key.generation) || !is_a_life(key.generation))
    return std::nullopt;
  return key;
}

lookup_result lookup(const arena_file& arena, key_parts key) {
  lookup_result result;
  if (key.index >= arena.slot_count()) {
    // A slot that counts but lies behind the file's end is there and cannot be read.
    if (arena.control() && key.index < arena.control()->slot_count) result.state = key_state::unreadable;
    return result;
  }
  for (int tries = 0; tries < 100; ++tries) {
    slot_scan scan(arena, key.index, std::uint64_t{key.index} + 1, slot_parts::versions_and_values);
    const slot_view* slot = scan.next();
    if (slot == nullptr) {
      result.state = key_state::unreadable;
      return result;
    }
    result.slot = *slot;
    result.slot.value = {};
    result.value.clear();
    judge(result, key.generation);
    if (result.state != key_state::live) return result;
    result.value.assign(slot->value.begin(), slot->value.end());
    // The value was read after its version; the version again, after it: a slot that was given away meanwhile shows.
    slot_scan after(arena, key.index, std::uint64_t{key.index} + 1, slot_parts::versions);
    const slot_view* again = after.next();
    if (again != nullptr && again->version == result.slot.version && again->auxiliary == result.slot.auxiliary)
      return result;
  }
  return result;
}

std::string lookup_result::to_string() const {
  const std::string apart = lives(generations_apart);
  switch (state) {
    case key_state::live:
      return "live";
    case key_state::stale:
      return "stale by " + apart + ": its value is gone, the slot is " + dm::to_string(slot.state()) +
             " in generation " + std::to_string(slot.generation());
    case key_state::reserved:
      return "reserved: a handle was given out, and its value has not come yet";
    case key_state::not_yet:
      return slot.state() == slot_state::vacant && generations_apart == 0
                 ? "not yet: the slot is vacant, and this will be the key of its next value"
                 : "not yet: the slot is " + std::string(dm::to_string(slot.state())) + " in generation " +
                       std::to_string(slot.generation()) + ", " + apart + " before";
    case key_state::never_used:
      return "the slot has never been used";
    case key_state::no_such_slot:
      return "no such slot";
    case key_state::retired:
      return "stale by " + apart + ": its value is gone, and the slot has used up its generations";
    case key_state::unreadable:
      return slot.readable ? "the slot has a version that no operation leaves, or lies behind the file's end"
                           : "the slot cannot be read";
  }
  return "unknown";
}

}  // namespace dm::inspect
