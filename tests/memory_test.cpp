// The project's own allocators: what stays where it is, what goes back to the system, and what a small map costs.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <memory>
#include <new>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "deferred_map/deferred_map.hpp"
#include "values.hpp"

namespace {

template <class T>
using huge_map = dm::deferred_map<T, dm::key, dm::huge_page_allocator<T>>;

/// The mapping of this process that holds `address`, as the kernel describes it; empty where there is none.
std::string mapping_of(const void* address) {
  std::ifstream smaps("/proc/self/smaps");
  std::string line;
  std::string found;
  bool inside = false;
  while (std::getline(smaps, line)) {
    std::uintptr_t first = 0;
    std::uintptr_t last = 0;
    char dash = 0;
    std::istringstream range(line);
    if (line.find('-') < 17 && range >> std::hex >> first >> dash >> last && dash == '-')
      inside = first <= reinterpret_cast<std::uintptr_t>(address) && reinterpret_cast<std::uintptr_t>(address) < last;
    if (inside) found += line + '\n';
  }
  return found;
}

bool asks_for_huge_pages(const void* address) {
  const std::string mapping = mapping_of(address);
  const std::size_t flags = mapping.find("VmFlags:");
  return flags != std::string::npos && (mapping.substr(flags) + ' ').find(" hg ") != std::string::npos;
}

std::size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) ++count;
  return count;
}

/// Pages of [first, last) that are in memory.
std::size_t resident_bytes(const void* first, const void* last) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t from = (reinterpret_cast<std::uintptr_t>(first) + page - 1) / page * page;
  const std::uintptr_t to = reinterpret_cast<std::uintptr_t>(last) / page * page;
  std::vector<unsigned char> pages((to - from) / page);
  // What is not mapped at all is in no memory either.
  if (::mincore(reinterpret_cast<void*>(from), to - from, pages.data()) != 0) return 0;
  return page * static_cast<std::size_t>(std::count_if(pages.begin(), pages.end(), [](int p) { return p & 1; }));
}

bool system_has_huge_pages() { return std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled").good(); }

}  // namespace

