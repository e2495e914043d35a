#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>

#include "deferred_map/container/version.hpp"
#include "head_checks.hpp"

namespace dm::inspect {
namespace {

class control_examination {
 public:
  explicit control_examination(const arena_file& arena)
      : arena_(arena),
        control_(*arena.control()),
        is_shared_(arena.layout().kind == static_cast<std::uint32_t>(arena_kind::shared)),
        is_durable_(arena.is_durable()),
        at_commit_(arena.journal() && arena.journal()->is_applied),
        between_(arena.mends_when_opened() ? severity::note : severity::error),
        // What not even the next opening would believe; a snapshot of a file in use may be of two moments.
        settled_(!at_commit_ && (arena.left() == left_state::open || arena.left() == left_state::machine_stopped)
                     ? severity::note
                     : severity::error) {}

  std::vector<finding> run() {
    how_it_was_left();
    marks();
    bounds();
    counts();
    under_way();
    decoration();
    const bool has_error = std::any_of(findings_.begin(), findings_.end(),
                                       [](const finding& found) { return found.level == severity::error; });
    // What opening refuses must not pass here, whatever rule it learns.
    if (settled_ == severity::error && !has_error)
      if (const auto refused = check_control(arena_.layout(), control_, arena_.size_bytes()))
        add("control-block", severity::error, 0, refused->message);
    return std::move(findings_);
  }

 private:
  void add(std::string_view rule, severity level, std::size_t at, std::string text) {
    findings_.push_back({rule, level, arena_.layout().control_offset + at, std::nullopt, std::move(text)});
  }
  void require(bool met, std::string_view rule, severity level, std::size_t at, std::string otherwise) {
    if (!met) add(rule, level, at, std::move(otherwise));
  }

  void how_it_was_left() {
    if (is_durable_) return how_a_durable_one_was_left();
    if (arena_.left() == left_state::open)
      add("in-use", severity::note, offsetof(control_block, owner_pid),
          "the file is being changed while it is looked at; what holds between operations only is a note "
          "here");
    if (arena_.left() == left_state::killed)
      add("not-closed", severity::note, offsetof(control_block, closed),
          arena_.mends_when_opened() ? "its user was killed within an operation or held handles; the next to open it "
                                       "for writing mends counts and index from the versions"
                                     : "its user was killed between two operations; there is nothing to mend");
    if (arena_.left() == left_state::machine_stopped)
      add("machine-stopped", severity::error, offsetof(control_block, boot_id),
          "the file was open when the machine stopped, or copied from another machine while it was: its "
          "parts may be "
          "of different moments. Restore a copy, or open it with salvage to keep what can be kept");
  }

  void how_a_durable_one_was_left() {
    if (arena_.left() == left_state::closed || arena_.left() == left_state::unknown) return;
    const std::string what =
        arena_.left() == left_state::open ? "a process has it open for writing" : "it was not closed";
    const bool is_open = arena_.left() == left_state::open;
    add(is_open ? "in-use" : "not-closed", severity::note,
        is_open ? offsetof(control_block, owner_pid) : offsetof(control_block, closed),
        at_commit_ ? what + "; what is looked at is its commit " + std::to_string(control_.durable_commit) +
                         ", as the journal makes it"
                   : what +
                         "; without its journal its parts may be of different commits, so that what holds at commits "
                         "only is a note here");
  }

  void marks() {
    const std::uint64_t checksum = control_.checksum();
    require(control_.closed == 0 || control_.closed == checksum, "closed-mark", settled_,
            offsetof(control_block, closed), "it was closed, but its control block was changed since");
    require(control_.synced == 0 || control_.synced == checksum, "synced-mark", settled_,
            offsetof(control_block, synced),
            "it says that all of it is on the disk, but its control block was changed since");
    if ((control_.closed | control_.synced) != 0 && !is_shared_)
      require(control_.nothing_under_way() && control_.reserved == 0, "closed-under-way", settled_,
              offsetof(control_block, slot_count), "it was closed, but says that something was under way");
  }

