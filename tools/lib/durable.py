#!/usr/bin/env python3
"""Tables of what bench_durable measured: dm::durable_map beside LMDB, SQLite and RocksDB; medians, and ratios of one round.

Usage: durable.py RESULTS.json
"""
import collections
import json
import statistics
import sys

import machine

NAMES = {"dm": "durable_map", "lmdb": "LMDB", "sqlite": "SQLite", "rocksdb": "RocksDB", "bare": "bare append"}


def shown_bytes(count):
    return f"{count / 1000:.1f} K" if count < 1e6 else f"{count / 1e6:.2f} M"


def table_of(results, value_of):
    """(updates, side) -> values, one for each round, in order."""
    values = collections.defaultdict(list)
    for turn in sorted(results["turns"], key=lambda turn: turn["round"]):
        values[turn["updates"], turn["side"]].append(value_of(turn))
    return values


def print_rows(title, sides, cell):
    print(f"\n{title}\n{'':6}" + "".join(f" {NAMES[side]:>26}" for side in sides))
    for updates in (1, 10, 100, 1000):
        print(f"{updates:>6}" + "".join(f" {cell(updates, side):>26}" for side in sides))


def print_commits(results, sides):
    rates = table_of(results, lambda turn: turn["commits"] / turn["seconds"])

    def rate(updates, side):
        own = rates.get((updates, side))
        if not own:
            return "-"
        if side == "dm":
            return f"{statistics.median(own):.0f}"
        ratios = sorted(dm / other for dm, other in zip(rates[updates, "dm"], own))
        return f"{statistics.median(own):.0f} ({statistics.median(ratios):.2f}: {ratios[0]:.1f}-{ratios[-1]:.1f})"

    print_rows("commits a second, by the number of updates in each; in brackets how many times as many durable_map makes,\n"
               "of single rounds: median, and range", sides, rate)

    written = table_of(results, lambda turn: turn["disk_bytes"] / turn["commits"])
    if results["device"]:
        print_rows(f"bytes that reached the disk, for each commit (of all of {results['device']}, whoever writes to it)", sides,
                   lambda *key: shown_bytes(statistics.median(written[key])) if key in written else "-")
    else:
        print("no bytes: the directory's file system has no block device of its own")

    changing = table_of(results, lambda turn: turn["changing"] / turn["commits"] * 1e6)
    print_rows("us of each commit that went into changing values", sides,
               lambda *key: f"{statistics.median(changing[key]):.1f}" if key in changing else "-")

    latencies = {(one["updates"], one["side"]): one for one in results["latencies_us"]}
    print_rows("us that one commit took: p50 / p99 / p99.9 / max", sides, lambda *key: " / ".join(
        f"{latencies[key][name]:.0f}" for name in ("p50", "p99", "p999", "max")) if key in latencies else "-")


def print_openings(results):
    print("\nopening after kill -9 with 16 MiB of journal, to the first get, ms")
    for side in (side for side in NAMES if any(one["side"] == side for one in results["openings"])):
        ms = sorted(one["ms"] for one in results["openings"] if one["side"] == side)
        print(f"  {NAMES[side]:12} {statistics.median(ms):9.2f}   ({ms[0]:.2f} .. {ms[-1]:.2f})")
    replayed = [one["replayed_bytes"] for one in results["openings"] if one["side"] == "dm"]
    print(f"  durable_map replayed {statistics.median(replayed) / 2**20:.1f} MiB; LMDB has no journal, and as many commits")


def print_gets(results):
    for name, title in (("gets_opened", "after opening"), ("gets_updated", "after all those updates")):
        rounds = collections.defaultdict(lambda: collections.defaultdict(list))
        for one in results[name]:
            rounds[one["side"]][one["round"]].append(one["ns"])
        medians = {side: [statistics.median(ns) for _, ns in sorted(by.items())] for side, by in rounds.items()}
        print(f"\nns of a get, random, {title}: " + ", ".join(
            f"{NAMES.get(side, 'mapped_map')} {statistics.median(ns):.1f}" for side, ns in medians.items()))
        ratios = sorted(dm / mapped for dm, mapped in zip(medians["dm"], medians["mapped"]))
        print(f"durable_map / mapped_map: {statistics.median(ratios):.2f} ({ratios[0]:.2f} .. {ratios[-1]:.2f})")


def print_rollbacks(results):
    times = collections.defaultdict(list)
    for one in results["rollbacks"]:
        times[one["slots"]].append(one["us"])
    print("\nrollback: " + ", ".join(f"{slots} slots {statistics.median(us):.2f} us ({statistics.median(us) / slots * 1e3:.1f}"
                                     " ns each)" for slots, us in sorted(times.items())))


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        results = json.load(file)
    print("\n".join(machine.lines(machine.describe("build/bench"))[:2]))
    print(f"{results['values']} values of {results['value_bytes']} bytes; {results['rounds']} rounds of {results['seconds']} s a "
          f"turn; load {results['load_before']:.1f} before, {results['load_after']:.1f} after (1 of it or more is this)")
    print(", ".join(version for version in results["versions"].values() if version))
    if not results["has_priority"]:
        print("without root's rights others may have kept it waiting for a processor: look at ratios alone")
    sides = [side for side in NAMES if side in results["versions"]]
    for side in NAMES:
        if side not in sides:
            print(f"without {NAMES[side]}: its library is not here")
    print_commits(results, sides)
    print_openings(results)
    print_gets(results)
    print_rollbacks(results)


if __name__ == "__main__":
    main()
