#include "deferred_map/error.hpp"

namespace dm {
namespace {

class arena_error_category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "deferred-map"; }

  std::string message(int value) const override {
    switch (static_cast<errc>(value)) {
      case errc::not_an_arena:
        return "not an arena";
      case errc::damaged:
        return "the arena is damaged";
      case errc::newer_format:
        return "the arena has a newer format";
      case errc::type_mismatch:
        return "the arena holds another type";
      case errc::wrong_kind:
        return "the arena is of another kind";
      case errc::in_use:
        return "the arena is in use";
      case errc::unclean_after_reboot:
        return "the arena was open when the machine stopped";
      case errc::full:
        return "no room is left";
      case errc::not_found:
        return "no such arena";
      case errc::exists:
        return "the file exists already";
      case errc::read_only:
        return "read only";
      case errc::poisoned:
        return "an earlier failure made the arena unfit for writing";
      case errc::bad_options:
        return "the options cannot be met";
    }
    return "unknown error";
  }

  std::error_condition default_error_condition(int value) const noexcept override {
    switch (static_cast<errc>(value)) {
      case errc::in_use:
        return std::errc::device_or_resource_busy;
      case errc::full:
        return std::errc::no_space_on_device;
      case errc::not_found:
        return std::errc::no_such_file_or_directory;
      case errc::exists:
        return std::errc::file_exists;
      case errc::read_only:
        return std::errc::read_only_file_system;
      case errc::poisoned:
        return std::errc::io_error;
      case errc::bad_options:
        return std::errc::invalid_argument;
      default:
        return std::error_condition(value, *this);
    }
  }
};

}  // namespace

const std::error_category& error_category() noexcept {
  static const arena_error_category category;
  return category;
}

std::error_code make_error_code(errc code) noexcept { return {static_cast<int>(code), error_category()}; }

error::error(std::error_code code, std::string path, std::string_view message)
    : std::system_error(code), path_(std::move(path)), text_(path_.empty() ? "" : path_ + ": ") {
  text_ += message;
}

}  // namespace dm
