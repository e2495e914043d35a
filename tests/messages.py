#!/usr/bin/env python3
"""Wrong uses of the containers do not compile, and the compiler says what is wrong before it says anything else.

Each file in messages/ begins with what is expected of the compiler's output:
    // expects: TEXT              a part of one of its first lines
    // expects g++: TEXT          the same, of that compiler only, where the words are the compiler's own
    // lines: N                   how long the whole may be, where that is not the usual
A file without a text is one that compiles; it keeps the others honest.

Usage: messages.py INCLUDE_DIRECTORY COMPILER [ARGUMENT...]
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

FIRST_LINES = 12  # where the text must be: what stands before it are "included from" and "required from"
LINES_MAX = 110


def expectations(text, family):
    """What a file expects of a compiler of that family: the text or None, and the number of lines."""
    wanted, lines_max = None, LINES_MAX
    for line in text.splitlines():
        match = re.match(r"// (expects(?: (\S+))?|lines): (.*)", line)
        if not match:
            break
        if match.group(1) == "lines":
            lines_max = int(match.group(3))
        elif match.group(2) in (None, family):
            wanted = match.group(3)
    return wanted, lines_max


def fault_of(path, include, compiler, family):
    wanted, lines_max = expectations(path.read_text(), family)
    command = [*compiler, "-std=c++20", "-fsyntax-only", "-I", str(include), str(path)]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, check=False)
    lines = done.stderr.splitlines()
    shown = "\n    ".join(line[:200] for line in lines[:FIRST_LINES])
    if wanted is None:
        return None if done.returncode == 0 else f"does not compile, and should:\n    {shown}"
    if done.returncode == 0:
        return "compiles, and should not"
    # Files in the way to the text are not part of the message.
    said = [line for line in lines if not re.match(r"In file included from|\s+from ", line)]
    if not any(wanted in line for line in said[:FIRST_LINES]):
        at = next((number for number, line in enumerate(said, 1) if wanted in line), None)
        return f"'{wanted}' is {f'in line {at}' if at else 'nowhere'}; instead:\n    {shown}"
    if len(lines) > lines_max:
        return f"the message has {len(lines)} lines, more than {lines_max}"
    return None


def main(include, compiler):
    # Asked of the compiler itself: its name says little (ccache, c++, a path).
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    family = "clang++" if "clang" in version else "g++"
    paths = sorted((pathlib.Path(__file__).parent / "messages").glob("*.cpp"))
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        faults = list(pool.map(lambda path: fault_of(path, include, compiler, family), paths))
    for path, fault in zip(paths, faults):
        if fault is not None:
            print(f"{path.name}: {fault}")
    bad = sum(fault is not None for fault in faults)
    print(f"{len(paths)} wrong uses, {bad} with a wrong message ({family})")
    return 1 if bad != 0 or len(paths) < 20 else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2:]))
