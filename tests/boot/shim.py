"""Blobs for the shim, and what a Multiboot loader may say: the information block, memory maps, command lines.

See shim/blob.hpp for the format. A blob is made from a Handover, written beside the shim, and handed to QEMU as its
second module; `shim_config` gives the guest that boots the kernel under test with it.
"""

import contextlib
import dataclasses
import os
import random
import struct
import subprocess
import threading
import zlib

from harness import kernel_path, shim_directory
from model import Entry
from qemu import GuestConfig

MULTIBOOT_MAGIC = 0x2BADB002
FLAG_MEMORY, FLAG_BOOT_DEVICE, FLAG_CMDLINE, FLAG_MODULES, FLAG_MMAP = 1, 2, 4, 8, 64

BLOB_MAGIC, BLOB_VERSION = 0x4D485350, 1
A20_OFF, ZERO_BSS, UART_TOUCH, LOSE_GDT = 1, 2, 4, 8
RECORD_COPY, RECORD_FILL = 1, 2

# EFLAGS bits that a loader may leave: carry .. overflow, direction, IOPL, nested task, alignment check, ID. Not TF and
# IF (Multiboot wants interrupts off), VM and RF.
EFLAGS_JUNK = 0x00247CD5
CR0_JUNK = 0x0005002E  # AM, WP, NE, TS, EM, MP
CR4_JUNK = 0x000000BF  # VME, PVI, TSD, DE, PSE, PAE, PGE: what every CPU with PAE since the Pentium II has

# Where things go unless a test says otherwise: even megabytes, apart from the kernel (1 MiB) and the shim (16 MiB).
INFO_ADDRESS = 0x00C00000
MMAP_ADDRESS = 0x00C10000
CMDLINE_ADDRESS = 0x00E00000
SHIM_RESERVED = (0x01000000, 0x02000000)  # the shim and its modules: nothing else may be put here

_strip_lock = threading.Lock()


@dataclasses.dataclass
class Uart:
    divisor: int = 1
    interrupts: int = 0
    fifo: int = 0
    modem: int = 0
    line: int = 3

    def pack(self) -> bytes:
        return struct.pack("<HBBBB2x", self.divisor, self.interrupts, self.fifo, self.modem, self.line)


@dataclasses.dataclass
class Handover:
    """The state in which the kernel finds the machine."""

    eax: int = MULTIBOOT_MAGIC
    ebx: int = INFO_ADDRESS
    registers: tuple[int, ...] = (0,) * 6  # ecx edx esi edi ebp esp
    eflags: int = 2
    cr0_set: int = 0
    cr3: int = 0
    cr4_set: int = 0
    flags: int = 0
    uart: Uart | None = None
    records: list[bytes] = dataclasses.field(default_factory=list)

    def copy(self, target: int, data: bytes) -> None:
        self.records.append(struct.pack("<4I", RECORD_COPY, target, len(data), 0) + data + bytes(-len(data) % 4))

    def fill(self, target: int, length: int, value: int) -> None:
        self.records.append(struct.pack("<4I", RECORD_FILL, target, length, value))

    def junk(self, rng: random.Random) -> None:
        """Everything that Multiboot leaves undefined gets a random value."""
        self.registers = tuple(rng.getrandbits(32) for _ in range(6))
        self.eflags = 2 | (rng.getrandbits(32) & EFLAGS_JUNK)
        self.cr0_set = rng.getrandbits(32) & CR0_JUNK
        self.cr3 = rng.getrandbits(32) & 0xFFFFFFE0
        self.cr4_set = rng.getrandbits(32) & CR4_JUNK
        self.flags |= LOSE_GDT if rng.random() < 0.5 else 0
        if rng.random() < 0.7:
            # Loop-back, 5-bit characters, the slowest rate, an open divisor latch, interrupts on: anything.
            self.uart = Uart(rng.choice([1, 12, 0xFFFF, rng.getrandbits(16)]), rng.getrandbits(4),
                             rng.choice([0, 1, 0xC7]), rng.getrandbits(5), rng.getrandbits(8))

    def pack(self) -> bytes:
        flags = self.flags | (UART_TOUCH if self.uart else 0)
        body = b"".join(self.records)
        header = struct.pack("<17I", BLOB_MAGIC, BLOB_VERSION, 76 + len(body), len(self.records), flags, self.eax,
                             self.ebx, *self.registers, self.eflags, self.cr0_set, self.cr3, self.cr4_set)
        return header + (self.uart or Uart()).pack() + body


