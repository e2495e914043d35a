// What is said to have happened between two looks at an arena, against what did happen.
#include <random>

#include "catch.hpp"
#include "deferred_map/inspect.hpp"
#include "deferred_map/mapped_map.hpp"
#include "deferred_map/shared_map.hpp"
#include "self_checking.hpp"
#include "temporary_directory.hpp"

namespace {

namespace inspect = dm::inspect;
using mapped = dm::mapped_map<std::uint64_t>;
using shared = dm::shared_map<self_checking>;

inspect::slot_sample sample_of(const std::filesystem::path& path, const inspect::sample_limits& limits = {}) {
  return inspect::slot_sample(inspect::arena_file::open(path), limits);
}

std::uint64_t changed_in_regions(const inspect::activity& happened) {
  std::uint64_t changed = 0;
  for (const inspect::region_activity& region : happened.regions) changed += region.changed;
  return changed;
}

/// Between two samples: so many random inserts and removes, of which the numbers are returned.
template <class Map>
std::pair<std::uint64_t, std::uint64_t> do_something(Map& m, std::vector<dm::key>& keys, std::mt19937& random,
                                                     typename Map::mapped_type value) {
  std::uint64_t inserts = 0, removes = 0;
  for (std::uint32_t i = 0, count = static_cast<std::uint32_t>(random() % 2000); i < count; ++i) {
    if (keys.empty() || random() % 5 < 3) {
      keys.push_back(m.insert(value));
      ++inserts;
    } else {
      std::swap(keys[random() % keys.size()], keys.back());
      REQUIRE(m.erase(keys.back()));
      keys.pop_back();
      ++removes;
    }
  }
  return {inserts, removes};
}

}  // namespace

