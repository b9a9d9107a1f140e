#!/usr/bin/python3
"""Minutes of everything at once while one allocation in a thousand fails, and one sector in five thousand.

Only with --full: 5 minutes each of a guest with 64 GB and one with 64 MB, side by side (SOAK_SECONDS says otherwise).
Programs may end, calls may fail and files may be short: that is what failures are for. But the kernel goes on, kills
nobody but programs, and has everything back when the failures stop. A program has hardly a thousand pages before one
of them fails, so every other round spares plain pages: then memory is filled, swapped, and killed for. Seeds are fixed:
SOAK_SEED takes another one.
"""

import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import time

import harness
import proc_text
from exhaustion import KILLED, field, owned_by_programs, run
from ext2 import tool
from harness import Case, check
from user import master_image

SECONDS = float(os.environ.get("SOAK_SECONDS", "300"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
SWAP_MIB, DISK_MIB, SECTOR = 256, 64, 512
ONE_SECTOR_IN = 5000
OBJECTS = ("pdpt", "shared_memory", "user_space", "user_area", "thread", "lent_mapping", "folio_transfer",
           "folio_request")
MEMORY_SITES = ("page_alloc", "slab_object", "slab_pages", "folio", "page_index_node", "folio_transfer", "fresh_window",
                "user_area", "user_directory", "user_table", "stack_slot", "vmalloc_frames", "vmalloc_space",
                "vmap_area", "swap_slot", "kmap_slot", "bounce_pool")


def bad_sectors(chance: random.Random, first_mib: int, end_mib: int) -> list[int]:
    per_mib = (1 << 20) // SECTOR
    sectors = range(first_mib * per_mib, end_mib * per_mib)
    return chance.sample(sectors, len(sectors) // ONE_SECTOR_IN)


class Disks:
    """Programs and room for files on one disk, the swap on another; some sectors of both cannot be read or written."""

    def __init__(self, chance: random.Random):
        self.folder = tempfile.mkdtemp(prefix="soak-", dir=harness.build_directory())
        source = os.path.join(self.folder, "source")
        shutil.copytree(os.path.join(os.path.dirname(master_image()), "source"), source)
        done = subprocess.run(["gcc", "-m32", "-static", "-O1", "-o", os.path.join(source, "exhaust"),
                               os.path.join(harness.ROOT, "tests", "user", "exhaust.c")],
                              capture_output=True, text=True, check=False)
        check(done.returncode == 0, done.stderr)
        self.programs, self.swap = (os.path.join(self.folder, name) for name in ("programs.img", "swap.img"))
        tool("mke2fs", "-q", "-F", "-t", "ext2", "-d", source, self.programs, f"{DISK_MIB}M")
        with open(self.swap, "wb") as image:
            image.truncate(SWAP_MIB << 20)
        tool("mkswap", self.swap)
        # Where programs are read from all is good, and so is the header of the swap: there would be no test without.
        self.drives = (*self.drive(self.programs, "v0", bad_sectors(chance, DISK_MIB // 2, DISK_MIB)),
                       *self.drive(self.swap, "v1", bad_sectors(chance, 1, SWAP_MIB)))

    @staticmethod
    def drive(path: str, node: str, bad: list[int]) -> tuple[str, ...]:
        rules = [{"event": "none", "iotype": kind, "sector": sector, "errno": 5}
                 for sector in bad for kind in ("read", "write")]
        return ("-blockdev", json.dumps({"node-name": node, "driver": "raw", "file": {
            "driver": "blkdebug", "inject-error": rules, "image": {"driver": "file", "filename": path}}}),
            "-device", f"virtio-blk-pci,drive={node}")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.folder, ignore_errors=True)


def load(memory: str, chance: random.Random) -> list[str]:
    """What is run in turn, in an order of chance. No programs that wait for others for ever if those end too early."""
    small = memory == "64M"
    commands = ["exec /exhaust swap 70 1" if small else "exec /exhaust swap 120 1",
                "exec /exhaust touch 400" if small else "exec /exhaust touch 1500",
                "exec /exhaust victim 6 200" if small else "exec /exhaust victim 32 300",
                "exec /exhaust forks 60" if small else "exec /exhaust forks 2000",
                "exec /bin/files", "exec /bin/hello a b",
                "exec /bin/hostile 2000 1", "exec /bin/elves 8 1 /bin/hello", "meminfo", "lowmem 10", "slabinfo",
                "zoneinfo", "vmstat", "sync"]
    chance.shuffle(commands)
    return commands


def arm(guest) -> None:
    for site in MEMORY_SITES:
        check(guest.command(f"fault {site} 1/1000").strip() == "", f"{site} cannot be armed")
    for site in ("swap_read", "swap_write"):
        check(guest.command(f"fault {site} 1/{ONE_SECTOR_IN}").strip() == "", f"{site} cannot be armed")


def failures_of(guest) -> int:
    return sum(int(number) for number in re.findall(r"(?m)^\w+ +\d+[+/ ] +\d+ +(\d+)  ", guest.command("fault")))


def held(guest) -> dict[str, object]:
    """What programs and transfers hold: pages, objects, areas of vmalloc. Caches, which keep what they like, do not
    count."""
    objects = proc_text.slab_objects(guest.command("slabinfo"))
    areas = re.search(r"(?m)^live +(\d+)", guest.command("vmallocinfo totals"))
    check(areas is not None, "vmallocinfo counts no areas")
    return {"pages": owned_by_programs(guest), "areas": areas[1], **{name: objects[name] for name in OBJECTS}}


def settle(guest, before: dict[str, object]) -> None:
    """Programs that ended late give back what they had within seconds."""
    for _ in range(30):
        now = held(guest)
        if now == before:
            return
        guest.command("sleep 1")
    check(False, f"lost: {before} before, now {now}")


def soak(memory: str) -> str:
    chance = random.Random(f"{SEED} {memory}")
    with Disks(chance) as disks, \
         harness.boot(memory=memory, smp=2, extra=disks.drives, timeout=SECONDS + 900, silence=90,
                      append="panic=exit root=vda") as guest:
        guest.expect_prompt()
        run(guest, "touch 1")
        guest.command("swapon vdb")
        check(field(guest, "SwapTotal") == SWAP_MIB * 1024 - 4, "no swap")
        before = held(guest)
        arm(guest)
        rounds = commands = kills = 0
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            guest.command(f"fault page_alloc 1/{ONE_SECTOR_IN * 100 if rounds % 2 else 1000}")
            for command in load(memory, chance):
                text = guest.command(command, 400).replace("\r", "")
                commands += 1
                for kill in KILLED.finditer(text):
                    kills += 1
                    check(int(kill[1]) > 1, f"`{kill[2]}` was killed: {kill[0]}")
                if time.monotonic() > end:
                    break
            rounds += 1
        failed, swapped = failures_of(guest), field(guest, "pswpout", "vmstat")
        guest.command("fault off")
        check(failed > commands, f"only {failed} failures in {commands} commands")
        check(memory != "64M" or (kills > 0 and swapped > 1000), f"{kills} kills, {swapped} pages swapped out")
        settle(guest, before)
        check(field(guest, "SwapFree") == field(guest, "SwapTotal"), "slots are lost")
        ledger = guest.command("lowmem")
        check(ledger.count(": exact") == 2, f"the ledger does not add up: {ledger}")
        check("touched 8 MiB" in run(guest, "touch 8"), "no program runs any more")
        check(guest.command("swapoff vdb").strip() == "", "swapoff has failed")
        return f"{commands} commands in {rounds} rounds, {failed} failures, {swapped} pages to the swap, " \
               f"{kills} programs killed"


def cases(options) -> list[Case]:
    if not options.full:
        return []
    return [Case(f"boot.soak.{memory}", lambda memory=memory: soak(memory),
                 f"SOAK_SEED={SEED} tests/boot/soak.py --full --only boot.soak.{memory}") for memory in ("64G", "64M")]


if __name__ == "__main__":
    harness.main(__doc__, cases)
