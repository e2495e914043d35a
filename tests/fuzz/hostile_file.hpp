// An arena file that somebody made to do harm: a real one, made by the library when the target starts, that the bytes of
// an input then change.
//
// An input is
//   seed      1 byte    which real file; `raw_seed`: the rest of the input is the file
//   finish    1 byte    what is put right at the end, so that what was changed gets past the checks before it:
//                       1 header and schema sealed   2 offsets laid out anew from the sizes   4 counts add up
//                       8 the boot is another   16, 32: marks as they are, both right, none, `synced` alone
//                       64 the file ends behind its slots   128 counts as the versions say
//   changes   until one is `done`: a header field, a count, a version, a word of the index, a schema record, ...
// What follows is the target's own. The numbers of changes are small, large, or near to what is there already.
//
// A file is kept as its parts, with zeros between them and behind: so one may claim terabytes and cost nothing.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/describe.hpp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "../files.hpp"
#include "../temporary_directory.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "deferred_map/mapped_map.hpp"
#include "fuzz_input.hpp"

namespace fuzz_types {

enum class color : std::uint8_t { red = 1, green = 2, blue = 200 };
BOOST_DESCRIBE_ENUM(color, red, green, blue)

struct point {
  std::int16_t x;
  double y;
};
BOOST_DESCRIBE_STRUCT(point, (), (x, y))

/// Something of every kind a schema knows.
struct everything {
  dm::key next;
  std::uint32_t number;
  float weight;
  char name[8];
  point corners[2];
  color paint;
  bool flag;
  char letter;
  std::int8_t small;
  std::array<std::uint16_t, 3> list;
  char words[2][4];
  std::int64_t wide;
};
BOOST_DESCRIBE_STRUCT(everything, (),
                      (next, number, weight, name, corners, paint, flag, letter, small, list, words, wide))

/// Without names, of a size that is no power of two.
struct nameless {
  std::uint32_t a;
  struct {
    std::uint8_t b[3];
    std::uint16_t c;
  } inner;
};

/// Larger than a page.
struct page_and_more {
  std::uint64_t number;
  std::byte rest[5000];
};

/// So large that an inspection reads its slots one by one.
struct very_long {
  std::uint32_t number;
  std::byte rest[70'000];
};

}  // namespace fuzz_types

namespace fuzz {

struct part {
  std::uint64_t offset = 0;
  std::vector<std::byte> bytes;
};

/// A file as the library left it.
struct seed_file {
  enum { head, control, scratch, index, slots, part_count };
  std::array<part, part_count> parts;
  std::uint64_t size_bytes = 0;
  std::uint64_t boot_id = 0;  // of this machine
};

enum class seed_type : std::uint8_t { everything, number, nameless, page_and_more, very_long };

class seed_files {
 public:
  /// Made once, in a directory that is gone afterwards.
  seed_files() {
    // In memory, where there is such a place: closing waits for the disk.
    if (std::getenv("TMPDIR") == nullptr && ::access("/dev/shm", W_OK) == 0) ::setenv("TMPDIR", "/dev/shm", 0);
    directory_.emplace();
    add<fuzz_types::everything>("closed", 300, [](auto& m) { churn(m, 40, 3); });
    add<fuzz_types::everything>("killed", 10'000, [this](auto& m) {
      churn(m, 150, 1);  // more than the buffer holds
      churn(m, 60, 2);
      handles_.push_back(m.allocate_handle());
      handles_.push_back(m.allocate_handle());
    });
    add<fuzz_types::everything>("empty", 1, [](auto&) {});
    add<std::uint64_t>("closed", 70, [](auto& m) { churn(m, 70, 9); });
    add<std::uint64_t>("killed", 100'000, [](auto& m) { churn(m, 40, 1); });
    add<fuzz_types::nameless>("closed", 200, [](auto& m) { churn(m, 64, 5); });
    add<fuzz_types::page_and_more>("killed", 5, [](auto& m) { churn(m, 3, 2); });
    add<fuzz_types::very_long>("closed", 2, [](auto& m) { churn(m, 2, 2); });
  }

