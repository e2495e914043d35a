// Rust's slotmap as a side: the same loops as `side` in sides.hpp, each one call into slotmap.rs.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "sides.hpp"

namespace bench {

/// The twin of `Loops` in slotmap.rs.
struct slotmap_loops {
  void* (*create)(std::size_t reserve);
  void (*drop)(void* map);
  void (*insert)(void* map, word first, word* keys, std::size_t n);
  word (*get)(const void* map, const word* keys, std::size_t n);
  std::size_t (*find)(const void* map, const word* keys, std::size_t n, void* found);
  void (*link)(void* map, const word* keys, std::size_t n);
  word (*follow)(const void* map, word key, std::size_t steps);
  std::size_t (*erase)(void* map, const word* keys, std::size_t n);
  void (*churn)(void* map, word* keys, std::size_t n);
  word (*walk)(const void* map);
  void (*tiny)(std::size_t maps, std::size_t n);
  void* (*second_create)(std::size_t reserve);
  void (*second_drop)(void* map);
  void (*second_insert)(void* map, const word* keys, std::size_t n);
  word (*second_get)(const void* map, const word* keys, std::size_t n);
  word (*second_join)(const void* map, const void* second);
};
extern "C" const slotmap_loops* slotmap_loops_of(std::size_t bytes);

template <std::size_t Bytes>
class slotmap_side {
 public:
  using key = word;
  static constexpr const char* name = "slotmap";
  static constexpr std::size_t bytes = Bytes;
  static constexpr bool tells_stale = true;
  static constexpr bool removes = true;

  explicit slotmap_side(std::size_t reserve) : map_(loops().create(reserve)) {}
  slotmap_side(slotmap_side&& other) noexcept : map_(std::exchange(other.map_, nullptr)) {}
  slotmap_side& operator=(slotmap_side&& other) noexcept {
    std::swap(map_, other.map_);
    return *this;
  }
  ~slotmap_side() {
    if (map_ != nullptr) loops().drop(map_);
  }

  void insert(word first, std::span<word> keys) { loops().insert(map_, first, keys.data(), keys.size()); }
  word get(std::span<const word> keys) const { return loops().get(map_, keys.data(), keys.size()); }
  std::size_t find(std::span<const word> keys, std::span<const value<Bytes>*> found) const {
    return loops().find(map_, keys.data(), keys.size(), found.data());
  }
  void link(std::span<const word> keys) { loops().link(map_, keys.data(), keys.size()); }
  word follow(word key, std::size_t steps) const { return loops().follow(map_, key, steps); }
  std::size_t erase(std::span<const word> keys) { return loops().erase(map_, keys.data(), keys.size()); }
  void churn(std::span<word> keys) { loops().churn(map_, keys.data(), keys.size()); }
  word walk() const { return loops().walk(map_); }
  static void tiny(std::size_t maps, std::size_t n) { loops().tiny(maps, n); }

  /// SecondaryMap, as a secondary side (container_secondary.cpp).
  class second {
   public:
    explicit second(std::size_t reserve) : map_(loops().second_create(reserve)) {}
    second(second&& other) noexcept : map_(std::exchange(other.map_, nullptr)) {}
    second& operator=(second&&) = delete;
    ~second() {
      if (map_ != nullptr) loops().second_drop(map_);
    }
    void insert(std::span<const word> keys) { loops().second_insert(map_, keys.data(), keys.size()); }
    word get(std::span<const word> keys) const { return loops().second_get(map_, keys.data(), keys.size()); }
    word join(const slotmap_side& first) const { return loops().second_join(first.map_, map_); }

   private:
    void* map_;
  };

 private:
  static const slotmap_loops& loops() {
    static const slotmap_loops& those = *slotmap_loops_of(Bytes);
    return those;
  }
  void* map_;
};

}  // namespace bench
