// The golden files of all kinds, damaged at random, and everything that dm-inspect does with a file: no crash, nothing printed
// that a terminal should not be given, no more read and kept than the file's size justifies; and what is repaired is sound.
//
// Some damage is of the medium: bits, bytes, stretches, ends. Some is on purpose: numbers made up, under checksums made anew.
// DEFERRED_MAP_FUZZ_ROUNDS and DEFERRED_MAP_FUZZ_SEED do more, or one again.
#include <sys/resource.h>
#include <xxhash.h>

#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "catch.hpp"
#include "deferred_map/format/value_text.hpp"
#include "deferred_map/inspect.hpp"
#include "effort.hpp"
#include "files.hpp"
#include "fuzz_rounds.hpp"
#include "run_tool.hpp"

namespace inspect = dm::inspect;

namespace {

/// A file's bytes in memory, counting what is asked for.
class counted_source final : public inspect::byte_source {
 public:
  counted_source(const std::string& bytes, std::uint64_t& bytes_read) : bytes_(bytes), bytes_read_(bytes_read) {}
  std::size_t read(std::uint64_t offset, std::span<std::byte> out) const override {
    bytes_read_ += out.size();
    if (offset >= bytes_.size()) return 0;
    const std::size_t size = std::min<std::size_t>(out.size(), bytes_.size() - offset);
    std::memcpy(out.data(), bytes_.data() + offset, size);
    return size;
  }
  std::uint64_t size_bytes() const override { return bytes_.size(); }

 private:
  const std::string& bytes_;
  std::uint64_t& bytes_read_;
};

std::uint64_t evil_number(std::uint64_t was, std::mt19937_64& random) {
  switch (random() % 6) {
    case 0:
      return random() % 64;
    case 1:
      return was + random() % 64 - 32;
    case 2:
      return ~std::uint64_t{0} - random() % 64;
    case 3:
      return std::uint64_t{1} << random() % 64;
    case 4:
      return std::uint64_t{0x4000'0000} - random() % 3;  // about the largest value there may be
    default:
      return random();
  }
}

template <class Number>
void make_up(std::string& bytes, std::size_t begin, std::size_t size, std::mt19937_64& random) {
  const std::size_t at = begin + random() % (size / sizeof(Number)) * sizeof(Number);
  if (at + sizeof(Number) > bytes.size()) return;
  Number number;
  std::memcpy(&number, &bytes[at], sizeof number);
  number = static_cast<Number>(evil_number(number, random));
  std::memcpy(&bytes[at], &number, sizeof number);
}

/// Where there is something: zeros in the place of zeros change nothing.
std::size_t place_in(const std::string& bytes, std::mt19937_64& random) {
  const std::size_t some = random() % bytes.size();
  const std::size_t at = random() % 4 == 0 ? std::string::npos : bytes.find_first_not_of('\0', some);
  return at == std::string::npos ? some : at;
}

void accident(std::string& bytes, std::mt19937_64& random) {
  const std::size_t at = random() % 16 == 0 ? 0 : place_in(bytes, random);
  const std::size_t length = std::min<std::size_t>(random() % (random() % 2 == 0 ? 16 : 3000) + 1, bytes.size() - at);
  switch (random() % 8) {
    case 0:
      bytes.resize(at == 0 ? 1 : at);
      break;
    case 1:
      bytes.resize(bytes.size() + random() % 200'000);
      break;
    case 2:
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), length, static_cast<char>(random() % 2 - 1));
      break;
    case 3:
      for (std::size_t i = 0; i < length; ++i) bytes[at + i] = static_cast<char>(random());
      break;
    case 4:
      make_up<std::uint32_t>(bytes, 0, bytes.size(), random);
      break;
    default:
      bytes[at] = static_cast<char>(bytes[at] ^ 1 << random() % 8);
  }
}

/// Numbers of header, schema or control block, and the checksums that vouch for them.
void malice(std::string& bytes, std::mt19937_64& random) {
  if (bytes.size() < sizeof(dm::arena_header)) return;
  dm::arena_header header;
  std::memcpy(static_cast<void*>(&header), bytes.data(), sizeof header);
  const std::uint64_t control_offset = header.control_offset;
  if (control_offset > bytes.size() || control_offset < sizeof header) return;
  const std::size_t part = random() % 4;
  if (part == 0) {
    const std::size_t begin = random() % 8 == 0 ? 0 : 56;  // mostly behind the uuid: sizes, offsets, the name
    random() % 2 == 0 ? make_up<std::uint32_t>(bytes, begin, 248, random)
                      : make_up<std::uint64_t>(bytes, begin, 248, random);
  } else if (part == 1) {
    const std::size_t size =
        std::max<std::size_t>(std::min<std::size_t>(header.schema_size_bytes, control_offset - 512), 8);
    random() % 2 == 0 ? make_up<std::uint32_t>(bytes, 512, size, random)
                      : make_up<std::uint8_t>(bytes, 512, size, random);
  } else if (control_offset + sizeof(dm::control_block) <= bytes.size()) {
    for (auto numbers = 1 + random() % 3; numbers != 0; --numbers)
      make_up<std::uint32_t>(bytes, control_offset, sizeof(dm::control_block), random);
    dm::control_block control;
    std::memcpy(static_cast<void*>(&control), &bytes[control_offset], sizeof control);
    if (control.closed != 0) control.closed = control.checksum();
    if (control.synced != 0) control.synced = control.checksum();
    std::memcpy(&bytes[control_offset], &control, sizeof control);
  }
  std::memcpy(static_cast<void*>(&header), bytes.data(), sizeof header);
  const auto region = std::as_bytes(std::span(bytes)).subspan(sizeof header, control_offset - sizeof header);
  header.schema_checksum = XXH3_64bits(region.data(), region.size());
  header.checksum = header.computed_checksum();
  std::memcpy(bytes.data(), &header, sizeof header);
}

bool is_printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c == '\n' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f); });
}

