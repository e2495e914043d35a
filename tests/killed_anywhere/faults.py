#!/usr/bin/env python3
"""Puts faults into the order of stores, one at a time, and makes sure that the kills at every instruction find each.

Usage: faults.py SOURCE_ROOT SCRATCH_DIRECTORY LIBRARY TEST_MAIN [COMPILER...]

Each fault is a replacement in a copy of the headers; the test program is built with it and must fail. A replacement
that no longer fits the code is an error too: then it has to be written anew.
"""
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys

IMPL = "deferred_map/container/deferred_map_impl.hpp"
REBUILD = "deferred_map/container/deferred_map_rebuild.hpp"
ATTACHED = "deferred_map/container/attached_slots.hpp"
CORE = "deferred_map/deferred_map.hpp"
MAPPED = "deferred_map/mapped_map.hpp"

# Not among them, since they were tried and change nothing that is promised: to count a reserved slot before its version says
# so (whatever is reserved, the file is recovered); a new slot without a version (recovery makes it anew); no mark for a
# recovery under way (what called for it, a sum, a reservation or an update, still does until the index is right again; the
# mark is for counts that lied from the beginning, and for salvage); and no compiler fences at all, since g++ 12 at -O2 keeps
# these stores in their order without being told.
#
# name, file, what to replace, with what
FAULTS = [
    ("the version is stored before the value", IMPL,
     """    storage_.construct(std::addressof(slot.value), std::forward<Args>(args)...);
  } else {
    vacate_on_exit""",
     """    commit(slot, vacant | version::occupied_bits);
    storage_.construct(std::addressof(slot.value), std::forward<Args>(args)...);
  } else {
    vacate_on_exit"""),
    ("a handle's version is stored before its value", IMPL,
     "    storage_.construct(std::addressof(slot.value), std::move(value));\n  } else {",
     """    commit(slot, handle.key().occupied_version());
    storage_.construct(std::addressof(slot.value), std::move(value));
  } else {"""),
    ("the last count is stored before the version", IMPL,
     """  commit(slot, occupied);
  occupied_goes_up();
  return detail::key_access""",
     """  occupied_goes_up();
  commit(slot, occupied);
  return detail::key_access"""),
    ("erase does not count down first", IMPL,
     """  occupied_goes_down();
  vacate(index, occupied_version);""",
     """  vacate(index, occupied_version);
  occupied_goes_down();"""),
    ("the buffer is filled after the count went up", IMPL,
     """  ++control.buffer_count;
  vacant_goes_up();""",
     """  vacant_goes_up();
  ++control.buffer_count;"""),
    ("the buffer's count goes up before its entry is there", IMPL,
     """  storage_.buffer()[control.buffer_count] = index;
  ++control.buffer_count;
  vacant_goes_up();""",
     """  ++control.buffer_count;
  vacant_goes_up();
  storage_.buffer()[control.buffer_count - 1] = index;"""),
    ("a slot is taken from the buffer before the count goes down", IMPL,
     """    vacant_goes_down();
    if (control.buffer_count != 0 || fill_buffer()) [[likely]] {
      const std::uint32_t index = storage_.buffer()[--control.buffer_count];""",
     """    if (control.buffer_count != 0 || fill_buffer()) [[likely]] {
      const std::uint32_t index = storage_.buffer()[--control.buffer_count];
      order_stores();
      vacant_goes_down();"""),
    ("release keeps the generation", IMPL,
     "  std::uint32_t next = version::next_vacant(old_version);",
     "  std::uint32_t next = old_version & ~version::state_mask;"),
    ("shrink_to_fit drops slots before it says so", IMPL,
     """    if constexpr (persistent) control.vacant -= dropped;
    order_stores();
    control.generation_floor = floor;
    order_stores();
    storage_.rebuild_index(taken.data(), keep);
    order_stores();
    storage_.drop_slots(keep);
    order_stores();""",
     """    order_stores();
    storage_.rebuild_index(taken.data(), keep);
    order_stores();
    storage_.drop_slots(keep);
    order_stores();
    if constexpr (persistent) control.vacant -= dropped;
    order_stores();
    control.generation_floor = floor;"""),
    ("recovery says that it is done too early", REBUILD,
     """  storage_.rebuild_index(found.taken.data(), control.slot_count);
  order_stores();
  if constexpr (persistent) control.occupied = found.occupied_count;
  control.reserved = 0;""",
     """  if constexpr (persistent) control.recovering = 0;
  order_stores();
  storage_.rebuild_index(found.taken.data(), control.slot_count);
  order_stores();
  if constexpr (persistent) control.occupied = found.occupied_count;
  control.reserved = 0;"""),
    ("recovery keeps the generation of reserved slots", REBUILD,
     "version::vacant(std::min(generation + 1, version::retired_generation))", "version::vacant(generation)"),
    ("recovery counts before it gives back", REBUILD,
     """  std::uint32_t retired = found.retired_count;
  const auto give_back""",
     """  control.reserved = 0;
  if constexpr (persistent) control.recovering = 0;
  std::uint32_t retired = found.retired_count;
  const auto give_back"""),
    ("an update is not announced", MAPPED, "    control.update_pending = 1;", "    control.update_pending = 0;"),
    ("an update is announced before the new value is there", MAPPED,
     """    std::memcpy(arena_->scratch(), std::addressof(value), sizeof(T));
    control.update_index""",
     """    control.update_pending = 1;
    order_stores();
    std::memcpy(arena_->scratch(), std::addressof(value), sizeof(T));
    control.update_index"""),
    ("an update is announced before it is said of which slot", MAPPED,
     """    control.update_index = k.index();
    control.update_version = k.occupied_version();
    order_stores();
    control.update_pending = 1;  // from this store on the update has happened""",
     """    control.update_pending = 1;
    order_stores();
    control.update_index = k.index();
    control.update_version = k.occupied_version();"""),
    ("an update is over before its value is copied", MAPPED,
     """    std::memcpy(static_cast<void*>(place), std::addressof(value), sizeof(T));
    order_stores();
    control.update_pending = 0;""",
     """    control.update_pending = 0;
    order_stores();
    std::memcpy(static_cast<void*>(place), std::addressof(value), sizeof(T));"""),
    ("a finished update is forgotten before it is copied", MAPPED,
     """      std::memcpy(static_cast<void*>(get(k)), arena_->scratch(), sizeof(T));
      recovery_""",
     """      control.update_pending = 0;
      order_stores();
      std::memcpy(static_cast<void*>(get(k)), arena_->scratch(), sizeof(T));
      recovery_"""),
    ("salvage is not marked before the boot id", MAPPED,
     "      control.recovering = recovering_salvage;  // before the boot id says that this is an ordinary crash\n", ""),
]


