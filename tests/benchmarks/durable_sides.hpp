// Who keeps a million values durably, all with one surface: what tests/benchmarks/durable.cpp measures.
//
// A side has files whose paths begin with one prefix. An object of it has them open; ids are 0 .. n-1. `commit(ids, stamp)`
// gives the values of these ids their new contents in one transaction and returns when that survives a loss of power.
// Where a side brings its journal into its data by itself, it does that within its commits, or by threads of its own that
// `settle` waits for. `journal_bytes` says how long the journal is, after so many updates since opening; where there is none,
// how long dm's would be.
//
// Everybody is measured at their best, with the durability of a commit as they define it: LMDB with integer keys and its
// default sync; SQLite with WAL, synchronous=FULL, the row's id as the key, statements prepared once and the whole table in its
// cache; RocksDB with one batch a commit, sync, logs that are used again, a bloom filter and a cache for everything.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "deferred_map/durable_map.hpp"
#include "record.hpp"
#ifdef BENCH_LMDB
#include <lmdb.h>
#endif
#ifdef BENCH_SQLITE
#include <sqlite3.h>
#endif
#ifdef BENCH_ROCKSDB
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#endif

namespace bench {

using ids_of_a_commit = std::span<const std::uint64_t>;

/// Between changing and waiting for the disk: when a side was done with the first.
using moment = std::chrono::steady_clock::time_point;
inline moment now() { return std::chrono::steady_clock::now(); }

/// dm::durable_map. Its keys are what a program would keep instead of ids; here they are made from them, because the values
/// were inserted in the order of the ids.
class dm_side {
  using map = dm::durable_map<record>;

 public:
  static constexpr const char* name = "dm";
  static std::string version() { return {}; }

  static void fill(const std::string& prefix, std::uint64_t n) {
    map filled = map::create(prefix);
    filled.reserve(n);
    for (std::uint64_t id = 0; id < n; ++id)
      if (filled.insert(record::make(id, 0)) != key_of(id)) throw std::runtime_error("other keys than were expected");
    filled.commit();
    filled.close();
  }
  explicit dm_side(const std::string& prefix) : map_(map::open(prefix)) {}

  /// Returns when it was done with changing.
  moment commit(ids_of_a_commit ids, std::uint64_t stamp) {
    change(ids, stamp);
    const moment changed = now();
    map_.commit();
    return changed;
  }
  /// Half of a transaction: what `rollback` takes back.
  void change(ids_of_a_commit ids, std::uint64_t stamp) {
    for (const std::uint64_t id : ids) map_[key_of(id)] = record::make(id, stamp);
  }
  void rollback() { map_.rollback(); }
  std::uint64_t read(std::uint64_t id) const { return map_[key_of(id)].stamps[6]; }
  void begin_reading() {}
  void end_reading() {}
  void settle() {}
  /// What opening has replayed.
  std::uint64_t replayed_bytes() const { return map_.recovery().journal_bytes; }
  void let_journal_grow() {}  // it does, to more than is asked for here
  static std::uint64_t journal_bytes(const std::string&, std::uint64_t updates) { return updates * 88; }
  static dm::key key_of(std::uint64_t id) { return dm::key::from_parts(static_cast<std::uint32_t>(id), 1); }

 private:
  map map_;
};

#ifdef BENCH_LMDB
class lmdb_side {
 public:
  static constexpr const char* name = "lmdb";
  static std::string version() { return mdb_version(nullptr, nullptr, nullptr); }

  static void fill(const std::string& prefix, std::uint64_t n) {
    lmdb_side filled(prefix, n);
    MDB_txn* txn = nullptr;
    check(mdb_txn_begin(filled.env_, nullptr, 0, &txn));
    for (std::uint64_t id = 0; id < n; ++id) {
      record value = record::make(id, 0);
      MDB_val k{sizeof id, &id}, v{sizeof value, &value};
      check(mdb_put(txn, filled.table_, &k, &v, MDB_APPEND));
    }
    check(mdb_txn_commit(txn));
  }
  explicit lmdb_side(const std::string& prefix) : lmdb_side(prefix, 0) {}
  lmdb_side(const lmdb_side&) = delete;
  lmdb_side& operator=(const lmdb_side&) = delete;
  ~lmdb_side() {
    end_reading();
    mdb_env_close(env_);
  }

