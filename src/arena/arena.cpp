#include "deferred_map/arena/arena.hpp"

#include <algorithm>
#include <boost/interprocess/mapped_region.hpp>
#include <cstring>

#include "arena_parts.hpp"
#include "posix_file.hpp"

namespace dm {
namespace {

namespace bip = boost::interprocess;

constexpr std::uint64_t address_space_default = std::uint64_t{64} << 30;

}  // namespace

struct arena::state {
  state() noexcept { new (&region) bip::mapped_region(); }
  state(const state&) = delete;
  state& operator=(const state&) = delete;
  ~state() {
    // In a forked child there is no mapping (see `keep_from_children`), and whatever lies there now is the child's.
    if (is_ours()) region.~mapped_region();
  }

  bool is_ours() const noexcept { return opened_by_pid == posix::process_id(); }

  posix::file file;
  arena_header header;
  arena_options options;
  arena_access access = arena_access::read_write;
  left_as found = left_as::closed;
  std::uint32_t last_owner_pid = 0;
  std::string last_owner_program;
  std::uint32_t opened_by_pid = posix::process_id();
  bool unused_yet = false;                           // made by `create`, and `begin_use` has not returned
  std::uint64_t slots_found = 0;                     // by salvage: up to the last that has a version
  std::uint64_t capacity_found = ~std::uint64_t{0};  // what of the capacity there is to be kept
  union {
    bip::mapped_region region;  // destroyed by hand
  };
  std::byte* base = nullptr;

  /// Bytes that are to have blocks for the first `slots` slots: these, and what lies before the index.
  std::uint64_t wanted_bytes(std::uint64_t slots) const {
    return header.index_offset + slots * header.slot_stride_bytes;
  }
  /// How many slots there are if the versions alone are asked: up to the last that is not zero. Requires: mapped.
  std::uint64_t slots_with_versions(std::uint64_t slots_in_file) const {
    const std::uint64_t stride = header.slot_stride_bytes;
    const std::uint64_t end = header.slots_offset + slots_in_file * stride;
    std::uint64_t used = 0;
    // Holes have no versions, and a file may have terabytes of them.
    for (std::uint64_t data = file.next_data(header.slots_offset); data < end;) {
      const std::uint64_t hole = std::min(std::max(file.next_hole(data), data + 1), end);
      const std::uint64_t first = (data - header.slots_offset) / stride;
      for (std::uint64_t slot = (hole - header.slots_offset + stride - 1) / stride; slot > std::max(first, used);
           --slot) {
        std::uint32_t word = 0;
        std::memcpy(&word, base + header.slots_offset + (slot - 1) * stride + header.version_offset, sizeof word);
        if (word != 0) used = slot;
      }
      data = hole < end ? file.next_data(hole) : end;
    }
    return used;
  }

