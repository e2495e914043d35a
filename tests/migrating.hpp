// Two versions of a type, files of the first with a history, and what must be true of a file migrated to the second.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/migrate.hpp"
#include "files.hpp"

namespace v1 {
struct item {
  std::uint32_t number;
  float price_euros;
};
BOOST_DESCRIBE_STRUCT(item, (), (number, price_euros))
}  // namespace v1

namespace v2 {
struct alignas(32) item {  // larger, and aligned otherwise
  dm::key self;
  std::int64_t price_cents;
  std::uint32_t number;
  char note[60];
};
BOOST_DESCRIBE_STRUCT(item, (), (self, price_cents, number, note))
}  // namespace v2

template <>
struct dm::schema_traits<v1::item> {
  static constexpr auto name = "item";
  static constexpr std::uint32_t version = 1;
};
template <>
struct dm::schema_traits<v2::item> {
  static constexpr auto name = "item";
  static constexpr std::uint32_t version = 2;
};

namespace test {

using old_map = dm::mapped_map<v1::item>;
using new_map = dm::mapped_map<v2::item>;

inline v2::item upgraded(dm::key k, const v1::item& old) {
  return {k, static_cast<std::int64_t>(old.price_euros * 100), old.number, "migrated"};
}
inline bool is_upgraded(const v2::item& value, dm::key k, const v1::item& old) {
  return value.self == k && value.number == old.number && value.price_cents == std::int64_t{old.number} * 25 &&
         std::string(value.note) == "migrated";
}

/// Sets the version of a slot in a closed file.
inline void plant_version(const std::filesystem::path& path, std::uint32_t slot, std::uint32_t word) {
  const auto header = read_at<dm::arena_header>(path, 0);
  write_at(path, header.slots_offset + std::uint64_t{slot} * header.slot_stride_bytes + header.version_offset, word);
}

/// A closed file that has been through everything: values of many generations, vacant and retired slots, slots that
/// were given back. Value i has the price i / 4.
inline void make_old_file(const std::filesystem::path& path, std::uint32_t values = 1000,
                          const dm::arena_options& how = {.max_slots = 20'000}) {
  const auto number = [](std::uint32_t i) { return v1::item{i, static_cast<float>(i) / 4}; };
  old_map m = old_map::create(path, how);
  std::vector<dm::key> keys;
  for (std::uint32_t i = 0; i < values; ++i) keys.push_back(m.insert(number(i)));
  for (std::uint32_t round = 0; round < 5; ++round)
    for (std::uint32_t i = round; i < values; i += 3 + round)
      if (m.erase(keys[i])) keys[i] = m.insert(number(i));
  m.close();
  // The last life of three slots: two are retired by what follows, the third goes on.
  for (const std::uint32_t slot : {5u, 6u, 7u})
    plant_version(path, slot, dm::version::occupied(dm::version::last_generation));
  m = old_map::open(path);
  m.erase(m.key_at(5));
  m.erase(m.key_at(6));
  for (std::uint32_t i = 10; i < values; i += 4) m.erase(m.key_at(i));
  for (std::uint32_t i = values - values / 10; i < values; ++i) m.erase(m.key_at(i));
  m.shrink_to_fit();
  REQUIRE(m.generation_floor() > 1);
  REQUIRE(m.retired_count() == 2);
  REQUIRE(m.verify().empty());
}

/// The keys that a map gives out until all vacant slots are taken and some are new.
template <class Map>
std::set<dm::key> next_keys(Map& m) {
  std::set<dm::key> keys;
  for (const std::size_t until = m.slot_count() + 40; m.slot_count() < until;) keys.insert(m.insert({}));
  return keys;
}

/// That `to` is `from`, slot by slot, with values migrated. `from` may be a file whose user was killed.
/// Changes both files.
inline void check_migrated(const std::filesystem::path& from, const std::filesystem::path& to) {
  const auto control_of = [](const std::filesystem::path& path) {
    return read_at<dm::control_block>(path, read_at<dm::arena_header>(path, 0).control_offset);
  };
  const auto control = control_of(to);
  CHECK(control.boot_id == control_of(from).boot_id);
  CHECK(control.closed == control.checksum());
  CHECK(control.synced == control.checksum());
  old_map before = old_map::open(from);
  new_map after = new_map::open(to);
  CHECK(after.recovery().outcome == dm::recovery_outcome::clean);
  CHECK(after.verify() == "");
  CHECK(after.size() == before.size());
  CHECK(after.reserved_count() == 0);
  CHECK(after.retired_count() == before.retired_count());
  CHECK(after.generation_floor() == before.generation_floor());
  REQUIRE(after.slot_count() == before.slot_count());
  for (std::uint32_t i = 0; i < before.slot_count(); ++i) {
    REQUIRE(after.state(i) == before.state(i));
    const dm::key k = before.key_at(i);
    REQUIRE(after.key_at(i) == k);
    if (k) REQUIRE(is_upgraded(after.at(k), k, before.at(k)));
  }
  // The same lives are still to come, in vacant slots and in those given back: so no dead key can come alive.
  CHECK(next_keys(after) == next_keys(before));
  CHECK(after.verify() == "");
}

/// The names in a directory.
inline std::set<std::string> names_in(const std::filesystem::path& directory) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) names.insert(entry.path().filename());
  return names;
}

}  // namespace test
