// What two arenas do not have in common.
#include <nlohmann/json.hpp>
#include <sstream>

#include "deferred_map/inspect.hpp"
#include "deferred_map/shared_map.hpp"
#include "parts_value.hpp"
#include "run_tool.hpp"

namespace {

using map = dm::mapped_map<parts::value>;

std::vector<nlohmann::json> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

/// Two files that were one.
struct pair_of_files {
  std::filesystem::path a, b;
  explicit pair_of_files(const temporary_directory& directory) : a(directory / "a"), b(directory / "b") {
    {
      map m = map::create(a, {.max_slots = 1000});
      for (std::uint64_t i = 0; i < 10; ++i) m.insert(parts::plain(i));
      m.erase(dm::key::from_parts(9, 1));
    }
    std::filesystem::copy_file(a, b);
  }
};

}  // namespace

TEST_CASE("files that hold the same are the same, whatever lies between and behind their values") {
  if (!has_tool()) return;
  temporary_directory directory;
  const pair_of_files files(directory);
  const auto header = read_at<dm::arena_header>(files.b, 0);
  // In the last bytes of a value, which are padding, behind a text's NUL, and in a vacant slot.
  const std::size_t slot = header.slots_offset + 2 * header.slot_stride_bytes;
  overwrite(files.b, slot + header.slot_stride_bytes - 1, "x");
  overwrite(files.b, slot + header.value_offset + offsetof(parts::value, name) + 5, "x");
  overwrite(files.b, header.slots_offset + 9 * header.slot_stride_bytes + header.value_offset, "x");
  const auto same = run_dm_inspect(directory, "diff" + quoted(files.a) + quoted(files.b));
  CHECK(same.code == 0);
  CHECK(same.out == "the same: 9 keys\n");
  {
    auto shared = dm::shared_map<parts::value>::create(directory / "s", {.max_slots = 1000});
    const map m = map::open_read_only(files.a);
    for (std::uint32_t i = 0; i < 10; ++i) {
      const dm::key k = shared.insert(i == 9 ? parts::plain(9) : m[dm::key::from_parts(i, 1)]);
      REQUIRE(k.index() == i);
      if (i == 9) shared.remove(k);
    }
  }
  CHECK(run_dm_inspect(directory, "diff" + quoted(files.a) + quoted(directory / "s")).out == "the same: 9 keys\n");
}

TEST_CASE("keys, values, generations and the floor: each difference is told once") {
  if (!has_tool()) return;
  temporary_directory directory;
  const pair_of_files files(directory);
  {
    map m = map::open(files.b);
    m.erase(dm::key::from_parts(1, 1));              // only in a
    m.erase(dm::key::from_parts(2, 1));              // only in a, and ...
    CHECK(m.insert(parts::plain(22)).index() == 2);  // ... another in its place
    m[dm::key::from_parts(3, 1)].at[1].x = 8;
    m[dm::key::from_parts(3, 1)].real = std::numeric_limits<double>::quiet_NaN();
    m[dm::key::from_parts(4, 1)].real = 0.5;
    m.insert(parts::plain(1));  // into slot 1
    m.erase(dm::key::from_parts(1, 2));
    const dm::key ninth = m.insert(parts::plain(0));
    m.erase(ninth);
    const dm::key again = m.insert(parts::plain(0));
    CHECK(again.index() == ninth.index());
    m.erase(again);
  }
  const auto found = run_dm_inspect(directory, "diff --format ndjson" + quoted(files.a) + quoted(files.b));
  CHECK(found.code == 4);
  const auto lines = lines_of(found.out);
  std::vector<std::string> told;
  for (std::size_t i = 1; i + 1 < lines.size(); ++i)
    told.push_back(lines[i]["kind"].get<std::string>() + " " +
                   (lines[i].contains("key") ? lines[i]["key"].get<std::string>() : lines[i]["slot"].dump()) +
                   (lines[i].contains("field") ? " " + lines[i]["field"].get<std::string>() + " " +
                                                     lines[i]["a"].dump() + " " + lines[i]["b"].dump()
                                               : ""));
  CHECK(told == std::vector<std::string>{"only_in_a 1:1", "only_in_a 2:1", "only_in_b 2:2",
                                         "value 3:1 real 0.30000000000000004 \"NaN\"", "value 3:1 at[1].x 0.5 8.0",
                                         "value 4:1 real 0.4 0.5"});
  CHECK(lines.back()["values"] == 2);
  CHECK(lines.back()["fields"] == 3);
  CHECK(lines.back()["keys_in_both"] == 7);
  CHECK(lines[1]["value"]["big"] == 1);
  CHECK(lines[1]["b"]["generation"].get<int>() > 1);
  const auto redacted = run_dm_inspect(directory, "diff --redact" + quoted(files.a) + quoted(files.b)).out;
  CHECK(redacted.find("~ 4:1  real: f64 -> f64\n") != std::string::npos);
  CHECK(redacted.find("0.5") == std::string::npos);
  CHECK(run_dm_inspect(directory, "diff --format csv" + quoted(files.a) + quoted(files.b))
            .out.find("\nvalue,4:1,,real,0.4,0.5\n") != std::string::npos);
  const auto document =
      nlohmann::json::parse(run_dm_inspect(directory, "diff --format json" + quoted(files.a) + quoted(files.b)).out);
  CHECK(document["differences"].size() == 6);
  CHECK(document["same"] == false);
}

