// owners: the living, the dead and what each holds; and --reap, which gives it back.
#include <nlohmann/json.hpp>

#include "deferred_map/inspect.hpp"
#include "deferred_map/mapped_map.hpp"
#include "deferred_map/shared_map.hpp"
#include "inspect_tool.hpp"
#include "processes.hpp"
#include "self_checking.hpp"

namespace {

namespace inspect = dm::inspect;
using json = nlohmann::json;
using map = dm::shared_map<self_checking>;
using inspect::owner_state;

/// A process that has the map open with two handles, and in the midst of an update of `target`.
child_process holder(const std::filesystem::path& path, dm::key target) {
  return child_process([path, target](const child_process::mouth& say) {
    const auto attached = dm::sharing::attachment::open(path, dm::detail::shared_type_of<self_checking>(), {});
    auto on = attached->on();
    auto& cache = attached->of_this_thread().cache;
    attached->refill(cache);
    for (int i = 0; i < 2; ++i) on.hold(cache.slots[--cache.count]);
    self_checking value{};
    const auto before = on.read(target.index(), target.generation(), &value, sizeof value);
    value = checked_value(77);
    const dm::sharing::attachment::lease scratch(*attached);
    const bool begun = before && on.begin_update(target.index(), *before, scratch.number(), &value, sizeof value) ==
                                     dm::sharing::outcome::done;
    say(begun ? 'r' : '!');
    stay();
  });
}

json owners_json(const temporary_directory& directory, const std::filesystem::path& path, int code,
                 const std::string& options = "") {
  const auto result = inspect_tool::run(directory, "owners --format json " + options + " '" + path.string() + "'");
  INFO(result.errors);
  CHECK(result.code == code);
  return json::parse(result.out);
}

}  // namespace

