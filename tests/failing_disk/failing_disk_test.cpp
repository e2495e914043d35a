// A disk that fails: every call on the file, of a whole life of a map, fails once, and from then on.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <csignal>
#include <cstring>
#include <iostream>
#include <map>
#include <vector>

#include "../catch.hpp"
#include "../files.hpp"
#include "../temporary_directory.hpp"
#include "deferred_map/mapped_map.hpp"
#include "disk.hpp"

namespace {

struct value {
  std::uint64_t number;
  std::array<std::uint64_t, 79> more;  // a growth of 64 KiB is some 100 slots

  friend bool operator==(const value&, const value&) = default;
};

using map = dm::mapped_map<value>;
using contents = std::map<std::uint64_t, value>;  // by the bits of the key

value value_of(std::uint64_t number) {
  value v{number, {}};
  v.more.fill(number * 3);
  return v;
}

const dm::arena_options small{.max_slots = 2'000, .reserve_slots = 10};

std::size_t descriptors_open() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

std::uint64_t hash_of(int descriptor) {
  std::string bytes(static_cast<std::size_t>(::lseek(descriptor, 0, SEEK_END)), '\0');
  (void)!::pread(descriptor, bytes.data(), bytes.size(), 0);
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t hash_of(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  return XXH3_64bits(bytes.data(), bytes.size());
}

dm::control_block control_of(const std::filesystem::path& path) {
  return read_at<dm::control_block>(path, read_at<dm::arena_header>(path, 0).control_offset);
}

contents contents_of(const map& m) {
  contents found;
  for (const auto [key, v] : m) found.emplace(key.bits(), v);
  return found;
}

/// What is to go wrong: the call number `at` fails with `code`, and with `for_good` all later ones of its kind too.
struct fault_plan {
  std::size_t at = 0;
  int code = 0;
  bool for_good = false;
  bool unnamed_files = true;  // whether the file system has them
};

/// One life of a map, from creation to the second closing, on a disk that follows a plan.
class life {
 public:
  explicit life(fault_plan plan) : plan_(plan) {}

  /// Whether the plan's call was made at all.
  bool run() {
    const std::size_t descriptors = descriptors_open();
    {
      const disk::scripted watched([this](disk::call made, int descriptor) { return answer(made, descriptor); });
      live();
      healed_ = true;
      expect(descriptors_open() == descriptors, "a descriptor was left open");
      afterwards();
    }
    return hit_;
  }

  disk::call failed_call() const { return failed_call_; }
  std::size_t calls() const { return calls_; }
  std::vector<disk::call> made;

 private:
  void expect(bool holds, const std::string& what) {
    INFO("call " << plan_.at << " (" << (hit_ ? disk::to_string(failed_call_) : "not made") << ") fails with "
                 << std::strerror(plan_.code) << (plan_.for_good ? " for good" : " once") << ", in step '" << step_
                 << "': " << what);
    if (!holds) REQUIRE(holds);
  }

  int answer(disk::call call, int descriptor) {
    if (healed_) return disk::is_sync(call) ? disk::done : 0;
    const int flags = descriptor;
    if (call == disk::call::open && !plan_.unnamed_files && (flags & O_TMPFILE) == O_TMPFILE) return EOPNOTSUPP;
    const std::size_t number = calls_++;
    made.push_back(call);
    const bool fails = number == plan_.at || (plan_.for_good && hit_ && call == failed_call_);
    if (call == disk::call::lock) file_descriptor_ = descriptor;  // of all that are opened, the map's file
    if (number == plan_.at) {
      hit_ = true;
      failed_call_ = call;
    }
    if (fails && !(plan_.code == EINTR && number != plan_.at)) {
      ++failures_;
      if (call != disk::call::open && descriptor == file_descriptor_) failed_on_the_file_ = true;
      if (disk::is_sync(call) && plan_.code != EINTR) sync_failures_++;
      if ((call == disk::call::sync || call == disk::call::sync_page) && plan_.code != EINTR) file_sync_failed_ = true;
      return plan_.code;
    }
    // No time is spent on the real disk: what is on it is what was there at the last of these calls.
    if (call == disk::call::sync) on_disk_ = hash_of(descriptor);
    return disk::is_sync(call) ? disk::done : 0;
  }

  /// Runs a step. Returns whether it went well; where not, that a call failed in it and that the error says so.
  template <class F>
  bool attempt(const char* step, F work) {
    step_ = step;
    failed_on_the_file_ = false;
    const std::size_t failures = failures_;
    const std::size_t sync_failures = sync_failures_;
    const auto error = error_of(work);
    if (!error) {
      expect(sync_failures_ == sync_failures, "a failed sync was reported as success");
      if (failures_ > failures && plan_.code != EINTR)
        expect(failed_call_ == disk::call::allocate || failed_call_ == disk::call::truncate ||
                   (failed_call_ == disk::call::close && !failed_on_the_file_),
               "a failed call was passed over");
      return true;
    }
    const std::string said = error->what();
    if (error->code() == dm::errc::poisoned) {
      expect(file_sync_failed_, "poisoned without a reason");
      return false;
    }
    expect(failures_ > failures, "an error where nothing failed: " + said);
    expect(plan_.code != EINTR, "an interrupted call was not made again: " + said);
    const bool no_room = plan_.code == ENOSPC || plan_.code == EDQUOT || plan_.code == EFBIG;
    if (sync_failures_ > sync_failures && failed_call_ != disk::call::sync_directory) {
      expect(error->code() == std::error_code(plan_.code, std::generic_category()), "another code: " + said);
      expect(said.find("writing it to the disk failed") != std::string::npos, said);
    } else if (no_room) {
      expect(error->code() == dm::errc::full, "another code than full: " + said);
      expect(said.find(plan_.code == EDQUOT  ? "quota"
                       : plan_.code == EFBIG ? "limit"
                                             : "disk is full") != std::string::npos,
             said);
    } else if (plan_.code == EEXIST) {
      expect(error->code() == dm::errc::exists, said);
    } else {
      expect(error->code() == std::error_code(plan_.code, std::generic_category()), "another code: " + said);
    }
    return false;
  }

  /// The map, if it is open, is sound and has what it should have.
  void check_map() {
    if (!m_.is_open()) return;
    expect(m_.verify().empty(), m_.verify());
    expect(contents_of(m_) == expected_, "other contents");
  }

  /// No mark that is not true.
  void check_marks() {
    if (!std::filesystem::exists(path_)) return;
    const dm::control_block control = control_of(path_);
    if (control.synced != 0) {
      expect(!file_sync_failed_, "marked as synced after a sync had failed");
      expect(control.synced == control.checksum(), "synced, and yet another control block");
      expect(on_disk_ == hash_of(path_), "marked as synced with something that is not on the disk");
    }
    if (control.closed != 0) {
      expect(!m_.is_open(), "marked as closed while it is open");
      expect(control.closed == control.checksum() && control.nothing_under_way() && control.reserved == 0,
             "closed, and yet something under way");
    }
    if (m_.is_open() && m_.recovery().outcome == dm::recovery_outcome::clean)
      expect(control.synced == 0, "in use and marked as synced");
  }

  void insert(std::size_t how_many) {
    for (std::size_t i = 0; i < how_many; ++i) {
      const std::uint64_t number = next_number_++;
      const std::uintmax_t size_before = std::filesystem::file_size(path_);
      dm::key k;
      if (attempt("insert", [&] { k = m_.insert(value_of(number)); })) {
        expected_.emplace(k.bits(), value_of(number));
      } else {
        check_map();
        check_marks();
        // Unless the giving back fails too.
        if (failed_call_ == disk::call::allocate)
          expect(std::filesystem::file_size(path_) == size_before, "the file has grown all the same");
        if (plan_.for_good) return;
      }
    }
  }

  void close() {
    const bool reported = !attempt("close", [&] { m_.close(); });
    expect(!m_.is_open(), "still open");
    const dm::control_block control = control_of(path_);
    if (file_sync_failed_) expect(reported && control.synced == 0, "a disk that failed is not told of");
    if (reported && !file_sync_failed_)
      expect(control.closed == 0 && control.synced == 0, "marked although closing failed");
    if (!reported) expect(control.closed != 0 && control.synced != 0, "not marked");
    check_marks();
    expect(attempt("close again", [&] { m_.close(); }), "closing twice");
  }

  void live() {
    while (!attempt("create", [&] { m_ = map::create(path_, small); })) {
      expect(std::filesystem::is_empty(directory_.path()), "something was left behind");
      file_sync_failed_ = false;  // that file is gone
      if (plan_.for_good) return;
    }
    check_marks();
    insert(30);
    check_map();
    for (std::uint64_t number : {3u, 10u, 29u})
      for (auto& [bits, v] : expected_)
        if (v.number == number) {
          m_.update(dm::key::from_bits(bits), [&](value& changed) { changed.more[5] = 99; });
          v.more[5] = 99;
        }
    if (!attempt("flush", [&] { m_.flush(); }))
      expect(code_of([&] { m_.flush(); }) == dm::errc::poisoned, "a failed sync that is later reported as success");
    check_map();
    check_marks();
    insert(140);
    std::erase_if(expected_, [&](const auto& entry) {
      return entry.second.number > 60 && m_.erase(dm::key::from_bits(entry.first));
    });
    attempt("shrink_to_fit", [&] { m_.shrink_to_fit(); });
    check_map();
    close();
    while (!attempt("open", [&] { m_ = map::open(path_); })) {
      check_marks();
      if (plan_.for_good) return;
    }
    check_map();
    check_marks();
    insert(5);
    close();
    dm::mapped_map<value> reader;
    if (attempt("open_read_only", [&] { reader = map::open_read_only(path_); }) || !plan_.for_good) {
      if (!reader.is_open()) reader = map::open_read_only(path_);
      expect(contents_of(reader) == expected_ && reader.verify().empty(), "a reader sees other contents");
      attempt("close the reader", [&] { reader.close(); });
    }
    attempt("last open", [&] { m_ = map::open(path_); });
    m_ = map();  // the destructor says nothing
    check_marks();
  }

  /// The disk has recovered.
  void afterwards() {
    step_ = "afterwards";
    m_ = map();
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path()))
      expect(entry.path() == path_, "left behind: " + entry.path().string());
    check_marks();
    if (!std::filesystem::exists(path_)) {
      map::create(path_, small).close();
      return;
    }
    m_ = map::open(path_);
    check_map();
    m_.insert(value_of(1));
    const std::error_code code = code_of([&] { m_.close(); });
    expect(code == (file_sync_failed_ ? make_error_code(dm::errc::poisoned) : std::error_code()),
           "closing says " + code.message());
    expect(map::open_read_only(path_).size() == expected_.size() + 1, "values are missing");
  }

  fault_plan plan_;
  temporary_directory directory_{temporary_directory::in_memory()};
  std::filesystem::path path_ = directory_ / "m";
  map m_;
  contents expected_;
  std::uint64_t next_number_ = 0;
  std::string step_;

  std::size_t calls_ = 0;
  std::size_t failures_ = 0;
  std::size_t sync_failures_ = 0;
  bool file_sync_failed_ = false;
  bool hit_ = false;
  bool healed_ = false;
  bool failed_on_the_file_ = false;
  int file_descriptor_ = -1;
  disk::call failed_call_ = disk::call::open;
  std::uint64_t on_disk_ = 0;
};

std::vector<int> errors_of(disk::call made) {
  switch (made) {
    case disk::call::open:
      return {EMFILE, ENFILE, EIO, ENOMEM, EINTR};
    case disk::call::lock:
      return {ENOLCK, EINTR};
    case disk::call::read:
      return {EIO, EINTR};
    case disk::call::write:
    case disk::call::allocate:
      return {EIO, ENOSPC, EDQUOT, EFBIG, EINTR};
    case disk::call::truncate:
      return {EIO, ENOSPC, EFBIG, EINTR};
    case disk::call::sync:
    case disk::call::sync_directory:
    case disk::call::sync_page:
      return {EIO, ENOSPC, EDQUOT, EINTR};
    case disk::call::link:
      return {EIO, ENOSPC, EDQUOT, EEXIST, EMLINK};
    case disk::call::unlink:
      return {};
    case disk::call::close:
      return {EIO, ENOSPC, EDQUOT, EINTR};
  }
  return {};
}

/// The calls of a life in which none fails.
std::vector<disk::call> calls_of(fault_plan plan) {
  life whole(plan);
  REQUIRE_FALSE(whole.run());
  return whole.made;
}

}  // namespace

TEST_CASE("whichever call fails, in whichever way, the error says so, no mark lies and no value is lost") {
  std::size_t lives = 0;
  for (const bool unnamed_files : {true, false}) {
    const std::vector<disk::call> calls = calls_of({.at = ~std::size_t{0}, .unnamed_files = unnamed_files});
    std::map<std::string, int> by_kind;
    for (std::size_t at = 0; at < calls.size(); ++at) {
      ++by_kind[disk::to_string(calls[at])];
      if (!unnamed_files && at > 20) continue;  // only making differs
      for (const int code : errors_of(calls[at]))
        for (const bool for_good : {false, true}) {
          if (for_good && (code == EINTR || (sanitized && code != EIO))) continue;
          life failing({at, code, for_good, unnamed_files});
          REQUIRE(failing.run());
          ++lives;
        }
    }
    std::cout << calls.size() << " calls: ";
    for (const auto& [kind, times] : by_kind) std::cout << kind << ' ' << times << ", ";
    CHECK(calls.size() > 60);
  }
  std::cout << lives << " lives in which one failed\n";
}
