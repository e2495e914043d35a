// dm-inspect log as people run it, and as a replica that has nothing else to go by.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "accounts.hpp"
#include "catch.hpp"
#include "deferred_map/mapped_map.hpp"
#include "effort.hpp"
#include "inspect_tool.hpp"

using namespace accounts;
using nlohmann::json;

namespace {

/// What a replication engine does: reads lines, and changes its copy at each end of a commit.
class replica {
 public:
  void line(const std::string& text) {
    const json record = json::parse(text);
    if (record.contains("schema_version") || record.contains("end")) return;
    if (record.contains("gap")) {
      ++gaps;
      return;
    }
    if (record.contains("end_of_commit")) return commit(record);
    if (record.contains("snapshot")) {
      pending_.clear();
      begins_anew_ = true;
      return;
    }
    pending_.push_back(record);
  }

  std::map<std::string, std::int64_t> values;
  std::uint64_t last_commit = 0;
  std::uint64_t gaps = 0;
  std::uint64_t faults = 0;

 private:
  void commit(const json& end) {
    if (begins_anew_)
      values.clear();
    else if (last_commit != 0 && end.at("commit") != last_commit + 1)
      ++faults;
    begins_anew_ = false;
    if (end.at("changes") != pending_.size()) ++faults;
    for (const json& change : pending_) apply(change);
    pending_.clear();
    last_commit = end.at("commit");
  }

  void apply(const json& change) {
    const std::string kind = change.at("change");
    if (kind == "truncate") {
      std::erase_if(values, [&](const auto& each) { return std::stoul(each.first) >= change.at("slot_count"); });
      return;
    }
    if (kind == "skip") return;
    const std::string key = change.at("key");
    const bool is_there = values.contains(key);
    if (kind == "insert" || kind == "present") {
      faults += is_there;
      values[key] = change.at("value").at("balance");
    } else if (kind == "update") {
      faults += !is_there;
      values[key] = change.at("value").at("balance");
    } else if (kind == "remove") {
      faults += !is_there;
      values.erase(key);
    } else {
      faults += is_there;
    }
  }

  std::vector<json> pending_;
  bool begins_anew_ = false;
};

std::map<std::string, std::int64_t> as_text(const map& m) {
  std::map<std::string, std::int64_t> found;
  for (const auto [key, value] : m)
    found[std::to_string(key.index()) + ":" + std::to_string(key.generation())] = value.balance;
  return found;
}

/// dm-inspect, with its output in a pipe.
class following {
 public:
  explicit following(const std::string& arguments) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], 1);
      ::close(ends[0]);
      ::close(ends[1]);
      const std::string command = "exec '" + std::string(std::getenv("DM_INSPECT")) + "' " + arguments;
      ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    from_ = ::fdopen(ends[0], "r");
  }
  following(const following&) = delete;
  following& operator=(const following&) = delete;
  ~following() {
    close_pipe();
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  /// The next line; empty at the end.
  std::string line() {
    char* text = nullptr;
    std::size_t room = 0;
    const ssize_t length = ::getline(&text, &room, from_);
    std::string read(length > 0 ? std::string(text, static_cast<std::size_t>(length) - 1) : std::string());
    std::free(text);
    return read;
  }
  void close_pipe() {
    if (from_ != nullptr) std::fclose(from_);
    from_ = nullptr;
  }
  void interrupt() const { ::kill(pid_, SIGINT); }
  /// The exit code, or minus the signal.
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  pid_t pid_ = -1;
  FILE* from_ = nullptr;
};

