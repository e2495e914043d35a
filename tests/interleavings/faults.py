#!/usr/bin/env python3
"""Puts faults into the algorithms of shared slots, one at a time, and makes sure that the search of interleavings finds
each.

Usage: faults.py SOURCE_ROOT SCRATCH_DIRECTORY TEST_MAIN [COMPILER...]

Each fault is a replacement in a copy of the headers; the test program is built with it and must fail. A replacement
that no longer fits the code is an error too: then it has to be written anew.
"""
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys

SLOTS = "deferred_map/sharing/slots.hpp"

# Not among them, since they change nothing that is promised (and are not found):
#   - begin_update's compare-and-swap does not acquire: the word it finds is the very store that `read` acquired, since words
#     never come back;
#   - remove copies without the fence behind it: all that changes a living slot's word is a compare-and-swap, and of two that
#     find the same word one fails;
#   - claim's compare-and-swap is relaxed, or make_vacant's store: the seq_cst operations on the bit between them acquire and
#     release too. That neither of a pair does is found.
# And one that this search cannot find, for it has one word of the bitmap and `fill` looks there in any case: that claim_any is
# left out.
#
# name, file, and what to replace with what, once or more
FAULTS = [
    # Looking
    ("read has no fence before it looks again", SLOTS,
     """      Atomics::fence(std::memory_order_acquire);
      if (Atomics::load(word_now, std::memory_order_relaxed) == before) [[likely]]\n        return before;""",
     """      if (Atomics::load(word_now, std::memory_order_relaxed) == before) [[likely]]\n        return before;"""),
    ("read does not look again", SLOTS,
     "      if (Atomics::load(word_now, std::memory_order_relaxed) == before) [[likely]]\n        return before;", "      return before;"),
    ("read does not acquire the word", SLOTS,
     """      const std::uint64_t before = Atomics::load(word_now, std::memory_order_acquire);
      // Nearly always""",
     """      const std::uint64_t before = Atomics::load(word_now, std::memory_order_relaxed);
      // Nearly always"""),
    ("read takes an updating slot's own value", SLOTS,
     "        copy_out<Atomics>(value, size_bytes, memory_.lease_value(word::lease_of(before)));",
     "        copy_out<Atomics>(value, size_bytes, from);"),
    # Filling
    ("publish has no fence before the value", SLOTS,
     """    Atomics::fence(std::memory_order_release);
    copy_in<Atomics>(value_at(index)""",
     """    copy_in<Atomics>(value_at(index)"""),
    ("publish does not release the value", SLOTS,
     "    Atomics::store(word_at(index), word::occupied(generation, 0), std::memory_order_release);",
     "    Atomics::store(word_at(index), word::occupied(generation, 0), std::memory_order_relaxed);"),
    ("publish stores the word before the value", SLOTS,
     """    copy_in<Atomics>(value_at(index), value, size_bytes);
    // From here on the value is there. release: all of it.
    Atomics::store(word_at(index), word::occupied(generation, 0), std::memory_order_release);""",
     """    Atomics::store(word_at(index), word::occupied(generation, 0), std::memory_order_release);
    copy_in<Atomics>(value_at(index), value, size_bytes);"""),
    ("a handle's slot still counts as cached", SLOTS,
     "    Atomics::store(word_now, word::held(generation, owner_), std::memory_order_relaxed);", ""),
    ("release keeps the generation", SLOTS,
     """    const std::uint32_t next = generation + 1;
    if (next == version::retired_generation) {
      // It stays""",
     """    const std::uint32_t next = generation;
    if (next == version::retired_generation) {
      // It stays"""),
    # Changing
    ("begin_update has no fence before the scratch area", SLOTS,
     """    Atomics::fence(std::memory_order_release);
    Atomics::store(head.ticket""",
     """    Atomics::store(head.ticket"""),
    ("begin_update does not release the scratch area", SLOTS,
     """    return Atomics::compare_exchange(word_at(index), expected, during, std::memory_order_acq_rel,""",
     """    return Atomics::compare_exchange(word_at(index), expected, during, std::memory_order_acquire,"""),
    ("begin_update changes the word whatever it is", SLOTS,
     """    return Atomics::compare_exchange(word_at(index), expected, during, std::memory_order_acq_rel,
                                     std::memory_order_relaxed)
               ? outcome::done
               : outcome::stale;""",
     """    Atomics::store(word_at(index), during, std::memory_order_release);
    return expected == before ? outcome::done : outcome::stale;"""),
    ("a lease's ticket stays the same", SLOTS,
     "Atomics::load(head.ticket, std::memory_order_relaxed) + 1;", "Atomics::load(head.ticket, std::memory_order_relaxed);"),
    ("finish_update has no fence before the value", SLOTS,
     """    Atomics::fence(std::memory_order_release);
    copy_words<Atomics>""",
     """    copy_words<Atomics>"""),
    ("finish_update does not release the value", SLOTS,
     "word::occupied(word::generation_of(during), changes), std::memory_order_release);",
     "word::occupied(word::generation_of(during), changes), std::memory_order_relaxed);"),
    ("finish_update stores the word before the value", SLOTS,
     """    copy_words<Atomics>(value_at(index), memory_.lease_value(lease), memory_.value_words);
    Atomics::store(word_now, word::occupied(word::generation_of(during), changes), std::memory_order_release);""",
     """    Atomics::store(word_now, word::occupied(word::generation_of(during), changes), std::memory_order_release);
    copy_words<Atomics>(value_at(index), memory_.lease_value(lease), memory_.value_words);"""),
    ("finish_update does not count the change", SLOTS,
     "Atomics::load(head.changes, std::memory_order_relaxed)) + 1;", "Atomics::load(head.changes, std::memory_order_relaxed));"),
    ("the count of changes is not kept in the lease", SLOTS,
     "    Atomics::store(head.changes, word::auxiliary_of(before), std::memory_order_relaxed);\n", ""),
    # Ending
    ("remove does not acquire the word it copies under", SLOTS,
     """      std::uint64_t before = Atomics::load(word_now, std::memory_order_acquire);
      if (!is_alive(before, generation)) return outcome::stale;""",
     """      std::uint64_t before = Atomics::load(word_now, std::memory_order_relaxed);
      if (!is_alive(before, generation)) return outcome::stale;"""),
    ("remove's compare-and-swap is relaxed", SLOTS,
     "      if (!Atomics::compare_exchange(word_now, before, after, std::memory_order_acq_rel, std::memory_order_relaxed))",
     "      if (!Atomics::compare_exchange(word_now, before, after, std::memory_order_relaxed, std::memory_order_relaxed))"),
    ("remove stores the word", SLOTS,
     "      if (!Atomics::compare_exchange(word_now, before, after, std::memory_order_acq_rel, std::memory_order_relaxed))\n        continue;",
     "      Atomics::store(word_now, after, std::memory_order_release);"),
    ("remove takes a slot that is being updated", SLOTS,
     "      if (word::is_updating(before)) return outcome::busy;\n", ""),
    ("remove keeps the generation", SLOTS,
     """      const std::uint32_t next = generation + 1;
      const bool retires""",
     """      const std::uint32_t next = generation;
      const bool retires"""),
    ("a slot is removed again after its last life", SLOTS,
     "      const bool retires = next == version::retired_generation;", "      const bool retires = false;"),
    # Claiming and giving back
    ("claim stores the word", SLOTS,
     """    if (!Atomics::compare_exchange(word_now, before, word::cached(next, owner_), std::memory_order_acquire,
                                   std::memory_order_relaxed))
      return false;""",
     """    Atomics::store(word_now, word::cached(next, owner_), std::memory_order_release);"""),
    ("claim sets the bit before the word is its own", SLOTS,
     """    // Claimed and stamped in the same instant.""",
     """    Atomics::fetch_or(memory_.taken[index / 64], std::uint64_t{1} << (index % 64), std::memory_order_seq_cst);
    // Claimed and stamped in the same instant."""),
    ("claim does not set the bit", SLOTS,
     """    Atomics::fetch_or(memory_.taken[index / 64], std::uint64_t{1} << (index % 64), std::memory_order_seq_cst);
    return true;""",
     """    return true;"""),
    ("claim claims a retired slot", SLOTS,
     "    if (generation == version::retired_generation) return false;\n    const std::uint32_t next = generation == 0",
     "    const std::uint32_t next = generation == 0"),
    ("a slot is vacant before its bit is cleared", SLOTS,
     """    Atomics::fetch_and(memory_.taken[at], ~bit, std::memory_order_seq_cst);
    // release: whoever claims the slot has seen all that was done to it.
    Atomics::store(word_at(index), word::vacant(generation), std::memory_order_release);""",
     """    Atomics::store(word_at(index), word::vacant(generation), std::memory_order_release);
    Atomics::fetch_and(memory_.taken[at], ~bit, std::memory_order_seq_cst);"""),
    ("make_vacant gives no hint", SLOTS, "    hint_at(at);\n", ""),
    ("a hint is forgotten without looking again", SLOTS,
     """    if (Atomics::load(memory_.taken[at], std::memory_order_seq_cst) != ~std::uint64_t{0})
      Atomics::fetch_or(memory_.hints[at / 64], bit, std::memory_order_seq_cst);""",
     ""),
    ("who forgets a hint looks again at no time in particular", SLOTS,
     "    if (Atomics::load(memory_.taken[at], std::memory_order_seq_cst) != ~std::uint64_t{0})",
     "    if (Atomics::load(memory_.taken[at], std::memory_order_relaxed) != ~std::uint64_t{0})"),
    ("who gives a hint looks at no time in particular", SLOTS,
     "    if ((Atomics::load(memory_.hints[at / 64], std::memory_order_seq_cst) & bit) == 0)",
     "    if ((Atomics::load(memory_.hints[at / 64], std::memory_order_relaxed) & bit) == 0)"),
    ("the bit is cleared at no time in particular", SLOTS,
     "    Atomics::fetch_and(memory_.taken[at], ~bit, std::memory_order_seq_cst);",
     "    Atomics::fetch_and(memory_.taken[at], ~bit, std::memory_order_relaxed);"),
    ("a hint is forgotten at no time in particular", SLOTS,
     "    Atomics::fetch_and(memory_.hints[at / 64], ~bit, std::memory_order_seq_cst);",
     "    Atomics::fetch_and(memory_.hints[at / 64], ~bit, std::memory_order_relaxed);"),
    ("claim acquires nothing", SLOTS,
     "word::cached(next, owner_), std::memory_order_acquire,\n", "word::cached(next, owner_), std::memory_order_relaxed,\n",
     """    Atomics::fetch_or(memory_.taken[index / 64], std::uint64_t{1} << (index % 64), std::memory_order_seq_cst);
    return true;""",
     """    Atomics::fetch_or(memory_.taken[index / 64], std::uint64_t{1} << (index % 64), std::memory_order_relaxed);
    return true;"""),
    ("make_vacant releases nothing", SLOTS,
     "    Atomics::store(word_at(index), word::vacant(generation), std::memory_order_release);\n    hint_at",
     "    Atomics::store(word_at(index), word::vacant(generation), std::memory_order_relaxed);\n    hint_at",
     "    Atomics::fetch_and(memory_.taken[at], ~bit, std::memory_order_seq_cst);",
     "    Atomics::fetch_and(memory_.taken[at], ~bit, std::memory_order_acquire);"),
    ("claim does not go by what is vacant but by the bit", SLOTS,
     "    if (!word::is_vacant(before)) return false;\n", ""),
    # Iterating
    ("iteration looks at nothing but the first slot", SLOTS,
     "      for (; taken != 0; taken &= taken - 1)\n        visit", "      for (taken &= 1; taken != 0; taken &= taken - 1)\n        visit"),
    # Reaping
    ("a dead one's handle keeps its generation", SLOTS,
     "word::generation_of(w) + (word::is_cached(w) ? 0 : 1);", "word::generation_of(w);"),
    ("what the dead were updating stays so", SLOTS,
     "      if (word::updater_of(w) == dead) finish_update(index, word::lease_of(w));", ""),
    ("what the living are updating is finished too", SLOTS,
     "      if (word::updater_of(w) == dead) finish_update", "      finish_update"),
    ("what the living own is given back too", SLOTS,
     "    } else if (word::is_reserved(w) && word::owner_of(w) == dead) {", "    } else if (word::is_reserved(w)) {"),
    ("what the dead owned is lost", SLOTS,
     "        make_vacant(index, generation);\n      }\n    }\n  }", "      }\n    }\n  }"),
    ("a retired slot of a dead one has no bit", SLOTS,
     "        Atomics::fetch_or(memory_.taken[index / 64], std::uint64_t{1} << (index % 64), std::memory_order_relaxed);\n        Atomics::store",
     "        Atomics::fetch_and(memory_.taken[index / 64], ~(std::uint64_t{1} << (index % 64)), std::memory_order_relaxed);\n        Atomics::store"),
]