  std::size_t size() const noexcept { return seeds_.size(); }
  const seed_file& operator[](std::size_t i) const noexcept { return seeds_[i]; }
  seed_type type(std::size_t i) const noexcept { return types_[i]; }

 private:
  template <class T>
  static T value(std::uint32_t number) {
    T made{};
    std::memset(static_cast<void*>(&made), 0, sizeof made);
    std::memcpy(static_cast<void*>(&made), &number, sizeof number);
    return made;
  }
  template <class Map>
  static void churn(Map& m, std::uint32_t count, std::uint32_t every) {
    std::vector<dm::key> keys;
    for (std::uint32_t i = 0; i < count; ++i) keys.push_back(m.insert(value<typename Map::mapped_type>(i)));
    for (std::uint32_t i = 0; i < count; i += every) m.erase(keys[i]);
  }

  template <class T, class F>
  void add(const std::string& how, std::uint64_t max_slots, F fill) {
    using map = dm::mapped_map<T>;
    const auto path = *directory_ / "seed";
    std::string bytes;
    {
      map m = map::create(path, {.max_slots = max_slots});
      m.close();
      m = map::open(path);
      fill(m);
      if (how == "closed") m.close();
      bytes = read_file(path);  // of an open map: as a kill would leave it
    }
    std::filesystem::remove(path);
    types_.push_back(std::is_same_v<T, fuzz_types::everything>      ? seed_type::everything
                     : std::is_same_v<T, std::uint64_t>             ? seed_type::number
                     : std::is_same_v<T, fuzz_types::nameless>      ? seed_type::nameless
                     : std::is_same_v<T, fuzz_types::page_and_more> ? seed_type::page_and_more
                                                                    : seed_type::very_long);
    seeds_.push_back(taken_apart(bytes));
  }

  static seed_file taken_apart(std::string& bytes) {
    dm::arena_header header;
    std::memcpy(&header, bytes.data(), sizeof header);
    dm::control_block control;
    std::memcpy(&control, &bytes[header.control_offset], sizeof control);
    seed_file seed;
    seed.size_bytes = bytes.size();
    seed.boot_id = control.boot_id;
    // What differs from run to run is nothing that an input should depend on.
    header.uuid = {1, 2, 3};
    header.created_unix_ns = 1;
    header.checksum = header.computed_checksum();
    control.boot_id = 1;
    control.opened_unix_ns = 1;
    control.owner_pid = 1;
    std::memset(control.owner_program, 0, sizeof control.owner_program);
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(&bytes[header.control_offset], &control, sizeof control);
    const auto take = [&](int which, std::uint64_t offset, std::uint64_t size) {
      part& taken = seed.parts[static_cast<std::size_t>(which)];
      taken.offset = offset;
      taken.bytes.resize(static_cast<std::size_t>(size));
      if (size != 0) std::memcpy(taken.bytes.data(), &bytes[offset], size);
    };
    take(seed_file::head, 0, header.schema_offset + header.schema_size_bytes);
    take(seed_file::control, header.control_offset, sizeof control);
    take(seed_file::scratch, header.scratch_offset, header.value_size_bytes);
    take(seed_file::index, header.index_offset, std::min<std::uint64_t>(header.index_size_bytes, 1024));
    const std::uint64_t slots_bytes = std::uint64_t{control.slot_count} * header.slot_stride_bytes;
    take(seed_file::slots, header.slots_offset,
         std::min<std::uint64_t>(slots_bytes, bytes.size() - header.slots_offset));
    return seed;
  }

