// Maps in a Boost.Interprocess segment that two processes use in turn, each at another address.
//
// The other process is this program again, run with the name of the hidden test case at the end of this file. The two
// hand each other a text file that says what must be in the segment: each checks that, makes its changes to both, and
// hands them back. So nothing that one process only believes can pass for what the other finds.
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/containers/string.hpp>
#include <boost/interprocess/managed_mapped_file.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/shared_memory_object.hpp>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "deferred_map/deferred_map.hpp"
#include "deferred_map/join.hpp"
#include "deferred_map/secondary_map.hpp"
#include "deferred_map/sparse_secondary_map.hpp"
#include "temporary_directory.hpp"

extern char** environ;

namespace {

namespace bip = boost::interprocess;

constexpr std::size_t segment_bytes = std::size_t{8} << 20;
constexpr int turns = 20;  // of each process

/// What must be in the segment, in memory of each process's own.
struct model {
  std::map<std::uint64_t, std::uint64_t> numbers;             // by the bits of the key, here and below
  std::vector<std::uint64_t> dead;                            // keys that were live once
  std::vector<std::uint64_t> abandoned;                       // keys of handles that nobody filled
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ring;  // in the order of the links
  std::map<std::uint64_t, std::string> texts;
  std::map<std::uint64_t, std::uint64_t> weights;  // may be of dead keys: secondary maps are not told
  std::map<std::uint64_t, std::string> notes;

  void write(const std::filesystem::path& path) const {
    std::ofstream out(path);
    for (const auto& [bits, number] : numbers) out << "number " << bits << ' ' << number << '\n';
    for (const std::uint64_t bits : dead) out << "dead " << bits << " 0\n";
    for (const std::uint64_t bits : abandoned) out << "abandoned " << bits << " 0\n";
    for (const auto& [bits, name] : ring) out << "ring " << bits << ' ' << name << '\n';
    for (const auto& [bits, text] : texts) out << "text " << bits << ' ' << text << '\n';
    for (const auto& [bits, weight] : weights) out << "weight " << bits << ' ' << weight << '\n';
    for (const auto& [bits, note] : notes) out << "note " << bits << ' ' << note << '\n';
    out << "end 0 0\n";
    out.close();
    REQUIRE(out.good());
  }

  static model read(const std::filesystem::path& path) {
    model m;
    std::ifstream in(path);
    std::string what;
    std::string value;
    for (std::uint64_t bits = 0; in >> what >> bits >> value && what != "end";) {
      const auto number = [&value] { return std::uint64_t{std::stoull(value)}; };
      if (what == "number") m.numbers[bits] = number();
      if (what == "dead") m.dead.push_back(bits);
      if (what == "abandoned") m.abandoned.push_back(bits);
      if (what == "ring") m.ring.emplace_back(bits, number());
      if (what == "text") m.texts[bits] = value;
      if (what == "weight") m.weights[bits] = number();
      if (what == "note") m.notes[bits] = value;
    }
    REQUIRE(what == "end");
    return m;
  }
};

/// A member of a ring: the links are keys, so they mean the same wherever the segment is.
struct member {
  std::uint64_t name;
  dm::key next;
  dm::key previous;
};

/// The maps of one segment, and what must be in them.
template <class Segment>
class world {
  using manager = typename Segment::segment_manager;
  template <class T>
  using allocator = bip::allocator<T, manager>;
  using text = bip::basic_string<char, std::char_traits<char>, allocator<char>>;

 public:
  using number_map = dm::deferred_map<std::uint64_t, dm::key, allocator<std::uint64_t>>;
  using ring_map = dm::deferred_map<member, dm::key, allocator<member>>;
  using text_map = dm::deferred_map<text, dm::key, allocator<text>>;
  using weight_map = dm::secondary_map<std::uint64_t, dm::key, allocator<std::uint64_t>>;
  using note_map = dm::sparse_secondary_map<text, dm::key, allocator<text>>;

  explicit world(Segment& segment)
      : segment_(segment),
        numbers_(*made<number_map>("numbers")),
        ring_(*made<ring_map>("ring")),
        texts_(*made<text_map>("texts")),
        weights_(*made<weight_map>("weights")),
        notes_(*made<note_map>("notes")) {}

  model expected;

