// What the threads of each story do.
#pragma once

#include <string>
#include <vector>

#include "actor.hpp"

namespace interleavings {

struct story {
  std::string name;
  std::uint32_t slots;
  std::uint32_t occupied;
  std::vector<programs::program> threads;
  unsigned deaths_max = 2;
  std::uint32_t cache_limit = 1;
  std::uint32_t generation = unused_generation;  ///< of all slots
  bool hint = true;                              ///< right or not
  programs::program reaper = {};                 ///< if not the plain one
  bool one_writer = false;  ///< so that all of it is in one order, though they do not tell each other
  bool is_long = false;     ///< not gone through with the sanitizers, which take several times as long
};

/// Two threads. Deaths: of two, or of one and of who reaps it.
std::vector<story> stories_of_two();
/// Three threads, one of which dies.
std::vector<story> stories_of_three();

}  // namespace interleavings
