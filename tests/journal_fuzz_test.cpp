// Journals and arenas that somebody damaged, at random or on purpose: opened, inspected, logged, salvaged. Every outcome is a
// commit's state or an error in words, and what opening refuses is an error of the check.
//
// Damage is of two kinds. *Accidents* (bits, bytes, stretches, ends) leave checksums as they were: then what is opened is
// exactly some commit, and never older than one that an intact record vouches for. *Malice* seals what it changed again: then
// there need only be no crash, no hang and no memory for numbers that somebody made up.
//
// DEFERRED_MAP_FUZZ_ROUNDS and DEFERRED_MAP_FUZZ_SEED do more, or one again.
#include <sys/resource.h>

#include <cstring>
#include <functional>
#include <optional>
#include <random>
#include <set>

#include "accounts.hpp"
#include "catch.hpp"
#include "deferred_map/format/journal.hpp"
#include "deferred_map/inspect.hpp"
#include "effort.hpp"
#include "files.hpp"
#include "fuzz_rounds.hpp"
#include "temporary_directory.hpp"

using namespace accounts;
namespace inspect = dm::inspect;

namespace {

using contents = std::map<std::uint64_t, std::int64_t>;

struct sample {
  std::string arena, journal;
  std::map<std::uint64_t, contents> at_commit;
};

/// A killed map, and what it held at each of its commits.
sample make_sample(const temporary_directory& directory, const dm::durable_options& how, int commits,
                   bool ends_closed) {
  const auto path = directory / "sample";
  sample made;
  std::mt19937 random(7);
  map m = map::create(path, how);
  made.at_commit[0] = {};
  std::vector<dm::key> live;
  for (int i = 0; i < commits; ++i) {
    for (int j = 0; j < 6; ++j) {
      if (live.size() < 5 || random() % 3 != 0) {
        live.push_back(m.insert(with_balance(i * 100 + j)));
      } else if (random() % 2 == 0) {
        m.at(live[random() % live.size()]).balance = -i;
      } else {
        m.erase(live.back());
        live.pop_back();
      }
    }
    made.at_commit[m.commit(i % 3 == 1 ? dm::sync::later : dm::sync::now)] = contents_of(m);
  }
  if (ends_closed) {
    // As where the removal of the journal was lost.
    made.journal = read_file(journal_of(path));
    m.close();
  } else {
    made.journal = read_file(journal_of(path));
  }
  made.arena = read_file(path);
  m = map();
  std::filesystem::remove(path);
  std::filesystem::remove(journal_of(path));
  return made;
}

/// The greatest commit that an intact record of a file says is on the disk.
std::uint64_t vouched_in(std::string bytes) {
  std::uint64_t vouched = 0;
  for (std::size_t at = dm::journal_head_bytes; at + sizeof(dm::journal_record) <= bytes.size(); at += 8) {
    dm::journal_record head;
    std::memcpy(&head, bytes.data() + at, sizeof head);
    if (head.magic != dm::journal_record::right_magic || head.size_bytes < sizeof head || head.size_bytes % 8 != 0 ||
        head.size_bytes > bytes.size() - at || head.commit <= head.durable_commit)
      continue;
    const std::uint64_t said = head.checksum;
    if (dm::seal_record(std::as_writable_bytes(std::span(bytes).subspan(at, head.size_bytes))) == said)
      vouched = std::max(vouched, head.durable_commit);
    else
      std::memcpy(bytes.data() + at, &said, sizeof said);
  }
  return vouched;
}

template <class T>
T& at_random(std::mt19937_64& random, std::vector<T>& of) {
  return of[random() % of.size()];
}

/// Where there is something: a change of zeros behind the end changes nothing.
std::size_t place_in(const std::string& bytes, std::mt19937_64& random) {
  const std::size_t some = random() % bytes.size();
  if (random() % 8 == 0) return some;
  const std::size_t at = bytes.find_first_not_of('\0', some);
  return at == std::string::npos ? some : at;
}

void accident(std::string& bytes, std::mt19937_64& random) {
  const std::size_t at = place_in(bytes, random);
  const std::size_t length = std::min<std::size_t>(random() % (random() % 2 == 0 ? 16 : 5000) + 1, bytes.size() - at);
  switch (random() % 6) {
    case 0:
    case 1:
      bytes[at] = static_cast<char>(bytes[at] ^ 1 << random() % 8);
      break;
    case 2:
      for (std::size_t i = 0; i < length; ++i) bytes[at + i] = static_cast<char>(random());
      break;
    case 3:
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), length, '\0');
      break;
    case 4: {  // a sector of elsewhere
      const std::size_t from = place_in(bytes, random) / 512 * 512, to = at / 512 * 512;
      const std::size_t part = std::min<std::size_t>({512, bytes.size() - from, bytes.size() - to});
      bytes.replace(to, part, bytes.substr(from, part));
      break;
    }
    case 5:
      bytes.resize(at);
      break;
  }
}

