// A machine and its disk, for durable maps that lose their power.
//
// `machine` is what the kernel shows to processes: every write is seen at once by every read. It keeps a trace of what
// was asked of it. `medium` is what the disk has: it follows a trace, and at any moment can be *cut*: any part of what was
// not synced is there, any part is not.
//
// What a cut may do: of each sector of 512 bytes, keep any of the contents it had since the last sync of its file; of the
// file's size likewise, whatever bytes it has; have removed a name or not, until that is synced. So writes are torn and
// reordered in every way. What it may not do: lose what a sync that returned had to write, or a name whose directory was
// synced; change a sector that nobody wrote to.
//
// After a sync that failed the disk has any part of what was to be written, and the kernel believes that it has it all: a
// later sync writes only what was written again since (as Linux does).
#pragma once

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "deferred_map/arena/storage.hpp"
#include "deferred_map/error.hpp"
#include "deferred_map/format/arena_header.hpp"

namespace simulated {

using bytes = std::vector<std::byte>;
using random_bits = std::mt19937_64;

inline std::uint64_t below(random_bits& random, std::uint64_t end) { return random() % end; }

/// What is in the files.
struct image {
  bytes arena;
  std::optional<bytes> journal;
};

struct event {
  enum class what { write, resize, sync, failed_sync, create, publish, remove };
  what kind;
  bool of_journal;
  std::uint64_t offset = 0;  // or the size
  bytes data;
  std::uint64_t safe_commit = 0;   // when this was asked for: the last commit that had returned,
  std::uint64_t begun_commit = 0;  // and the last that was begun
  random_bits::result_type seed = 0;
};

/// What goes wrong with a call.
enum class trouble { none, io_error, full };
/// What a call asks for.
enum class asked { read, write, sync, room, name };

class machine {
 public:
  machine(image files, const dm::arena_header& header) : files_(std::move(files)), header_(header) {}

  const dm::arena_header& header() const noexcept { return header_; }
  const std::vector<event>& trace() const noexcept { return trace_; }

  /// What the program has been told, and what it has begun.
  void returned(std::uint64_t commit) { safe_ = std::max(safe_, commit), begun_ = std::max(begun_, commit); }
  void begins(std::uint64_t commit) { begun_ = std::max(begun_, commit); }
  /// What was begun after this commit was lost with its process.
  void lost_after(std::uint64_t commit) { begun_ = commit; }
  std::uint64_t safe() const noexcept { return safe_; }
  std::uint64_t begun() const noexcept { return begun_; }

  /// Asked before each call that can fail.
  std::function<trouble()> trouble_with_call = [] { return trouble::none; };
  /// What the last call asked for that failed.
  asked failed() const noexcept { return failed_; }
  bool readers_in_the_way = false;
  /// The process that has it open is dead, as for what it still may do.
  bool killed = false;

  std::unique_ptr<dm::storage> open(bool writable);

 private:
  friend class file_in_machine;
  friend class storage_in_machine;

  bytes& content(bool of_journal) { return of_journal ? *files_.journal : files_.arena; }
  void record(event e) {
    e.safe_commit = safe_;
    e.begun_commit = begun_;
    e.seed = random_();
    trace_.push_back(std::move(e));
  }
  trouble ask(asked what) {
    const trouble found = trouble_with_call();
    if (found != trouble::none) failed_ = what;
    return found;
  }

  image files_;
  bool journal_named_ = true;  // where there is one
  dm::arena_header header_;
  std::vector<event> trace_;
  std::uint64_t safe_ = 0, begun_ = 0;
  asked failed_ = asked::read;
  random_bits random_{1};
};

[[noreturn]] inline void fail(trouble how) {
  if (how == trouble::full) throw dm::error(dm::errc::full, "simulated", "there is no room left");
  throw dm::error(std::error_code(EIO, std::generic_category()), "simulated", "input/output error");
}

class file_in_machine final : public dm::storage_file {
 public:
  file_in_machine(machine& on, bool of_journal, std::function<void(std::uint64_t, std::uint64_t)> grew)
      : on_(on), of_journal_(of_journal), grew_(std::move(grew)) {}

