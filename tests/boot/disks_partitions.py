#!/usr/bin/python3
"""Partition tables on a disk: sound ones become devices, absurd ones cost a line in the log and nothing else."""

import os
import random
import re
import struct
import tempfile

import harness
import qemu
from harness import Case, check

SECTORS = 32768
LINE = re.compile(r"^ *(hda\d*) +(\d+) ", re.M)


def table(entries: dict[int, tuple[int, int, int]], status: int = 0) -> bytes:
    """A sector with entries by index: type, first sector, sectors."""
    block = bytearray(512)
    for index, (kind, start, count) in entries.items():
        struct.pack_into("<B3xB3xII", block, 446 + 16 * index, status, kind, start, count)
    block[510:512] = b"\x55\xaa"
    return bytes(block)


def devices(blocks: dict[int, bytes]) -> tuple[list[tuple[str, int]], str]:
    """What lsblk shows of such a disk, and everything printed."""
    with tempfile.TemporaryDirectory(prefix="paean-disk-") as folder:
        path = os.path.join(folder, "disk")
        with open(path, "wb") as image:
            image.truncate(SECTORS * 512)
            for sector, block in blocks.items():
                image.seek(sector * 512)
                image.write(block)
        with harness.boot(memory="512M", append='run="lsblk" exit',
                          extra=("-drive", f"file={path},if=ide,format=raw")) as guest:
            status = guest.wait_exit(40)
            text = guest.text()
    check(status == qemu.PASS, f"ended with {qemu.describe_status(status)}")
    return [(name, int(sectors)) for name, sectors in LINE.findall(text)], text


def sound() -> None:
    shown, _ = devices({0: table({0: (0x83, 2048, 4096), 1: (0x05, 8192, 16384), 3: (0x82, 30000, 100)}),
                        8192: table({0: (0x83, 63, 1000), 1: (0x05, 4096, 2000)}),
                        12288: table({0: (0x83, 63, 500)})})
    expected = [("hda", SECTORS), ("hda1", 4096), ("hda4", 100), ("hda5", 1000), ("hda6", 500)]
    check(shown == expected, f"{shown} in place of {expected}")


def absurd() -> None:
    shown, text = devices({0: table({0: (0x83, 0, 100), 1: (0x05, 1000, 9000), 2: (0x83, 32767, 2),
                                     3: (0x83, 20000, 0xffffffff)}),
                           1000: table({0: (0x83, 10, 100), 1: (0x05, 0, 100)})})
    check(shown == [("hda", SECTORS), ("hda5", 100)], f"{shown}")
    for complaint in ("partition 1 begins at the table itself", "partition 3 runs over the end",
                      "partition 4 runs over the end", "leads to sector 1000"):
        check(complaint in text, f"no word of `{complaint}`")


def noise(seed: int) -> None:
    source = random.Random(seed)
    kinds = (0, 0x83, 0x05, 0x0f, 0x82)
    blocks = {sector: table({i: (source.choice(kinds), source.randrange(1 << source.randrange(1, 33)),
                                 source.randrange(1 << source.randrange(1, 33))) for i in range(4)})
              for sector in (0, *(source.randrange(SECTORS) for _ in range(20)))}
    shown, _ = devices(blocks)
    check(shown[:1] == [("hda", SECTORS)], "the disk itself is missing")


def cases(options) -> list[Case]:
    seeds = range(1, 21 if options.full else 3)
    return [Case("boot.partitions.sound", sound), Case("boot.partitions.absurd", absurd),
            *(Case(f"boot.partitions.noise_{seed}", lambda seed=seed: noise(seed)) for seed in seeds)]


if __name__ == "__main__":
    harness.main(__doc__, cases)
