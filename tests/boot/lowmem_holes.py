#!/usr/bin/python3
"""Holes of lowmem as vmalloc space: what they cost, what shows them, and the kernel's own tests on such machines."""

import re

import harness
import proc_text
import qemu
from harness import Case, check

MIB_KB = 1024
KINDS = ("lowmem", "vmalloc")
ONE = "memmap=64M$256M"
THREE = "memmap=96M$256M,64M$400M,32M$512M"
SHOWN = "memmap=96M$256M"


def meminfo_with(memory: str, append: str) -> dict[str, int]:
    with harness.boot(memory=memory, append=f"{append} panic=exit") as guest:
        guest.expect_prompt(50)
        return proc_text.meminfo(guest.command("meminfo"))


def cost(memory: str, holes: str, most_mib: int) -> str:
    """LowTotal may fall by `most_mib`, and with VmallocTotal by 8 MiB, which are page tables and rounding."""
    whole, cut = meminfo_with(memory, ""), meminfo_with(memory, holes)
    low = whole["LowTotal"] - cut["LowTotal"]
    both = low + whole["VmallocTotal"] - cut["VmallocTotal"]
    check(low <= most_mib * MIB_KB, f"LowTotal falls by {low} kB, more than {most_mib} MiB")
    check(both <= 8 * MIB_KB, f"LowTotal + VmallocTotal falls by {both} kB")
    return f"LowTotal -{low} kB, LowTotal + VmallocTotal -{both} kB, VmallocTotal {cut['VmallocTotal']} kB"


def against_waste(memory: str, hole_mib: int) -> str:
    """What the addresses of a hole are worth. Were they left alone, lowmem would lose the hole and vmalloc gain
    nothing: both together must have more than that by the size of the hole."""
    whole = meminfo_with(memory, "")
    cut = meminfo_with(memory, f"memmap={hole_mib}M$256M")
    wasted = whole["LowTotal"] + whole["VmallocTotal"] - hole_mib * MIB_KB
    grown = cut["LowTotal"] + cut["VmallocTotal"] - wasted
    check(abs(grown - hole_mib * MIB_KB) <= 2 * MIB_KB, f"grows by {grown} kB, not by {hole_mib} MiB")
    return f"{grown} kB for a hole of {hole_mib * MIB_KB} kB"


def regions(text: str, pattern: str) -> list[tuple[str, int, int]]:
    """(name, first, last) of the lines that match; lowmem and vmalloc only."""
    found = []
    for match in re.finditer(pattern, text):
        if match["name"] in KINDS:
            found.append((match["name"], int(match["first"], 16), int(match["last"], 16)))
    return found


LOG = r"(?m)^\S* *\S*\] +(?P<name>\w+) *: 0x(?P<first>\w+) - 0x(?P<last>\w+) +\("
LOWMEM = r"(?m)^  (?P<first>[0-9a-f]{8})-(?P<last>[0-9a-f]{8}) (?P<name>\w+) +\d+ kB"
PTDUMP = r"(?m)^---\[ (?P<name>\w+) (?P<first>[0-9a-f]{8})-(?P<last>[0-9a-f]{8}) \d+K \]---"
RUN = r"(?m)^(?P<first>[0-9a-f]{8})-(?P<last>[0-9a-f]{8}) +\d+K -> \S+ .* (?P<name>lowmem|vmalloc)"


def shown() -> str:
    """Log, lowmem, ptdump and map show the same interleaving."""
    with harness.boot(memory="4G", append=f"{SHOWN} panic=exit") as guest:
        guest.expect_prompt(50)
        log = regions(guest.text(), LOG)
        check([name for name, _, _ in log] == ["lowmem", "vmalloc", "lowmem", "vmalloc"], f"the log shows {log}")
        check(log[1][1:] == (0xD0000000, 0xD5FFFFFF), f"the hole is at {log[1][1]:x}-{log[1][2]:x}")
        for (_, _, last), (_, first, _) in zip(log, log[1:]):
            check(first == last + 1, f"a gap between {last:x} and {first:x}")
        check(regions(guest.command("lowmem"), LOWMEM) == log, "lowmem differs from the log")
        text = guest.command("ptdump")
        check(regions(text, PTDUMP) == log, f"ptdump shows {regions(text, PTDUMP)}")
        for name, first, last in regions(text, RUN):
            inside = [region for region in log if region[1] <= first and last <= region[2]]
            check(len(inside) == 1 and inside[0][0] == name, f"{first:x}-{last:x} of {name} lies in {inside}")
        rows = [line for line in guest.command("map").splitlines() if "==" in line and "|" in line]
        check(len(rows) >= 1, "the picture shows no hole of vmalloc")
        kilobytes = sum(last - first + 1 for name, first, last in log if name == "vmalloc") // 1024
        check(proc_text.meminfo(guest.command("meminfo"))["VmallocTotal"] == kilobytes, "VmallocTotal differs")
        return f"{len(log)} ranges, {kilobytes} kB of vmalloc"