  /// What differs between the segment and `expected`, or an empty string.
  std::string difference() const {
    for (const std::string& fault :
         {numbers_.verify(), ring_.verify(), texts_.verify(), weights_.verify(), notes_.verify()})
      if (!fault.empty()) return "verify: " + fault;
    if (!same(numbers_, expected.numbers)) return "numbers";
    if (!same(texts_, expected.texts)) return "texts";
    if (!same(weights_, expected.weights)) return "weights";
    if (!same(notes_, expected.notes)) return "notes";
    for (const std::uint64_t bits : expected.dead)
      if (numbers_.contains(key_of(bits))) return "a dead key is live";
    if (numbers_.reserved_count() != expected.abandoned.size()) return "reserved slots";
    for (const std::uint64_t bits : expected.abandoned)
      if (numbers_.contains(key_of(bits))) return "the key of a handle is live before it is filled";
    if (std::string fault = ring_difference(); !fault.empty()) return fault;
    return join_difference();
  }

  void take_turn(std::uint64_t seed) {
    random_.seed(seed);
    give_up_abandoned();
    const std::size_t steps = 50 + below(150);
    for (std::size_t i = 0; i < steps; ++i) step();
    if (below(8) == 0) {
      numbers_.clear();
      for (const auto& [bits, number] : expected.numbers) expected.dead.push_back(bits);
      expected.numbers.clear();
    }
    if (below(3) == 0) {
      numbers_.shrink_to_fit();
      ring_.shrink_to_fit();
      texts_.shrink_to_fit();
      weights_.shrink_to_fit();
      notes_.shrink_to_fit();
    }
    abandon_handles();
  }

  void destroy() {
    segment_.template destroy<note_map>("notes");
    segment_.template destroy<weight_map>("weights");
    segment_.template destroy<text_map>("texts");
    segment_.template destroy<ring_map>("ring");
    segment_.template destroy<number_map>("numbers");
  }

 private:
  template <class Map>
  Map* made(const char* name) {
    return segment_.template find_or_construct<Map>(name)(typename Map::allocator_type(segment_.get_segment_manager()));
  }
  static dm::key key_of(std::uint64_t bits) { return dm::key::from_bits(bits); }
  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(random_() % limit); }

  /// Long enough not to fit into the string itself, mostly.
  std::string some_text() { return std::string(1 + below(60), static_cast<char>('a' + below(26))); }
  text in_segment(const std::string& s) { return text(s.c_str(), allocator<char>(segment_.get_segment_manager())); }

  static bool equal(std::uint64_t a, std::uint64_t b) { return a == b; }
  static bool equal(const text& a, const std::string& b) { return std::string_view(a.data(), a.size()) == b; }

  /// Found one by one, and walked.
  template <class Map, class Expected>
  static bool same(const Map& map, const Expected& values) {
    if (map.size() != values.size()) return false;
    for (const auto& [bits, value] : values) {
      const auto* found = map.get(key_of(bits));
      if (found == nullptr || !equal(*found, value)) return false;
    }
    std::size_t walked = 0;
    for (const auto [k, value] : map) {
      const auto it = values.find(k.bits());
      if (it == values.end() || !equal(value, it->second)) return false;
      ++walked;
    }
    return walked == values.size();
  }

  std::string ring_difference() const {
    if (ring_.size() != expected.ring.size()) return "the size of the ring";
    if (expected.ring.empty()) return {};
    dm::key at = key_of(expected.ring.front().first);
    dm::key before = key_of(expected.ring.back().first);
    for (const auto& [bits, name] : expected.ring) {
      const member* m = ring_.get(at);
      if (m == nullptr || at != key_of(bits) || m->name != name || m->previous != before) return "a member of the ring";
      before = std::exchange(at, m->next);
    }
    return at == key_of(expected.ring.front().first) ? std::string() : "the ring is not closed";
  }

  std::string join_difference() const {
    std::size_t expected_count = 0;
    for (const auto& [bits, number] : expected.numbers)
      expected_count += expected.weights.contains(bits) && expected.notes.contains(bits);
    std::size_t count = 0;
    for (const auto& [k, number, weight, note] : dm::join(numbers_, weights_, notes_)) {
      if (!equal(number, expected.numbers.at(k.bits())) || !equal(weight, expected.weights.at(k.bits())) ||
          !equal(note, expected.notes.at(k.bits())))
        return "a joined value";
      ++count;
    }
    return count == expected_count ? std::string() : "what is joined";
  }

  template <class Values>
  std::uint64_t some_key(const Values& values) {
    return std::next(values.begin(), static_cast<std::ptrdiff_t>(below(values.size())))->first;
  }

