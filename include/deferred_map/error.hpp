// Errors of everything that touches files: `dm::error`, a std::system_error whose code is mostly a `dm::errc`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace dm {

/// What can be wrong with an arena, as opposed to what the operating system has to say.
///
/// Where there is a close relative in std::errc the two compare equal: `e.code() == std::errc::file_exists`.
enum class errc {
  not_an_arena = 1,      ///< the file is something else, or empty
  damaged,               ///< an arena, but what it says of itself cannot be true
  newer_format,          ///< written by a later version of this library
  type_mismatch,         ///< it holds another type than the program asks for
  wrong_kind,            ///< made by another of mapped_map, durable_map and shared_map
  in_use,                ///< another process, or another map of this one, has it open
  unclean_after_reboot,  ///< the machine stopped while it was open; parts may be older than others
  full,                  ///< the disk, the quota or `max_slots` is used up
  not_found,             ///< there is no such file
  exists,                ///< there is such a file already
  read_only,             ///< the map, or the file system, cannot be written to
  poisoned,              ///< an earlier failure of the disk made the map unfit for writing
  bad_options,           ///< the options contradict each other or the file
};

/// Category "deferred-map", for codes made of `errc`.
const std::error_category& error_category() noexcept;
std::error_code make_error_code(errc code) noexcept;

/// What calls that touch files throw. `what()` names the file, says what is wrong and what can be done about
/// it. `code()` is an `errc`, or what the operating system said (std::generic_category) where no `errc` fits.
class error : public std::system_error {
 public:
  /// `message` is the whole text; the code's own message is not added to it.
  error(std::error_code code, std::string path, std::string_view message);

  const char* what() const noexcept override { return text_.c_str(); }
  /// The file it is about.
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  std::string text_;
};

/// Something that is wrong with bytes, found by code that knows no files: what `error` is made of later.
struct fault {
  errc code;
  std::string message;
};

}  // namespace dm

template <>
struct std::is_error_code_enum<dm::errc> : std::true_type {};
