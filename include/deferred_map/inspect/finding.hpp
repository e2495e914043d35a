// What an inspection has to say about a file: one finding for each rule that does not hold somewhere.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dm::inspect {

enum class severity : std::uint8_t {
  note,     ///< true of files in use or not closed: the next to open the file mends it, or need not
  warning,  ///< nothing relies on it, and yet nothing this library does leaves it so
  error,    ///< the file is not what the library relies on
};

const char* to_string(severity level) noexcept;

/// One place where one rule does not hold.
struct finding {
  std::string_view rule;  ///< stable name for programs, of static storage: "count-occupied"
  severity level = severity::error;
  std::optional<std::uint64_t> byte_offset;  ///< in the file
  std::optional<std::uint32_t> slot;
  std::string text;         ///< for people; safe to print
  bool repairable = false;  ///< `repair` puts it right; set by `check`
};

/// Collects findings, listing only the first few of each rule and counting the rest: a file of zeros breaks
/// one rule a million times, and should not hide the others.
class finding_list {
 public:
  explicit finding_list(std::size_t listed_per_rule_max = 20) noexcept : listed_per_rule_max_(listed_per_rule_max) {}

  void add(finding found);
  /// `make` gives the finding's text, and is called only where it will be listed. `times`: one text for so many.
  template <class MakeText>
  void add(std::string_view rule, severity level, std::optional<std::uint64_t> byte_offset,
           std::optional<std::uint32_t> slot, MakeText make, std::uint64_t times = 1) {
    if (count(rule, level, times)) listed_.push_back({rule, level, byte_offset, slot, make()});
  }
  void append(const std::vector<finding>& findings) {
    for (const finding& found : findings) add(found);
  }

  /// Says of each that is listed whether `judge` holds it for repairable.
  template <class Judge>
  void mark_repairable(Judge judge) {
    for (finding& found : listed_) found.repairable = judge(found);
  }

  const std::vector<finding>& listed() const noexcept { return listed_; }
  /// All findings, whether listed or not.
  std::uint64_t total(severity level) const noexcept { return totals_[static_cast<std::size_t>(level)]; }
  /// How often each rule was broken.
  const std::map<std::string_view, std::uint64_t>& by_rule() const noexcept { return by_rule_; }
  std::uint64_t not_listed() const noexcept;

 private:
  bool count(std::string_view rule, severity level, std::uint64_t times = 1) {
    totals_[static_cast<std::size_t>(level)] += times;
    std::uint64_t& so_far = by_rule_[rule];
    so_far += times;
    return so_far - times < listed_per_rule_max_;
  }

  std::size_t listed_per_rule_max_;
  std::vector<finding> listed_;
  std::uint64_t totals_[3] = {};
  std::map<std::string_view, std::uint64_t> by_rule_;
};

}  // namespace dm::inspect
