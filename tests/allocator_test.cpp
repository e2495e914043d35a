// Where a map's memory comes from, that it goes back there whole, and what is left when there is none.
#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/managed_external_buffer.hpp>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "checking_allocator.hpp"
#include "deferred_map/deferred_map.hpp"
#include "values.hpp"

using test::checking_allocator;
using test::fragile;
using test::fuse;
using test::ledger;

namespace {

template <class T, unsigned Propagate = 0>
using checked_map = dm::deferred_map<T, dm::key, checking_allocator<T, Propagate>>;

/// What a map holds, to be compared.
template <class Map>
std::map<dm::key, int> contents(const Map& map) {
  std::map<dm::key, int> all;
  for (const auto [key, value] : map) all.emplace(key, value.number());
  return all;
}

template <unsigned Propagate>
void check_propagation() {
  using map_type = checked_map<test::steady, Propagate>;
  ledger books_a;
  ledger books_b;
  {
    const checking_allocator<test::steady, Propagate> from_a(books_a);
    const checking_allocator<test::steady, Propagate> from_b(books_b);
    map_type a(from_a);
    std::vector<dm::key> keys;
    for (int i = 0; i < 200; ++i) keys.push_back(a.insert(i));
    for (std::size_t i = 0; i < 200; i += 3) a.erase(keys[i]);
    dm::handle handle = a.allocate_handle();
    const auto expected = contents(a);

    map_type copied(from_b);
    copied.insert(1);
    copied = a;
    CHECK(contents(copied) == expected);
    CHECK((copied.get_allocator() == ((Propagate & 1) != 0 ? from_a : from_b)));
    CHECK(copied.verify() == "");

    map_type copied_elsewhere(a, from_b);
    CHECK(contents(copied_elsewhere) == expected);
    CHECK(copied_elsewhere.verify() == "");

    map_type moved(from_b);
    moved.insert(1);
    moved = std::move(a);
    CHECK(contents(moved) == expected);
    CHECK((moved.get_allocator() == ((Propagate & 2) != 0 ? from_a : from_b)));
    CHECK(moved.verify() == "");
    CHECK(moved.holds(handle));
    CHECK(a.empty());
    CHECK(a.verify() == "");
    a.insert(5);

    map_type moved_elsewhere(std::move(moved), from_a);
    CHECK(contents(moved_elsewhere) == expected);
    CHECK(moved_elsewhere.verify() == "");
    moved_elsewhere.insert(std::move(handle), 7);
    CHECK(moved.empty());
    CHECK(moved.verify() == "");

    map_type other((Propagate & 4) != 0 ? from_b : from_a);
    const dm::key key = other.insert(3);
    swap(other, moved_elsewhere);
    CHECK(other.size() == expected.size() + 1);
    CHECK(moved_elsewhere.at(key) == 3);
    CHECK((other.get_allocator() == from_a));
  }
  CHECK(books_a.is_clean());
  CHECK(books_b.is_clean());
  CHECK(test::steady::alive == 0);
}

/// Runs `operation` on maps of every awkward shape, failing the first allocation, then the second, and so on.
template <class Operation>
void check_allocation_failures(Operation operation) {
  for (const int size : {0, 1, 4, 64, 128, 129, 300}) {
    for (int fail_after = 0;; ++fail_after) {
      ledger books;
      bool failed = false;
      {
        checked_map<test::steady> map{checking_allocator<test::steady>(books)};
        std::vector<dm::key> keys;
        for (int i = 0; i < size; ++i) keys.push_back(map.insert(i));
        while (map.slot_count() != map.capacity()) map.insert(0);
        for (std::size_t i = keys.size() / 2; i < keys.size() && size == 300; ++i) map.erase(keys[i]);
        const auto before = contents(map);
        books.fail_after(fail_after);
        try {
          operation(map);
        } catch (const std::bad_alloc&) {
          failed = true;
          CHECK(contents(map) == before);
          CHECK(map.reserved_count() == 0);
        }
        books.fail_after(-1);
        REQUIRE(map.verify() == "");
        map.insert(1);
        REQUIRE(map.verify() == "");
      }
      REQUIRE(books.is_clean());
      if (!failed) break;
    }
  }
  CHECK(test::steady::alive == 0);
}

/// Grows its blocks in place, as far as it has told nobody.
template <class T>
struct expanding_allocator {
  using value_type = T;
  static constexpr std::size_t room_bytes = 1 << 16;
  expanding_allocator() = default;
  template <class U>
  expanding_allocator(const expanding_allocator<U>&) {}

  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(std::max(room_bytes, n * sizeof(T)))); }
  void deallocate(T* block, std::size_t n) {
    last_freed = n;
    ::operator delete(block);
  }
  bool try_expand(T*, std::size_t, std::size_t new_n) { return new_n * sizeof(T) <= room_bytes; }
  friend bool operator==(expanding_allocator, expanding_allocator) { return true; }
  static inline std::size_t last_freed = 0;
};

}  // namespace

