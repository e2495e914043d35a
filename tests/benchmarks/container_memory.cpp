// Bytes per element, by what the kernel says this process holds: the memory that was touched, whoever allocated it
// and however. Not timed; one map in one process.
#include <cstdio>
#include <fstream>

#include "bench.hpp"

namespace bench {
namespace {

/// A number of KiB from /proc/self/status, in bytes.
double status(const std::string& field) {
  std::ifstream file("/proc/self/status");
  for (std::string name; file >> name; file.ignore(1000, '\n'))
    if (name == field + ":") {
      double kib = 0;
      file >> kib;
      return kib * 1024;
    }
  return 0;
}

template <class Side>
void print(std::size_t n, bool reserves) {
  const double before = status("VmRSS");
  Side map(reserves ? n : 0);
  // Keys are dropped as they come, or they would be counted.
  typename Side::key keys[1000];
  for (std::size_t i = 0; i < n; i += std::size(keys)) map.insert(i, keys);
  const double held = status("VmRSS") - before;
  const double most = status("VmHWM") - before;
  std::printf("%.2f %.2f\n", held / static_cast<double>(n), most / static_cast<double>(n));
  benchmark::DoNotOptimize(map);
}

}  // namespace

bool print_memory(const std::string& what) {
  bool found = false;
  for_each_side([&]<class Side>() {
    for (const std::size_t n : all_sizes)
      for (const bool reserves : {true, false}) {
        const std::string name = std::string(Side::name) + "/" + std::to_string(Side::bytes) + "/" + std::to_string(n) +
                                 (reserves ? "/reserved" : "/grown");
        if (name != what) continue;
        print<Side>(n, reserves);
        found = true;
      }
  });
  return found;
}

}  // namespace bench