struct tally {
  std::uint64_t files = 0, no_arena = 0, no_layout = 0, clean = 0, faulty = 0, repaired = 0, refused = 0, left = 0;
};

/// Everything the library does with a file that it is only to look at, and a repair.
void use(const std::string& bytes, const std::string& sound, const std::filesystem::path& scratch, tally& counts) {
  ++counts.files;
  std::uint64_t bytes_read = 0;
  std::optional<inspect::arena_file> opened;
  const auto unusable =
      error_of([&] { opened.emplace("hostile", std::make_unique<counted_source>(bytes, bytes_read)); });
  if (unusable) {
    ++counts.no_arena;
    CHECK(is_printable(unusable->what()));
    return;
  }
  const inspect::arena_file& arena = *opened;
  const auto step = [&](const char* name, auto work) {
    INFO(name);
    bytes_read = 0;
    work();
    // Each byte of the file a few times, and what is around the places it points to.
    CHECK(bytes_read <= 32 * (bytes.size() + (std::uint64_t{1} << 20)));
  };
  step("summary", [&] { CHECK(is_printable(inspect::summarize(arena).left_text)); });
  inspect::check_report before;
  step("check", [&] {
    before = inspect::check(arena);
    for (const auto& found : before.findings.listed()) CHECK(is_printable(found.text));
  });
  ++(before.is_clean() ? counts.clean : counts.faulty);
  const bool is_usable = arena.has_layout() && !arena.has_newer_format();
  if (!is_usable) {
    ++counts.no_layout;
  } else {
    const dm::schema* const schema = arena.schema() ? &*arena.schema() : nullptr;
    if (schema != nullptr) step("schema", [&] { CHECK(is_printable(inspect::to_cpp(*schema))); });
    if (schema != nullptr) step("numpy", [&] { CHECK(is_printable(inspect::numpy_program(arena))); });
    step("slots", [&] {
      inspect::slot_scan scan(arena, {}, inspect::slot_parts::versions_and_values);
      for (int shown = 0; const inspect::slot_view* slot = scan.next();)
        if (schema != nullptr && ++shown <= 20) CHECK(is_printable(dm::to_text(*schema, slot->value)));
    });
    step("survey and pictures", [&] {
      const inspect::survey found = inspect::take_survey(arena, {.regions = 300});
      CHECK(found.total.slots == arena.slot_count());
      const inspect::picture_grid grid = inspect::grid_for(arena.slot_count(), 80, 20);
      CHECK(is_printable(inspect::picture_text(found, grid, {})));
      CHECK(is_printable(inspect::picture_svg(found, 100, "hostile")));
    });
    if (arena.control()) step("owners", [&] { inspect::find_owners(arena); });
    step("samples", [&] {
      const inspect::slot_sample one(arena), two(arena);
      const auto happened = inspect::compare(one, two, 10);
      CHECK((happened && happened->changed == 0));
    });
    step("lookup", [&] {
      for (const std::uint32_t slot : {0u, 3u, arena.slot_count(), 0xffff'ffffu})
        for (const std::uint32_t version : {3u, 7u, 0xffff'ffffu}) inspect::lookup(arena, {slot, version});
    });
    step("diff", [&] {
      std::uint64_t more = 0;
      const inspect::arena_file other("sound", std::make_unique<counted_source>(sound, more));
      inspect::diff(arena, other, [](const inspect::difference&) {});
      const auto itself = inspect::diff(arena, arena, [](const inspect::difference&) {});
      CHECK(itself.is_same());
    });
  }
  step("repair", [&] {
    std::filesystem::remove(scratch);
    const auto error = error_of([&] {
      const auto report = inspect::repair_to(arena, scratch);
      for (const auto& found : report.before.findings.listed())
        CHECK(found.repairable <= !inspect::mending_of(found.rule).empty());
      if (!report.after) {
        CHECK_FALSE(std::filesystem::exists(scratch));
        ++(report.refusal.empty() ? counts.left : counts.refused);
        return;
      }
      if (!report.is_clean()) {
        ++counts.left;
        return;
      }
      ++counts.repaired;
      const auto again = inspect::plan_repair(inspect::arena_file::open(scratch));
      CHECK_FALSE(again.is_needed);
      CHECK(again.before.is_clean());
    });
    if (error) {
      ++counts.refused;
      CHECK(is_printable(error->what()));
      CHECK_FALSE(std::filesystem::exists(scratch));
    }
  });
}

std::vector<std::pair<std::string, std::string>> golden_files() {
  std::vector<std::pair<std::string, std::string>> files;
  const auto golden = std::filesystem::path(std::getenv("SOURCE_ROOT")) / "tests" / "golden";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(golden))
    if (entry.path().extension() == ".arena")
      files.emplace_back(std::filesystem::relative(entry.path(), golden).string(), read_file(entry.path()));
  std::sort(files.begin(), files.end());
  return files;
}

std::string damaged(std::string bytes, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (auto damages = 1 + random() % 4; damages != 0; --damages)
    random() % 2 == 0 ? accident(bytes, random) : malice(bytes, random);
  return bytes;
}

}  // namespace

TEST_CASE("of damaged golden files everything is told that can be, in little memory, and what is mended is sound") {
  if (std::getenv("SOURCE_ROOT") == nullptr) {
    WARN("SOURCE_ROOT is not set: there are no golden files");
    return;
  }
  temporary_directory directory(temporary_directory::in_memory());
  const auto files = golden_files();
  REQUIRE(files.size() > 20);
  const std::uint64_t rounds = number_from("DEFERRED_MAP_FUZZ_ROUNDS", sanitized ? 3 : 25);
  const std::uint64_t first_seed = number_from("DEFERRED_MAP_FUZZ_SEED", 1);
  tally counts;
  for (const auto& [name, bytes] : files) {
    for (std::uint64_t seed = first_seed; seed < first_seed + rounds; ++seed) {
      INFO(name << ", DEFERRED_MAP_FUZZ_SEED=" << seed << " DEFERRED_MAP_FUZZ_ROUNDS=1");
      use(damaged(bytes, seed), bytes, directory / "mended", counts);
    }
  }
  struct rusage used {};
  ::getrusage(RUSAGE_SELF, &used);
  if (!sanitized) CHECK(used.ru_maxrss < 400'000);
  if (rounds > 25)
    WARN(counts.files << " files: " << counts.no_arena << " no arena, " << counts.no_layout << " without a layout, "
                      << counts.clean << " clean, " << counts.faulty << " faulty; " << counts.repaired << " repaired, "
                      << counts.refused << " refused, " << counts.left << " nothing done or some left; "
                      << used.ru_maxrss << " KiB at most");
  // Not all of one sort.
  if (rounds < 25) return;
  CHECK(counts.no_arena > 0);
  CHECK(counts.clean > 0);
  CHECK(counts.repaired > counts.files / 10);
  CHECK(counts.refused > 0);
}

TEST_CASE("the tool says one line or a result about damaged golden files, and exits as it is told to") {
  if (!has_tool() || std::getenv("SOURCE_ROOT") == nullptr) return;
  temporary_directory directory(temporary_directory::in_memory());
  const auto path = directory / "hostile.arena";
  const auto files = golden_files();
  const std::string verbs[] = {"info",   "slots --format json", "check --format json",  "stats", "map", "owners",
                               "export", "repair --dry-run",    "schema --format numpy"};
  const std::uint64_t rounds = number_from("DEFERRED_MAP_FUZZ_ROUNDS", sanitized ? 1 : 3);
  const std::uint64_t first_seed = number_from("DEFERRED_MAP_FUZZ_SEED", 1);
  std::size_t turn = 0;
  for (const auto& [name, bytes] : files) {
    for (std::uint64_t seed = first_seed; seed < first_seed + rounds; ++seed) {
      const std::string hostile = damaged(bytes, seed + 1'000'000);
      write_file(path, hostile);
      for (int i = 0; i < 3; ++i) {
        const std::string& verb = verbs[turn++ % std::size(verbs)];
        INFO(name << ", " << verb << ", DEFERRED_MAP_FUZZ_SEED=" << seed << " DEFERRED_MAP_FUZZ_ROUNDS=1");
        const auto result = run_dm_inspect(directory, verb + quoted(path));
        CHECK((result.code == 0 || result.code == 4 || result.code == 8));
        CHECK((result.code != 8 || std::count(result.errors.begin(), result.errors.end(), '\n') >= 1));
        CHECK(is_printable(result.out));
        CHECK(is_printable(result.errors));
      }
      CHECK(read_file(path) == hostile);
    }
  }
}
