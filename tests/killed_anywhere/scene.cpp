#include "scene.hpp"

#include <cstring>
#include <fstream>
#include <stdexcept>

#include "../files.hpp"
#include "deferred_map/format/arena_header.hpp"
#include "deferred_map/format/control_block.hpp"
#include "image.hpp"

namespace killed {
namespace {

namespace version = dm::version;

template <class T>
constexpr std::uint64_t slots_max() {
  return sizeof(T) > 8 ? 8 : 400;
}

/// Builds a start: `build` works on a new map and tells the keys; what it leaves is closed.
template <class T>
class starting {
 public:
  starting(const std::filesystem::path& path, std::uint64_t reserve_slots = 0) : path_(path) {
    std::filesystem::remove(path);
    map_ = dm::mapped_map<T>::create(
        path, {.max_slots = slots_max<T>(), .reserve_slots = reserve_slots, .sync_on_close = false});
  }
  dm::key insert() {
    const dm::key key = map_.insert(value_of<T>(told_.size()));
    told_.push_back(key.bits());
    return key;
  }
  void insert(std::size_t count) {
    while (count-- > 0) insert();
  }
  /// Erases every `step`th of the values, `count` of them.
  void erase(std::size_t count, std::uint32_t step) {
    for (std::uint32_t index = 0; count > 0; index += step)
      if (map_.erase(map_.key_at(index))) --count;
  }
  /// Is killed with a handle out, and opens again.
  void recover() {
    const dm::handle lost = map_.allocate_handle();
    tell(lost.key());
    const std::string killed = read_file(path_);
    map_.close();
    restore(path_, killed);
    map_ = dm::mapped_map<T>::open(path_, {.sync_on_close = false});
  }
  dm::mapped_map<T>& map() { return map_; }
  dm::control_block control() const { return read_at<dm::control_block>(path_, header().control_offset); }
  start close(const std::string& name) {
    map_.close();
    return {.name = name, .bytes = read_file(path_), .told = told_};
  }
  void patch_version(std::uint32_t index, std::uint32_t word) {
    write_at(path_, header().slots_offset + index * header().slot_stride_bytes, word);
  }
  std::uint32_t version_of(std::uint32_t index) const {
    return read_at<std::uint32_t>(path_, header().slots_offset + index * header().slot_stride_bytes);
  }
  void tell(dm::key key) { told_.push_back(key.bits()); }
  /// A closed file's control block, changed and vouched for again.
  template <class Change>
  static void reseal(start& closed, Change change) {
    dm::arena_header header;
    dm::control_block control;
    std::memcpy(&header, closed.bytes.data(), sizeof header);
    std::memcpy(&control, closed.bytes.data() + header.control_offset, sizeof control);
    change(control);
    control.closed = control.checksum();
    control.synced = 0;
    std::memcpy(closed.bytes.data() + header.control_offset, &control, sizeof control);
  }

 private:
  dm::arena_header header() const { return read_at<dm::arena_header>(path_, 0); }

