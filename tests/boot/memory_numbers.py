#!/usr/bin/python3
"""The memory numbers: their format, which is Linux's, and that they agree with each other to the page."""

import re

import harness
import matrix
import model
import proc_text
import qemu
from harness import Case, check

# Fields of Linux 6.1's /proc/meminfo in its order. A kernel may leave out what it does not have, and add its own at the
# end, but what it has stands in this order and has this name.
MEMINFO_FIELDS = """MemTotal MemFree MemAvailable Buffers Cached SwapCached Active Inactive Active(anon) Inactive(anon)
Active(file) Inactive(file) Unevictable Mlocked HighTotal HighFree LowTotal LowFree SwapTotal SwapFree Zswap Zswapped
Dirty Writeback AnonPages Mapped Shmem KReclaimable Slab SReclaimable SUnreclaim KernelStack PageTables SecPageTables
NFS_Unstable Bounce WritebackTmp CommitLimit Committed_AS VmallocTotal VmallocUsed VmallocChunk Percpu HardwareCorrupted
AnonHugePages ShmemHugePages ShmemPmdMapped FileHugePages FilePmdMapped HugePages_Total HugePages_Free HugePages_Rsvd
HugePages_Surp Hugepagesize Hugetlb DirectMap4k DirectMap2M""".split()
MEMINFO_NEEDED = {"MemTotal", "MemFree", "MemAvailable", "HighTotal", "HighFree", "LowTotal", "LowFree", "PageTables",
                  "VmallocTotal", "Percpu", "DirectMap4k", "DirectMap2M"}

# Lines of a zone in /proc/zoneinfo, in Linux's order.
ZONEINFO_LINES = [r"Node 0, zone +\w+", r"  pages free     \d+", r"        boost    \d+", r"        min      \d+",
                  r"        low      \d+", r"        high     \d+", r"        spanned  \d+", r"        present  \d+",
                  r"        managed  \d+", r"        protection: \(\d+(, \d+)*\)", r"  pagesets", r"    cpu: \d+",
                  r"              count: +\d+", r"              high: +\d+", r"              batch: +\d+",
                  r"  start_pfn: +\d+"]
ZONEINFO_OPTIONAL = {r"        boost    \d+"}
ORDERS = 11


def in_linux_order(fields: list[str]) -> str | None:
    """The first field that stands before one that it should follow."""
    known = [MEMINFO_FIELDS.index(f) for f in fields if f in MEMINFO_FIELDS]
    for before, after in zip(known, known[1:]):
        if before >= after:
            return MEMINFO_FIELDS[after]
    return None


def check_meminfo_format(text: str) -> None:
    fields = proc_text.meminfo(text)
    missing = MEMINFO_NEEDED - fields.keys()
    check(not missing, f"meminfo lacks {', '.join(sorted(missing))}")
    wrong = in_linux_order(list(fields))
    check(wrong is None, f"meminfo: {wrong} is out of order")
    for line in text.splitlines():
        if not line.strip():
            continue
        check(re.fullmatch(r"\S+: +\d+( kB)?", line) is not None, f"meminfo: odd line `{line}`")
        name = line.split(":")[0]
        if name in MEMINFO_FIELDS and not name.startswith("HugePages_"):
            # Linux: the name padded to 16 columns, the number right-aligned in 8 or more, ` kB`.
            number = line.split()[1]
            check(line == f"{name + ':':<16}{number:>8} kB", f"meminfo: `{line}` is not laid out as on Linux")


def check_zoneinfo_format(text: str) -> None:
    for part in re.split(r"(?m)^(?=Node )", text)[1:]:
        lines, at = part.splitlines(), 0
        for pattern in ZONEINFO_LINES:
            found = next((i for i in range(at, len(lines)) if re.fullmatch(pattern, lines[i])), None)
            if found is None and pattern in ZONEINFO_OPTIONAL:
                continue
            if found is None and " present  0" in part:  # an empty zone has no page sets
                break
            check(found is not None, f"zoneinfo: `{lines[0]}` has no line `{pattern}` where Linux has it")
            at = found + 1


