#!/usr/bin/python3
"""Disks: the guest reads what we wrote, and we read what the guest wrote; disks that fail, stall and vanish.

Images are sparse files whose layout tests/unit/disk_images.hpp describes. In 64 GB all pages of the tests lie above
4 GB, so IDE works through bounce memory and virtio without it.
"""

import array
import json
import os
import re
import shutil
import tempfile
import threading

import harness
from ext2 import NO_DMA32
from harness import Case, check

MARK = b"Paean disk for tests"
SECTOR, WORDS = 512, 128
FACTOR = 2654435761
HOST_START, HOST_SECTORS, WRITE_SECTORS, STRIPES, STRIPE_SECTORS, SCRATCH_SECTORS = 64, 16384 - 64, 8192, 64, 128, 8192
WRITE_START = HOST_START + HOST_SECTORS
STRIPE_START = WRITE_START + WRITE_SECTORS
SCRATCH_START = STRIPE_START + STRIPES * STRIPE_SECTORS
HOST_SEED, WRITE_SEED, STRIPE_SEED = 0, 1, 2
BAD_PERIOD, BAD_TO_READ, BAD_TO_WRITE = 80, 7, 47

MIB, GIB = 1 << 20, 1 << 30
SMALL, LARGE = 256 * MIB, 160 * GIB  # LARGE needs block numbers of more than 28 bits

_patterns: dict[tuple[int, int, int], bytes] = {}
_pattern_lock = threading.Lock()


def pattern(sector: int, sectors: int, seed: int) -> bytes:
    """What these sectors hold."""
    with _pattern_lock:
        key = (sector, sectors, seed)
        if key not in _patterns:
            words = range(sector * WORDS, (sector + sectors) * WORDS)
            _patterns[key] = array.array("I", [(word * FACTOR + seed) & 0xffffffff for word in words]).tobytes()
        return _patterns[key]