  void bounds() {
    const arena_header& layout = arena_.layout();
    const std::uint64_t needed = layout.slots_offset + std::uint64_t{control_.capacity} * layout.slot_stride_bytes;
    require(control_.capacity <= layout.slots_max, "capacity-over-maximum", severity::error,
            offsetof(control_block, capacity),
            "there is room for " + std::to_string(control_.capacity) + " slots of at most " +
                std::to_string(layout.slots_max));
    require(control_.shared_slots <= control_.slot_count && (is_shared_ || control_.shared_slots == 0), "shared-slots",
            settled_, offsetof(control_block, shared_slots),
            "it says that processes share " + std::to_string(control_.shared_slots) + " slots of " +
                std::to_string(is_shared_ ? control_.slot_count : 0));
    require(control_.slot_count <= control_.capacity, "count-over-capacity", settled_,
            offsetof(control_block, slot_count),
            "there are " + std::to_string(control_.slot_count) + " slots and room for " +
                std::to_string(control_.capacity));
    if (arena_.size_bytes() < needed)
      findings_.push_back({"file-cut-short", severity::error, arena_.size_bytes(), std::nullopt,
                           "the file should have " + std::to_string(needed) + " bytes and ends after " +
                               std::to_string(arena_.size_bytes())});
    else if (arena_.size_bytes() > layout.file_size_for(control_.capacity))
      findings_.push_back({"file-longer", severity::note, layout.file_size_for(control_.capacity), std::nullopt,
                           std::to_string(arena_.size_bytes() - layout.file_size_for(control_.capacity)) +
                               " bytes lie behind the room for slots, as growth leaves them that was interrupted"});
    require(control_.buffer_count <= std::size(control_.buffer), "buffer-too-long", severity::error,
            offsetof(control_block, buffer_count),
            "the vacancy buffer has " + std::to_string(control_.buffer_count) + " entries of at most " +
                std::to_string(std::size(control_.buffer)));
    require(control_.generation_floor <= version::last_generation, "generation-floor", severity::error,
            offsetof(control_block, generation_floor),
            "the generation floor is " + std::to_string(control_.generation_floor) + ", past the last generation");
  }

  void counts() {
    if (is_shared_) {  // its slots' words alone are kept
      const std::uint64_t kept = std::uint64_t{control_.occupied} + control_.reserved + control_.vacant +
                                 control_.retired + control_.generation_floor + control_.buffer_count;
      require(kept == 0, "shared-counts", severity::warning, offsetof(control_block, occupied),
              "it has counts, a floor or a buffer, which shared arenas do not keep");
      return;
    }
    const std::uint64_t sum = std::uint64_t{control_.occupied} + control_.reserved + control_.vacant + control_.retired;
    require(sum == control_.slot_count, "count-sum", between_, offsetof(control_block, slot_count),
            "occupied, reserved, vacant and retired slots make " + std::to_string(sum) + ", the slot count is " +
                std::to_string(control_.slot_count));
    const bool is_left =
        arena_.left() == left_state::killed || (is_durable_ && arena_.left() == left_state::machine_stopped);
    if (is_left && control_.reserved != 0)
      add("reserved-left", severity::note, offsetof(control_block, reserved),
          "reserved by handles that died with their process: " + std::to_string(control_.reserved) +
              "; the next to open the file gives them back");
  }

  void under_way() {
    require(control_.recovering <= recovering_salvage, "recovering-mark", severity::error,
            offsetof(control_block, recovering),
            "the mark of a recovery under way is " + std::to_string(control_.recovering) + ", which means nothing");
    if (control_.update_pending == 0) return;
    const bool can_be = control_.update_pending == 1 && control_.update_index < control_.slot_count;
    add(can_be ? "update-pending" : "update-mark", can_be ? severity::note : settled_,
        offsetof(control_block, update_pending),
        can_be ? "an update of slot " + std::to_string(control_.update_index) +
                     " was committed and not yet copied into the slot; the next to open the file does that"
               : "the mark of an update under way is " + std::to_string(control_.update_pending) + ", of slot " +
                     std::to_string(control_.update_index) + ", which cannot be");
  }

  /// What is kept for people only.
  void decoration() {
    const auto all_zero = [](const auto& array) {
      return std::all_of(std::begin(array), std::end(array), [](auto element) { return element == 0; });
    };
    const bool may_be_used = arena_.header().compatible_features != 0;
    require(may_be_used || (all_zero(control_.unused_counts) && all_zero(control_.unused_recovery)), "control-reserved",
            severity::warning, offsetof(control_block, unused_counts), "bytes that must be 0 are not");
    require(control_.last_recovery.outcome <= static_cast<std::uint32_t>(recovery_outcome::replayed), "recovery-record",
            severity::warning, offsetof(control_block, last_recovery),
            "the last recovery has an unknown outcome: " + std::to_string(control_.last_recovery.outcome));
    require(*std::rbegin(control_.owner_program) == '\0' && *std::rbegin(control_.last_recovery.killed_program) == '\0',
            "owner-program", severity::warning, offsetof(control_block, owner_program),
            "the name of a program has no end");
  }

  const arena_file& arena_;
  const control_block& control_;
  bool is_shared_;
  bool is_durable_;
  bool at_commit_;  // of a durable arena: its journal was applied
  severity between_;
  severity settled_;
  std::vector<finding> findings_;
};

}  // namespace

std::vector<finding> examine_control(const arena_file& arena) { return control_examination(arena).run(); }

}  // namespace dm::inspect