TEST_CASE("a slot without a value in another generation is a difference, for other keys are dead") {
  if (!has_tool()) return;
  temporary_directory directory;
  const pair_of_files files(directory);
  const auto header = read_at<dm::arena_header>(files.b, 0);
  write_at(files.b, header.slots_offset + 9 * header.slot_stride_bytes, dm::version::vacant(7));
  const auto found = run_dm_inspect(directory, "diff" + quoted(files.a) + quoted(files.b));
  CHECK(found.code == 4);
  CHECK(found.out ==
        "slot 9  vacant, generation 2 -> vacant, generation 7\n"
        "different: 0 keys only in the first, 0 only in the second, 0 with another value, 1 slot of another "
        "generation\n");
}

TEST_CASE("of values of different types the keys are compared all the same") {
  if (!has_tool()) return;
  temporary_directory directory;
  const pair_of_files files(directory);
  {
    auto m = dm::mapped_map<parts::point>::create(directory / "c");
    for (int i = 0; i < 10; ++i) m.insert({1, 2});
  }
  const auto found = run_dm_inspect(directory, "diff" + quoted(files.a) + quoted(directory / "c"));
  CHECK(found.code == 4);
  CHECK(found.out.starts_with("type   the value type: the first file has parts::value"));
  CHECK(found.out.find("\n+ 9:1  {x: 1, y: 2}\n") != std::string::npos);
  CHECK(std::count(found.out.begin(), found.out.end(), '\n') == 3);
  CHECK(run_dm_inspect(directory, "diff" + quoted(files.a) + quoted(directory / "none")).code == 8);
}

TEST_CASE("an export imported again is the same to diff") {
  if (!has_tool()) return;
  const auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  temporary_directory directory;
  const auto path = directory / "a", imported = directory / "b";
  {
    map m = map::create(path, {.max_slots = 5000});
    std::vector<dm::key> keys;
    for (int i = 0; i < 500; ++i) keys.push_back(m.insert(parts::random_bits(random)));
    for (int i = 0; i < 700; ++i) {
      dm::key& k = keys[random() % keys.size()];
      if (m.erase(k) && random() % 2 == 0) k = m.insert(parts::random_bits(random));
    }
    for (std::uint32_t i = 400; i < 500; ++i)
      if (const dm::key k = m.key_at(i)) m.erase(k);
    m.shrink_to_fit();
  }
  for (const std::string format : {"ndjson", "json", "csv"}) {
    INFO(format);
    REQUIRE(
        run_dm_inspect(directory, "export --format " + format + quoted(path) + ">" + quoted(directory / "text")).code ==
        0);
    REQUIRE(run_dm_inspect(directory, "import" + quoted(directory / "text") + "--like" + quoted(path) + "--into" +
                                          quoted(imported))
                .code == 0);
    const auto found = run_dm_inspect(directory, "diff" + quoted(path) + quoted(imported));
    CHECK(found.out.starts_with("the same: "));
    CHECK(found.code == 0);
    std::filesystem::remove(imported);
  }
}
