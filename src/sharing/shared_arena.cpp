#include "deferred_map/sharing/shared_arena.hpp"

#include <algorithm>
#include <atomic>
#include <boost/interprocess/mapped_region.hpp>
#include <cstring>
#include <mutex>
#include <new>
#include <optional>

#include "arena_parts.hpp"
#include "closed_in_children.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/format/index_layout.hpp"
#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/sharing/atomics.hpp"
#include "lock_bytes.hpp"

namespace dm::sharing {

// What the format says, held against what the algorithms go by.
static_assert(attachments_max == shared_layout::attachments, "the file's table has an entry for each");
static_assert(leases_per_attachment == shared_layout::leases_per_attachment);
static_assert(word::cached_flag == shared_layout::cached_flag);
static_assert(word::owner_of(word::make(0, ~0u)) == shared_layout::owner_mask);
static_assert(word::lease_bits == shared_layout::lease_bits);

namespace {

namespace bip = boost::interprocess;

std::uint64_t lease_block_offset(const arena_header& header, std::uint32_t attachment) noexcept {
  return header.scratch_offset + shared_layout::table_bytes +
         std::uint64_t{attachment} * shared_layout::leases_per_attachment *
             shared_layout::lease_stride_bytes(header.value_size_bytes);
}

/// The part of the head that has blocks from the start.
std::uint64_t head_end(const arena_header& header) noexcept {
  return header.scratch_offset + shared_layout::table_bytes;
}

/// Bytes of `value` up to its padding, as text.
template <std::size_t Size>
std::string text_of(const char (&padded)[Size]) {
  return {padded, ::strnlen(padded, Size)};
}

}  // namespace

struct shared_arena::state {
  state() noexcept { new (&mapping) bip::mapped_region(); }
  state(const state&) = delete;
  state& operator=(const state&) = delete;
  ~state() {
    // In a forked child there is no mapping, and whatever lies there now is the child's.
    if (is_ours() || !writable) mapping.~mapped_region();
  }

  posix::file file;
  std::optional<closed_in_children> closed_by_forks;  // goes before the file
  arena_header header;
  arena_options options;
  bool writable = true;
  bool detached = false;
  std::uint32_t opened_by_pid = posix::process_id();
  std::uint32_t id = no_attachment;
  left_as found = left_as::closed;
  bool had_company = false;
  std::uint32_t reaped = 0;
  rebuild_counts salvaged;
  // The kernel's locks are the open file description's, so they do not part the threads of one process.
  std::mutex table_mutex;
  std::mutex growth_mutex;
  union {
    bip::mapped_region mapping;  // destroyed by hand
  };
  std::byte* base = nullptr;
  region memory;

  bool is_ours() const noexcept { return opened_by_pid == posix::process_id(); }

  const std::filesystem::path& path() const noexcept { return file.path(); }
  control_block& control() const noexcept { return *reinterpret_cast<control_block*>(base + header.control_offset); }
  static std::atomic_ref<std::uint32_t> state_of(attachment_record& entry) noexcept {
    return std::atomic_ref<std::uint32_t>(entry.state);
  }
  attachment_record& entry(std::uint32_t attachment) const noexcept { return memory.attachments[attachment]; }

  /// Reads the head, but takes nothing and changes nothing.
  void open_file(const std::filesystem::path& at, const stored_type& type) {
    require(!at.empty(), at, "an arena needs a path");
    if (writable)
      closed_by_forks.emplace(file, [&] { return posix::file::open(at, true); });
    else
      file = posix::file::open(at, false);
    header = read_and_check_head(file, arena_kind::shared, type);
  }

  void map() {
    const std::uint64_t size_bytes = header.file_size_for(header.slots_max);
    const posix::file unlocked = file.opened_again(writable);
    try {
      bip::mapped_region mapped(mappable(unlocked.descriptor()), writable ? bip::read_write : bip::read_only, 0,
                                size_bytes);
      mapping.swap(mapped);
    } catch (const bip::interprocess_exception& e) {
      throw error(std::error_code(e.get_native_error(), std::generic_category()), path(),
                  "mapping " + std::to_string(size_bytes) +
                      " bytes of address space failed: " + std::generic_category().message(e.get_native_error()) +
                      ". Raise the limit (ulimit -v), or make the arena with a smaller max_slots");
    }
    base = static_cast<std::byte*>(mapping.get_address());
    if (writable) posix::keep_from_children(base, size_bytes);

    const index_levels levels(header.slots_max);
    auto* const index = reinterpret_cast<std::uint64_t*>(base + header.index_offset);
    memory.slots = base + header.slots_offset;
    memory.stride_bytes = header.slot_stride_bytes;
    memory.value_offset = header.value_offset;
    memory.value_words = shared_layout::value_words(header.value_size_bytes);
    memory.taken = index;
    memory.hints = index + levels.offset[1];
    memory.slots_now = &control().shared_slots;
    memory.slots_max = header.slots_max;
    memory.attachments = reinterpret_cast<attachment_record*>(base + header.scratch_offset);
    memory.scratch = base + lease_block_offset(header, 0);
    memory.scratch_stride_bytes = shared_layout::lease_stride_bytes(header.value_size_bytes);
  }