  std::optional<temporary_directory> directory_;
  std::vector<dm::handle> handles_;  // never used: the slots stay reserved
  std::vector<seed_file> seeds_;
  std::vector<seed_type> types_;
};

/// A number that breaks things: small, near `old`, near the end of its range, or any.
inline std::uint64_t hostile_number(input& program, std::uint64_t old) noexcept {
  const std::uint8_t how = program.byte();
  const std::uint8_t small = program.byte();
  switch (how % 8) {
    case 0:
      return small;
    case 1:
      return old + small;
    case 2:
      return old - small;
    case 3:
      return ~std::uint64_t{0} - small;
    case 4:
      return std::uint64_t{1} << small % 64;
    case 5:
      return (std::uint64_t{1} << 32) - 4 + small % 8;  // as a version: the edge of the generations
    case 6:
      return small | std::uint64_t{program.byte()} << 8;
    default:
      return program.number64();
  }
}

class hostile_file {
 public:
  static constexpr std::uint64_t size_bytes_max = std::uint64_t{1} << 42;

  hostile_file() = default;
  hostile_file(const hostile_file&) = delete;
  hostile_file& operator=(const hostile_file&) = delete;

  /// Reads seed and changes from `program`. One object becomes many files: its memory is used again.
  void become(const seed_files& seeds, input& program) {
    which_ = program.byte() % (seeds.size() + 1);
    if (which_ == seeds.size()) {
      parts_.resize(1);
      parts_[0].offset = 0;
      header_ = {};
      control_ = {};
      const auto raw = std::as_bytes(program.rest());
      parts_[0].bytes.assign(raw.begin(), raw.end());
      size_bytes_ = raw.size();
      return;
    }
    const seed_file& seed = seeds[which_];
    parts_.assign(seed.parts.begin(), seed.parts.end());
    size_bytes_ = seed.size_bytes;
    std::memcpy(&header_, part_at(seed_file::head).data(), sizeof header_);
    std::memcpy(&control_, part_at(seed_file::control).data(), sizeof control_);
    const std::uint8_t finish = program.byte();
    control_.boot_id = (finish & 8) != 0 ? seed.boot_id ^ 1 : seed.boot_id;
    change(program);
    put_together(finish);
  }

  std::size_t which() const noexcept { return which_; }
  const std::vector<part>& parts() const noexcept { return parts_; }
  std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  /// As they are in the file; zeros where the file is raw.
  const dm::arena_header& header() const noexcept { return header_; }
  const dm::control_block& control() const noexcept { return control_; }
  bool is_raw() const noexcept { return parts_.size() == 1; }

