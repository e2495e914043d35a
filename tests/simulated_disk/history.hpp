// What a program does with a durable map on a simulated machine, at random, and what it must find after each crash.
#pragma once

#include <boost/describe.hpp>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "deferred_map/durable_map.hpp"
#include "disk.hpp"

namespace simulated {

struct record {
  std::int64_t balance;
  dm::key partner;
  char name[16];
};
BOOST_DESCRIBE_STRUCT(record, (), (balance, partner, name))

using map = dm::durable_map<record>;

/// A journal so small that a history of some hundred commits goes through many generations.
inline constexpr dm::durable_options how{.max_slots = 1024, .journal_bytes = 8192};

struct wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// All that a commit stands for: counts, index and the slots in use, byte for byte. Not the marks, which are of an opening;
/// nor what lies behind the slots in use (see below), where a slot that comes into use is written whole, in a new generation.
inline bytes state_of(dm::durable_arena& arena) {
  const auto* control = reinterpret_cast<const std::byte*>(&arena.control());
  bytes out(control + 64, control + 128);
  out.insert(out.end(), control + 256, control + 768);
  const auto* index = reinterpret_cast<const std::byte*>(arena.index_words());
  out.insert(out.end(), index, index + arena.header().index_size_bytes);
  const std::byte* slots = arena.slots();
  out.insert(out.end(), slots, slots + std::uint64_t{arena.control().slot_count} * arena.header().slot_stride_bytes);
  return out;
}

/// Behind the slots in use lies what shrinking leaves, as `dm-inspect check` has it: nothing, or vacant slots of generations
/// up to the floor.
inline void require_sound_leftovers(dm::durable_arena& arena) {
  const dm::control_block& control = arena.control();
  for (std::uint64_t slot = control.slot_count; slot < control.capacity; ++slot) {
    std::uint32_t word = 0;
    std::memcpy(&word, arena.slots() + slot * arena.header().slot_stride_bytes, sizeof word);
    if (word == 0) continue;
    if (!dm::version::is_vacant(word) || dm::version::generation(word) > std::max(control.generation_floor, 1u))
      throw wrong("behind the last slot lies one that shrinking does not leave: slot " + std::to_string(slot));
  }
}

/// The states of commits by their numbers.
class states {
 public:
  void add(std::uint64_t commit, dm::durable_arena& arena) { of_[commit] = state_of(arena); }
  void add(std::uint64_t commit, bytes state) { of_[commit] = std::move(state); }
  bool has(std::uint64_t commit) const { return of_.contains(commit); }
  /// What was lost with the power never was: other commits will have these numbers.
  void forget_after(std::uint64_t commit) { of_.erase(of_.upper_bound(commit), of_.end()); }
  void require_is(std::uint64_t commit, dm::durable_arena& arena) const {
    const auto at = of_.find(commit);
    if (at == of_.end()) throw wrong("there never was a commit " + std::to_string(commit));
    require_sound_leftovers(arena);
    const bytes now = state_of(arena);
    if (now == at->second) return;
    std::ostringstream text;
    text << "commit " << commit << " is not what it was: ";
    if (now.size() != at->second.size())
      text << now.size() << " bytes, not " << at->second.size();
    else {
      std::uint64_t byte = std::mismatch(now.begin(), now.end(), at->second.begin()).first - now.begin();
      const std::uint64_t control = 576, index = arena.header().index_size_bytes,
                          stride = arena.header().slot_stride_bytes;
      if (byte < control)
        text << "byte " << (byte < 64 ? byte + 64 : byte + 192) << " of the counts";
      else if (byte < control + index)
        text << "byte " << byte - control << " of the index";
      else
        text << "byte " << (byte - control - index) % stride << " of slot " << (byte - control - index) / stride
             << " of " << arena.control().slot_count;
    }
    throw wrong(text.str());
  }

 private:
  std::map<std::uint64_t, bytes> of_;
};

/// A program that has the map open on a machine.
class program {
 public:
  program(machine& on, states& known, std::uint64_t seed) : on_(on), known_(known), random_(seed) {}

  bool is_open() const { return map_.has_value(); }
  map& it() { return *map_; }
  dm::durable_arena& arena() { return *arena_; }