def catch2():
    """What Catch2 is linked by where it is version 3; version 2 is headers alone."""
    found = subprocess.run(["pkg-config", "--libs", "catch2-with-main"], capture_output=True, text=True)
    return found.stdout.split() if found.returncode == 0 else []


def run(fault, root, scratch, test_main, compiler):
    name, header, *replacements = fault
    place = scratch / str(FAULTS.index(fault))
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(root / "include", place / "include")
    text = (place / "include" / header).read_text()
    for old, new in zip(replacements[::2], replacements[1::2]):
        if text.count(old) != 1:
            return name, f"does not fit {header} any more ({text.count(old)} times there)"
        text = text.replace(old, new)
    (place / "include" / header).write_text(text)
    here = root / "tests" / "interleavings"
    objects = []
    for source in ("threads.cpp", "stories.cpp", "shared_slots_test.cpp"):
        objects.append(str(place / (source + ".o")))
        built = subprocess.run([*compiler, "-std=c++20", "-O2", "-w", f"-I{place / 'include'}", "-c", str(here / source), "-o", objects[-1]],
                               capture_output=True, text=True)
        if built.returncode != 0:
            return name, "does not compile: " + built.stderr[-600:]
    program = place / "interleavings"
    built = subprocess.run([*compiler, *objects, str(scratch / "search.o"), str(test_main), *catch2(), "-lxxhash", "-o", str(program)],
                           capture_output=True, text=True)
    if built.returncode != 0:
        return name, "does not link: " + built.stderr[-600:]
    ran = subprocess.run([str(program), "--abort"], capture_output=True, text=True)
    shutil.rmtree(place)
    return name, None if ran.returncode != 0 else "was not found"


def main():
    root, scratch, test_main = map(pathlib.Path, sys.argv[1:4])
    compiler = sys.argv[4:] or ["c++"]
    scratch.mkdir(parents=True, exist_ok=True)
    subprocess.run([*compiler, "-std=c++20", "-O2", "-w", f"-I{root / 'include'}", "-c", str(root / "tests/interleavings/search.cpp"),
                    "-o", str(scratch / "search.o")], check=True)
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, trouble in pool.map(lambda f: run(f, root, scratch, test_main, compiler), FAULTS):
            print(f"{'MISSED' if trouble else 'found '}  {name}{': ' + trouble if trouble else ''}", flush=True)
            missed += trouble is not None
    print(f"{len(FAULTS) - missed} of {len(FAULTS)} faults found")
    sys.exit(missed != 0)


if __name__ == "__main__":
    main()
