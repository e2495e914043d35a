// What is found in an image, and in every image that a kill within its recovery leaves, and so on.
#pragma once

#include <xxhash.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "../files.hpp"
#include "deferred_map/inspect.hpp"
#include "image.hpp"
#include "scene.hpp"
#include "store_recorder.hpp"

namespace killed {

/// What was looked at.
struct tally {
  std::uint64_t images = 0;             ///< judged: different from each other, notes for people aside
  std::uint64_t recovered = 0;          ///< of them: something was under way
  std::size_t deepest = 0;              ///< 0: a kill within the operation; 1: within the recovery from that; ...
  std::uint64_t whole_images_seen = 0;  ///< before equal ones were put together

  void add(const tally& other) {
    images += other.images;
    recovered += other.recovered;
    deepest = std::max(deepest, other.deepest);
    whole_images_seen += other.whole_images_seen;
  }
};

/// What images are held to.
struct rules {
  bool index_lies = false;  ///< until somebody takes a slot and notices
  bool salvage = false;     ///< the machine has stopped: opened with salvage, and without it refused or found the same
  std::size_t depth_max = ~std::size_t{0};  ///< kills within recoveries within ... so deep, or until nothing new comes
};

/// Opens images as their next user would.
template <class T>
class judge {
 public:
  using map = dm::mapped_map<T>;

  /// `place` is a file of the judge's own. `told` are all keys that anybody ever knew, in the order in
  /// which they became known; it must outlive the judge.
  judge(std::filesystem::path place, const std::vector<std::uint64_t>& told, const rules& by)
      : place_(std::move(place)), told_(told), by_(by) {}

  /// What a user finds who opens `killed`. Throws std::runtime_error with what is wrong: with the map that is found,
  /// with what can be done with it, or if a recovery that is killed anywhere, and again, finds anything else.
  /// Unless `deep`, its recovery is not killed.
  contents<T> examine(const image& killed, bool deep = true) {
    std::deque<pending> queue;
    queue.push_back({killed, 0, deep ? by_.depth_max : 0, std::nullopt});
    ++tally_.whole_images_seen;
    std::optional<contents<T>> first;
    while (!queue.empty()) {
      const pending next = std::move(queue.front());
      queue.pop_front();
      const std::string bytes = without_notes(next.killed.bytes);
      const std::uint64_t known = XXH3_64bits(bytes.data(), bytes.size());
      if (const auto seen = seen_.find(known); seen != seen_.end()) {
        if (next.expected && *next.expected != seen->second) fail("a recovery that was killed ended in something else");
        if (!first) first = seen->second;
        continue;
      }
      std::vector<image> images;
      contents<T> found = look(next, images);
      if (next.expected && *next.expected != found)
        fail("recovering again after a kill within the recovery (" + std::to_string(next.depth) +
             " deep) found something else");
      tally_.images += 1;
      tally_.deepest = std::max(tally_.deepest, next.depth);
      for (std::size_t i = 1; i < images.size(); ++i)
        queue.push_back({std::move(images[i]), next.depth + 1, next.depth_max, found});
      tally_.whole_images_seen += images.empty() ? 0 : images.size() - 1;
      seen_.emplace(known, found);
      if (!first) first = std::move(found);
    }
    return *first;
  }

  const tally& counts() const noexcept { return tally_; }

 private:
  struct pending {
    image killed;
    std::size_t depth;
    std::size_t depth_max;
    std::optional<contents<T>> expected;
  };

  [[noreturn]] static void fail(const std::string& what) { throw std::runtime_error(what); }
  static void require(bool holds, const std::string& what) {
    if (!holds) fail(what);
  }

  /// Opens; returns what a kill within leaves, where that is to be looked at.
  template <class Open>
  std::vector<image> opening(const pending& next, Open open) {
    if (next.depth < next.depth_max)
      return record_stores(
          place_, [&] { return next.killed.keys_told; }, open);
    open();
    return {};
  }

