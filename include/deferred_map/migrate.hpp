// Migrating an arena file from one type of value to the next, with every key and every generation.
//
//     dm::migrate<old::order, order>("orders.arena", "orders.arena", [](dm::key, const old::order& o) {
//       return order{o.customer, o.price_euros * 100};
//     });
//
// A program that moves on no longer has the type its files were made with, so it keeps that type, under another name.
// What a file calls it is what `schema_traits<T>::name` says (schema.hpp):
//
//     struct order { dm::key customer; std::int64_t price_cents; };              // in use: version 2
//     namespace old { struct order { dm::key customer; double price_euros; }; }  // kept for migrating: version 1
//     template <> struct dm::schema_traits<order> {
//       static constexpr auto name = "order";
//       static constexpr std::uint32_t version = 2;
//     };
//     template <> struct dm::schema_traits<old::order> {
//       static constexpr auto name = "order";
//       static constexpr std::uint32_t version = 1;
//     };
//
// Of files that were made before the type had a name or a version, `name` is the C++ name it had then (`dm-inspect
// info` shows it), and `version` stays away. A chain of versions is migrated step by step, or by an f that takes
// several at once.
//
// Invariants of a migration:
//  1. `from` is opened as by `open_read_only`: nothing in it changes, and while it lasts nobody writes to it.
//  2. The new file has no name until it is complete and on the disk. Before, it is gone with whatever ends the process.
//  3. In place, one rename decides: before it the name leads to the old file, after it to the new.
#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include "deferred_map/arena/arena.hpp"
#include "deferred_map/arena/arena_allocator.hpp"
#include "deferred_map/container/archive_access.hpp"
#include "deferred_map/mapped_map.hpp"

namespace dm {

/// Options of `migrate`; for designated initialisers. The defaults keep what the old file has.
struct migration_options {
  /// The most slots the new file can ever have. 0: as many as the old one, or if that has as many as fit into the
  /// default address space, as many as fit there now; never fewer than there are.
  std::uint64_t max_slots = 0;
  /// Access rights of the new file, exactly. Nothing: those of the old one. It also gets the owner and group of the old
  /// one; where this process may not give it the group, the group it has instead gets no rights.
  std::optional<std::uint32_t> permissions = std::nullopt;
  /// Migrate a file that was open when the machine stopped: what can be rebuilt of it (arena_options::salvage).
  bool salvage = false;
  /// Check the old file's index and counts too. Its versions always are; index and counts are made anew.
  bool verify = false;
};

/// What a migration found and did.
struct migration_report {
  std::uint32_t slots = 0;                ///< slots in both files
  std::uint32_t values = 0;               ///< values that were migrated
  std::uint32_t dropped = 0;              ///< values for which there was no new one
  std::uint32_t retired = 0;              ///< slots in the new file that have no life left
  std::uint32_t reserved_given_back = 0;  ///< slots that a killed user of the old file had reserved