def catch2():
    """What Catch2 is linked by where it is version 3; version 2 is headers alone."""
    found = subprocess.run(["pkg-config", "--libs", "catch2-with-main"], capture_output=True, text=True)
    return found.stdout.split() if found.returncode == 0 else []


def run(fault, root, scratch, library, test_main, compiler):
    name, header, old, new = fault
    place = scratch / str(FAULTS.index(fault))
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(root / "include", place / "include")
    text = (place / "include" / header).read_text()
    if text.count(old) != 1:
        return name, f"does not fit {header} any more ({text.count(old)} times there)"
    (place / "include" / header).write_text(text.replace(old, new))
    program = place / "killed_anywhere"
    here = root / "tests" / "killed_anywhere"
    built = subprocess.run(
        [*compiler, "-std=c++20", "-O2", "-w", "-D_FILE_OFFSET_BITS=64", f"-I{place / 'include'}",
         *map(str, sorted(here.glob("*.cpp"))), str(test_main), str(library), *catch2(), "-lxxhash", "-ldl", "-o", str(program)],
        capture_output=True, text=True)
    if built.returncode != 0:
        return name, "does not compile: " + built.stderr[-600:]
    quick = {k: v for k, v in os.environ.items() if k != "DEFERRED_MAP_EXHAUSTIVE"}
    ran = subprocess.run([str(program), "~*its making*", "--abort"], capture_output=True, text=True, env=quick)
    shutil.rmtree(place)
    return name, None if ran.returncode != 0 else "was not found"


def main():
    root, scratch, library, test_main = map(pathlib.Path, sys.argv[1:5])
    compiler = sys.argv[5:] or ["c++"]
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, trouble in pool.map(lambda f: run(f, root, scratch, library, test_main, compiler), FAULTS):
            print(f"{'MISSED' if trouble else 'found '}  {name}{': ' + trouble if trouble else ''}", flush=True)
            missed += trouble is not None
    print(f"{len(FAULTS) - missed} of {len(FAULTS)} faults found")
    sys.exit(missed != 0)


if __name__ == "__main__":
    main()