  void step() {
    switch (below(14)) {
      case 0:
      case 1:
      case 2:
        add_number();
        break;
      case 3:
        for (std::size_t i = below(40); i != 0; --i) add_number();  // growth
        break;
      case 4:
      case 5:
        remove_number();
        break;
      case 6:
        detach_and_insert();
        break;
      case 7:
        retain_some();
        break;
      case 8:
        join_ring();
        break;
      case 9:
        leave_ring();
        break;
      case 10:
        add_text();
        break;
      case 11:
        erase_text();
        break;
      case 12:
        attach();
        break;
      default:
        sweep();
    }
  }

  void add_number() {
    const std::uint64_t number = random_();
    const dm::key k = numbers_.insert(number);
    REQUIRE(expected.numbers.emplace(k.bits(), number).second);
  }

  void remove_number() {
    if (expected.numbers.empty()) return;
    const std::uint64_t bits = some_key(expected.numbers);
    if (below(2) == 0)
      REQUIRE(numbers_.erase(key_of(bits)));
    else
      REQUIRE(numbers_.remove(key_of(bits)) == expected.numbers.at(bits));
    expected.numbers.erase(bits);
    expected.dead.push_back(bits);
  }

  void detach_and_insert() {
    if (expected.numbers.empty()) return;
    const std::uint64_t bits = some_key(expected.numbers);
    auto detached = numbers_.detach(key_of(bits));
    REQUIRE(detached);
    REQUIRE(detached->first == expected.numbers.at(bits));
    numbers_.insert(std::move(detached->second), detached->first + 1);
    ++expected.numbers.at(bits);
  }

  void retain_some() {
    const std::uint64_t keep = 3 + below(5);
    const std::size_t gone = numbers_.retain([&](dm::key, std::uint64_t number) { return number % keep != 0; });
    std::size_t expected_gone = 0;
    for (auto it = expected.numbers.begin(); it != expected.numbers.end();) {
      if (it->second % keep != 0) {
        ++it;
        continue;
      }
      expected.dead.push_back(it->first);
      it = expected.numbers.erase(it);
      ++expected_gone;
    }
    REQUIRE(gone == expected_gone);
  }

  /// At the end, through a handle: the key is known before the member is.
  void join_ring() {
    auto handle = ring_.allocate_handle();
    const dm::key k = handle.key();
    const std::uint64_t name = random_();
    const dm::key first = expected.ring.empty() ? k : key_of(expected.ring.front().first);
    const dm::key last = expected.ring.empty() ? k : key_of(expected.ring.back().first);
    ring_.insert(std::move(handle), member{name, first, last});
    ring_.at(last).next = k;
    ring_.at(first).previous = k;
    expected.ring.emplace_back(k.bits(), name);
  }

  void leave_ring() {
    if (expected.ring.empty()) return;
    const auto leaving = expected.ring.begin() + static_cast<std::ptrdiff_t>(below(expected.ring.size()));
    const auto m = ring_.remove(key_of(leaving->first));
    REQUIRE(m);
    REQUIRE(m->name == leaving->second);
    if (expected.ring.size() > 1) {
      ring_.at(m->previous).next = m->next;
      ring_.at(m->next).previous = m->previous;
    }
    expected.ring.erase(leaving);
  }

  void add_text() {
    const std::string s = some_text();
    const dm::key k = texts_.insert(in_segment(s));
    REQUIRE(expected.texts.emplace(k.bits(), s).second);
  }

  void erase_text() {
    if (expected.texts.empty()) return;
    const std::uint64_t bits = some_key(expected.texts);
    REQUIRE(texts_.erase(key_of(bits)));
    REQUIRE_FALSE(texts_.contains(key_of(bits)));
    expected.texts.erase(bits);
  }

  /// Entries for a live key, in place of those of dead keys with its index.
  void attach() {
    if (expected.numbers.empty()) return;
    for (std::size_t i = 1 + below(8); i != 0; --i) {
      const std::uint64_t bits = some_key(expected.numbers);
      const std::uint64_t weight = random_();
      const std::string note = some_text();
      weights_.insert(key_of(bits), weight);
      replace(expected.weights, bits, weight);
      if (below(3) != 0) continue;
      notes_.insert(key_of(bits), in_segment(note));
      replace(expected.notes, bits, note);
    }
  }
  template <class Values, class Value>
  static void replace(Values& values, std::uint64_t bits, const Value& value) {
    std::erase_if(values, [bits](const auto& entry) { return key_of(entry.first).index() == key_of(bits).index(); });
    values[bits] = value;
  }

