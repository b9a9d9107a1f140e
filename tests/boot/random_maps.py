#!/usr/bin/python3
"""Boots the kernel through the shim with random memory maps and random Multiboot garbage.

Each seed is one guest. It must reach the prompt with exactly the pages that the model counts, zone by zone, or refuse
with one clear line and status 35; a map with ample memory around the kernel may not be refused.

    tests/boot/random_maps.py                   200 seeds
    tests/boot/random_maps.py --seeds 17-17     one seed, for a failure
    tests/boot/random_maps.py --seeds 0-19999   as many as you like
"""

import accounting
import harness
import map_generator
import qemu
import shim
from harness import Case, check

NORMAL_SEEDS = range(0, 200)
FULL_SEEDS = range(0, 2000)
REFUSAL = "Paean cannot boot:"


def check_refusal(guest: qemu.Guest) -> None:
    """The guest has said that it cannot boot: it must say so once and end with status 35."""
    status = guest.wait_exit(10)
    lines = [line for line in guest.text().splitlines() if REFUSAL in line]
    check(status == qemu.FAIL, f"refused, but ended with {qemu.describe_status(status)}")
    check(len(lines) == 1, f"{len(lines)} lines with `{REFUSAL}`")
    check(len(lines[0].split(REFUSAL)[1].strip()) >= 10, "the refusal gives no reason")


def run_seed(seed: int) -> str:
    scenario = map_generator.scenario(seed, shim.kernel_image())
    name = f"seed-{seed}"
    with shim.shim_config(name, scenario.state, memory=scenario.memory, machine=scenario.machine) as config:
        with harness.GuestScope(config) as guest:
            try:
                found = guest.expect(qemu.PROMPT + rb"|" + REFUSAL.encode(), 40)
                if REFUSAL.encode() in found[0]:
                    check_refusal(guest)
                    check(scenario.may_refuse, "refused a map with ample memory")
                    return f"{scenario.title}: refused"
                check(bool(scenario.accepted), "booted although there is no memory map to believe")
                accounting.check_all(guest, guest.text(), scenario.accepted, map_generator.PHYS_BITS)
            except qemu.GuestFailure as failure:
                raise type(failure)(f"{scenario.title}: {failure}") from failure
    return f"{scenario.title}: booted"


def seed_case(seed: int) -> Case:
    return Case(f"boot.random_map.{seed}", lambda: run_seed(seed), f"tests/boot/random_maps.py --seeds {seed}-{seed}")


def chosen_seeds(options, normal: range, full: range) -> range:
    text = getattr(options, "seeds", None)
    if text:
        first, _, last = text.partition("-")
        return range(int(first), int(last or first) + 1)
    return full if options.full else normal


def cases(options) -> list[Case]:
    return [seed_case(seed) for seed in chosen_seeds(options, NORMAL_SEEDS, FULL_SEEDS)]


if __name__ == "__main__":
    arguments = harness.arguments(__doc__)
    arguments.add_argument("--seeds", metavar="A-B", help="these seeds and no others")
    harness.main(__doc__, cases, arguments)
