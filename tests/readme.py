#!/usr/bin/env python3
"""Writes the first C++ example of a document to a file, so that it is compiled and run as it is shown.

Usage: readme.py DOCUMENT.md OUTPUT.cpp
"""
import pathlib
import re
import sys

text = open(sys.argv[1], encoding="utf-8").read()
match = re.search(r"^```cpp\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
if not match:
    sys.exit(f"{sys.argv[1]} has no C++ example")
line = text[: match.start()].count("\n") + 2
with open(sys.argv[2], "w", encoding="utf-8") as out:
    out.write(f'#line {line} "{pathlib.Path(sys.argv[1]).name}"\n' + match.group(1))
