// A machine that runs an input as operations on a map and two secondary maps, and joins them: what a look-up of every
// key in every map says must be what the walk meets.
#pragma once

#include <array>
#include <cstdint>
#include <tuple>
#include <vector>

#include "deferred_map/deferred_map.hpp"
#include "deferred_map/join.hpp"
#include "deferred_map/key.hpp"
#include "deferred_map/secondary_map.hpp"
#include "deferred_map/sparse_secondary_map.hpp"
#include "fuzz_input.hpp"

namespace fuzz {

class join_machine {
 public:
  static constexpr std::uint32_t operations_max = 3'000;
  static constexpr std::uint32_t times_max = 40;

  /// An instruction is a verb with a bit for each map it concerns, which of the keys, and for verbs above 127 how often.
  void run(input& program) {
    std::uint32_t operations = 0;
    std::uint32_t instructions = 0;
    while (!program.at_end() && operations < operations_max) {
      const std::uint8_t verb = program.byte();
      const std::uint32_t which = program.byte();
      const std::uint32_t times = verb < 128 ? 1 : program.byte() % times_max + 1u;
      for (std::uint32_t i = 0; i < times; ++i, ++operations) once(verb, which + i * 5);
      if (++instructions % 4 == 0) check();
    }
    check();
  }

 private:
  void once(std::uint8_t verb, std::uint32_t which) {
    const bool in_map = verb & 1;
    const bool in_dense = verb & 2;
    const bool in_sparse = verb & 4;
    if (keys_.empty() || verb / 8 % 4 == 0) keys_.push_back(map_.insert(++number_));
    const dm::key key = keys_[which % keys_.size()];  // live, or stale by now
    switch (verb / 8 % 4) {
      case 0:
        if (in_dense) dense_.insert(keys_.back(), number_);
        if (in_sparse) sparse_.insert(keys_.back(), number_);
        return;
      case 1:
        if (in_dense) dense_.insert(key, ++number_);
        if (in_sparse) sparse_.insert(key, ++number_);
        if (in_map) reserved_.push_back(map_.allocate_handle());
        return;
      case 2:
        if (in_map) map_.erase(key);
        if (in_dense) dense_.erase(key);
        if (in_sparse) sparse_.erase(key);
        return;
      default:
        if (which % 16 != 0) return;
        if (in_map) map_.shrink_to_fit();
        if (in_dense) dense_.shrink_to_fit();
        if (in_sparse) sparse_.shrink_to_fit();
    }
  }

  /// Whether a join meets each key that has a value in all of them, once, with their values.
  template <class... Secondaries>
  void check_join(Secondaries&... secondaries) {
    std::size_t expected = 0;
    for (const auto [key, value] : map_) expected += (secondaries.contains(key) && ... && true);
    met_.assign(map_.slot_count(), false);
    for (const auto& joined : dm::join(map_, secondaries...)) {
      const dm::key key = std::get<0>(joined);
      FUZZ_CHECK(&std::get<1>(joined) == map_.get(key));
      std::apply(
          [&](dm::key, auto&, auto&... values) { FUZZ_CHECK(((&values == secondaries.get(key)) && ... && true)); },
          joined);
      FUZZ_CHECK(!met_[key.index()]);
      met_[key.index()] = true;
      FUZZ_CHECK(expected != 0);
      --expected;
    }
    FUZZ_CHECK(expected == 0);
  }

  void check() {
    FUZZ_CHECK(map_.verify().empty() && dense_.verify().empty() && sparse_.verify().empty());
    check_join(dense_);
    check_join(sparse_);
    check_join(dense_, sparse_);
    check_join(sparse_, other_sparse_, dense_);
    other_sparse_ = sparse_;
    if (!keys_.empty()) other_sparse_.erase(keys_[number_ % keys_.size()]);
  }

  dm::deferred_map<std::uint64_t> map_;
  dm::secondary_map<std::uint64_t> dense_;
  dm::sparse_secondary_map<std::uint64_t> sparse_;
  dm::sparse_secondary_map<std::uint64_t> other_sparse_;
  std::vector<dm::key> keys_;
  std::vector<dm::handle> reserved_;
  std::vector<bool> met_;
  std::uint64_t number_ = 0;
};

}  // namespace fuzz
