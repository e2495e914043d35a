// Accounts, and transfers between them, in one durable map: a commit moves money and writes down that it did, or does neither.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "deferred_map/durable_map.hpp"

namespace ledger {

enum class kind : std::uint32_t { account, transfer };
BOOST_DESCRIBE_ENUM(kind, account, transfer)

/// One map holds both, as a commit is atomic over one map.
struct entry {
  ledger::kind kind;
  std::uint32_t transfers;  // of an account: how many it took part in
  std::int64_t cents;       // the balance, or what was moved
  dm::key from, to;         // of a transfer. Of an account, `from` is its newest transfer
  dm::key before_from;      // of a transfer: the one before it in the account it came from,
  dm::key before_to;        // and in the one it went to
  char name[24];            // of an account
};
BOOST_DESCRIBE_STRUCT(entry, (), (kind, transfers, cents, from, to, before_from, before_to, name))

using book = dm::durable_map<entry>;

inline constexpr std::int64_t opening_cents = 100'00;

/// Adds accounts, `each` a commit; `progress(done)` after each commit. What was loaded before a crash is found again: it
/// goes on behind it.
inline void load(book& b, std::uint64_t accounts, std::uint64_t each,
                 const std::function<void(std::uint64_t)>& progress) {
  std::uint64_t there = 0;
  for (const auto [key, e] : std::as_const(b)) there += e.kind == kind::account;
  while (there < accounts) {
    for (std::uint64_t n = std::min(each, accounts - there); n != 0; --n, ++there) {
      entry account{.kind = kind::account,
                    .transfers = 0,
                    .cents = opening_cents,
                    .from = {},
                    .to = {},
                    .before_from = {},
                    .before_to = {},
                    .name = {}};
      const std::string name = "account " + std::to_string(there);
      name.copy(account.name, sizeof account.name - 1);
      b.insert(account);
    }
    b.commit();
    progress(there);
  }
}

/// Moves money, if it is there. Not committed. Returns the transfer's key, or a null key.
inline dm::key transfer(book& b, dm::key from, dm::key to, std::int64_t cents) {
  entry* source = b.get(from);
  entry* target = b.get(to);
  if (source == nullptr || target == nullptr || from == to || cents <= 0 || source->cents < cents) return {};
  const dm::key made = b.insert({.kind = kind::transfer,
                                 .transfers = 0,
                                 .cents = cents,
                                 .from = from,
                                 .to = to,
                                 .before_from = source->from,
                                 .before_to = target->from,
                                 .name = {}});
  source->cents -= cents;
  target->cents += cents;
  source->from = target->from = made;
  ++source->transfers;
  ++target->transfers;
  return made;
}

struct audit {
  std::uint64_t accounts = 0, transfers = 0;
  std::int64_t cents = 0;  // of all accounts
};

/// Adds everything up, and follows each account's transfers back to its opening. Throws std::runtime_error with what is
/// wrong: money made or lost, a transfer that one side knows of only.
inline audit check(const book& b) {
  audit found;
  for (const auto [key, e] : b) {
    if (e.kind == kind::transfer) {
      ++found.transfers;
      continue;
    }
    ++found.accounts;
    found.cents += e.cents;
    std::int64_t balance = opening_cents;
    std::uint32_t transfers = 0;
    for (dm::key at = e.from; at != dm::key(); ++transfers) {
      const entry* moved = b.get(at);
      if (moved == nullptr || moved->kind != kind::transfer || (moved->from != key && moved->to != key))
        throw std::runtime_error(std::string(e.name) + " names a transfer that is not its own");
      balance += moved->to == key ? moved->cents : -moved->cents;
      at = moved->to == key ? moved->before_to : moved->before_from;
    }
    if (balance != e.cents || transfers != e.transfers)
      throw std::runtime_error(std::string(e.name) + " has " + std::to_string(e.cents) +
                               " cents, and its transfers say " + std::to_string(balance));
  }
  if (found.cents != static_cast<std::int64_t>(found.accounts) * opening_cents)
    throw std::runtime_error("the sum of all accounts is not what was paid in");
  return found;
}

inline std::vector<dm::key> accounts_of(const book& b) {
  std::vector<dm::key> keys;
  for (const auto [key, e] : b)
    if (e.kind == kind::account) keys.push_back(key);
  return keys;
}

}  // namespace ledger
