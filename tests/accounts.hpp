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

}  // namespace accounts
