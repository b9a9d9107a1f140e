"""Random memory maps and random Multiboot garbage, each from one seed.

Every map claims as usable only memory that the guest has (and memory above MAXPHYADDR, which the kernel must drop), in
the worst of manners: holes, odd bytes, overlaps, any order, 1 to 256 entries, all entry sizes, wrapping ends.
"""

import dataclasses
import random

import model
import shim
from model import GIB, MIB, PAGE, Entry

MEMORY = ["64M", "96M", "128M", "512M", "1G", "3G", "4G", "6G", "16G", "64G"]
UNUSABLE_KINDS = [2, 3, 4, 5, 7, 12, 0, 6, 13, 0x7FFFFFFF, 0xFFFFFFFF]
PHYS_BITS = 40  # of -cpu qemu64
ENTRY_SIZES = [20, 24, 28, 64]


@dataclasses.dataclass
class Scenario:
    """One boot: what the loader says and what may come of it."""

    seed: int
    memory: str
    machine: str
    title: str
    state: shim.Handover
    accepted: list[list[Entry]]  # maps that the kernel may have believed; none: it must refuse
    may_refuse: bool


def _point(rng: random.Random, begin: int, end: int) -> int:
    """An address in [begin, end]: on a byte, a page or a large page."""
    value = rng.randint(begin, end)
    grain = rng.choice([1, 1, PAGE, PAGE, PAGE, 2 * MIB])
    return min(max(value // grain * grain, begin), end)


def _span(rng: random.Random, begin: int, end: int) -> tuple[int, int]:
    if rng.random() < 0.5:  # short ones too: a page or a few bytes
        start = _point(rng, begin, end)
        return start, min(end, start + rng.choice([1, 100, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE, MIB]))
    first, second = _point(rng, begin, end), _point(rng, begin, end)
    return min(first, second), max(first, second)


def _holes(rng: random.Random, ram: list, keep: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """Ranges inside RAM that do not touch `keep`."""
    holes = []
    for _ in range(count):
        hole = _span(rng, *rng.choice(ram))
        # Half of the long holes are cut short, or little of the memory would be left.
        if hole[1] - hole[0] > 64 * MIB and rng.random() < 0.8:
            hole = (hole[0], hole[0] + rng.randint(1, 64 * MIB))
        holes += model.subtract([hole], [keep])
    return holes


def _pieces(rng: random.Random, ranges: list, count: int) -> list[Entry]:
    """The same ranges in about `count` entries that meet, overlap or repeat each other."""
    entries = []
    for begin, end in ranges:
        cuts = sorted(_point(rng, begin, end) for _ in range(rng.randint(0, max(0, count // len(ranges) - 1))))
        edges = [begin, *cuts, end]
        for first, second in zip(edges, edges[1:]):
            if rng.random() < 0.2:
                second = _point(rng, second, end)
            entries.append(Entry(first, second - first))
    return entries


def _absurd(rng: random.Random, ram: list, keep: tuple[int, int]) -> Entry:
    """An entry that changes nothing for real memory except where it says that memory is not usable."""
    limit = 1 << PHYS_BITS
    kind = rng.choice(UNUSABLE_KINDS)
    choice = rng.randrange(7)
    if choice == 0:  # nothing, anywhere
        return Entry(rng.getrandbits(64), 0, rng.choice([1, kind]))
    if choice == 1:  # usable memory that no address line reaches
        return Entry(rng.choice([limit, limit + 1, 1 << 44, 1 << 52, 1 << 63]), rng.getrandbits(rng.randint(1, 63)), 1)
    if choice == 2:  # wraps at 2^64
        base = rng.choice([(1 << 64) - PAGE, (1 << 64) - 1, rng.getrandbits(64) | 1 << 63])
        length = rng.choice([(1 << 64) - 1, (1 << 64) - base + rng.randint(1, 4 * GIB)])
        return Entry(base, length, rng.choice([1, kind]))
    if choice == 3:  # not usable, from the end of RAM to the end of the world
        return Entry(ram[-1][1] + rng.randint(0, GIB), (1 << 64) - 1, kind)
    if choice == 4:  # the hole below 4 GiB
        return Entry(0xFE000000 + rng.randint(0, MIB), rng.randint(1, MIB), kind)
    holes = _holes(rng, ram, keep, 1)
    if not holes:
        return Entry(0, 0, kind)
    return Entry(holes[0][0], holes[0][1] - holes[0][0], kind)


def random_map(rng: random.Random, ram: list, keep: tuple[int, int]) -> list[Entry]:
    """Usable entries for a subset of `ram` that includes `keep`, mixed with everything else."""
    target = rng.choice([1, 3, 8, 20, 60, 150, 256])
    style = rng.randrange(4)
    holes = _holes(rng, ram, keep, 0 if style == 0 else rng.randint(1, max(1, target // 3)))
    usable = model.subtract(ram, holes)
    if style == 3:  # half of the pieces are gone
        usable = [r for r in usable if rng.random() < 0.5 or (r[0] <= keep[0] < r[1])] or [keep]
    if len(usable) > target:
        usable = [keep] + rng.sample(usable, target - 1)
    entries = _pieces(rng, usable, max(1, target // 2))[:max(1, target)]
    entries.append(Entry(keep[0], keep[1] - keep[0]))
    while len(entries) < target:
        entries.append(_absurd(rng, ram, keep))
    entries = entries[-256:]
    if rng.random() < 0.8:
        rng.shuffle(entries)
    for begin, end in model.usable_ranges(entries, PHYS_BITS):  # the generator must never promise RAM that is not there
        assert any(b <= begin and end <= e for b, e in ram), (begin, end)
    return entries


def _sizes(rng: random.Random, count: int) -> list[int]:
    choice = rng.choice([[20], [20], [24], [28], [64], ENTRY_SIZES])
    return [rng.choice(choice) for _ in range(count)]


def _place(rng: random.Random, state: shim.Handover, table: bytes) -> int:
    """Puts the table somewhere with a decoy behind it: usable memory that a reader past the end would believe."""
    address = rng.choice([shim.MMAP_ADDRESS, 0x00C20000 - len(table), 0x00080004])
    decoy = shim.mmap_bytes([Entry(0xFE000000, 0x800000), Entry(0x9FC00, 0x50000)], [20, 20])
    state.copy(address, table + (decoy if rng.random() < 0.5 else b"\xa5" * 64))
    return address


def clean_scenario(rng: random.Random, seed: int, image: tuple[int, int]) -> Scenario:
    """A wild map, told correctly."""
    memory, machine = rng.choice(MEMORY), rng.choice(["pc", "pc", "pc", "q35"])
    ram = model.machine_ram(model_size(memory), machine)
    keep = (image[0], min(max(image[1], rng.choice([image[1], 24 * MIB, 60 * MIB, 200 * MIB])), ram[1][1]))
    entries = random_map(rng, ram, keep)
    sizes = _sizes(rng, len(entries))
    state = shim.Handover()
    table = shim.mmap_bytes(entries, sizes, rng.getrandbits(8))
    address = _place(rng, state, table)
    state.copy(shim.CMDLINE_ADDRESS, b"panic=exit\0")
    state.copy(shim.INFO_ADDRESS, shim.information(
        shim.FLAG_CMDLINE | shim.FLAG_MMAP | (rng.getrandbits(1) and shim.FLAG_MEMORY), mem_lower=639,
        mem_upper=(ram[1][1] - MIB) >> 10, cmdline=shim.CMDLINE_ADDRESS, mmap_length=len(table), mmap_addr=address))
    state.junk(rng)
    usable = model.usable_ranges(entries, PHYS_BITS)
    title = f"{memory} {machine}, {len(entries)} entries"
    return Scenario(seed, memory, machine, title, state, [entries], not model.must_boot(usable, image))


def model_size(memory: str) -> int:
    return int(memory[:-1]) << {"M": 20, "G": 30}[memory[-1]]


# --- garbage -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Loader:
    """An information block in the making, and the maps that a reader may make of it."""

    rng: random.Random
    state: shim.Handover
    entries: list[Entry]
    legacy: list[Entry]  # what mem_lower and mem_upper say
    table: bytes
    fields: dict
    flags: int = shim.FLAG_MMAP | shim.FLAG_MEMORY
    accepted: list = dataclasses.field(default_factory=list)
    place_info: bool = True


def _random_flags(loader: Loader) -> None:
    loader.flags = loader.rng.getrandbits(32)
    loader.fields["filler"] = loader.rng.choice([0, 0xA5A5A5A5, 0xFFFFFFFF])
    loader.fields["mods_count"] = loader.rng.choice([0, 1, 1 << 31, 0xFFFFFFFF])
    loader.fields["mods_addr"] = loader.rng.choice([0, 1, 0xFFFFFFF0, shim.CMDLINE_ADDRESS])
    loader.fields["cmdline"] = loader.rng.choice([0, shim.CMDLINE_ADDRESS, 0xFFFFFFF0, 0xFE000000])


def _length_garbage(loader: Loader) -> None:
    whole = len(loader.table)
    length = loader.rng.choice([0, 1, 3, 19, 23, 24, loader.rng.randint(0, whole), whole + 4, 0x00100000, 0x7FFFFFFF,
                                0xFFFFFFFF])
    loader.fields["mmap_length"] = length
    good = min(length // 24, len(loader.entries))
    loader.accepted.append(loader.entries[:good])


def _size_garbage(loader: Loader) -> None:
    at = loader.rng.randrange(len(loader.entries))
    size = loader.rng.choice([0, 1, 19, 0xFFFFFFFF, 0xFFFFFFFC, 0xFFFFFFE8, 0x80000000, 0x7FFFFFFC])
    table = bytearray(loader.table)
    table[at * 24:at * 24 + 4] = size.to_bytes(4, "little")
    loader.table = bytes(table)
    loader.accepted.append(loader.entries[:at])


def _map_nowhere(loader: Loader) -> None:
    loader.fields["mmap_addr"] = loader.rng.choice([0, 0xFFFFFFF0, 0xFFFFFFFF, 0xFEC00000, 0xE0000000])


def _cmdline_garbage(loader: Loader) -> None:
    loader.flags |= shim.FLAG_CMDLINE
    loader.fields["cmdline"] = loader.rng.choice([0, 1, 0xFFFFFFFF, 0xFFFFF000, 0xE0000000, 0x000F0000, 0x00D00000])
    loader.state.fill(0x00D00000, 0x20000, loader.rng.choice([0xA5, 0x41, 0x20, 0xFF]))


def _memory_fields_only(loader: Loader) -> None:
    loader.flags = shim.FLAG_MEMORY


def _nothing(loader: Loader) -> None:
    loader.flags = 0


def _wrong_magic(loader: Loader) -> None:
    loader.state.eax = loader.rng.choice([0, 0x36D76289, 0x2BADB003, loader.rng.getrandbits(32)])


def _info_nowhere(loader: Loader) -> None:
    loader.place_info = False
    loader.state.ebx = loader.rng.choice([0xFFFFFFF0, 0xE0000000, 0xFFFFFFFF])


def _modules_over_us(loader: Loader) -> None:
    loader.flags |= shim.FLAG_MODULES
    spans = [(MIB, 0x200000), (0, 0xFFFFFFFF), (0x300000, 0x200000), (0xFFFFF000, 0), (shim.INFO_ADDRESS, 0xD00000)]
    chosen = [loader.rng.choice(spans) for _ in range(loader.rng.randint(1, 40))]
    data = b"".join(a.to_bytes(4, "little") + b.to_bytes(4, "little") + bytes(8) for a, b in chosen)
    loader.state.copy(0x00D80000, data)
    loader.fields |= {"mods_count": loader.rng.choice([len(chosen), 0xFFFFFFFF]), "mods_addr": 0x00D80000}


GARBAGE = [_random_flags, _length_garbage, _size_garbage, _map_nowhere, _cmdline_garbage, _memory_fields_only, _nothing,
           _wrong_magic, _info_nowhere, _modules_over_us]


def garbage_scenario(rng: random.Random, seed: int, image: tuple[int, int]) -> Scenario:
    """An honest map on a machine of moderate size, told by a loader with one thing (or two) badly wrong."""
    memory = rng.choice(["64M", "128M", "1G"])
    ram = model.machine_ram(model_size(memory))
    keep = (MIB, 60 * MIB)
    entries = random_map(rng, ram, keep)[:100]
    legacy = [Entry(0, 639 << 10), Entry(MIB, ram[1][1] - MIB)]
    loader = Loader(rng, shim.Handover(), entries, legacy, shim.mmap_bytes(entries, [20] * len(entries)), {
        "mem_lower": 639, "mem_upper": (ram[1][1] - MIB) >> 10})
    loader.state.copy(shim.CMDLINE_ADDRESS, b"panic=exit\0")
    steps = rng.sample(GARBAGE, rng.choice([1, 1, 1, 2]))
    for step in steps:
        step(loader)
    loader.state.fill(shim.MMAP_ADDRESS, 0x20000, 0xA5)
    loader.state.copy(shim.MMAP_ADDRESS, loader.table)
    loader.fields.setdefault("mmap_addr", shim.MMAP_ADDRESS)
    loader.fields.setdefault("mmap_length", len(loader.table))
    if loader.place_info:
        loader.state.copy(shim.INFO_ADDRESS, shim.information(loader.flags, **loader.fields))
    loader.state.junk(rng)
    title = f"{memory}, " + " and ".join(s.__name__.strip("_").replace("_", " ") for s in steps)
    refusal_only = not loader.place_info or not loader.flags & (shim.FLAG_MMAP | shim.FLAG_MEMORY)
    accepted = [] if refusal_only else [*loader.accepted, entries, legacy]
    return Scenario(seed, memory, "pc", title, loader.state, accepted, True)


def scenario(seed: int, image: tuple[int, int]) -> Scenario:
    rng = random.Random(seed)
    maker = garbage_scenario if seed % 4 == 3 else clean_scenario
    return maker(rng, seed, image)
