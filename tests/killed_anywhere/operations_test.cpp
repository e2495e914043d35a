// Every operation of mapped_map, killed at every instruction, and every recovery from that, killed at every instruction.
#include <cstdio>
#include <map>
#include <string>

#include "../catch.hpp"
#include "memory_directory.hpp"
#include "scene.hpp"
#include "single_step.hpp"
#include "story.hpp"

namespace {

using namespace killed;

constexpr std::size_t any_depth = ~std::size_t{0};

struct line {
  tally counts;
  std::uint64_t instructions = 0;
};

void print(const std::string& name, const line& of) {
  std::printf("%-26s %12llu %9llu %10llu %9llu %6zu\n", name.c_str(), static_cast<unsigned long long>(of.instructions),
              static_cast<unsigned long long>(of.counts.images), static_cast<unsigned long long>(of.counts.recovered),
              static_cast<unsigned long long>(of.counts.whole_images_seen), of.counts.deepest);
}

/// The same story in a process of its own, instruction by instruction: no image was missed.
template <class T>
std::uint64_t step_through(const std::filesystem::path& path, const start& from, const operation<T>& what,
                           const outcome<T>& recorded) {
  restore(path, from.bytes);
  std::optional<program<T>> it;
  const stepped steps = single_step(
      path,
      [&] {
        it.emplace(program<T>{dm::mapped_map<T>::open(path, {.sync_on_close = false}), {}, {}, path});
        what.prepare(*it);
      },
      [&] { what.act(*it); });
  std::set<std::string> known;
  for (const image& one : recorded.images) known.insert(without_notes(one.bytes));
  for (const image& one : steps.images)
    if (!known.contains(without_notes(one.bytes))) FAIL("an instruction leaves an image that no store left");
  return steps.instructions;
}

template <class T>
void every_operation(const char* title, std::size_t deep_every, std::size_t depth_max) {
  memory_directory directory;
  std::map<std::string, line> by_operation;
  line all;
  for (const start& from : starts<T>(directory / "start")) {
    restore(directory / "m", from.bytes);
    const std::size_t live = dm::mapped_map<T>::open_read_only(directory / "m").size();
    for (const operation<T>& what : operations<T>()) {
      if (live < what.live_needed) continue;
      // Sixty times the same.
      if (what.element_by_element && live > 16 && !exhaustive()) continue;
      INFO(what.name << " on " << from.name);
      line& here = by_operation[what.name];
      const outcome<T> happened = happen(directory / "m", from, what);
      here.counts.add(judge_all(directory / "judged", from, what, happened, deep_every, depth_max));
      // Opening is forty thousand instructions, most of them the C library's: once will do.
      if (sanitized || (what.name == "open" && here.instructions != 0 && !exhaustive())) continue;
      here.instructions += step_through(directory / "m", from, what, happened);
    }
  }
  std::printf("%-26s %12s %9s %10s %9s %6s\n", title, "instructions", "images", "recovered", "seen", "depth");
  for (const auto& [name, of] : by_operation) {
    print(name, of);
    all.counts.add(of.counts);
    all.instructions += of.instructions;
  }
  print("all", all);
  CHECK(all.counts.recovered > 0);
}

}  // namespace

TEST_CASE("killed at any instruction of any operation, a map of small values is whole") {
  every_operation<std::uint64_t>("values of 8 bytes", sanitized && !exhaustive() ? 7 : 1, any_depth);
}

TEST_CASE("killed at any instruction of any operation, a map of large values is whole") {
  every_operation<page>(sanitized ? "values of 256 bytes" : "values of 4 KiB", exhaustive() ? 1 : 101,
                        exhaustive() ? any_depth : 1);
}
