// What happened to the golden files of durable maps. Never edited, as the files themselves.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>

#include "deferred_map/durable_map.hpp"

namespace golden {

struct durable_value {
  std::uint64_t number;
  dm::key next;
  char name[12];
};
BOOST_DESCRIBE_STRUCT(durable_value, (), (number, next, name))

using durable = dm::durable_map<durable_value>;
inline constexpr dm::durable_options durable_how{.max_slots = 64, .journal_bytes = 1500};

/// Four commits: three values; one updated and one erased; a handle and a value in the erased one's slot; the handle filled.
inline void happen(durable& map) {
  const dm::key one = map.insert({1, {}, "one"});
  const dm::key two = map.insert({2, one, "two"});
  map.insert({3, two, "three"});
  map.commit();
  map.update(one, [](durable_value& v) { v.number = 11; });
  map.erase(two);
  map.commit();
  auto h = map.allocate_handle();
  map.insert({4, one, "four"});
  map.commit();
  map.insert(std::move(h), {5, {}, "five"});
  map.commit();
}

}  // namespace golden