class Images:
    """Files that go with the case."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="disks-", dir=harness.build_directory())

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.folder, ignore_errors=True)

    def make(self, name: str, size: int = SMALL) -> str:
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.truncate(size)
            file.write(MARK)
            file.seek(HOST_START * SECTOR)
            file.write(pattern(HOST_START, HOST_SECTORS, HOST_SEED))
        return path


def ide(path: str, index: int, more: str = "") -> tuple[str, ...]:
    return ("-drive", f"if=ide,index={index},format=raw,file={path}{more}")


def virtio(path: str, name: str, drive: str = "", device: str = "") -> tuple[str, ...]:
    return ("-drive", f"if=none,id={name},format=raw,file={path}{drive}",
            "-device", f"virtio-blk-pci,drive={name}{device}")


def compare(path: str, written: bool) -> None:
    """The areas of an image after the tests of the suite `disk`."""
    def look(what, start, sectors, expected):
        file.seek(start * SECTOR)
        found = file.read(sectors * SECTOR)
        if found != expected:
            wrong = next(i for i in range(sectors) if found[i * SECTOR:][:SECTOR] != expected[i * SECTOR:][:SECTOR])
            check(False, f"{os.path.basename(path)}: {what}: sector {start + wrong} is not what it should be")

    with open(path, "rb") as file:
        look("mark", 0, HOST_START, MARK.ljust(HOST_START * SECTOR, b"\0"))
        look("ours", HOST_START, HOST_SECTORS, pattern(HOST_START, HOST_SECTORS, HOST_SEED))
        if not written:
            look("untouched", WRITE_START, WRITE_SECTORS, bytes(WRITE_SECTORS * SECTOR))
            return
        look("written", WRITE_START, WRITE_SECTORS, pattern(WRITE_START, WRITE_SECTORS, WRITE_SEED))
        stripes = STRIPES * STRIPE_SECTORS
        look("stripes", STRIPE_START, stripes, pattern(STRIPE_START, stripes, STRIPE_SEED))
        look("behind", SCRATCH_START, SCRATCH_SECTORS, bytes(SCRATCH_SECTORS * SECTOR))


def run_tests(tests: str, extra: tuple[str, ...], count: int, words: str = "", **settings) -> str:
    append = f"selftest={tests} {words} panic=exit exit"
    with harness.boot(append=append, extra=extra, timeout=170, silence=60, **settings) as guest:
        guest.expect(rb"# Totals: ", 150)
        check(guest.wait_exit(30) == 33, "tests fail")
        text = guest.text()
        check(f"# Totals: pass:{count} fail:0 " in text, f"not the {count} tests that were asked for")
        return text


def compare_after(drives: list[tuple[str, str]], **settings) -> str:
    """`drives` are kind and size of each."""
    with Images() as images:
        extra, paths = [], []
        for number, (kind, size) in enumerate(drives):
            path = images.make(f"{number}.img", size)
            paths.append((path, kind != "read-only"))
            if kind.startswith("ide"):
                extra += ide(path, int(kind[3:]))
            else:
                options = {"legacy": ",disable-modern=on", "modern": ",disable-legacy=on",
                           "bridge": ",bus=bridge"}.get(kind, "")
                extra += virtio(path, f"v{number}", ",readonly=on" if kind == "read-only" else "", options)
        if any(kind == "bridge" for kind, _ in drives):
            extra = ["-device", "pcie-root-port,id=bridge,chassis=1", *extra]
        # Of the six, one is for read-only disks and one for large ones; they are skipped elsewhere.
        kinds = any(kind == "read-only" for kind, _ in drives) + any(size == LARGE for _, size in drives)
        text = run_tests("disk.*", tuple(extra), 4 + kinds, **settings)
        tested = len(re.findall(r"^# [hv]d.: \d+ sectors$", text, re.MULTILINE))
        check(tested == len(drives), f"{tested} disks were tested")
        for path, written in paths:
            compare(path, written)
        return f"{len(drives)} disks"


def blkdebug(path: str, node: str) -> tuple[str, ...]:
    """A node whose sectors fail as tests/unit/disk_fault_test.cpp expects."""
    rules = []
    for start in range(SCRATCH_START, SCRATCH_START + SCRATCH_SECTORS, BAD_PERIOD):
        for offset, kind in ((BAD_TO_READ, "read"), (BAD_TO_WRITE, "write")):
            if start + offset < SCRATCH_START + SCRATCH_SECTORS:
                rules.append({"event": "none", "iotype": kind, "errno": 5, "sector": start + offset})
    return ("-blockdev", json.dumps({"driver": "raw", "node-name": node, "file": {
        "driver": "blkdebug", "inject-error": rules, "image": {"driver": "file", "filename": path}}}))


def bad_sectors() -> str:
    with Images() as images:
        extra = (*blkdebug(images.make("ide.img"), "i"), "-device", "ide-hd,drive=i,bus=ide.0",
                 *blkdebug(images.make("virtio.img"), "v"), "-device", "virtio-blk-pci,drive=v")
        run_tests("disk_faults.a_bad_sector_fails_alone", extra, 1, smp=2)
    return "two disks with 205 bad sectors each"


def bounce_without_dma32() -> str:
    """Bounce memory of a machine that has none but lowmem below 4 GB."""
    append = f"{NO_DMA32} selftest=bounce.* panic=exit exit"
    with harness.boot(memory="6G", smp=2, append=append, timeout=300, silence=100) as guest:
        found = guest.expect(rb"# Totals: pass:(\d+) fail:0 skip:(\d+)", 280)
        check(guest.wait_exit(20) == 33, "the tests fail")
        check(int(found[1]) >= 10, f"only {int(found[1])} tests were run, {int(found[2])} skipped")
        check(re.search(r"DMA32 +empty", guest.text()) is not None, "there is a zone DMA32")
    return f"{int(found[1])} tests"


def slow(kind: str) -> str:
    """The first disk is throttled to a standstill, and freed when the guest has noticed."""
    with Images() as images:
        paths = [images.make("0.img"), images.make("1.img")]
        throttle = ",throttling.bps-total=2048,id=first"
        if kind == "ide":
            extra = (*ide(paths[0], 0, throttle), *ide(paths[1], 1))
        else:
            extra = (*virtio(paths[0], "first", ",throttling.bps-total=2048"), *virtio(paths[1], "second"))
        append = "selftest=disk_faults.one_that_does_not_answer panic=exit exit"
        with harness.boot(memory="4G", smp=2, append=append, extra=extra, timeout=170, silence=100) as guest:
            guest.expect(rb"let it answer", 120)
            guest.monitor("block_set_io_throttle", device="first", bps=0, bps_rd=0, bps_wr=0, iops=0, iops_rd=0,
                          iops_wr=0)
            guest.expect(rb"# Totals: pass:1 fail:0 skip:0", 60)
            check(guest.wait_exit(20) == 33, "the test fails")
            check("is reset" in guest.text(), "nothing in the log")
            check("answered too late" not in guest.text(), "the second disk's time ran while it waited for the first")
    return ""


def vanishing(kind: str) -> str:
    with Images() as images:
        paths = [images.make("0.img"), images.make("1.img")]
        if kind == "ide":
            extra = (*ide(paths[0], 0, ",id=first"), *ide(paths[1], 1))
        else:
            extra = (*virtio(paths[0], "first"), *virtio(paths[1], "second"))
        append = "selftest=disk_faults.one_that_vanishes panic=exit exit"
        with harness.boot(memory="4G", smp=2, append=append, extra=extra, timeout=100, silence=60) as guest:
            guest.expect(rb"take ([hv]da) away", 60)
            guest.monitor("human-monitor-command", **{"command-line": "drive_del first"})
            guest.expect(rb"# Totals: pass:1 fail:0 skip:0", 60)
            check(guest.wait_exit(20) == 33, "the test fails")
    return ""


def as_many_as_letters() -> str:
    """A disk for each letter, most of them on one interrupt line, and one that gets no name. All of them answer."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    with Images() as images:
        extra = [word for n in range(len(letters) + 1) for word in virtio(images.make(f"{n}.img"), f"d{n}")]
        with harness.boot(memory="1G", smp=2, extra=tuple(extra), timeout=120) as guest:
            log = guest.expect_prompt(90)
            check("no name is left behind vdz" in log, "no word about the 27th disk")
            lines = [line.split() for line in guest.command("lsblk").splitlines() if line.startswith("vd")]
            check([line[0] for line in lines] == [f"vd{letter}" for letter in letters], f"there are only {len(lines)}")
            # Reading the partition table has taken an interrupt of each.
            silent = [line[0] for line in lines if int(line[4]) == 0 or line[-2:] != ["0", "0"]]
            check(not silent, f"{silent} do not answer")
    return f"{len(letters)} disks"


