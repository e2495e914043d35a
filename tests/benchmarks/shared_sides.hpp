// The maps that many processes have open at once, all with one surface: what tests/benchmarks/shared.cpp measures.
//
// A side has a segment in /dev/shm that `fill` makes and `remove` takes away; an object of it is the segment as one process
// has it open. Ids are 0 .. n-1 and whatever is inserted later; a key is how a side finds what it has inserted: the id
// itself, but for dm::shared_map, which makes its own.
//
// Everybody is measured at their best: LMDB writes to its mapping and never syncs, its reader keeps its transaction and
// looks at values where they lie; Boost's map has buckets for all from the start, its allocator no lock of its own (the
// map's is held), and an insertion and a removal are one lookup each.
#pragma once

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/indexes/iset_index.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/interprocess/sync/interprocess_sharable_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>
#include <boost/interprocess/sync/sharable_lock.hpp>
#include <boost/unordered_map.hpp>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "deferred_map/shared_map.hpp"
#include "record.hpp"
#ifdef BENCH_LMDB
#include <lmdb.h>
#endif

namespace bench {

/// dm::shared_map.
class dm_side {
  using map = dm::shared_map<record>;

 public:
  static constexpr const char* name = "dm";
  static dm::shm segment(const std::string& prefix) { return dm::shm(prefix + name); }

  static std::vector<std::uint64_t> fill(const std::string& prefix, std::uint64_t n) {
    map filled = map::create(segment(prefix), {.max_slots = 2 * n + 65536});
    std::vector<std::uint64_t> keys;
    for (std::uint64_t id = 0; id < n; ++id) keys.push_back(filled.insert(record::make(id, 0)).bits());
    return keys;
  }
  static void remove(const std::string& prefix) { dm::shm::remove(segment(prefix).name()); }

  explicit dm_side(const std::string& prefix) : map_(map::open(segment(prefix))) {}

  /// The id of a value that is whole.
  std::optional<std::uint64_t> read(std::uint64_t key, std::uint64_t& torn) const {
    const std::optional<record> found = map_.get(dm::key::from_bits(key));
    if (!found) return std::nullopt;
    torn += !found->is_whole();
    return found->id;
  }
  bool update(std::uint64_t key, const record& value) {
    return map_.update(dm::key::from_bits(key), [&](record& r) { r = value; });
  }
  std::uint64_t insert(const record& value) { return map_.insert(value).bits(); }
  bool erase(std::uint64_t key) { return map_.erase(dm::key::from_bits(key)); }

 private:
  map map_;
};

#ifdef BENCH_LMDB
/// LMDB, each operation a transaction.
class lmdb_side {
 public:
  static constexpr const char* name = "lmdb";
  static std::string segment(const std::string& prefix) { return "/dev/shm/" + prefix + name; }

  static std::vector<std::uint64_t> fill(const std::string& prefix, std::uint64_t n) {
    lmdb_side filled(prefix, MDB_CREATE, n * 512);
    std::vector<std::uint64_t> keys;
    MDB_txn* txn = nullptr;
    check(mdb_txn_begin(filled.env_, nullptr, 0, &txn));
    for (std::uint64_t id = 0; id < n; ++id) {
      record value = record::make(id, 0);
      MDB_val k = of(id), v{sizeof value, &value};
      check(mdb_put(txn, filled.table_, &k, &v, MDB_APPEND));
      keys.push_back(id);
    }
    check(mdb_txn_commit(txn));
    return keys;
  }
  static void remove(const std::string& prefix) {
    (void)::unlink(segment(prefix).c_str());
    (void)::unlink((segment(prefix) + "-lock").c_str());
  }

  explicit lmdb_side(const std::string& prefix) : lmdb_side(prefix, 0, 0) {
    check(mdb_txn_begin(env_, nullptr, MDB_RDONLY, &reader_));
    mdb_txn_reset(reader_);
  }
  lmdb_side(const lmdb_side&) = delete;
  lmdb_side& operator=(const lmdb_side&) = delete;
  ~lmdb_side() {
    if (reader_ != nullptr) mdb_txn_abort(reader_);
    mdb_env_close(env_);
  }

  std::optional<std::uint64_t> read(std::uint64_t key, std::uint64_t& torn) const {
    check(mdb_txn_renew(reader_));
    MDB_val k = of(key), v{};
    std::optional<std::uint64_t> id;
    if (mdb_get(reader_, table_, &k, &v) == 0) {
      const auto& value = *static_cast<const record*>(v.mv_data);
      torn += !value.is_whole();
      id = value.id;
    }
    mdb_txn_reset(reader_);
    return id;
  }
  bool update(std::uint64_t key, const record& value) {
    put(key, value);
    return true;
  }
  std::uint64_t insert(const record& value) {
    put(value.id, value);
    return value.id;
  }
  bool erase(std::uint64_t key) {
    MDB_txn* txn = nullptr;
    check(mdb_txn_begin(env_, nullptr, 0, &txn));
    MDB_val k = of(key);
    const bool found = mdb_del(txn, table_, &k, nullptr) == 0;
    check(mdb_txn_commit(txn));
    return found;
  }

