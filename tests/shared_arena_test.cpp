// The shared arena: who is attached, who died, how it grows, what is refused. Real processes, really killed.
#include "deferred_map/sharing/shared_arena.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <set>
#include <thread>

#include "catch.hpp"
#include "deferred_map/format/index_layout.hpp"
#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/inspect.hpp"
#include "deferred_map/mapped_map.hpp"
#include "deferred_map/sharing/atomics.hpp"
#include "deferred_map/sharing/layout.hpp"
#include "deferred_map/sharing/place.hpp"
#include "files.hpp"
#include "processes.hpp"
#include "small_filesystem.hpp"
#include "temporary_directory.hpp"

namespace {

using dm::sharing::region;
using dm::sharing::shared_arena;
namespace word = dm::sharing::word;
using atomics = dm::sharing::processor_atomics;

struct quote {
  std::uint64_t bid;
  std::uint64_t ask;
  std::uint32_t volume;
};

template <class T>
dm::stored_type shared_type_of() {
  dm::stored_type type;
  type.slot = dm::sharing::shared_slot_layout(sizeof(T), alignof(T));
  type.description = dm::schema_of<T>();
  type.schema_version = type.description.version;
  return type;
}

const dm::stored_type quotes = shared_type_of<quote>();
const dm::arena_options small{.max_slots = 1000};

/// As an attachment that holds a handle: the slot names it, and the bit is set.
void hold(const region& memory, std::uint32_t index, std::uint32_t owner, std::uint32_t generation = 1) {
  atomics::store(memory.word(index), word::held(generation, owner), std::memory_order_release);
  atomics::fetch_or(memory.taken[index / 64], std::uint64_t{1} << (index % 64), std::memory_order_seq_cst);
}

void fill(const region& memory, std::uint32_t index, const quote& value, std::uint32_t generation = 1) {
  std::memcpy(memory.value(index), &value, sizeof value);
  atomics::fetch_or(memory.taken[index / 64], std::uint64_t{1} << (index % 64), std::memory_order_seq_cst);
  atomics::store(memory.word(index), word::occupied(generation, 0), std::memory_order_release);
}

quote value_at(const region& memory, std::uint32_t index) {
  quote value;
  std::memcpy(&value, memory.value(index), sizeof value);
  return value;
}

/// Gives back what the dead held.
void give_back(const region& memory, std::uint32_t dead) {
  for (std::uint32_t i = 0; i < *memory.slots_now; ++i) {
    const std::uint64_t w = atomics::load(memory.word(i), std::memory_order_acquire);
    if (!word::is_reserved(w) || word::owner_of(w) != dead) continue;
    atomics::fetch_and(memory.taken[i / 64], ~(std::uint64_t{1} << (i % 64)), std::memory_order_seq_cst);
    atomics::store(memory.word(i), word::vacant(word::generation_of(w) + 1), std::memory_order_release);
  }
}

void nobody_dead(const region&, std::uint32_t dead) {
  throw std::runtime_error("attachment " + std::to_string(dead) + " was taken for dead");
}

std::unique_ptr<shared_arena> create(const std::filesystem::path& path, const dm::arena_options& how = small) {
  return shared_arena::create(path, quotes, how);
}
std::unique_ptr<shared_arena> open(const std::filesystem::path& path, const dm::arena_options& how = {}) {
  return shared_arena::open(path, quotes, how, give_back);
}

dm::control_block control_of(const std::filesystem::path& path) {
  return read_at<dm::control_block>(path, read_at<dm::arena_header>(path, 0).control_offset);
}

/// As if the machine had been started again since.
void start_machine_again(const std::filesystem::path& path) {
  const std::size_t at = read_at<dm::arena_header>(path, 0).control_offset;
  write_at(path, at, control_of(path).boot_id ^ 0x1234'5678'9abc'def0u);
}

/// A child that attaches, holds slots [first, first + count), says so, and stays.
child_process holder(const std::filesystem::path& path, std::uint32_t first, std::uint32_t count) {
  return child_process([=](auto say) {
    const auto arena = open(path);
    arena->grow(first + count);
    for (std::uint32_t i = first; i < first + count; ++i) hold(arena->memory(), i, arena->attachment());
    say('r');
    stay();
  });
}

std::vector<std::filesystem::path> files_in(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) found.push_back(entry.path());
  return found;
}

void check(const std::string& said) {
  if (said.starts_with("unavailable"))
    WARN("not tested here, this machine allows no mounting: " << said);
  else
    CHECK(said == "");
}

/// What must hold of bitmap and hints where all slots are vacant.
std::string fault_of_fresh(const region& memory) {
  const std::uint64_t slots = *memory.slots_now;
  if (slots % 64 != 0 && slots != memory.slots_max) return "not in whole words";
  for (std::uint64_t at = 0; at < (slots + 63) / 64; ++at) {
    if ((memory.hints[at / 64] >> (at % 64) & 1) == 0) return "no hint at word " + std::to_string(at);
    const std::uint64_t behind = slots - at * 64 >= 64 ? 0 : ~std::uint64_t{0} << (slots - at * 64);
    if (memory.taken[at] != behind) return "other bits in word " + std::to_string(at);
  }
  for (std::uint64_t i = 0; i < slots; ++i)
    if (memory.word(static_cast<std::uint32_t>(i)) != 0) return "a slot that is not fresh";
  return {};
}

}  // namespace

// The file ------------------------------------------------------------------------------------------------------------

