// Values that tests put into maps: counted, self-checking, and throwing on demand.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <utility>

namespace test {

/// Burns down with every construction or copy that could throw, and throws when it reaches the end.
class fuse {
 public:
  struct blown : std::runtime_error {
    blown() : std::runtime_error("the fuse blew") {}
  };
  /// Lets `steps` steps pass and throws at the next one.
  static void set(int steps) { left_ = steps; }
  static void remove() { left_ = -1; }
  /// Whether a fuse was set and has blown, or was never set.
  static bool is_out() { return left_ < 0; }
  static void burn() {
    if (left_ >= 0 && left_-- == 0) throw blown();
  }

 private:
  static inline int left_ = -1;
};

/// Counts the living, knows its own address (so a value moved as bytes is noticed), and burns the fuse.
template <bool NothrowMove>
class tracked {
 public:
  tracked(int number) : number_(number) {  // NOLINT: implicit on purpose
    fuse::burn();
    begin();
  }
  tracked(const tracked& other) : number_(other.number()) {
    fuse::burn();
    begin();
  }
  tracked(tracked&& other) noexcept(NothrowMove) : number_(other.number()) {
    if constexpr (!NothrowMove) fuse::burn();
    other.number_ = moved_from;
    begin();
  }
  tracked& operator=(const tracked&) = delete;
  ~tracked() {
    if (self_ != this) wrong_address = true;
    --alive;
  }

  int number() const {
    if (self_ != this) wrong_address = true;
    return number_;
  }
  friend bool operator==(const tracked& a, int b) { return a.number() == b; }

  static constexpr int moved_from = -1;
  static inline int alive = 0;
  static inline bool wrong_address = false;

 private:
  void begin() {
    self_ = this;
    ++alive;
  }
  int number_;
  const tracked* self_ = nullptr;
};

using steady = tracked<true>;
using fragile = tracked<false>;

/// Movable only, and its move may throw, so a container has no way to grow without risk.
class fragile_move_only {
 public:
  explicit fragile_move_only(int number) : number_(number) {}
  fragile_move_only(fragile_move_only&& other) : number_(other.number_) { fuse::burn(); }
  fragile_move_only& operator=(fragile_move_only&&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

}  // namespace test
