#!/usr/bin/env python3
"""What opening an arena costs beside reading the same memory, from a Google Benchmark JSON file of bench_opening.

A benchmark is named SIDE/STRIDE/SLOTS. Usage: opening.py RESULTS.json
"""
import json
import statistics
import sys

results = json.load(open(sys.argv[1], encoding="utf-8"))
times = {}  # (stride, slots) -> side -> milliseconds by the clock, and of the processor
for run in results["benchmarks"]:
    if run.get("run_type") != "iteration":
        continue
    if run.get("error_occurred"):
        sys.exit(f"{run['name']}: {run['error_message']}")
    side, stride, slots = run["name"].split("/")[:3]
    clock, processor = times.setdefault((int(stride), int(slots)), {}).setdefault(side, ([], []))
    clock.append(run["real_time"])
    processor.append(run["processor_ms"])


def table(title, which):
    print(title)
    print(f"{'stride':>6} {'slots':>9} | {'closed':>8} {'killed':>8} | {'recover':>8} | {'mapped':>8} {'fresh':>8} {'file':>8}"
          f" | recover / mapped, / fresh, / file")
    for (stride, slots), sides in sorted(times.items()):
        median = {side: statistics.median(measured[which]) for side, measured in sides.items()}
        recovered = median["open_recovered"]
        reads = [median["read_mapped"], median["read_fresh"], median["read_file"]]
        print(f"{stride:>6} {slots:>9} | {median['open_closed']:8.3f} {median['open_killed']:8.3f} | {recovered:8.2f} | "
              + " ".join(f"{read:8.2f}" for read in reads)
              + " | " + "  ".join(f"{recovered / read:5.2f}" for read in reads))


table("ms by the clock, medians: opening after closing, after a kill with nothing under way, with recovery; reading", 0)
print()
table("ms of the processor: without waiting for the disk, or for other programs", 1)