  std::uint64_t size_bytes() const override { return on_.content(of_journal_).size(); }
  std::size_t read(std::uint64_t offset, std::span<std::byte> out) const override {
    if (on_.ask(asked::read) != trouble::none) fail(trouble::io_error);
    const bytes& from = on_.content(of_journal_);
    if (offset >= from.size()) return 0;
    const auto got = std::min<std::uint64_t>(out.size(), from.size() - offset);
    std::memcpy(out.data(), from.data() + offset, got);
    return got;
  }
  void write(std::uint64_t offset, std::span<const std::byte> data) override {
    const trouble t = on_.ask(asked::write);
    // A call that fails has written some of the sectors before, never all: then it would not have failed.
    if (t != trouble::none) {
      const std::uint64_t sectors = (offset % 512 + data.size() + 511) / 512;
      const std::uint64_t end = (offset / 512 + below(on_.random_, sectors)) * 512;
      data = data.first(end <= offset ? 0 : std::min<std::uint64_t>(end - offset, data.size()));
    }
    if (!data.empty()) {
      bytes& into = on_.content(of_journal_);
      if (into.size() < offset + data.size()) grow(offset + data.size());
      std::memcpy(into.data() + offset, data.data(), data.size());
      on_.record({event::what::write, of_journal_, offset, bytes(data.begin(), data.end())});
    }
    if (t != trouble::none) fail(t);
  }
  void sync() override {
    const trouble t = on_.ask(asked::sync);
    on_.record({t == trouble::none ? event::what::sync : event::what::failed_sync, of_journal_, 0, {}});
    if (t != trouble::none) fail(trouble::io_error);
  }
  void start_writing(std::uint64_t, std::uint64_t) noexcept override {}
  void set_size(std::uint64_t size) override {
    if (const trouble t = on_.ask(asked::room); t != trouble::none) fail(t);
    if (size > size_bytes())
      grow(size);
    else
      on_.content(of_journal_).resize(size);
    on_.record({event::what::resize, of_journal_, size, {}});
  }
  /// Makes room, or a part of it and fails.
  void allocate(std::uint64_t size) {
    const std::uint64_t before = size_bytes();
    if (size <= before) return;
    const trouble t = on_.ask(asked::room);
    if (t != trouble::none) size = before + below(on_.random_, size - before + 1);
    if (size > before) {
      grow(size);
      on_.record({event::what::resize, of_journal_, size, {}});
    }
    if (t != trouble::none) fail(t);
  }

 private:
  void grow(std::uint64_t size) {
    const std::uint64_t before = size_bytes();
    on_.content(of_journal_).resize(size);
    if (grew_) grew_(before, size);
  }

  machine& on_;
  bool of_journal_;
  std::function<void(std::uint64_t, std::uint64_t)> grew_;
};

class storage_in_machine final : public dm::storage {
 public:
  storage_in_machine(machine& on, bool writable)
      : on_(on), writable_(writable), arena_(on, false, [this](std::uint64_t from, std::uint64_t to) {
          if (!view_.empty() && writable_) std::memset(view_.data() + from, 0, to - from);
        }) {
    look_for_journal();
  }

