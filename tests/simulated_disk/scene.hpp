// What every story on a simulated disk begins with: the file of a map that was made and closed; and the options of programs.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "../files.hpp"
#include "../temporary_directory.hpp"
#include "disk.hpp"

namespace simulated {

struct scene {
  image files;
  dm::arena_header header;
};

/// `make(path)` makes a map there, and closes it.
template <class Make>
scene made_by(Make make) {
  temporary_directory directory;
  const auto path = directory / "m";
  make(path);
  const std::string content = read_file(path);
  scene made;
  made.files.arena.resize(content.size());
  std::memcpy(made.files.arena.data(), content.data(), content.size());
  std::memcpy(&made.header, content.data(), sizeof made.header);
  return made;
}

/// Options that are all "--name NUMBER". False, with a word on stderr, where one is not known.
inline bool take_numbers(int argc, char** argv, const std::map<std::string, std::uint64_t*>& known) {
  for (int i = 1; i < argc; i += 2) {
    const auto at = known.find(argv[i]);
    if (at == known.end() || i + 1 == argc) {
      std::fprintf(stderr, "%s: what is %s?\n", argv[0], argv[i]);
      return false;
    }
    *at->second = std::strtoull(argv[i + 1], nullptr, 10);
  }
  return true;
}

}  // namespace simulated