  /// The control block, as it is in the file now.
  control_block read_control() const {
    control_block control;
    const std::uint64_t file_size = file.size_bytes();
    const std::size_t got = file.read_some(header.control_offset, std::as_writable_bytes(std::span(&control, 1)));
    if (got != sizeof control || file_size < header.slots_offset)
      throw error(errc::damaged, path(),
                  "this arena is damaged: it was cut short: its slots begin at byte " +
                      std::to_string(header.slots_offset) + ", and it has " + std::to_string(file_size) +
                      " bytes. Nothing was changed. Restore a copy");
    return control;
  }

  /// The same, once it passes: what is read while another process grows may be of two moments.
  control_block read_and_check_control() const {
    for (int tries = 0;; ++tries) {
      const control_block control = read_control();
      const auto fault = check_control(header, control, file.size_bytes());  // the size after: it only grows
      if (!fault) return control;
      if (tries == 16) require_no_fault(fault, path());
    }
  }

  void require_sound() const {
    if (const auto fault = first_fault(memory))
      throw error(errc::damaged, path(),
                  "this arena is damaged: " + *fault +
                      ". Values were left as they are. Restore a copy, or look at it with dm-inspect check");
  }

  std::uint64_t wanted_bytes(std::uint64_t slots) const { return head_end(header) + slots * header.slot_stride_bytes; }
  /// Blocks for everything up to `slots` that may be stored to. Requires: nobody is attached.
  void fill_holes(std::uint64_t slots) const {
    require_few_holes(file, wanted_bytes(slots), slots);
    require_room(file, wanted_bytes(slots), slots);
    file.allocate(0, head_end(header));
    allocate_index(file, header, 0, 0, slots);
    // Not to the end of the last page: a file that is refused after this has the size it had.
    const std::uint64_t end = std::min(header.file_size_for(slots), file.size_bytes());
    if (end > header.slots_offset) file.allocate(header.slots_offset, end - header.slots_offset);
  }

  // Attaching ---------------------------------------------------------------------------------------------------------

  /// Takes the life of a free entry. False where there is none. Requires: the table's lock.
  bool take_entry() {
    for (std::uint32_t i = 0; i < attachments_max; ++i) {
      if (state_of(entry(i)).load(std::memory_order_relaxed) != attachment_record::free) continue;
      if (!file.try_lock_byte(lock_byte::life_of(i))) continue;
      id = i;
      return true;
    }
    return false;
  }

  void allocate_leases() const {
    const std::uint64_t begin = lease_block_offset(header, id);
    file.allocate(begin, lease_block_offset(header, id + 1) - begin);
  }

  /// Says who we are. Requires: our life is locked, so that nobody takes us for dead; the table's lock.
  void write_entry() const {
    attachment_record& ours = entry(id);
    ours.pid = posix::process_id();
    ours.attached_unix_ns = posix::now_unix_ns();
    ours.process_start = posix::process_start_ticks();
    std::memset(ours.program, 0, sizeof ours.program);
    posix::process_name().copy(ours.program, sizeof ours.program - 1);
    // release: whoever sees an entry that is in use sees whose it is.
    state_of(ours).store(attachment_record::attached, std::memory_order_release);
  }

  /// As arena::begin_use, by the first to attach. Requires: the table's lock, and nobody is attached.
  void begin_use() const {
    say_in_use(control());
    sync_marks();
  }

  void sync_marks() const {
    try {
      posix::sync_page(path(), base + header.control_offset, arena_page_bytes);
    } catch (const error&) {
      control().disk_failed = 1;  // perhaps of quite another page; and this was the only report
      throw;
    }
  }

