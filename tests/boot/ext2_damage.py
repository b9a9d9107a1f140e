#!/usr/bin/python3
"""Damaged ext2 volumes in a guest: refused, read-only or an error, and the guest goes on, without a byte less.

Each volume is a partition. A stranger mounts it, reads what there is, changes something of every kind and unmounts it.
What was refused has not been written to. Afterwards a sound volume works, and the slab caches hold what they held.
"""

import collections
import os
import re
import struct
import tempfile

import harness
import proc_text
from disks import ide, virtio
from disks_partitions import table
from ext2 import contents, tool
from ext2_images import made_by_hand, mutated, sound
from harness import Case, check

KIB, SECTOR = 1024, 512
VOLUME_SECTORS, GAP = 2048, 64
STRIDE = VOLUME_SECTORS + GAP
MOST_LOGICAL = 59  # PartitionScan::kMostLogical
OPTIONS = ("-b 1024 -I 128", "-b 4096 -I 128", "-b 2048 -O ^filetype")
ENTRY = re.compile(r"(?m)^([-dlpbcs?])\S{9} +\d+ +\d+ +\d+ +(\d+) .*?\d\d:\d\d ([\w.-]+)(?: -> .*)?\r?$")
COMPLAINT = re.compile(r"(?m)^\w+: .*(input/output error|read-only|corrupt|not supported)")
MOST_NAMES, MOST_DEPTH, LARGE = 30, 3, 4 << 20
CACHES = ("dentry", "magazine")  # how many names and stacks of free objects there are depends on what came when
SECONDS = 60  # for one command: what takes longer does not end


class Disk:
    """Volumes as logical partitions of one disk, the first one after 4."""

    def __init__(self, folder: str, name: str, volumes: list[bytes]):
        self.name, self.volumes = name, volumes
        self.path = os.path.join(folder, f"{name}.img")
        count = len(volumes)
        with open(self.path, "wb") as file:
            file.truncate((1 + STRIDE * count) * SECTOR)
            file.write(table({0: (0x05, 1, STRIDE * count)}))
            for i, volume in enumerate(volumes):
                entries = {0: (0x83, GAP, VOLUME_SECTORS)}
                if i + 1 < count:
                    entries[1] = (0x05, (i + 1) * STRIDE, STRIDE)
                file.seek((1 + i * STRIDE) * SECTOR)
                file.write(table(entries))
                file.seek(self.place(i))
                file.write(volume)

    @staticmethod
    def place(index: int) -> int:
        return (1 + index * STRIDE + GAP) * SECTOR

    def now(self, index: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.place(index))
            return file.read(len(self.volumes[index]))

    def options(self) -> tuple[str, ...]:
        return ide(self.path, 0) if self.name == "hda" else virtio(self.path, self.name)


class Stranger:
    """Who uses a volume without knowing what is in it."""

    def __init__(self, guest):
        self.guest = guest
        self.said = ""

    def run(self, *lines: str) -> str:
        text = self.guest.command("; ".join(lines), SECONDS)
        self.said += text
        return text

    def read(self, folder: str, depth: int) -> None:
        entries = ENTRY.findall(self.run(f"ls -l {folder}"))[:MOST_NAMES]
        small = [f"{folder}/{name}" for kind, size, name in entries if kind == "-" and int(size) < LARGE]
        large = [(f"{folder}/{name}", int(size)) for kind, size, name in entries if kind == "-" and int(size) >= LARGE]
        for i in range(0, len(small), 5):
            self.run(f"cksum {' '.join(small[i:i + 5])}")
        for path, size in large:
            self.run(f"hexdump {path} 0 32", f"hexdump {path} {size // 2} 32", f"hexdump {path} {size - 32} 32")
        for kind, _, name in entries:
            if kind == "d" and depth < MOST_DEPTH:
                self.read(f"{folder}/{name}", depth + 1)

    def change(self, top: str) -> None:
        self.run(f"mkdir {top}/made {top}/d/made {top}/d/e/made", f"write {top}/d/text text")
        self.run(f"fill {top}/filled 40000", f"write -a {top}/d/some more", f"write -a {top}/d/e/name-1 more")
        self.run(f"mv {top}/d/some {top}/made", f"mv {top}/d/e {top}/made/e", f"ln {top}/hard {top}/d/harder")
        self.run(f"truncate -s 5000 {top}/big", f"truncate -s 700000 {top}/holes", f"write -a {top}/holes tail")
        self.run(f"ln -s {'t' * 80} {top}/d/slow", f"stat {top}/link", f"sync {top}/big", "sync")
        self.run(f"rm {top}/big {top}/holes {top}/hard {top}/link {top}/slow {top}/made/some {top}/d/harder")
        self.run(f"rmdir {top}/d/made {top}/made/e {top}/d", f"ls -l {top}", "df")

    def use(self, name: str) -> str:
        """What becomes of the volume in one word."""
        self.said = ""
        if "mount: " in self.run(f"mount {name} /mnt ext2"):
            return "refused"
        mode = re.search(rf"(?m)^{name} /mnt ext2 (ro|rw) ", self.run("mount"))
        check(mode is not None, f"{name}: neither refused nor mounted")
        self.read("/mnt", 0)
        self.change("/mnt")
        if "umount: " in self.run("umount /mnt"):
            check("umount: " not in self.run("umount -f /mnt"), f"{name} cannot be given up:\n{self.said}")
        if mode[1] == "ro":
            return "read-only"
        return "an error" if COMPLAINT.search(self.said) else "unnoticed"


