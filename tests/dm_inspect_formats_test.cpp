// The forms in which dm-inspect prints records, byte for byte, and values that are not shown.
#include <nlohmann/json.hpp>

#include "parts_value.hpp"
#include "run_tool.hpp"

namespace {

using map = dm::mapped_map<parts::value>;

std::filesystem::path make_file(const temporary_directory& directory) {
  const auto path = directory / "test.arena";
  map m = map::create(path, {.max_slots = 1000});
  parts::value first = parts::plain(1);
  std::strcpy(first.name, "a,\"b\"\xfc");
  const dm::key k = m.insert(first);
  parts::value second = parts::plain(2);
  second.next = k;
  second.real = std::numeric_limits<double>::infinity();
  m.insert(second);
  m.insert(parts::plain(3));
  m.erase(dm::key::from_parts(2, 1));
  m.close();
  return path;
}

}  // namespace

TEST_CASE("slots as comma-separated values have a column for each leaf") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = make_file(directory);
  const auto shown = run_dm_inspect(directory, "slots --format csv" + quoted(path));
  CHECK(shown.code == 0);
  CHECK(shown.out ==
        "slot,state,generation,version,key,problem,next,big,low,real,at[0].x,at[0].y,at[1].x,at[1].y,name,letter,flag,"
        "tint,list[0],list[1],list[2],raw\n"
        "0,occupied,1,7,0:1,,null,1,-1,0.1,0.0,0.0,0.5,-0.25,\"a,\"\"b\"\"\\xfc\",x,true,green,0,0,7,0xfe00000000\n"
        "1,occupied,1,7,1:1,,0:1,2,-2,Infinity,0.0,0.0,0.5,-0.25,abc,x,true,green,0,0,7,0xfe00000000\n"
        "2,vacant,2,8,,,,,,,,,,,,,,,,,,\n");
}

TEST_CASE("JSON lines begin with what holds of all, and end with a line that says so") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = make_file(directory);
  const std::string file = nlohmann::json(path.string()).dump();
  const auto shown = run_dm_inspect(directory, "slots --format ndjson --range 1:2" + quoted(path));
  CHECK(shown.code == 0);
  std::istringstream lines(shown.out);
  std::vector<nlohmann::json> parsed;
  for (std::string line; std::getline(lines, line);) parsed.push_back(nlohmann::json::parse(line));
  REQUIRE(parsed.size() == 4);
  CHECK(parsed[0]["schema_version"] == 1);
  CHECK(parsed[0]["verb"] == "slots");
  CHECK(parsed[1]["value"]["at"][1]["y"] == -0.25);
  CHECK(parsed[2]["state"] == "vacant");
  CHECK(shown.out.ends_with("{\"end\":true,\"shown\":2,\"more\":false}\n"));
  const auto cut = run_dm_inspect(directory, "get --format ndjson" + quoted(path) + "0:1 2:1");
  CHECK(cut.code == 4);
  CHECK(cut.out.find("\"state\":\"stale\"") != std::string::npos);
  CHECK(cut.out.ends_with("{\"end\":true}\n"));
}

TEST_CASE("findings and keys are tables too") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = make_file(directory);
  CHECK(run_dm_inspect(directory, "get --format csv" + quoted(path) + "2:1").out ==
        "key,bits,state,text,slot_state,slot_generation,generations_apart,next,big,low,real,at[0].x,at[0].y,at[1].x,"
        "at[1].y,name,letter,flag,tint,list[0],list[1],list[2],raw\n"
        "2:1,0x0000000700000002,stale,\"stale by 1 generation: its value is gone, the slot is vacant in generation "
        "2\",vacant,2,1,,,,,,,,,,,,,,,,\n");
  overwrite(path, 50, "x");  // in the uuid
  const auto faults = run_dm_inspect(directory, "check --format csv" + quoted(path));
  CHECK(faults.code == 4);
  CHECK(faults.out.starts_with("rule,severity,"));
  CHECK(faults.out.find("\nheader-checksum,error,") != std::string::npos);
}

TEST_CASE("what is redacted has its structure and keys, and not one byte of a value") {
  if (!has_tool()) return;
  temporary_directory directory;
  const auto path = directory / "test.arena";
  {
    map m = map::create(path, {.max_slots = 1000});
    parts::value secret = parts::plain(0x5ec3'e7);
    std::strcpy(secret.name, "s3cret");
    secret.next = m.insert(secret);
    m.insert(secret);
  }
  for (const std::string command : {"slots", "get", "export"}) {
    for (const std::string format : {"table", "json", "ndjson", "csv"}) {
      if (command == "export" && format == "table") continue;
      INFO(command << ' ' << format);
      const std::string keys = command == "get" ? "1:1" : "";
      const auto shown = run_dm_inspect(directory, command + " --redact --format " + format + quoted(path) + keys);
      CHECK(shown.code == 0);
      // An export's schema comes before its records, and has the names of all enumerators.
      const std::string shown_records = shown.out.substr(std::min(shown.out.find("0:1"), shown.out.size()));
      for (const char* part : {"s3cret", "6210535", "green", "0xfe", "621053.5"})
        CHECK(shown_records.find(part) == std::string::npos);
      for (const char* part : {"0:1", "text(11)", "u64", "bytes(5)", "enum(u8)"})
        CHECK(shown.out.find(part) != std::string::npos);
    }
  }
}