  moment commit(ids_of_a_commit ids, std::uint64_t stamp) {
    MDB_txn* txn = nullptr;
    check(mdb_txn_begin(env_, nullptr, 0, &txn));
    for (std::uint64_t id : ids) {
      // The value is made where it will lie.
      MDB_val k{sizeof id, &id}, v{sizeof(record), nullptr};
      check(mdb_put(txn, table_, &k, &v, MDB_RESERVE));
      const record value = record::make(id, stamp);
      std::memcpy(v.mv_data, &value, sizeof value);
    }
    const moment changed = now();
    check(mdb_txn_commit(txn));
    return changed;
  }
  // One transaction for all that is read: a transaction for each get would be slower.
  void begin_reading() { check(mdb_txn_begin(env_, nullptr, MDB_RDONLY, &reader_)); }
  void end_reading() {
    if (reader_ != nullptr) mdb_txn_abort(std::exchange(reader_, nullptr));
  }
  std::uint64_t read(std::uint64_t id) const {
    MDB_val k{sizeof id, &id}, v{};
    check(mdb_get(reader_, table_, &k, &v));
    return static_cast<const record*>(v.mv_data)->stamps[6];
  }
  void settle() {}
  void let_journal_grow() {}
  static std::uint64_t journal_bytes(const std::string&, std::uint64_t updates) { return updates * 88; }

 private:
  lmdb_side(const std::string& prefix, std::uint64_t values) {
    check(mdb_env_create(&env_));
    // It is address space, and the file as long as need be: never too little.
    check(mdb_env_set_mapsize(env_, std::size_t{4} << 30));
    check(mdb_env_open(env_, prefix.c_str(), MDB_NOSUBDIR, 0600));
    MDB_txn* txn = nullptr;
    check(mdb_txn_begin(env_, nullptr, values == 0 ? MDB_RDONLY : 0, &txn));
    check(mdb_dbi_open(txn, nullptr, values == 0 ? 0 : MDB_CREATE | MDB_INTEGERKEY, &table_));
    check(mdb_txn_commit(txn));
  }
  static void check(int code) {
    if (code != 0) throw std::runtime_error(std::string("LMDB: ") + mdb_strerror(code));
  }

  MDB_env* env_ = nullptr;
  MDB_dbi table_ = 0;
  MDB_txn* reader_ = nullptr;
};
#endif

#ifdef BENCH_SQLITE
class sqlite_side {
 public:
  static constexpr const char* name = "sqlite";
  static std::string version() { return std::string("SQLite ") + sqlite3_libversion(); }

  static void fill(const std::string& prefix, std::uint64_t n) {
    sqlite_side filled(prefix, "create table t(id integer primary key, value blob not null)");
    filled.run("begin immediate");
    const statement insert = filled.prepare("insert into t(id, value) values (?1, ?2)");
    for (std::uint64_t id = 0; id < n; ++id) {
      const record value = record::make(id, 0);
      filled.run(insert, id, &value);
    }
    filled.run("commit");
    filled.run("pragma wal_checkpoint(truncate)");
  }
  explicit sqlite_side(const std::string& prefix) : sqlite_side(prefix, "") {}

  moment commit(ids_of_a_commit ids, std::uint64_t stamp) {
    run(begin_);
    for (const std::uint64_t id : ids) {
      const record value = record::make(id, stamp);
      run(update_, id, &value);
    }
    const moment changed = now();
    run(commit_);
    return changed;
  }
  void begin_reading() { run(begin_reading_); }
  void end_reading() { run(commit_); }
  std::uint64_t read(std::uint64_t id) const {
    sqlite3_bind_int64(select_.get(), 1, static_cast<sqlite3_int64>(id));
    if (sqlite3_step(select_.get()) != SQLITE_ROW) fail();
    const std::uint64_t stamp = static_cast<const record*>(sqlite3_column_blob(select_.get(), 0))->stamps[6];
    sqlite3_reset(select_.get());
    return stamp;
  }
  void settle() {}
  static std::uint64_t journal_bytes(const std::string& prefix, std::uint64_t) {
    return std::filesystem::file_size(prefix + "-wal");
  }
  /// The journal is not brought into the table by itself any more: for what is then killed.
  void let_journal_grow() { run("pragma wal_autocheckpoint=0"); }