  std::filesystem::path path_;
  dm::mapped_map<T> map_;
  std::vector<std::uint64_t> told_;
};

template <class T>
start few(const std::filesystem::path& path) {
  starting<T> s(path);
  s.insert(7);
  s.erase(2, 3);
  return s.close("five values, two vacant slots");
}

}  // namespace

template <class T>
std::vector<start> starts(const std::filesystem::path& path) {
  std::vector<start> all;
  all.push_back(starting<T>(path).close("an empty map"));
  all.push_back(few<T>(path));
  if constexpr (sizeof(T) <= 8) {
    {
      // Recovery leaves the buffer empty, and all that is vacant in the bitmap.
      starting<T> s(path);
      s.insert(200);
      s.erase(190, 1);
      s.recover();
      if (s.control().buffer_count != 0) throw std::logic_error("the buffer is not empty");
      all.push_back(s.close("vacant slots in the bitmap alone"));
    }
    {
      starting<T> s(path);
      s.insert(140);
      s.erase(128, 1);
      if (s.control().buffer_count != 128) throw std::logic_error("the buffer is not full");
      all.push_back(s.close("a full vacancy buffer"));
    }
    {
      starting<T> s(path, 200);
      s.insert(64);
      all.push_back(s.close("a word of slots, none vacant"));
    }
    {
      starting<T> s(path, 64);
      s.insert(64);
      if (s.map().capacity() != 64) throw std::logic_error("there is room left");
      all.push_back(s.close("no slot and no room left"));
    }
    {
      starting<T> s(path);
      s.insert(130);
      for (int i = 0; i < 3; ++i) {
        s.map().erase(s.map().key_at(129));
        s.insert();
      }
      for (std::uint32_t index = 129; index >= 12; --index) s.map().erase(s.map().key_at(index));
      s.map().shrink_to_fit();
      if (s.map().generation_floor() < 4) throw std::logic_error("there is no generation floor");
      all.push_back(s.close("a generation floor"));
    }
    {
      // The last of 2^30 - 2 lives: of the slot that is vacant and taken next, and of the first that is occupied.
      starting<T> s(path);
      s.insert(7);
      s.erase(1, 1);
      s.patch_version(0, version::vacant(version::last_generation));
      s.patch_version(1, version::occupied(version::last_generation));
      s.tell(dm::key::from_parts(1, version::last_generation));
      all.push_back(s.close("slots in their last life"));
    }
    {
      start lying = few<T>(path);
      starting<T>::reseal(lying, [](dm::control_block& control) { control.buffer[control.buffer_count - 1] = 1; });
      lying.index_lies = true;
      lying.name = "a buffer that names an occupied slot";
      all.push_back(lying);
    }
  }
  return all;
}

template <class T>
std::vector<operation<T>> operations() {
  using p = program<T>;
  const auto nothing = [](p&) {};
  const auto hold = [](p& it) {
    it.handles.push_back(it.map.allocate_handle());
    it.tell(it.handles.back().key());
  };
  const auto value = [] { return value_of<T>(1'000'000); };
  return {
      {"allocate_handle", 0, false, nothing, hold},
      {"insert(handle)", 0, false, hold, [=](p& it) { it.map.insert(std::move(it.handles.back()), value()); }},
      {"emplace(handle)", 0, false, hold, [=](p& it) { it.map.emplace(std::move(it.handles.back()), value()); }},
      {"insert", 0, false, nothing, [=](p& it) { it.tell(it.map.insert(value())); }},
      {"emplace", 0, false, hold, [=](p& it) { it.tell(it.map.emplace(value())); }},
      {"insert_with_key", 0, false, nothing,
       [=](p& it) {
         it.map.insert_with_key([&](dm::key key) {
           it.tell(key);
           return value();
         });
       }},
      {"remove", 2, false, nothing, [](p& it) { it.map.remove(it.nth_live(1)); }},
      {"erase", 1, false, nothing, [](p& it) { it.map.erase(it.nth_live(0)); }},
      {"erase(iterator)", 3, false, hold, [](p& it) { it.map.erase(it.map.find(it.nth_live(2))); }},
      {"release_handle", 0, false, hold, [](p& it) { it.map.release_handle(std::move(it.handles.back())); }},
      {"release_reserved", 0, false,
       [=](p& it) {
         hold(it);
         hold(it);
       },
       [](p& it) { it.map.release_reserved(); }},
      {"detach", 1, false, nothing,
       [](p& it) { it.handles.push_back(std::move(it.map.detach(it.nth_live(0))->second)); }},
      {"insert(detached)", 1, false,
       [](p& it) { it.handles.push_back(std::move(it.map.detach(it.nth_live(0))->second)); },
       [=](p& it) { it.map.insert(std::move(it.handles.back()), value()); }},
      {"update", 2, false, nothing, [=](p& it) { it.map.update(it.nth_live(1), [&](T& old) { old = value(); }); }},
      {"update with a handle out", 1, false, hold,
       [=](p& it) { it.map.update(it.nth_live(0), [&](T& old) { old = value(); }); }},
      // The scratch area still names the slot, and holds what is not its value any more.
      {"update again", 2, false,
       [](p& it) {
         it.map.update(it.nth_live(1), [&](T& old) { old = value_of<T>(1'000'001); });
         it.map.at(it.nth_live(1)) = value_of<T>(1'000'002);
       },
       [=](p& it) { it.map.update(it.nth_live(1), [&](T& old) { old = value(); }); }},
      // The control block still names another slot.
      {"update of another value", 2, false,
       [](p& it) { it.map.update(it.nth_live(0), [&](T& old) { old = value_of<T>(1'000'001); }); },
       [=](p& it) { it.map.update(it.nth_live(1), [&](T& old) { old = value(); }); }},
      {"clear", 1, true, hold, [](p& it) { it.map.clear(); }},
      {"retain", 2, true, nothing, [](p& it) { it.map.retain([](dm::key key, T&) { return key.index() % 2 == 0; }); }},
      {"drain", 1, true, nothing,
       [](p& it) {
         for ([[maybe_unused]] auto&& taken : it.map.drain()) continue;
       }},
      {"drain, not to the end", 3, true, nothing,
       [](p& it) {
         for ([[maybe_unused]] auto&& taken : it.map.drain()) break;
       }},
      {"reserve", 0, false, nothing,
       [](p& it) { it.map.reserve(it.map.capacity() - it.map.size() + (it.map.capacity() < slots_max<T>())); }},
      {"shrink_to_fit", 0, false, hold, [](p& it) { it.map.shrink_to_fit(); }},
      // Slots at the end that have had several lives: made again, they must not begin with the first.
      {"shrink_to_fit, of used slots", 3, false,
       [=](p& it) {
         const dm::key last = it.map.key_at(static_cast<std::uint32_t>(it.map.slot_count() - 1));
         if (it.map.erase(last)) it.tell(it.map.insert(value_of<T>(1'000'001)));
         for (auto index = static_cast<std::uint32_t>(it.map.slot_count()); index-- > 2;)
           it.map.erase(it.map.key_at(index));
       },
       [](p& it) { it.map.shrink_to_fit(); }},
      {"flush", 0, false, nothing, [](p& it) { it.map.flush(); }},
      {"close", 0, false, hold, [](p& it) { it.map.close(); }},
      {"open", 0, false, [](p& it) { it.map.close(); }, [](p& it) { it.map = dm::mapped_map<T>::open(it.path); }},
  };
}

template std::vector<start> starts<std::uint64_t>(const std::filesystem::path&);
template std::vector<start> starts<page>(const std::filesystem::path&);
template std::vector<operation<std::uint64_t>> operations();
template std::vector<operation<page>> operations();

}  // namespace killed