  contents<T> look(const pending& next, std::vector<image>& images) {
    restore(place_, next.killed.bytes);
    if (by_.salvage) return salvage(next, images);
    {
      const auto inspected = dm::inspect::check(dm::inspect::arena_file::open(place_));
      for (const auto& finding : inspected.findings.listed())
        if (finding.level == dm::inspect::severity::error && !by_.index_lies) fail("dm-inspect check: " + finding.text);
    }
    // Who may only read sees the same, and changes nothing.
    contents<T> read;
    {
      const map reading = map::open_read_only(place_);
      require(by_.index_lies || reading.verify().empty(), "read-only: " + reading.verify());
      read = contents_of(reading);
    }
    require(read_file(place_) == next.killed.bytes, "open_read_only changed the file");

    std::optional<map> opened;
    images = opening(next, [&] { opened.emplace(map::open(place_)); });
    map& m = *opened;
    require(by_.index_lies || m.verify().empty(), m.verify());
    require(m.reserved_count() == 0, "slots are reserved by handles that are dead");
    contents<T> found = contents_of(m);
    require(found.size() == m.size(), "iteration misses values");
    require(found == read, "open_read_only and open do not see the same");
    for (const auto& [bits, value] : found)
      require(m.at(dm::key::from_bits(bits)) == value, "look-up and iteration differ");
    tally_.recovered += m.recovery().outcome == dm::recovery_outcome::recovered;
    use(m, found, next.killed.keys_told);
    return found;
  }

  contents<T> salvage(const pending& next, std::vector<image>& images) {
    std::optional<contents<T>> without;
    try {
      without = contents_of(std::as_const(*std::make_unique<map>(map::open_read_only(place_))));
    } catch (const dm::error& e) {
      require(e.code() == dm::errc::unclean_after_reboot, e.what());
    }
    require(read_file(place_) == next.killed.bytes, "what was refused was changed");
    std::optional<map> opened;
    images = opening(next, [&] { opened.emplace(map::open(place_, {.salvage = true})); });
    require(opened->verify().empty(), opened->verify());
    contents<T> found = contents_of(*opened);
    require(!without || *without == found, "salvage found something else than an ordinary opening");
    tally_.recovered += opened->recovery().outcome == dm::recovery_outcome::salvaged;
    use(*opened, found, next.killed.keys_told);
    return found;
  }

  /// Whether the map still works, and no key that anybody was ever told comes back to life.
  void use(map& m, contents<T> model, std::size_t keys_told) {
    const std::set<std::uint64_t> told(told_.begin(), told_.begin() + static_cast<std::ptrdiff_t>(keys_told));
    for (const std::uint64_t bits : told)
      require(model.contains(bits) || !m.contains(dm::key::from_bits(bits)), "a dead key is alive");
    const auto filled = [&](dm::key key, std::uint64_t serial) {
      require(!told.contains(key.bits()), "a key that somebody was told is handed out again");
      require(model.emplace(key.bits(), value_of<T>(serial)).second, "a slot was handed out twice");
    };
    // All that is vacant, some of it by handles, and new slots where there may be some.
    const std::uint64_t slots_max = slots_max_of(place_);
    const std::uint64_t vacant = m.slot_count() - m.size() - m.retired_count();
    for (std::uint64_t room = std::min(vacant + 2, slots_max - m.size() - m.retired_count()); room > 0; --room) {
      if (room % 3 == 0) {
        dm::handle handle = m.allocate_handle();
        const dm::key key = handle.key();
        if (room % 2 == 0) {
          m.release_handle(std::move(handle));
        } else {
          m.insert(std::move(handle), value_of<T>(room));
          filled(key, room);
        }
      } else {
        filled(m.insert(value_of<T>(room)), room);
      }
    }
    std::uint64_t serial = 2'000'000;
    for (auto it = model.begin(); it != model.end();) {
      const dm::key key = dm::key::from_bits(it->first);
      if (key.index() % 5 == 0) {
        require(m.erase(key) && !m.contains(key), "a value cannot be erased");
        it = model.erase(it);
        continue;
      }
      if (key.index() % 5 == 1) {
        require(m.update(key, [&](T& value) { value = value_of<T>(++serial); }), "a value cannot be changed");
        it->second = value_of<T>(serial);
      }
      ++it;
    }
    require(m.verify().empty(), "after use: " + m.verify());
    require(contents_of(m) == model, "after use something else is in the map than was put there");
    m.close();
    const map again = map::open_read_only(place_);
    require(again.recovery().outcome == dm::recovery_outcome::clean, "closed, and not found so");
    require(contents_of(again) == model, "closing changed something");
  }

  static std::uint64_t slots_max_of(const std::filesystem::path& path) {
    return read_at<dm::arena_header>(path, 0).slots_max;
  }

  std::filesystem::path place_;
  const std::vector<std::uint64_t>& told_;
  rules by_;
  std::unordered_map<std::uint64_t, contents<T>> seen_;  // by a hash of the image without notes
  tally tally_;
};

}  // namespace killed