  void sweep() {
    if (below(2) == 0 && !expected.weights.empty()) {
      const std::uint64_t bits = some_key(expected.weights);
      REQUIRE(weights_.erase(key_of(bits)));
      expected.weights.erase(bits);
      return;
    }
    weights_.retain([&](dm::key k, std::uint64_t) { return numbers_.contains(k); });
    notes_.retain([&](dm::key k, const text&) { return numbers_.contains(k); });
    std::erase_if(expected.weights, [&](const auto& entry) { return !expected.numbers.contains(entry.first); });
    std::erase_if(expected.notes, [&](const auto& entry) { return !expected.numbers.contains(entry.first); });
  }

  /// Handles are good in one process only; the other gives their slots back.
  void abandon_handles() {
    for (std::size_t i = below(4); i != 0; --i) expected.abandoned.push_back(numbers_.allocate_handle().key().bits());
  }
  void give_up_abandoned() {
    REQUIRE(numbers_.release_reserved() == expected.abandoned.size());
    expected.dead.insert(expected.dead.end(), expected.abandoned.begin(), expected.abandoned.end());
    expected.abandoned.clear();
  }

  Segment& segment_;
  number_map& numbers_;
  ring_map& ring_;
  text_map& texts_;
  weight_map& weights_;
  note_map& notes_;
  std::mt19937_64 random_;
};

/// A segment in shared memory, gone when the test is.
class shared_memory {
 public:
  using segment = bip::managed_shared_memory;
  static constexpr const char* kind = "memory";
  shared_memory() { bip::shared_memory_object::remove(name_.c_str()); }  // of a killed process with the same id
  shared_memory(const shared_memory&) = delete;
  shared_memory& operator=(const shared_memory&) = delete;
  ~shared_memory() { bip::shared_memory_object::remove(name_.c_str()); }
  const std::string& name() const { return name_; }

 private:
  std::string name_ = "deferred-map-test-" + std::to_string(::getpid());
};

/// A segment in a file of the test's own directory.
class mapped_file {
 public:
  using segment = bip::managed_mapped_file;
  static constexpr const char* kind = "file";
  const std::string& name() const { return name_; }

 private:
  temporary_directory directory_;
  std::string name_ = directory_ / "segment";
};

struct assignment {
  std::string kind;
  std::string name;
  std::filesystem::path model_path;
  std::uintptr_t address = 0;  // where the parent has the segment
  std::uint64_t seed = 0;
  bool destroys = false;
};