def cd_and_lspci() -> str:
    """A packet device is left alone, the rest is found."""
    with Images() as images:
        extra = (*ide(images.make("0.img"), 3), "-drive", "if=ide,index=2,media=cdrom")
        with harness.boot(memory="1G", extra=extra, timeout=60) as guest:
            log = guest.expect_prompt()
            check("hdc: a packet device, not used" in log, "no word about the CD-ROM")
            check("hdd: 256 MB QEMU HARDDISK, DMA" in log, "no hdd")
            check(log.count("hdd: ") == 1, "more than one line about hdd")
            answer = guest.command("lspci -v")
            for text in ("00:00.0 Host bridge [0600]: 8086:1237", "00:01.1 IDE interface [0101]: 8086:7010",
                         "Region 4: I/O ports"):
                check(text in answer, f"lspci does not show '{text}'")
    return ""


def refused() -> str:
    """A virtio disk with large blocks is not used, and none of its registers stays mapped."""
    with Images() as images:
        large = ",disable-legacy=on,logical_block_size=4096,physical_block_size=4096"
        extra = virtio(images.make("0.img"), "first", device=large)
        with harness.boot(memory="1G", extra=extra, timeout=60) as guest:
            log = guest.expect_prompt()
            check("vda: blocks of 4096 bytes are not supported" in log, "no word about the blocks")
            check("virtio" not in guest.command("vmallocinfo"), "registers are still mapped")
            check("vda" not in guest.command("lsblk"), "vda is there")
    return ""


def cases(options) -> list[Case]:
    every = [("ide0", SMALL), ("ide1", SMALL), ("ide3", LARGE), ("virtio", SMALL), ("legacy", LARGE),
             ("read-only", SMALL)]
    few = [("ide0", SMALL), ("virtio", SMALL)]
    express = [("bridge", LARGE), ("modern", SMALL), ("read-only", SMALL)]
    named = [("pc-64G-2cpus", lambda: compare_after(every, memory="64G", smp=2)),
             ("pc-64G-1cpu", lambda: compare_after(every, memory="64G", smp=1)),
             ("q35-64G-2cpus", lambda: compare_after(express, memory="64G", smp=2, machine="q35")),
             ("q35-64G-1cpu", lambda: compare_after(express, memory="64G", smp=1, machine="q35")),
             ("pc-1G-pic", lambda: compare_after([*few, ("read-only", SMALL)], memory="1G", cpu="qemu64,-apic")),
             ("bad-sectors", bad_sectors), ("bounce-without-dma32", bounce_without_dma32),
             ("as-many-as-letters", as_many_as_letters),
             ("slow-ide", lambda: slow("ide")), ("slow-virtio", lambda: slow("virtio")),
             ("vanishing-ide", lambda: vanishing("ide")), ("vanishing-virtio", lambda: vanishing("virtio")),
             ("cd-and-lspci", cd_and_lspci), ("refused", refused)]
    return [Case(f"boot.disks.{name}", run, f"tests/boot/disks.py --only boot.disks.{name}") for name, run in named]


if __name__ == "__main__":
    harness.main(__doc__, cases)
