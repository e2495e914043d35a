// What opening a mapped_map costs, beside reading the same memory: after it was closed, after its process was killed with
// nothing under way, and after it was killed with a handle out, when every version has to be looked at.
//
// A benchmark is named SIDE/STRIDE/SLOTS. Each prepares the file by itself, a real process really killed where it says
// so, and times one opening or one pass; all lie in the page cache. Sides that read:
//
//   read_mapped    every version, through a mapping that is there: memory alone
//   read_fresh     every version, through a new mapping: and what the kernel takes to put pages into it
//   read_file      all bytes of the slots, by pread of a megabyte at a time
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "deferred_map/mapped_map.hpp"

namespace {

template <std::size_t Bytes>
struct value {
  std::array<std::uint64_t, Bytes / 8> words;
};
template <std::size_t Bytes>
using map = dm::mapped_map<value<Bytes>>;

// What closing waits for is not what is measured here.
constexpr dm::arena_options quick{.sync_on_close = false};

std::filesystem::path file_path(std::size_t stride, std::uint64_t slots) {
  const char* place = std::getenv("BENCH_DIRECTORY");
  return std::filesystem::path(place != nullptr ? place : ".") /
         ("bench-" + std::to_string(stride) + "-" + std::to_string(slots) + ".arena");
}

/// A file of `slots` slots, nine of ten occupied. Made once, and kept until the program ends.
template <std::size_t Bytes>
const std::filesystem::path& file(std::uint64_t slots) {
  static std::vector<std::pair<std::uint64_t, std::filesystem::path>> made;
  for (const auto& [n, path] : made)
    if (n == slots) return path;
  const auto path = file_path(sizeof(dm::slot<value<Bytes>>), slots);
  std::filesystem::remove(path);
  auto m = map<Bytes>::create(path);
  m.reserve(slots);
  for (std::uint64_t i = 0; i < slots; ++i) m.insert({{i}});
  for (std::uint32_t i = 0; i < slots; i += 10) m.erase(dm::key::from_parts(i, 1));
  m.close();
  return made.emplace_back(slots, path).second;
}

/// Opens the file in a process that is killed after `work`, with all that was stored on the disk: nothing is then waiting
/// to be written while the next opening is timed.
template <std::size_t Bytes, class Work>
void killed_after(const std::filesystem::path& path, Work work) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      auto m = map<Bytes>::open(path, quick);
      work(m);
      m.flush();
      ::kill(::getpid(), SIGKILL);
    } catch (const std::exception&) {
    }
    ::_exit(1);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
    throw std::runtime_error("the child was not killed");
}

double processor_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// Times `run`: by the clock, and by the processor's time, which neither the disk nor other programs add to.
template <class Run>
void timed(benchmark::State& state, Run run) {
  const auto from = std::chrono::steady_clock::now();
  const double processor_from = processor_seconds();
  run();
  const double processor = processor_seconds() - processor_from;
  state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count());
  state.counters["processor_ms"] = processor * 1e3;
}

template <std::size_t Bytes, class Prepare>
void open_after(benchmark::State& state, dm::recovery_outcome expected, Prepare prepare) {
  const auto slots = static_cast<std::uint64_t>(state.range(0));
  const auto& path = file<Bytes>(slots);
  for (auto _ : state) {
    prepare(path);
    std::optional<map<Bytes>> m;
    timed(state, [&] { m = map<Bytes>::open(path, quick); });
    if (m->recovery().outcome != expected || m->slot_count() != slots) state.SkipWithError("opened otherwise");
    m->close();
  }
}

template <std::size_t Bytes>
void open_closed(benchmark::State& state) {
  open_after<Bytes>(state, dm::recovery_outcome::clean,
                    [](const auto& path) { map<Bytes>::open(path, quick).close(); });
}

template <std::size_t Bytes>
void open_killed(benchmark::State& state) {
  open_after<Bytes>(state, dm::recovery_outcome::nothing_under_way,
                    [](const auto& path) { killed_after<Bytes>(path, [](auto& m) { m.erase(m.insert({})); }); });
}