 private:
  struct closing {
    void operator()(sqlite3* db) const { sqlite3_close(db); }
    void operator()(sqlite3_stmt* s) const { sqlite3_finalize(s); }
  };
  using statement = std::unique_ptr<sqlite3_stmt, closing>;

  sqlite_side(const std::string& prefix, const std::string& create) {
    sqlite3* db = nullptr;
    const int code = sqlite3_open(prefix.c_str(), &db);
    db_.reset(db);
    if (code != SQLITE_OK) fail();
    run("pragma journal_mode=wal");
    run("pragma synchronous=full");
    run("pragma cache_size=-400000");  // KiB: all of the table
    run("pragma mmap_size=1000000000");
    run("pragma wal_autocheckpoint=16000");  // pages: about as long a journal as dm's; a quarter to two fifths faster here
    if (!create.empty()) run(create.c_str());
    begin_ = prepare("begin immediate");
    begin_reading_ = prepare("begin");
    commit_ = prepare("commit");
    update_ = prepare("update t set value = ?2 where id = ?1");
    select_ = prepare("select value from t where id = ?1");
  }
  [[noreturn]] void fail() const {
    throw std::runtime_error(std::string("SQLite: ") + (db_ ? sqlite3_errmsg(db_.get()) : "no memory"));
  }
  void run(const char* sql) {
    if (sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) fail();
  }
  statement prepare(const char* sql) {
    sqlite3_stmt* made = nullptr;
    if (sqlite3_prepare_v3(db_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &made, nullptr) != SQLITE_OK) fail();
    return statement(made);
  }
  void run(const statement& s) {
    if (sqlite3_step(s.get()) != SQLITE_DONE) fail();
    sqlite3_reset(s.get());
  }
  void run(const statement& s, std::uint64_t id, const record* value) {
    sqlite3_bind_int64(s.get(), 1, static_cast<sqlite3_int64>(id));
    sqlite3_bind_blob(s.get(), 2, value, sizeof *value, nullptr);  // it stays where it is until the statement is done
    run(s);
  }

  std::unique_ptr<sqlite3, closing> db_;
  statement begin_, begin_reading_, commit_, update_, select_;
};
#endif

#ifdef BENCH_ROCKSDB
class rocksdb_side {
 public:
  static constexpr const char* name = "rocksdb";
  static std::string version() { return "RocksDB " + rocksdb::GetRocksVersionAsString(); }

  static void fill(const std::string& prefix, std::uint64_t n) {
    rocksdb_side filled(prefix);
    for (std::uint64_t id = 0; id < n;) {
      rocksdb::WriteBatch batch;
      for (const std::uint64_t end = std::min(n, id + 1000); id < end; ++id) put(batch, id, 0);
      check(filled.db_->Write({}, &batch));
    }
    check(filled.db_->Flush({}));
    check(filled.db_->CompactRange({}, nullptr, nullptr));
  }
  explicit rocksdb_side(const std::string& prefix) {
    rocksdb::BlockBasedTableOptions table;
    table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
    table.block_cache = rocksdb::NewLRUCache(std::size_t{512} << 20);
    table.data_block_index_type = rocksdb::BlockBasedTableOptions::kDataBlockBinaryAndHash;
    rocksdb::Options options;
    options.create_if_missing = true;
    options.IncreaseParallelism(2);
    options.recycle_log_file_num = 4;  // so that a sync writes the log alone, and not the file system's notes about it
    options.compression = rocksdb::kNoCompression;
    options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
    rocksdb::DB* db = nullptr;
    check(rocksdb::DB::Open(options, prefix, &db));
    db_.reset(db);
  }

