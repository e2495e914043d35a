// What export prints, import makes again: the same keys, the same bits, and dead keys stay dead.
#include <nlohmann/json.hpp>
#include <sstream>

#include "deferred_map/durable_map.hpp"
#include "deferred_map/inspect.hpp"
#include "deferred_map/shared_map.hpp"
#include "parts_value.hpp"
#include "run_tool.hpp"

namespace {

using map = dm::mapped_map<parts::value>;

/// The bits of the fields, not those between them.
std::vector<std::string> leaves_of(const dm::schema& schema, const parts::value& value) {
  std::vector<std::string> parts;
  dm::inspect::for_each_leaf(schema, [&](const dm::inspect::leaf& leaf) {
    const auto bytes = dm::inspect::leaf_bytes(leaf, std::as_bytes(std::span(&value, 1)));
    parts.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  });
  return parts;
}

/// Live values of any bits, stale keys, a retired slot, and slots that were given back.
struct sample {
  std::filesystem::path path;
  std::vector<dm::key> live, dead;
};
sample make_sample(const temporary_directory& directory, std::uint64_t seed) {
  sample made{directory / "old.arena", {}, {}};
  std::mt19937_64 random(seed);
  {
    map m = map::create(made.path, {.max_slots = 5000});
    for (int i = 0; i < 300; ++i) made.live.push_back(m.insert(parts::random_bits(random)));
    const auto remove = [&](std::size_t at) {
      m.erase(made.live[at]);
      made.dead.push_back(made.live[at]);
      made.live.erase(made.live.begin() + static_cast<std::ptrdiff_t>(at));
    };
    for (int i = 0; i < 200; ++i) {
      remove(random() % made.live.size());
      if (i % 2 == 0) made.live.push_back(m.insert(parts::random_bits(random)));
    }
    // Slots at the end go, and their generations with them, into the floor.
    for (std::size_t i = made.live.size(); i-- != 0;)
      if (made.live[i].index() > 250) remove(i);
    m.shrink_to_fit();
    REQUIRE(m.generation_floor() > 1);
  }
  return made;
}

}  // namespace

TEST_CASE("an export is imported as the same map, bit for bit, from each form of it") {
  if (!has_tool()) return;
  const auto seed = std::random_device{}();
  INFO("seed " << seed);
  temporary_directory directory;
  const sample old = make_sample(directory, seed);
  const std::string before = read_file(old.path);
  for (const std::string format : {"ndjson", "json", "csv"}) {
    for (const std::string way : {"like", "embedded", "stdin"}) {
      if (way == "embedded" && format == "csv") continue;
      INFO(format << ' ' << way);
      const auto text = directory / "text", imported = directory / "new.arena";
      CHECK(run_dm_inspect(directory, "export --format " + format + quoted(old.path) + ">" + quoted(text)).code == 0);
      const auto done = way == "stdin"
                            ? run_dm_inspect(directory, "import - --into" + quoted(imported) + "--like" +
                                                            quoted(old.path) + "<" + quoted(text))
                            : run_dm_inspect(directory, "import" + quoted(text) + "--into" + quoted(imported) +
                                                            (way == "like" ? "--like" + quoted(old.path) : ""));
      CHECK(done.errors == "");
      REQUIRE(done.code == 0);
      CHECK(dm::inspect::check(dm::inspect::arena_file::open(imported)).findings.listed().empty());
      {
        const map a = map::open_read_only(old.path);
        map b = map::open(imported, {.verify = true});
        const dm::schema schema = dm::schema_of<parts::value>();
        CHECK(b.recovery().outcome == dm::recovery_outcome::clean);
        CHECK(b.size() == old.live.size());
        CHECK(b.generation_floor() == a.generation_floor());
        CHECK(b.slot_count() == a.slot_count());
        for (const dm::key k : old.live) {
          REQUIRE(b.contains(k));
          REQUIRE(leaves_of(schema, a[k]) == leaves_of(schema, b[k]));
        }
        for (const dm::key k : old.dead) REQUIRE_FALSE(b.contains(k));
        // Nor do they come alive later.
        for (int i = 0; i < 600; ++i) b.insert(parts::plain(1));
        for (const dm::key k : old.dead) REQUIRE_FALSE(b.contains(k));
      }
      std::filesystem::remove(imported);
    }
  }
  CHECK(read_file(old.path) == before);
}

