// Power is lost at many moments of a map's life, and the disk keeps of each page some version since its last sync.
//
// Whatever it keeps, opening after the restart either refuses the file as unclean, or finds exactly what was vouched for.
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <iostream>
#include <map>
#include <random>

#include "../catch.hpp"
#include "../files.hpp"
#include "../temporary_directory.hpp"
#include "deferred_map/mapped_map.hpp"
#include "disk.hpp"
#include "page_history.hpp"

namespace {

struct value {
  std::uint64_t number;
  std::array<std::uint64_t, 30> more;  // a growth of 64 KiB is some 250 slots

  friend bool operator==(const value& a, const value& b) { return std::memcmp(&a, &b, sizeof a) == 0; }
};

using map = dm::mapped_map<value>;
using contents = std::map<std::uint64_t, value>;  // by the bits of the key

value value_of(std::uint64_t number) {
  value v{number, {}};
  v.more.fill(number * 3);
  return v;
}

contents contents_of(const map& m) {
  contents found;
  for (const auto [key, v] : m) found.emplace(key.bits(), v);
  return found;
}

std::string bytes_of(int descriptor) {
  std::string bytes(static_cast<std::size_t>(::lseek(descriptor, 0, SEEK_END)), '\0');
  (void)!::pread(descriptor, bytes.data(), bytes.size(), 0);
  return bytes;
}

const dm::arena_options small{.max_slots = 2'000};

class story {
 public:
  story(std::uint64_t seed, std::size_t page_bytes) : random_(seed), seed_(seed), page_bytes_(page_bytes) {}

  std::size_t states_tried() const { return states_; }
  std::size_t refused() const { return refused_; }
  std::size_t moments() const { return moments_; }

  void tell() {
    const disk::scripted watched([this](disk::call made, int descriptor) { return answer(made, descriptor); });
    create();
    change(25);
    close();
    open();
    close();  // nothing changed
    open();
    change(30);
    flush();
    change(30);
    close();
    open({.sync_on_close = false});
    grow();
    close();
    open();
    shrink();
    change(20);
    close();
    open();
    change(20);
    killed();
    open();
    change(20);
    const dm::handle lost = m_.allocate_handle();
    REQUIRE(lost);
    lose_power(20);
    killed();
    open();  // recovers
    REQUIRE(m_.recovery().outcome == dm::recovery_outcome::recovered);
    change(10);
    close();
    open();
    m_.clear();
    steady_.clear();
    current_.clear();
    lose_power(50);
    close();
  }

 private:
  // What the disk is asked -------------------------------------------------------------------------------------------

  int answer(disk::call made, int descriptor) {
    if (paused_) return disk::is_sync(made) ? disk::done : 0;
    if (made == disk::call::sync) {
      if (!history_) {  // being made, still without a name: nobody can find it
        const std::string bytes = bytes_of(descriptor);
        dm::arena_header header;
        std::memcpy(&header, bytes.data(), sizeof header);
        history_ = std::make_unique<page_history>(header.control_offset, page_bytes_);
        history_->look(bytes);
      } else {
        lose_power(800);
      }
      history_->synced();
      steady_ = current_;
      if (std::filesystem::exists(path_)) lose_power(1);
    }
    if (made == disk::call::sync_page) {
      lose_power(800);
      history_->synced_control();
      lose_power(200);
    }
    return disk::is_sync(made) ? disk::done : 0;
  }

  // The machine stops ------------------------------------------------------------------------------------------------

  /// Tries what the disk may hold if the machine stops now: `budget` mixtures of versions.
  void lose_power(std::size_t budget) {
    if (sanitized) budget = (budget + 2) / 3;
    const bool was_paused = std::exchange(paused_, true);
    ++moments_;
    if (std::filesystem::exists(path_)) history_->look(read_file(path_));
    for (const page_history::mixture& left : history_->mixtures(budget, random_)) {
      put_image(left);
      ++states_;
      start_again();
    }
    paused_ = was_paused;
  }

  void put_image(const page_history::mixture& left) {
    const int descriptor = ::open(image_.c_str(), O_RDWR | O_CREAT, 0600);
    shown_.resize(history_->pages());
    for (std::size_t i = 0; i < history_->pages(); ++i) {
      std::string page = history_->page(i, left);
      if (i == history_->control_page()) page.replace(0, 8, "otherone");  // the boot id of the machine's last start
      if (page == shown_[i]) continue;
      if (::pwrite(descriptor, page.data(), page.size(), static_cast<off_t>(i * page.size())) < 0) FAIL("pwrite");
      shown_[i] = page;
    }
    const std::size_t size = history_->size_bytes(left);
    if (::ftruncate(descriptor, static_cast<off_t>(size)) != 0) FAIL("ftruncate");
    for (std::size_t i = size / page_bytes_; i < shown_.size(); ++i) shown_[i].clear();
    ::close(descriptor);
  }

  void start_again() {
    INFO("seed " << seed_ << ", moment " << moments_ << ", state " << states_);
    const auto error = error_of([&] {
      const map m = map::open_read_only(image_);
      const contents found = contents_of(m);
      const bool vouched_for = (old_may_be_found_ && found == old_) || (new_may_be_found_ && found == current_);
      if (!vouched_for || !m.verify().empty())
        FAIL("taken as clean with " << found.size() << " values; it had " << old_.size() << " before, now "
                                    << current_.size() << ' ' << m.verify());
    });
    if (error) {
      ++refused_;
      if (error->code() != dm::errc::unclean_after_reboot) FAIL(error->what());
      if (!may_be_refused_) FAIL("refused, although all was on the disk");
    }
    // Salvage keeps at least what had reached the disk and was not touched since.
    const map m = map::open_read_only(image_, {.salvage = true});
    if (const std::string fault = m.verify(); !fault.empty()) FAIL(fault);
    for (const auto& [bits, v] : steady_) {
      const value* kept = m.get(dm::key::from_bits(bits));
      if (kept == nullptr || !(*kept == v)) FAIL("salvage lost value " << v.number);
    }
    if (states_ % 200 == 0) go_on();
  }

  /// Salvages a copy for good and works with it.
  void go_on() {
    const auto copy = directory_ / "copy";
    write_file(copy, read_file(image_));
    std::size_t size = 0;
    {
      map m = map::open(copy, {.salvage = true});
      for (int i = 0; i < 20; ++i) m.insert(value_of(1));
      if (const std::string fault = m.verify(); !fault.empty()) FAIL(fault);
      size = m.size();
      m.close();
    }
    const map m = map::open_read_only(copy);
    if (m.size() != size || !m.verify().empty()) FAIL("not as it was salvaged");
  }

  // The life of the map ----------------------------------------------------------------------------------------------

  void create() {
    old_may_be_found_ = true;
    may_be_refused_ = true;
    m_ = map::create(path_, small);
    in_use();
  }

  void open(const dm::arena_options& how = {}) {
    // Until it returns, what was vouched for may still be.
    sync_on_close_ = how.sync_on_close;
    may_be_refused_ = true;
    m_ = map::open(path_, how);
    REQUIRE(contents_of(m_) == current_);
    in_use();
  }

  void in_use() {
    old_may_be_found_ = new_may_be_found_ = false;
    may_be_refused_ = true;
    lose_power(100);
  }

  void close() {
    new_may_be_found_ = sync_on_close_;
    m_.close();
    may_be_refused_ = !sync_on_close_;
    if (sync_on_close_) {
      old_ = current_;
      old_may_be_found_ = true;
    }
    lose_power(100);
    new_may_be_found_ = false;
  }

  void flush() {
    m_.flush();
    lose_power(100);
  }

  /// As by `kill -9`: the kernel has the stores, and nothing more is done.
  void killed() {
    paused_ = true;
    const std::string left = read_file(path_);
    m_.close();
    write_file(path_, left);
    paused_ = false;
    lose_power(100);
  }

  void insert() {
    const value v = value_of(++last_number_);
    const dm::key k = m_.insert_with_key([&](dm::key) {
      lose_power(5);  // in the midst of it
      return v;
    });
    current_.emplace(k.bits(), v);
  }

  void change(int operations) {
    for (int i = 0; i < operations; ++i) {
      const auto victim = current_.empty()
                              ? current_.end()
                              : std::next(current_.begin(), static_cast<std::ptrdiff_t>(random_() % current_.size()));
      switch (victim == current_.end() ? 0 : random_() % 6) {
        default:
          insert();
          break;
        case 3:
        case 4: {
          m_.update(dm::key::from_bits(victim->first), [&](value& v) { v.more.fill(++last_number_); });
          steady_.erase(victim->first);
          victim->second.more.fill(last_number_);
          break;
        }
        case 5:
          m_.erase(dm::key::from_bits(victim->first));
          steady_.erase(victim->first);
          current_.erase(victim);
      }
      lose_power(15);
    }
  }

  void grow() {
    for (int i = 0; i < 270; ++i) {
      const value v = value_of(++last_number_);
      current_.emplace(m_.insert(v).bits(), v);
    }
    lose_power(200);
  }

  void shrink() {
    std::erase_if(current_, [&](const auto& entry) {
      if (dm::key::from_bits(entry.first).index() < 40) return false;
      m_.erase(dm::key::from_bits(entry.first));
      steady_.erase(entry.first);
      return true;
    });
    lose_power(100);
    m_.shrink_to_fit();
    lose_power(100);
  }

  std::mt19937_64 random_;
  std::uint64_t seed_;
  std::size_t page_bytes_;
  temporary_directory directory_{temporary_directory::in_memory()};
  std::filesystem::path path_ = directory_ / "m";
  std::filesystem::path image_ = directory_ / "image";
  std::vector<std::string> shown_;  // pages of the image as it is
  std::unique_ptr<page_history> history_;
  map m_;

  contents old_;      // what was vouched for last
  contents current_;  // what is in the map
  contents steady_;   // what is on the disk and was not touched since
  std::uint64_t last_number_ = 0;
  bool old_may_be_found_ = false;
  bool new_may_be_found_ = false;
  bool may_be_refused_ = false;
  bool sync_on_close_ = true;
  bool paused_ = false;
  std::size_t states_ = 0;
  std::size_t refused_ = 0;
  std::size_t moments_ = 0;
};

}  // namespace

TEST_CASE("after a loss of power a file is refused as unclean or is exactly what was vouched for") {
  std::size_t states = 0;
  std::size_t moments = 0;
  std::size_t refused = 0;
  std::uint64_t seed = 1;
  for (const std::size_t page_bytes : {4096u, 512u}) {
    story one(seed++, page_bytes);
    one.tell();
    states += one.states_tried();
    moments += one.moments();
    refused += one.refused();
  }
  std::cout << states << " states of the disk at " << moments << " moments, " << refused << " refused as unclean\n";
  CHECK(states - refused > 50);
  CHECK(refused > 1000);
}