/// Transactions of all kinds, with checkpoints and closings among them, until it is killed or `commits` were made.
void work_on(const std::filesystem::path& path, std::uint32_t seed, int commits, bool ends_closed) {
  std::mt19937 random(seed);
  map m = map::open(path, {.journal_bytes = 20'000});
  std::vector<dm::key> live;
  for (const dm::key k : m.keys()) live.push_back(k);
  std::vector<dm::handle> held;
  for (int i = 0; i < commits; ++i) {
    for (auto j = random() % 8; j != 0; --j) {
      const auto dice = random() % 10;
      if (dice < 4 || live.empty()) {
        live.push_back(m.insert(with_balance(static_cast<std::int64_t>(random()))));
      } else if (dice < 6) {
        m.at(live[random() % live.size()]).balance = static_cast<std::int64_t>(random());
      } else if (dice < 8) {
        const std::size_t at = random() % live.size();
        m.erase(live[at]);
        live[at] = live.back();
        live.pop_back();
      } else if (dice == 8) {
        held.push_back(m.allocate_handle());
      } else if (!held.empty()) {
        const dm::key k = held.back().key();
        if (random() % 2 == 0) {
          m.insert(std::move(held.back()), with_balance(1));
          live.push_back(k);
        } else {
          m.release_handle(std::move(held.back()));
        }
        held.pop_back();
      }
    }
    if (random() % 40 == 0) {
      // The upper half of the slots goes, and is given back.
      std::erase_if(live, [&](dm::key k) { return k.index() >= m.slot_count() / 2 && m.erase(k); });
      if (held.empty()) m.shrink_to_fit();
    }
    m.commit(random() % 4 == 0 ? dm::sync::now : dm::sync::later);
    if (random() % 50 == 0) m.checkpoint();
  }
  if (ends_closed)
    m.close();
  else
    ::kill(::getpid(), SIGKILL);
}

}  // namespace

TEST_CASE("a replica that reads the log alone has the map, through checkpoints, closings and kills of its writer") {
  if (inspect_tool::path() == nullptr) return;
  const std::string options = GENERATE("", "--snapshot --no-pin");
  const auto seed = std::random_device{}();
  CAPTURE(options, seed);
  temporary_directory directory;
  const auto path = directory / "m";
  map::create(path, {.max_slots = 10'000}).close();
  following tool("log --follow --format ndjson --interval 5 " + options + " '" + path.string() + "'");
  REQUIRE_FALSE(tool.line().empty());  // it has begun
  replica copy;
  std::uint32_t life = 0;
  for (; life < 6; ++life) {
    child_process writer([&](const child_process::mouth&) { work_on(path, seed + life, 200, life % 3 == 2); });
    CHECK(writer.wait() == (life % 3 == 2 ? 0 : -SIGKILL));
    // The last commit may be in the journal alone, or (without a pin, and closed) in the arena alone.
    const std::uint64_t last = map::open_read_only(path).last_commit();
    if (options.empty() || life % 3 != 2)
      while (copy.last_commit < last) copy.line(tool.line());
  }
  if (!options.empty()) {
    in_killed_child([&] {
      static map m = map::open(path);
      m.insert(with_balance(1));
      m.commit();
    });
    const std::uint64_t last = map::open_read_only(path).last_commit();
    while (copy.last_commit < last) copy.line(tool.line());
  }
  CHECK(copy.values == as_text(map::open_read_only(path)));
  CHECK(copy.values.size() > 10);
  CHECK(copy.faults == 0);
  if (options.empty()) CHECK(copy.gaps == 0);
}

TEST_CASE("following ends without a word where it is interrupted, or where nobody reads any more") {
  if (inspect_tool::path() == nullptr) return;
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, {.max_slots = 100});
  m.insert(with_balance(1));
  m.commit();
  const std::string errors = (directory / "errors").string();
  following tool("log --follow --from 1 --format ndjson --interval 5 '" + path.string() + "' 2> '" + errors + "'");
  REQUIRE_FALSE(tool.line().empty());
  while (tool.line().find("end_of_commit") == std::string::npos) {
  }
  SECTION("interrupted") {
    tool.interrupt();
    CHECK(tool.wait() == 32);
  }
  SECTION("its pipe closed, while nothing is committed") {
    tool.close_pipe();
    CHECK(tool.wait() == 0);
  }
  SECTION("at the commit that was asked for") {
    following until("log --follow --from 1 --to 2 --format ndjson --interval 5 '" + path.string() + "'");
    m.insert(with_balance(2));
    m.commit();
    std::string all, line;
    while (!(line = until.line()).empty()) all += line + "\n";
    CHECK(all.find("{\"end\":true,\"shown\":2}") != std::string::npos);
    CHECK(until.wait() == 0);
    tool.interrupt();
    tool.wait();
  }
  CHECK(read_file(errors) == "");
}

TEST_CASE("the log can be of a few commits, of one key, without values, and of nothing but durable maps") {
  if (inspect_tool::path() == nullptr) return;
  temporary_directory directory;
  const auto path = directory / "m";
  map m = map::create(path, {.max_slots = 100});
  const dm::key a = m.insert(with_balance(11)), b = m.insert(with_balance(22));
  m.commit();
  m.at(a).balance = 33'445'566;
  m.commit();
  m.erase(b);
  m.commit();
  const auto log = [&](const std::string& arguments) {
    return inspect_tool::run(directory, "log '" + path.string() + "' --format ndjson " + arguments);
  };
  const auto commits = [](const std::string& out) {
    std::vector<int> found;
    std::istringstream in(out);
    for (std::string line; std::getline(in, line);)
      if (const json record = json::parse(line); record.contains("end_of_commit")) found.push_back(record["commit"]);
    return found;
  };
  using numbers = std::vector<int>;
  CHECK(commits(log("").out) == numbers{1, 2, 3});
  CHECK(commits(log("--from 2").out) == numbers{2, 3});
  CHECK(commits(log("--to 2").out) == numbers{1, 2});
  CHECK(commits(log("--key 0:1").out) == numbers{1, 2});
  CHECK(commits(log("--key 1:1").out) == numbers{1, 3});
  CHECK(commits(log("--durable").out) == numbers{1, 2});
  CHECK(log("").out.find("33445566") != std::string::npos);
  CHECK(log("--redact").out.find("33445566") == std::string::npos);
  CHECK(log("--key nonsense").code == 16);
  m.checkpoint();
  m.insert(with_balance(44));
  m.commit();
  const auto late = log("--from 1");
  CHECK(late.out.find("\"gap\":true,\"after_commit\":0,\"next_commit\":4") != std::string::npos);
  CHECK(commits(late.out) == numbers{4});
  std::filesystem::copy_file(path, directory / "alone");
  CHECK(inspect_tool::run(directory, "log '" + (directory / "alone").string() + "'").code == 4);
  dm::mapped_map<account>::create(directory / "mapped", {.max_slots = 10}).close();
  CHECK(inspect_tool::run(directory, "log '" + (directory / "mapped").string() + "'").code == 8);
}