TEST_CASE("owners tells the living from the dead and what each holds, and --reap gives back what the dead held") {
  if (inspect_tool::path() == nullptr) return;
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, {.max_slots = 100'000});
  const dm::key target = m.insert(checked_value(1));
  auto handle = m.allocate_handle();
  {
    child_process child = holder(path, target);
    REQUIRE(child.hear() == 'r');
    const auto report = inspect::find_owners(inspect::arena_file::open(path));
    REQUIRE(report.owners.size() == 2);
    CHECK(report.owners[0].pid == static_cast<std::uint32_t>(::getpid()));
    CHECK(report.owners[0].state == owner_state::alive);
    CHECK(report.owners[0].reserved == 1);
    CHECK(report.owners[0].cached > 0);
    CHECK(report.owners[0].updating == 0);
    CHECK(report.owners[1].pid == static_cast<std::uint32_t>(child.pid()));
    CHECK(report.owners[1].state == owner_state::alive);
    CHECK(report.owners[1].reserved == 2);
    CHECK(report.owners[1].cached > 0);
    CHECK(report.owners[1].updating == 1);
    CHECK(report.nobodys_total == 0);
    CHECK(report.last_opened_unix_ns == report.owners[1].since_unix_ns);
    CHECK(owners_json(directory, path, 0, "--reap")["reaped"] == 0);  // nobody is dead: nothing is done
    const auto uncounted = inspect::find_owners(inspect::arena_file::open(path), inspect::owned_slots::not_counted);
    CHECK(uncounted.owners.size() == 2);
    CHECK(uncounted.owners[1].reserved == 0);
  }
  // Killed, and a process of that very pid may be about by now: the kernel's lock tells.
  const json dead = owners_json(directory, path, 0);
  CHECK(dead["alive"] == 1);
  CHECK(dead["dead"] == 1);
  CHECK(dead["owners"][1]["state"] == "dead");
  CHECK(dead["owners"][1]["reserved"] == 2);
  CHECK(dead["owners"][1]["updating"] == 1);
  CHECK(dead["owners"][1]["program"].get<std::string>().size() > 0);
  const auto table = inspect_tool::run(directory, "owners '" + path.string() + "'");
  CHECK(table.code == 0);
  CHECK(table.out.find("dead") != std::string::npos);
  CHECK(table.errors.find("--reap") != std::string::npos);

  const json after = owners_json(directory, path, 1, "--reap");
  CHECK(after["reaped"] == 1);
  CHECK(after["dead"] == 0);
  CHECK(after["owners"].size() == 1);
  CHECK(after["owners"][0]["reserved"] == 1);
  CHECK(m.get(target)->number == 77);  // its update was finished
  const auto all = inspect::take_survey(inspect::arena_file::open(path));
  CHECK(all.total.reserved - all.total.cached == 1);
  CHECK(all.total.updating == 0);
  m.insert(std::move(handle), checked_value(5));
  CHECK(m.size() == 2);
}

TEST_CASE("after the last has died, owners changes nothing, and --reap leaves the file closed") {
  if (inspect_tool::path() == nullptr) return;
  temporary_directory directory;
  const auto path = directory / "m";
  dm::key target;
  {
    map m = map::create(path, {.max_slots = 1000});
    target = m.insert(checked_value(1));
  }
  const std::string closed = read_file(path);
  CHECK(owners_json(directory, path, 0)["owners"].empty());
  CHECK(owners_json(directory, path, 0, "--reap")["reaped"] == 0);
  CHECK(read_file(path) == closed);
  { REQUIRE(holder(path, target).hear() == 'r'); }
  const std::string killed = read_file(path);
  CHECK(owners_json(directory, path, 0)["dead"] == 1);
  CHECK(read_file(path) == killed);
  const auto result = inspect_tool::run(directory, "owners --reap '" + path.string() + "'");
  CHECK(result.code == 1);
  CHECK(result.out.find("Gave back what 1 owner held") != std::string::npos);
  CHECK(result.errors.empty());
  const auto arena = inspect::arena_file::open(path);
  CHECK(arena.left() == inspect::left_state::closed);
  CHECK(inspect::check(arena).is_clean());
  CHECK(map::open(path).get(target)->number == 77);
}

TEST_CASE("slots that name an owner that there is not are a fault") {
  if (inspect_tool::path() == nullptr) return;
  temporary_directory directory;
  const auto path = directory / "m";
  {
    map m = map::create(path, {.max_slots = 1000});
    for (std::uint64_t i = 0; i < 10; ++i) m.insert(checked_value(i));
  }
  const auto header = read_at<dm::arena_header>(path, 0);
  write_at(path, header.slots_offset + 3 * header.slot_stride_bytes, dm::sharing::word::held(1, 77));
  write_at(path, header.slots_offset + 4 * header.slot_stride_bytes, dm::sharing::word::held(1, 0x1234));
  write_at(path, header.slots_offset + 5 * header.slot_stride_bytes, dm::sharing::word::updating(1, 1000, 1));
  const std::string before = read_file(path);
  CHECK(owners_json(directory, path, 4)["nobodys_slots"] == 3);
  const auto report = inspect::find_owners(inspect::arena_file::open(path));
  CHECK(report.nobodys == std::vector<std::uint32_t>{3, 4, 5});
  CHECK(read_file(path) == before);
}

TEST_CASE("of a file that one process uses, owners tells who has it, had it last, or died with it") {
  if (inspect_tool::path() == nullptr) return;
  temporary_directory directory;
  const auto path = directory / "m";
  using numbers = dm::mapped_map<std::uint64_t>;
  {
    child_process child([&](const child_process::mouth& say) {
      numbers m = numbers::create(path, {.max_slots = 1000});
      m.insert(1);
      const auto handle = m.allocate_handle();
      say(handle ? 'r' : '!');
      stay();
    });
    REQUIRE(child.hear() == 'r');
    const json alive = owners_json(directory, path, 0);
    CHECK(alive["owners"][0]["state"] == "alive");
    CHECK(alive["owners"][0]["pid"] == child.pid());
    CHECK(alive["owners"][0]["reserved"] == 1);
    CHECK(alive["lock_holders"].get<std::string>().find(std::to_string(child.pid())) != std::string::npos);
  }
  CHECK(owners_json(directory, path, 0)["owners"][0]["state"] == "dead");
  const auto reap = inspect_tool::run(directory, "owners --reap '" + path.string() + "'");
  CHECK(reap.code == 16);
  CHECK(reap.out.empty());
  numbers::open(path).close();
  const json closed = owners_json(directory, path, 0);
  CHECK(closed["owners"][0]["state"] == "closed");
  CHECK(closed["owners"][0]["reserved"] == 0);
}

TEST_CASE("a file that may not be written to is not reaped, and says so") {
  if (inspect_tool::path() == nullptr) return;
  temporary_directory directory;
  const auto golden =
      std::filesystem::path(std::getenv("SOURCE_ROOT")) / "tests" / "golden" / "shared" / "killed.arena";
  const auto path = directory / "m";
  std::filesystem::copy_file(golden, path);
  const std::string before = read_file(path);
  // Of another start of the machine: it needs salvage, which reaping is not.
  const auto result = inspect_tool::run(directory, "owners --reap '" + path.string() + "'");
  CHECK(result.code == 8);
  CHECK(result.errors.starts_with("dm-inspect: "));
  CHECK(read_file(path) == before);
}
