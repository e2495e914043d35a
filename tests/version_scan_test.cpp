// Reading 64 versions at once says of each what looking at it alone says.
#include "deferred_map/container/version_scan.hpp"

#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "catch.hpp"
#include "deferred_map/container/slot.hpp"

namespace {

using namespace dm::version;

/// The words at which something changes, with all states.
std::vector<std::uint32_t> words_of_interest() {
  std::vector<std::uint32_t> words;
  for (const std::uint32_t g : {0u, 1u, 2u, 12345u, 1u << 29, last_generation - 1, last_generation, retired_generation})
    for (std::uint32_t state = 0; state < 4; ++state) words.push_back(g << 2 | state);
  return words;
}

template <class T>
void require_same_as_one_by_one(std::mt19937& random) {
  const std::vector<std::uint32_t> words = words_of_interest();
  std::vector<dm::slot<T>> slots(64);
  for (int round = 0; round < 500; ++round) {
    // Mostly what is common, and sometimes nothing but what is not.
    const bool common = round % 2 == 0;
    for (auto& slot : slots)
      slot.version =
          common && random() % 16 != 0 ? (random() % 2 == 0 ? occupied(1) : vacant(2)) : words[random() % words.size()];
    const dm::detail::version_bits bits = dm::detail::read_versions(slots.data());
    for (std::size_t i = 0; i < slots.size(); ++i) {
      const std::uint32_t v = slots[i].version;
      const bool occupied_here = is_occupied(v) && is_possible(v);
      const bool vacant_here = is_vacant(v) && !is_retired(v) && v != 0 && generation(v) != 0;
      INFO("slot " << i << " with version " << v);
      REQUIRE((bits.occupied >> i & 1) == occupied_here);
      REQUIRE((bits.rare >> i & 1) == !(occupied_here || vacant_here));
    }
  }
}

}  // namespace

TEST_CASE("64 versions read at once are what each of them is by itself, whatever the size of a slot") {
  std::mt19937 random(42);
  require_same_as_one_by_one<std::uint32_t>(random);
  require_same_as_one_by_one<std::uint64_t>(random);
  require_same_as_one_by_one<std::array<std::uint64_t, 8>>(random);
  require_same_as_one_by_one<std::array<std::uint64_t, 600>>(random);
}
