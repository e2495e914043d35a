#!/usr/bin/env python3
"""Tables of what bench_shared measured: dm::shared_map beside others, medians and ratios; or how each scales, with a chart.

Usage: shared.py RESULTS.json [CHART.svg]
"""
import collections
import json
import statistics
import sys

import chart

NAMES = {"dm": "dm::shared_map", "lmdb": "LMDB", "boost_mutex": "Boost, interprocess_mutex",
         "boost_sharable": "Boost, interprocess_sharable_mutex", "boost_robust": "Boost, robust pthread mutex"}
WHAT = {"read": "reads", "read_beside": "reads, a writer beside", "update": "updates",
        "update_beside": "updates, a reader beside", "pairs": "insert + remove", "pairs_1000": "1000 inserts, 1000 removes",
        "churn": "remove a random one, insert"}
MILLION = 1e6


def rates_of(results):
    """(scenario, processes, side) -> operations a second of all its processes, of each repetition."""
    rates = collections.defaultdict(list)
    for run in results["runs"]:
        rates[run["scenario"], run["processes"], run["side"]].append(sum(run["per_second"]))
    return rates


def shown(rate):
    return f"{rate / MILLION:.2f} M" if rate >= MILLION else f"{rate / 1000:.1f} k"


def with_ratio(rate, rates):
    return f"{shown(rate)} ({rates['dm'] / rate:.1f})"


def print_rates(medians):
    sides = [side for side in NAMES if any(key[2] == side for key in medians)]
    rows = sorted({key[:2] for key in medians}, key=lambda row: (list(WHAT).index(row[0]), row[1]))
    print("operations a second of all processes, and in brackets how many times as many dm has")
    print(f"{'':28} {'procs':>5}" + "".join(f" {side:>16}" for side in sides))
    for scenario, processes in rows:
        rates = {side: medians[scenario, processes, side] for side in sides if (scenario, processes, side) in medians}
        line = f"{WHAT[scenario]:28} {processes:5}"
        for side, rate in rates.items():
            line += f" {shown(rate) if side == 'dm' else with_ratio(rate, rates):>16}"
        print(line)


def print_comparisons(medians):
    """Each side against itself."""
    def ratio(side, over, under):
        keys = [(*over, side), (*under, side)]
        return f"{medians[keys[0]] / medians[keys[1]]:15.2f}" if all(key in medians for key in keys) else f"{'-':>15}"

    sides = [side for side in NAMES if any(key[2] == side for key in medians)]
    print(f"\n{'each against itself':34}" + "".join(f" {side:>15}" for side in sides))
    for name, over, under in [
            ("reads beside a writer / without", ("read_beside", 1), ("read", 1)),
            ("two readers / one", ("read", 2), ("read", 1)),
            ("updates beside a reader / without", ("update_beside", 1), ("update", 1)),
            ("insert + remove, two / one", ("pairs", 2), ("pairs", 1)),
            ("1000 of each, two / one", ("pairs_1000", 2), ("pairs_1000", 1)),
            ("remove random, insert, two / one", ("churn", 2), ("churn", 1))]:
        print(f"{name:34}" + "".join(f" {ratio(side, over, under)}" for side in sides))
    apart = ratio("dm", ("pairs_apart", 2), ("pairs", 1)).strip()
    print(f"insert + remove, two processes with a map each / one: {apart}, which is what the machine is good for")


def print_gets(gets):
    print(f"\n{'get of 8 bytes, ns':20} {'shared':>8} {'mapped':>8} {'heap':>8}   shared / mapped, of single repetitions")
    for values in dict.fromkeys(get["values"] for get in gets):
        those = [get for get in gets if get["values"] == values]
        shared, mapped, heap = (statistics.median(get[f"{side}_ns"] for get in those) for side in ("shared", "mapped", "heap"))
        single = sorted(get["shared_ns"] / get["mapped_ns"] for get in those)
        print(f"{values:20} {shared:8.2f} {mapped:8.2f} {heap:8.2f}   {statistics.median(single):15.2f},"
              f" {single[0]:.2f} .. {single[-1]:.2f}")


def print_disturbance(runs):
    others = sorted(run["others"] for run in runs)
    disturbed = sum(share > 0.06 for share in others)
    print(f"\nother programs took {statistics.median(others):.2f} of one processor (median); more than 0.06 in"
          f" {disturbed} of {len(others)} measurements, {others[-1]:.2f} at most")