std::uint64_t evil_number(std::uint64_t was, std::mt19937_64& random) {
  switch (random() % 5) {
    case 0:
      return random() % 64;
    case 1:
      return was + random() % 64 - 32;
    case 2:
      return ~std::uint64_t{0} - random() % 64;
    case 3:
      return std::uint64_t{1} << random() % 64;
    default:
      return random();
  }
}

/// Changes a number of a header, a record or a range of the journal, or of the arena's counts, and seals what it changed.
void malice(std::string& arena, std::string& journal, std::mt19937_64& random) {
  if (random() % 8 == 0) {
    dm::arena_header header;
    std::memcpy(&header, arena.data(), sizeof header);
    const std::size_t at = header.control_offset + random() % (sizeof(dm::control_block) / 4) * 4;
    const auto number = static_cast<std::uint32_t>(evil_number(0, random));
    std::memcpy(arena.data() + at, &number, sizeof number);
    if (random() % 2 == 0) {
      dm::control_block control;
      std::memcpy(&control, arena.data() + header.control_offset, sizeof control);
      control.closed = control.synced = control.checksum();
      std::memcpy(arena.data() + header.control_offset, &control, sizeof control);
    }
    return;
  }
  if (random() % 4 == 0) {
    const std::size_t place = random() % 2 * 4096;
    dm::journal_header header;
    std::memcpy(&header, journal.data() + place, sizeof header);
    std::uint64_t* const fields[] = {&header.generation, &header.first_commit, &header.seed, &header.start_offset};
    std::uint64_t& field = *fields[random() % 4];
    field = evil_number(field, random);
    header.checksum = header.computed_checksum();
    std::memcpy(journal.data() + place, &header, sizeof header);
    return;
  }
  // A record, and all behind it that name its checksum.
  std::vector<std::size_t> records;
  for (std::size_t at = dm::journal_head_bytes; at + sizeof(dm::journal_record) <= journal.size(); at += 8) {
    std::uint32_t magic = 0;
    std::memcpy(&magic, journal.data() + at + 8, sizeof magic);
    if (magic == dm::journal_record::right_magic) records.push_back(at);
  }
  if (records.empty()) return;
  const std::size_t first = random() % records.size();
  std::uint64_t before = 0, after = 0;
  for (std::size_t i = first; i < records.size(); ++i) {
    const std::size_t at = records[i];
    dm::journal_record head;
    std::memcpy(&head, journal.data() + at, sizeof head);
    if (head.size_bytes < sizeof head || head.size_bytes > journal.size() - at) return;
    if (i == first) {
      before = head.checksum;
      const std::size_t words = head.size_bytes / 8;
      // Numbers of heads and of ranges are where the harm is.
      const std::size_t word = random() % 2 == 0 ? 2 + random() % 8 : random() % std::min<std::size_t>(words, 40);
      std::uint64_t number = 0;
      std::memcpy(&number, journal.data() + at + word * 8, sizeof number);
      number = evil_number(number, random);
      if (word < words) std::memcpy(journal.data() + at + word * 8, &number, sizeof number);
      std::memcpy(&head, journal.data() + at, sizeof head);
      if (head.size_bytes < sizeof head || head.size_bytes > journal.size() - at) return;
    } else {
      if (head.previous != before) return;
      before = head.checksum;
      head.previous = after;
      std::memcpy(journal.data() + at, &head, sizeof head);
    }
    after = dm::seal_record(std::as_writable_bytes(std::span(journal).subspan(at, head.size_bytes)));
  }
}