  /// One sentence for people.
  std::string to_string() const;
};

namespace detail {

/// What a migration may do with a mapped_map that nobody else may.
struct migration_access {
  template <class Old, class Key>
  static mapped_map<Old, Key> open(const std::filesystem::path& path, arena_access access, const arena_options& how) {
    return mapped_map<Old, Key>(arena::open(path, arena_kind::mapped, stored_type_of<Old>(), how, access), how);
  }
  template <class Old, class Key>
  static arena& arena_of(const mapped_map<Old, Key>& map) noexcept {
    return *map.arena_;
  }
};

/// Whether both paths are the same name in the same directory.
bool is_same_name(const std::filesystem::path& a, const std::filesystem::path& b);
/// Errors: errc::exists if there is something of that name.
void require_free_name(const std::filesystem::path& to);
/// A new arena beside or instead of `old`, with room for all its slots.
std::unique_ptr<arena> make_successor(const std::filesystem::path& to, arena& old, const stored_type& type,
                                      const migration_options& how);

template <class New, class Result>
inline constexpr bool is_migrated_value =
    std::is_convertible_v<Result, New> || std::is_convertible_v<Result, std::optional<New>>;

/// f(key, value), or f(value) where it wants no key.
template <class F, class Key, class Old>
decltype(auto) call_migration(F& f, Key k, const Old& value) {
  if constexpr (std::is_invocable_v<F&, Key, const Old&>)
    return f(k, value);
  else
    return f(value);
}

template <class Old, class New, class Key, class F>
constexpr bool require_migration() {
  static_assert((require_storable<Old>(), true), "Old cannot be stored in a file, for the reason given");
  static_assert((require_storable<New>(), true), "New cannot be stored in a file, for the reason given");
  constexpr bool callable = std::is_invocable_v<F&, Key, const Old&> || std::is_invocable_v<F&, const Old&>;
  static_assert(callable,
                "migrate<Old, New>(from, to, f): f must be callable as f(key, old) or f(old), where old is a "
                "const Old&");
  if constexpr (callable) {
    using result = decltype(call_migration(std::declval<F&>(), std::declval<Key>(), std::declval<const Old&>()));
    static_assert(is_migrated_value<New, result>,
                  "migrate<Old, New>(from, to, f): f must return a New, or a std::optional<New> that is empty for a "
                  "value to be dropped");
    return is_migrated_value<New, result>;
  }
  return false;
}

/// All slots of `old` into the empty map `fresh`, in order.
template <class New, class Old, class Key, class F>
migration_report migrate_slots(const mapped_map<Old, Key>& old, deferred_map<New, Key, arena_allocator<New>>& fresh,
                               F& f) {
  const auto& from = archive_access::map_of(old);
  migration_report report;
  report.slots = static_cast<std::uint32_t>(from.slot_count());
  report.reserved_given_back = old.recovery().reserved_given_back;
  for (std::uint32_t index = 0; index < report.slots; ++index) {
    const std::uint32_t word = archive_access::version(from, index);
    if (!version::is_possible(word)) refuse_impossible_version(migration_access::arena_of(old).path(), index);
    if (version::is_occupied(word)) {
      const Key k = Key::from_parts(index, version::generation(word));
      const std::optional<New> value(call_migration(f, k, archive_access::value(from, index)));
      if (value) {
        archive_access::append_occupied(fresh, word, report.slots, *value);
        ++report.values;
        continue;
      }
      ++report.dropped;
    }
    // Opening has given back what was reserved, in memory. So this is vacant, retired, or was just dropped.
    archive_access::append_vacant(fresh, version::is_vacant(word) ? word : version::next_vacant(word), report.slots);
  }
  archive_access::finish(fresh, from.generation_floor());
  report.retired = static_cast<std::uint32_t>(fresh.retired_count());
  return report;
}

}  // namespace detail

/// Makes of the arena file `from`, which holds values of type Old, the arena file `to` with values of type New:
/// `f(Key, const Old&)`, or `f(const Old&)`, gives the new value for each. If f returns a std::optional<New>, a value
/// for which it is empty is dropped, as by `erase`.
///
/// Every key that is valid in `from` names the migrated value in `to`; every dead key stays dead: slots keep their
/// indices and generations, retired ones stay retired, and what `shrink_to_fit` gave back is not forgotten.
/// A file whose user was killed is migrated as the next to open it would have found it.
///
/// If `to` is `from`, the new file takes its place: at every moment, also after a kill or a power failure, the name
/// leads to the whole old file or to the whole new one. That demands that nobody else has it open, and that it may be
/// written to. Otherwise `from` may be read by others meanwhile, and is not changed.
///
/// `to` appears under its name only when it is complete and on the disk. If f throws, the disk is full, or the process
/// is killed before, there is no `to` (or the old one, in place), and nothing else is left. One exception: a kill
/// between the last two system calls of a migration in place can leave the complete new file under a hidden name
/// (`.deferred-map-NUMBER.replacement`) beside the old; migrating or removing that file ends it.
///
/// Requires: f does not change `from` or `to`. Values are migrated in the order of their slots.
/// Errors: as `mapped_map::open_read_only` of `from` (errc::type_mismatch if it holds no Old: also where it was
/// migrated already) and `mapped_map::create` of `to` (errc::exists, full); bad_options if max_slots is too small;
/// damaged if a slot has a version that no operation leaves; whatever f throws. After an error of the very last step,
/// syncing the directory, `to` is there.
/// Cost: linear in slots; disk space for both files at once. The new file has a uuid and a creation time of its own.
template <class Old, class New, class Key = key, class F>
migration_report migrate(const std::filesystem::path& from, const std::filesystem::path& to, F f,
                         const migration_options& how = {}) {
  migration_report report;
  if constexpr (detail::require_migration<Old, New, Key, F>()) {
    const bool in_place = detail::is_same_name(from, to);
    if (!in_place) detail::require_free_name(to);
    const mapped_map<Old, Key> old = detail::migration_access::open<Old, Key>(
        from, in_place ? arena_access::read_to_replace : arena_access::read_only,
        {.salvage = how.salvage, .verify = how.verify});
    arena& old_arena = detail::migration_access::arena_of(old);
    const std::unique_ptr<arena> made = detail::make_successor(to, old_arena, detail::stored_type_of<New>(), how);
    deferred_map<New, Key, arena_allocator<New>> fresh{arena_allocator<New>(*made)};
    report = detail::migrate_slots<New>(old, fresh, f);
    if (in_place)
      made->publish_over(old_arena);
    else
      made->publish();
  }
  return report;
}

/// The same, without exceptions for what concerns the files: the code says why there was no migration. What f throws is
/// thrown, unless it is a dm::error.
template <class Old, class New, class Key = key, class F>
migration_report migrate(const std::filesystem::path& from, const std::filesystem::path& to, F f,
                         const migration_options& how, std::error_code& code) {
  code.clear();
  try {
    return migrate<Old, New, Key>(from, to, std::move(f), how);
  } catch (const error& e) {
    code = e.code();
  }
  return {};
}
template <class Old, class New, class Key = key, class F>
migration_report migrate(const std::filesystem::path& from, const std::filesystem::path& to, F f,
                         std::error_code& code) {
  return migrate<Old, New, Key>(from, to, std::move(f), migration_options{}, code);
}

}  // namespace dm
