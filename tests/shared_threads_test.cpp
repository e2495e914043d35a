// Threads of one process on one shared map, with nothing between them. Also built with ThreadSanitizer (tools/test).
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "deferred_map/shared_map.hpp"
#include "effort.hpp"
#include "self_checking.hpp"
#include "temporary_directory.hpp"

namespace {

using map = dm::shared_map<self_checking>;

constexpr std::uint64_t rounds = sanitized ? 3'000 : 200'000;

}  // namespace

TEST_CASE("no update by any of four threads is lost, and no look sees half of one") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 4000});
  std::vector<dm::key> keys;
  for (int i = 0; i < 3; ++i) keys.push_back(m.insert(checked_value(0)));
  std::atomic<int> running = 4;
  std::atomic<std::uint64_t> torn = 0;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::minstd_rand random(t + 1);
      for (std::uint64_t i = 0; i < rounds; ++i)
        m.update(keys[random() % keys.size()], [&](self_checking& v) {
          torn += !v.is_whole();
          v = checked_value(v.number + 1);
        });
      --running;
    });
  threads.emplace_back([&] {
    std::uint64_t last = 0;
    while (running != 0) {
      std::uint64_t sum = 0;
      m.for_each([&](dm::key, const self_checking& v) {
        torn += !v.is_whole();
        sum += v.number;
      });
      torn += sum < last;  // each value only grows
      last = sum;
    }
  });
  for (auto& thread : threads) thread.join();
  std::uint64_t sum = 0;
  m.for_each([&](dm::key, const self_checking& v) { sum += v.number; });
  CHECK(sum == 4 * rounds);
  CHECK(torn == 0);
}

TEST_CASE("every value that threads insert, fill and take out is taken out once") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 2000});
  // Keys are handed from thread to thread: who takes one out of a box removes it.
  std::vector<std::atomic<std::uint64_t>> boxes(64);
  std::atomic<std::uint64_t> inserted = 0, removed = 0, wrong = 0;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::minstd_rand random(t + 99);
      std::uint64_t in = 0, out = 0;
      for (std::uint64_t i = 0; i < rounds; ++i) {
        const std::uint64_t number = t * rounds + i + 1;
        dm::key k;
        if (i % 3 == 0) {
          auto h = m.allocate_handle();
          if (i % 9 == 0) {
            const dm::key given_up = h.key();
            m.release_handle(std::move(h));
            wrong += m.contains(given_up);
            continue;
          }
          k = m.insert(std::move(h), checked_value(number));
        } else {
          k = m.insert(checked_value(number));
        }
        in += number;
        const std::uint64_t other = boxes[random() % boxes.size()].exchange(k.bits());
        if (other == 0) continue;
        const auto value = m.remove(dm::key::from_bits(other));
        wrong += !value || !value->is_whole() || m.contains(dm::key::from_bits(other));
        out += value ? value->number : 0;
      }
      inserted += in;
      removed += out;
    });
  for (auto& thread : threads) thread.join();
  m.for_each([&](dm::key, const self_checking& v) { removed += v.number; });
  CHECK(wrong == 0);
  CHECK(inserted == removed);
  CHECK(m.size() <= boxes.size());
  m.close();
  map again = map::open(directory / "m", {.verify = true});
  CHECK(again.size() <= boxes.size());
}

TEST_CASE("threads grow a map at once, and walks miss nothing that was there before") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = rounds});
  for (std::uint64_t i = 0; i < 500; ++i) m.insert(checked_value(1'000'000 + i));
  std::atomic<int> running = 3;
  std::atomic<std::uint64_t> wrong = 0;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      for (std::uint64_t i = 0; i < rounds / 6; ++i) m.insert(checked_value(i));
      --running;
    });
  threads.emplace_back([&] {
    while (running != 0) {
      std::uint64_t old = 0;
      m.for_each([&](dm::key, const self_checking& v) {
        wrong += !v.is_whole();
        old += v.number >= 1'000'000;
      });
      wrong += old != 500;
    }
  });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(m.size() == 500 + 3 * (rounds / 6));
}

TEST_CASE("more threads update than there are scratch areas, and threads come and go") {
  temporary_directory directory;
  map m = map::create(directory / "m", {.max_slots = 1000});
  const dm::key k = m.insert(checked_value(0));
  for (int generation = 0; generation < 5; ++generation) {
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 20; ++t)
      threads.emplace_back([&] {
        for (std::uint64_t i = 0; i < rounds / 100; ++i) {
          m.update(k, [](self_checking& v) { v = checked_value(v.number + 1); });
          m.erase(m.insert(checked_value(i)));
        }
      });
    for (auto& thread : threads) thread.join();
  }
  CHECK(m.get(k)->number == 100 * (rounds / 100));
  // What the threads had put by is vacant again: the map is as empty as it looks.
  std::size_t reserved = 0;
  for (std::uint32_t i = 0; i < m.slot_count(); ++i) reserved += m.state(i) == dm::slot_state::reserved;
  CHECK(reserved <= 3);
}
