#!/usr/bin/env python3
"""Runs the benchmarks of bench_container, group by group, and prints medians and ratios.

A group is one operation on one size of map and one kind of value. Its sides are measured interleaved in one process,
which leaves the others' memory alone; and in several processes, because where the memory lies differs from process to
process by more than from repetition to repetition. The medians are over all repetitions of all processes. All groups
are run once before any is run again: a slow minute of the machine then hits one process of a group, not all.

Usage: container.py BUILD_DIRECTORY [--quick] [--filter REGEX] [--sizes N,...] [--sides NAME,...]
Writes container.json beside the build; the charts of a whole run go to docs/benchmarks/.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

import chart
import machine

MILLION = 1_000_000
SIDES = ["dm", "dm_get_many", "slotmap", "colony", "flat_map", "unordered_map", "vector"]
Group = collections.namedtuple("Group", "operation bytes n")


def call(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}\nfailed with exit code {done.returncode}")
    return done.stdout


def parsed(name):
    """OPERATION/SIDE/BYTES/N and what Google Benchmark adds."""
    operation, side, size, n = name.split("/")[:4]
    return Group(operation, int(size), int(n)), side


def groups_of(program, options):
    """The groups in the order in which the program has them, by size, and the sides of each."""
    groups = {}
    for name in call(program, "--benchmark_list_tests=true").split():
        group, side = parsed(name)
        if side not in options.sides or (options.sizes and group.n not in options.sizes):
            continue
        if options.filter and not re.search(options.filter, "/".join(map(str, group))):
            continue
        if options.quick and (group.bytes != 8 or group.n not in (MILLION, 1, 10)):
            continue
        groups.setdefault(group, []).append(side)
    operations = list(dict.fromkeys(group.operation for group in groups))
    place = {group: (group.n, group.bytes, operations.index(group.operation)) for group in groups}
    return {group: groups[group] for group in sorted(groups, key=place.get)}


def measure(program, group, sides, repetitions):
    """One process; returns [(side, ns per operation)] of each repetition."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        pattern = f"^{group.operation}/({'|'.join(sides)})/{group.bytes}/{group.n}/"
        call(program, f"--benchmark_filter={pattern}", "--benchmark_enable_random_interleaving=true",
             f"--benchmark_repetitions={repetitions}", f"--benchmark_out={out.name}", "--benchmark_out_format=json")
        runs = json.load(open(out.name, encoding="utf-8"))["benchmarks"]
    found = []
    for run in runs:
        if run.get("error_occurred"):
            sys.exit(f"{run['name']}: {run['error_message']}")
        if run.get("run_type") == "iteration":
            assert run["time_unit"] == "ns"
            found.append((parsed(run["name"])[1], run["real_time"] / run["operations"]))
    return found


def memory_of(program, options):
    """Bytes per element: held by the full map, and at most on the way."""
    found = []
    for n in (MILLION, 10 * MILLION):
        if (options.quick and n != MILLION) or (options.sizes and n not in options.sizes):
            continue
        for side in options.sides:
            for how in ("reserved", "grown"):
                name = f"{side}/8/{n}/{how}"
                done = subprocess.run([program, f"--memory={name}"], stdout=subprocess.PIPE, text=True)
                if done.returncode == 0:
                    held, most = map(float, done.stdout.split())
                    found.append({"side": side, "bytes": 8, "n": n, "how": how, "held": held, "most": most})
    return found


def summary_of(times):
    """times: {(group, side): [[ns of each repetition] of each process]}"""
    rows = {}
    for (group, side), processes in times.items():
        rows.setdefault(group, {})[side] = statistics.median(ns for process in processes for ns in process)
    summary = []
    for group, medians in rows.items():
        row = {**group._asdict(), "ns": medians}
        if "dm" in medians and "slotmap" in medians:
            pairs = zip(times[group, "dm"], times[group, "slotmap"])
            row["dm/slotmap"] = medians["dm"] / medians["slotmap"]
            row["dm/slotmap of processes"] = sorted(statistics.median(a) / statistics.median(b) for a, b in pairs)
        others = {side: ns for side, ns in medians.items() if side not in ("dm", "dm_get_many", "vector")}
        if "dm" in medians and others:
            best = min(others, key=others.get)
            row["best other"], row["dm/best other"] = best, medians["dm"] / others[best]
        summary.append(row)
    return summary