  moment commit(ids_of_a_commit ids, std::uint64_t stamp) {
    batch_.Clear();
    for (const std::uint64_t id : ids) put(batch_, id, stamp);
    const moment changed = now();
    rocksdb::WriteOptions durable;
    durable.sync = true;
    check(db_->Write(durable, &batch_));
    return changed;
  }
  void begin_reading() {}
  void end_reading() { value_.Reset(); }
  std::uint64_t read(std::uint64_t id) {
    value_.Reset();
    check(db_->Get({}, db_->DefaultColumnFamily(), key(id).slice(), &value_));
    record found;
    std::memcpy(&found, value_.data(), sizeof found);
    return found.stamps[6];
  }
  /// Its threads write what has grown too long into its data meanwhile.
  void settle() {
    for (const char* what : {"rocksdb.mem-table-flush-pending", "rocksdb.num-running-flushes",
                             "rocksdb.compaction-pending", "rocksdb.num-running-compactions"})
      for (std::uint64_t left = 1; db_->GetIntProperty(what, &left) && left != 0;)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  void let_journal_grow() {}
  static std::uint64_t journal_bytes(const std::string&, std::uint64_t updates) { return updates * 88; }

 private:
  /// Bytes in the order of the ids.
  class key {
   public:
    explicit key(std::uint64_t id) : bytes_(__builtin_bswap64(id)) {}
    rocksdb::Slice slice() const { return {reinterpret_cast<const char*>(&bytes_), sizeof bytes_}; }

   private:
    std::uint64_t bytes_;
  };
  static void put(rocksdb::WriteBatch& batch, std::uint64_t id, std::uint64_t stamp) {
    const record value = record::make(id, stamp);
    check(batch.Put(key(id).slice(), {reinterpret_cast<const char*>(&value), sizeof value}));
  }
  static void check(const rocksdb::Status& status) {
    if (!status.ok()) throw std::runtime_error("RocksDB: " + status.ToString());
  }

  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::WriteBatch batch_;
  rocksdb::PinnableSlice value_;
};
#endif

/// The floor: 128 bytes appended to a file that was filled with zeros, and one fdatasync. Nothing that waits for the disk
/// once for each commit can be faster.
class bare_side {
 public:
  static constexpr const char* name = "bare";
  static std::string version() { return {}; }

  static void fill(const std::string& prefix, std::uint64_t) {
    const bare_side made(prefix, O_CREAT);
    const std::vector<char> zeros(std::size_t{1} << 20);
    for (off_t at = 0; at < size_bytes; at += static_cast<off_t>(zeros.size())) made.write(zeros, at);
    made.sync();
  }
  explicit bare_side(const std::string& prefix) : bare_side(prefix, 0) {}
  bare_side(const bare_side&) = delete;
  bare_side& operator=(const bare_side&) = delete;
  ~bare_side() { ::close(descriptor_); }

  moment commit(ids_of_a_commit, std::uint64_t) {
    const moment changed = now();
    write(std::span(record_), at_);
    sync();
    at_ = (at_ + static_cast<off_t>(record_.size())) % size_bytes;
    ++record_[0];
    return changed;
  }
  void settle() {}

 private:
  static constexpr off_t size_bytes = off_t{64} << 20;
  bare_side(const std::string& prefix, int flags)
      : descriptor_(::open(prefix.c_str(), O_RDWR | O_CLOEXEC | flags, 0600)) {
    if (descriptor_ < 0) fail();
  }
  [[noreturn]] static void fail() { throw std::system_error(errno, std::generic_category(), "the bare file"); }
  void write(std::span<const char> bytes, off_t at) const {
    if (::pwrite(descriptor_, bytes.data(), bytes.size(), at) != static_cast<ssize_t>(bytes.size())) fail();
  }
  void sync() const {
    if (::fdatasync(descriptor_) != 0) fail();
  }

  int descriptor_;
  off_t at_ = 0;
  std::array<char, 128> record_{};
};

/// Calls `f.template operator()<Side>()` for each that keeps values.
template <class F>
void for_each_durable_side(F f) {
  f.template operator()<dm_side>();
#ifdef BENCH_LMDB
  f.template operator()<lmdb_side>();
#endif
#ifdef BENCH_SQLITE
  f.template operator()<sqlite_side>();
#endif
#ifdef BENCH_ROCKSDB
  f.template operator()<rocksdb_side>();
#endif
}

}  // namespace bench
