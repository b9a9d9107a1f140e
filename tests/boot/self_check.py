#!/usr/bin/python3
"""Tests of the tests: the model against a naive one, the generators, and that the harness does not believe lies."""

import random

import harness
import map_generator
import matrix
import model
import pairwise
import qemu
import shim
from harness import Case, check
from model import PAGE, Entry


def naive_usable(entries: list[Entry], pages: int, phys_bits: int) -> list[bool]:
    """Byte by byte, as the rules are written. Only for a world of a few pages."""
    size = pages * PAGE
    good, bad = bytearray(size), bytearray(size)
    for entry in entries[:model.MAX_ENTRIES]:
        begin, end = min(entry.base, size), min(entry.end(), size)
        target = good if entry.kind == model.USABLE else bad
        for at in range(begin, end):
            target[at] = 1
    limit = 1 << phys_bits
    return [page > 0 and page * PAGE < limit and all(good[page * PAGE:(page + 1) * PAGE])
            and not any(bad[page * PAGE:(page + 1) * PAGE]) for page in range(pages)]


def model_agrees(seed: int) -> str:
    rng = random.Random(seed)
    pages = 6
    for _ in range(30):
        bits = rng.choice([40, 40, 14])
        lengths = [0, 1, rng.randint(0, 3 * PAGE), PAGE, (1 << 64) - 1]
        entries = [Entry(rng.randint(0, pages * PAGE), rng.choice(lengths), rng.choice([1, 1, 1, 2, 3, 99]))
                   for _ in range(rng.randint(0, 8))]
        entries = [Entry(e.base // PAGE * PAGE if rng.random() < 0.5 else e.base, e.length, e.kind) for e in entries]
        ranges = model.usable_ranges(entries, bits)
        expected = naive_usable(entries, pages, bits)
        shown = [any(b <= page * PAGE < e for b, e in ranges) for page in range(pages)]
        check(shown == expected, f"{entries}: model {shown}, naive {expected}")
        check(sum(model.zone_pages(ranges, 4 * PAGE).values()) == model.pages(ranges), "the zones do not add up")
    return ""


def maps_are_honest() -> str:
    """No scenario promises memory that its machine does not have; all kinds of size and count occur."""
    counts = set()
    for seed in range(400):
        scenario = map_generator.scenario(seed, (0x100000, 0x300000))
        ram = model.machine_ram(qemu.parse_size(scenario.memory), scenario.machine)
        for entries in scenario.accepted:
            counts.add(len(entries))
            for begin, end in model.usable_ranges(entries, map_generator.PHYS_BITS):
                check(any(b <= begin and end <= e for b, e in ram), f"seed {seed} promises {begin:x}-{end:x}")
        again = map_generator.scenario(seed, (0x100000, 0x300000))
        check(again.state.pack() == scenario.state.pack(), f"seed {seed} gives two different blobs")
    check({1, 256} <= counts, "no map with 1 or with 256 entries")
    return f"{len(counts)} different lengths"


def pairs_are_covered() -> str:
    rows = pairwise.rows(matrix.FACTORS, matrix.allowed, matrix.FIRST)
    missing = pairwise.missing_pairs(matrix.FACTORS, matrix.allowed)
    total = len(missing)
    for row in rows:
        for pair in pairwise.pairs_of(row):
            missing.pop(pair, None)
    check(not missing, f"{len(missing)} pairs are in no row")
    left = pairwise.missing_pairs(matrix.FACTORS, matrix.allowed)
    for row in rows[:matrix.NORMAL_ROWS]:
        for pair in pairwise.pairs_of(row):
            left.pop(pair, None)
    return f"{total} pairs in {len(rows)} rows, {total - len(left)} of them in the first {matrix.NORMAL_ROWS}"


def fails(action, text: str) -> None:
    """`action` must end in a failure that says `text`."""
    try:
        action()
    except qemu.GuestFailure as failure:
        check(text in str(failure), f"failed with `{failure}` and not with `{text}`")
        return
    raise harness.CheckFailure(f"nobody noticed: {text}")


def shim_refuses() -> str:
    """A broken blob ends with the shim's own status, not with one that could be the kernel's."""
    state = shim.plain_handover([Entry(0, 1 << 20)])
    state.copy(shim.SHIM_RESERVED[0], b"over the shim itself")
    with shim.shim_config("self-check", state, memory="64M") as config:
        with harness.GuestScope(config) as guest:
            check(guest.wait_exit(20) == 39, "the shim did not refuse")
            check("shim: a target lies in the shim" in guest.text(), "the shim did not say why")
    return ""


def silence_is_noticed() -> str:
    # No kernel at all: the BIOS finds nothing to boot and waits.
    def wait_for_nothing():
        with qemu.Guest(qemu.GuestConfig(memory="64M", silence=1.0)) as guest:
            guest.expect(b"never", 10)

    fails(wait_for_nothing, "silent for 1 s")
    return ""


def memory_limit_is_noticed() -> str:
    def use_too_much():
        with qemu.Guest(qemu.GuestConfig(memory="64M", rss_limit=1 << 20)) as guest:
            guest.expect(b"never", 10)

    fails(use_too_much, "more than allowed")
    return ""


def reset_is_no_pass() -> str:
    # With -no-reboot a triple fault ends QEMU as `quit` does: with status 0.
    def quit_early():
        with qemu.Guest(qemu.GuestConfig(memory="64M")) as guest:
            guest.monitor("quit")
            guest.expect(b"never", 10)

    fails(quit_early, "status 0")
    return ""


def cases(options) -> list[Case]:
    named = [(f"model-{seed}", lambda seed=seed: model_agrees(seed)) for seed in range(4)]
    named += [("maps_are_honest", maps_are_honest), ("pairs_are_covered", pairs_are_covered),
              ("shim_refuses", shim_refuses), ("silence_is_noticed", silence_is_noticed),
              ("memory_limit_is_noticed", memory_limit_is_noticed), ("reset_is_no_pass", reset_is_no_pass)]
    return [Case(f"boot.self.{name}", run, f"tests/boot/self_check.py --only 'boot.self.{name}'")
            for name, run in named]


if __name__ == "__main__":
    harness.main(__doc__, cases)