def print_summary(summary):
    shown = [side for side in SIDES if any(side in row["ns"] for row in summary)]
    print(f"{'operation':20} {'bytes':>5} {'n':>9}" + "".join(f" {side[:13]:>{max(9, len(side))}}" for side in shown)
          + "  dm/slotmap  of processes   dm/best other")
    for row in summary:
        line = f"{row['operation']:20} {row['bytes']:5} {row['n']:9}"
        for side in shown:
            ns = row["ns"].get(side)
            line += f" {'-' if ns is None else f'{ns:.2f}':>{max(9, len(side))}}"
        if "dm/slotmap" in row:
            single = row["dm/slotmap of processes"]
            line += f"  {row['dm/slotmap']:10.2f}  {single[0]:5.2f} .. {single[-1]:<5.2f}"
        else:
            line += " " * 26
        if "best other" in row:
            line += f" {row['dm/best other']:6.2f} {row['best other']}"
        print(line.rstrip())


def print_memory(memory):
    if memory:
        print("\nbytes per element of 8 bytes: held by the map, and the most on the way there")
    for n, how in dict.fromkeys((m["n"], m["how"]) for m in memory):
        those = [m for m in memory if (m["n"], m["how"]) == (n, how)]
        print(f"{how:9} {n:9}   " + "   ".join(f"{m['side']} {m['held']:.1f} ({m['most']:.1f})" for m in those))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--filter")
    parser.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--sides", type=lambda text: text.split(","), default=SIDES)
    options = parser.parse_args()
    program = options.build / "tests" / "benchmarks" / "bench_container"

    def repetitions_of(group):
        return int(os.environ.get("REPETITIONS", 3 if group.n == MILLION and not options.quick else 4))

    def processes_of(group):
        return int(os.environ.get("PROCESSES", 3 if group.n == MILLION and not options.quick else 2))

    groups = groups_of(program, options)
    if not groups:
        sys.exit("no benchmark is called so")
    times = collections.defaultdict(list)
    for process in range(max(map(processes_of, groups))):
        for number, (group, sides) in enumerate(groups.items(), 1):
            if process >= processes_of(group):
                continue
            if sys.stderr.isatty():
                where = f"{process + 1}/{processes_of(group)} {number}/{len(groups)} {'/'.join(map(str, group))}"
                print(f"\r\033[K{where} ", end="", file=sys.stderr, flush=True)
            measured = collections.defaultdict(list)
            for side, ns in measure(program, group, sides, repetitions_of(group)):
                measured[side].append(ns)
            for side, all_ns in measured.items():
                times[group, side].append(all_ns)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)

    summary = summary_of(times)
    memory = [] if options.filter and not re.search(options.filter, "memory") else memory_of(program, options)
    described = machine.describe(options.build)
    result = {
        "machine": described,
        "summary": summary,
        "bytes per element": memory,
        "ns per operation, of each repetition of each process": [
            {**group._asdict(), "side": side, "ns": all_ns} for (group, side), all_ns in times.items()],
    }
    (options.build / "container.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    print("\n".join(machine.lines(described)))
    print("ns per operation, medians of interleaved repetitions in several processes, and ratios of them\n")
    print_summary(summary)
    print_memory(memory)

    whole = not (options.filter or options.quick or options.sizes or options.sides != SIDES)
    to = pathlib.Path("docs/benchmarks") if whole else options.build
    to.mkdir(parents=True, exist_ok=True)
    for n, name in ((MILLION, "container.svg"), (10 * MILLION, "container-10m.svg")):
        drawn = chart.draw([row for row in summary if row["bytes"] == 8 and row["n"] == n], described, n)
        if drawn:
            (to / name).write_text(drawn, encoding="utf-8")
            print(f"{'' if name != 'container.svg' else chr(10)}chart: {to / name}")


if __name__ == "__main__":
    main()
