// Makes the golden files of shared maps: make_shared DIRECTORY. Run by hand, once; existing files are never replaced.
//
// closed.arena: closed. killed.arena: two processes had it open and both were killed, one with a handle out, slots put by
// and in the midst of an update, by which 11 has become 1111; the other with a handle out. The one thing changed
// by hand is the boot id, which becomes one that no machine has.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "../../files.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "history.hpp"

namespace {

using namespace golden;
constexpr dm::arena_options how{.max_slots = 512};

/// Runs work() in a child, which kills itself in the midst of it.
template <class F>
void in_a_child(F work) {
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::_exit(1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSIGNALED(status)) throw std::runtime_error("a child was not killed");
}

void begin_an_update(const std::filesystem::path& path, dm::key k) {
  const auto attached = dm::sharing::attachment::open(path, dm::detail::shared_type_of<shared_value>(), {});
  auto on = attached->on();
  shared_value value{};
  const auto before = on.read(k.index(), k.generation(), &value, sizeof value);
  value.number = 1111;
  const dm::sharing::attachment::lease scratch(*attached);
  (void)on.begin_update(k.index(), *before, scratch.number(), &value, sizeof value);
  ::kill(::getpid(), SIGKILL);
}

void set_boot_id(const std::filesystem::path& path) {
  const auto header = read_at<dm::arena_header>(path, 0);
  write_at(path, header.control_offset + offsetof(dm::control_block, boot_id), std::uint64_t{0x6e65'646c'6f67});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 16;
  try {
    const std::filesystem::path closed = std::filesystem::path(argv[1]) / "closed.arena";
    {
      shared map = shared::create(closed, how);
      happen(map);
      map.close();
    }
    set_boot_id(closed);
    const std::filesystem::path killed = std::filesystem::path(argv[1]) / "killed.arena";
    in_a_child([&] {
      shared map = shared::create(killed, how);
      const shared_keys keys = happen(map);
      (void)map.allocate_handle();
      in_a_child([&] {
        shared other = shared::open(killed);
        (void)other.allocate_handle();
        other.erase(other.insert({55, "five"}));
        begin_an_update(killed, keys.one);
      });
      ::kill(::getpid(), SIGKILL);
    });
    set_boot_id(killed);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "make_shared: %s\n", e.what());
    return 8;
  }
  return 0;
}