  /// Makes of a file whose machine stopped what can be made. Requires: as `begin_use`.
  void salvage() {
    control_block& c = control();
    c.recovering = recovering_salvage;  // before the boot id says that this is an ordinary crash
    order_stores();
    begin_use();
    const std::uint64_t in_file = (file.size_bytes() - header.slots_offset) / header.slot_stride_bytes;
    const std::uint64_t slots = in_file >= header.slots_max ? header.slots_max : in_file / 64 * 64;
    fill_holes(slots);
    say_slots(slots);
    // Scratch areas that never had blocks read as zeros, which are about no update.
    salvaged = rebuild(memory);
    for (std::uint32_t i = 0; i < attachments_max; ++i)
      state_of(entry(i)).store(attachment_record::free, std::memory_order_relaxed);
    c.update_pending = 0;
    c.generation_floor = 0;
    c.buffer_count = 0;
    order_stores();
    c.recovering = recovering_not;
    order_stores();
  }

  // Reaping -----------------------------------------------------------------------------------------------------------

  bool is_dead(std::uint32_t attachment) const {
    // acquire: an entry in use says so after its life was locked. In the other order one just taken would seem dead.
    return attachment != id && state_of(entry(attachment)).load(std::memory_order_acquire) != attachment_record::free &&
           !file.is_locked(lock_byte::life_of(attachment), 1);
  }
  bool somebody_is_dead() const {
    for (std::uint32_t i = 0; i < attachments_max; ++i)
      if (is_dead(i)) return true;
    return false;
  }
  /// Requires: the table's lock.
  std::uint32_t reap_the_dead(const cleaner& clean) const {
    std::uint32_t count = 0;
    for (std::uint32_t i = 0; i < attachments_max; ++i) {
      if (!is_dead(i)) continue;
      clean(memory, i);
      // release: whoever takes the entry next finds no slot that names it.
      state_of(entry(i)).store(attachment_record::free, std::memory_order_release);
      ++count;
    }
    return count;
  }

  // Growing -----------------------------------------------------------------------------------------------------------

  /// Tools read these two; so do checks of the file, which must never find more slots than it says there is room for.
  void say_slots(std::uint64_t slots) const {
    control_block& c = control();
    const auto count = static_cast<std::uint32_t>(slots);
    std::atomic_ref<std::uint32_t>(c.capacity).store(count, std::memory_order_relaxed);
    order_stores();
    std::atomic_ref<std::uint32_t>(c.slot_count).store(count, std::memory_order_relaxed);
    order_stores();
    // release: the blocks, and the bits for the new slots. From here on they are everybody's.
    processor_atomics::store(c.shared_slots, slots, std::memory_order_release);
  }

  std::uint64_t slots_now() const noexcept {
    return processor_atomics::load(*memory.slots_now, std::memory_order_acquire);
  }

  /// In whole words of the bitmap.
  std::uint64_t in_words(std::uint64_t slots) const noexcept {
    return std::min((slots + 63) / 64 * 64, header.slots_max);
  }

  /// Requires: the growth lock, slots_now() < slots <= slots_max, `slots` as `in_words` gives it.
  void make_slots(std::uint64_t slots, bool with_head_start) const {
    const std::uint64_t before = slots_now();
    const std::uint64_t wanted = with_head_start ? in_words(slots_with_head_start(header, before, slots)) : slots;
    const std::uint64_t size_before = file.size_bytes();
    // The file system may have made the file longer before it gave up. Nobody looks there, but the blocks belong to
    // others. Where even that fails, the file is longer than it need be, which harms nobody.
    const auto give_back = [&] {
      try {
        file.set_size(size_before);
      } catch (const error&) {
      }
    };
    std::uint64_t got = wanted;
    try {
      allocate_slots(file, header, before, wanted);
    } catch (const error& e) {
      give_back();
      if (e.code() != errc::full || wanted == slots) throw;
      try {
        allocate_slots(file, header, before, slots);  // no head start, then: just what is needed
      } catch (const error&) {
        give_back();
        throw;
      }
      got = slots;
    }
    // Nobody knows of these words yet: those that search end at `slots_now`.
    const std::uint64_t words = (got + 63) / 64;
    if (got % 64 != 0)  // only at slots_max: "all ones" means that a word has nothing
      processor_atomics::store(memory.taken[words - 1], ~std::uint64_t{0} << (got % 64), std::memory_order_relaxed);
    for (std::uint64_t at = (before + 63) / 64; at < words; ++at)
      processor_atomics::fetch_or(memory.hints[at / 64], std::uint64_t{1} << (at % 64), std::memory_order_relaxed);
    say_slots(got);
  }

  // Leaving -----------------------------------------------------------------------------------------------------------

  void sync() const {
    control_block& c = control();
    std::atomic_ref<std::uint32_t> failed(c.disk_failed);
    if (failed.load(std::memory_order_relaxed) != 0) refuse_after_failure(path());
    try {
      file.sync();
    } catch (const error&) {
      failed.store(1, std::memory_order_relaxed);
      throw;
    }
  }

