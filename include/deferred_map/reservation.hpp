// A reservation: a handle that cannot be forgotten.
#pragma once

#include <utility>

#include "deferred_map/deferred_map.hpp"

namespace dm {

/// Reserves a slot of a map and gives it back when it goes out of scope, unless it was filled before.
///
///   dm::reservation place(orders);
///   order o{.id = place.key(), .lines = read_lines(input)};   // may throw: the slot goes back
///   place.insert(std::move(o));
///
/// Holds the map by address: the map must outlive it and stay where it is.
template <class Map>
class [[nodiscard]] reservation {
 public:
  using key_type = typename Map::key_type;
  using handle_type = typename Map::handle_type;

  /// Reserves a slot. Errors: as `allocate_handle`.
  explicit reservation(Map& map) : map_(&map), handle_(map.allocate_handle()) {}
  /// Takes over a handle of `map`.
  reservation(Map& map, handle_type&& handle) noexcept : map_(&map), handle_(std::move(handle)) {}

  reservation(reservation&& other) noexcept : map_(other.map_), handle_(std::move(other.handle_)) {}
  reservation& operator=(reservation&& other) noexcept {
    if (this != &other) {
      give_back();
      map_ = other.map_;
      handle_ = std::move(other.handle_);
    }
    return *this;
  }
  ~reservation() { give_back(); }

  key_type key() const noexcept { return handle_.key(); }
  /// Whether there still is something to fill.
  explicit operator bool() const noexcept { return static_cast<bool>(handle_); }

  /// Fills the slot. Errors: as the map's `insert`; the reservation then stays as it was.
  decltype(auto) insert(typename Map::mapped_type value) { return map_->insert(std::move(handle_), std::move(value)); }
  template <class... A>
  decltype(auto) emplace(A&&... args) {
    return map_->emplace(std::move(handle_), std::forward<A>(args)...);
  }

  /// Hands the duty to fill the slot to the caller.
  handle_type release() noexcept { return std::move(handle_); }

 private:
  void give_back() noexcept {
    // A slot that is no longer ours (release_reserved, a map moved elsewhere) is not ours to give back.
    if (map_->holds(handle_)) map_->release_handle(std::move(handle_));
  }

  Map* map_;
  handle_type handle_;
};

}  // namespace dm
