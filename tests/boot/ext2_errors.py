#!/usr/bin/python3
"""Sectors of an ext2 volume fail, chosen at random: what the guest acknowledged is on the medium, and nothing is wrong
without a word.

QEMU's blkdebug fails 200 sectors, each for reads or for writes, once or for ever. Files are written and synced one by
one. Afterwards the host looks at the image without blkdebug: a file whose every command succeeded has its contents, and
who reads in the guest gets what was there before, or an error.
"""

import os
import random
import re

import harness
from ext2 import Volume, command, contents, expected_sum, tool
from files import filled
from harness import Case, check

FILES, MOST_BYTES = 60, 40_000
FAILED = re.compile(r"input/output error|read-only|corrupt|not found")  # not found: it could not be made


def write_rules(path: str, numbers: random.Random, sectors: list[int]) -> None:
    with open(path, "w", encoding="ascii") as file:
        for sector in sectors:
            event, once = numbers.choice(("read_aio", "write_aio")), numbers.choice(("on", "off"))
            file.write(f'[inject-error]\nevent = "{event}"\nerrno = "5"\nsector = "{sector}"\nonce = "{once}"\n')


def succeeds(guest, line: str) -> bool:
    """Whether the guest says nothing against it, or says why not."""
    text = command(guest, line, fails=True)
    said = f"{line.split()[0]}: " in text
    check(not said or FAILED.search(text) is not None, f"{line}: {text.strip()}")
    return not said


def read_all(guest, volume: Volume) -> int:
    """Files that were there before; how many of them cannot be read."""
    failed = 0
    for name in ("big", "old", "deep/er/small", "deep/file-7"):
        text = command(guest, f"cksum /mnt/{name}", fails=True)
        if expected_sum(f"/mnt/{name}", volume.files[name]) not in text:
            check(FAILED.search(text) is not None, f"{name} is wrong, and nobody says so: {text.strip()}")
            failed += 1
    return failed


def write_all(guest, numbers: random.Random) -> dict[str, bytes | None]:
    """New files and what they must hold on the medium; None for those of which the guest has said that they failed."""
    written: dict[str, bytes | None] = {}
    for i in range(FILES):
        name, size = f"new-{i}", numbers.randrange(1, MOST_BYTES)
        data = filled(size, i + 1)
        well = succeeds(guest, f"fill /mnt/{name} {size} {i + 1}")
        if i % 3 == 0 and well:
            well = succeeds(guest, f"write -a /mnt/{name} more")
            data += b"more\n"
        # A sync after an error tells it as well, so that it is asked in any case.
        well = succeeds(guest, f"sync /mnt/{name}") and well
        written[name] = data if well else None
    return written


def change_more(guest) -> None:
    for line in ("ls /mnt/deep", "mkdir /mnt/d", "write /mnt/d/f text", "rm /mnt/old", "truncate -s 9 /mnt/big",
                 "sync"):
        succeeds(guest, line)


def leave(guest) -> None:
    if not succeeds(guest, "umount /mnt") and not succeeds(guest, "umount /mnt"):
        check("umount: " not in command(guest, "umount -f /mnt", fails=True), "the volume is not given up")
    for line in ("df", "mount"):
        check("/mnt" not in command(guest, line), "the volume is still mounted")


def sectors_of(seed: int, numbers: random.Random) -> list[int]:
    """Every other time some of the tables too, after which little is written any more."""
    tables = numbers.sample(range(4, 600), 12) if seed % 2 == 1 else []
    return tables + numbers.sample(range(1500, 7500), 200 - len(tables))


def with_errors(kind: str, seeds: range) -> str:
    kept = failed = unread = 0
    for seed in seeds:
        numbers = random.Random(seed)
        with Volume("-b 1024", 16) as volume:
            rules = os.path.join(volume.folder, "rules")
            write_rules(rules, numbers, sectors_of(seed, numbers))
            with harness.boot(memory="64G", extra=volume.drive(kind, f"blkdebug:{rules}:{volume.image}"),
                              append="panic=exit", timeout=180) as guest:
                guest.expect_prompt()
                command(guest, "mkdir /mnt")
                written = {}
                if succeeds(guest, f"mount {'hda' if kind == 'ide' else 'vda'} /mnt ext2"):
                    unread += read_all(guest, volume)
                    written = write_all(guest, numbers)
                    change_more(guest)
                    leave(guest)
                lost = int(re.search(r"(?m)^nr_lost (\d+)", command(guest, "vmstat"))[1])
            failures = sum(data is None for data in written.values())
            check(seed % 2 == 1 or failures == 0 or lost > 0, f"{failures} files failed, and no page counts as lost")
            tool("e2fsck", "-fy", volume.image, allowed=(0, 1))
            for name, data in written.items():
                check(data is None or contents(volume.image, name) == data,
                      f"seed {seed}: {name} was acknowledged, and is not on the medium")
            failed += failures
            kept += len(written) - failures
    check(min(kept, failed) >= 5 and unread > 0,
          f"{kept} files acknowledged, {failed} not, {unread} not read: nothing is proved")
    return f"{kept} files acknowledged and found, {failed} reported, {unread} not read"


def cases(options) -> list[Case]:
    seeds = range(60 if options.full else 10)
    return [Case(f"boot.ext2_errors.{kind}", lambda kind=kind: with_errors(kind, seeds)) for kind in ("ide", "virtio")]


if __name__ == "__main__":
    harness.main(__doc__, cases)
