// What happened to the golden files of shared maps. Never edited, as the files themselves.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>

#include "deferred_map/shared_map.hpp"

namespace golden {

struct shared_value {
  std::uint64_t number;
  char name[12];
};
BOOST_DESCRIBE_STRUCT(shared_value, (), (number, name))

using shared = dm::shared_map<shared_value>;

struct shared_keys {
  dm::key zero, one, erased, updated, handle;
};

/// Five values, one erased, one updated twice; a handle that was given up, in the erased one's slot.
inline shared_keys happen(shared& map) {
  shared_keys keys;
  keys.zero = map.insert({0, "zero"});
  keys.one = map.insert({11, "one"});
  keys.erased = map.insert({22, "two"});
  keys.updated = map.insert({33, "three"});
  map.insert({44, "four"});
  map.erase(keys.erased);
  for (int i = 0; i < 2; ++i) map.update(keys.updated, [](shared_value& v) { v.number += 1000; });
  auto h = map.allocate_handle();
  keys.handle = h.key();
  map.release_handle(std::move(h));
  return keys;
}

}  // namespace golden