TEST_CASE("a shared arena's file is laid out as the format says") {
  temporary_directory directory;
  const auto path = directory / "m";
  const auto arena = create(path, {.max_slots = 100'000, .reserve_slots = 100});
  const auto header = read_at<dm::arena_header>(path, 0);
  CHECK(header.kind == 3);
  CHECK(header.version_offset == 0);
  CHECK(header.sequence_offset == 4);
  CHECK(header.value_offset == 8);
  CHECK(header.slot_stride_bytes == 32);
  CHECK(header.scratch_offset == header.control_offset + 4096);
  // 24 bytes of value behind a head of 32: a cache line each.
  CHECK(header.scratch_size_bytes == 128 * 128 + 1024 * 64);
  CHECK(header.index_offset == header.scratch_offset + header.scratch_size_bytes);
  const region& memory = arena->memory();
  const auto offset_of = [&](const void* at) {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(at) - (memory.slots - header.slots_offset));
  };
  CHECK(offset_of(memory.attachments) == header.scratch_offset);
  CHECK(offset_of(memory.scratch) == header.scratch_offset + 16384);
  CHECK(memory.scratch_stride_bytes == 64);
  CHECK(offset_of(memory.slots_now) == header.control_offset + 120);
  CHECK(offset_of(memory.taken) == header.index_offset);
  CHECK(offset_of(memory.hints) == header.index_offset + dm::index_levels(100'000).offset[1] * 8);
  CHECK(memory.value_words == 3);
  CHECK(memory.slots_max == 100'000);
  CHECK(*memory.slots_now == 128);
  CHECK(fault_of_fresh(memory) == "");
  struct stat status {};
  ::stat(path.c_str(), &status);
  CHECK((status.st_mode & 0777) == 0600);
  // Head, table, the scratch areas of one attachment, index and slots of 128: the rest is holes.
  CHECK(status.st_blocks * 512 < 64 << 10);
}

TEST_CASE("values are aligned in slots, and copied as whole words, whatever their size and alignment") {
  for (std::uint32_t align = 1; align <= 4096; align *= 2)
    for (std::uint32_t size : {1u, 7u, 8u, 9u, 24u, 4095u, 4096u, 100'000u}) {
      const dm::slot_layout slot = dm::sharing::shared_slot_layout(size, align);
      CHECK(slot.value_offset % align == 0);
      CHECK(slot.value_offset >= 8);
      CHECK(slot.value_offset % 8 == 0);
      CHECK(slot.stride_bytes % std::max(align, 8u) == 0);
      CHECK(slot.value_offset + dm::shared_layout::value_words(size) * 8 <= slot.stride_bytes);
      CHECK(dm::shared_layout::lease_stride_bytes(size) >= 32 + dm::shared_layout::value_words(size) * 8);
      CHECK(dm::shared_layout::lease_stride_bytes(size) % 64 == 0);
    }
}

TEST_CASE("a header of one kind with the layout of another is refused") {
  temporary_directory directory;
  const auto path = directory / "m";
  create(path)->detach();
  dm::mapped_map<quote>::create(directory / "mapped").close();
  const auto faulty = [&](const std::filesystem::path& file, auto change) {
    auto header = read_at<dm::arena_header>(file, 0);
    change(header);
    header.checksum = header.computed_checksum();
    const auto found = dm::check_header(std::as_bytes(std::span(&header, 1)));
    return found && found->code == dm::errc::damaged;
  };
  CHECK_FALSE(faulty(path, [](auto&) {}));
  CHECK(faulty(path, [](auto& h) { h.kind = 1; }));
  CHECK(faulty(path, [](auto& h) { h.kind = 2; }));
  CHECK(faulty(directory / "mapped", [](auto& h) { h.kind = 3; }));
  CHECK(faulty(path, [](auto& h) { h.sequence_offset = h.no_offset; }));
  CHECK(faulty(directory / "mapped", [](auto& h) { h.sequence_offset = 4; }));
  CHECK(faulty(path, [](auto& h) { h.value_offset = 12, h.value_align_bytes = 4; }));
  CHECK(faulty(path, [](auto& h) { h.scratch_size_bytes -= 4096; }));
}

TEST_CASE("an arena of another kind is refused, with the name of what opens it") {
  temporary_directory directory;
  create(directory / "shared")->detach();
  dm::mapped_map<quote>::create(directory / "mapped").close();
  const auto shared = error_of([&] { open(directory / "mapped"); });
  REQUIRE(shared);
  CHECK(shared->code() == dm::errc::wrong_kind);
  CHECK(std::string(shared->what()).find("Open it with dm::mapped_map") != std::string::npos);
  const auto mapped = error_of([&] { dm::mapped_map<quote>::open(directory / "shared"); });
  REQUIRE(mapped);
  CHECK(mapped->code() == dm::errc::wrong_kind);
  CHECK(std::string(mapped->what()).find("Open it with dm::shared_map") != std::string::npos);
  CHECK(code_of([&] { shared_arena::open_read_only(directory / "mapped", quotes, {}); }) == dm::errc::wrong_kind);
}

TEST_CASE("what cannot be opened says why, and stays as it is") {
  temporary_directory directory;
  const auto path = directory / "m";
  CHECK(code_of([&] { open(path); }) == dm::errc::not_found);
  CHECK(code_of([&] { open(""); }) == dm::errc::bad_options);
  CHECK(code_of([&] { create(directory / "no" / "m"); }) == dm::errc::not_found);
  CHECK(code_of([&] { create(path, {.max_slots = 10, .reserve_slots = 11}); }) == dm::errc::bad_options);
  create(path)->detach();
  CHECK(code_of([&] { create(path); }) == dm::errc::exists);
  const std::string whole = read_file(path);
  const auto other = shared_type_of<std::array<std::uint64_t, 4>>();
  CHECK(code_of([&] { shared_arena::open(path, other, {}, give_back); }) == dm::errc::type_mismatch);
  CHECK(read_file(path) == whole);

  const auto is_refused = [&](dm::errc code) {
    const std::string before = read_file(path);
    CHECK(code_of([&] { open(path); }) == code);
    CHECK(code_of([&] { shared_arena::open_read_only(path, quotes, {}); }) == code);
    CHECK(read_file(path) == before);
    write_file(path, whole);
  };
  write_file(path, "");
  is_refused(dm::errc::not_an_arena);
  write_file(path, whole.substr(0, 9000));
  is_refused(dm::errc::damaged);
  const std::size_t control = read_at<dm::arena_header>(path, 0).control_offset;
  const auto with = [&](auto change) {
    auto block = control_of(path);
    change(block);
    block.closed = block.synced = 0;
    write_at(path, control, block);
    is_refused(dm::errc::damaged);
  };
  with([](auto& c) { c.shared_slots = 64; });                                     // more than there is room for
  with([](auto& c) { c.shared_slots = c.slot_count = c.capacity = 64; });         // the file has not
  with([](auto& c) { c.shared_slots = c.slot_count = c.capacity = 1'000'000; });  // past the maximum
  auto block = control_of(path);
  block.shared_slots = 3;  // under marks that vouch for 0
  write_at(path, control, block);
  is_refused(dm::errc::damaged);
}

TEST_CASE("a shared arena is inspected without a finding, open and closed") {
  temporary_directory directory;
  const auto path = directory / "m";
  auto arena = create(path);
  arena->grow(100);
  fill(arena->memory(), 5, {1, 2, 3});
  const auto findings = [&] {
    std::string text;
    const auto report = dm::inspect::check(dm::inspect::arena_file::open(path));
    for (const auto& found : report.findings.listed())
      if (found.level != dm::inspect::severity::note) text += std::string(found.rule) + ": " + found.text + "\n";
    return text;
  };
  const auto summary = [&] { return dm::inspect::summarize(dm::inspect::arena_file::open(path)); };
  CHECK(findings() == "");
  CHECK(summary().kind == "shared_map");
  CHECK(summary().slot_count == *arena->memory().slots_now);
  CHECK_FALSE(summary().has_counts);
  CHECK(summary().left == dm::inspect::left_state::open);
  CHECK(summary().locks.holders.find("process " + std::to_string(::getpid())) != std::string::npos);
  arena->detach();
  CHECK(findings() == "");
  CHECK(summary().left == dm::inspect::left_state::closed);
  CHECK(summary().is_synced);
}

// Attaching and dying -------------------------------------------------------------------------------------------------

TEST_CASE("what one process stores another sees") {
  temporary_directory directory;
  const auto path = directory / "m";
  const auto arena = create(path);
  child_process child([&](auto say) {
    const auto theirs = open(path);
    theirs->grow(64);
    fill(theirs->memory(), 7, {10, 11, 12});
    theirs->detach();
    say('d');
  });
  REQUIRE(child.hear() == 'd');
  CHECK(child.wait() == 0);
  CHECK(*arena->memory().slots_now >= 64);
  CHECK(value_at(arena->memory(), 7).ask == 11);
  CHECK(arena->owners().size() == 1);
}

TEST_CASE("a process that is killed is dead at once, and what it held is given back") {
  temporary_directory directory;
  const auto path = directory / "m";
  const auto arena = create(path);
  CHECK(arena->attachment() == 0);
  auto child = holder(path, 10, 5);
  REQUIRE(child.hear() == 'r');
  CHECK(arena->is_alive(0));
  CHECK(arena->is_alive(1));
  CHECK_FALSE(arena->is_alive(2));
  CHECK_FALSE(arena->is_alive(1000));
  CHECK(arena->reap(nobody_dead) == 0);
  const auto owners = arena->owners();
  REQUIRE(owners.size() == 2);
  CHECK(owners[0].pid == static_cast<std::uint32_t>(::getpid()));
  CHECK(owners[1].pid == static_cast<std::uint32_t>(child.pid()));
  CHECK(owners[1].program == owners[0].program);
  CHECK(owners[1].alive);
  CHECK(owners[1].attached_unix_ns >= owners[0].attached_unix_ns);

  child.kill();
  CHECK_FALSE(arena->is_alive(1));
  CHECK(arena->is_alive(0));
  REQUIRE(arena->owners().size() == 2);
  CHECK_FALSE(arena->owners()[1].alive);
  std::vector<std::uint32_t> cleaned;
  CHECK(arena->reap([&](const region& memory, std::uint32_t dead) {
    cleaned.push_back(dead);
    give_back(memory, dead);
  }) == 1);
  CHECK(cleaned == std::vector<std::uint32_t>{1});
  CHECK(arena->owners().size() == 1);
  CHECK(word::is_vacant(arena->memory().word(12)));
  CHECK(arena->memory().taken[0] == 0);
  CHECK(arena->reap(nobody_dead) == 0);
}

// A mapping holds its open file description, and with it the locks, for as long as it is there; and while another process reads
// the command line of one that was killed (`ps` does), its memory outlives it, and outlived its parent's wait for it.
TEST_CASE("a process that is killed is dead at once, even while others read its command line") {
  temporary_directory directory(temporary_directory::in_memory());
  const auto path = directory / "m";
  const auto arena = create(path);
  int line[2];
  REQUIRE(::pipe(line) == 0);
  std::vector<child_process> readers;
  for (int i = 0; i < 3; ++i)
    readers.emplace_back([&](auto) {
      for (pid_t pid; ::read(line[0], &pid, sizeof pid) == sizeof pid;) {
        const std::string command_line = "/proc/" + std::to_string(pid) + "/cmdline";
        for (char some[64], read = 1; read;) {
          const int file = ::open(command_line.c_str(), O_RDONLY);
          read = ::read(file, some, sizeof some) > 0;
          ::close(file);
        }
      }
    });
  int alive = 0;
  for (int round = 0; round < 100; ++round) {
    auto child = holder(path, 0, 1);
    REQUIRE(child.hear() == 'r');
    for (std::size_t i = 0; i < readers.size(); ++i) {
      const pid_t pid = child.pid();
      REQUIRE(::write(line[1], &pid, sizeof pid) == sizeof pid);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(round * 10));
    child.kill();
    alive += arena->is_alive(1);
    while (arena->is_alive(1)) std::this_thread::yield();
    CHECK(arena->reap(give_back) == 1);
  }
  CHECK(alive == 0);
  for (const int end : line) ::close(end);
}

TEST_CASE("who attaches reaps the dead first, and has their entries only then") {
  temporary_directory directory;
  const auto path = directory / "m";
  create(path)->detach();
  for (const bool with_company : {false, true}) {
    const auto company = with_company ? open(path) : nullptr;
    auto one = holder(path, 0, 3);
    auto two = holder(path, 3, 3);
    REQUIRE(one.hear() == 'r');
    REQUIRE(two.hear() == 'r');
    one.kill();
    two.kill();
    // A cleaner that fails: nobody gets their entries, and they are still there for the next.
    CHECK_THROWS_AS(shared_arena::open(path, quotes, {}, nobody_dead), std::runtime_error);
    const auto arena = open(path);
    CHECK(arena->reaped_at_open() == 2);
    CHECK(arena->had_company() == with_company);
    CHECK(arena->found() == (with_company ? dm::left_as::closed : dm::left_as::killed));
    for (std::uint32_t i = 0; i < 6; ++i) CHECK(word::is_vacant(arena->memory().word(i)));
    CHECK(arena->owners().size() == (with_company ? 2 : 1));
    arena->detach();
    if (company) company->detach();
    CHECK(control_of(path).closed != 0);
  }
}

TEST_CASE("a reaper that dies at it is followed by the next, who starts again") {
  temporary_directory directory;
  const auto path = directory / "m";
  create(path)->detach();
  auto first = holder(path, 0, 4);
  REQUIRE(first.hear() == 'r');
  first.kill();
  for (int round = 0; round < 3; ++round) {
    child_process reaper([&](auto) {
      shared_arena::open(path, quotes, {}, [](const region& memory, std::uint32_t) {
        atomics::store(memory.word(0), word::vacant(2), std::memory_order_release);  // some of it
        ::raise(SIGKILL);
      });
    });
    CHECK(reaper.wait() == -SIGKILL);
  }
  const auto arena = open(path);
  CHECK(arena->reaped_at_open() == 1);
  for (std::uint32_t i = 0; i < 4; ++i) CHECK(word::is_vacant(arena->memory().word(i)));
}

TEST_CASE("a forked child does not keep its parent's attachment alive, and cannot spoil it") {
  temporary_directory directory;
  const auto path = directory / "m";
  const auto arena = create(path);
  // The parent is killed; its child lives on, until this test lets go of the other end.
  int lifeline[2];
  REQUIRE(::pipe(lifeline) == 0);
  child_process parent([&](auto say) {
    ::close(lifeline[1]);
    auto theirs = open(path);
    if (::fork() == 0) {
      if (theirs->is_ours()) ::_exit(1);
      say('c');
      char never;
      (void)!::read(lifeline[0], &never, 1);
      ::_exit(0);
    }
    say(static_cast<char>('0' + theirs->attachment()));
    stay();
  });
  const std::set<char> said{parent.hear(), parent.hear()};
  CHECK(said == std::set<char>{'1', 'c'});
  CHECK(arena->is_alive(1));
  parent.kill();
  CHECK_FALSE(arena->is_alive(1));
  CHECK(arena->reap(give_back) == 1);
  ::close(lifeline[0]);
  ::close(lifeline[1]);

  // The child goes, with its copies of the objects: nothing happens to the parent's.
  for (const bool detaches : {false, true}) {
    child_process child([&](auto) {
      auto copy = std::unique_ptr<shared_arena>(arena.get());
      if (detaches) copy->detach();
      copy.reset();
    });
    CHECK(child.wait() == 0);
    CHECK(arena->is_alive(0));
    CHECK(arena->owners().size() == 1);
    const auto next = open(path);
    CHECK(next->reaped_at_open() == 0);
    next->detach();
  }

  // The memory is not there at all in a child.
  child_process curious([&](auto) {
    ::signal(SIGSEGV, SIG_DFL);
    (void)*const_cast<volatile std::uint64_t*>(arena->memory().slots_now);
  });
  CHECK(curious.wait() == -SIGSEGV);
}

TEST_CASE("there are 128 attachments, the next is refused with a reason, and the dead leave room") {
  temporary_directory directory;
  const auto path = directory / "m";
  create(path)->detach();
  {
    child_process crowd([&](auto say) {
      std::vector<std::unique_ptr<shared_arena>> all;
      for (int i = 0; i < 128; ++i) all.push_back(open(path));
      say('r');
      stay();
    });
    REQUIRE(crowd.hear() == 'r');
    const auto error = error_of([&] { open(path); });
    REQUIRE(error);
    CHECK(error->code() == dm::errc::full);
    CHECK(std::string(error->what()).find("128 maps have it open") != std::string::npos);
    CHECK(std::string(error->what()).find("open_read_only") != std::string::npos);
    CHECK(shared_arena::open_read_only(path, quotes, {})->owners().size() == 128);
  }
  // All 128 died at once.
  std::vector<std::unique_ptr<shared_arena>> all;
  all.push_back(open(path));
  CHECK(all.back()->reaped_at_open() == 128);
  std::set<std::uint32_t> ids{all.back()->attachment()};
  while (all.size() < 128) {
    all.push_back(open(path));
    ids.insert(all.back()->attachment());
  }
  CHECK(ids.size() == 128);
  CHECK(code_of([&] { open(path); }) == dm::errc::full);
  all[77]->detach();
  CHECK(open(path)->attachment() == 77);
}

// Killed anywhere -----------------------------------------------------------------------------------------------------

TEST_CASE("a creator killed at any system call leaves nothing, or all of it") {
  temporary_directory directory;
  int killed = 0;
  int complete = 0;
  for (int stop = 1;; ++stop) {
    const auto path = directory / "m";
    const traced how = killed_at_stop(stop, [&] { create(path, {.max_slots = 1000, .reserve_slots = 70}); });
    if (how == traced::unavailable) {
      WARN("not tested here, this machine allows no tracing");
      return;
    }
    const auto files = files_in(directory.path());
    REQUIRE(files.size() <= 1);
    if (!files.empty()) {
      REQUIRE(files[0] == path);
      const auto arena = open(path);
      REQUIRE(*arena->memory().slots_now == 128);
      REQUIRE(fault_of_fresh(arena->memory()) == "");
      REQUIRE(arena->owners().size() == 1);
      ++complete;
    } else {
      create(path)->detach();
    }
    std::filesystem::remove(path);
    if (how == traced::finished) break;
    ++killed;
  }
  CHECK(killed > 40);
  CHECK(complete > 4);  // killed between getting its name and being done
  CHECK(complete < killed);
}

TEST_CASE("whoever is killed at any system call of attaching, growing and detaching, others attach, grow and detach") {
  temporary_directory directory;
  const auto path = directory / "m";
  for (const bool with_company : {false, true}) {
    int killed = 0;
    for (int stop = 1;; ++stop) {
      create(path, {.max_slots = 100'000})->detach();
      const auto company = with_company ? open(path) : nullptr;
      const traced how = killed_at_stop(stop, [&] {
        const auto arena = open(path);
        arena->grow(70);
        hold(arena->memory(), 3, arena->attachment());
        give_back(arena->memory(), arena->attachment());
        arena->detach();
      });
      if (how == traced::unavailable) return;
      const auto next = open(path);
      const region& memory = next->memory();
      const std::uint64_t before = *memory.slots_now;
      REQUIRE(before % 64 == 0);
      REQUIRE((before == 0 || before >= 70));
      REQUIRE(next->grow(before + 1));
      REQUIRE(*memory.slots_now > before);
      std::uint64_t not_vacant = 0;
      for (std::uint64_t i = 0; i < *memory.slots_now; ++i) {
        not_vacant += !word::is_vacant(memory.word(static_cast<std::uint32_t>(i)));
        *memory.value(static_cast<std::uint32_t>(i)) = 1;  // has a block, or this is SIGBUS
      }
      REQUIRE(not_vacant == 0);
      for (std::uint64_t at = 0; at < *memory.slots_now / 64; ++at) {
        REQUIRE(memory.taken[at] == 0);
        REQUIRE((memory.hints[at / 64] >> (at % 64) & 1) == 1);
      }
      REQUIRE(next->owners().size() == (with_company ? 2 : 1));
      next->detach();
      REQUIRE((control_of(path).closed != 0) == !with_company);
      if (company) company->detach();
      REQUIRE(control_of(path).closed != 0);
      std::filesystem::remove(path);
      if (how == traced::finished) break;
      ++killed;
    }
    CHECK(killed > 40);
  }
}

// Growing -------------------------------------------------------------------------------------------------------------

TEST_CASE("growth ends at slots_max, and the bits behind the last slot are taken") {
  temporary_directory directory;
  const auto arena = create(directory / "m", {.max_slots = 100});
  CHECK(*arena->memory().slots_now == 0);
  CHECK(arena->grow(0));
  CHECK(*arena->memory().slots_now == 0);
  CHECK(arena->grow(1));
  CHECK(*arena->memory().slots_now == 100);
  CHECK(arena->memory().taken[1] == ~std::uint64_t{0} << 36);
  CHECK(fault_of_fresh(arena->memory()) == "");
  CHECK(arena->grow(100));
  CHECK_FALSE(arena->grow(101));
}

TEST_CASE("many processes and threads that grow at once all have what they asked for") {
  temporary_directory directory;
  const auto path = directory / "m";
  const auto arena = create(path, {.max_slots = 300'000});
  const auto grow_in_steps = [](shared_arena& mine, std::uint64_t step) {
    for (std::uint64_t slots = step; slots <= 300'000; slots += step) {
      if (!mine.grow(slots) || *mine.memory().slots_now < slots) ::abort();
      // It has blocks, or this is SIGBUS.
      const auto last = static_cast<std::uint32_t>(slots - 1);
      atomics::fetch_or(mine.memory().value(last)[0], 1, std::memory_order_relaxed);
    }
  };
  {
    std::vector<child_process> children;
    for (std::uint64_t i = 0; i < 4; ++i)
      children.emplace_back([&](auto) {
        const auto mine = open(path);
        std::thread beside([&] { grow_in_steps(*mine, 1777 + i); });
        grow_in_steps(*mine, 997 + i);
        beside.join();
        mine->detach();
      });
    for (child_process& child : children) CHECK(child.wait() == 0);
  }
  CHECK(arena->grow(300'000));
  CHECK(*arena->memory().slots_now == 300'000);
  CHECK(fault_of_fresh(arena->memory()) == "");
  CHECK(control_of(path).slot_count == 300'000);
  CHECK(control_of(path).capacity == 300'000);
}

TEST_CASE("a full disk is errc::full to who grows, everybody goes on, and growth too once there is room") {
  temporary_directory directory;
  check(in_own_mounts([&] {
    mount_tmpfs(directory.path(), "size=4m");
    const auto path = directory / "m";
    {
      std::ofstream ballast(directory / "ballast");
      ballast << std::string(1 << 20, 'x');
    }
    const auto arena = create(path, {.max_slots = 10'000'000});
    const auto other = open(path);
    const auto until_full = [&] {
      for (;;) {
        const std::uint64_t slots = *arena->memory().slots_now;
        const auto error = error_of([&] { arena->grow(slots + 1); });
        if (!error) {
          for (std::uint64_t i = slots; i < *arena->memory().slots_now; ++i)
            fill(other->memory(), static_cast<std::uint32_t>(i), {i, i, 0});
          continue;
        }
        expect(error->code() == dm::errc::full, error->what());
        expect(*arena->memory().slots_now == slots, "there are more slots all the same");
        return slots;
      }
    };
    const std::uint64_t at_first = until_full();
    expect(at_first > 50'000, "there was room for more: " + std::to_string(at_first));
    expect(code_of([&] { other->grow(at_first + 1); }) == dm::errc::full, "the other grew");
    for (std::uint64_t i = 0; i < at_first; ++i)
      expect(value_at(arena->memory(), static_cast<std::uint32_t>(i)).bid == i, "a value has changed");
    std::filesystem::remove(directory / "ballast");
    expect(until_full() > at_first + 20'000, "freed room was not used");
    // Nor is there any for who would be a new attachment; for those that look there is.
    std::ofstream more(directory / "ballast");
    more << std::string(4 << 20, 'x');
    more.close();
    std::vector<std::unique_ptr<shared_arena>> more_of_them;
    const auto error = error_of([&] {
      while (more_of_them.size() < 100) more_of_them.push_back(open(path));
    });
    expect(error && error->code() == dm::errc::full, error ? error->what() : "attached without room to update in");
    more_of_them.clear();
    expect(shared_arena::open_read_only(path, quotes, {})->owners().size() >= 2, "cannot be looked at");
    other->detach();
    arena->detach();
  }));
}

// Looking only --------------------------------------------------------------------------------------------------------

TEST_CASE("a read-only opener sees growth and values, is nobody's hindrance, and cannot store") {
  temporary_directory directory;
  const auto path = directory / "m";
  auto arena = create(path, {.max_slots = 10'000, .permissions = 0644});
  const auto reader = shared_arena::open_read_only(path, quotes, {});
  CHECK_FALSE(reader->writable());
  CHECK(reader->attachment() == shared_arena::no_attachment);
  CHECK(reader->had_company());
  CHECK(reader->is_alive(0));
  CHECK(reader->reap(nobody_dead) == 0);
  arena->grow(5000);
  fill(arena->memory(), 4999, {7, 8, 9});
  CHECK(*reader->memory().slots_now >= 5000);
  CHECK(value_at(reader->memory(), 4999).ask == 8);
  CHECK(reader->owners().size() == 1);
  child_process writer([&](auto) {
    ::signal(SIGSEGV, SIG_DFL);
    const auto mine = shared_arena::open_read_only(path, quotes, {});
    *mine->memory().value(1) = 1;
  });
  CHECK(writer.wait() == -SIGSEGV);
  arena->detach();  // is the last one, for the reader does not count
  CHECK(control_of(path).closed != 0);
  CHECK(value_at(reader->memory(), 4999).ask == 8);
  reader->detach();
}

TEST_CASE("a read-only opener needs only the right to read, and a read-only file system is told apart") {
  temporary_directory directory;
  std::filesystem::permissions(directory.path(), std::filesystem::perms(0755));
  check(in_own_mounts([&] {
    mount_tmpfs(directory.path(), "size=8m,mode=755");
    const auto path = directory / "m";
    auto arena = create(path, {.max_slots = 1000, .permissions = 0644});
    child_process stranger([&](auto) {
      if (::geteuid() == 0) expect(::setegid(65534) == 0 && ::seteuid(65534) == 0, "becoming nobody");
      expect(shared_arena::open_read_only(path, quotes, {})->owners().size() == 1, "other owners");
      expect(code_of([&] { open(path); }) == std::errc::permission_denied || ::geteuid() != 65534, "attached");
    });
    expect(stranger.wait() == 0, "a stranger could not look");
    arena->detach();
    arena.reset();  // a mapping that may be written to is in the way of what follows
    mount_tmpfs(directory.path(), "size=8m", MS_REMOUNT | MS_RDONLY);
    expect(code_of([&] { open(path); }) == dm::errc::read_only, "attached");
    expect(shared_arena::open_read_only(path, quotes, {}) != nullptr, "cannot be looked at");
  }));
}

// How it was left -----------------------------------------------------------------------------------------------------

TEST_CASE("the last to detach marks the file, those before do not") {
  temporary_directory directory;
  const auto path = directory / "m";
  auto one = create(path);
  auto two = open(path);
  CHECK(control_of(path).closed == 0);
  CHECK(control_of(path).synced == 0);
  one->detach();
  CHECK(control_of(path).closed == 0);
  one.reset();
  two->grow(64);
  two->detach();
  CHECK(control_of(path).closed == control_of(path).checksum());
  CHECK(control_of(path).synced == control_of(path).checksum());
  two = open(path, {.sync_on_close = false});
  CHECK(two->found() == dm::left_as::closed);
  two->detach();
  CHECK(control_of(path).closed != 0);
  CHECK(control_of(path).synced == 0);
  // With a dead one left unreaped nothing is vouched for.
  two = open(path);
  auto child = holder(path, 0, 1);
  REQUIRE(child.hear() == 'r');
  child.kill();
  two->detach();
  CHECK(control_of(path).closed == 0);
  CHECK(open(path)->reaped_at_open() == 1);
}

TEST_CASE("after a stop of the machine only what was closed and synced is opened without salvage") {
  temporary_directory directory;
  const auto path = directory / "m";
  auto arena = create(path);
  arena->grow(100);
  fill(arena->memory(), 8, {4, 5, 6});
  arena->detach();
  arena.reset();
  start_machine_again(path);
  CHECK(shared_arena::open_read_only(path, quotes, {})->found() == dm::left_as::closed);
  arena = open(path);
  CHECK(arena->found() == dm::left_as::closed);
  CHECK(control_of(path).synced == 0);
  CHECK(value_at(arena->memory(), 8).ask == 5);

  // Marks are of no account while somebody is attached.
  start_machine_again(path);
  CHECK(open(path)->had_company());
  CHECK(shared_arena::open_read_only(path, quotes, {})->had_company());

  arena.reset();  // as if killed
  const std::string before = read_file(path);
  const auto refused = error_of([&] { open(path); });
  REQUIRE(refused);
  CHECK(refused->code() == dm::errc::unclean_after_reboot);
  CHECK(std::string(refused->what()).find("salvage") != std::string::npos);
  CHECK(code_of([&] { shared_arena::open_read_only(path, quotes, {}); }) == dm::errc::unclean_after_reboot);
  CHECK(read_file(path) == before);
  CHECK(value_at(shared_arena::open_read_only(path, quotes, {.salvage = true})->memory(), 8).ask == 5);

  arena = open(path, {.salvage = true});
  CHECK(arena->found() == dm::left_as::machine_stopped);
  CHECK(value_at(arena->memory(), 8).ask == 5);
  CHECK(arena->owners().size() == 1);
  arena->detach();
  CHECK(open(path)->found() == dm::left_as::closed);

  arena = open(path, {.sync_on_close = false});
  arena->detach();
  start_machine_again(path);
  CHECK(code_of([&] { open(path); }) == dm::errc::unclean_after_reboot);
}

TEST_CASE("salvage settles every slot, and one that was killed at any system call is done again") {
  temporary_directory directory;
  const auto path = directory / "m";
  auto arena = create(path, {.max_slots = 200});
  arena->grow(200);
  const region* memory = &arena->memory();
  fill(*memory, 0, {1, 1, 1});
  hold(*memory, 1, 5, 9);
  memory->word(2) = word::cached(3, 6);
  memory->word(3) = word::make(dm::version::occupied(0), 0);  // a life that never was
  memory->word(4) = word::make(dm::version::vacant(6), 77);   // vacant, with an owner
  memory->word(5) = word::vacant(dm::version::retired_generation);
  memory->word(6) = word::held(dm::version::last_generation, 127);  // has no next life
  memory->word(7) = word::held(2, 128);                             // of nobody there can be
  const quote newer{20, 21, 22};
  for (const std::uint32_t index : {8u, 9u}) {
    fill(*memory, index, {10, 11, 12}, 4);
    memory->word(index) = word::updating(4, 17, 1'000'001);
  }
  auto& lease = memory->lease(17);
  lease.ticket = (1u << 22) + 1'000'001;
  lease.target = 8;
  lease.changes = 99;
  std::memcpy(memory->lease_value(17), &newer, sizeof newer);
  memory->taken[0] = 0xaaaa'aaaa'aaaa'aaaau;
  memory->taken[3] = 0;
  memory->hints[0] = 0;
  arena.reset();
  start_machine_again(path);

  const std::string damaged = read_file(path);
  for (int stop = 1;; ++stop) {
    const traced how = killed_at_stop(stop, [&] { open(path, {.salvage = true}); });
    const bool refused =
        code_of([&] { shared_arena::open_read_only(path, quotes, {}); }) == dm::errc::unclean_after_reboot;
    arena = open(path, {.salvage = true});
    memory = &arena->memory();
    if (how == traced::unavailable || (stop == 1 && refused)) {
      const auto& counts = arena->salvaged();
      REQUIRE(counts.slots_examined == 200);
      REQUIRE(counts.reserved_given_back == 3);
      REQUIRE(counts.impossible_mended == 3);
      REQUIRE(counts.updates_finished == 1);
    }
    REQUIRE(dm::sharing::first_fault(*memory) == std::nullopt);
    REQUIRE(memory->word(0) == word::occupied(1, 0));
    REQUIRE(memory->word(1) == word::vacant(10));
    REQUIRE(memory->word(2) == word::vacant(4));
    REQUIRE(memory->word(3) == word::vacant(1));
    REQUIRE(memory->word(4) == word::vacant(6));
    REQUIRE(memory->word(5) == word::vacant(dm::version::retired_generation));
    REQUIRE(memory->word(6) == word::vacant(dm::version::retired_generation));
    REQUIRE(memory->word(7) == word::vacant(3));
    REQUIRE(memory->word(8) == word::occupied(4, 100));
    REQUIRE(value_at(*memory, 8).bid == 20);
    REQUIRE(memory->word(9) == word::occupied(4, 0));
    REQUIRE(value_at(*memory, 9).bid == 10);
    REQUIRE(memory->taken[0] == 0b11'0110'0001);
    REQUIRE(memory->taken[3] == ~std::uint64_t{0} << 8);
    REQUIRE(memory->hints[0] == 0b1111);
    arena->detach();
    arena.reset();
    if (how != traced::killed) break;
    write_file(path, damaged);
  }
}

TEST_CASE("verify refuses a file whose bitmap or words are not what they must be, and leaves it as it is") {
  temporary_directory directory;
  const auto path = directory / "m";
  const auto header = [&] { return read_at<dm::arena_header>(path, 0); };
  auto arena = create(path);
  arena->grow(100);
  fill(arena->memory(), 3, {1, 2, 3});
  arena->detach();
  arena.reset();
  open(path, {.verify = true})->detach();
  const std::string sound = read_file(path);
  const auto is_refused = [&](std::size_t offset, std::uint64_t planted, const std::string& part) {
    write_at(path, offset, planted);
    const std::string before = read_file(path);
    const auto error = error_of([&] { open(path, {.verify = true}); });
    REQUIRE(error);
    CHECK(error->code() == dm::errc::damaged);
    CHECK(std::string(error->what()).find(part) != std::string::npos);
    CHECK(read_file(path) == before);
    write_file(path, sound);
  };
  is_refused(header().index_offset, 0, "slot 3 is taken");
  is_refused(header().index_offset, 0b1100, "slot 2 is vacant");
  is_refused(header().slots_offset, word::held(1, 4), "attachment 4");
  is_refused(header().slots_offset, word::make(dm::version::occupied(0), 0), "slot 0");
}

// Segments ------------------------------------------------------------------------------------------------------------

TEST_CASE("segments are listed with who is attached, and removed by name") {
  if (!std::filesystem::is_directory("/dev/shm")) {
    WARN("not tested here, there is no /dev/shm");
    return;
  }
  const std::string name = "test." + std::to_string(::getpid());
  const dm::sharing::place place = dm::shm(name);
  CHECK(place.path() == "/dev/shm/deferred-map." + name);
  const auto listed = [&]() -> std::optional<dm::shm_info> {
    for (const dm::shm_info& info : dm::shm::list())
      if (info.name == name) return info;
    return std::nullopt;
  };
  CHECK_FALSE(listed());
  CHECK_FALSE(dm::shm::remove(name));
  auto arena = create(place.path(), {.max_slots = 1000});
  arena->grow(64);
  {
    auto child = holder(place.path(), 0, 1);
    REQUIRE(child.hear() == 'r');
    REQUIRE(listed());
    CHECK(listed()->attached == 2);
  }
  const auto info = listed();
  REQUIRE(info);
  CHECK(info->attached == 1);
  CHECK(info->kind == "shared_map");
  CHECK(info->type_name.find("quote") != std::string::npos);
  CHECK(info->slot_count == *arena->memory().slots_now);
  CHECK(info->size_bytes > 0);
  CHECK(info->allocated_bytes > 0);
  CHECK(info->fault == "");

  // Who has it open goes on; a new one of that name is another.
  CHECK(dm::shm::remove(name));
  CHECK_FALSE(listed());
  CHECK(code_of([&] { open(place.path()); }) == dm::errc::not_found);
  fill(arena->memory(), 3, {1, 2, 3});
  auto another = create(place.path());
  CHECK(*another->memory().slots_now == 0);
  arena->detach();
  another->detach();
  write_file(place.path(), "not an arena at all");
  REQUIRE(listed());
  CHECK(listed()->fault.find("no arena") != std::string::npos);
  CHECK(dm::shm::remove(name));
}

TEST_CASE("a segment's name cannot lead out of its directory") {
  for (const std::string& bad : {std::string(), std::string("a/b"), std::string("/quotes"), std::string("../x"),
                                 std::string("a\nb"), std::string("a\0b", 3), std::string(201, 'x')}) {
    CHECK(code_of([&] { (void)dm::shm(bad); }) == dm::errc::bad_options);
    CHECK(code_of([&] { dm::shm::remove(bad); }) == dm::errc::bad_options);
  }
  CHECK(dm::shm(std::string(200, 'x')).path().filename().string().size() <= 255);
  CHECK(dm::sharing::place("some/path").path() == "some/path");
}
