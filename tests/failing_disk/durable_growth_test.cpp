// The disk may forget how long a file had become. What opening would not make up for is on it before a commit tells of it.
#include <algorithm>
#include <vector>

#include "../catch.hpp"
#include "../temporary_directory.hpp"
#include "deferred_map/durable_map.hpp"
#include "disk.hpp"

namespace {

struct wide {
  std::uint64_t numbers[8192];  // 64 KiB
};
using map = dm::durable_map<wide>;

struct seen {
  disk::call made;
  int descriptor;
};

/// What is asked of the disk meanwhile. Room is promised and not made: nothing is stored there.
template <class F>
std::vector<seen> asked_by(F work) {
  std::vector<seen> calls;
  const disk::scripted watched([&](disk::call made, int descriptor) {
    calls.push_back({made, descriptor});
    return made == disk::call::allocate ? disk::done : 0;
  });
  work();
  return calls;
}

/// Whether the file that was made longer was synced since, before anything was written.
bool waits_for_growth(const std::vector<seen>& calls) {
  const auto last =
      std::find_if(calls.rbegin(), calls.rend(), [](const seen& c) { return c.made == disk::call::allocate; });
  REQUIRE(last != calls.rend());
  for (auto at = last.base(); at != calls.end(); ++at) {
    if (at->made == disk::call::sync && at->descriptor == last->descriptor) return true;
    if (at->made == disk::call::write) return false;
  }
  return false;
}

}  // namespace

TEST_CASE("room that opening would not believe in is on the disk before a commit tells of it") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 100'000});
  const auto reserve_and_commit = [&](std::size_t slots) {
    return asked_by([&] {
      m.reserve(slots);
      m.commit();
    });
  };
  SECTION("at once") {
    CHECK_FALSE(
        waits_for_growth(reserve_and_commit(1000)));  // 64 MiB: opening makes the file that much longer by itself
    CHECK(waits_for_growth(reserve_and_commit(10'000)));
  }
  SECTION("by and by") {
    bool waited = false;
    std::size_t slots = 0;
    while (!waited && slots < 16'000) {
      slots += 1000;
      waited = waits_for_growth(reserve_and_commit(slots));
    }
    CHECK(slots * sizeof(wide) <= (std::size_t{512} << 20));
    CHECK(waited);
  }
}