def information(flags: int, *, mem_lower: int = 0, mem_upper: int = 0, cmdline: int = 0, mods_count: int = 0,
                mods_addr: int = 0, mmap_length: int = 0, mmap_addr: int = 0, filler: int = 0) -> bytes:
    """A Multiboot information block of 88 bytes; fields that nobody names hold `filler`."""
    return struct.pack("<14I", flags, mem_lower, mem_upper, filler, cmdline, mods_count, mods_addr, filler, filler,
                       filler, filler, mmap_length, mmap_addr, filler) + struct.pack("<8I", *[filler] * 8)


def mmap_bytes(entries: list[Entry], sizes: list[int], filler: int = 0) -> bytes:
    """Entries as a loader lays them out: each is preceded by the size of what follows."""
    result = bytearray()
    for entry, size in zip(entries, sizes):
        body = struct.pack("<QQI", entry.base, entry.length & ((1 << 64) - 1), entry.kind)
        result += struct.pack("<I", size) + body[:size] + bytes([filler]) * (size - len(body))
    return bytes(result)


def plain_handover(entries: list[Entry], cmdline: bytes = b"", sizes: list[int] | None = None) -> Handover:
    """A well-formed loader with this memory map."""
    state = Handover()
    table = mmap_bytes(entries, sizes or [20] * len(entries))
    state.copy(MMAP_ADDRESS, table)
    state.copy(CMDLINE_ADDRESS, cmdline + b"\0")
    state.copy(INFO_ADDRESS, information(FLAG_CMDLINE | FLAG_MMAP, cmdline=CMDLINE_ADDRESS, mmap_length=len(table),
                                         mmap_addr=MMAP_ADDRESS))
    return state


def stripped_kernel() -> str:
    """The kernel without its debugging sections: the shim needs the segments only, and small guests are small.

    The name tells which file it was made from, so that runs on different kernels do not disturb each other.
    """
    source = kernel_path()
    state = os.stat(source)
    stamp = zlib.crc32(f"{os.path.abspath(source)} {state.st_mtime_ns} {state.st_size}".encode())
    target = os.path.join(shim_directory(), f"kernel-{stamp:08x}.elf")
    with _strip_lock:
        if not os.path.exists(target):
            subprocess.run(["objcopy", "--strip-all", source, f"{target}.{os.getpid()}"], check=True)
            os.replace(f"{target}.{os.getpid()}", target)
    return target


def kernel_image() -> tuple[int, int]:
    """Physical bytes of the kernel's segments, from its program headers, as whole pages."""
    with open(kernel_path(), "rb") as file:
        data = file.read(65536)
    offset, = struct.unpack_from("<I", data, 28)
    entry_size, count = struct.unpack_from("<HH", data, 42)
    spans = []
    for i in range(count):
        kind, _, _, address, _, length = struct.unpack_from("<6I", data, offset + i * entry_size)
        if kind == 1 and length:
            spans.append((address, address + length))
    return min(s[0] for s in spans) // 4096 * 4096, -(-max(s[1] for s in spans) // 4096) * 4096


@contextlib.contextmanager
def shim_config(name: str, state: Handover, **settings):
    """The guest that boots the kernel under test through the shim; the blob is kept only if the block fails."""
    directory = shim_directory()
    blob = os.path.join(directory, f"{name}-{os.getpid()}.blob")
    with open(blob, "wb") as file:
        file.write(state.pack())
    yield GuestConfig(kernel=os.path.join(directory, "shim.elf"), modules=(stripped_kernel(), blob),
                      small_firmware=True, **settings)
    os.unlink(blob)
