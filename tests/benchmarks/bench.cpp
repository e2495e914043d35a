// The program: what bench.hpp declares, and main.
//
//   bench_container --benchmark_filter=^get_random/      as any Google Benchmark program
//   bench_container --memory=dm/8/1000000/reserved       bytes per element, in a process of its own
#include "bench.hpp"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <numeric>
#include <random>

namespace bench {

double stopwatch::now() {
  timespec at;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
  return static_cast<double>(at.tv_sec) + 1e-9 * static_cast<double>(at.tv_nsec);
}

void back_memory(std::size_t bytes) {
  if (bytes < (std::size_t{4} << 20)) return;
  void* const mapping = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return;
  (void)::madvise(mapping, bytes, MADV_HUGEPAGE);
  for (std::size_t at = 0; at < bytes; at += 4096) static_cast<volatile char*>(mapping)[at] = 1;
  (void)::munmap(mapping, bytes);
}

namespace {
std::string current_group;
std::vector<std::function<void()>> to_forget;
}  // namespace

void enter_group(const std::string& group) {
  if (group == current_group) return;
  for (const auto& forget : std::exchange(to_forget, {})) forget();
  current_group = group;
}

void forget_with_group(std::function<void()> forget) { to_forget.push_back(std::move(forget)); }

const std::vector<std::uint32_t>& order(std::size_t n) {
  static std::vector<std::uint32_t> permutation;
  if (permutation.size() != n) {
    permutation.resize(n);
    std::iota(permutation.begin(), permutation.end(), 0u);
    std::shuffle(permutation.begin(), permutation.end(), std::mt19937_64(42));
  }
  return permutation;
}

void add(const std::string& operation, const char* side, std::size_t bytes, std::size_t n,
         std::function<void(benchmark::State&, std::size_t n)> run) {
  // Out of the race there, with hundreds of ns an operation, and half of the time of a whole run would be its.
  const bool is_for_gets = operation == "get_random" || operation == "get_dependent";
  if (n > 1'000'000 && std::strcmp(side, "unordered_map") == 0 && !is_for_gets) return;
  const std::string rest = "/" + std::to_string(bytes) + "/" + std::to_string(n);
  const auto in_its_group = [group = operation + rest, run = std::move(run), n](benchmark::State& state) {
    enter_group(group);
    run(state, n);
  };
  benchmark::RegisterBenchmark((operation + "/" + side + rest).c_str(), in_its_group)->UseManualTime()->MinTime(0.03);
}

}  // namespace bench

int main(int argc, char** argv) {
  // glibc raises these limits whenever a large block is freed: the next such block would come from memory that the
  // process has touched already, and whoever is measured second would be spared the page faults of whoever was first.
  // Set by hand they stay: a large block is always fresh, for every side and in every repetition.
  mallopt(M_MMAP_THRESHOLD, 128 * 1024);
  mallopt(M_TRIM_THRESHOLD, 128 * 1024);

  constexpr const char memory[] = "--memory=";
  if (argc == 2 && std::strncmp(argv[1], memory, sizeof memory - 1) == 0)
    return bench::print_memory(argv[1] + sizeof memory - 1) ? 0 : 16;

  bench::add_insertions();
  bench::add_lookups();
  bench::add_removals();
  bench::add_walks();
  bench::add_secondaries();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 16;
  benchmark::RunSpecifiedBenchmarks();
  bench::enter_group({});  // frees what is kept
}
