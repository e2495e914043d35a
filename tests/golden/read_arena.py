#!/usr/bin/env python3
"""Reads an arena file with nothing but docs/FORMAT.md and Python's standard library, and prints its keys and values.

It shares no code with deferred-map and was written from the document: where the two disagree, one of them is wrong. It
verifies no checksums.

    read_arena.py FILE                      prints {"INDEX:GENERATION": VALUE, ...}
    read_arena.py --golden DIRECTORY        reads every golden file and compares it with the manifest
"""
import hashlib
import json
import pathlib
import struct
import sys

PAGE = 4096
NUMBERS = {2: "<B", 5: "<B", 6: "<H", 7: "<I", 8: "<Q", 9: "<b", 10: "<h", 11: "<i", 12: "<q", 13: "<f", 14: "<d"}
BYTES, BOOLEAN, CHARACTER, TEXT, KEY, ENUMERATION, STRUCTURE = 1, 2, 3, 4, 15, 16, 17


class NotReadable(Exception):
    pass


def require(condition, otherwise):
    if not condition:
        raise NotReadable(otherwise)


def pages(size):
    return (size + PAGE - 1) // PAGE * PAGE


def u32(data, offset):
    return struct.unpack_from("<I", data, offset)[0]


def u64(data, offset):
    return struct.unpack_from("<Q", data, offset)[0]


def index_levels(slots_max):
    """The first word and the number of words of each level."""
    levels, first, bits = [], 0, slots_max
    while True:
        words = (bits + 63) // 64
        levels.append((first, words))
        first += words
        bits = words
        if words == 1 and len(levels) >= 2:
            return levels


