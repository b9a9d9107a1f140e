"""An independent model of what the kernel makes of a memory map.

Written from the rules, not from the kernel's source:

  * an entry of length zero says nothing; one that wraps at 2^64 ends at 2^64;
  * only type 1 is usable; every other type, known or not, is not;
  * where entries overlap, the more restrictive wins;
  * usable memory shrinks to whole pages, everything else grows to whole pages;
  * page 0 is never usable; memory at and above 2^MAXPHYADDR does not exist for us;
  * the first 256 entries count.

Usable ranges are joined before they shrink, so that two entries that meet in the middle of a page give that page.

Zones: DMA below 16 MiB, NORMAL up to the lowmem limit, DMA32 up to 4 GiB, HIGHMEM above. The lowmem limit is the
kernel's choice: it is read from its `Zone ranges:` lines, and the model says what must then be in each zone.
"""

import dataclasses

PAGE = 4096
MIB = 1 << 20
GIB = 1 << 30
TOP = 1 << 64
MAX_ENTRIES = 256
DMA_END = 16 * MIB
DMA32_END = 4 * GIB
USABLE = 1

Range = tuple[int, int]  # bytes, half-open


@dataclasses.dataclass(frozen=True)
class Entry:
    base: int
    length: int
    kind: int = USABLE

    def end(self) -> int:
        return min(self.base + self.length, TOP)


def join(ranges: list[Range]) -> list[Range]:
    """Sorted, non-overlapping, neighbours merged."""
    result: list[list[int]] = []
    for begin, end in sorted(r for r in ranges if r[0] < r[1]):
        if result and begin <= result[-1][1]:
            result[-1][1] = max(result[-1][1], end)
        else:
            result.append([begin, end])
    return [(begin, end) for begin, end in result]


def subtract(ranges: list[Range], holes: list[Range]) -> list[Range]:
    result = []
    holes = join(holes)
    for begin, end in join(ranges):
        for hole_begin, hole_end in holes:
            if hole_end <= begin or hole_begin >= end:
                continue
            if hole_begin > begin:
                result.append((begin, hole_begin))
            begin = max(begin, hole_end)
            if begin >= end:
                break
        if begin < end:
            result.append((begin, end))
    return result


def grow(ranges: list[Range]) -> list[Range]:
    return [(begin // PAGE * PAGE, min(-(-end // PAGE) * PAGE, TOP)) for begin, end in ranges]


def shrink(ranges: list[Range]) -> list[Range]:
    shrunk = [(-(-begin // PAGE) * PAGE, end // PAGE * PAGE) for begin, end in ranges]
    return [r for r in shrunk if r[0] < r[1]]


def usable_ranges(entries: list[Entry], phys_bits: int = 40) -> list[Range]:
    """Page-aligned usable ranges, in address order."""
    entries = [e for e in entries[:MAX_ENTRIES] if e.length]
    usable = join([(e.base, e.end()) for e in entries if e.kind == USABLE])
    refused = grow([(e.base, e.end()) for e in entries if e.kind != USABLE])
    refused += [(0, PAGE), (1 << phys_bits, TOP)]
    return shrink(subtract(usable, refused))


def pages(ranges: list[Range], begin: int = 0, end: int = TOP) -> int:
    return sum(max(0, min(e, end) - max(b, begin)) for b, e in ranges) // PAGE


def zone_pages(ranges: list[Range], lowmem_end: int) -> dict[str, int]:
    """Usable pages a zone; lower-case names, empty zones included."""
    low = min(lowmem_end, DMA32_END)
    return {
        "dma": pages(ranges, 0, min(DMA_END, low)),
        "normal": pages(ranges, min(DMA_END, low), low),
        "dma32": pages(ranges, low, DMA32_END),
        "highmem": pages(ranges, DMA32_END, TOP),
    }


def must_boot(ranges: list[Range], image: Range) -> bool:
    """Whether refusing this memory would be wrong.

    The kernel image must lie in usable memory, and the first 512 MiB must hold 48 MiB for the kernel on top of what the
    frame array (4 bytes a frame up to the last one, and a 16th of that for bitmaps) takes.
    """
    if not ranges:
        return False
    image_ok = pages(ranges, *image) * PAGE == image[1] - image[0]
    frames = ranges[-1][1] // PAGE
    return image_ok and pages(ranges, 0, 512 * MIB) * PAGE >= 48 * MIB + frames * 4 * 17 // 16


# --- the machines themselves ---------------------------------------------------------------------------------------

_BIOS_HIGH = 128 * 1024  # SeaBIOS keeps its ACPI tables in the last 128 KiB below 4 GiB


def machine_ram(size: int, machine: str = "pc") -> list[Range]:
    """Where QEMU puts so much RAM that a loader may call usable: below the hole and from 4 GiB on."""
    if machine == "q35":
        low = 2 * GIB if size >= 0xB0000000 else size
    else:
        low = 3 * GIB if size >= 0xE0000000 else size
    ranges = [(0, 0x9FC00), (MIB, low - _BIOS_HIGH)]
    if size > low:
        ranges.append((4 * GIB, 4 * GIB + size - low))
    return ranges


def firmware_map(size: int, machine: str = "pc") -> list[Entry]:
    """The map that SeaBIOS reports for such a machine, as far as usable memory goes."""
    return [Entry(begin, end - begin) for begin, end in machine_ram(size, machine)]
