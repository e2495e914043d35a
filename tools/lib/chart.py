#!/usr/bin/env python3
"""Draws what container.py measured: for each operation how many times slotmap's time each side takes, as SVG.

The axis is logarithmic, because half the time and twice the time are as far from the same. The picture has a
background of its own and follows the viewer's preference for light or dark where the viewer tells it.

Usage: chart.py RESULTS.json N > CHART.svg
"""
import html
import json
import math
import sys

import machine

WIDTH, LEFT, RIGHT = 960, 250, 60
BAR, GAP, LABEL, TOP = 11, 10, 28, 96
SHOWN = [("dm", "deferred_map"), ("dm_get_many", "deferred_map, get_many"), ("colony", "plf::colony"),
         ("flat_map", "boost::unordered_flat_map"), ("unordered_map", "std::unordered_map"),
         ("vector", "std::vector (the floor)")]
NAMES = {
    "insert_reserved": "insert, reserved, cold", "insert_unreserved": "insert, growing",
    "refill": "refill after removal",
    "get_random": "get, random", "get_dependent": "get, each depends on the last", "get_stale": "get, stale keys",
    "get_half_stale": "get, half of the keys stale", "find_half_stale": "find, half stale, not read",
    "remove_random": "remove, random", "churn": "remove one, insert one", "iterate_full": "iterate, full",
    "iterate_90_removed": "iterate, 90 % removed", "iterate_99_removed": "iterate, 99 % removed",
    "second_get_random": "secondary map: get, random", "second_insert_random": "secondary map: insert, random",
    "join_all": "join with a full secondary", "join_1_percent": "join with 1 % in the secondary",
}
STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f; }
  .title { font-size: 16px; font-weight: 600; } .small { font-size: 11px; fill: #57606a; }
  .ground { fill: #ffffff; } .grid { stroke: #d8dee4; } .one { stroke: #24292f; stroke-width: 1.5; }
  .dm { fill: #0969da; } .dm_get_many { fill: #6cb6ff; } .colony { fill: #bf8700; } .flat_map { fill: #8250df; }
  .unordered_map { fill: #a5738f; } .vector { fill: #8c959f; } .strong { font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9198a1; } .ground { fill: #0d1117; } .grid { stroke: #30363d; }
    .one { stroke: #e6edf3; } .dm { fill: #4493f8; } .dm_get_many { fill: #a5d0ff; } .colony { fill: #d29922; }
    .flat_map { fill: #ab7df8; } .unordered_map { fill: #c49ab0; } .vector { fill: #767e87; }
  }
"""


def ratios_of(row):
    base = row["ns"].get("slotmap")
    return {side: row["ns"][side] / base for side, _ in SHOWN if base and side in row["ns"]}


def text(x, y, what, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{html.escape(what)}</text>'


def short(number):
    return f"{number:.2f}" if number < 10 else f"{number:.0f}"


def draw(rows, described, n):
    """`rows` as summary_of makes them, of one size and kind. None where there is nothing beside slotmap."""
    rows = [row for row in rows if "dm" in ratios_of(row)]
    if not rows:
        return None
    all_ratios = [ratio for row in rows for ratio in ratios_of(row).values()]
    low = min(-1, math.floor(math.log2(min(all_ratios))))
    high = max(1, math.ceil(math.log2(max(all_ratios))))

    def across(ratio):
        return LEFT + (math.log2(ratio) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    bars_y, body = TOP + 24, []
    for row in rows:
        ratios = ratios_of(row)
        height = max(LABEL, len(ratios) * BAR)
        below = bars_y + height + GAP
        label = NAMES.get(row["operation"], row["operation"])
        middle = bars_y + height / 2
        bars_y += (height - len(ratios) * BAR) / 2
        body.append(text(LEFT - 10, middle - 2, label, "strong", "end"))
        body.append(text(LEFT - 10, middle + 11,
                         f"{short(row['ns']['dm'])} ns, slotmap {short(row['ns']['slotmap'])} ns", "small", "end"))
        for side, ratio in ratios.items():
            ends = sorted((across(ratio), across(1)))
            body.append(f'<rect x="{ends[0]:.1f}" y="{bars_y + 1}" width="{max(1, ends[1] - ends[0]):.1f}" '
                        f'height="{BAR - 2}" class="{side}"/>')
            at, anchor = (across(ratio) - 4, "end") if ratio < 1 else (across(ratio) + 4, "start")
            if side in ("dm", "dm_get_many"):
                body.append(text(at, bars_y + BAR - 2, f"{ratio:.2f}", "small", anchor))
            bars_y += BAR
        bars_y = below
    bottom = bars_y

    grid = []
    for power in range(low, high + 1):
        x = across(2**power)
        kind = "one" if power == 0 else "grid"
        grid.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP + 16}" y2="{bottom}" class="{kind}"/>')
        multiple = "slotmap = 1" if power == 0 else f"{2**power}" if power > 0 else f"1/{2**-power}"
        grid.append(text(x, TOP + 10, multiple, "small", "middle"))

    about = machine.lines(described) + ["Medians of interleaved repetitions in several processes; logarithmic axis."]
    height = bottom + 14 + 15 * len(about)
    title = f"Time per operation as a multiple of slotmap's, {n // 1_000_000} million values of 8 bytes"
    head = [text(16, 26, title, "title"),
            text(16, 46, "Shorter to the left is faster.", "small")]
    x = 16
    for side, name in SHOWN:
        if not any(side in row["ns"] for row in rows):
            continue
        head.append(f'<rect x="{x}" y="62" width="10" height="10" class="{side}"/>')
        head.append(text(x + 15, 71, name))
        x += 32 + 6.6 * len(name)
    foot = [text(16, bottom + 20 + 15 * i, line, "small") for i, line in enumerate(about)]
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
                      f'viewBox="0 0 {WIDTH} {height}" role="img">', f"<style>{STYLE}</style>",
                      f'<rect width="{WIDTH}" height="{height}" class="ground"/>',
                      *head, *grid, *body, *foot, "</svg>", ""])


if __name__ == "__main__":
    results = json.load(open(sys.argv[1], encoding="utf-8"))
    size = int(sys.argv[2])
    of_that_size = [row for row in results["summary"] if row["bytes"] == 8 and row["n"] == size]
    sys.stdout.write(draw(of_that_size, results["machine"], size) or "")