TEST_CASE("allocators propagate as their traits say") {
  check_propagation<0>();
  check_propagation<1>();
  check_propagation<2>();
  check_propagation<3>();
  check_propagation<4>();
  check_propagation<5>();
  check_propagation<6>();
  check_propagation<7>();
}

// Moving an empty map to another allocator rebuilt an index that was not there.
TEST_CASE("an empty map moves to another allocator") {
  ledger books_a;
  ledger books_b;
  checked_map<int> a{checking_allocator<int>(books_a)};
  checked_map<int> b(std::move(a), checking_allocator<int>(books_b));
  CHECK(b.verify() == "");
  a = std::move(b);
  CHECK(a.verify() == "");
  CHECK(a.insert(1).generation() == 1);
}

TEST_CASE("every allocation may fail and the map stays as it was") {
  using map_type = checked_map<test::steady>;
  check_allocation_failures([](map_type& map) { map.insert(7); });
  check_allocation_failures([](map_type& map) { map.emplace(7); });
  check_allocation_failures([](map_type& map) { map.release_handle(map.allocate_handle()); });
  check_allocation_failures([](map_type& map) { map.insert_with_key([](dm::key) { return test::steady(7); }); });
  check_allocation_failures([](map_type& map) { map.reserve(1000); });
  check_allocation_failures([](map_type& map) { map.shrink_to_fit(); });
  check_allocation_failures([](map_type& map) { const map_type copy(map); });
  check_allocation_failures([](map_type& map) {
    map_type copy(map.get_allocator());
    copy = map;
  });
}

TEST_CASE("every copy may fail and the map stays as it was") {
  for (int size = 1; size < 40; size += 3) {
    for (int steps = 0;; ++steps) {
      ledger books;
      bool failed = false;
      {
        checked_map<fragile> map{checking_allocator<fragile>(books)};
        for (int i = 0; i < size; ++i) map.insert(i);
        while (map.slot_count() != map.capacity()) map.insert(0);
        map.erase(map.begin()->key);
        map.insert(3);
        const auto before = contents(map);
        fuse::set(steps);
        try {
          map.insert(9);
        } catch (const fuse::blown&) {
          failed = true;
          CHECK(contents(map) == before);
        }
        fuse::set(steps);
        try {
          checked_map<fragile> copy(map);
          map.reserve(map.slot_count() + 100);
        } catch (const fuse::blown&) {
          failed = true;
        }
        fuse::remove();
        REQUIRE(map.verify() == "");
        for (const auto& [key, number] : before) REQUIRE(map.at(key) == number);
      }
      REQUIRE(books.is_clean());
      if (!failed) break;
    }
  }
  CHECK(fragile::alive == 0);
  CHECK_FALSE(fragile::wrong_address);
}