# The kernel's own tests where there are holes: one, three, odd edges, across the limit, and two beyond it that the
# direct map reaches only because of the first; tiny; in other splits; with every lowmem map forced through a slot.
MACHINES = {
    "one-4G": ("4G", ONE),
    "three-64G": ("64G", THREE),
    "odd-edges": ("4G", "memmap=3M$0x10100000,7M$0x1f0ff000"),
    "across-the-limit": ("4G", "memmap=200M$800M"),
    "revealed": ("4G", "memmap=60M$300M,10M$870M,4M$890M"),
    "tiny": ("1G", "memmap=2M$100M,2M$104M,1M$110M"),
    "below-16M": ("1G", "memmap=6M$9M"),
    "2G-split": ("4G", "vmsplit=2G memmap=96M$1000M"),
    "1G-split": ("4G", "vmsplit=1G memmap=64M$128M,512M$2048M"),
    "3.5G-split": ("4G", "vmsplit=3.5G memmap=64M$128M"),
    "highmem": ("2G", "highmem=1200M memmap=64M$128M"),
    "forced": ("4G", f"kmap=force {THREE}"),
    "upper": ("4G", f"vmalloc=200M vmalloc_upper=64M {THREE}"),
}
SUITES = "holes.*,address_space.*,layout.*,zone.*,frame_words.*,page_alloc.*,kmap.*"


def kernel_tests(name: str) -> str:
    memory, append = MACHINES[name]
    with harness.boot(memory=memory, smp=2, append=f"selftest={SUITES} exit {append}") as guest:
        status = guest.wait_exit(110)
        failed = re.findall(r"(?m)^not ok \d+ (\S+)", guest.text())
        check(not failed, f"failed: {' '.join(failed)}")
        check(status == qemu.PASS, f"ended with {qemu.describe_status(status)}")
        totals = re.search(r"# Totals: (.*)", guest.text())
        check(totals is not None, "there are no totals")
        return totals[1].strip()


# What must refuse an address in a hole, and what it says. The same on machines without holes: tests/boot/death.py.
DEATHS = {"kunmap_of_a_vmalloc_address": "not a mapped page", "free_of_a_vmalloc_address": "no page has it",
          "kunmap_local_of_a_vmalloc_address": "not a local map"}


def die(name: str) -> str:
    with harness.boot(memory="4G", append=f"selftest=death.{name} panic=exit exit {SHOWN}") as guest:
        status = guest.wait_exit(60, panic_is_expected=True)
        check(status == qemu.PANIC, f"ended with {qemu.describe_status(status)}")
        panic = re.search(r"PANIC: (.*)", guest.text())
        check(panic is not None and DEATHS[name] in panic[1], f"does not say `{DEATHS[name]}`")
        return panic[1].strip()


def cases(options) -> list[Case]:
    def case(name: str, run) -> Case:
        full = f"boot.lowmem_holes.{name}"
        return Case(full, run, f"tests/boot/lowmem_holes.py --only '{full}'")

    result = [case(f"cost-{memory}-{name}", lambda m=memory, h=holes, most=most: cost(m, h, most))
              for memory in ("4G", "64G") for name, holes, most in (("64M", ONE, 8), ("96+64+32M", THREE, 120))]
    result += [case(f"worth-{memory}", lambda m=memory: against_waste(m, 64)) for memory in ("512M", "4G", "64G")]
    result.append(case("shown", shown))
    result += [case(f"tests-{name}", lambda name=name: kernel_tests(name)) for name in MACHINES]
    result += [case(f"death-{name}", lambda name=name: die(name)) for name in DEATHS]
    return result


if __name__ == "__main__":
    harness.main(__doc__, cases)