TEST_CASE("an export looks like this") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = directory / "a";
  {
    auto m = dm::mapped_map<parts::point>::create(path, {.max_slots = 8});
    m.insert({0.1f, std::numeric_limits<float>::quiet_NaN()});
    const dm::key gone = m.insert({1, 2});
    m.insert({-0.0f, std::bit_cast<float>(0x7fc0'0001u)});
    m.erase(gone);
  }
  const std::string file = nlohmann::json(path.string()).dump();
  const std::string head = R"({"schema_version":1,"verb":"export","file":)" + file +
                           R"(,"export_version":1,"kind":"mapped_map","type":"parts::point","type_version":0,)"
                           R"("value_size_bytes":8,"value_align_bytes":4,"slots_max":8,"slot_count":3,)"
                           R"("generation_floor":0,"left":"closed","redacted":false,"fields":)";
  const std::string records[] = {R"({"key":"0:1","value":{"x":0.1,"y":"NaN"}})",
                                 R"({"slot":1,"state":"vacant","generation":2})",
                                 R"({"key":"2:1","value":{"x":-0.0,"y":"NaN:0x7fc00001"}})"};
  const auto lines = run_dm_inspect(directory, "export" + quoted(path)).out;
  CHECK(lines.starts_with(head + R"([{"name":"","type":"parts::point",)"));
  CHECK(lines.ends_with("]}\n" + records[0] + "\n" + records[1] + "\n" + records[2] +
                        "\n{\"end\":true,\"values\":2,\"lost\":0}\n"));
  const auto document = run_dm_inspect(directory, "export --format json" + quoted(path)).out;
  CHECK(document.starts_with(head));
  CHECK(document.ends_with("],\"records\":[\n" + records[0] + ",\n" + records[1] + ",\n" + records[2] +
                           "\n],\"values\":2,\"lost\":0}\n"));
  CHECK(run_dm_inspect(directory, "export --format csv" + quoted(path)).out ==
        "key,state,x,y\n0:1,occupied,0.1,NaN\n1:2,vacant,,\n2:1,occupied,-0.0,NaN:0x7fc00001\n3:1,end,,\n");
}

TEST_CASE("a reserved slot's handle dies, and its key stays dead") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = directory / "old.arena", imported = directory / "new.arena";
  map m = map::create(path, {.max_slots = 100});
  const dm::key live = m.insert(parts::plain(1));
  const auto handle = m.allocate_handle();
  const dm::key promised = handle.key();
  const auto made = run_in_shell(directory, std::string(std::getenv("DM_INSPECT")) + " export" + quoted(path) + "| " +
                                                std::getenv("DM_INSPECT") + " import - --into" + quoted(imported));
  REQUIRE(made.code == 0);
  map b = map::open(imported);
  CHECK(b.contains(live));
  CHECK(b.state(promised.index()) == dm::slot_state::vacant);
  CHECK(b.insert(parts::plain(2)).index() == promised.index());
  CHECK_FALSE(b.contains(promised));
}

TEST_CASE("a shared map's export makes a shared map, or a mapped one where asked") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = directory / "old.arena";
  dm::key k, gone;
  {
    auto m = dm::shared_map<parts::value>::create(path, {.max_slots = 1000});
    gone = m.insert(parts::plain(1));
    m.remove(gone);
    k = m.insert(parts::plain(2));
  }
  const std::string source = "export" + quoted(path) + "> " + (directory / "text").string();
  REQUIRE(run_dm_inspect(directory, source).code == 0);
  const std::string import = "import" + quoted(directory / "text") + "--into";
  REQUIRE(run_dm_inspect(directory, import + quoted(directory / "shared")).code == 0);
  REQUIRE(run_dm_inspect(directory, import + quoted(directory / "mapped") + "--kind mapped").code == 0);
  auto shared = dm::shared_map<parts::value>::open(directory / "shared", {.verify = true});
  CHECK(shared.get(k)->big == 2);
  CHECK_FALSE(shared.get(gone));
  map mapped = map::open(directory / "mapped", {.verify = true});
  CHECK(mapped[k].big == 2);
  CHECK_FALSE(mapped.contains(gone));
}

