// Segments that nobody uses any more: which they are, and that none is taken from under somebody who uses it.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>

#include "deferred_map/format/shared_layout.hpp"
#include "deferred_map/shared_map.hpp"
#include "inspect_tool.hpp"
#include "processes.hpp"

namespace {

using json = nlohmann::json;
using map = dm::shared_map<std::uint64_t>;
using removal = dm::shm::removal;

/// A segment of this test's own; gone when the test is.
class own_segment {
 public:
  explicit own_segment(const std::string& name) : segment_("segments-test." + std::to_string(::getpid()) + "." + name) {
    dm::shm::remove(segment_.name());
  }
  own_segment(const own_segment&) = delete;
  own_segment& operator=(const own_segment&) = delete;
  ~own_segment() {
    std::error_code unseen;
    std::filesystem::remove(segment_.path(), unseen);
  }

  const std::string& name() const { return segment_.name(); }
  dm::place place() const { return segment_; }
  std::filesystem::path path() const { return segment_.path(); }

 private:
  dm::shm segment_;
};

bool have_segments() {
  if (std::filesystem::is_directory("/dev/shm")) return true;
  WARN("unavailable: there is no /dev/shm");
  return false;
}

std::optional<dm::shm_info> listed(const std::string& name) {
  for (const dm::shm_info& info : dm::shm::list())
    if (info.name == name) return info;
  return std::nullopt;
}

std::int64_t now_unix_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

ino_t inode_at(const std::filesystem::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

child_process holder(const own_segment& segment) {
  return child_process([&](const child_process::mouth& say) {
    map m = map::open(segment.place());
    const auto handle = m.allocate_handle();
    say(handle ? 'r' : '!');
    stay();
  });
}

json gc(const temporary_directory& directory, const std::string& arguments, int code) {
  const auto result = inspect_tool::run(directory, "gc --format json " + arguments);
  INFO(result.errors);
  CHECK(result.code == code);
  return json::parse(result.out);
}

}  // namespace

TEST_CASE("a segment is unused when nobody has it open for writing, however it was left") {
  if (!have_segments()) return;
  const own_segment segment("unused");
  CHECK(dm::shm::remove_unused(segment.name()) == removal::none);
  const std::int64_t before = now_unix_ns();
  {
    map m = map::create(segment.place(), {.max_slots = 1000});
    m.insert(7);
    REQUIRE(listed(segment.name()));
    CHECK(listed(segment.name())->attached == 1);
    CHECK(dm::shm::remove_unused(segment.name()) == removal::in_use);
    {
      child_process child = holder(segment);
      REQUIRE(child.hear() == 'r');
      CHECK(listed(segment.name())->attached == 2);
    }
    CHECK(listed(segment.name())->attached == 1);
    CHECK(listed(segment.name())->dead == 1);
    CHECK(listed(segment.name())->last_opened_unix_ns >= before);
    CHECK(m.reap() == 1);
    CHECK(listed(segment.name())->dead == 0);
  }
  { REQUIRE(holder(segment).hear() == 'r'); }
  const std::int64_t after = now_unix_ns();
  REQUIRE(listed(segment.name()));
  CHECK(listed(segment.name())->attached == 0);
  CHECK(listed(segment.name())->dead == 1);
  CHECK(listed(segment.name())->last_opened_unix_ns >= before);
  CHECK(listed(segment.name())->last_opened_unix_ns <= after);
  CHECK(dm::shm::remove_unused(segment.name(), before) == removal::used_since);
  // Who only reads is not seen, and goes on.
  const map reading = map::open_read_only(segment.place());
  CHECK(reading.size() == 1);
  CHECK(dm::shm::remove_unused(segment.name(), after) == removal::removed);
  CHECK_FALSE(listed(segment.name()));
  CHECK(reading.size() == 1);
}

TEST_CASE("a segment that somebody is just attaching to is in use") {
  if (!have_segments()) return;
  const own_segment segment("attaching");
  map::create(segment.place(), {.max_slots = 1000}).close();
  // What attaching holds from before it is attached until after.
  const int attaching = ::open(segment.path().c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(attaching >= 0);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(dm::shared_layout::lock_byte::table);
  lock.l_len = 1;
  REQUIRE(::fcntl(attaching, F_OFD_SETLK, &lock) == 0);
  CHECK(dm::shm::remove_unused(segment.name()) == removal::in_use);
  ::close(attaching);
  CHECK(dm::shm::remove_unused(segment.name()) == removal::removed);
}

TEST_CASE("what is no shared map's segment is not removed as unused") {
  if (!have_segments()) return;
  const own_segment segment("foreign");
  write_file(segment.path(), "not an arena at all");
  CHECK(code_of([&] { dm::shm::remove_unused(segment.name()); }) == dm::errc::not_an_arena);
  CHECK(std::filesystem::exists(segment.path()));
  CHECK(code_of([&] { dm::shm::remove_unused("a/b"); }) == dm::errc::bad_options);
}

TEST_CASE("no segment is removed from under somebody who attaches meanwhile") {
  if (!have_segments()) return;
  const own_segment segment("race");
  // Two that come and go until so many segments were removed that neither had. Each stays away for some tries, so that at times
  // nobody is there, however the machine shares its processors out; and comes back while the next try is made.
  struct meeting {
    std::atomic<bool> over{false};
    std::atomic<unsigned> tries{0};
  };
  void* const shared = ::mmap(nullptr, sizeof(meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(shared != MAP_FAILED);
  auto& [over, tries] = *new (shared) meeting;
  const auto user = [&over = over, &tries = tries, &segment](const child_process::mouth& say) {
    for (unsigned round = 0; !over; ++round) {
      map m = map::open_or_create(segment.place(), {.max_slots = 100, .sync_on_close = false});
      const ino_t mine = inode_at(segment.path());
      const dm::key k = m.insert(1);
      // Attached to a segment that has lost its name, or whose name is another's: what others do would not reach us.
      if (mine == 0 || inode_at(segment.path()) != mine) return say('!');
      m.erase(k);
      m.close();
      for (const unsigned back = tries + round % 4; !over && static_cast<int>(back - tries) > 0;) ::sched_yield();
    }
    say('d');
  };
  child_process first(user), second(user);
  int removed = 0;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (removed < 20 && std::chrono::steady_clock::now() < give_up) {
    removed += dm::shm::remove_unused(segment.name()) == removal::removed;
    ++tries;
  }
  over = true;
  const char one = first.hear(), two = second.hear();
  ::munmap(shared, sizeof(meeting));
  CHECK(one == 'd');
  CHECK(two == 'd');
  CHECK(removed == 20);
}

TEST_CASE("list and gc show segments and remove none by themselves; gc --remove removes what nobody uses") {
  if (!have_segments() || inspect_tool::path() == nullptr) return;
  temporary_directory directory;
  const own_segment used("used"), left("left"), killed("killed"), foreign("foreign");
  map m = map::create(used.place(), {.max_slots = 1000});
  map::create(left.place(), {.max_slots = 1000}).close();
  map::create(killed.place(), {.max_slots = 1000}).close();
  { REQUIRE(holder(killed).hear() == 'r'); }
  write_file(foreign.path(), std::string(5000, 'x'));

  const json list = json::parse(inspect_tool::run(directory, "list --format json").out);
  CHECK(list["schema_version"] == 1);
  std::map<std::string, json> by_name;
  for (const json& segment : list["segments"]) by_name[segment["name"]] = segment;
  CHECK(by_name[used.name()]["use"] == "in use");
  CHECK(by_name[used.name()]["alive"] == 1);
  CHECK(by_name[left.name()]["use"] == "left over");
  CHECK(by_name[left.name()]["dead"] == 0);
  CHECK(by_name[killed.name()]["dead"] == 1);
  CHECK(by_name[killed.name()]["type"] == "u64");
  CHECK(by_name[foreign.name()]["use"].is_null());
  CHECK(by_name[foreign.name()]["fault"].is_string());
  const auto table = inspect_tool::run(directory, "list");
  CHECK(table.code == 0);
  for (const own_segment* each : {&used, &left, &killed, &foreign})
    CHECK(table.out.find(each->name()) != std::string::npos);

  const std::string names = used.name() + " shm:" + left.name() + " " + killed.name() + " " + foreign.name() + " ";
  const auto verdicts = [](const json& result) {
    std::vector<std::string> all;
    for (const json& segment : result["segments"]) all.push_back(segment["verdict"]);
    return all;
  };
  using strings = std::vector<std::string>;
  const strings dry{"in use", "would remove", "would remove", "kept"};
  const json asked = gc(directory, names, 0);
  CHECK(asked["dry_run"] == true);
  CHECK(verdicts(asked) == dry);
  CHECK(verdicts(gc(directory, names + "--dry-run", 0)) == dry);
  CHECK(inspect_tool::run(directory, "gc " + names).out.find("Nothing was removed") != std::string::npos);
  CHECK(verdicts(gc(directory, names + "--older-than 1h --remove", 0)) ==
        strings{"in use", "too young", "too young", "kept"});
  CHECK(inspect_tool::run(directory, "gc --remove --dry-run " + names).code == 16);
  for (const std::string age : {"5", "h", "-1h", "1.5h", "1y", "1hh", "99999999999999999d"})
    CHECK(inspect_tool::run(directory, "gc --remove --older-than=" + age + " " + names).code == 16);
  for (const own_segment* each : {&used, &left, &killed, &foreign}) CHECK(std::filesystem::exists(each->path()));

  const json removed = gc(directory, names + "--remove --older-than 0s", 1);
  CHECK(removed["removed"] == 2);
  CHECK(verdicts(removed) == strings{"in use", "removed", "removed", "kept"});
  CHECK(std::filesystem::exists(used.path()));
  CHECK(std::filesystem::exists(foreign.path()));
  CHECK_FALSE(std::filesystem::exists(left.path()));
  CHECK_FALSE(std::filesystem::exists(killed.path()));
  m.insert(1);
  CHECK(m.size() == 1);
  // A name that there is not is a mistake of whoever gave it.
  CHECK(gc(directory, left.name(), 8)["removed"] == 0);
}
