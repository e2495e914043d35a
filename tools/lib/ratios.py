#!/usr/bin/env python3
"""Ratios of medians between the two sides of each pair of benchmarks in a Google Benchmark JSON file.

A benchmark is named OPERATION<SIDE<BYTES>>/N. Usage: ratios.py RESULTS.json
"""
import json
import re
import statistics
import sys

times = {}
for run in json.load(open(sys.argv[1], encoding="utf-8"))["benchmarks"]:
    if run.get("run_type") != "iteration":
        continue
    match = re.match(r"(\w+)<(\w+)<(\d+)>>/(\d+)", run["name"])
    if match:
        operation, side, size, n = match.groups()
        ns = run["cpu_time"] * 1e6 / int(n)  # the time unit is milliseconds
        times.setdefault((operation, size, n), {}).setdefault(side, []).append(ns)

print(f"{'operation':14} {'bytes':>5} {'slots':>9} {'heap ns':>9} {'file ns':>9} {'ratio':>6}   ratios of single repetitions")
for (operation, size, n), sides in times.items():
    heap, file = sides["heap_map"], sides["file_map"]
    ratio = statistics.median(file) / statistics.median(heap)
    single = sorted(f / h for f, h in zip(file, heap))
    print(f"{operation:14} {size:>5} {n:>9} {statistics.median(heap):9.2f} {statistics.median(file):9.2f} {ratio:6.2f}"
          f"   {single[0]:.2f} .. {single[-1]:.2f}")
