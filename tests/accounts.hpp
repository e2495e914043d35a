// What the tests of durable maps keep in them, and how a process dies with one open.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <filesystem>
#include <map>

#include "catch.hpp"
#include "deferred_map/durable_map.hpp"
#include "processes.hpp"

namespace accounts {

struct account {
  std::int64_t balance;
  dm::key partner;
  char name[16];
};
BOOST_DESCRIBE_STRUCT(account, (), (balance, partner, name))

using map = dm::durable_map<account>;

inline account with_balance(std::int64_t balance) { return {balance, {}, "somebody"}; }

inline std::filesystem::path journal_of(const std::filesystem::path& path) { return path.string() + "-journal"; }

inline std::map<std::uint64_t, std::int64_t> contents_of(const map& m) {
  std::map<std::uint64_t, std::int64_t> found;
  for (const auto [key, value] : m) found[key.bits()] = value.balance;
  return found;
}

/// Lets go of the files as a killed process does, the map as it is.
template <class F>
void in_killed_child(F work) {
  child_process child([&](const child_process::mouth& say) {
    work();
    say('k');
    stay();
  });
  REQUIRE(child.hear() == 'k');
  child.kill();
}

/// A process that makes a map of 100 accounts there, and gives all of them the same new balance in each commit, for ever,
/// with checkpoints now and then. Returns when the map is there.
inline child_process writer_at_full_speed(const std::filesystem::path& path) {
  child_process writer([&](const child_process::mouth& say) {
    map m = map::create(path, {.max_slots = 10'000, .journal_bytes = 10'000});
    for (int i = 0; i < 100; ++i) m.insert(with_balance(0));
    m.commit();
    say('r');
    for (std::int64_t round = 1;; ++round) {
      for (account& value : m.values()) value.balance = round;
      m.commit(round % 3 == 0 ? dm::sync::now : dm::sync::later);
      if (round % 7 == 0) m.checkpoint();
    }
  });
  REQUIRE(writer.hear() == 'r');
  return writer;
}

}  // namespace accounts
