// Fuzz target: a real file, made hostile (hostile_file.hpp), that mapped_map opens in several ways, works on, closes and
// opens again.
//
// What must hold: opening ends in a dm::error, and then the file is as it was, byte for byte, unless it was salvage that
// had begun; or in a map that works. Values whose versions are sound are there, and stay. After salvage, and where
// opening verified, verify() finds nothing. No file makes it take more blocks than it has, and 256 MiB: the limit on file
// sizes is far below what hostile files claim, so that a try would be seen.
//
// An input is a hostile file, a byte that chooses the ways of opening, and operations.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "hostile_file.hpp"

namespace {

/// One file for all inputs.
class real_file {
 public:
  real_file() : path_(directory_ / "hostile"), descriptor_(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    FUZZ_CHECK(descriptor_ >= 0);
  }
  real_file(const real_file&) = delete;
  real_file& operator=(const real_file&) = delete;
  ~real_file() { ::close(descriptor_); }

  const std::filesystem::path& path() const noexcept { return path_; }

  void become(const fuzz::hostile_file& file) {
    FUZZ_CHECK(::ftruncate(descriptor_, 0) == 0);
    for (const fuzz::part& each : file.parts())
      if (!each.bytes.empty())
        FUZZ_CHECK(::pwrite(descriptor_, each.bytes.data(), each.bytes.size(), static_cast<off_t>(each.offset)) ==
                   static_cast<ssize_t>(each.bytes.size()));
    FUZZ_CHECK(::ftruncate(descriptor_, static_cast<off_t>(file.size_bytes())) == 0);
    blocks_ = status().st_blocks;
  }
  /// Whether the file still is what it became.
  bool still_is(const fuzz::hostile_file& file) const {
    const struct stat now = status();
    if (static_cast<std::uint64_t>(now.st_size) != file.size_bytes()) return false;
    std::vector<std::byte> bytes;
    for (const fuzz::part& each : file.parts()) {
      bytes.resize(each.bytes.size());
      if (::pread(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(each.offset)) !=
          static_cast<ssize_t>(bytes.size()))
        return false;
      if (!bytes.empty() && std::memcmp(bytes.data(), each.bytes.data(), bytes.size()) != 0) return false;
    }
    return true;
  }
  std::uint64_t allocated_bytes() const { return static_cast<std::uint64_t>(status().st_blocks) * 512; }
  std::uint64_t allocated_bytes_at_first() const { return static_cast<std::uint64_t>(blocks_) * 512; }

 private:
  struct stat status() const {
    struct stat now {};
    FUZZ_CHECK(::fstat(descriptor_, &now) == 0);
    return now;
  }

  temporary_directory directory_;
  std::filesystem::path path_;
  int descriptor_;
  blkcnt_t blocks_ = 0;
};

constexpr std::uint64_t file_limit_bytes = std::uint64_t{8} << 20;
constexpr std::uint64_t blocks_taken_max = std::uint64_t{256} << 20;  // more than there are, by opening

/// Keeps what is wrong from filling the machine's memory. Files that are larger already may be opened all the same.
class file_size_limit {
 public:
  file_size_limit() noexcept { set(file_limit_bytes); }
  file_size_limit(const file_size_limit&) = delete;
  file_size_limit& operator=(const file_size_limit&) = delete;
  ~file_size_limit() { set(RLIM_INFINITY); }

