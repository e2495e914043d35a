#!/usr/bin/env python3
"""Arrows point down: no file includes a header of a room above its own (README of each room in src/).

Usage: rooms.py SOURCE_ROOT
"""
import pathlib
import re
import sys

# Each room, and the rooms it may see besides itself.
MAY_SEE = {
    "memory": set(),
    "container": {"memory"},
    "format": set(),
    "arena": {"format", "container", "memory"},
    "sharing": {"arena", "format", "container", "memory"},
    "journal": {"arena", "format", "container", "memory"},
    "maps": {"journal", "sharing", "arena", "format", "container", "memory"},
    "inspect": {"format", "container", "memory", "arena"},
}
# Headers that users include and that lie at the top belong to a room all the same.
ROOM_OF_PUBLIC = {
    "allocator.hpp": "memory",
    "key.hpp": "container",
    "handle.hpp": "container",
    "deferred_map.hpp": "container",
    "reservation.hpp": "container",
    "secondary_map.hpp": "container",
    "sparse_secondary_map.hpp": "container",
    "join.hpp": "container",
    "ostream.hpp": "container",
    "fmt.hpp": "container",
    "cereal.hpp": "container",
    "error.hpp": "format",
    "schema.hpp": "maps",
    "mapped_map.hpp": "maps",
    "durable_map.hpp": "maps",
    "migrate.hpp": "maps",
    "shared_map.hpp": "maps",
    "inspect.hpp": "inspect",
}
# The container needs nothing but the standard library, and the system's own calls for memory where they are to be had;
# {fmt} and cereal are for optional headers of their own.
STANDARD_ONLY = {"memory", "container"}
OPTIONAL_HEADERS = {"fmt.hpp", "cereal.hpp"}
SYSTEM_HEADERS = {"memory": {"sys/mman.h"}}
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')


def room_of_header(name):
    """The room of "deferred_map/..." as it is written in an include."""
    parts = name.split("/")
    if parts[0] != "deferred_map":
        return None
    return parts[1] if len(parts) > 2 else ROOM_OF_PUBLIC[parts[1]]


def main(root):
    faults = []
    files = 0
    public = root / "include" / "deferred_map"
    for path in sorted(list(public.rglob("*.hpp")) + list((root / "src").rglob("*.[ch]pp"))):
        files += 1
        if public in path.parents:
            room = room_of_header(str(path.relative_to(root / "include")))
        else:
            room = path.relative_to(root / "src").parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            name = match.group(2)
            where = f"{path.relative_to(root)}:{number}: room '{room}'"
            seen = room_of_header(name)
            if seen is None and match.group(1) == '"' and "/" in name:
                seen = name.strip("./").split("/")[0]  # another room's private header, as src/ROOM/file.hpp
            if seen is not None and seen != room and seen not in MAY_SEE[room]:
                faults.append(f"{where} may not see '{seen}' ({name})")
            foreign = seen is None and ("/" in name or name.endswith(".h")) and name not in SYSTEM_HEADERS.get(room, ())
            if room in STANDARD_ONLY and foreign and path.name not in OPTIONAL_HEADERS:
                faults.append(f"{where} may only see the standard library ({name})")
    print("\n".join(faults) or f"{files} files, no include points upwards")
    return 1 if faults or files < 20 else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
