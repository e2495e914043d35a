#include "threads.hpp"

#include <stdexcept>

namespace interleavings {
namespace {

/// Of a single thread; more is a program that does not end.
constexpr std::uint32_t length_max = 1000;

void sign(std::vector<std::uint64_t>& to, const event& e) {
  to.insert(to.end(), {static_cast<std::uint64_t>(e.done) | static_cast<std::uint64_t>(e.found) << 8 |
                           static_cast<std::uint64_t>(e.key_known) << 9 | static_cast<std::uint64_t>(e.ended) << 10,
                       std::uint64_t{e.of.first} << 32 | e.of.second, e.argument, e.value});
}

}  // namespace

programs::programs(const std::uint64_t* base, std::size_t words, const std::uint64_t* constant,
                   std::uint32_t own_cache_limit, std::vector<program> code)
    : base_(base),
      constant_(constant),
      own_cache_limit_(own_cache_limit),
      programs_(std::move(code)),
      location_of_(words, -1) {
  for (std::size_t i = 0; i < programs_.size(); ++i) starts_.push_back(find(nullptr, 0, i));
}

place* programs::after(place* at, std::uint64_t seen) {
  if (at->next.does == act::wait) return at->operation;
  for (const auto& [value, place] : at->after)
    if (value == seen) return place;
  place* found = find(at, seen, at->thread);
  at->after.emplace_back(seen, found);
  return found;
}

place* programs::find(const place* before, std::uint64_t seen, std::size_t thread) {
  auto made = std::make_unique<place>();
  made->thread = static_cast<std::uint32_t>(thread);
  made->before = before;
  made->seen = seen;
  made->length = before == nullptr ? 0 : before->length + 1;
  told_.resize(made->length);
  for (const place* p = made.get(); p->before != nullptr; p = p->before) told_[p->length - 1] = p->seen;
  run(thread);
  made->next = next_;
  if (made->length == length_max) made->next = {act::failed, {}, 0, false, 0, 0, "a thread does not come to an end"};
  made->events.assign(own_.events.begin(), own_.events.begin() + own_.event_count);
  made->cached.assign(own_.cache.slots, own_.cache.slots + own_.cache.count);
  made->number = static_cast<std::uint32_t>(places_.size());
  made->operation = before == nullptr ? nullptr : before->next.does == act::begin ? made.get() : before->operation;

  signature left_behind{thread};
  for (const event& e : made->events) sign(left_behind, e);
  made->dead_number = dead_.emplace(left_behind, static_cast<std::uint32_t>(dead_.size())).first->second;
  if (made->next.does == act::begin || made->next.does == act::between || made->next.does == act::finished) {
    // Between operations a thread is what it has done and found, and what is in its cache; so it is, for what it says
    // itself, between parts of one. How it has come there does not matter to what it will do.
    signature all = left_behind;
    all.insert(all.end(), {~std::uint64_t{0}, own_.cache.cursor, own_.cache.count,
                           static_cast<std::uint64_t>(made->next.does), made->next.value});
    all.insert(all.end(), made->cached.begin(), made->cached.end());
    const auto [at, is_new] = boundaries_.emplace(std::move(all), made.get());
    if (!is_new) return at->second;
  }
  places_.push_back(std::move(made));
  return places_.back().get();
}

void programs::run(std::size_t thread) {
  current_ = this;
  told_so_far_ = 0;
  own_ = own();
  own_.id = static_cast<std::uint32_t>(thread);
  own_.cache.limit = own_cache_limit_;
  run_until_left(thread);
}

void programs::run_until_left(std::size_t thread) {
  if (setjmp(left_) != 0) return;
  try {
    programs_[thread](own_);
    next_ = {act::finished, {}, 0, false, 0, 0, nullptr};
  } catch (const violation& v) {
    next_ = {act::failed, {}, 0, false, 0, 0, v.what};
  }
}

std::uint64_t programs::take(const step& next) noexcept {
  programs& t = *current_;
  if (t.told_so_far_ < t.told_.size()) return t.told_[t.told_so_far_++];
  t.next_ = next;
  std::longjmp(t.left_, 1);
}

std::uint8_t programs::location(const std::uint64_t& word) {
  programs& t = *current_;
  std::int16_t& number = t.location_of_.at(static_cast<std::size_t>(&word - t.base_));
  if (number < 0) {
    if (t.locations_.size() == locations_max) throw std::length_error("more locations than a view has");
    number = static_cast<std::int16_t>(t.locations_.size());
    t.locations_.push_back(&word);
  }
  return static_cast<std::uint8_t>(number);
}

}  // namespace interleavings