/// Runs the other process; returns its exit status, or 1000 + the signal that ended it. What it printed is in `output`.
int run_other_process(const assignment& work, const std::filesystem::path& output) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.emplace_back(*variable);
  variables.push_back("DM_SEGMENT_KIND=" + work.kind);
  variables.push_back("DM_SEGMENT_NAME=" + work.name);
  variables.push_back("DM_SEGMENT_MODEL=" + work.model_path.string());
  variables.push_back("DM_SEGMENT_ADDRESS=" + std::to_string(work.address));
  variables.push_back("DM_SEGMENT_SEED=" + std::to_string(work.seed));
  variables.push_back("DM_SEGMENT_DESTROYS=" + std::to_string(work.destroys));
  std::vector<char*> environment;
  for (std::string& variable : variables) environment.push_back(variable.data());
  environment.push_back(nullptr);
  std::string program = "/proc/self/exe";
  std::string test = "the other process of a shared segment";
  char* arguments[] = {program.data(), test.data(), nullptr};

  posix_spawn_file_actions_t files;
  REQUIRE(::posix_spawn_file_actions_init(&files) == 0);
  ::posix_spawn_file_actions_addopen(&files, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ::posix_spawn_file_actions_adddup2(&files, 1, 2);
  pid_t child = 0;
  const int spawned = ::posix_spawn(&child, program.c_str(), &files, nullptr, arguments, environment.data());
  ::posix_spawn_file_actions_destroy(&files);
  REQUIRE(spawned == 0);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

std::string contents(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// The test: turns of this process and of the other one, and all memory given back in the end.
template <class Place>
void share_in_turns(std::uint64_t first_seed, bool other_destroys) {
  using segment_type = typename Place::segment;
  CAPTURE(first_seed);
  const temporary_directory directory;
  const Place place;
  segment_type segment(bip::create_only, place.name().c_str(), segment_bytes);
  REQUIRE(segment.all_memory_deallocated());
  assignment work{Place::kind,         place.name(),
                  directory / "model", reinterpret_cast<std::uintptr_t>(segment.get_address()),
                  first_seed,          false};
  {
    world<segment_type> here(segment);
    for (int turn = 0; turn < turns; ++turn) {
      CAPTURE(turn);
      here.take_turn(work.seed++);
      REQUIRE(here.difference() == "");
      REQUIRE(segment.check_sanity());
      here.expected.write(work.model_path);

      work.destroys = other_destroys && turn + 1 == turns;
      const int status = run_other_process(work, directory / "output");
      work.seed++;
      INFO("the other process: " << contents(directory / "output"));
      REQUIRE(status == 0);
      if (work.destroys) break;
      // The keys this process made and the other one removed are among the dead ones.
      here.expected = model::read(work.model_path);
      REQUIRE(here.difference() == "");
    }
    if (!other_destroys) here.destroy();
  }
  REQUIRE(segment.check_sanity());
  REQUIRE(segment.all_memory_deallocated());
}

/// One turn of the other process.
template <class Segment>
void take_other_turn(const assignment& work) {
  // The parent's addresses are taken, so that the segment cannot come to lie there. If they cannot be had, something
  // else lies there already.
  void* const same_place = reinterpret_cast<void*>(work.address);
  void* const taken = ::mmap(same_place, segment_bytes, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  Segment segment(bip::open_only, work.name.c_str());
  REQUIRE(reinterpret_cast<std::uintptr_t>(segment.get_address()) != work.address);
  {
    world<Segment> here(segment);
    here.expected = model::read(work.model_path);
    REQUIRE(here.difference() == "");
    here.take_turn(work.seed);
    REQUIRE(here.difference() == "");
    here.expected.write(work.model_path);
    if (work.destroys) here.destroy();
  }
  REQUIRE(segment.check_sanity());
  if (work.destroys) REQUIRE(segment.all_memory_deallocated());
  if (taken != MAP_FAILED) ::munmap(taken, segment_bytes);
}

}  // namespace

TEST_CASE("two processes share maps in shared memory in turn, each at another address") {
  share_in_turns<shared_memory>(1, false);
}

TEST_CASE("two processes share maps in a mapped file in turn, and the one that did not make them destroys them") {
  share_in_turns<mapped_file>(1000, true);
}

TEST_CASE("a key made stale by one process is stale for a process that opens the file later, at another address") {
  using map_type = world<bip::managed_mapped_file>::number_map;
  const mapped_file place;
  dm::key dead;
  dm::key live;
  std::uint64_t* where = nullptr;
  void* address = nullptr;
  {
    bip::managed_mapped_file segment(bip::create_only, place.name().c_str(), segment_bytes);
    address = segment.get_address();
    auto* map = segment.construct<map_type>("map")(map_type::allocator_type(segment.get_segment_manager()));
    dead = map->insert(1);
    live = map->insert(2);
    REQUIRE(map->erase(dead));
    where = map->get(live);
  }
  void* const taken = ::mmap(address, segment_bytes, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  {
    bip::managed_mapped_file segment(bip::open_only, place.name().c_str());
    CHECK(segment.get_address() != address);
    auto* map = segment.find<map_type>("map").first;
    REQUIRE(map != nullptr);
    CHECK(map->verify() == "");
    CHECK_FALSE(map->contains(dead));
    CHECK(map->at(live) == 2);
    CHECK(map->get(live) != where);
    const dm::key reused = map->insert(3);
    CHECK(reused.index() == dead.index());
    CHECK_FALSE(map->contains(dead));
  }
  if (taken != MAP_FAILED) ::munmap(taken, segment_bytes);
}

// Does nothing where no parent has said what to do: tests chosen by their file name include hidden ones.
TEST_CASE("the other process of a shared segment", "[.segment_child]") {
  const char* kind = std::getenv("DM_SEGMENT_KIND");
  if (kind == nullptr) return;
  ::alarm(120);  // a list in the segment that was torn may be one without an end
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    REQUIRE(value != nullptr);
    return std::string(value);
  };
  const assignment work{kind,
                        variable("DM_SEGMENT_NAME"),
                        variable("DM_SEGMENT_MODEL"),
                        static_cast<std::uintptr_t>(std::stoull(variable("DM_SEGMENT_ADDRESS"))),
                        std::stoull(variable("DM_SEGMENT_SEED")),
                        variable("DM_SEGMENT_DESTROYS") == "1"};
  if (work.kind == "memory")
    take_other_turn<bip::managed_shared_memory>(work);
  else
    take_other_turn<bip::managed_mapped_file>(work);
}
