// Where a shared map lives: a file, or a shared-memory segment.
#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace dm {

/// A shared-memory segment, as `shm::list` sees it.
struct shm_info {
  std::string name;
  std::filesystem::path path;
  std::uint64_t size_bytes = 0;
  std::uint64_t allocated_bytes = 0;  ///< memory it takes now
  std::string kind;                   ///< "shared_map"
  std::string type_name;
  std::uint64_t slot_count = 0;
  std::uint32_t attached = 0;  ///< maps that have it open for writing now, in all processes
  std::uint32_t dead = 0;      ///< maps whose processes died, and that were not reaped
  /// When somebody last opened it for writing, or else when it was made; whether or not that map is still open.
  std::int64_t last_opened_unix_ns = 0;
  std::string fault;  ///< why the rest is not known; empty where it is
};

/// The name of a shared-memory segment. It is a file in memory, /dev/shm/deferred-map.NAME, and goes with the machine's
/// power, or with `remove`; not with the processes that use it.
///
/// Errors: errc::bad_options for a name that is empty, longer than 200 bytes, or has a '/' or a control character in it.
class shm {
 public:
  explicit shm(std::string name);

  const std::string& name() const noexcept { return name_; }
  std::filesystem::path path() const;

  /// All segments there are, by name: those too that belong to others, with a `fault` where they cannot be read.
  /// Errors: the system's.
  static std::vector<shm_info> list();
  /// Takes the name away. Who has it open goes on with it; the memory is given back when the last of them is gone.
  /// Returns false where there is none. Errors: errc::bad_options, the system's.
  static bool remove(const std::string& name);

  enum class removal : std::uint8_t {
    removed,
    none,       ///< there is no such segment
    in_use,     ///< somebody has it open for writing, or is just about to
    used_since  ///< somebody had, later than asked for
  };
  /// The same for a segment that nobody has open for writing, and that nobody has opened since then: looked at and removed
  /// in one, so that who comes between finds either this segment or none, and never attaches to one that goes. Who has it
  /// open read-only is not seen, and goes on with it.
  /// Errors: errc::bad_options, not_an_arena, damaged, newer_format, wrong_kind (no shared map's), read_only, the system's.
  static removal remove_unused(const std::string& name, std::optional<std::int64_t> not_since_unix_ns = std::nullopt);

 private:
  std::string name_;
};

namespace sharing {

/// A path or a segment: what a shared map's functions take.
class place {
 public:
  place(const shm& segment) : path_(segment.path()) {}  // NOLINT: converts
  template <class Path>
  requires std::convertible_to<const Path&, std::filesystem::path> &&(!std::same_as<Path, place>)place(const Path& path)
      : path_(path) {}  // NOLINT: converts

  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace sharing

/// For programs that let their users choose: `dm::place where = as_file ? dm::place(path) : dm::place(dm::shm(name));`
using place = sharing::place;

}  // namespace dm