  const std::filesystem::path& path() const noexcept override { return path_; }
  bool is_ours() const noexcept override { return !on_.killed; }
  dm::storage_file& arena() override { return arena_; }
  void allocate_slots(std::uint64_t, std::uint64_t slots) override {
    arena_.allocate(on_.header_.file_size_for(slots));
  }
  dm::storage_file* journal() override { return journal_ ? &*journal_ : nullptr; }
  dm::storage_file& create_journal() override {
    if (const trouble t = on_.ask(asked::name); t != trouble::none) fail(t);
    on_.files_.journal.emplace();
    on_.journal_named_ = false;
    on_.record({event::what::create, true, 0, {}});
    journal_.emplace(on_, true, nullptr);
    return *journal_;
  }
  void publish_journal() override {
    if (const trouble t = on_.ask(asked::name); t != trouble::none) fail(t);
    on_.journal_named_ = true;
    on_.record({event::what::publish, true, 0, {}});
  }
  void remove_journal() override {
    journal_.reset();
    on_.files_.journal.reset();
    on_.record({event::what::remove, true, 0, {}});
  }
  std::byte* view() override {
    // What lies behind the end of the file must not be touched by a writer: it is no zeros here. (A reader has memory there.)
    view_.assign(on_.header_.file_size_for(on_.header_.slots_max), writable_ ? std::byte{0xa5} : std::byte{0});
    discard(0, view_.size());
    return view_.data();
  }
  std::uint64_t stretch_bytes() const noexcept override { return 16384; }
  bool gather(std::uint64_t stretch) noexcept override {
    if ((stretch + 1) * stretch_bytes() > std::min<std::uint64_t>(on_.files_.arena.size(), view_.size())) return false;
    gathered_.insert(stretch);
    return true;
  }
  bool scatter(std::uint64_t stretch) noexcept override {
    gathered_.erase(stretch);
    discard(stretch * stretch_bytes(), stretch_bytes());
    return true;
  }
  void discard(std::uint64_t offset, std::uint64_t size) noexcept override {
    const bytes& from = on_.files_.arena;
    // No file lies behind memory of our own.
    if (gathered_.contains(offset / stretch_bytes()))
      std::memset(view_.data() + offset, 0, size);
    else if (offset < from.size())
      std::memcpy(view_.data() + offset, from.data() + offset, std::min<std::uint64_t>(size, from.size() - offset));
  }
  bool try_keep_out_readers(std::uint64_t) override { return !on_.readers_in_the_way; }
  void let_in_readers(std::uint64_t) noexcept override {}
  void pin(std::uint64_t) override {}
  void unpin(std::uint64_t) noexcept override {}
  void look_for_journal() override {
    // An unnamed one is gone with the process that made it.
    if (on_.files_.journal && on_.journal_named_) journal_.emplace(on_, true, nullptr);
  }
  void protect(bool) override {}

 private:
  machine& on_;
  bool writable_;
  file_in_machine arena_;
  std::optional<file_in_machine> journal_;
  std::vector<std::byte> view_;
  std::set<std::uint64_t> gathered_;
  std::filesystem::path path_ = "simulated";
};

inline std::unique_ptr<dm::storage> machine::open(bool writable) {
  if (!journal_named_) files_.journal.reset(), journal_named_ = true;
  return std::make_unique<storage_in_machine>(*this, writable);
}

/// What the disk has of one file.
class file_on_medium {
 public:
  static constexpr std::size_t sector_bytes = 512;

  explicit file_on_medium(bytes content) : disk_(content), cache_(std::move(content)) {}

  void write(std::uint64_t offset, const bytes& data) {
    if (cache_.size() < offset + data.size()) resize(offset + data.size());
    std::memcpy(cache_.data() + offset, data.data(), data.size());
    for (std::uint64_t s = offset / sector_bytes; s <= (offset + data.size() - 1) / sector_bytes; ++s) {
      sector now{};
      const std::uint64_t at = s * sector_bytes;
      std::memcpy(now.data(), cache_.data() + at, std::min<std::uint64_t>(sector_bytes, cache_.size() - at));
      dirty_[s].push_back(now);
    }
  }
  void resize(std::uint64_t size) {
    if (size == cache_.size()) return;
    cache_.resize(size);
    sizes_.push_back(size);
    std::erase_if(dirty_, [&](const auto& d) { return d.first * sector_bytes >= size; });
  }
  void sync() {
    cut_latest(disk_);
    dirty_.clear();
    sizes_.clear();
  }
  void sync_in_vain(random_bits& random) {
    disk_ = cut(random, 0);
    disk_.resize(cache_.size());  // a file system that loses the size too is not written to any more
    dirty_.clear();
    sizes_.clear();
  }

