// What dm-inspect's library sees in the file of a shared map, while it is in use.
#include <cstring>
#include <span>
#include <vector>

#include "catch.hpp"
#include "deferred_map/inspect.hpp"
#include "deferred_map/shared_map.hpp"
#include "self_checking.hpp"
#include "temporary_directory.hpp"

namespace {

using map = dm::shared_map<self_checking>;
namespace inspect = dm::inspect;

self_checking value_in(std::span<const std::byte> bytes) {
  self_checking value{};
  REQUIRE(bytes.size() == sizeof value);
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace

TEST_CASE("of a value that is being updated the new one is shown, which is what all others see") {
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, {.max_slots = 300});
  const dm::key other = m.insert(checked_value(1)), k = m.insert(checked_value(2));
  auto held = m.allocate_handle();
  const auto attached = dm::sharing::attachment::open(path, dm::detail::shared_type_of<self_checking>(), {});
  auto on = attached->on();
  self_checking value{};
  const auto before = on.read(k.index(), k.generation(), &value, sizeof value);
  REQUIRE(before);
  value = checked_value(3);
  const dm::sharing::attachment::lease scratch(*attached);
  REQUIRE(on.begin_update(k.index(), *before, scratch.number(), &value, sizeof value) == dm::sharing::outcome::done);

  const auto arena = inspect::arena_file::open(path);
  const auto found = inspect::lookup(arena, {k.index(), k.generation()});
  CHECK(found.state == inspect::key_state::live);
  CHECK(found.slot.state() == dm::slot_state::updating);
  CHECK(value_in(found.value).number == 3);
  CHECK(value_in(found.value).is_whole());
  CHECK(value_in(inspect::lookup(arena, {other.index(), other.generation()}).value).number == 1);
  CHECK(inspect::lookup(arena, {held.index(), held.generation()}).state == inspect::key_state::reserved);
  std::vector<std::uint64_t> seen;
  inspect::slot_scan scan(arena, {}, inspect::slot_parts::versions_and_values);
  while (const inspect::slot_view* slot = scan.next()) {
    if (slot->index == held.index())
      CHECK(dm::sharing::word::owner_of(std::uint64_t{slot->auxiliary} << 32) == m.owner_id());
    if (slot->state() == dm::slot_state::occupied || slot->state() == dm::slot_state::updating)
      seen.push_back(value_in(slot->value).number);
  }
  CHECK(seen == std::vector<std::uint64_t>{1, 3});
  CHECK(inspect::check(arena).is_clean());
  CHECK(m.get(k)->number == 3);
  on.finish_update(k.index(), scratch.number());
  CHECK(value_in(inspect::lookup(inspect::arena_file::open(path), {k.index(), k.generation()}).value).number == 3);
  m.release_handle(std::move(held));
  attached->close();
}
