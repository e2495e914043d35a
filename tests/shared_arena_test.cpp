// The shared arena: its file, who looks only, how it is left and found, segments. Real processes, really killed.
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <set>
#include <thread>

#include "catch.hpp"
#include "quotes_arena.hpp"

using namespace quotes_arena;

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
      const dm::slot_layout slot = dm::slot_layout_of(dm::arena_kind::shared, size, align);
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