 private:
  static void set(rlim_t bytes) noexcept {
    rlimit limit{};
    ::getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
};

template <class T>
struct life {
  dm::key key;
  std::array<std::byte, sizeof(T)> value;
};
template <class T>
using lives = std::map<std::uint32_t, life<T>>;

constexpr std::uint32_t looked_at_max = 2000;

template <class T>
std::array<std::byte, sizeof(T)> bytes_of(const T& value) {
  std::array<std::byte, sizeof(T)> bytes;
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

template <class T>
T made(std::uint8_t fill) {
  T value;
  std::memset(static_cast<void*>(&value), fill, sizeof value);
  return value;
}

/// What is in the first slots.
template <class T>
lives<T> values_in(const dm::mapped_map<T>& m) {
  lives<T> found;
  const auto until = static_cast<std::uint32_t>(std::min<std::size_t>(m.slot_count(), looked_at_max));
  for (std::uint32_t i = 0; i < until; ++i) {
    if (m.state(i) != dm::slot_state::occupied) continue;
    const dm::key key = m.key_at(i);
    const T* const value = m.get(key);
    FUZZ_CHECK(value != nullptr);
    found.emplace(i, life<T>{key, bytes_of(*value)});
  }
  return found;
}

/// Every value whose version the file has, and which is sound, is there.
template <class T>
void check_survivors(const fuzz::hostile_file& file, const dm::mapped_map<T>& m, bool salvaged) {
  using slot = dm::slot<T>;
  const fuzz::part& slots = file.parts()[fuzz::seed_file::slots];
  if (slots.offset != file.header().slots_offset) return;  // they lie elsewhere now
  const dm::control_block& c = file.control();
  for (std::uint32_t i = 0; (std::uint64_t{i} + 1) * sizeof(slot) <= slots.bytes.size(); ++i) {
    if (!salvaged && i >= c.slot_count) break;
    if (i >= file.header().slots_max) break;
    std::uint32_t word = 0;
    std::memcpy(&word, slots.bytes.data() + i * sizeof(slot), sizeof word);
    if (!dm::version::is_occupied(word) || !dm::version::is_possible(word)) continue;
    const T* const value = m.get(dm::key::from_parts(i, dm::version::generation(word)));
    FUZZ_CHECK(value != nullptr);
    if (!salvaged && c.update_pending != 0 && c.update_index == i) continue;
    FUZZ_CHECK(std::memcmp(value, slots.bytes.data() + i * sizeof(slot) + offsetof(slot, value), sizeof(T)) == 0);
  }
}

template <class T>
void walk(const dm::mapped_map<T>& m) {
  std::int64_t last = -1;
  std::uint32_t steps = 0;
  for (const auto [key, value] : m) {
    FUZZ_CHECK(std::int64_t{key.index()} > last && m.get(key) == &value);
    last = key.index();
    if (++steps > looked_at_max) break;
  }
}

template <class T>
void operate(dm::mapped_map<T>& m, fuzz::input& program) {
  std::vector<dm::handle> handles;
  std::vector<dm::key> keys;
  for (const auto& [index, each] : values_in(m)) keys.push_back(each.key);
  const auto some_key = [&](std::uint32_t which) { return keys.empty() ? dm::key{} : keys[which % keys.size()]; };
  for (int operations = 0; operations < 40 && !program.at_end(); ++operations) {
    const std::uint8_t what = program.byte();
    const std::uint8_t which = program.byte();
    try {
      switch (what % 12) {
        case 0:
          keys.push_back(m.insert(made<T>(which)));
          FUZZ_CHECK(m.contains(keys.back()));
          break;
        case 1:
          for (int i = 0; i < which / 2; ++i) keys.push_back(m.insert(made<T>(which)));
          break;
        case 2:
          m.erase(some_key(which));
          break;
        case 3:
          for (const dm::key key : keys) m.erase(key);
          break;
        case 4: {
          const dm::key key = some_key(which);
          const bool was_there = m.contains(key);
          FUZZ_CHECK(m.update(key, [&](T& value) { value = made<T>(which); }) == was_there);
          if (was_there) FUZZ_CHECK(std::memcmp(&m.at(key), bytes_of(made<T>(which)).data(), 4) == 0);  // not padding
          break;
        }
        case 5:
          handles.push_back(m.allocate_handle());
          break;
        case 6:
          if (handles.empty()) break;
          if (m.holds(handles.back())) {
            keys.push_back(handles.back().key());
            m.insert(std::move(handles.back()), made<T>(which));
          }
          handles.pop_back();
          break;
        case 7:
          walk(m);
          break;
        case 8:
          if (which % 4 == 0) m.clear();
          break;
        case 9:
          m.shrink_to_fit();
          break;
        case 10:
          m.reserve(which);
          break;
        default:
          m.retain([&](dm::key key, T&) { return (key.index() + which) % 3 != 0; });
          break;
      }
    } catch (const dm::error& e) {
      FUZZ_CHECK(e.code() == dm::errc::full);  // slots_max, or the limit on files
    }
  }
}

enum way : std::uint8_t { read_only, plain, verified, salvaged, read_only_verified, read_only_salvaged, way_count };

template <class T>
std::optional<dm::mapped_map<T>> opened(const std::filesystem::path& path, way how, std::error_code& refused) {
  using map = dm::mapped_map<T>;
  const dm::arena_options options{.salvage = how == salvaged || how == read_only_salvaged,
                                  .verify = how == verified || how == read_only_verified,
                                  .sync_on_close = true};
  try {
    const bool to_look = how == read_only || how == read_only_verified || how == read_only_salvaged;
    return to_look ? map::open_read_only(path, options) : map::open(path, options);
  } catch (const dm::error& e) {
    refused = e.code();
    return std::nullopt;
  }
}

bool is_expected(std::error_code code) {
  for (const dm::errc each : {dm::errc::not_an_arena, dm::errc::damaged, dm::errc::newer_format, dm::errc::wrong_kind,
                              dm::errc::type_mismatch, dm::errc::unclean_after_reboot, dm::errc::full})
    if (code == each) return true;
  // More address space than there is.
  return code == std::errc::not_enough_memory || code == std::errc::invalid_argument ||
         code == std::errc::value_too_large;
}

/// Opens, and returns false where that was refused.
template <class T>
void one_way(real_file& real, const fuzz::hostile_file& file, way how, fuzz::input& program) {
  const file_size_limit limit;
  std::error_code refused;
  auto m = opened<T>(real.path(), how, refused);
  FUZZ_CHECK(real.allocated_bytes() <= 2 * real.allocated_bytes_at_first() + blocks_taken_max);
  if (!m) {
    if (!is_expected(refused)) std::fprintf(stderr, "refused with: %s\n", refused.message().c_str());
    FUZZ_CHECK(is_expected(refused));
    FUZZ_CHECK(real.still_is(file));
    // The limit on files was met. That may be where a few MiB are asked for, and not where gigabytes are.
    const std::uint64_t slots_bytes = std::uint64_t{file.control().slot_count} * sizeof(dm::slot<T>);
    const bool claims_too_much = slots_bytes > real.allocated_bytes_at_first() + 2 * blocks_taken_max;
    FUZZ_CHECK(refused != dm::errc::full || how == salvaged || !claims_too_much);
    return;
  }
  const bool is_sound = how != read_only && how != plain;
  const bool by_salvage = m->recovery().outcome == dm::recovery_outcome::salvaged;
  if (by_salvage) FUZZ_CHECK(how == salvaged || how == read_only_salvaged);
  if (is_sound && (by_salvage || how == verified || how == read_only_verified)) FUZZ_CHECK_SOUND(*m);
  check_survivors(file, *m, by_salvage);
  walk(*m);
  if (m->is_read_only()) {
    m->close();
    FUZZ_CHECK(real.still_is(file));
    return;
  }
  operate(*m, program);
  if (by_salvage) FUZZ_CHECK_SOUND(*m);
  m->release_reserved();
  const lives<T> at_close = values_in(*m);
  try {
    m->close();
  } catch (const dm::error& e) {
    FUZZ_CHECK(e.code() == dm::errc::poisoned && file.control().disk_failed != 0);
  }
  // What lay to us before may still lie, and be refused now; what is sound is not.
  std::error_code refused_again;
  auto again = opened<T>(real.path(), plain, refused_again);
  if (!again) {
    FUZZ_CHECK(refused_again == dm::errc::damaged && !by_salvage);
    return;
  }
  for (const auto& [index, each] : at_close) {
    const T* const value = again->get(each.key);
    FUZZ_CHECK(value != nullptr && bytes_of(*value) == each.value);
  }
  if (by_salvage) FUZZ_CHECK_SOUND(*again);
}

template <class T>
void run(real_file& real, const fuzz::hostile_file& file, fuzz::input& program) {
  const std::uint8_t ways = program.byte();
  // First to look, which leaves the file as it is, then to work.
  const std::array<way, 4> looking{read_only, read_only_verified, read_only_salvaged, way_count};
  const std::array<way, 3> working{plain, verified, salvaged};
  real.become(file);
  if (const way how = looking[ways % 4]; how != way_count) one_way<T>(real, file, how, program);
  one_way<T>(real, file, working[ways / 4 % 3], program);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::seed_files seeds;
  static real_file real;
  fuzz::input program(std::span(data, size));
  static fuzz::hostile_file file;
  file.become(seeds, program);
  const fuzz::seed_type type = file.is_raw() ? fuzz::seed_type::number : seeds.type(file.which());
  switch (type) {
    case fuzz::seed_type::everything:
      run<fuzz_types::everything>(real, file, program);
      break;
    case fuzz::seed_type::number:
      run<std::uint64_t>(real, file, program);
      break;
    case fuzz::seed_type::nameless:
      run<fuzz_types::nameless>(real, file, program);
      break;
    case fuzz::seed_type::page_and_more:
      run<fuzz_types::page_and_more>(real, file, program);
      break;
    case fuzz::seed_type::very_long:
      run<fuzz_types::very_long>(real, file, program);
      break;
  }
  return 0;
}