TEST_CASE("a map of any small capacity fills, empties and refills") {
  for (std::uint32_t capacity = 1; capacity <= 130; ++capacity) {
    ledger books;
    {
      checked_map<std::uint32_t> map(capacity, checking_allocator<std::uint32_t>(books));
      const std::size_t allocations = books.allocations();
      REQUIRE(map.capacity() == capacity);
      std::vector<dm::key> keys;
      for (std::uint32_t i = 0; i < capacity; ++i) keys.push_back(map.insert(i));
      for (std::uint32_t i = 0; i < capacity; ++i) map.erase(keys[(i * 37) % capacity]);
      REQUIRE(map.verify() == "");
      map.clear();
      for (std::uint32_t i = 0; i < capacity; ++i) keys[i] = map.insert(i);
      for (std::uint32_t i = 0; i < capacity; i += 2) map.erase(keys[i]);
      map.clear();
      REQUIRE(map.verify() == "");
      for (std::uint32_t i = 0; i < capacity; ++i) keys[i] = map.insert(i);
      REQUIRE(map.verify() == "");
      REQUIRE(map.capacity() == capacity);
      REQUIRE(books.allocations() == allocations);
      for (std::uint32_t i = capacity / 3; i < capacity; ++i) map.erase(keys[i]);
      map.shrink_to_fit();
      REQUIRE(map.verify() == "");
      for (std::uint32_t i = 0; i < capacity; ++i) map.insert(i);
      REQUIRE(map.verify() == "");
      map.shrink_to_fit();
      REQUIRE(map.verify() == "");
    }
    REQUIRE(books.is_clean());
  }
}

TEST_CASE("over-aligned and empty values have slots of their own") {
  struct alignas(64) wide {
    int number;
  };
  struct nothing {};
  ledger books;
  {
    checked_map<wide> map{checking_allocator<wide>(books)};
    checked_map<nothing> empties{checking_allocator<nothing>(books)};
    std::vector<dm::key> keys;
    for (int i = 0; i < 100; ++i) {
      keys.push_back(map.emplace(wide{i}));
      empties.insert(nothing());
    }
    for (std::size_t i = 0; i < 100; ++i) {
      CHECK(reinterpret_cast<std::uintptr_t>(map.get(keys[i])) % 64 == 0);
      CHECK(map.at(keys[i]).number == static_cast<int>(i));
    }
    CHECK(empties.get(keys[0]) != empties.get(keys[1]));
    CHECK(map.verify() == "");
    CHECK(empties.verify() == "");
  }
  CHECK(books.is_clean());
}

TEST_CASE("values built in a pmr map use the map's resource") {
  std::pmr::monotonic_buffer_resource resource;
  dm::deferred_map<std::pmr::string, dm::key, std::pmr::polymorphic_allocator<std::pmr::string>> map(&resource);
  const dm::key a = map.emplace("a text that is too long for the string itself");
  const dm::key b = map.insert(std::pmr::string("another text that is too long for the string itself"));
  for (int i = 0; i < 100; ++i) map.emplace(map.at(a));
  for (const auto& value : map.values()) CHECK(value.get_allocator().resource() == &resource);
  CHECK(map.at(b).starts_with("another"));
  CHECK(map.get_allocator().resource() == &resource);
  CHECK(map.verify() == "");
}