contents seen_in(const inspect::arena_file& arena) {
  contents found;
  inspect::slot_scan scan(arena, {}, inspect::slot_parts::versions_and_values);
  while (const auto* slot = scan.next()) {
    if (slot->state() != dm::slot_state::occupied || slot->value.size() < sizeof(account)) continue;
    account value;
    std::memcpy(&value, slot->value.data(), sizeof value);
    found[dm::key::from_parts(slot->index, slot->generation()).bits()] = value.balance;
  }
  return found;
}

struct tally {
  std::size_t opened = 0, refused = 0, salvaged = 0, older = 0, repaired = 0, left = 0;
};

enum class damage { journal_by_accident, arena_by_accident, malice };

/// A copy with what can be read of both. Returns whether there was nothing to repair; nothing where it was refused.
std::optional<bool> repair(const std::filesystem::path& path, const std::filesystem::path& mended, bool is_arena_sound,
                           const contents& inspected, tally& counted) {
  std::filesystem::remove(mended);
  std::filesystem::remove(journal_of(mended));
  try {
    const auto report = inspect::repair_to(inspect::arena_file::open(path), mended);
    if (!report.is_needed) return true;
    if (!report.after || !report.is_clean()) {
      ++counted.left;
      return false;
    }
    ++counted.repaired;
    const auto copy = inspect::arena_file::open(mended);
    if (inspect::plan_repair(copy).is_needed) FAIL("what was repaired needs it still");
    const bool is_durable = copy.layout().kind == static_cast<std::uint32_t>(dm::arena_kind::durable);
    if (!is_durable) return false;  // as somebody made it
    map m = map::open(mended, {.verify = true});
    // Nothing is lost, and nothing added, where the slots are sound.
    if (is_arena_sound && contents_of(m) != inspected) FAIL("what was repaired has other values than were shown");
    m.insert(with_balance(1));
    m.commit();
    if (m.verify() != "") FAIL("unsound after a commit to what was repaired");
    return false;
  } catch (const dm::error& e) {
    if (e.code() == dm::errc::damaged || e.code() == dm::errc::not_an_arena || e.code() == dm::errc::type_mismatch ||
        e.code() == dm::errc::newer_format)
      return std::nullopt;
    FAIL("repair: " << e.what());
    return std::nullopt;
  }
}

