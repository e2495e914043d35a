// Makes the golden files of durable maps: make_durable DIRECTORY. Run by hand, once; existing files are never replaced.
//
// closed: closed after the four commits of history.hpp. killed: its process was killed after them, so that its journal has them
// and its arena none, with a change that was not committed. two-generations: killed when it had committed counts until its
// journal had two generations. Two things are changed by hand: the boot id, which becomes one that no machine has; and the
// zeros behind the last record of a journal, which are cut off.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "../../files.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/format/journal.hpp"
#include "history.hpp"

namespace {

using namespace golden;
using std::filesystem::path;

path journal_of(const path& arena) { return arena.string() + "-journal"; }

/// Runs work() in a child, which kills itself behind it.
template <class F>
void in_a_child(F work) {
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSIGNALED(status)) throw std::runtime_error("a child was not killed");
}

void set_boot_id(const path& arena) {
  const auto header = read_at<dm::arena_header>(arena, 0);
  write_at(arena, header.control_offset + offsetof(dm::control_block, boot_id), std::uint64_t{0x6e65'646c'6f67});
}

void cut_zeros(const path& journal) {
  const std::string bytes = read_file(journal);
  std::filesystem::resize_file(journal, bytes.find_last_not_of('\0') / 4096 * 4096 + 4096);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 16;
  try {
    const path directory = argv[1];
    const path closed = directory / "closed.arena", killed = directory / "killed.arena",
               two = directory / "two-generations.arena";
    {
      durable map = durable::create(closed, durable_how);
      happen(map);
      map.close();
    }
    in_a_child([&] {
      static durable map = durable::create(killed, {.max_slots = 64});
      happen(map);
      map.insert({6, {}, "six"});
    });
    in_a_child([&] {
      static durable map = durable::create(two, durable_how);
      happen(map);
      const dm::key count = map.insert({0, {}, "count"});
      const auto has = [&](std::size_t place) { return read_at<std::uint64_t>(journal_of(two), place) != 0; };
      do {
        map.update(count, [](durable_value& v) { ++v.number; });
        map.commit();
      } while (!has(0) || !has(4096));
      map.update(count, [](durable_value& v) { ++v.number; });
      map.commit();
    });
    for (const path& arena : {closed, killed, two}) {
      set_boot_id(arena);
      std::filesystem::permissions(arena, std::filesystem::perms(0644));
      if (arena == closed) continue;
      cut_zeros(journal_of(arena));
      std::filesystem::permissions(journal_of(arena), std::filesystem::perms(0644));
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "make_durable: %s\n", e.what());
    return 8;
  }
  return 0;
}