  /// By the last to go. Requires: the table's lock, nobody is attached, and no slot names anybody.
  void mark_closed() const {
    control_block& c = control();
    const bool lost = c.disk_failed != 0;
    const bool vouch_for_disk = options.sync_on_close && !lost;
    if (vouch_for_disk) sync();
    const std::uint64_t mark = c.checksum();
    if (vouch_for_disk) c.synced = mark;
    order_stores();
    c.closed = mark;
    order_stores();
    if (vouch_for_disk) {
      try {
        file.sync();
      } catch (const error&) {
        c.closed = 0;
        order_stores();
        c.synced = 0;
        order_stores();
        c.disk_failed = 1;
        throw;
      }
    }
    if (lost && options.sync_on_close) refuse_after_failure(path());
  }

  bool somebody_has_an_entry() const {
    for (std::uint32_t i = 0; i < attachments_max; ++i)
      if (state_of(entry(i)).load(std::memory_order_relaxed) != attachment_record::free) return true;
    return false;
  }
};

shared_arena::shared_arena(std::unique_ptr<state> state) noexcept : state_(std::move(state)) {}
shared_arena::~shared_arena() = default;

const std::filesystem::path& shared_arena::path() const noexcept { return state_->path(); }
const arena_header& shared_arena::header() const noexcept { return state_->header; }
bool shared_arena::writable() const noexcept { return state_->writable; }
bool shared_arena::is_ours() const noexcept { return state_->is_ours(); }
const region& shared_arena::memory() const noexcept { return state_->memory; }
std::uint32_t shared_arena::attachment() const noexcept { return state_->id; }
left_as shared_arena::found() const noexcept { return state_->found; }
bool shared_arena::had_company() const noexcept { return state_->had_company; }
std::uint32_t shared_arena::reaped_at_open() const noexcept { return state_->reaped; }
const rebuild_counts& shared_arena::salvaged() const noexcept { return state_->salvaged; }

std::unique_ptr<shared_arena> shared_arena::create(const std::filesystem::path& path, const stored_type& type,
                                                   const arena_options& how) {
  const arena_head head = head_of_new_arena(path, arena_kind::shared, type, how);
  auto making = std::make_unique<state>();
  state& s = *making;
  s.options = how;
  s.header = head.header;
  s.closed_by_forks.emplace(s.file, [&] { return posix::file::create_unnamed(path, how.permissions); });
  s.file.allocate(0, head_end(s.header));
  s.file.write_all(0, head.bytes);
  const control_block empty;
  s.file.write_all(s.header.control_offset, std::as_bytes(std::span(&empty, 1)));
  s.file.set_size(s.header.slots_offset);
  s.map();

  // Attached before it has a name: nobody comes before us, and nobody in between finds marks that are not yet, or no
  // longer, true.
  const held_byte table(s.file, lock_byte::table);
  s.take_entry();
  s.allocate_leases();
  if (how.reserve_slots != 0) s.make_slots(s.in_words(how.reserve_slots), false);

  // Under its name only when complete, and complete on the disk too: a name that survives a power failure leads to an
  // arena.
  control_block& c = s.control();
  c.boot_id = posix::boot_id();
  c.synced = c.closed = c.checksum();
  s.file.sync();
  s.file.give_name();
  try {
    s.file.sync_directory();
    s.begin_use();
  } catch (const error&) {
    s.file.take_back_name();
    throw;
  }
  s.write_entry();
  return std::unique_ptr<shared_arena>(new shared_arena(std::move(making)));
}

std::unique_ptr<shared_arena> shared_arena::open(const std::filesystem::path& path, const stored_type& type,
                                                 const arena_options& how, const cleaner& clean) {
  auto opening = std::make_unique<state>();
  state& s = *opening;
  s.options = how;
  s.open_file(path, type);
  const held_byte table(s.file, lock_byte::table);
  if (!s.file.name_leads_here())
    throw error(errc::not_found, path, "this file was removed or replaced while it was being opened. Try again");

  s.had_company = others_are_attached(s.file);
  // Marks are about files that nobody has open: with company they say nothing, and everything is in order.
  if (!s.had_company) s.found = how_it_was_left(s.read_control());
  if (s.found == left_as::machine_stopped) {
    if (!how.salvage) refuse_unclean(path);
  } else {
    const control_block control = s.read_and_check_control();
    if (!s.had_company) s.fill_holes(control.capacity);
  }
  s.map();

  if (s.found == left_as::machine_stopped) {
    s.salvage();
  } else if (!s.had_company) {
    // Where nobody died, a file that is refused stays as it was.
    if (how.verify && s.found == left_as::closed) s.require_sound();
    // The life first: a reader that finds marks of another boot gone asks next whether anybody is attached.
    s.take_entry();
    s.begin_use();
  }
  s.reaped = s.reap_the_dead(clean);
  if (s.id == no_attachment && !s.take_entry())
    throw error(errc::full, path,
                "this arena has all the attachments it can have: " + std::to_string(attachments_max) +
                    " maps have it open, all alive. Close some, or share one among the threads of a process; to look "
                    "only, open_read_only needs none. dm-inspect owners tells whose they are");
  s.allocate_leases();
  if (how.verify && !s.had_company) s.require_sound();
  s.write_entry();
  return std::unique_ptr<shared_arena>(new shared_arena(std::move(opening)));
}

std::unique_ptr<shared_arena> shared_arena::open_read_only(const std::filesystem::path& path, const stored_type& type,
                                                           const arena_options& how) {
  auto opening = std::make_unique<state>();
  state& s = *opening;
  s.options = how;
  s.writable = false;
  s.open_file(path, type);
  // The first to attach after a stop of the machine takes its life before it changes the marks. So whoever reads marks and
  // then asks for lives is not misled by marks that are gone; but it may be in the midst of that, so ask twice.
  for (int tries = 0; tries < 2; ++tries) {
    const control_block control = s.read_control();
    s.had_company = others_are_attached(s.file);
    s.found = s.had_company ? left_as::closed : how_it_was_left(control);
    if (s.found != left_as::machine_stopped) break;
  }
  if (s.found != left_as::machine_stopped)
    s.read_and_check_control();
  else if (!how.salvage)
    refuse_unclean(path);
  s.map();
  return std::unique_ptr<shared_arena>(new shared_arena(std::move(opening)));
}

bool shared_arena::is_alive(std::uint32_t attachment) const {
  if (attachment >= attachments_max) return false;
  return attachment == state_->id || state_->file.is_locked(lock_byte::life_of(attachment), 1);
}

std::vector<owner_info> shared_arena::owners() const {
  std::vector<owner_info> found;
  for (std::uint32_t i = 0; i < attachments_max; ++i) {
    attachment_record& entry = state_->entry(i);
    // acquire: the rest of an entry that is in use.
    if (state::state_of(entry).load(std::memory_order_acquire) == attachment_record::free) continue;
    found.push_back({i, entry.pid, text_of(entry.program), entry.attached_unix_ns, is_alive(i)});
  }
  return found;
}

bool shared_arena::grow(std::uint64_t slots) {
  state& s = *state_;
  if (slots <= s.slots_now()) return true;
  if (slots > s.header.slots_max) return false;
  const std::lock_guard threads(s.growth_mutex);
  const held_byte processes(s.file, lock_byte::growth);
  if (slots > s.slots_now()) s.make_slots(s.in_words(slots), true);
  return true;
}

std::uint32_t shared_arena::reap(const cleaner& clean) {
  state& s = *state_;
  if (!s.writable || !s.somebody_is_dead()) return 0;
  const std::lock_guard threads(s.table_mutex);
  const held_byte processes(s.file, lock_byte::table);
  return s.reap_the_dead(clean);
}

std::uint32_t shared_arena::try_reap(const cleaner& clean) {
  state& s = *state_;
  if (!s.writable || !s.somebody_is_dead()) return 0;
  const std::unique_lock threads(s.table_mutex, std::try_to_lock);
  if (!threads) return 0;
  const held_byte processes(s.file, lock_byte::table, false);
  return processes ? s.reap_the_dead(clean) : 0;
}

void shared_arena::sync() {
  if (state_->writable) state_->sync();
}

void shared_arena::detach() {
  state& s = *state_;
  if (!s.writable || !s.is_ours()) return s.file.close_in_child();
  if (s.detached) return;
  s.detached = true;
  std::optional<error> failure;
  try {
    // Most of what the last one has to write is written while others can still come.
    if (s.options.sync_on_close && s.control().disk_failed == 0 && !others_are_attached(s.file)) s.sync();
  } catch (const error& e) {
    failure = e;
  }
  {
    const std::lock_guard threads(s.table_mutex);
    const held_byte processes(s.file, lock_byte::table);
    state::state_of(s.entry(s.id)).store(attachment_record::free, std::memory_order_release);
    if (!failure && !others_are_attached(s.file) && !s.somebody_has_an_entry()) {
      try {
        s.mark_closed();
      } catch (const error& e) {
        failure = e;
      }
    }
    s.file.unlock_byte(lock_byte::life_of(s.id));
  }
  s.file.close();
  if (failure) throw *failure;
}

}  // namespace dm::sharing