TEST_CASE("a durable map is exported at its last commit, and imported as one that goes on") {
  if (!has_tool()) return;
  using durable = dm::durable_map<parts::value>;
  temporary_directory directory;
  const auto path = directory / "old.arena", copy = directory / "new.arena";
  const std::string journal = copy.string() + "-journal";
  dm::key k, gone;
  {
    durable m = durable::create(path, {.max_slots = 1000});
    gone = m.insert(parts::plain(1));
    k = m.insert(parts::plain(2));
    m.commit();
    m.erase(gone);
    m.commit();
    m.insert(parts::plain(3));  // of no commit
    REQUIRE(run_dm_inspect(directory, "export" + quoted(path) + ">" + quoted(directory / "text")).code == 0);
  }
  const std::string import = "import" + quoted(directory / "text") + "--into" + quoted(copy);
  write_file(journal, "of an arena that was moved");
  const auto refused = run_dm_inspect(directory, import);
  CHECK(refused.code == 8);
  CHECK(refused.errors.find("new.arena-journal: there is a journal") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(copy));
  std::filesystem::remove(journal);
  REQUIRE(run_dm_inspect(directory, import).code == 0);
  CHECK(run_dm_inspect(directory, "check" + quoted(copy)).code == 0);
  durable m = durable::open(copy, {.verify = true});
  CHECK(m.recovery().outcome == dm::recovery_outcome::clean);
  CHECK(m.size() == 1);
  CHECK(std::as_const(m)[k].big == 2);
  CHECK_FALSE(m.contains(gone));
  CHECK(m.insert(parts::plain(4)) != gone);
  CHECK(m.commit() == 1);
}

