#include "deferred_map/inspect/repair.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "journal_overlay.hpp"
#include "mended_copy.hpp"
#include "repair_parts.hpp"
#include "settle_slots.hpp"

namespace dm::inspect {
namespace {

constexpr std::pair<std::string_view, std::string_view> mendings[] = {
    {"header-", "the header is made what it was: by its checksum, or by all that follows from the rest"},
    {"schema-", "the schema is made what its checksum says it was"},
    {"control-", "the control block is written anew"},
    {"unreadable", "slots that cannot be read are retired, or vacant in their next generation; the rest is rebuilt"},
    {"closed-", "the marks are made anew"},
    {"synced-mark", "the marks are made anew"},
    {"not-closed", "what was under way is settled as opening would, and the file marked as closed"},
    {"machine-stopped", "all is rebuilt from the versions, as salvage does; values may be old or half-written"},
    {"capacity-over-maximum", "the capacity is made what the file has room for"},
    {"count-over-capacity", "the capacity is made what the file has room for"},
    {"file-cut-short", "the slot count is made what the file has; lost keys stay dead"},
    {"count-", "the counts are made as the versions say"},
    {"generation-floor", "the floor is set far behind every generation that is known"},
    {"recovering-mark", "the mark is cleared, and all is rebuilt from the versions"},
    {"update-mark", "the mark is cleared: there was no such update"},
    {"update-pending", "the committed value is copied into its slot"},
    {"reserved-left", "the slots become vacant in their next generation, as opening would have it"},
    {"recovery-record", "the record is cleared"},
    {"owner-program", "the name is given an end"},
    {"version-impossible",
     "the slot becomes vacant in its next generation, or far behind all that are known where its own is gone"},
    {"word-impossible", "the slot becomes vacant, in its next generation if it was not"},
    {"slot-never-made", "the slot becomes vacant, far behind every generation that is known: its own is gone"},
    {"slot-owned", "reserved slots become vacant in their next generation, updates are finished"},
    {"leftover-slot", "the slot is cleared and the floor raised; or counted, where nothing vouches for the count"},
    {"buffer-", "buffer and bitmap are rebuilt from the versions"},
    {"index-", "buffer and bitmap are rebuilt from the versions"},
    {"shared-slots", "the number of slots is made what the file has"},
    {"shared-counts", "the counts are cleared"},
    {"attachment-left", "the entry is cleared"},
    {"journal-",
     "the commits that can be read are brought into the file, and the rest rebuilt from the versions as salvage "
     "does; values may be of several commits"},
};

bool is_durable(const arena_header& header) noexcept {
  return header.kind == static_cast<std::uint32_t>(arena_kind::durable);
}

/// The arena with its head mended: everything else is found by it.
class with_sound_head {
 public:
  explicit with_sound_head(const arena_file& damaged) {
    const mended_head mended = mend_head(damaged);
    if (!mended.header_is_sound) return;
    std::vector<std::byte> first_bytes(sizeof mended.header);
    std::memcpy(first_bytes.data(), &mended.header, sizeof mended.header);
    first_bytes.insert(first_bytes.end(), mended.schema_region.begin(), mended.schema_region.end());
    auto source = std::make_unique<patched_source>(damaged.bytes(), std::move(first_bytes));
    if (is_durable(mended.header))
      // Where the journal's commits are in these bytes already, they are brought into them once more.
      arena_ = std::make_unique<arena_file>(damaged.path(), std::move(source), open_journal(damaged.path()));
    else
      arena_ = std::make_unique<arena_file>(damaged.path(), std::move(source));
  }
  explicit operator bool() const noexcept { return arena_ != nullptr; }
  const arena_file& operator*() const noexcept { return *arena_; }
  const arena_file* operator->() const noexcept { return arena_.get(); }

