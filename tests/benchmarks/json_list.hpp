// Results, printed as they come.
#pragma once

#include <cstdio>

namespace bench {

/// A list in an object: `"name": [` here, `]` where it ends.
class json_list {
 public:
  explicit json_list(const char* name) { std::printf("\"%s\": [", name); }
  json_list(const json_list&) = delete;
  json_list& operator=(const json_list&) = delete;
  ~json_list() { std::printf("\n]"); }
  void next() {
    std::printf(first_ ? "\n  " : ",\n  ");
    first_ = false;
  }

 private:
  bool first_ = true;
};

}  // namespace bench
