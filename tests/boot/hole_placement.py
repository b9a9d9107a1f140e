#!/usr/bin/python3
"""Holes in low memory, wherever they are: a machine boots as long as enough lowmem is left in total.

The kernel needs room for its frame array (64 MiB at 64 GB) and must not want it in one piece, nor at a certain place.
"""

import accounting
import harness
import model
import qemu
import shim
from harness import Case
from model import GIB, MIB, Entry

LARGE_PAGE = 2 * MIB


def holes(size: str, *cut: tuple[int, int]) -> list[Entry]:
    """The RAM of the machine without the given MiB."""
    ram = model.subtract(model.machine_ram(qemu.parse_size(size)), [(a * MIB, b * MIB) for a, b in cut])
    return [Entry(begin, end - begin) for begin, end in ram]


def striped(size: str, stripe: int, period: int, until: int) -> list[Entry]:
    """Every `period` bytes only the first `stripe` below `until` are there (but all of the first 16 MiB)."""
    gaps = [(at + stripe, at + period) for at in range(16 * MIB, until, period)]
    ram = model.subtract(model.machine_ram(qemu.parse_size(size)), gaps)
    return [Entry(begin, end - begin) for begin, end in ram]


LAYOUTS = {
    "below-16M": ("4G", holes("4G", (8, 15))),
    "15-16M": ("64G", holes("64G", (15, 16))),
    "16M-512M": ("64G", holes("64G", (16, 512))),
    "64M-640M": ("64G", holes("64G", (64, 640))),
    "200M-900M": ("64G", holes("64G", (200, 900))),
    "256M-2G": ("64G", holes("64G", (256, 2048))),
    "512M-4G": ("64G", holes("64G", (512, 4096))),
    "around-896M": ("4G", holes("4G", (890, 891), (895, 897), (900, 1000))),
    "only-512M-low-then-48G": ("64G", holes("64G", (512, 16384))),
    "two-islands": ("64G", holes("64G", (24, 300), (460, 600), (760, 3000))),
    # 2 MiB of every 4 MiB: half of lowmem, and no 4 MiB block anywhere in it. 125 entries.
    "striped-large-pages": ("64G", striped("64G", LARGE_PAGE, 2 * LARGE_PAGE, 512 * MIB)),
    # Pieces that no large page fits into. 252 entries.
    "striped-1M": ("16G", striped("16G", MIB, 2 * MIB, 500 * MIB)),
    "no-memory-below-1M": ("1G", [Entry(MIB, GIB - MIB - 128 * 1024)]),
    "hole-at-image-end": ("128M", None),
}


def run_layout(name: str) -> str:
    size, entries = LAYOUTS[name]
    if entries is None:  # the page behind the kernel image is not there
        end = shim.kernel_image()[1]
        entries = [Entry(MIB, end - MIB), Entry(end + 4096, 127 * MIB - end)]
    with shim.shim_config(f"hole-{name}", shim.plain_handover(entries, b"panic=exit"), memory=size) as config:
        with harness.GuestScope(config) as guest:
            guest.expect_prompt(40)
            memory = accounting.check_all(guest, guest.text(), [entries])
            return f"{len(entries)} entries, LowTotal {memory['LowTotal']} kB, LowFree {memory['LowFree']} kB"


def cases(options) -> list[Case]:
    return [Case(f"boot.hole.{name}", lambda name=name: run_layout(name),
                 f"tests/boot/hole_placement.py --only 'boot.hole.{name}'") for name in LAYOUTS]


if __name__ == "__main__":
    harness.main(__doc__, cases)