TEST_CASE("bad input is refused with its line and a reason, and leaves no file") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = directory / "old.arena";
  {
    map m = map::create(path, {.max_slots = 100});
    m.insert(parts::plain(1));
    m.insert(parts::plain(2));
  }
  REQUIRE(run_dm_inspect(directory, "export" + quoted(path) + ">" + quoted(directory / "lines")).code == 0);
  REQUIRE(run_dm_inspect(directory, "export --format csv" + quoted(path) + ">" + quoted(directory / "table")).code ==
          0);
  const std::string lines = read_file(directory / "lines"), table = read_file(directory / "table");
  const auto replaced = [](std::string text, const std::string& from, const std::string& to) {
    const std::size_t at = text.rfind(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
  };
  const std::size_t files_before = static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator(directory.path()), std::filesystem::directory_iterator()));
  const auto refused = [&](const std::string& text, const std::string& reason, const std::string& more = "") {
    write_file(directory / "lines", text);
    const auto result = run_dm_inspect(
        directory, "import" + quoted(directory / "lines") + "--into" + quoted(directory / "new.arena") + more);
    INFO(result.errors);
    CHECK(result.code == 8);
    CHECK(result.out.empty());
    CHECK(result.errors.find(reason) != std::string::npos);
    CHECK(std::count(result.errors.begin(), result.errors.end(), '\n') == 1);
    CHECK(static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory.path()),
                                                 std::filesystem::directory_iterator())) == files_before);
  };
  const std::string like = "--like" + quoted(path);
  refused("", "the file is empty");
  refused("hello\n", "line 1: this is neither JSON nor a table", like);
  refused(lines.substr(0, lines.find("{\"end\"")), "without the line that says \\\"end\\\"");
  refused(lines + "{\"key\":\"7:1\"}\n", "line 5: there is more");
  refused(replaced(lines, "\"key\":\"1:1\"", "\"key\":\"1:0\""), "line 3: the key is \\\"1:0\\\"");
  refused(replaced(lines, "\"key\":\"1:1\"", "\"key\":\"0:2\""), "line 3: " + (directory / "new.arena").string());
  refused(replaced(lines, "\"key\":\"1:1\"", "\"key\":\"100:1\""), "line 3:");
  refused(replaced(lines, "\"big\":2", "\"big\":-2"), "line 3: 'big' is -2, which 8 bytes cannot hold");
  refused(replaced(lines, "\"big\":2", "\"big\":2.5"), "line 3: 'big' must be an integer, and is 2.5");
  refused(replaced(lines, "\"big\":2,", ""), "line 3: 'big' is missing");
  refused(replaced(lines, "\"big\":2", "\"big\":2,\"bigger\":3"), "line 3: 'bigger' is no field");
  refused(replaced(lines, "\"x\":0.0", "\"x\":1e300"), "line 3: 'at[0].x' is");
  refused(replaced(lines, "\"abc\"", "\"abcdefghijkl\""), "line 3: 'name' has 12 bytes of text where 11 fit");
  refused(replaced(lines, "\"green\"", "\"blue\""), "line 3: 'tint' is \\\"blue\\\"");
  refused(replaced(lines, "[0,0,7]", "[0,7]"), "line 3: 'list' has 2 elements where there are 3");
  refused(replaced(lines, "0xfe00000000", "0xfe"), "line 3: 'raw' must be");
  refused(replaced(lines, "\"next\":null", "\"next\":\"x\""), "line 3: 'next' must be a key");
  refused(replaced(lines, "{\"key\":\"1:1\"", "{\"key\":\"1:1\"]"), "line 3: this JSON cannot be read");
  refused(replaced(lines, "\"values\":2", "\"values\":3"), "line 4: the export says");
  refused(replaced(lines, "\"redacted\":false", "\"redacted\":true"), "line 1: this export was made with --redact");
  refused("{\"key\":\"1:1\",\"value\":{}}\n", "line 1: the input does not say what its values are");
  refused(table, "line 1: a table does not say");
  refused(table.substr(0, table.find("2:1,end")), "line 4: the table ends here", like);
  refused(replaced(table, "key,state,next", "key,state,mext"), "line 1: there is no column 'next'", like);
  refused(replaced(table, "abc", "\"abc"), "line 3: a quotation mark is never closed", like);
  refused(replaced(table, "abc", "a\\bc"), "line 3: 'name' has a backslash", like);
  refused(replaced(table, "1:1,occupied,null,2", "1:1,occupied,null,"), "line 3: 'big' is missing", like);
  {
    dm::mapped_map<parts::other::value>::create(directory / "other");
    const std::string reason = "line 1: the export is of another type";
    write_file(directory / "lines", lines);
    const auto result =
        run_dm_inspect(directory, "import" + quoted(directory / "lines") + "--into" + quoted(directory / "new.arena") +
                                      "--like" + quoted(directory / "other"));
    CHECK(result.code == 8);
    CHECK(result.errors.find(reason) != std::string::npos);
    CHECK(result.errors.find("parts::other::value") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(directory / "new.arena"));
  }
  // Nor is a file replaced.
  write_file(directory / "new.arena", "mine");
  const auto result =
      run_dm_inspect(directory, "import" + quoted(directory / "lines") + "--into" + quoted(directory / "new.arena"));
  CHECK(result.code == 8);
  CHECK(read_file(directory / "new.arena") == "mine");
}

TEST_CASE("records that a person wrote need neither head nor end, and a schema may stand in a file") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = directory / "old.arena";
  { dm::mapped_map<parts::point>::create(path); }
  REQUIRE(run_dm_inspect(directory, "schema --format json" + quoted(path) + ">" + quoted(directory / "schema")).code ==
          0);
  write_file(directory / "lines",
             "{\"key\": \"5:3\", \"value\": {\"y\": 2, \"x\": 1}}\n\n{\"key\":\"2:1\",\"value\":{\"x\":3,\"y\":4}}\n");
  const auto made =
      run_dm_inspect(directory, "import" + quoted(directory / "lines") + "--max-slots 50 --into" +
                                    quoted(directory / "new") + "--schema" + quoted(directory / "schema"));
  CHECK(made.errors == "");
  REQUIRE(made.code == 0);
  const auto m = dm::mapped_map<parts::point>::open(directory / "new", {.verify = true});
  CHECK(m[dm::key::from_parts(5, 3)].y == 2);
  CHECK(m[dm::key::from_parts(2, 1)].x == 3);
  CHECK(m.slot_count() == 6);
  CHECK(dm::inspect::arena_file::open(directory / "new").header().slots_max == 50);
}