TEST_CASE("every insert and remove between two samples is counted, whichever slots were used, and how often") {
  temporary_directory directory;
  std::mt19937 random(99);
  mapped m = mapped::create(directory / "mapped", {.max_slots = 100'000});
  shared s = shared::create(directory / "shared", {.max_slots = 100'000});
  std::vector<dm::key> in_m, in_s;
  for (int round = 0; round < 25; ++round) {
    INFO("round " << round);
    const auto before_m = sample_of(directory / "mapped"), before_s = sample_of(directory / "shared");
    const auto did_m = do_something(m, in_m, random, std::uint64_t{1});
    const auto did_s = do_something(s, in_s, random, checked_value(1));
    const auto after_m = sample_of(directory / "mapped");
    for (const std::uint64_t regions : {1u, 10u, 1'000'000u}) {
      const auto happened = inspect::compare(before_m, after_m, regions);
      REQUIRE(happened);
      CHECK(happened->inserts == did_m.first);
      CHECK(happened->removes == did_m.second);
      CHECK_FALSE(happened->updates);
      CHECK_FALSE(happened->is_estimated);
      CHECK(changed_in_regions(*happened) == happened->changed);
    }
    CHECK(after_m.counts().occupied == in_m.size());
    const auto happened = inspect::compare(before_s, sample_of(directory / "shared"), 10);
    REQUIRE(happened);
    CHECK(happened->inserts == did_s.first);
    CHECK(happened->removes == did_s.second);
    CHECK(happened->updates == 0);
    const auto again = inspect::compare(after_m, sample_of(directory / "mapped"), 10);
    CHECK(again->changed == 0);
    CHECK(again->inserts == 0);
  }
}

TEST_CASE("slots that were made or given back are no inserts and removes of themselves") {
  temporary_directory directory;
  mapped m = mapped::create(directory / "m", {.max_slots = 100'000});
  for (int round = 0; round < 3; ++round) {
    std::vector<dm::key> keys;
    const auto before = sample_of(directory / "m");
    for (std::uint64_t i = 0; i < 5000; ++i) keys.push_back(m.insert(i));
    const auto full = sample_of(directory / "m");
    // In the second round the slots are made anew, from a generation floor.
    CHECK(inspect::compare(before, full, 1)->inserts == 5000);
    CHECK(inspect::compare(before, full, 1)->removes == 0);
    for (const dm::key k : keys) m.erase(k);
    const auto empty = sample_of(directory / "m");
    CHECK(inspect::compare(full, empty, 1)->removes == 5000);
    CHECK(inspect::compare(full, empty, 1)->inserts == 0);
    m.shrink_to_fit();
    const auto shrunk = sample_of(directory / "m");
    CHECK(inspect::compare(empty, shrunk, 1)->inserts == 0);
    CHECK(inspect::compare(empty, shrunk, 1)->removes == 0);
  }
}

// New slots begin at the generation floor. One that was made before the floor went up again has an older generation than the
// floor of the second sample, and its insert was not counted: of a ledger's 56,000 inserts a second, 108 were shown.
TEST_CASE("inserts into new slots are counted also where the generation floor went up after them") {
  temporary_directory directory;
  mapped m = mapped::create(directory / "m", {.max_slots = 100'000});
  const dm::key first = m.insert(1);
  const auto before = sample_of(directory / "m");
  std::vector<dm::key> keys;
  for (std::uint64_t i = 0; i < 1000; ++i) keys.push_back(m.insert(i));
  for (int life = 0; life < 50; ++life) m.erase(m.insert(2));
  m.shrink_to_fit();
  REQUIRE(m.generation_floor() > 50);
  for (std::uint64_t i = 0; i < 500; ++i) m.insert(i);
  const auto after = sample_of(directory / "m");
  const auto happened = inspect::compare(before, after, 10);
  CHECK(happened->inserts == 1500);  // what was in the slot that is gone is not seen
  CHECK(happened->removes == 0);
  CHECK(happened->changed == 1500);
  for (const dm::key k : keys) m.erase(k);
  m.erase(first);
  CHECK(inspect::compare(after, sample_of(directory / "m"), 10)->removes == 1001);
}

TEST_CASE("updates of shared values are counted, also one that is under way, and in which slots") {
  temporary_directory directory;
  const auto path = directory / "m";
  shared m = shared::create(path, {.max_slots = 10'000});
  std::vector<dm::key> keys;
  for (std::uint64_t i = 0; i < 1000; ++i) keys.push_back(m.insert(checked_value(i)));
  const auto twice = [](self_checking& value) { value = checked_value(2 * value.number); };
  for (int i = 0; i < 3; ++i) m.update(keys[500], twice);
  const auto before = sample_of(path);
  for (int i = 0; i < 5; ++i) m.update(keys[500], twice);
  for (int i = 0; i < 7; ++i) m.update(keys[501], twice);
  m.update(keys[900], twice);
  const auto after = sample_of(path);
  const auto happened = inspect::compare(before, after, 1'000'000);
  CHECK(happened->updates == 13);
  CHECK(happened->changed == 3);
  CHECK(happened->inserts == 0);
  CHECK(happened->regions[keys[900].index()].changed == 1);

  const auto attached = dm::sharing::attachment::open(path, dm::detail::shared_type_of<self_checking>(), {});
  auto on = attached->on();
  self_checking value{};
  const auto word = on.read(keys[500].index(), keys[500].generation(), &value, sizeof value);
  REQUIRE(word);
  value = checked_value(3);
  const dm::sharing::attachment::lease scratch(*attached);
  REQUIRE(on.begin_update(keys[500].index(), *word, scratch.number(), &value, sizeof value) ==
          dm::sharing::outcome::done);
  const auto during = sample_of(path);
  CHECK(during.counts().updating == 1);
  CHECK(inspect::compare(after, during, 1)->updates == 1);
  on.finish_update(keys[500].index(), scratch.number());
  const auto finished = sample_of(path);
  CHECK(inspect::compare(during, finished, 1)->updates == 0);
  CHECK(inspect::compare(during, finished, 1)->changed == 0);
  CHECK(inspect::compare(before, finished, 1)->updates == 14);
  attached->close();
}

TEST_CASE("of more slots than may be looked at, spread blocks are, and what happened is estimated") {
  temporary_directory directory;
  const auto path = directory / "m";
  mapped m = mapped::create(path, {.max_slots = 1'000'000});
  std::vector<dm::key> keys;
  for (std::uint64_t i = 0; i < 100'000; ++i) keys.push_back(m.insert(i));
  const inspect::sample_limits limits{.slots = 8192};
  const auto before = sample_of(path, limits), whole = sample_of(path);
  CHECK_FALSE(before.is_whole());
  CHECK(before.looked_at() <= 8192);
  CHECK(before.looked_at() > 2000);
  for (const dm::key k : keys) m.erase(k);
  const auto after = sample_of(path, limits);
  const auto happened = inspect::compare(before, after, 50);
  CHECK(happened->is_estimated);
  CHECK(happened->removes == 100'000);  // all alike, so the estimate is exact
  CHECK(happened->changed == 100'000);
  CHECK(happened->inserts == 0);
  // Of samples of different widths, what both looked at is compared.
  CHECK(inspect::compare(whole, after, 50)->removes == 100'000);
  const auto back = inspect::compare(before, sample_of(path), 50);
  CHECK(back->is_estimated);
  CHECK(back->removes == 100'000);
  CHECK(back->changed == 100'000);
  for (std::uint64_t i = 0; i < 500'000; ++i) m.insert(i);
  const auto wider = sample_of(path, limits);
  CHECK(wider.looked_at() <= 8192);
  const auto grown = inspect::compare(after, wider, 50);
  CHECK(grown->inserts > 490'000);
  CHECK(grown->inserts < 510'000);
}

TEST_CASE("nothing is said of a file that was replaced by another") {
  temporary_directory directory;
  mapped::create(directory / "one", {.max_slots = 10}).close();
  mapped::create(directory / "two", {.max_slots = 10}).close();
  CHECK_FALSE(inspect::compare(sample_of(directory / "one"), sample_of(directory / "two"), 1));
  CHECK(inspect::compare(sample_of(directory / "one"), sample_of(directory / "one"), 1));
}