# How it scales -----------------------------------------------------------------------------------------------------------

SCALED = ["read", "pairs"]
COLOURS = {"dm": "dm", "lmdb": "colony", "boost_mutex": "flat_map", "boost_sharable": "unordered_map",
           "boost_robust": "vector"}  # the classes of chart.STYLE
WIDTH, HEIGHT, LEFT, TOP = 460, 260, 60, 92


def panel(medians, scenario, x0):
    """Operations a second, as multiples of one process of the same side, over processes."""
    counts = sorted({processes for name, processes, _ in medians if name == scenario})
    lines = {}
    for side in NAMES:
        if (scenario, counts[0], side) in medians:
            one = medians[scenario, counts[0], side]
            lines[side] = [medians[scenario, count, side] / one for count in counts]
    top = max(2, max(max(line) for line in lines.values())) * 1.05

    def at(i, multiple):
        across = i / max(1, len(counts) - 1) * (WIDTH - LEFT - 30)
        return x0 + LEFT + across, TOP + HEIGHT - multiple / top * HEIGHT

    body = [chart.text(x0 + LEFT, TOP - 12, WHAT[scenario], "strong")]
    step = 1 if top <= 6 else 2 if top <= 12 else 4
    for multiple in range(0, int(top) + 1, step):
        x, y = at(0, multiple)
        body.append(f'<line x1="{x}" x2="{x0 + WIDTH - 30}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        body.append(chart.text(x - 8, y + 4, f"{multiple}x", "small", "end"))
    for i, count in enumerate(counts):
        body.append(chart.text(at(i, 0)[0], TOP + HEIGHT + 18, str(count), "small", "middle"))
    for side, line in lines.items():
        points = " ".join("{:.1f},{:.1f}".format(*at(i, multiple)) for i, multiple in enumerate(line))
        body.append(f'<polyline points="{points}" class="{COLOURS[side]} line"/>')
    return body


def draw(medians, results):
    head = [chart.text(16, 26, "Operations a second of all processes, as multiples of one process's", "title")]
    x = 16
    for side, name in NAMES.items():
        if any(key[2] == side for key in medians):
            head.append(f'<rect x="{x}" y="42" width="10" height="10" class="{COLOURS[side]}"/>')
            head.append(chart.text(x + 15, 51, name))
            x += 32 + 6.3 * len(name)
    body = [part for i, scenario in enumerate(SCALED) for part in panel(medians, scenario, i * WIDTH)]
    about = chart.machine.lines(results["machine"])[:2] + [
        f"{results['values']} values of {results['value_bytes']} bytes in /dev/shm; processes on keys of their own; "
        "medians of interleaved repetitions."]
    bottom = TOP + HEIGHT + 44
    foot = [chart.text(16, bottom + 15 * i, line, "small") for i, line in enumerate(about)]
    lines = "".join(f" .{kind}.line {{ fill: none; stroke: {colour}; stroke-width: 2; }}" for kind, colour in
                    {"dm": "#0969da", "colony": "#bf8700", "flat_map": "#8250df", "unordered_map": "#a5738f",
                     "vector": "#8c959f"}.items())
    width, height = len(SCALED) * WIDTH, bottom + 15 * len(about)
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                      f'viewBox="0 0 {width} {height}" role="img">', f"<style>{chart.STYLE}{lines}</style>",
                      f'<rect width="{width}" height="{height}" class="ground"/>', *head, *body, *foot, "</svg>", ""])


def main():
    results = json.load(open(sys.argv[1], encoding="utf-8"))
    medians = {key: statistics.median(rates) for key, rates in rates_of(results).items()}
    results["machine"] = chart.machine.describe("build/bench")
    print("\n".join(chart.machine.lines(results["machine"])[:2]))
    print(f"{results['values']} values of {results['value_bytes']} bytes in /dev/shm; medians of {results['repetitions']} "
          f"interleaved repetitions of {results['seconds']} s\n")
    print_rates({key: rate for key, rate in medians.items() if key[0] in WHAT})
    if results["gets"]:
        print_comparisons(medians)
        print_gets(results["gets"])
    print_disturbance(results["runs"])
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w", encoding="utf-8") as out:
            out.write(draw(medians, results))
        print(f"chart: {sys.argv[2]}")


if __name__ == "__main__":
    main()
