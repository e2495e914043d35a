#include "deferred_map/maps/one_thread.hpp"

#include <cstdio>
#include <cstdlib>

namespace dm::detail {

void abort_two_threads(const std::filesystem::path& arena) noexcept {
  std::fprintf(stderr,
               "%s: two threads are changing this map at once, which spoils it. Such a map is for one thread at a "
               "time: guard it with a mutex. (Found by a check that NDEBUG or DM_CHECK_THREADS=0 turns off)\n",
               arena.c_str());
  std::abort();
}

void abort_forked(const std::filesystem::path& arena) noexcept {
  std::fprintf(stderr,
               "%s: this map was opened before fork() and is being changed by the child. It is the parent's: the child "
               "can only close it, and open it again when the parent has closed it too. (Found by a check that NDEBUG "
               "or DM_CHECK_THREADS=0 turns off)\n",
               arena.c_str());
  std::abort();
}

}  // namespace dm::detail