def held(guest) -> dict[str, int]:
    """Objects in use by slab cache, and kB of memory by kind. Names of files that are gone, and stacks of free objects,
    stay until others need the memory; how many is no fault."""
    slabs = proc_text.slab_objects(guest.command("slabinfo"))
    objects = {name: number for name, number in slabs.items() if name not in CACHES}
    memory = proc_text.meminfo(guest.command("meminfo"))
    fields = "Buffers Cached Dirty Writeback Bounce KernelStack PageTables VmallocUsed".split()
    return objects | {name: memory[name] for name in fields}


def strangers(disks: list[Disk], memory: str) -> collections.Counter:
    """The first volume of the first disk is sound, and used before and after all others."""
    outcomes = collections.Counter()
    extra = tuple(option for disk in disks for option in disk.options())
    with harness.boot(memory=memory, smp=2, extra=extra, append="panic=exit", timeout=1200, silence=SECONDS) as guest:
        guest.expect_prompt()
        stranger = Stranger(guest)
        stranger.run("mkdir /mnt")
        check(stranger.use("hda5") == "unnoticed", f"a sound volume is not used:\n{stranger.said}")
        before = held(guest)
        for disk in disks:
            for index, volume in enumerate(disk.volumes):
                if (disk, index) == (disks[0], 0):
                    continue
                name = f"{disk.name}{index + 5}"
                outcome = stranger.use(name)
                outcomes[outcome] += 1
                check(outcome != "refused" or disk.now(index) == volume, f"{name} was refused, and written to")
        check(stranger.run("mount").count("ext2") == 0, "something is still mounted")
        stranger.run("mount hda5 /mnt ext2", "write /mnt/alive yes", "umount /mnt")
        after = held(guest)
        more = [f"{name} {before[name]} -> {now}" for name, now in after.items() if now > before.get(name, 0)]
        check(not more, f"something is left behind: {', '.join(more)}")
        guest.send(b"poweroff\r")
        guest.wait_exit(60)
    return outcomes


def damaged(count: int) -> str:
    """`count` mutated volumes, and those made by hand."""
    originals = [sound(options, VOLUME_SECTORS * SECTOR // KIB) for options in OPTIONS]
    volumes = [originals[0], *made_by_hand(originals[0])]
    volumes += [mutated(originals[seed % len(originals)], seed) for seed in range(count)]
    with tempfile.TemporaryDirectory(prefix="ext2-damage-", dir=harness.build_directory()) as folder:
        parts = [volumes[i:i + MOST_LOGICAL] for i in range(0, len(volumes), MOST_LOGICAL)]
        names = ["hda", *(f"vd{chr(ord('a') + i)}" for i in range(len(parts) - 1))]
        disks = [Disk(folder, name, part) for name, part in zip(names, parts, strict=True)]
        outcomes = strangers(disks, "1G")
        path = os.path.join(folder, "sound.img")
        with open(path, "wb") as file:
            file.write(disks[0].now(0))
        tool("e2fsck", "-fn", path)
        check(contents(path, "alive") == b"yes\n", "what was written to the sound volume at the end is not there")
    check(min(outcomes["refused"], outcomes["an error"]) >= 20, f"too little is noticed: {dict(outcomes)}")
    return f"{outcomes.total()} volumes: " + ", ".join(f"{n} {what}" for what, n in sorted(outcomes.items()))


def cases(_options) -> list[Case]:
    return [Case("boot.ext2_damage.strangers", lambda: damaged(300))]


if __name__ == "__main__":
    harness.main(__doc__, cases)
