// An operation happens to a file, is killed at every instruction of it, and each image is judged.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <set>
#include <stdexcept>
#include <vector>

#include "image.hpp"
#include "judge.hpp"
#include "scene.hpp"
#include "store_recorder.hpp"

namespace killed {

/// What an operation finds and leaves when nobody is killed, and what it leaves at every instruction.
template <class T>
struct outcome {
  contents<T> before;
  contents<T> after;
  std::vector<image> images;
  std::vector<std::uint64_t> told;
};

template <class T>
outcome<T> happen(const std::filesystem::path& path, const start& from, const operation<T>& what) {
  restore(path, from.bytes);
  outcome<T> result;
  program<T> it{dm::mapped_map<T>::open(path, {.sync_on_close = false}), {}, from.told, path};
  result.before = contents_of(it.map);
  what.prepare(it);
  if (it.map.is_open()) result.before = contents_of(it.map);
  result.images = record_stores(
      path, [&] { return it.told.size(); }, [&] { what.act(it); });
  if (!it.map.is_open()) it.map = dm::mapped_map<T>::open(path);
  result.after = contents_of(it.map);
  result.told = it.told;
  return result;
}

/// How far an operation has got that turns `before` into `after`: in how many places `found` is as it should be after.
/// Throws where it is neither.
template <class T>
std::size_t progress(const contents<T>& before, const contents<T>& after, const contents<T>& found) {
  std::set<std::uint64_t> keys;
  for (const contents<T>* all : {&before, &after, &found})
    for (const auto& [bits, value] : *all) keys.insert(bits);
  const auto at = [](const contents<T>& from, std::uint64_t bits) {
    const auto it = from.find(bits);
    return it == from.end() ? nullptr : &it->second;
  };
  const auto same = [](const T* a, const T* b) { return a == nullptr || b == nullptr ? a == b : *a == *b; };
  std::size_t done = 0;
  for (const std::uint64_t bits : keys) {
    const T* const here = at(found, bits);
    if (same(here, at(after, bits)))
      ++done;
    else if (!same(here, at(before, bits)))
      throw std::runtime_error("a value is neither as it was nor as it should be");
  }
  return done;
}

/// Judges every image. One in `deep_every` has its recovery killed as well, `depth_max` deep.
template <class T>
tally judge_all(const std::filesystem::path& path, const start& from, const operation<T>& what,
                const outcome<T>& happened, std::size_t deep_every, std::size_t depth_max) {
  judge<T> judging(path, happened.told, {.index_lies = from.index_lies, .depth_max = depth_max});
  std::size_t done_before = 0;
  std::size_t number = 0;
  for (const image& killed : happened.images) {
    const contents<T> found = judging.examine(killed, number++ % deep_every == 0);
    // Places that neither the operation nor the kill touched count as done from the beginning to the end.
    const std::size_t done = progress(happened.before, happened.after, found);
    if (done < done_before) throw std::runtime_error("what had happened has not happened any more");
    done_before = done;
    if (!what.element_by_element && found != happened.before && found != happened.after)
      throw std::runtime_error("an operation is half done");
  }
  if (done_before != progress(happened.before, happened.after, happened.after))
    throw std::runtime_error("an operation returned, and has not happened");
  return judging.counts();
}

}  // namespace killed