def check_buddyinfo_format(text: str) -> None:
    for line in text.splitlines():
        if line.strip():
            check(re.fullmatch(r"Node 0, zone +\w+( +\d+){11} ?", line) is not None, f"buddyinfo: odd line `{line}`")
            found = re.match(r"Node 0, zone (.{8})", line)
            check(found is not None and found[1].strip().isalnum(), f"buddyinfo: `{line}` is not laid out as on Linux")


def pages_in(orders: list[int]) -> int:
    return sum(blocks << order for order, blocks in enumerate(orders))


def check_buddy_sums(guest: qemu.Guest) -> None:
    """Free blocks of each zone add up to its free pages; the per-CPU stacks may hold some of them."""
    zones = proc_text.zoneinfo(guest.command("zoneinfo"))
    buddies = proc_text.buddyinfo(guest.command("buddyinfo"))
    for name, zone in zones.items():
        if not zone["managed"]:
            continue
        check(name in buddies, f"buddyinfo has no zone {name}")
        blocks = pages_in(buddies[name])
        check(blocks in (zone["free"], zone["free"] - zone["pcp"]),
              f"{name}: buddyinfo has {blocks} pages, zoneinfo {zone['free']} free of which {zone['pcp']} on CPUs")


def ledger_part(text: str, title: str, closing: str) -> tuple[dict[str, int], int]:
    """Rows of one part of the `lowmem` command (name to kB) and the sum that it prints itself."""
    found = re.search(rf"(?m)^{title}:\n((?:  .*\n)*?)  {closing} +(\d+) kB$", text)
    check(found is not None, f"lowmem has no part `{title}` that ends in `{closing}`")
    rows = {m[1].strip(): int(m[2]) for m in re.finditer(r"(?m)^  (.*?) +(\d+) kB$", found[1])}
    return rows, int(found[2])


def check_ledger(guest: qemu.Guest) -> None:
    """Every page of lowmem has an owner, and the sums are exact, before and after somebody takes a block."""
    before = ledger_owners(guest)
    guest.command("alloc 3 low")
    after = ledger_owners(guest)
    check(sum(after.values()) == sum(before.values()) + 32, f"32 kB changed the ledger from {before} to {after}")
    guest.command("free all")
    check(ledger_owners(guest) == before, "freeing the block does not restore the ledger")


def ledger_owners(guest: qemu.Guest) -> dict[str, int]:
    """Owner to kB, after checking that the ledger adds up and agrees with zoneinfo."""
    text = guest.command("lowmem")
    head = re.search(r"Lowmem: present (\d+) kB, managed (\d+) kB, free (\d+) kB", text)
    check(head is not None, "lowmem does not begin with present, managed and free")
    present, managed, free = (int(n) for n in head.groups())
    reserved, reserved_sum = ledger_part(text, "Reserved at boot", "reserved in all")
    owners, owners_sum = ledger_part(text, "Owners", "owners in all")
    check(sum(owners.values()) == owners_sum, f"owners add up to {sum(owners.values())} kB, not {owners_sum}: {owners}")
    check(owners_sum == managed - free, f"the owners hold {owners_sum} kB, managed - free is {managed - free} kB")
    check(sum(reserved.values()) == reserved_sum == present - managed,
          f"reasons add up to {sum(reserved.values())} kB, said {reserved_sum}, present - managed {present - managed}")
    check("WRONG" not in text, "the ledger says itself that it is wrong")
    zones = proc_text.zoneinfo(guest.command("zoneinfo"))
    low = [zones[name] for name in ("dma", "normal") if name in zones]
    check(sum(zone["managed"] for zone in low) * 4 == managed, f"zoneinfo's managed is not the ledger's {managed} kB")
    check(sum(zone["present"] for zone in low) * 4 == present, f"zoneinfo's present is not the ledger's {present} kB")
    return owners