class Arena:
    def __init__(self, data):
        self.data = data
        require(data[:8] == b"\x89DMA\r\n\x1a\n", "no arena")
        require(u32(data, 8) == 1, "not version 1")
        require(data[12:16] == b"\1\2\3\4", "byte order")
        require(u32(data, 16) == 1, "not of a mapped map")
        require(u64(data, 32) == 0, "incompatible features")
        self.stride, version_offset, sequence_offset, self.value_offset, self.value_size, align = struct.unpack_from(
            "<6I", data, 64)
        require(version_offset == 0 and sequence_offset == 0xFFFFFFFF, "slot layout")
        require(self.value_offset == max(4, align), "value offset")
        unit = max(4, align)
        require(self.stride == (self.value_offset + self.value_size + unit - 1) // unit * unit, "stride")
        self.slots_max = u64(data, 88)
        (schema_offset, schema_size, _, self.control, control_size, self.scratch, scratch_size, self.index, index_size,
         self.slots) = struct.unpack_from("<10Q", data, 96)
        # All that follows from the sizes.
        require(schema_offset == 512 and control_size == 768, "sizes")
        require(self.control == pages(512 + schema_size), "control_offset")
        require(self.scratch == self.control + PAGE, "scratch_offset")
        require(scratch_size == pages(self.value_size) and self.index == self.scratch + scratch_size, "index_offset")
        self.levels = index_levels(self.slots_max)
        require(index_size == pages(8 * sum(words for _, words in self.levels)), "index_size_bytes")
        require(self.slots == self.index + index_size, "slots_offset")
        require(not any(data[304:504]) and not any(data[512 + schema_size:self.control]), "unused bytes")
        self.read_schema(data[512:512 + schema_size])
        type_name = data[176:304].split(b"\0")[0].decode()
        require(type_name == self.fields[0]["type_name"][:127], "type name")
        (self.slot_count, self.occupied, self.reserved, self.vacant, self.retired, self.floor, self.buffer_count,
         self.capacity, self.recovering, self.update_pending, self.update_index, self.update_version) = \
            struct.unpack_from("<12I", data, self.control + 64)
        require(self.slot_count <= self.capacity <= self.slots_max, "capacity")
        require(len(data) >= self.slots + self.capacity * self.stride, "cut short")
        require(self.buffer_count <= 128, "buffer_count")
        self.buffer = struct.unpack_from(f"<{self.buffer_count}I", data, self.control + 256)
        self.is_closed = u64(data, self.control + 8) != 0

    def read_schema(self, schema):
        magic, layout, zero, total, field_count, enumerator_count, string_bytes, _, zero_too = struct.unpack_from(
            "<4sHHIIIIII", schema)
        require(magic == b"dmSc" and layout == 1 and zero == zero_too == 0, "schema head")
        enumerators_at = 32 + 40 * field_count
        strings_at = enumerators_at + 16 * enumerator_count
        require(total == len(schema) == strings_at + string_bytes, "schema size")

        def string(offset):
            return schema[strings_at + offset:schema.index(b"\0", strings_at + offset)].decode()

        self.fields = []
        for i in range(field_count):
            name, type_name, kind, underlying, depth, is_array, offset, size, count, first, enumerators, _ = \
                struct.unpack_from("<IIHHHHIIIIII", schema, 32 + 40 * i)
            names = {}
            for e in range(first, first + enumerators):
                name_at, _, value = struct.unpack_from("<IIq", schema, enumerators_at + 16 * e)
                names[value] = string(name_at)
            self.fields.append({"name": string(name), "type_name": string(type_name), "kind": kind, "depth": depth,
                                "underlying": underlying, "is_array": is_array, "offset": offset, "size": size,
                                "count": count, "names": names})

    def children(self, index):
        depth = self.fields[index]["depth"]
        for child in range(index + 1, len(self.fields)):
            if self.fields[child]["depth"] <= depth:
                return
            if self.fields[child]["depth"] == depth + 1:
                yield child

    def decode(self, value, index=0, shift=0):
        """The value of field `index`; `shift`: how far the array elements around it are behind the first."""
        field = self.fields[index]
        if not field["is_array"]:
            return self.element(value, index, shift)
        return [self.element(value, index, shift + i * field["size"]) for i in range(field["count"])]

    def element(self, value, index, shift):
        field = self.fields[index]
        kind, size, at = field["kind"], field["size"], field["offset"] + shift
        if kind == STRUCTURE:
            return {self.fields[child]["name"] or f"field_{position}": self.decode(value, child, shift)
                    for position, child in enumerate(self.children(index))}
        if kind == TEXT:
            length = size if field["is_array"] else field["count"]
            return value[at:at + length].split(b"\0")[0].decode()
        if kind == BYTES:
            return value[at:at + size].hex()
        if kind == CHARACTER:
            return value[at:at + 1].decode()
        if kind == KEY:
            return key_text(u64(value, at))
        if kind == ENUMERATION:
            number = struct.unpack_from(NUMBERS[field["underlying"]], value, at)[0]
            return field["names"].get(number, number)
        number = struct.unpack_from(NUMBERS[kind], value, at)[0]
        return bool(number) if kind == BOOLEAN else number

    def version(self, slot):
        return u32(self.data, self.slots + slot * self.stride)

    def values(self):
        """What the next to open the file finds: keys and values."""
        found = {}
        for slot in range(self.slot_count):
            version = self.version(slot)
            if version & 3 != 3:
                continue
            at = self.slots + slot * self.stride + self.value_offset
            # An update that was committed counts, wherever its value has got to.
            if self.update_pending == 1 and self.update_index == slot and self.update_version == version:
                at = self.scratch
            found[key_text(version << 32 | slot)] = self.decode(self.data[at:at + self.value_size])
        return found

    def is_taken(self, slot):
        return u64(self.data, self.index + slot // 64 * 8) >> slot % 64 & 1

    def check_index(self):
        """Of a closed file: counts, buffer and bitmap are what the versions say."""
        states = [self.version(slot) for slot in range(self.slot_count)]
        retired = states.count((1 << 30) - 1 << 2)
        vacant = [slot for slot, version in enumerate(states)
                  if version & 3 == 0 and version >> 2 != (1 << 30) - 1]
        require(self.retired == retired and self.vacant == len(vacant) and self.reserved == 0, "counts")
        require(self.occupied == self.slot_count - retired - len(vacant), "occupied")
        in_bitmap = [slot for slot in range(self.slot_count) if not self.is_taken(slot)]
        require(sorted(in_bitmap + list(self.buffer)) == vacant, "index")
        used = (self.slot_count + 63) // 64
        require(all(self.is_taken(slot) for slot in range(self.slot_count, used * 64)), "bits behind the last slot")
        for level in range(1, len(self.levels)):
            below = [u64(self.data, self.index + 8 * (self.levels[level - 1][0] + word)) for word in range(used)]
            full = (1 << 64) - 1 if level == 1 else 0
            used = (used + 63) // 64
            for word in range(max(used, 1)):
                expected = sum(1 << bit for bit, lower in enumerate(below[word * 64:word * 64 + 64]) if lower != full)
                require(u64(self.data, self.index + 8 * (self.levels[level][0] + word)) == expected, "summary")


def key_text(bits):
    return "null" if bits == 0 else f"{bits & 0xFFFFFFFF}:{bits >> 34}"


def check_golden(directory):
    sums = dict(reversed(line.split()) for line in (directory / "SHA256SUMS").read_text().splitlines())
    seen = 0
    for line in (directory / "manifest.ndjson").read_text().splitlines():
        entry = json.loads(line)
        name = entry["file"] + ".arena"
        data = (directory / name).read_bytes()
        require(hashlib.sha256(data).hexdigest() == sums[name], f"{name} was changed: golden files are added, never edited")
        try:
            arena = Arena(data)
            require(arena.values() == entry["live"], f"it has {arena.values()}, and should have {entry['live']}")
            require(arena.slot_count == entry["slot_count"], "slot_count")
            require(arena.floor == entry["generation_floor"], "generation_floor")
            require(arena.is_closed == (entry["left"] == "closed"), "closed")
            if arena.is_closed:
                arena.check_index()
        except NotReadable as fault:
            raise NotReadable(f"{name}: {fault}") from None
        seen += 1
    require(seen == len(list(directory.glob("*.arena"))) == len(sums) and seen >= 18, "files and manifest")
    print(f"{seen} golden files read")


try:
    if len(sys.argv) == 3 and sys.argv[1] == "--golden":
        check_golden(pathlib.Path(sys.argv[2]))
    elif len(sys.argv) == 2:
        print(json.dumps(Arena(pathlib.Path(sys.argv[1]).read_bytes()).values(), indent=1))
    else:
        sys.exit(__doc__)
except (NotReadable, OSError, ValueError, struct.error) as fault:
    sys.exit(f"read_arena.py: {fault}")