void one_round(const sample& from, damage what, std::uint64_t seed, const temporary_directory& directory,
               tally& counted) {
  std::mt19937_64 random(seed);
  std::string arena = from.arena, journal = from.journal;
  for (std::uint64_t i = random() % 3 + 1; i != 0; --i) {
    if (what == damage::journal_by_accident && !journal.empty()) accident(journal, random);
    if (what == damage::arena_by_accident && !arena.empty()) accident(arena, random);
    if (what == damage::malice) malice(arena, journal, random);
  }
  const auto path = directory / "m";
  write_file(path, arena);
  write_file(journal_of(path), journal);

  // Looked at first: it must not change a byte.
  bool is_clean = false, is_arena = true;
  contents inspected;
  std::uint64_t shown = 0;
  bool is_applied = false;
  try {
    const auto looked_at = inspect::arena_file::open(path);
    const auto report = inspect::check(looked_at);
    is_clean = report.is_clean();
    if (looked_at.has_layout()) inspected = seen_in(looked_at);
    (void)inspect::summarize(looked_at);
    is_applied = looked_at.journal() && looked_at.journal()->is_applied;
    if (looked_at.journal()) shown = looked_at.journal()->shown_commit;
  } catch (const dm::error&) {
    is_arena = false;
  }
  try {
    inspect::commit_reader reader(path,
                                  {.from = random() % 4, .pin = random() % 2 == 0, .only_vouched = random() % 2 == 0});
    for (int events = 0; events < 10'000 && reader.next() != nullptr; ++events) continue;
  } catch (const dm::error&) {
  }
  const std::optional<bool> needs_no_repair =
      repair(path, directory / "mended", what == damage::journal_by_accident, inspected, counted);
  if (read_file(path) != arena || read_file(journal_of(path)) != journal) FAIL("an inspection or a repair wrote");

  bool has_opened = false;
  try {
    const map reader = map::open_read_only(path, {.verify = true});
    has_opened = true;
    const contents found = contents_of(reader);
    if (what == damage::journal_by_accident) {
      const auto commit = from.at_commit.find(reader.last_commit());
      if (commit == from.at_commit.end() || commit->second != found) FAIL("opened at no commit's state");
      if (reader.last_commit() < vouched_in(journal))
        FAIL("opened at commit " << reader.last_commit() << ", and " << vouched_in(journal) << " was vouched for");
      counted.older += reader.last_commit() != from.at_commit.rbegin()->first;
    }
    // An arena has bytes that opening does not ask for, and the check does.
    if (what == damage::journal_by_accident && !is_clean) FAIL("opened, and the check finds errors");
    if (inspected != found) FAIL("the inspection shows something else");
    if (is_applied && shown != reader.last_commit()) FAIL("the inspection is at another commit");
  } catch (const dm::error& e) {
    if (is_arena && is_clean) FAIL("refused, and the check finds no error: " << e.what());
    if (needs_no_repair == true) FAIL("refused, and there is nothing to repair: " << e.what());
  }
  try {
    map m = map::open(path, {.verify = true});
    if (!has_opened) FAIL("opened to write what was refused to read");
    ++counted.opened;
    if (what == damage::journal_by_accident) {
      m.insert(with_balance(1));
      m.commit();
      if (m.verify() != "") FAIL("unsound after a commit");
      m.close();
      if (map::open_read_only(path, {.verify = true}).size() != inspected.size() + 1)
        FAIL("a commit behind it is lost");
    }
  } catch (const dm::error& e) {
    ++counted.refused;
    if (has_opened && e.code() != dm::errc::full) FAIL("opened to read, and refused to write: " << e.what());
    try {
      map m = map::open(path, {.salvage = true});
      if (m.verify() != "") FAIL("unsound after a salvage: " << m.verify());
      ++counted.salvaged;
      m.insert(with_balance(1));
      m.commit();
      m.close();
      if (map::open(path, {.verify = true}).verify() != "") FAIL("unsound when opened after a salvage");
    } catch (const dm::error&) {
      // Not even that: the arena itself, or two generations of which neither follows the other.
    }
  }
}

}  // namespace

TEST_CASE("a damaged journal or arena is opened at a commit, or refused in words, and the inspection says the same") {
  temporary_directory directory(temporary_directory::in_memory());
  const std::vector<sample> samples{
      make_sample(directory, {.max_slots = 2000}, 12, false),
      make_sample(directory, {.max_slots = 2000, .journal_bytes = 3000}, 60, false),
      make_sample(directory, {.max_slots = 2000}, 8, true),
  };
  const std::uint64_t rounds = number_from("DEFERRED_MAP_FUZZ_ROUNDS", sanitized ? 40 : 300);
  const std::uint64_t first = number_from("DEFERRED_MAP_FUZZ_SEED", 1);
  for (const damage what : {damage::journal_by_accident, damage::arena_by_accident, damage::malice}) {
    tally counted;
    std::vector<std::uint64_t> seeds{4, 18, 1726, 4364, 11487, 11515};  // these found something
    for (std::uint64_t seed = first; seed < first + rounds; ++seed) seeds.push_back(seed);
    for (const std::uint64_t seed : seeds) {
      INFO("damage " << static_cast<int>(what) << ", DEFERRED_MAP_FUZZ_SEED=" << seed << " DEFERRED_MAP_FUZZ_ROUNDS=1");
      one_round(samples[seed % samples.size()], what, seed, directory, counted);
    }
    if (rounds > 1000)
      WARN("damage " << static_cast<int>(what) << ": " << counted.opened << " opened, " << counted.refused
                     << " refused, " << counted.salvaged << " of them salvaged, " << counted.older
                     << " at an older commit; " << counted.repaired << " repaired, " << counted.left
                     << " with faults left");
    if (rounds < 40) continue;
    CHECK(counted.opened > 0);
    CHECK(counted.refused > 0);
    CHECK(counted.salvaged > 0);
    CHECK(counted.repaired > 0);
  }
  struct rusage used {};
  ::getrusage(RUSAGE_SELF, &used);
  if (!sanitized) CHECK(used.ru_maxrss < 400 * 1024);  // KiB
}