TEST_CASE("no value of a huge_page_allocator's map ever moves, from the first one on") {
  huge_map<test::steady> map;
  const dm::key first = map.insert(-7);
  const test::steady* const address = map.get(first);
  std::vector<std::pair<dm::key, const test::steady*>> all;
  for (int i = 0; i < 300'000; ++i) {
    const dm::key key = map.insert(i);
    if (i % 1000 == 0) all.emplace_back(key, map.get(key));
  }
  CHECK(map.get(first) == address);
  for (const auto& [key, place] : all) REQUIRE(map.get(key) == place);
  map.reserve(100'000);
  CHECK(map.get(first) == address);
  for (std::uint32_t i = 299'000; i > 1000; --i) map.erase(map.key_at(i));
  map.erase(map.key_at(300'000));
  for (std::uint32_t i = 299'000; i < 300'000; ++i) map.erase(map.key_at(i));
  map.shrink_to_fit();
  CHECK(map.slot_count() == 1001);
  CHECK(map.capacity() == 1001);
  CHECK(map.get(first) == address);
  CHECK(map.verify() == "");
  for (int i = 0; i < 300'000; ++i) map.insert(i);
  CHECK(map.get(first) == address);
  CHECK(map.at(first).number() == -7);
  CHECK(map.verify() == "");
  map = {};
  CHECK(test::steady::alive == 0);
  CHECK_FALSE(test::steady::wrong_address);
}

TEST_CASE("a large map of the default allocator grows where it is") {
  dm::deferred_map<test::steady> map;
  constexpr std::size_t threshold = dm::default_allocator<test::steady>::mapped_from_bytes;
  while (map.capacity() * sizeof(dm::slot<test::steady>) < threshold) map.insert(1);
  const dm::key key = map.begin()->key;
  const test::steady* const address = map.get(key);
  while (map.capacity() * sizeof(dm::slot<test::steady>) < 16 * threshold) map.insert(2);
  CHECK(map.get(key) == address);
  CHECK(map.at(key).number() == 1);
  CHECK(map.verify() == "");
  // Past what was reserved it moves, and is whole.
  while (map.get(key) == address) map.insert(3);
  CHECK(map.at(key).number() == 1);
  CHECK(map.verify() == "");
  map = {};
  CHECK_FALSE(test::steady::wrong_address);
  CHECK(test::steady::alive == 0);
}

TEST_CASE("huge pages are asked for where they pay and nowhere else") {
  if (!system_has_huge_pages()) {
    WARN("this system has no transparent huge pages");
    return;
  }
  dm::deferred_map<std::uint64_t> large(1'000'000);
  const dm::key key = large.insert(1);
  CHECK(asks_for_huge_pages(large.get(key)));
  dm::deferred_map<std::uint64_t> small(200'000);
  CHECK_FALSE(asks_for_huge_pages(small.get(small.insert(1))));

  huge_map<std::uint64_t> never_moving;
  const dm::key first = never_moving.insert(1);
  CHECK_FALSE(asks_for_huge_pages(never_moving.get(first)));
  while (never_moving.size() < 500'000) never_moving.insert(1);
  CHECK(asks_for_huge_pages(never_moving.get(first)));
}

TEST_CASE("a small map of the default allocator is memory of malloc and maps nothing") {
  const std::size_t before = mappings();
  std::vector<dm::deferred_map<std::uint64_t>> maps(1000);
  for (auto& map : maps) map.insert(1);
  CHECK(mappings() < before + 50);
}

TEST_CASE("shrinking gives memory back to the system, and destroying all of it") {
  const std::size_t mappings_before = mappings();
  {
    huge_map<std::uint64_t> a;
    dm::deferred_map<std::uint64_t> b;
    const auto check = [](auto& map) {
      for (std::uint64_t i = 0; i < 2'000'000; ++i) map.insert(i);
      const std::uint64_t* const first = map.get(map.key_at(0));
      const std::uint64_t* const last = map.get(map.key_at(1'999'999));
      CHECK(resident_bytes(first, last) > 31'000'000);
      for (std::uint32_t i = 400'000; i < 2'000'000; ++i) map.erase(map.key_at(i));
      map.shrink_to_fit();
      CHECK(map.get(map.key_at(0)) == first);
      CHECK(map.capacity() == 400'000);
      CHECK(resident_bytes(first, last) < 400'000 * 16 + 200'000);
      for (std::uint32_t i = 0; i < 400'000; ++i) REQUIRE(map.at(map.key_at(i)) == i);
      CHECK(map.verify() == "");
      map.clear();
      map.shrink_to_fit();
      CHECK(map.capacity() == 0);
      CHECK(resident_bytes(first, last) == 0);
      // The generations are not forgotten with the memory.
      CHECK(map.insert(1).generation() == 2);
    };
    check(a);
    check(b);
  }
  CHECK(mappings() <= mappings_before + 2);
}

TEST_CASE("a mapped block is zero, aligned, and grows to its reservation and no further") {
  struct alignas(4096) page {
    std::byte bytes[4096];
  };
  constexpr std::size_t mib = 1 << 20;
  dm::huge_page_allocator<page> allocator(8 * mib);
  page* const block = allocator.allocate(1);
  CHECK(reinterpret_cast<std::uintptr_t>(block) % 4096 == 0);
  CHECK(allocator.try_expand(block, 1, 1000));
  CHECK(std::all_of(block, block + 1000,
                    [](const page& p) { return p.bytes[0] == std::byte{} && p.bytes[4095] == std::byte{}; }));
  std::memset(block, 0xff, 1000 * sizeof(page));
  CHECK_FALSE(allocator.try_expand(block, 1000, 8 * mib / sizeof(page)));
  CHECK_FALSE(allocator.try_expand(block, 1000, mib));
  CHECK(allocator.try_shrink(block, 1000, 10));
  CHECK(block[9].bytes[4095] == std::byte{0xff});
  CHECK(allocator.try_expand(block, 10, 1000));
  CHECK(block[999].bytes[0] == std::byte{});
  allocator.deallocate(block, 1000);

  dm::default_allocator<char> bytes;
  char* const large = bytes.allocate(5 * mib + 1);
  CHECK(reinterpret_cast<std::uintptr_t>(large) % 64 == 0);
  large[5 * mib] = 1;
  CHECK(bytes.try_expand(large, 5 * mib + 1, 70 * mib));
  CHECK_FALSE(bytes.try_expand(large, 70 * mib, 100 * mib));
  CHECK_FALSE(bytes.try_shrink(large, 70 * mib, 100));
  CHECK(bytes.try_shrink(large, 70 * mib, 6 * mib));
  CHECK(large[5 * mib] == 1);
  bytes.deallocate(large, 6 * mib);
  char* const small = bytes.allocate(100);
  CHECK_FALSE(bytes.try_expand(small, 100, 200));
  CHECK_FALSE(bytes.try_shrink(small, 100, 50));
  bytes.deallocate(small, 100);
}

TEST_CASE("sizes that no memory has are bad_alloc") {
  using wide = std::array<char, 1000>;
  for (const std::size_t n :
       {~std::size_t{0}, ~std::size_t{0} / 1000, ~std::size_t{0} / 2000 + 7, std::size_t{1} << 50}) {
    CHECK_THROWS_AS(dm::default_allocator<wide>().allocate(n), std::bad_alloc);
    CHECK_THROWS_AS(dm::huge_page_allocator<wide>().allocate(n), std::bad_alloc);
  }
  dm::huge_page_allocator<wide> allocator;
  wide* const block = allocator.allocate(1);
  CHECK_THROWS_AS(allocator.try_expand(block, 1, ~std::size_t{0}), std::bad_alloc);
  CHECK_FALSE(allocator.try_expand(block, 1, std::size_t{1} << 40));
  allocator.deallocate(block, 1);
}

TEST_CASE("maps of the project's allocators are copied, moved and swapped") {
  huge_map<std::string> a(dm::huge_page_allocator<std::string>(std::size_t{1} << 30));
  const dm::key key = a.insert("a text that is too long for the string itself");
  CHECK(a.get_allocator().reservation_bytes() == std::size_t{1} << 30);
  huge_map<std::string> b(a);
  CHECK(b.at(key) == a.at(key));
  const std::string* const address = a.get(key);
  huge_map<std::string> c(std::move(a));
  CHECK(c.get(key) == address);
  swap(b, c);
  CHECK(b.get(key) == address);
  a = std::move(b);
  CHECK(a.get(key) == address);
  c = a;
  CHECK(c.at(key) == a.at(key));
  CHECK(c.get_allocator().reservation_bytes() == std::size_t{1} << 30);

  const dm::deferred_map<int> from_standard(std::allocator<int>{});
  CHECK(from_standard.empty());
}

#if !defined(__SANITIZE_ADDRESS__)
TEST_CASE("where address space is limited a map takes what it gets") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const rlimit limit{std::size_t{2} << 30, std::size_t{2} << 30};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) ::_exit(2);
    try {
      huge_map<std::uint64_t> map;  // asks for 64 GiB of it
      for (std::uint64_t i = 0; i < 2'000'000; ++i) map.insert(i);
      if (map.size() != 2'000'000 || !map.verify().empty()) ::_exit(3);
      dm::deferred_map<std::uint64_t> other(30'000'000);
      other.insert(1);
      try {
        map.reserve(1'000'000'000);
        ::_exit(4);
      } catch (const std::bad_alloc&) {
      }
      ::_exit(map.size() == 2'000'000 && map.verify().empty() ? 0 : 5);
    } catch (...) {
      ::_exit(6);
    }
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
#endif
