#!/usr/bin/python3
"""Programs that ask for more memory than there is: who ends, what is said, and that everything else goes on.

The programs are tests/user/exhaust.c. After each exhaustion the kernel must have all memory back that it had before.
"""

import os
import random
import re
import shutil
import subprocess
import tempfile

import harness
from ext2 import tool
from harness import Case, Skip, check

SOURCE = os.path.join(harness.ROOT, "tests", "user", "exhaust.c")
KILLED = re.compile(r"Out of memory: Killed process (\d+) \((\S+)\) total-vm:(\d+)kB, anon-rss:(\d+)kB, "
                    r"file-rss:(\d+)kB, shmem-rss:0kB, UID:0 pgtables:(\d+)kB oom_score_adj:0")


class Disk:
    """An ext2 image with the program, and an area for the swap if one is asked for: on a disk of its own, or as a file
    /area of the image."""

    def __init__(self, swap_mib: int = 0, swap_file: bool = False):
        self.folder = tempfile.mkdtemp(prefix="exhaust-", dir=harness.build_directory())
        source = os.path.join(self.folder, "source")
        os.makedirs(source)
        done = subprocess.run(["gcc", "-m32", "-static", "-O1", "-Wall", "-Wextra", "-o",
                               os.path.join(source, "exhaust"), SOURCE], capture_output=True, text=True, check=False)
        if "cannot find -lc" in done.stderr:
            raise Skip("no 32-bit C library here (libc6-dev-i386)")
        check(done.returncode == 0, done.stderr)
        area = os.path.join(source, "area") if swap_file else os.path.join(self.folder, "swap.img")
        if swap_mib:
            with open(area, "wb") as image:  # what is zeros would become holes of a file
                image.write(random.Random(1).randbytes(1 << 20) * swap_mib if swap_file else b"")
                image.truncate(swap_mib << 20)
            os.chmod(area, 0o600)
            tool("mkswap", area)
        self.images = [os.path.join(self.folder, "disk.img")]
        size = f"{8 + (swap_mib * 5 // 4 if swap_file else 0)}M"
        blocks = ("-b", "4096") if swap_file else ()  # smaller ones would be a hole where the header begins with zeros
        tool("mke2fs", "-q", "-F", "-t", "ext2", *blocks, "-d", source, self.images[0], size)
        if swap_mib and not swap_file:
            self.images.append(area)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.folder, ignore_errors=True)

    def boot(self, **settings):
        drives = []
        for number, image in enumerate(self.images):
            drives += ["-drive", f"if=none,id=v{number},format=raw,file={image}",
                       "-device", f"virtio-blk-pci,drive=v{number}"]
        append = settings.pop("append", "")
        return harness.boot(**({"extra": tuple(drives), "timeout": 600, "silence": 120,
                                "append": f"panic=exit root=vda {append}"} | settings))


def run(guest, arguments: str, seconds: int = 120) -> str:
    return guest.command(f"exec /exhaust {arguments}", seconds).replace("\r", "")


def field(guest, name: str, command: str = "meminfo") -> int:
    return int(re.search(rf"(?m)^{name}:?\s+(\d+)", guest.command(command).replace("\r", ""))[1])


def owned_by_programs(guest) -> tuple[int, int]:
    return field(guest, "AnonPages"), field(guest, "PageTables")


def report_of(text: str) -> list[re.Match]:
    """The kills in `text`, each with the whole report before it."""
    kills = list(KILLED.finditer(text))
    for word in ("invoked oom-killer", "Mem-Info:", "lowmem_reserve[]:", "total pagecache pages", "pages RAM",
                 "lowmem: ", "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name"):
        check(text.count(word) >= len(kills), f"`{word}` is missing in the report: {text[-2000:]}")
    check(re.search(r"Normal: (\d+\*\d+kB )+= \d+kB", text) or "DMA: " in text, "no free blocks in the report")
    return kills


def cycles(memory: str, mib: int, rounds: int, cpus: int) -> str:
    """A program touches more than there is, again and again: each time it alone ends, and all comes back."""
    with Disk() as disk, disk.boot(memory=memory, smp=cpus, rss_limit=12 << 30) as guest:
        guest.expect_prompt()
        run(guest, "touch 1")
        before = owned_by_programs(guest)
        for number in range(rounds):
            text = run(guest, f"touch {mib}")
            kills = report_of(text)
            check(len(kills) == 1, f"round {number}: {len(kills)} kills: {text[-2000:]}")
            check(kills[0][2] == "exhaust", f"`{kills[0][2]}` was killed")
            check("ended by signal 9" in text, text[-500:])
            check(owned_by_programs(guest) == before, f"round {number}: memory is lost: {guest.command('meminfo')}")
        check(guest.command("lowmem").count(": exact") == 2, "the ledger does not add up")
        check("touched 2 MiB" in run(guest, "touch 2"), "no program runs any more")
    return f"{rounds} programs ended"