// Only T's own constructor was asked whether it throws, so a slot was lost when the allocator's construct did.
TEST_CASE("a value that cannot be built by its allocator gives its slot back") {
  struct limited : std::pmr::memory_resource {
    int left = 1000;
    void* do_allocate(std::size_t size_bytes, std::size_t alignment) override {
      if (left-- <= 0) throw std::bad_alloc();
      return std::pmr::new_delete_resource()->allocate(size_bytes, alignment);
    }
    void do_deallocate(void* block, std::size_t size_bytes, std::size_t alignment) override {
      std::pmr::new_delete_resource()->deallocate(block, size_bytes, alignment);
    }
    bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
  } resource;
  dm::deferred_map<std::pmr::string, dm::key, std::pmr::polymorphic_allocator<std::pmr::string>> map(&resource);
  map.reserve(10);
  resource.left = 0;
  const std::pmr::string elsewhere("a text that is too long for the string itself");
  CHECK_THROWS_AS(map.insert(elsewhere), std::bad_alloc);
  CHECK(map.verify() == "");
  CHECK_THROWS_AS(map.emplace(elsewhere), std::bad_alloc);
  CHECK(map.empty());
  CHECK(map.verify() == "");
  resource.left = 1;
  CHECK(map.insert(elsewhere).index() == 0);
  CHECK(map.slot_count() == 1);
}

// Growing in place was tried when inserting, and forgotten when reserving.
TEST_CASE("nothing moves while the allocator can expand in place") {
  {
    dm::deferred_map<std::string, dm::key, expanding_allocator<std::string>> map;
    const dm::key first = map.insert("first");
    const std::string* address = map.get(first);
    std::size_t count = 1;
    while (count < 1000) {
      map.emplace(map.at(first));
      ++count;
      REQUIRE(map.get(first) == address);
    }
    map.reserve(500);
    CHECK(map.capacity() >= 1500);
    CHECK(map.get(first) == address);
    CHECK(map.verify() == "");
    while (map.get(first) == address) map.emplace(map.at(first));
    CHECK(map.size() * sizeof(dm::slot<std::string>) > 40'000);
    for (const auto& value : map.values()) REQUIRE(value == "first");
    CHECK(map.verify() == "");
    map.shrink_to_fit();
    CHECK(map.verify() == "");
  }
}

TEST_CASE("a map lives in a managed segment, found by name") {
  namespace bip = boost::interprocess;
  using segment_type = bip::managed_external_buffer;
  using allocator = bip::allocator<std::uint64_t, segment_type::segment_manager>;
  using map_type = dm::deferred_map<std::uint64_t, dm::key, allocator>;
  static_assert(!std::is_default_constructible_v<map_type>, "its allocator is not either");
  struct alignas(4096) page {
    std::byte bytes[4096];
  };
  constexpr std::size_t pages = 256;

  const auto memory = std::make_unique<page[]>(pages);
  segment_type segment(bip::create_only, memory.get(), pages * sizeof(page));
  map_type& map = *segment.construct<map_type>("values")(allocator(segment.get_segment_manager()));
  std::vector<dm::key> keys;
  for (std::uint64_t i = 0; i < 3000; ++i) keys.push_back(map.insert(i));
  for (std::size_t i = 0; i < keys.size(); i += 2) map.erase(keys[i]);
  dm::handle handle = map.allocate_handle();
  CHECK(map.verify() == "");

  // The same bytes at another address, as another process sees them.
  const auto mapped_elsewhere = std::make_unique<page[]>(pages);
  std::memcpy(mapped_elsewhere.get(), memory.get(), pages * sizeof(page));
  std::memset(memory.get(), 0xdd, pages * sizeof(page));
  segment_type elsewhere(bip::open_only, mapped_elsewhere.get(), pages * sizeof(page));
  map_type* found = elsewhere.find<map_type>("values").first;
  REQUIRE(found != nullptr);
  CHECK(found->verify() == "");
  CHECK(found->size() == 1500);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::uint64_t* value = found->get(keys[i]);
    REQUIRE((value != nullptr) == (i % 2 != 0));
    if (value != nullptr) REQUIRE(*value == i);
  }
  found->insert(std::move(handle), 7);
  for (std::uint64_t i = 0; i < 3000; ++i) found->insert(i);
  CHECK(found->verify() == "");
  const std::size_t used = elsewhere.get_free_memory();
  elsewhere.destroy<map_type>("values");
  CHECK(elsewhere.get_free_memory() > used);
  CHECK(elsewhere.all_memory_deallocated());
}