  void map(bip::mode_t mode, std::uint64_t size_bytes) {
    const posix::file unlocked = file.opened_again(mode == bip::read_write);
    try {
#ifdef MAP_NORESERVE
      // A private mapping of the whole file must not be counted against the machine's memory.
      region = bip::mapped_region(mappable(unlocked.descriptor()), mode, 0, size_bytes, nullptr,
                                  mode == bip::copy_on_write ? MAP_NORESERVE : bip::default_map_options);
#else
      region = bip::mapped_region(mappable(unlocked.descriptor()), mode, 0, size_bytes);
#endif
    } catch (const bip::interprocess_exception& e) {
      throw error(std::error_code(e.get_native_error(), std::generic_category()), file.path(),
                  "mapping " + std::to_string(size_bytes) +
                      " bytes of address space failed: " + std::generic_category().message(e.get_native_error()) +
                      ". Raise the limit (ulimit -v), or make the arena with a smaller max_slots");
    }
    base = static_cast<std::byte*>(region.get_address());
    // One process writes. A forked child that went on with this map would spoil it unseen; so it has no such memory.
    if (mode == bip::read_write && header.kind == static_cast<std::uint32_t>(arena_kind::mapped))
      posix::keep_from_children(base, size_bytes);
  }
};

arena::arena(std::unique_ptr<state> state) noexcept : state_(std::move(state)) {}
arena::~arena() {
  if (state_->unused_yet) state_->file.take_back_name();
}

const std::filesystem::path& arena::path() const noexcept { return state_->file.path(); }
const arena_header& arena::header() const noexcept { return state_->header; }
bool arena::writable() const noexcept { return state_->access == arena_access::read_write; }
left_as arena::found() const noexcept { return state_->found; }
std::uint32_t arena::last_owner_pid() const noexcept { return state_->last_owner_pid; }
std::string arena::last_owner_program() const { return state_->last_owner_program; }

// The one place where bytes of the mapping become numbers: the file was checked to have them there.
control_block& arena::control() noexcept {
  return *reinterpret_cast<control_block*>(state_->base + state_->header.control_offset);
}
std::byte* arena::slots() noexcept { return state_->base + state_->header.slots_offset; }
std::uint64_t* arena::index_words() noexcept {
  return reinterpret_cast<std::uint64_t*>(state_->base + state_->header.index_offset);
}
std::byte* arena::scratch() noexcept { return state_->base + state_->header.scratch_offset; }

std::uint64_t arena::default_slots_max(const slot_layout& slot) noexcept {
  return slots_in(address_space_default, slot);
}

std::unique_ptr<arena> arena::create(const std::filesystem::path& path, arena_kind kind, const stored_type& type,
                                     const arena_options& options) {
  std::unique_ptr<arena> made = create_unnamed(path, kind, type, options);
  made->publish();
  made->state_->unused_yet = true;
  return made;
}

std::unique_ptr<arena> arena::create_unnamed(const std::filesystem::path& path, arena_kind kind,
                                             const stored_type& type, const arena_options& options) {
  auto made = std::make_unique<state>();
  made->options = options;
  const arena_head made_head = head_of_new_arena(path, kind, type, options);
  made->header = made_head.header;
  const arena_header& header = made->header;

  made->file = posix::file::create_unnamed(path, options.permissions);
  // Locked before it has a name: nobody else can have it open before us.
  if (!made->file.try_lock(posix::lock_mode::exclusive))
    throw error(errc::in_use, path, "a file that was just made is locked already");
  made->file.allocate(0, header.index_offset);
  made->file.write_all(0, made_head.bytes);
  const control_block empty;
  made->file.write_all(header.control_offset, std::as_bytes(std::span(&empty, 1)));
  made->file.set_size(header.slots_offset);
  made->map(bip::read_write, header.file_size_for(header.slots_max));

  std::unique_ptr<arena> opened(new arena(std::move(made)));
  if (options.reserve_slots != 0) {
    allocate_slots(opened->state_->file, header, 0, options.reserve_slots);
    opened->control().capacity = static_cast<std::uint32_t>(options.reserve_slots);
  }
  return opened;
}

// Under its name only when complete, and complete on the disk too: a name that survives a power failure leads to an
// arena.
void arena::settle_on_disk() {
  control_block& c = control();
  c.boot_id = posix::boot_id();
  c.synced = c.closed = c.checksum();  // in any order: nobody can see it yet
  state_->file.sync();
}

void arena::publish() {
  settle_on_disk();
  state_->file.give_name();
  try {
    state_->file.sync_directory();
  } catch (const error&) {
    state_->file.take_back_name();
    throw;
  }
}

void arena::publish_over(const arena& replaced) {
  settle_on_disk();
  // The lock is on the file and not on the name, which somebody may have given to another file meanwhile.
  if (!replaced.state_->file.name_leads_here())
    throw error(errc::not_found, path(),
                "this file was removed or replaced by another while its replacement was being made. Nothing was "
                "changed. Try again");
  state_->file.take_name_of(replaced.state_->file);
  state_->file.sync_directory();
}

void arena::take_rights_of(const arena& other, std::optional<std::uint32_t> permissions) {
  require((permissions.value_or(0) & ~0777u) == 0, path(), "permissions are an access mode such as 0600");
  state_->file.take_rights_of(other.state_->file, permissions);
}

std::unique_ptr<arena> arena::open(const std::filesystem::path& path, arena_kind kind, const stored_type& type,
                                   const arena_options& options, arena_access access) {
  require(!path.empty(), path, "an arena needs a path");
  auto opening = std::make_unique<state>();
  state& s = *opening;
  s.options = options;
  s.access = access;
  const bool alone = access != arena_access::read_only;  // which the kernel grants to descriptors that may write
  s.file = posix::file::open(path, alone);

  // The header never changes, so it can be looked at before the lock is had, and a file that is no arena is
  // not even locked.
  s.header = read_and_check_head(s.file, kind, type);

  if (!s.file.try_lock(alone ? posix::lock_mode::exclusive : posix::lock_mode::shared)) {
    const std::string holders = posix::lock_holders(s.file);
    throw error(errc::in_use, path,
                "this arena is in use by " + (holders.empty() ? "a process that cannot be seen from here" : holders) +
                    (access == arena_access::read_write  ? ". One process at a time may open it for writing"
                     : access == arena_access::read_only ? ". It cannot be read while it is open for writing"
                                                         : ". It can be replaced only while nobody has it open") +
                    "; dm-inspect can look at it all the same");
  }

  if (!s.file.name_leads_here())
    throw error(errc::not_found, path, "this file was removed or replaced while it was being opened. Try again");
  if (access == arena_access::read_to_replace) s.file.remove_stand_in();

  const std::uint64_t file_size = s.file.size_bytes();
  control_block control;
  const std::size_t control_size =
      s.file.read_some(s.header.control_offset, std::as_writable_bytes(std::span(&control, 1)));
  if (control_size != sizeof control || file_size < s.header.slots_offset) refuse_cut_short(path, s.header, file_size);
  s.found = how_it_was_left(control);
  s.last_owner_pid = control.owner_pid;
  s.last_owner_program.assign(control.owner_program, ::strnlen(control.owner_program, sizeof control.owner_program));
  if (s.found == left_as::machine_stopped) {
    if (!options.salvage) refuse_unclean(path);
  } else {
    require_no_fault(check_control(s.header, control, file_size), path);
  }

  const std::uint64_t size_max = s.header.file_size_for(s.header.slots_max);
  if (access == arena_access::read_write)
    s.map(bip::read_write, size_max);
  else if (s.found == left_as::closed)
    s.map(bip::read_only, std::min(file_size, size_max));
  else
    s.map(bip::copy_on_write,
          std::min(file_size, size_max));  // recovery works on a private copy of the pages it touches

  std::uint64_t slots = control.slot_count;
  s.capacity_found = control.capacity;
  if (s.found == left_as::machine_stopped) {
    s.capacity_found = std::min((file_size - s.header.slots_offset) / s.header.slot_stride_bytes, s.header.slots_max);
    slots = s.slots_found = s.slots_with_versions(s.capacity_found);
  }
  // To read what was closed fills nothing and passes over nothing.
  const bool only_looks = access == arena_access::read_only && s.found == left_as::closed && !options.verify;
  if (!only_looks) require_few_holes(s.file, s.wanted_bytes(slots), slots);
  if (!may_be_filled(s.file, s.wanted_bytes(s.capacity_found))) s.capacity_found = slots;

  std::unique_ptr<arena> opened(new arena(std::move(opening)));
  if (access == arena_access::read_write) {
    // A copy made by tools that leave out runs of zeros has holes, where a store on a full disk would be SIGBUS. Where
    // there are blocks already this costs microseconds. It is not begun where it cannot end.
    require_room(s.file, s.wanted_bytes(s.capacity_found), s.capacity_found);
    s.file.allocate(0, s.header.index_offset);
    allocate_index(s.file, s.header, 0, 0, s.capacity_found);
    // The summaries are rebuilt as far as the control block says that there is room, before `begin_use` has put it right.
    if (s.found != left_as::machine_stopped) allocate_index(s.file, s.header, 1, 0, control.capacity);
    // Not to the end of the last page: a file that is refused after this has the size it had.
    const std::uint64_t end = std::min(s.header.file_size_for(s.capacity_found), file_size);
    s.file.allocate(s.header.slots_offset, end - s.header.slots_offset);
  }
  return opened;
}

void arena::begin_use() {
  if (!writable()) return;
  control_block& c = control();
  say_in_use(c);
  sync_marks();
  // Where there were no blocks for all of it. The marks vouched for it, so it goes after them.
  if (c.capacity > state_->capacity_found) c.capacity = static_cast<std::uint32_t>(state_->capacity_found);
  order_stores();
  state_->unused_yet = false;
}

void arena::sync_marks() {
  if (!writable()) return;
  try {
    posix::sync_page(path(), state_->base + state_->header.control_offset, arena_page_bytes);
  } catch (const error&) {
    // Perhaps of quite another page, which an earlier user stored and left to the kernel. This was the only report.
    control().disk_failed = 1;
    throw;
  }
}

void arena::expand(std::uint64_t slots) {
  control_block& c = control();
  const arena_header& header = state_->header;
  if (slots <= c.capacity) return;
  require_slots_fit(path(), header, slots);
  const std::uint64_t wanted = slots_with_head_start(header, c.capacity, slots);
  const std::uint64_t size_before = state_->file.size_bytes();
  // The file system may have made the file longer before it gave up. Our capacity is what the control block says, but
  // the blocks belong to others. Where even that fails, the file is longer than it need be, which harms nobody.
  const auto give_back = [&] {
    try {
      state_->file.set_size(size_before);
    } catch (const error&) {
    }
  };
  std::uint64_t got = wanted;
  try {
    allocate_slots(state_->file, header, c.capacity, wanted);
  } catch (const error& e) {
    give_back();
    if (e.code() != errc::full || wanted == slots) throw;
    try {
      allocate_slots(state_->file, header, c.capacity, slots);  // no head start, then: just what is needed
    } catch (const error&) {
      give_back();
      throw;
    }
    got = slots;
  }
  order_stores();
  c.capacity = static_cast<std::uint32_t>(got);
  order_stores();
}

void arena::truncate(std::uint64_t slots) {
  if (!writable()) return;
  control_block& c = control();
  const arena_header& header = state_->header;
  slots = std::max<std::uint64_t>(slots, c.slot_count);
  if (slots >= c.capacity) return;
  c.capacity = static_cast<std::uint32_t>(slots);
  order_stores();  // from here on nobody looks behind `slots`
  state_->file.set_size(header.file_size_for(slots));
}

void arena::salvage_bounds() {
  control_block& c = control();
  // The count may be older than the slots: what has a version was used.
  c.capacity = static_cast<std::uint32_t>(state_->capacity_found);
  c.slot_count = static_cast<std::uint32_t>(state_->slots_found);
  c.generation_floor = std::min(c.generation_floor, (1u << 30) - 2);
}

bool arena::is_ours() const noexcept { return state_->is_ours(); }

void arena::sync() {
  if (!writable()) return;
  if (control().disk_failed != 0) refuse_after_failure(path());
  try {
    state_->file.sync();
  } catch (const error&) {
    control().disk_failed = 1;
    throw;
  }
}

void arena::close() {
  // A child that was forked with the map open must not say anything about what its parent goes on doing.
  if (!writable() || !is_ours()) return state_->file.close();
  control_block& c = control();
  // What opening would refuse is not vouched for: without a mark the next to open it recovers it.
  if (!c.nothing_under_way() || c.reserved != 0) return state_->file.close();

  const bool lost = c.disk_failed != 0;
  const bool vouch_for_disk = state_->options.sync_on_close && !lost;
  // What `synced` vouches for goes to the disk first, and only if all of it did is there a mark.
  if (vouch_for_disk) sync();
  const std::uint64_t mark = c.checksum();
  if (vouch_for_disk) c.synced = mark;
  order_stores();
  c.closed = mark;
  const auto take_marks_off = [&c] {
    c.closed = 0;
    order_stores();
    c.synced = 0;
    order_stores();
  };
  if (vouch_for_disk) {
    try {
      state_->file.sync();
    } catch (const error&) {
      take_marks_off();  // before the next store: marks vouch for `disk_failed` as it was
      c.disk_failed = 1;
      throw;
    }
  }
  // The descriptor goes first: what is mapped, and the lock, stay until the mapping goes too.
  try {
    state_->file.close();
  } catch (const error&) {
    take_marks_off();
    throw;
  }
  if (lost && state_->options.sync_on_close) refuse_after_failure(path());
}

void arena::protect() {
  if (!writable() && state_->found != left_as::closed)
    posix::protect_read_only(state_->region.get_address(), state_->region.get_size());
}

}  // namespace dm