def victim(memory: str, small: int, big: int, cpus: int) -> str:
    """Two programs: the one that is too large ends, and the other one keeps its pages."""
    with Disk() as disk, disk.boot(memory=memory, smp=cpus) as guest:
        guest.expect_prompt()
        for _ in range(5):
            text = run(guest, f"victim {small} {big}")
            kills = report_of(text)
            check(len(kills) == 1, f"{len(kills)} kills: {text[-2000:]}")
            check(f"child ended by signal 9, parent has its {small} MiB" in text, text[-2000:])
    return ""


def crowd(rounds: int) -> str:
    """More memory than a program can have: three hold most of it, and of those who want the rest each one ends."""
    with Disk() as disk, disk.boot(memory="6G", smp=2, rss_limit=12 << 30, timeout=1800, silence=400) as guest:
        guest.expect_prompt()
        run(guest, "touch 1")
        before, free = owned_by_programs(guest), field(guest, "MemFree")
        text = run(guest, f"crowd 1250 {rounds}", 1500)
        kills = report_of(text)
        ended = re.findall(r"round \d+: (\d+) ended by signal 9", text)
        check(len(ended) == rounds and [kill[1] for kill in kills] == ended,
              f"killed {[kill[1] for kill in kills]}, ended {ended}: {text[-2000:]}")
        check(f"{rounds} rounds, 3750 MiB are as they were written" in text, text[-2000:])
        for kill in kills:
            check(int(kill[4]) > 2000 * 1024, f"the victim had {kill[4]} kB: {kill[0]}")
        check(owned_by_programs(guest) == before, f"memory is lost: {guest.command('meminfo')}")
        lost = free - field(guest, "MemFree")
        check(lost < 4096, f"{lost} kB are lost: {guest.command('meminfo')}")
        check(guest.command("lowmem").count(": exact") == 2, "the ledger does not add up")
        check("touched 2 MiB" in run(guest, "touch 2"), "no program runs any more")
    return f"{rounds} programs ended"


def lowmem_alone() -> str:
    """Lowmem runs out while highmem lies free: fork fails, nobody is killed, and then the lowmem is back."""
    with Disk() as disk, disk.boot(memory="2G", append="highmem=1960M") as guest:
        guest.expect_prompt()
        run(guest, "touch 1")
        before = owned_by_programs(guest)
        for _ in range(3):
            text = run(guest, "forks 30000", 400)
            check(re.search(r"\d+ children, then (Cannot allocate memory|Resource)", text), text[-2000:])
            check("Out of memory" not in text, text[-2000:])
            for _ in range(20):
                if owned_by_programs(guest) == before:
                    break
                guest.command("sleep 1")
            check(owned_by_programs(guest) == before, f"memory is lost: {guest.command('meminfo')}")
            check("touched 100 MiB" in run(guest, "touch 100"), "no program runs any more")
    return ""


def swap_counters(guest) -> tuple[int, int]:
    return field(guest, "pswpin", "vmstat"), field(guest, "pswpout", "vmstat")


def turn_on(guest, mib: int, path: str = "/dev/vdb") -> None:
    """The area that mkswap has made, with what the kernel says of it."""
    check(guest.command(f"swapon {path}").strip() == "" or "Adding" in guest.command("dmesg"), "swapon has failed")
    kind = "partition" if path.startswith("/dev/") else "file\t"
    size = mib * 1024 - 4
    check(field(guest, "SwapTotal") == size and field(guest, "SwapFree") == size, guest.command("meminfo"))
    text = guest.command("swaps").replace("\r", "").strip("\n").split("\n")
    check(text[0] == "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority", repr(text))
    check(text[1] == path.ljust(40) + f"{kind}\t{size}\t\t0\t\t-2", repr(text))


def swap(memory: str, mib: int, area: int, cpus: int, append: str = "", path: str = "/dev/vdb") -> str:
    """A program with more pages than there is memory finds all of them as it left them, and so does its child. An area
    that is a file leaves the file system around it as it was."""
    with Disk(area, path == "/area") as disk:
        told = swap_on(disk, memory, mib, area, cpus, append, path)
        if path == "/area":
            tool("e2fsck", "-fn", disk.images[0])
    return told


