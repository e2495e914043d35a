// What values look like: for Python, which maps them by it; and where two types differ.
#include <nlohmann/json.hpp>

#include "deferred_map/shared_map.hpp"
#include "parts_value.hpp"
#include "run_tool.hpp"

namespace {

/// A Python that has numpy: the first there is, or the distribution's. Empty, with a warning, where there is none.
std::string python_with_numpy(const temporary_directory& directory) {
  for (const std::string python : {"python3", "/usr/bin/python3"})
    if (run_in_shell(directory, python + " -c 'import numpy'").code == 0) return python;
  WARN("unavailable: python3 with numpy, so what is printed for it was not run");
  return {};
}

template <class Map>
void fill(Map& m) {
  for (std::uint64_t i = 0; i < 100; ++i) m.insert(parts::plain(i));
  m.erase(dm::key::from_parts(3, 1));
  parts::value last = parts::plain(1'000);
  last.next = dm::key::from_parts(5, 1);
  m.insert(last);  // into slot 3
  m.erase(dm::key::from_parts(7, 1));
}

}  // namespace

TEST_CASE("numpy maps the values of the file by what schema prints") {
  if (!has_tool()) return;
  temporary_directory directory;
  const std::string python = python_with_numpy(directory);
  if (python.empty()) return;
  for (const std::string kind : {"mapped", "shared"}) {
    INFO(kind);
    const auto path = directory / (kind + " it's \xc3\xbc.arena");
    if (kind == "mapped") {
      auto m = dm::mapped_map<parts::value>::create(path, {.max_slots = 1000});
      fill(m);
    } else {
      auto m = dm::shared_map<parts::value>::create(path, {.max_slots = 1000});
      fill(m);
    }
    const std::string before = read_file(path);
    const auto name = std::string("\"") + path.string() + "\"";
    const auto program = run_dm_inspect(directory, "schema --format numpy " + name);
    REQUIRE(program.code == 0);
    write_file(directory / "program.py", program.out + R"(
assert slot_dtype.itemsize == stride and slots.dtype == slot_dtype
assert len(values) == 99, len(values)
assert sorted(values['big'].tolist()) == sorted([i for i in range(100) if i != 3 and i != 7] + [1000])
assert (values['low'].astype(int) == -values['big'].astype(int)).all()
assert (values['real'] == 0.1 * values['big']).all()
assert (values['at']['x'][:, 1] == 0.5).all() and (values['at']['y'][:, 1] == -0.25).all()
assert (values['name'] == b'abc').all() and (values['letter'] == b'x').all() and values['flag'].all()
assert (values['tint'] == 2).all() and values['list'].tolist()[0] == [0, 0, 7]
assert values['raw'][0].tobytes() == b'\xfe\0\0\0\0'
newest = slots[slots['value']['big'] == 1000][0]
assert newest['version'] >> 2 == 2 and newest['value']['next'] == (7 << 32 | 5)
print('read')
)");
    const auto run = run_in_shell(directory, python + quoted(directory / "program.py"));
    CHECK(run.errors == "");
    CHECK(run.out == "read\n");
    CHECK(read_file(path) == before);
  }
}

TEST_CASE("what schema prints for numpy") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = directory / "a";
  {
    auto m = dm::mapped_map<parts::point>::create(path, {.max_slots = 8});
    m.insert({1, 2});
  }
  CHECK(run_dm_inspect(directory, "schema --format numpy" + quoted(path)).out ==
        "import numpy\n\n"
        "# parts::point\n"
        "value_dtype = numpy.dtype({'names': [\"x\", \"y\"], 'formats': ['<f4', '<f4'], 'offsets': [0, 4], 'itemsize': "
        "8})\n"
        "slot_dtype = numpy.dtype({'names': ['version', 'value'], 'formats': ['<u4', value_dtype], 'offsets': [0, 4], "
        "'itemsize': 12})\n"
        "offset = 16384\nstride = 12\nshape = (1,)\n"
        "path = b'" +
            path.string() +
            "'\n\n"
            "# A slot has a value where version & 3 == 3; version >> 2 is its generation.\n"
            "# The key of that value, as it stands in other values: version << 32 | slot.\n"
            "slots = numpy.memmap(path.decode('utf-8', 'surrogateescape'), dtype=slot_dtype, mode='r', offset=offset, "
            "shape=shape)\n"
            "values = slots['value'][slots['version'] & 3 == 3]\n");
}

TEST_CASE("of two types the first field that differs is named, with both sides of it") {
  if (!has_tool()) return;
  temporary_directory directory;
  { dm::mapped_map<parts::value>::create(directory / "a"); }
  { dm::mapped_map<parts::value>::create(directory / "b"); }
  REQUIRE(run_dm_inspect(directory, "schema --format json" + quoted(directory / "a") + ">" + quoted(directory / "j"))
              .code == 0);
  for (const char* other : {"b", "j"}) {
    const auto same =
        run_dm_inspect(directory, "schema" + quoted(directory / "a") + "--compare" + quoted(directory / other));
    CHECK(same.code == 0);
    CHECK(same.out == "the same type\n");
  }
  // The type with another field, by the JSON that describes it.
  std::string text = read_file(directory / "j");
  const std::size_t at = text.find("\"kind\":\"f64\"");
  REQUIRE(at != std::string::npos);
  write_file(directory / "j", text.replace(at, 12, "\"kind\":\"u64\""));
  const auto differs =
      run_dm_inspect(directory, "schema" + quoted(directory / "a") + "--compare" + quoted(directory / "j"));
  CHECK(differs.code == 4);
  CHECK(differs.out.find("real") != std::string::npos);
  CHECK(differs.out.find("the first file has f64 at offset 24, the second file has u64 at offset 24") !=
        std::string::npos);
  const auto as_json =
      nlohmann::json::parse(run_dm_inspect(directory, "schema --format json" + quoted(directory / "a") + "--compare" +
                                                          quoted(directory / "j"))
                                .out);
  CHECK(as_json["same"] == false);
  CHECK(as_json["difference"].get<std::string>().find("first file") != std::string::npos);
  CHECK(run_dm_inspect(directory, "schema" + quoted(directory / "a") + "--compare" + quoted(directory / "none")).code ==
        8);
}
