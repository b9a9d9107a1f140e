#!/usr/bin/python3
"""Command-line words that change memory: mem=, memmap=, highmem=, vmalloc=, vmsplit=, each against the model."""

import dataclasses
from collections.abc import Callable

import accounting
import harness
import matrix
import model
import proc_text
import qemu
from harness import Case, check
from model import GIB, MIB, PAGE, TOP, Entry



@dataclasses.dataclass
class Trial:
    """A command line on a machine, and what the firmware's map becomes by it."""

    name: str
    append: str
    memory: str = "1G"
    edit: Callable[[list[Entry]], list[Entry]] = lambda entries: entries
    look: Callable[[dict[str, int], str], None] = lambda memory, log: None


def cut(limit: int) -> Callable:
    return lambda entries: [*entries, Entry(limit, TOP - limit, 2)]


def reserve(*spans: tuple[int, int]) -> Callable:
    return lambda entries: [*entries, *(Entry(begin, length, 2) for begin, length in spans)]


def exactly(*spans: tuple[int, int]) -> Callable:
    return lambda entries: [Entry(begin, length) for begin, length in spans]


def low_between(least: int, most: int) -> Callable:
    def look(memory: dict[str, int], _log: str) -> None:
        mib = memory["LowTotal"] >> 10
        check(least <= mib <= most, f"LowTotal {mib} MiB, not {least}..{most}")
    return look


def high_is(mib: int) -> Callable:
    def look(memory: dict[str, int], _log: str) -> None:
        # The border lies on a large page.
        check(abs(memory["HighTotal"] - (mib << 10)) <= 2048, f"HighTotal {memory['HighTotal']} kB, not {mib} MiB")
    return look


def vmalloc_at_least(mib: int) -> Callable:
    def look(memory: dict[str, int], _log: str) -> None:
        check(memory["VmallocTotal"] >= mib << 10, f"VmallocTotal {memory['VmallocTotal']} kB, not {mib} MiB")
    return look


def complains(word: str) -> Callable:
    def look(_memory: dict[str, int], log: str) -> None:
        lines = [line for line in log.splitlines() if "cmdline:" in line and word in line]
        check(len(lines) == 1, f"{len(lines)} complaints about {word}")
    return look


TRIALS = [
    Trial("mem", "mem=300M", edit=cut(300 * MIB)),
    Trial("mem-odd", "mem=0x12345678", edit=cut(0x12345678)),
    Trial("mem-above-4G", "mem=5G", "6G", cut(5 * GIB)),
    Trial("mem-more-than-there-is", "mem=100G"),
    Trial("mem-nonsense", "mem=lots", look=complains("mem")),
    Trial("memmap-reserve", "memmap=16M$256M", edit=reserve((256 * MIB, 16 * MIB))),
    Trial("memmap-reserve-odd", "memmap=3$0x12345fff", edit=reserve((0x12345FFF, 3))),
    Trial("memmap-acpi", "memmap=64M#128M", edit=reserve((128 * MIB, 64 * MIB))),
    Trial("memmap-list", "memmap=1M$100M,1M$200M memmap=4K$300M",
          edit=reserve((100 * MIB, MIB), (200 * MIB, MIB), (300 * MIB, PAGE))),
    Trial("memmap-exact", "memmap=exactmap memmap=639K@0 memmap=100M@1M,64M@256M",
          edit=exactly((0, 639 << 10), (MIB, 100 * MIB), (256 * MIB, 64 * MIB))),
    Trial("memmap-size-only", "memmap=500M", edit=cut(500 * MIB)),
    Trial("memmap-nonsense", "memmap=@@,$", look=lambda memory, log: check("memmap" in log, "no complaint")),
    Trial("highmem", "highmem=512M", look=high_is(512)),
    Trial("vmalloc", "vmalloc=256M", "4G", look=vmalloc_at_least(256)),
    Trial("vmalloc-all", "vmalloc=4G", "4G"),
    Trial("vmalloc-upper", "vmalloc=64M vmalloc_upper=128M", "4G", look=vmalloc_at_least(128)),
    Trial("vmalloc-upper-with-hole", "vmalloc_upper=100M memmap=64M$256M", "4G",
          edit=reserve((256 * MIB, 64 * MIB)), look=vmalloc_at_least(164)),
    Trial("vmalloc-upper-nonsense", "vmalloc_upper=foo", "4G", look=complains("vmalloc_upper")),
    Trial("vmalloc-nonsense", "vmalloc=foo", "4G", look=complains("vmalloc")),
    Trial("vmsplit-3G", "vmsplit=3G", "4G", look=low_between(700, 1000)),
    Trial("vmsplit-2G", "vmsplit=2G", "4G", look=low_between(1700, 2048)),
    Trial("vmsplit-1G", "vmsplit=1G", "4G", look=low_between(2700, 3072)),
    Trial("vmsplit-3.5G", "vmsplit=3.5G", "4G", look=low_between(200, 512)),
    Trial("vmsplit-2G-at-64G", "vmsplit=2G", "64G", look=low_between(1700, 2048)),
    Trial("vmsplit-3.5G-at-16G", "vmsplit=3.5G", "16G", look=low_between(150, 512)),
    Trial("vmsplit-nonsense", "vmsplit=5G", "4G", look=complains("vmsplit")),
]


def run_trial(trial: Trial) -> str:
    with harness.boot(memory=trial.memory, append=f"{trial.append} panic=exit") as guest:
        guest.expect_prompt(50)
        log = guest.text()
        entries = trial.edit(matrix.believed_map(log, trial.memory, "pc"))
        memory = accounting.check_all(guest, log, [entries])
        trial.look(memory, log)
        return f"LowTotal {memory['LowTotal']} kB, HighTotal {memory['HighTotal']} kB"


def nothing_high() -> str:
    """highmem=0: what lowmem cannot hold is given up, not used."""
    with harness.boot(memory="4G", append="highmem=0 panic=exit") as guest:
        guest.expect_prompt(50)
        memory = proc_text.meminfo(guest.command("meminfo"))
        check(memory["HighTotal"] == 0, f"HighTotal {memory['HighTotal']} kB")
        check(memory["LowTotal"] >= 700 << 10, f"LowTotal {memory['LowTotal']} kB")
        return f"LowTotal {memory['LowTotal']} kB"


def too_little_left() -> str:
    """mem= may leave too little to boot; that is said, not suffered."""
    with harness.boot(memory="1G", append="mem=2M panic=exit") as guest:
        guest.expect(b"Paean cannot boot: ", 20)
        status = guest.wait_exit(10)
        check(status == qemu.FAIL, f"ended with {qemu.describe_status(status)}")
        return ""


def cases(options) -> list[Case]:
    named = [(trial.name, lambda trial=trial: run_trial(trial)) for trial in TRIALS]
    named += [("highmem-0", nothing_high), ("mem-too-little", too_little_left)]
    return [Case(f"boot.option.{name}", run, f"tests/boot/memory_options.py --only 'boot.option.{name}'")
            for name, run in named]


if __name__ == "__main__":
    harness.main(__doc__, cases)