  /// The file's bytes at `offset`, zeros between the parts.
  std::size_t read(std::uint64_t offset, std::span<std::byte> out) const noexcept {
    if (offset >= size_bytes_ || out.empty()) return 0;
    out = out.first(static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), size_bytes_ - offset)));
    std::memset(out.data(), 0, out.size());
    for (const part& each : parts_) {
      const std::uint64_t begin = std::max(offset, each.offset);
      const std::uint64_t end = std::min(offset + out.size(), each.offset + each.bytes.size());
      if (begin < end)
        std::memcpy(out.data() + (begin - offset), each.bytes.data() + (begin - each.offset), end - begin);
    }
    return out.size();
  }
  /// The first offset from `offset` on that a part has, or the size.
  std::uint64_t next_data(std::uint64_t offset) const noexcept {
    std::uint64_t next = size_bytes_;
    for (const part& each : parts_)
      if (offset < each.offset + each.bytes.size()) next = std::min(next, std::max(offset, each.offset));
    return next;
  }

 private:
  enum change_kind : std::uint8_t {
    done,
    header_field,
    control_field,
    count,
    slot_version,
    index_word,
    schema_record,
    bytes_in_part,
    file_size,
    buffer_entry,
    schema_bytes,
    every_version,
    change_kinds,
  };

  std::vector<std::byte>& part_at(std::size_t i) noexcept { return parts_[i].bytes; }

  /// Changes `Number` at `offset` of `bytes`, where that is within them.
  template <class Number>
  static void change_number(std::span<std::byte> bytes, std::size_t offset, input& program) noexcept {
    Number number{};
    if (bytes.size() < sizeof number || offset > bytes.size() - sizeof number) return;
    std::memcpy(&number, bytes.data() + offset, sizeof number);
    number = static_cast<Number>(hostile_number(program, static_cast<std::uint64_t>(number)));
    std::memcpy(bytes.data() + offset, &number, sizeof number);
  }
  static std::span<std::byte> bytes_of(auto& object) noexcept { return std::as_writable_bytes(std::span(&object, 1)); }

  void change(input& program) {
    for (int changes = 0; changes < 64 && !program.at_end(); ++changes) {
      switch (program.byte() % change_kinds) {
        case done:
          return;
        case header_field: {
          const std::size_t at = program.byte() % 32 * 4u + 8;  // from the format version to the offsets
          if (at < 24 || (at >= 64 && at < 88))
            change_number<std::uint32_t>(bytes_of(header_), at, program);
          else
            change_number<std::uint64_t>(bytes_of(header_), at / 8 * 8, program);
          break;
        }
        case control_field:
          change_number<std::uint64_t>(bytes_of(control_), program.byte() % 96 * 8u, program);
          break;
        case count:
          change_number<std::uint32_t>(bytes_of(control_), 64 + program.byte() % 13 * 4u, program);
          break;
        case slot_version: {
          const std::uint64_t slot = program.byte();
          change_number<std::uint32_t>(part_at(seed_file::slots),
                                       static_cast<std::size_t>(slot * header_.slot_stride_bytes), program);
          break;
        }
        case index_word:
          change_number<std::uint64_t>(part_at(seed_file::index), program.byte() * 8u, program);
          break;
        case schema_record: {
          const std::size_t record = program.byte() % 32;
          const std::size_t member = program.byte() % 20;
          const std::size_t at =
              sizeof(dm::arena_header) + (record == 0 ? member % 16 * 2 : record * 40 - 8 + member * 2);
          if (member >= 4 && member < 8)
            change_number<std::uint16_t>(part_at(seed_file::head), at, program);
          else
            change_number<std::uint32_t>(part_at(seed_file::head), at / 4 * 4, program);
          break;
        }
        case bytes_in_part: {
          auto& bytes = part_at(program.byte() % seed_file::part_count);
          const std::size_t at = program.number16();
          const std::size_t size = program.byte() % 16u;
          for (std::size_t i = at; i < at + size; ++i) {
            const auto byte = static_cast<std::byte>(program.byte());
            if (i < bytes.size()) bytes[i] = byte;
          }
          break;
        }
        case file_size:
          size_bytes_ = std::min(hostile_number(program, size_bytes_), size_bytes_max);
          break;
        case buffer_entry:
          change_number<std::uint32_t>(bytes_of(control_), 256 + program.byte() % 128 * 4u, program);
          break;
        case schema_bytes: {
          auto& head = part_at(seed_file::head);
          const std::size_t size = std::min<std::size_t>(program.number16() % 2048, program.rest().size());
          head.resize(sizeof(dm::arena_header) + size);
          for (std::size_t i = sizeof(dm::arena_header); i < head.size(); ++i)
            head[i] = static_cast<std::byte>(program.byte());
          header_.schema_size_bytes = size;
          break;
        }
        case every_version: {
          auto& slots = part_at(seed_file::slots);
          const std::uint64_t from = program.byte();
          const std::uint64_t count_of = program.byte();
          const auto version = static_cast<std::uint32_t>(hostile_number(program, 4));
          for (std::uint64_t i = from; i < from + count_of; ++i) {
            const std::uint64_t at = i * header_.slot_stride_bytes;
            if (at + sizeof version <= slots.size()) std::memcpy(slots.data() + at, &version, sizeof version);
          }
          break;
        }
        default:
          break;
      }
    }
  }

  void put_together(std::uint8_t finish) {
    if ((finish & 2) != 0) lay_out();
    auto& head = part_at(seed_file::head);
    if ((finish & 1) != 0) {
      constexpr std::uint64_t region_max = std::uint64_t{1} << 20;
      if (header_.control_offset >= sizeof header_ && header_.control_offset <= region_max) {
        std::vector<std::byte> region(static_cast<std::size_t>(header_.control_offset - sizeof header_));
        std::copy_n(head.begin() + sizeof header_, std::min<std::size_t>(region.size(), head.size() - sizeof header_),
                    region.begin());
        dm::seal(header_, region);
      } else {
        header_.checksum = header_.computed_checksum();
      }
    }
    std::memcpy(head.data(), &header_, sizeof header_);

    if ((finish & 128) != 0) count_versions();
    if ((finish & 4) != 0) {
      control_.occupied = control_.slot_count - control_.reserved - control_.vacant - control_.retired;
    }
    const std::uint64_t right = control_.checksum();
    switch (finish >> 4 & 3) {
      case 1:
        control_.closed = control_.synced = right;
        break;
      case 2:
        control_.closed = control_.synced = 0;
        break;
      case 3:
        control_.closed = 0;
        control_.synced = right;
        break;
      default:
        break;
    }
    std::memcpy(part_at(seed_file::control).data(), &control_, sizeof control_);

    if ((finish & 64) != 0)
      size_bytes_ = std::min(parts_[seed_file::slots].offset + parts_[seed_file::slots].bytes.size(), size_bytes_max);
    // Nothing lies behind the end, nor over what follows.
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      part& each = parts_[i];
      const std::uint64_t end = std::min(size_bytes_, i + 1 < parts_.size() ? parts_[i + 1].offset : size_bytes_);
      const std::uint64_t room = end < each.offset ? 0 : end - each.offset;
      if (each.bytes.size() > room) each.bytes.resize(static_cast<std::size_t>(room));
    }
  }

  /// The offsets that follow from the sizes, and the parts moved there.
  void lay_out() {
    constexpr std::uint64_t schema_size_max = 4096;
    if (header_.slots_max == 0 || header_.slots_max > 0xffff'ffffu || header_.value_size_bytes > 1u << 30 ||
        header_.schema_size_bytes > schema_size_max)
      return;
    static const std::vector<std::byte> any(schema_size_max);
    const dm::slot_layout slot{header_.slot_stride_bytes, header_.version_offset, header_.value_offset,
                               header_.value_size_bytes, header_.value_align_bytes};
    const dm::arena_header made =
        dm::make_header(static_cast<dm::arena_kind>(header_.kind), slot, header_.slots_max, "", 0,
                        std::span(any).first(static_cast<std::size_t>(header_.schema_size_bytes)));
    const std::uint64_t grown = made.slots_offset - parts_[seed_file::slots].offset;
    size_bytes_ = std::min(size_bytes_ + grown, size_bytes_max);
    header_.schema_offset = made.schema_offset;
    header_.control_offset = parts_[seed_file::control].offset = made.control_offset;
    header_.control_size_bytes = made.control_size_bytes;
    header_.scratch_offset = parts_[seed_file::scratch].offset = made.scratch_offset;
    header_.scratch_size_bytes = made.scratch_size_bytes;
    header_.index_offset = parts_[seed_file::index].offset = made.index_offset;
    header_.index_size_bytes = made.index_size_bytes;
    header_.slots_offset = parts_[seed_file::slots].offset = made.slots_offset;
  }

  void count_versions() {
    const auto& slots = part_at(seed_file::slots);
    const std::uint64_t stride = header_.slot_stride_bytes;
    if (stride == 0) return;
    control_.occupied = control_.reserved = control_.vacant = control_.retired = 0;
    for (std::uint64_t i = 0; i < control_.slot_count && i * stride + 4 <= slots.size(); ++i) {
      std::uint32_t word = 0;
      std::memcpy(&word, slots.data() + i * stride, sizeof word);
      switch (dm::version::state(word)) {
        case dm::slot_state::occupied:
          ++control_.occupied;
          break;
        case dm::slot_state::reserved:
          ++control_.reserved;
          break;
        case dm::slot_state::retired:
          ++control_.retired;
          break;
        default:
          ++control_.vacant;
          break;
      }
    }
  }

  std::size_t which_ = 0;
  std::vector<part> parts_;
  std::uint64_t size_bytes_ = 0;
  dm::arena_header header_;
  dm::control_block control_;
};

}  // namespace fuzz
