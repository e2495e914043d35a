// The memory that a durable map takes: copies of the pages that were stored to, which come to lie together, and which the
// kernel has back once the file has them too.
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "accounts.hpp"
#include "catch.hpp"
#include "deferred_map/durable_map.hpp"
#include "effort.hpp"
#include "temporary_directory.hpp"

namespace {

struct record {
  std::uint64_t number = 0;
  std::uint64_t rest[7] = {};
};
using map = dm::durable_map<record>;

constexpr std::uint64_t stretch_bytes = std::uint64_t{2} << 20;
constexpr int record_count = 200'000;  // seven stretches

/// What of the addresses [first, last] is memory and not the file's.
struct memory_use {
  std::uint64_t copied_bytes = 0;    // copies of the file's pages, wherever they lie
  std::uint64_t gathered_bytes = 0;  // mappings without a file
  std::uint64_t large_bytes = 0;     // in large pages
};
memory_use memory_of(const record* first, const record* last) {
  const auto begin = reinterpret_cast<std::uintptr_t>(first), end = reinterpret_cast<std::uintptr_t>(last + 1);
  std::ifstream maps("/proc/self/smaps");
  memory_use found;
  bool is_in = false, is_file = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long long from = 0, to = 0, bytes = 0;
    if (std::sscanf(line.c_str(), "%llx-%llx ", &from, &to) == 2) {
      is_in = from < end && to > begin;
      is_file = line.find('/') != std::string::npos;
      if (is_in && !is_file) found.gathered_bytes += to - from;
    } else if (is_in && is_file && std::sscanf(line.c_str(), "Anonymous: %llu kB", &bytes) == 1) {
      found.copied_bytes += bytes * 1024;
    } else if (is_in && std::sscanf(line.c_str(), "AnonHugePages: %llu kB", &bytes) == 1) {
      found.large_bytes += bytes * 1024;
    }
  }
  return found;
}

bool large_pages_are_given() {
  std::string text;
  std::getline(std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled"), text);
  return text.find("[never]") == std::string::npos && !text.empty();
}

/// Values at random places, and where they must be.
class filled_map {
 public:
  explicit filled_map(map opened) : m(std::move(opened)) {
    for (int i = 0; i < record_count; ++i) {
      keys.push_back(m.insert(record{}));
      if (i % 1000 == 999) m.commit();
    }
    where.reserve(keys.size());
    for (const dm::key k : keys) where.push_back(&std::as_const(m).at(k));
    expected.resize(keys.size());
  }
  void update(int first, int count, int commits) {
    for (int commit = 0; commit < commits; ++commit) {
      for (int i = 0; i < 1000; ++i) {
        const auto at = static_cast<std::size_t>(first) + random() % static_cast<std::size_t>(count);
        m.at(keys[at]).number = expected[at] = random();
      }
      m.commit();
    }
  }
  bool is_as_expected() const {
    bool all = true;
    for (std::size_t i = 0; i < keys.size(); ++i)
      all = all && &std::as_const(m).at(keys[i]) == where[i] && where[i]->number == expected[i];
    return all;
  }
  memory_use memory() const { return memory_of(where.front(), where.back()); }

  map m;
  std::vector<dm::key> keys;
  std::vector<const record*> where;
  std::vector<std::uint64_t> expected;
  std::mt19937_64 random{7};
};

}  // namespace

TEST_CASE("pages that were stored to come to lie together, while values stay where they are") {
  temporary_directory directory;
  filled_map filled(map::create(directory / "m", {.max_slots = 1'000'000}));
  REQUIRE(filled.m.checkpoint());
  filled.update(0, record_count, 100);
  CHECK(filled.is_as_expected());
  const memory_use used = filled.memory();
  // All but the first, with the head of the file, and the last, of which a part may lie behind the end of the file.
  CHECK(used.gathered_bytes >= 5 * stretch_bytes);
  CHECK(used.copied_bytes <= 2 * stretch_bytes);
  if (!large_pages_are_given())
    WARN("unavailable: large pages");
  else
    CHECK(used.large_bytes > 0);
  // What is taken back is what was there.
  filled.m.at(filled.keys[100'000]).number = 1;
  filled.m.rollback();
  CHECK(filled.is_as_expected());
  filled.m.close();
  const map again = map::open_read_only(directory / "m");
  for (std::size_t i = 0; i < filled.keys.size(); i += 97)
    REQUIRE(again.at(filled.keys[i]).number == filled.expected[i]);
}

TEST_CASE("what the file has again takes no memory, and what has changed since stays ours") {
  temporary_directory directory;
  filled_map filled(map::create(directory / "m", {.max_slots = 1'000'000}));
  filled.update(0, record_count, 100);
  CHECK(filled.memory().gathered_bytes > 0);
  REQUIRE(filled.m.checkpoint());
  CHECK(filled.memory().gathered_bytes == 0);
  CHECK(filled.memory().copied_bytes == 0);
  CHECK(filled.is_as_expected());
  // A part of it only, then other parts, for many generations of the journal, of which each gives back what the one before changed.
  for (int part = 0; part < 10; ++part) {
    filled.update(part * (record_count / 10), record_count / 10, 150);
    CHECK(filled.is_as_expected());
  }
  CHECK(filled.memory().gathered_bytes <= 4 * stretch_bytes);
  CHECK(filled.memory().gathered_bytes > 0);
}

TEST_CASE("what opening replays comes to lie together with the commits that follow") {
  temporary_directory directory;
  const auto path = directory / "m";
  accounts::in_killed_child([&] {
    static filled_map filled(map::create(path, {.max_slots = 1'000'000, .journal_bytes = std::uint64_t{64} << 20}));
    if (!filled.m.checkpoint()) ::_exit(2);
    filled.update(0, record_count, 100);
  });
  map m = map::open(path);
  std::vector<const record*> where;
  std::uint64_t sum = 0;
  for (const record& value : std::as_const(m).values()) where.push_back(&value), sum += value.number != 0;
  CHECK(where.size() == record_count);
  CHECK(sum > record_count / 4);
  // Opening is not kept waiting by it.
  CHECK(memory_of(where.front(), where.back()).gathered_bytes == 0);
  for (int i = 0; i < 10; ++i) {
    m.insert(record{});
    m.commit();
  }
  CHECK(memory_of(where.front(), where.back()).gathered_bytes >= 5 * stretch_bytes);
}

TEST_CASE(
    "where there is no address space to bring pages together in, they stay where they are, and nothing else fails") {
  if (sanitized) return;  // whose own memory would not fit either
  temporary_directory directory;
  accounts::in_killed_child([&] {
    filled_map filled(map::create(directory / "m", {.max_slots = 1'000'000}));
    if (!filled.m.checkpoint()) ::_exit(2);
    filled.update(0, record_count, 1);
    std::uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlimit little{pages * 4096 + stretch_bytes, pages * 4096 + stretch_bytes};
    if (::setrlimit(RLIMIT_AS, &little) != 0) ::_exit(2);
    filled.update(0, record_count, 100);
    if (!filled.is_as_expected() || filled.memory().gathered_bytes != 0) ::_exit(2);
  });
  CHECK(map::open(directory / "m", {.verify = true}).size() == record_count);
}
