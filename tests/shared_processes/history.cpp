#include "history.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <unordered_set>

namespace shared_processes {
namespace {

constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();

std::uint64_t end_of(const call& c) noexcept { return c.is_pending() ? never : c.ended_ns; }

/// When something was: not before `from`, not after `to`.
struct span {
  std::uint64_t from = 0;
  std::uint64_t to = never;
};

class key_history {
 public:
  key_history(std::uint64_t key_bits, std::optional<std::uint64_t> before, std::optional<std::uint64_t> after)
      : key_bits_(key_bits), before_(before), after_(after) {}

  void add(const call& c) { calls_.push_back(&c); }
  std::size_t size() const noexcept { return calls_.size(); }

  std::string contradiction() {
    for (const call* c : calls_)
      if (std::string fault = sort_in(*c); !fault.empty()) return named(fault);
    if (std::string fault = follow(); !fault.empty()) return named(fault);
    return {};
  }

 private:
  std::string named(const std::string& fault) const {
    return "key " + std::to_string(key_bits_ & 0xffff'ffffu) + ":" + std::to_string(key_bits_ >> 34) + ": " + fault;
  }

  std::string sort_in(const call& c) {
    switch (c.kind) {
      case what::insert:
        if (before_) return "inserted though it was there";
        if (inserted_ != nullptr) return "inserted twice";
        inserted_ = &c;
        return {};
      case what::get:
        if (c.is_pending()) return {};
        if (c.found)
          note_read(c);
        else
          note_stale(c);
        return {};
      case what::update:
        if (c.is_pending()) {
          // `new_number` is 0 until it was given a value to change.
          if (c.new_number != 0) pending_updates_.push_back(&c);
        } else if (!c.found) {
          note_stale(c);
        } else if (!updates_.emplace(c.old_number, &c).second) {
          return "value " + std::to_string(c.old_number) + " was replaced twice: an update is lost";
        }
        return {};
      case what::remove:
        if (c.is_pending())
          pending_removes_.push_back(&c);
        else if (!c.found)
          note_stale(c);
        else if (removed_ != nullptr)
          return "removed twice";
        else
          removed_ = &c;
        return {};
    }
    return "unknown call";
  }

  void note_read(const call& c) {
    span& of = reads_[c.old_number];
    of.from = std::max(of.from, c.began_ns);  // the next change was not before
    of.to = std::min(of.to, end_of(c));       // this one was not after
  }
  void note_stale(const call& c) { stale_before_ = std::min(stale_before_, end_of(c)); }

  bool was_seen(std::uint64_t number) const {
    return reads_.contains(number) || updates_.contains(number) ||
           (removed_ != nullptr && removed_->old_number == number) || after_ == number ||
           std::any_of(pending_updates_.begin(), pending_updates_.end(),
                       [&](const call* c) { return c->old_number == number; });
  }

  /// The change of `number`, where there was one.
  const call* change_of(std::uint64_t number) const {
    if (const auto it = updates_.find(number); it != updates_.end()) return it->second;
    for (const call* c : pending_updates_)
      if (c->old_number == number && was_seen(c->new_number)) return c;
    return nullptr;
  }

  /// Puts a change after those before it. Returns false where there is no moment left for it.
  bool place(std::uint64_t began, std::uint64_t ended, std::uint64_t old_number, std::uint64_t new_number) {
    std::uint64_t from = std::max(began, moment_);
    if (const auto it = reads_.find(old_number); it != reads_.end()) from = std::max(from, it->second.from);
    std::uint64_t to = ended;
    if (const auto it = reads_.find(new_number); it != reads_.end()) to = std::min(to, it->second.to);
    moment_ = from;
    return from <= to;
  }

  std::string follow() {
    if (!before_ && inserted_ == nullptr) return "used, and never inserted";
    std::uint64_t number = 0;
    std::unordered_set<std::uint64_t> seen;
    if (before_) {
      number = *before_;
    } else {
      number = inserted_->new_number;
      if (inserted_->is_pending() && !was_seen(number)) return calls_.size() == 1 ? "" : "used, and never inserted";
      if (!place(inserted_->began_ns, end_of(*inserted_), 0, number)) return "seen before it was inserted";
    }
    seen.insert(number);
    std::size_t completed = 0;
    for (const call* c = change_of(number); c != nullptr; c = change_of(number)) {
      if (!place(c->began_ns, end_of(*c), number, c->new_number))
        return "value " + std::to_string(c->new_number) + " was seen too early, or the one before it too late";
      completed += !c->is_pending();
      number = c->new_number;
      if (!seen.insert(number).second) return "its values go in a circle";
    }
    if (completed != updates_.size()) return "an update replaced a value that never was";
    for (const auto& [read, when] : reads_)
      if (!seen.contains(read)) return "value " + std::to_string(read) + " was read and never written";
    if (removed_ != nullptr) {
      if (removed_->old_number != number)
        return "value " + std::to_string(removed_->old_number) + " was removed, but " + std::to_string(number) +
               " was the last";
      if (after_) return "removed, and there";
      if (!place(removed_->began_ns, std::min(removed_->ended_ns, stale_before_), number, 0))
        return "seen after it was removed, or found stale before";
      return {};
    }
    if (after_) {
      if (*after_ != number)
        return "value " + std::to_string(*after_) + " is there, but " + std::to_string(number) + " was the last";
      return stale_before_ == never ? "" : "found stale, and there";
    }
    // Nobody says that it was removed: then by one who was killed.
    if (pending_removes_.empty()) return "lost";
    std::uint64_t began = never;
    for (const call* c : pending_removes_) began = std::min(began, c->began_ns);
    if (!place(began, stale_before_, number, 0)) return "seen after it was removed by somebody who was killed";
    return {};
  }

  std::uint64_t key_bits_;
  std::optional<std::uint64_t> before_;
  std::optional<std::uint64_t> after_;
  std::vector<const call*> calls_;
  const call* inserted_ = nullptr;
  const call* removed_ = nullptr;
  std::unordered_map<std::uint64_t, const call*> updates_;  // by what they replaced
  std::vector<const call*> pending_updates_;
  std::vector<const call*> pending_removes_;
  std::unordered_map<std::uint64_t, span> reads_;
  std::uint64_t stale_before_ = never;
  std::uint64_t moment_ = 0;
};

}  // namespace

std::string first_contradiction(const std::vector<const call_log*>& logs, const contents& before, const contents& after,
                                tally& count) {
  std::unordered_map<std::uint64_t, key_history> histories;
  const auto at = [](const contents& from, std::uint64_t bits) -> std::optional<std::uint64_t> {
    const auto it = from.find(bits);
    return it == from.end() ? std::nullopt : std::optional(it->second);
  };
  const auto history_of = [&](std::uint64_t bits) -> key_history& {
    return histories.try_emplace(bits, bits, at(before, bits), at(after, bits)).first->second;
  };
  for (const contents* all : {&before, &after})
    for (const auto& [bits, number] : *all) history_of(bits);
  for (const call_log* log : logs)
    for (std::size_t i = 0; i < log->count; ++i) {
      const call& c = log->calls[i];
      if (c.key_bits == 0) continue;  // killed before it knew the key of what it would insert
      history_of(c.key_bits).add(c);
      ++count.calls;
      count.pending += c.is_pending();
    }
  for (auto& [bits, history] : histories) {
    ++count.histories;
    count.longest = std::max<std::uint64_t>(count.longest, history.size());
    if (std::string fault = history.contradiction(); !fault.empty()) return fault;
  }
  return {};
}

}  // namespace shared_processes