  /// How many ways there are to cut, or `most` where there are more.
  std::uint64_t ways(std::uint64_t most) const {
    std::uint64_t product = sizes_.size() + 1;
    for (const auto& [s, versions] : dirty_) {
      product *= versions.size() + 1;
      if (product >= most) return most;
    }
    return std::min(product, most);
  }
  /// The way with this number, which it uses up: what is left of `way` is for others.
  bytes cut_way(std::uint64_t& way) const {
    return build([&](std::size_t choices) {
      const std::uint64_t mine = way % choices;
      way /= choices;
      return mine;
    });
  }
  /// Any way. `manner`: 0 each sector for itself; 1 all but few sectors; 2 few sectors only; 3 as if written in order up to
  /// somewhere.
  bytes cut(random_bits& random, unsigned manner) const {
    const std::uint64_t stop = below(random, dirty_.size() + 1);
    std::uint64_t passed = 0;
    return build([&](std::size_t choices) -> std::uint64_t {
      ++passed;
      switch (manner) {
        case 1:
          return below(random, 8) == 0 ? below(random, choices) : choices - 1;
        case 2:
          return below(random, 8) == 0 ? below(random, choices) : 0;
        case 3:
          return passed <= stop ? choices - 1 : 0;
        default:
          return below(random, choices);
      }
    });
  }

 private:
  using sector = std::array<std::byte, sector_bytes>;

  template <class Choose>
  bytes build(Choose choose) const {
    const std::uint64_t size_choice = choose(sizes_.size() + 1);
    bytes out = disk_;
    out.resize(size_choice == 0 ? disk_.size() : sizes_[size_choice - 1]);
    for (const auto& [s, versions] : dirty_) {
      const std::uint64_t choice = choose(versions.size() + 1);
      const std::uint64_t at = s * sector_bytes;
      if (choice != 0 && at < out.size())
        std::memcpy(out.data() + at, versions[choice - 1].data(),
                    std::min<std::uint64_t>(sector_bytes, out.size() - at));
    }
    return out;
  }
  void cut_latest(bytes& into) const {
    into.resize(cache_.size());
    for (const auto& [s, versions] : dirty_) {
      const std::uint64_t at = s * sector_bytes;
      std::memcpy(into.data() + at, versions.back().data(), std::min<std::uint64_t>(sector_bytes, into.size() - at));
    }
  }

  bytes disk_;
  bytes cache_;
  std::map<std::uint64_t, std::vector<sector>> dirty_;
  std::vector<std::uint64_t> sizes_;
};

/// What the disk has.
class medium {
 public:
  explicit medium(const image& at_first) : arena_(at_first.arena) {
    if (at_first.journal) named_.emplace(*at_first.journal);
  }

  void follow(const event& e) {
    using what = event::what;
    random_bits random(e.seed);
    file_on_medium* file = !e.of_journal ? &arena_ : unnamed_ ? &*unnamed_ : named_ && !removing_ ? &*named_ : nullptr;
    switch (e.kind) {
      case what::write:
        file->write(e.offset, e.data);
        break;
      case what::resize:
        file->resize(e.offset);
        break;
      case what::sync:
        file->sync();
        break;
      case what::failed_sync:
        file->sync_in_vain(random);
        break;
      case what::create:
        unnamed_.emplace(bytes());
        break;
      case what::publish:  // waits for the directory
        named_ = std::move(unnamed_);
        unnamed_.reset();
        removing_ = false;
        break;
      case what::remove:
        // Of one that never had a name on the disk nothing is left.
        if (unnamed_)
          unnamed_.reset();
        else
          removing_ = true;
        break;
    }
  }

  std::uint64_t ways(std::uint64_t most) const {
    std::uint64_t product = arena_.ways(most) * (removing_ ? 2 : 1);
    if (named_ && product < most) product *= named_->ways(most);
    return std::min(product, most);
  }
  image cut_way(std::uint64_t way) const {
    image out;
    out.arena = arena_.cut_way(way);
    bool gone = false;
    if (removing_) gone = way % 2 != 0, way /= 2;
    if (named_ && !gone) out.journal = named_->cut_way(way);
    return out;
  }
  image cut(random_bits& random) const {
    image out;
    out.arena = arena_.cut(random, static_cast<unsigned>(below(random, 4)));
    if (named_ && !(removing_ && below(random, 2) == 0))
      out.journal = named_->cut(random, static_cast<unsigned>(below(random, 4)));
    return out;
  }

 private:
  file_on_medium arena_;
  std::optional<file_on_medium> named_, unnamed_;
  bool removing_ = false;
};

}  // namespace simulated