  /// Opens it, and finds what must be there.
  void open() {
    on_.killed = false;
    auto opened = dm::durable_arena::attach(on_.open(true), on_.header(), how, dm::arena_access::read_write);
    arena_ = opened.get();
    const std::uint64_t at = arena_->last_commit();
    if (at < on_.safe() || at > on_.begun())
      throw wrong("it is at commit " + std::to_string(at) + ", not one from " + std::to_string(on_.safe()) + " to " +
                  std::to_string(on_.begun()));
    // What a close committed (slots given back, generations used up) nobody could look at before.
    if (!known_.has(at) && closing_) known_.add(at, *arena_);
    known_.require_is(at, *arena_);
    known_.forget_after(at);
    closing_ = false;
    on_.lost_after(at);
    on_.returned(at);
    on_.begins(at + 1);  // slots that were reserved are given back
    closing_ = true;     // if this fails, the giving back may have happened
    map_.emplace(map::attach(std::move(opened), how));
    closing_ = false;
    note_commit(at);
    if (const std::string fault = map_->verify(); !fault.empty()) throw wrong(fault);
  }
  void commit(dm::sync how_to) {
    const std::uint64_t before = map_->last_commit();
    on_.begins(before + 1);
    const bytes meant = state_of(*arena_);
    std::uint64_t at = 0;
    try {
      at = map_->commit(how_to);
    } catch (...) {
      if (arena_->is_poisoned()) known_.add(before + 1, meant);  // it may be there all the same
      throw;
    }
    note_commit(before);
    if (how_to == dm::sync::now) on_.returned(at);
  }
  void checkpoint() {
    commit(dm::sync::now);
    map_->checkpoint();
  }
  void close() {
    on_.begins(map_->last_commit() + 1);
    const std::uint64_t at = map_->last_commit();
    closing_ = true;
    map_->close();
    map_.reset();
    on_.returned(at);
  }
  /// Its process ends, as by `kill -9`.
  void kill() {
    on_.killed = true;
    map_.reset();
  }

  /// One thing of many that a program may do.
  void step() {
    const std::uint64_t die = below(random_, 100);
    if (die < 30) {
      for (auto n = below(random_, 4) + 1; n != 0; --n) keep(map_->insert(value()));
    } else if (die < 45) {
      for (auto n = below(random_, 4) + 1; n != 0; --n)
        if (record* found = map_->get(any())) found->balance = static_cast<std::int64_t>(random_());
    } else if (die < 60) {
      for (auto n = below(random_, 4) + 1; n != 0; --n) map_->erase(any());
    } else if (die < 66) {
      auto handle = map_->allocate_handle();
      if (below(random_, 2) == 0)
        keep(handle.key()), map_->insert(std::move(handle), value());
      else
        handles_.push_back(std::move(handle));
    } else if (die < 70) {
      if (!handles_.empty()) {
        if (below(random_, 2) == 0)
          map_->insert(std::move(handles_.back()), value());
        else
          map_->release_handle(std::move(handles_.back()));
        handles_.pop_back();
      }
    } else if (die < 73) {  // growth
      if (map_->slot_count() < 700)
        for (auto n = below(random_, 120); n != 0; --n) keep(map_->insert(value()));
    } else if (die < 75) {
      map_->retain([&](auto&&...) { return below(random_, 3) != 0; });
    } else if (die < 77) {
      handles_.clear();
      map_->clear();
      map_->shrink_to_fit();
    } else if (die < 80) {
      map_->shrink_to_fit();
    } else if (die < 85) {
      handles_.clear();
      map_->rollback();
    } else {
      if (!keys_.empty()) map_->update(any(), [&](record& r) { r.partner = any(); });
    }
  }
  /// Some steps and a commit; now and then something else.
  void transaction() {
    on_.readers_in_the_way = below(random_, 8) == 0;
    for (auto n = below(random_, 5); n != 0; --n) step();
    const std::uint64_t die = below(random_, 100);
    if (die < 60)
      commit(dm::sync::now);
    else if (die < 90)
      commit(dm::sync::later);
    else if (die < 94)
      checkpoint();
    else if (die < 98)
      handles_.clear(), kill(), open();
    else
      handles_.clear(), close(), open();
  }
  void forget_handles() { handles_.clear(); }

 private:
  void note_commit(std::uint64_t before) {
    if (map_->last_commit() != before || !known_.has(before)) known_.add(map_->last_commit(), *arena_);
  }
  record value() { return {static_cast<std::int64_t>(random_()), any(), "somebody"}; }
  dm::key any() { return keys_.empty() ? dm::key() : keys_[below(random_, keys_.size())]; }
  void keep(dm::key k) {
    if (keys_.size() < 600)
      keys_.push_back(k);
    else
      keys_[below(random_, keys_.size())] = k;
  }

  machine& on_;
  states& known_;
  random_bits random_;
  std::optional<map> map_;
  dm::durable_arena* arena_ = nullptr;
  bool closing_ = false;  // a commit may have been made whose state nobody could look at
  std::vector<dm::key> keys_;
  std::vector<map::handle_type> handles_;
};

}  // namespace simulated