def numbers(settings: dict) -> str:
    with harness.boot(**settings) as guest:
        guest.expect_prompt(50)
        log = guest.text()
        text = guest.command("meminfo")
        check_meminfo_format(text)
        check_zoneinfo_format(guest.command("zoneinfo"))
        check_buddyinfo_format(guest.command("buddyinfo"))
        check_buddy_sums(guest)
        check_ledger(guest)
        check_log(log)
        return matrix.check_numbers(settings["memory"], proc_text.meminfo(text))


def check_log(log: str) -> None:
    """The memory part of the boot log reads as on Linux and adds up."""
    for pattern in (r"BIOS-e820: \[mem 0x[0-9a-f]{16}-0x[0-9a-f]{16}\] usable", r"\d+MB HIGHMEM available\.",
                    r"\d+MB LOWMEM available\.", r"Zone ranges:", r"  DMA +\[mem 0x[0-9a-f]{16}-0x[0-9a-f]{16}\]"):
        check(re.search(pattern, log) is not None, f"no `{pattern}` in the log")
    found = re.search(r"Memory: (\d+)K/(\d+)K available \(([^)]*)\)", log)
    check(found is not None, "no `Memory: …K/…K available (…)` in the log")
    reserved = re.search(r"(\d+)K reserved", found[3])
    check(reserved is not None, "the `Memory:` line does not say what is reserved")
    check(int(found[1]) + int(reserved[1]) == int(found[2]),
          f"available {found[1]}K and reserved {reserved[1]}K are not {found[2]}K")


def reserved_pages(settings: dict) -> str:
    """Managed and reserved pages are the present ones: the log's reserved kB against zoneinfo."""
    with harness.boot(**settings) as guest:
        guest.expect_prompt(50)
        found = re.search(r"Memory: (\d+)K/(\d+)K available \(.*?(\d+)K reserved", guest.text())
        check(found is not None, "no `Memory:` line with `reserved` in the log")
        zones = proc_text.zoneinfo(guest.command("zoneinfo"))
        present = sum(zone["present"] for zone in zones.values()) * 4
        managed = sum(zone["managed"] for zone in zones.values()) * 4
        check(int(found[2]) == present, f"the log has {found[2]}K in all, the zones {present} kB present")
        check(int(found[3]) == present - managed, f"{found[3]}K reserved, present - managed is {present - managed} kB")
        whole = model.pages(model.usable_ranges(model.firmware_map(qemu.parse_size(settings["memory"])), 40)) * 4
        return f"{present} kB present of {whole} kB, {managed} managed"


CONFIGURATIONS = {
    "64G-pc-kernel": {"memory": "64G", "append": "panic=exit"},
    "64G-q35-kernel": {"memory": "64G", "machine": "q35", "append": "panic=exit"},
    "64G-pc-iso": {"memory": "64G", "iso": None},
    "64G-q35-iso": {"memory": "64G", "machine": "q35", "iso": None},
    "4G-pc-kernel": {"memory": "4G", "append": "panic=exit"},
    "16M-pc-kernel": {"memory": "16M", "append": "panic=exit"},
}


def numbers_case(name: str, settings: dict) -> Case:
    full = f"boot.numbers.{name}"

    def run() -> str:
        return numbers(settings | {"iso": harness.iso_path()} if "iso" in settings else settings)

    return Case(full, run, f"tests/boot/memory_numbers.py --only '{full}'")


def cases(options) -> list[Case]:
    reserved = [Case(f"boot.numbers.reserved-{size}", lambda size=size: reserved_pages(
        {"memory": size, "append": "panic=exit"})) for size in ("16M", "1G", "64G")]
    return [numbers_case(name, settings) for name, settings in CONFIGURATIONS.items()] + reserved


if __name__ == "__main__":
    harness.main(__doc__, cases)