 private:
  std::unique_ptr<arena_file> arena_;
};

std::string who(const std::string& holders) {
  return holders.empty() ? "a process that cannot be seen from here" : holders;
}

/// Whether both names are of one file; a link to it is none of its names.
bool are_two_names(const std::filesystem::path& one, const std::filesystem::path& other) {
  std::error_code unseen;
  const auto whole = [&](const std::filesystem::path& name) {
    return std::filesystem::canonical(std::filesystem::absolute(name, unseen).parent_path(), unseen) / name.filename();
  };
  return !std::filesystem::is_symlink(one, unseen) && std::filesystem::equivalent(one, other, unseen) &&
         whole(one) != whole(other);
}

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;  // whatever else is wrong with the path, using it will say
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

/// A second name for the same file, which is not even copied; on the disk before the first one leads elsewhere.
void keep_as(const std::filesystem::path& backup, const std::filesystem::path& kept) {
  std::error_code failed;
  std::filesystem::create_hard_link(kept, backup, failed);
  if (failed)
    throw error(failed, backup,
                "the backup would be a second name of the file, and there can be none here: " + failed.message() +
                    ". Repair to another file (--output), or copy it yourself and do without (--no-backup)");
  posix::file::open(backup, false).sync_directory();
}

/// Makes the mended file, where there is something to mend, and calls `name_it(out)`.
template <class MakeFile, class NameIt>
repair_report repair(const arena_file& arena, const repair_options& options, MakeFile make_file, NameIt name_it) {
  repair_report report = plan_repair(arena, options);
  if (!report.is_needed || !report.refusal.empty()) return report;
  const with_sound_head sound(arena);
  if (!sound) throw error(errc::in_use, arena.path(), "this file is being changed. Try again when it is not");
  // Not as the damaged one says: what is wrong with its header may hide that it is open.
  if (sound->left() == left_state::open)
    throw error(errc::in_use, arena.path(),
                "this arena is in use by " + who(sound->locks().holders) +
                    ". Close it first: what is halfway through a change is no fault");
  posix::file out = make_file();
  report.slots_lost = write_mended(*sound, out, options.progress);
  report.after = check(arena_file(arena.path(), std::make_unique<own_file_source>(out)),
                       {.listed_per_rule_max = options.listed_per_rule_max});
  // What cannot be read back is worth less than what there is.
  if (report.after->findings.by_rule().count("unreadable") != 0)
    throw error(
        std::make_error_code(std::errc::io_error), arena.path(),
        "the mended file cannot be read back from the disk, and was given up; this one is as it was. Look at the "
        "disk, or repair to another one (--output)");
  name_it(out);
  return report;
}

}  // namespace

std::string_view mending_of(std::string_view rule) noexcept {
  for (const auto& [begins, mending] : mendings)
    if (begins.back() == '-' ? rule.starts_with(begins) : rule == begins) return mending;
  return {};
}

repair_report plan_repair(const arena_file& arena, const repair_options& options) {
  repair_report report;
  // One of each at least: what can be mended is told by those that are listed.
  report.before = check(arena, {.listed_per_rule_max = std::max<std::size_t>(options.listed_per_rule_max, 1)});
  std::uint64_t mendable = 0;
  for (const finding& found : report.before.findings.listed()) {
    // A note is something to do where the next to open the file would do it; what is on its way is none.
    const bool is_due = found.level != severity::note || arena.left() == left_state::killed;
    if (found.repairable && is_due) ++mendable;
  }
  report.is_needed = mendable != 0 || !report.before.is_clean();
  for (const finding& found : report.before.findings.listed())
    if (found.rule == "journal-unreadable" || found.rule == "journal-newer-format")
      report.refusal = "commits that the journal has would be lost: " + found.text;
  if (report.is_needed && mendable == 0 && report.refusal.empty())
    report.refusal =
        "nothing in this file tells what is right where it is wrong. Restore a copy, or export what can be read";
  return report;
}

repair_report repair_to(const arena_file& arena, const std::filesystem::path& output, const repair_options& options) {
  const auto make_file = [&] {
    if (is_there(output))
      throw error(errc::exists, output, "the file exists already. Remove it, or choose another name");
    if (const auto journal = journal_path_of(output); is_durable(mend_head(arena).header) && is_there(journal))
      throw error(errc::exists, journal, "the copy must not have a journal. Remove this one, or choose another name");
    return posix::file::create_unnamed(output, 0600);
  };
  return repair(arena, options, make_file, [](posix::file& out) {
    out.give_name();
    try {
      out.sync_directory();
    } catch (const error&) {
      out.take_back_name();
      throw;
    }
  });
}

repair_report repair_in_place(const std::filesystem::path& file, const std::filesystem::path& backup,
                              const repair_options& options) {
  // What a link leads to is repaired, and the link stays.
  std::error_code unseen;
  const auto real = std::filesystem::is_symlink(file, unseen) ? std::filesystem::canonical(file, unseen) : file;
  const posix::file locked = posix::file::open(real.empty() ? file : real, true);
  // All of it, and so every byte that an attachment of a shared map holds while it lives.
  if (!locked.try_lock(posix::lock_mode::exclusive)) {
    throw error(errc::in_use, file,
                "this arena is in use by " + who(posix::lock_holders(locked)) +
                    ". It can be repaired in place only while nobody has it open");
  }
  if (!locked.name_leads_here())
    throw error(errc::not_found, file, "this file was removed or replaced while it was being opened. Try again");
  auto source = std::make_unique<own_file_source>(locked);
  const arena_file arena(locked.path(), std::move(source), open_journal(locked.path()));
  // What is kept, under which name. A repair that was killed can have done so.
  std::vector<std::pair<std::filesystem::path, std::filesystem::path>> to_keep;
  const std::filesystem::path journal = journal_path_of(locked.path());
  const bool has_journal = is_durable(mend_head(arena).header) && is_there(journal);
  if (!backup.empty()) to_keep.emplace_back(locked.path(), backup);
  if (!backup.empty() && has_journal) to_keep.emplace_back(journal, journal_path_of(backup));
  std::erase_if(to_keep, [](const auto& names) { return are_two_names(names.second, names.first); });
  const auto make_file = [&] {
    for (const auto& [kept, name] : to_keep)
      if (is_there(name))
        throw error(errc::exists, name, "there is a backup already. Move it away, or do without one (--no-backup)");
    locked.remove_stand_in();
    posix::file out = posix::file::create_unnamed(locked.path(), 0600);
    out.take_rights_of(locked, std::nullopt);
    return out;
  };
  return repair(arena, options, make_file, [&](posix::file& out) {
    if (!locked.name_leads_here())
      throw error(errc::not_found, file, "this file was removed or replaced while it was being repaired. Try again");
    try {
      for (const auto& [kept, name] : to_keep) keep_as(name, kept);
      out.take_name_of(locked);
    } catch (const error&) {
      for (const auto& [kept, name] : to_keep)
        if (are_two_names(name, kept)) std::filesystem::remove(name, unseen);
      throw;
    }
    try {
      out.sync_directory();
      // All that can be read of it is in the file now, and beside that it is of another time, should it outlive this.
      if (!has_journal) return;
      std::filesystem::remove(journal, unseen);
      if (!is_there(journal)) out.sync_directory();
    } catch (const error& e) {
      throw error(e.code(), file,
                  "the file is repaired, but writing its directory to the disk failed: " + e.code().message() +
                      ". After a loss of power its name may lead to the damaged file again");
    }
    if (is_there(journal))
      throw error(unseen, journal,
                  "the mended file is in its place, but its old journal cannot be removed: " + unseen.message() +
                      ". Remove it, and the map can be opened");
  });
}

}  // namespace dm::inspect