 private:
  lmdb_side(const std::string& prefix, unsigned table_flags, std::size_t size_bytes) {
    check(mdb_env_create(&env_));
    if (size_bytes != 0) check(mdb_env_set_mapsize(env_, size_bytes));
    check(mdb_env_open(env_, segment(prefix).c_str(), MDB_NOSUBDIR | MDB_WRITEMAP | MDB_NOSYNC, 0600));
    MDB_txn* txn = nullptr;
    check(mdb_txn_begin(env_, nullptr, table_flags == 0 ? MDB_RDONLY : 0, &txn));
    check(mdb_dbi_open(txn, nullptr, table_flags | (table_flags == 0 ? 0 : MDB_INTEGERKEY), &table_));
    check(mdb_txn_commit(txn));
  }
  static void check(int code) {
    if (code != 0) throw std::runtime_error(std::string("LMDB: ") + mdb_strerror(code));
  }
  static MDB_val of(std::uint64_t& key) { return {sizeof key, &key}; }

  void put(std::uint64_t key, record value) {
    MDB_txn* txn = nullptr;
    check(mdb_txn_begin(env_, nullptr, 0, &txn));
    MDB_val k = of(key), v{sizeof value, &value};
    check(mdb_put(txn, table_, &k, &v, 0));
    check(mdb_txn_commit(txn));
  }

  MDB_env* env_ = nullptr;
  MDB_dbi table_ = 0;
  MDB_txn* reader_ = nullptr;
};
#endif

// The locks of Boost's map ----------------------------------------------------------------------------------------------

namespace bip = boost::interprocess;

/// boost::interprocess::interprocess_mutex.
struct plain_lock {
  static constexpr const char* name = "boost_mutex";
  using mutex = bip::interprocess_mutex;
  using to_read = bip::scoped_lock<mutex>;
  using to_write = bip::scoped_lock<mutex>;
};
/// boost::interprocess::interprocess_sharable_mutex.
struct sharable_lock {
  static constexpr const char* name = "boost_sharable";
  using mutex = bip::interprocess_sharable_mutex;
  using to_read = bip::sharable_lock<mutex>;
  using to_write = bip::scoped_lock<mutex>;
};
/// A pthread mutex that can be had again after its holder has died (whoever gets it must then mend the map; here nobody
/// dies).
struct robust_lock {
  static constexpr const char* name = "boost_robust";
  class mutex {
   public:
    mutex() {
      pthread_mutexattr_t kind;
      pthread_mutexattr_init(&kind);
      pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
      pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
      if (pthread_mutex_init(&mutex_, &kind) != 0) throw std::runtime_error("there are no robust mutexes here");
      pthread_mutexattr_destroy(&kind);
    }
    void lock() {
      if (pthread_mutex_lock(&mutex_) != 0) throw std::runtime_error("a holder of the lock has died");
    }
    void unlock() { pthread_mutex_unlock(&mutex_); }

   private:
    pthread_mutex_t mutex_;
  };
  using to_read = bip::scoped_lock<mutex>;
  using to_write = bip::scoped_lock<mutex>;
};

/// boost::unordered_map in a Boost.Interprocess segment, behind a lock.
template <class Lock>
class boost_side {
  using segment_type =
      bip::basic_managed_shared_memory<char, bip::rbtree_best_fit<bip::null_mutex_family>, bip::iset_index>;
  using entry = std::pair<const std::uint64_t, record>;
  using map = boost::unordered_map<std::uint64_t, record, boost::hash<std::uint64_t>, std::equal_to<std::uint64_t>,
                                   bip::allocator<entry, typename segment_type::segment_manager>>;
  struct state {
    typename Lock::mutex lock;
    map values;
    explicit state(typename segment_type::segment_manager* manager) : values(manager) {}
  };

 public:
  static constexpr const char* name = Lock::name;
  static std::string segment(const std::string& prefix) { return prefix + name; }

  static std::vector<std::uint64_t> fill(const std::string& prefix, std::uint64_t n) {
    segment_type memory(bip::create_only, segment(prefix).c_str(), (n + 10'000) * 160);
    state& s = *memory.template construct<state>("map")(memory.get_segment_manager());
    std::vector<std::uint64_t> keys;
    s.values.reserve(n + 10'000);
    for (std::uint64_t id = 0; id < n; ++id) {
      s.values.emplace(id, record::make(id, 0));
      keys.push_back(id);
    }
    return keys;
  }
  static void remove(const std::string& prefix) { bip::shared_memory_object::remove(segment(prefix).c_str()); }

  explicit boost_side(const std::string& prefix)
      : memory_(bip::open_only, segment(prefix).c_str()), state_(*memory_.template find<state>("map").first) {}

  std::optional<std::uint64_t> read(std::uint64_t key, std::uint64_t& torn) const {
    record value;
    {
      const typename Lock::to_read held(state_.lock);
      const auto found = state_.values.find(key);
      if (found == state_.values.end()) return std::nullopt;
      value = found->second;
    }
    torn += !value.is_whole();
    return value.id;
  }
  bool update(std::uint64_t key, const record& value) {
    const typename Lock::to_write held(state_.lock);
    const auto found = state_.values.find(key);
    if (found == state_.values.end()) return false;
    found->second = value;
    return true;
  }
  std::uint64_t insert(const record& value) {
    const typename Lock::to_write held(state_.lock);
    state_.values.emplace(value.id, value);
    return value.id;
  }
  bool erase(std::uint64_t key) {
    const typename Lock::to_write held(state_.lock);
    return state_.values.erase(key) == 1;
  }

 private:
  segment_type memory_;
  state& state_;
};

/// Calls `f.template operator()<Side>()` for each.
template <class F>
void for_each_shared_side(F f) {
  f.template operator()<dm_side>();
#ifdef BENCH_LMDB
  f.template operator()<lmdb_side>();
#endif
  f.template operator()<boost_side<plain_lock>>();
  f.template operator()<boost_side<sharable_lock>>();
  f.template operator()<boost_side<robust_lock>>();
}

}  // namespace bench