template <std::size_t Bytes>
void open_recovered(benchmark::State& state) {
  open_after<Bytes>(state, dm::recovery_outcome::recovered, [](const auto& path) {
    killed_after<Bytes>(path, [](auto& m) { (void)m.allocate_handle().key(); });
  });
}

/// A mapping of the whole file, as an arena's.
class mapping {
 public:
  explicit mapping(const std::filesystem::path& path) : size_(std::filesystem::file_size(path)) {
    std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(&header), sizeof header);
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    base_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    ::close(descriptor);
    if (base_ == MAP_FAILED) throw std::runtime_error("mmap");
  }
  mapping(const mapping&) = delete;
  mapping& operator=(const mapping&) = delete;
  ~mapping() { ::munmap(base_, size_); }

  template <class Slot>
  const Slot* slots() const {
    return reinterpret_cast<const Slot*>(static_cast<const std::byte*>(base_) + header.slots_offset);
  }

  dm::arena_header header;

 private:
  std::size_t size_;
  void* base_;
};

template <std::size_t Bytes>
std::uint64_t sum_of_versions(const mapping& of, std::uint64_t slots) {
  const auto* slot = of.slots<dm::slot<value<Bytes>>>();
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < slots; ++i) sum += slot[i].version;
  return sum;
}

template <std::size_t Bytes>
void read_mapped(benchmark::State& state) {
  const auto slots = static_cast<std::uint64_t>(state.range(0));
  const mapping mapped(file<Bytes>(slots));
  benchmark::DoNotOptimize(sum_of_versions<Bytes>(mapped, slots));
  for (auto _ : state) timed(state, [&] { benchmark::DoNotOptimize(sum_of_versions<Bytes>(mapped, slots)); });
}

template <std::size_t Bytes>
void read_fresh(benchmark::State& state) {
  const auto slots = static_cast<std::uint64_t>(state.range(0));
  const auto& path = file<Bytes>(slots);
  for (auto _ : state) {
    std::optional<mapping> mapped;
    timed(state, [&] {
      mapped.emplace(path);
      benchmark::DoNotOptimize(sum_of_versions<Bytes>(*mapped, slots));
    });
  }
}

template <std::size_t Bytes>
void read_file(benchmark::State& state) {
  const auto slots = static_cast<std::uint64_t>(state.range(0));
  const auto& path = file<Bytes>(slots);
  const std::uint64_t slots_offset = mapping(path).header.slots_offset;
  std::vector<char> buffer(1 << 20);
  for (auto _ : state) {
    timed(state, [&] {
      const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
      for (auto at = static_cast<off_t>(slots_offset);; at += static_cast<off_t>(buffer.size())) {
        if (::pread(descriptor, buffer.data(), buffer.size(), at) <= 0) break;
        benchmark::DoNotOptimize(buffer.data());
      }
      ::close(descriptor);
    });
  }
}

template <std::size_t Bytes>
void add(std::uint64_t slots) {
  const std::string rest = "/" + std::to_string(sizeof(dm::slot<value<Bytes>>));
  const auto one = [&](const char* side, void (*run)(benchmark::State&)) {
    benchmark::RegisterBenchmark((side + rest).c_str(), run)
        ->Arg(static_cast<std::int64_t>(slots))
        ->UseManualTime()
        ->Iterations(1)
        ->Unit(benchmark::kMillisecond);
  };
  one("open_closed", open_closed<Bytes>);
  one("open_killed", open_killed<Bytes>);
  one("open_recovered", open_recovered<Bytes>);
  one("read_mapped", read_mapped<Bytes>);
  one("read_fresh", read_fresh<Bytes>);
  one("read_file", read_file<Bytes>);
}

}  // namespace

int main(int argc, char** argv) {
  for (const std::uint64_t slots : {1'000'000, 10'000'000}) {
    add<8>(slots);
    add<64>(slots);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 16;
  benchmark::RunSpecifiedBenchmarks();
  for (const std::uint64_t slots : {1'000'000, 10'000'000})
    for (const std::size_t stride : {16, 72}) std::filesystem::remove(file_path(stride, slots));
  return 0;
}
