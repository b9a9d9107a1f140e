#!/usr/bin/python3
"""Machines as odd loaders leave them: A20 closed, junk in every register that Multiboot leaves open, the UART in
loop-back, the information block at awkward addresses, the longest tables. All of these must boot, with all their pages.
"""

import random

import accounting
import harness
import model
import qemu
import shim
from harness import Case
from model import MIB, Entry

MEMORY = "128M"
RAM = model.machine_ram(128 * MIB)
MAP = [Entry(begin, end - begin) for begin, end in RAM]
TOP = RAM[-1][1]


def plain(_rng: random.Random) -> shim.Handover:
    return shim.plain_handover(MAP, b"panic=exit")


def junk(rng: random.Random) -> shim.Handover:
    state = plain(rng)
    state.junk(rng)
    return state


def a20_off(rng: random.Random) -> shim.Handover:
    # The shim copies the kernel's first odd megabyte to its alias, so the first instructions run; what they write there
    # before the gate opens is lost.
    state = junk(rng)
    state.flags |= shim.A20_OFF
    return state


def uart_loop_back(rng: random.Random) -> shim.Handover:
    state = plain(rng)
    state.uart = shim.Uart(divisor=0xFFFF, interrupts=0x0F, fifo=0, modem=0x1F, line=0xC0)
    return state


def no_gdt(rng: random.Random) -> shim.Handover:
    state = plain(rng)
    state.flags |= shim.LOSE_GDT
    state.registers = (0xFFFFFFFF,) * 6
    state.eflags = 2 | shim.EFLAGS_JUNK
    state.cr0_set, state.cr4_set, state.cr3 = shim.CR0_JUNK, shim.CR4_JUNK, 0xFFFFFFE0
    return state


def information_at_top(_rng: random.Random) -> shim.Handover:
    """Information, map and command line are the last bytes of RAM, unaligned; the command line has no NUL."""
    state = shim.Handover()
    table = shim.mmap_bytes(MAP, [20] * len(MAP))
    cmdline = b"panic=exit" + b" " * 100
    at = TOP - len(cmdline)
    state.copy(at, cmdline)
    state.copy(at - len(table), table)
    state.ebx = at - len(table) - 88
    state.copy(state.ebx, shim.information(shim.FLAG_CMDLINE | shim.FLAG_MMAP, cmdline=at, mmap_length=len(table),
                                           mmap_addr=at - len(table)))
    return state


def information_low(_rng: random.Random) -> shim.Handover:
    """All of it below 1 MiB, where many loaders put it; the information block at an odd address."""
    state = shim.Handover()
    table = shim.mmap_bytes(MAP, [20] * len(MAP))
    state.copy(0x90001, b"panic=exit\0")
    state.copy(0x91003, table)
    state.ebx = 0x92005
    state.copy(state.ebx, shim.information(shim.FLAG_CMDLINE | shim.FLAG_MMAP, cmdline=0x90001, mmap_length=len(table),
                                           mmap_addr=0x91003))
    return state


def longest_table(_rng: random.Random) -> shim.Handover:
    return shim.plain_handover(LONG_MAP, b"panic=exit", [64] * len(LONG_MAP))


def too_long_table(_rng: random.Random) -> shim.Handover:
    return shim.plain_handover(TOO_LONG_MAP, b"panic=exit")


# 256 entries that all count: the image's memory, then every other page of what follows.
LONG_MAP = MAP[:1] + [Entry(MIB, 63 * MIB)] + [Entry(64 * MIB + i * 8192, 4096) for i in range(254)]
TOO_LONG_MAP = LONG_MAP + [Entry(100 * MIB + i * 8192, 4096) for i in range(100)]


def run_state(name: str, make_state, entries: list[Entry], seed: int, machine: str) -> str:
    state = make_state(random.Random(seed))
    with shim.shim_config(f"{name}-{machine}-{seed}", state, memory=MEMORY, machine=machine) as config:
        with harness.GuestScope(config) as guest:
            guest.expect_prompt(30)
            memory = accounting.check_all(guest, guest.text(), [entries])
            return f"MemTotal {memory['MemTotal']} kB"


STATES = [("plain", plain, MAP, 1), ("junk", junk, MAP, 4), ("a20_off", a20_off, MAP, 3),
          ("uart_loop_back", uart_loop_back, MAP, 1), ("no_gdt", no_gdt, MAP, 1),
          ("information_at_top", information_at_top, MAP, 1), ("information_low", information_low, MAP, 1),
          ("longest_table", longest_table, LONG_MAP, 1), ("too_long_table", too_long_table, TOO_LONG_MAP, 1)]


def cases(options) -> list[Case]:
    result = []
    for name, make_state, entries, seeds in STATES:
        for machine in ("pc", "q35"):
            for seed in range(seeds * (10 if options.full and seeds > 1 else 1)):
                full = f"boot.loader.{name}-{machine}" + (f"-{seed}" if seeds > 1 else "")
                result.append(Case(full, lambda n=name, f=make_state, e=entries, s=seed, m=machine:
                                   run_state(n, f, e, s, m), f"tests/boot/loader_state.py --full --only '{full}'"))
    return result


if __name__ == "__main__":
    harness.main(__doc__, cases)