def swap_on(disk: Disk, memory: str, mib: int, area: int, cpus: int, append: str, path: str) -> str:
    with disk.boot(memory=memory, smp=cpus, append=append, one_core=cpus == 1) as guest:
        guest.expect_prompt()
        run(guest, "touch 1")
        before = owned_by_programs(guest)
        turn_on(guest, area, path)
        check(path != "/area" or "busy" in guest.command("rm /area"), "the area can be removed")
        text = run(guest, f"swap {mib} 1", 400)
        check(f"{mib} MiB are as they were written" in text and "Out of memory" not in text, text[-2000:])
        came, went = swap_counters(guest)
        check(came > 1000 and went > 1000, f"in {came}, out {went}")
        check(owned_by_programs(guest) == before, f"memory is lost: {guest.command('meminfo')}")
        check(field(guest, "SwapFree") == field(guest, "SwapTotal"), "slots are lost")
        check(guest.command(f"swapoff {path}").strip() == "", "swapoff has failed")
        check(field(guest, "SwapTotal") == 0, "the area is still there")
        check(guest.command("lowmem").count(": exact") == 2, "the ledger does not add up")
        guest.send(b"poweroff\r")
        guest.wait_exit(60)
    return f"in {came}, out {went}"


def swapoff(cpus: int) -> str:
    with Disk(200) as disk, disk.boot(memory="64M", smp=cpus) as guest:
        guest.expect_prompt()
        turn_on(guest, 200)
        text = run(guest, "swapoff 25 60", 300)
        check("25 MiB came back" in text and "Out of memory" not in text, text[-2000:])
        came, went = swap_counters(guest)
        check(came >= 25 * 256 // 2, f"in {came}, out {went}")
    return f"in {came}, out {went}"


def swap_full() -> str:
    """The program ends when the area is full as well, not before."""
    with Disk(32) as disk, disk.boot(memory="64M") as guest:
        guest.expect_prompt()
        turn_on(guest, 32)
        for _ in range(5):
            text = run(guest, "touch 200", 300)
            check(len(report_of(text)) == 1 and "ended by signal 9" in text, text[-2000:])
            check("Free swap  = 0kB" in text, text[-3000:])
            check(field(guest, "SwapFree") == field(guest, "SwapTotal"), "slots are lost")
    return ""


def swap_errors() -> str:
    """A page that cannot be read costs its program a SIGBUS; one that cannot be written stays. Nobody else notices."""
    with Disk(256) as disk, disk.boot(memory="40M", one_core=True) as guest:
        guest.expect_prompt()
        turn_on(guest, 256)
        guest.command("fault swap_read 20")
        text = run(guest, "swap 44 1", 300)
        check("ended by signal 7" in text and "Read-error on swap-device /dev/vdb" in text, text[-2000:])
        check(field(guest, "SwapFree") == field(guest, "SwapTotal"), "slots are lost")
        guest.command("fault swap_write 3")
        text = run(guest, "swap 44 1", 300)
        check("44 MiB are as they were written" in text and "Write-error on swap-device /dev/vdb" in text, text[-2000:])
        guest.command("fault swap_slot 3")
        check("44 MiB are as they were written" in run(guest, "swap 44 1", 300), "a missing slot loses pages")
        guest.command("fault swap_write 1+")
        text = run(guest, "touch 100", 300)
        check(len(report_of(text)) == 1 and "ended by signal 9" in text, text[-2000:])
        guest.command("fault off")
        check("44 MiB are as they were written" in run(guest, "swap 44 1", 300), "the swap does not recover")
    return ""


def cases(options) -> list[Case]:
    chosen = [("cycles_64M", lambda: cycles("64M", 100, 100, 1)), ("cycles_64M_2", lambda: cycles("64M", 100, 20, 2)),
              ("victim_64M", lambda: victim("64M", 8, 100, 1)), ("victim_64M_2", lambda: victim("64M", 8, 100, 2)),
              ("lowmem_alone", lowmem_alone), ("swap_64M", lambda: swap("64M", 90, 300, 1)),
              ("swap_40M_2", lambda: swap("40M", 56, 200, 2)), ("swapoff", lambda: swapoff(1)),
              ("swap_without_windows", lambda: swap("40M", 44, 200, 1, "ukva=off")),
              ("swap_file", lambda: swap("40M", 56, 128, 2, path="/area")),
              ("swap_full", swap_full), ("swap_errors", swap_errors)]
    if options.full:
        chosen.append(("crowd_6G", lambda: crowd(10)))
    return [Case(f"boot.exhaustion.{name}", run, f"tests/boot/exhaustion.py --full --only 'boot.exhaustion.{name}'")
            for name, run in chosen]


if __name__ == "__main__":
    harness.main(__doc__, cases)
