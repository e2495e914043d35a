// What processes did to a shared map, kept where it survives them, and whether it can have happened one after the other.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

namespace shared_processes {

enum class what : std::uint32_t { insert, get, update, remove };

/// One call. Written before it is made; `ended_ns` afterwards, and never where its process was killed within.
struct call {
  what kind;
  std::uint32_t found;  ///< whether the key named something
  std::uint64_t key_bits;
  std::uint64_t old_number;  ///< read, replaced or removed
  std::uint64_t new_number;  ///< of inserts and updates: unique in the whole history
  std::uint64_t began_ns;
  std::uint64_t ended_ns;

  bool is_pending() const noexcept { return ended_ns == 0; }
};

/// The calls of one process, in memory that its parent shares.
struct call_log {
  static constexpr std::size_t capacity = 6000;
  std::uint64_t count;  ///< the last of them may be pending
  call calls[capacity];
};

/// Values by key.
using contents = std::unordered_map<std::uint64_t, std::uint64_t>;

struct tally {
  std::uint64_t calls = 0;
  std::uint64_t pending = 0;
  std::uint64_t histories = 0;
  std::uint64_t longest = 0;
};

/// Whether the calls on each key are linearizable: each took effect at one moment between its beginning and its end (of
/// pending ones: at some moment after its beginning, or never), from `before` to `after`.
///
/// Every new value is unique and every change says what it replaced, so the order of the changes of one key is what they
/// say it is, and only the moments have to be found: each as early as what comes before allows.
///
/// Returns what is wrong, or nothing.
std::string first_contradiction(const std::vector<const call_log*>& logs, const contents& before, const contents& after,
                                tally& count);

}  // namespace shared_processes
