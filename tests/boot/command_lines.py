#!/usr/bin/python3
"""Random command lines: any bytes, any length up to 64 KiB, known words with mad values. None may crash the boot.

    tests/boot/command_lines.py --seeds 5-5     one seed, for a failure
"""

import random

import accounting
import harness
import model
import qemu
import random_maps
import shim
from harness import Case, check
from model import MIB, Entry

NORMAL_SEEDS = range(0, 40)
FULL_SEEDS = range(0, 500)
MEMORY = "128M"
MAP = [Entry(begin, end - begin) for begin, end in model.machine_ram(128 * MIB)]
LONGEST = 65536

# Words that say how the boot ends are tested elsewhere, with values that mean something.
KEYS = ["vmalloc", "vmalloc_upper", "vmsplit", "pkmap", "kmap", "vfallback", "nosmp", "maxcpus", "console", "loglevel",
        "root", "init", "selftest.seed", "fault", "highmem", "foo", "BOOT_IMAGE", "=", "mem", "memmap"]
VALUES = ["", "0", "-1", "99999999999999999999999999", "0x", "0xffffffffffffffff", "1T1", "3.5", "G", "120M\xff", "@",
          "$$$", "1@", "@1", "%s%n%x", "{}", "{:x}", "\"", "\"\"", "\"a b", "18446744073709551616K",
          "ttyS9,0", "ttyS0,0", "\x1b[2J"]
# With these the amount of memory that is left may be anything.
MEMORY_KEYS = {"mem", "memmap", "highmem"}


def noise(rng: random.Random) -> bytes:
    """Bytes without a NUL that are not an order by accident."""
    length = rng.choice([0, 1, 2, 100, 511, 512, 4095, 4096, 4097, 16384, LONGEST - 1, LONGEST,
                         rng.randint(0, LONGEST)])
    style = rng.randrange(4)
    if style == 0:
        return bytes(rng.randint(1, 255) for _ in range(length))
    if style == 1:
        return bytes(rng.choice(b"ab =\t,;\"'") for _ in range(length))
    if style == 2:
        return bytes([rng.choice(b" \"=A\xff\x80\n\x1b")]) * length
    return bytes(rng.randint(128, 255) for _ in range(length))


def words(rng: random.Random) -> bytes:
    result = []
    for _ in range(rng.choice([1, 3, 20, 300])):
        word = rng.choice(KEYS)
        if rng.random() < 0.8:
            word += "=" + rng.choice(VALUES)
        result.append(word)
    return rng.choice([" ", "  ", "\t", "\n"]).join(result).encode("latin-1")[:LONGEST]


def command_line(seed: int) -> tuple[bytes, bool]:
    """The line, and whether it may change the amount of memory."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        return noise(rng), False
    line = words(rng)
    return line, any(key.encode() + b"=" in line for key in MEMORY_KEYS)


def run_seed(seed: int) -> str:
    line, may_shrink = command_line(seed)
    state = shim.plain_handover(MAP, line)
    with shim.shim_config(f"cmdline-{seed}", state, memory=MEMORY) as config:
        with harness.GuestScope(config) as guest:
            if may_shrink:
                found = guest.expect(qemu.PROMPT + b"|" + random_maps.REFUSAL.encode(), 40)
                if random_maps.REFUSAL.encode() in found[0]:
                    random_maps.check_refusal(guest)
                    return "refused"
            else:
                guest.expect_prompt(40)
                accounting.check_all(guest, guest.text(), [MAP])
            log = guest.text()
            if line.isalnum() and line.isascii() and line.decode() not in KEYS:
                check("nknown" in log, "an unknown word is not mentioned")
            control = [c for c in guest.output if c < 32 and c not in b"\r\n\t\b\x1b\a" or c > 126]
            check(not control, f"raw bytes of the command line reached the console: {bytes(control[:20])!r}")
            guest.command("help")
    return f"{len(line)} bytes"


def seed_case(seed: int) -> Case:
    return Case(f"boot.cmdline.{seed}", lambda: run_seed(seed), f"tests/boot/command_lines.py --seeds {seed}-{seed}")


def cases(options) -> list[Case]:
    return [seed_case(seed) for seed in random_maps.chosen_seeds(options, NORMAL_SEEDS, FULL_SEEDS)]


if __name__ == "__main__":
    arguments = harness.arguments(__doc__)
    arguments.add_argument("--seeds", metavar="A-B", help="these seeds and no others")
    harness.main(__doc__, cases, arguments)
