// Attachments to a shared arena: who lives, who died, who grows it. Real processes, killed at every system call.
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
