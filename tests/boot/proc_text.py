"""Reads what the kernel prints: the boot log and the commands that look like Linux's /proc files."""

import re

from harness import CheckFailure
from model import DMA_END


def meminfo(text: str) -> dict[str, int]:
    """Field to number, kB where the line says so. The order of the lines is the order of the keys."""
    fields = {}
    for line in text.splitlines():
        found = re.fullmatch(r"(\S+): +(\d+)(?: kB)?", line.rstrip())
        if found:
            fields[found[1]] = int(found[2])
    if "MemTotal" not in fields:
        raise CheckFailure("meminfo has no MemTotal line")
    return fields


def zoneinfo(text: str) -> dict[str, dict[str, int]]:
    """Zone (lower case) to its numbers: free, min, low, high, spanned, present, managed, start_pfn, pcp."""
    zones: dict[str, dict[str, int]] = {}
    zone = None
    for line in text.splitlines():
        header = re.match(r"Node 0, zone +(\S+)", line)
        if header:
            zone = zones.setdefault(header[1].lower(), {"pcp": 0})
        if zone is None:
            continue
        free = re.match(r" +pages free +(\d+)", line)
        if free:
            zone["free"] = int(free[1])
        number = re.match(r" +(min|low|high|spanned|present|managed) +(\d+)", line)
        if number and number[1] not in zone:  # the per-CPU sets have a `high` of their own
            zone[number[1]] = int(number[2])
        start = re.match(r" +start_pfn: +(\d+)", line)
        if start:
            zone["start_pfn"] = int(start[1])
        count = re.match(r" +count: +(\d+)", line)
        if count:
            zone["pcp"] += int(count[1])
    if not zones:
        raise CheckFailure("zoneinfo shows no zone")
    for name, numbers in zones.items():
        missing = {"free", "present", "managed"} - numbers.keys()
        if missing:
            raise CheckFailure(f"zoneinfo of {name} lacks {', '.join(sorted(missing))}")
    return zones


def buddyinfo(text: str) -> dict[str, list[int]]:
    """Zone (lower case) to free blocks by order."""
    zones = {}
    for line in text.splitlines():
        found = re.fullmatch(r"Node 0, zone +(\S+)((?: +\d+)+) *", line)
        if found:
            zones[found[1].lower()] = [int(n) for n in found[2].split()]
    if not zones:
        raise CheckFailure("buddyinfo shows no zone")
    return zones


def iomem(text: str) -> list[tuple[int, int, str, int]]:
    """(begin, end exclusive, name, indentation) a line."""
    lines = []
    for line in text.splitlines():
        found = re.fullmatch(r"( *)([0-9a-f]+)-([0-9a-f]+) : (.*)", line.rstrip())
        if found:
            lines.append((int(found[2], 16), int(found[3], 16) + 1, found[4], len(found[1])))
    if not lines:
        raise CheckFailure("iomem shows nothing")
    return lines


def system_ram(text: str) -> list[tuple[int, int]]:
    return [(begin, end) for begin, end, name, depth in iomem(text) if name == "System RAM" and depth == 0]


def zone_ranges(log: str) -> dict[str, tuple[int, int]]:
    """The `Zone ranges:` lines of the boot log: zone (lower case) to bytes [begin, end); empty zones are left out."""
    at = log.find("Zone ranges:")
    if at < 0:
        raise CheckFailure("the log has no `Zone ranges:`")
    ranges = {}
    for line in log[at:].splitlines()[1:6]:
        found = re.search(r"(\w+) +\[mem (0x[0-9a-f]+)-(0x[0-9a-f]+)\]", line)
        if found:
            ranges[found[1].lower()] = (int(found[2], 16), int(found[3], 16) + 1)
    if not ranges:
        raise CheckFailure("`Zone ranges:` names no zone")
    return ranges


def lowmem_end(log: str) -> int:
    """Where lowmem ends: the end of NORMAL, or of DMA on a machine that has nothing above 16 MiB."""
    ranges = zone_ranges(log)
    if "normal" in ranges:
        return ranges["normal"][1]
    if "dma" in ranges:
        return min(ranges["dma"][1], DMA_END)
    raise CheckFailure("no zone of lowmem in `Zone ranges:`")


def firmware_entries(log: str) -> list[tuple[int, int, str]]:
    """The `BIOS-e820:` lines of the boot log: (begin, end, kind)."""
    return [(int(m[1], 16), int(m[2], 16) + 1, m[3].strip())
            for m in re.finditer(r"BIOS-e820: \[mem (0x[0-9a-f]+)-(0x[0-9a-f]+)\] (.*)", log)]


def slab_objects(text: str) -> dict[str, int]:
    """Objects in use, by cache, from what `slabinfo` prints."""
    return {name: int(active) for name, active in re.findall(r"(?m)^([\w-]+) +(\d+) +\d+ +\d+ +\d+ +\d+ :", text)}
