"""Damaged ext2 volumes: fields of the structures that matter, with values that are wrong in interesting ways.

Two kinds: mutated at random (up to four fields of one image), and made by hand, one field each. Offsets are those of
include/kernel/fs/ext2_layout.hpp.
"""

import os
import random
import struct
import tempfile

import harness
from ext2 import random_bytes, tool

SUPER = 1024
ROOT_INODE, DIRECT = 2, 12
BLOCKS, FIRST_DATA_BLOCK, LOG_BLOCK, REVISION, INODE_BYTES = 4, 20, 24, 76, 88  # of the superblock
MODE, SIZE, LINKS, BLOCKS_512, FLAGS, POINTERS, ATTRIBUTES, SIZE_HIGH = 0, 4, 26, 28, 32, 40, 104, 108  # of an inode
KIB = 1024


def sound(options: str, kib: int) -> bytes:
    """A small volume with one of everything: holes, links, directories, pointers of several depths."""
    with tempfile.TemporaryDirectory(prefix="ext2-sound-", dir=harness.build_directory()) as folder:
        source, image = os.path.join(folder, "source"), os.path.join(folder, "image")
        os.makedirs(os.path.join(source, "d/e"))
        for name, data in {"big": random_bytes(300_000, 1), "d/some": random_bytes(20_000, 2), "holes": b""}.items():
            with open(os.path.join(source, name), "wb") as file:
                file.write(data)
        with open(os.path.join(source, "holes"), "r+b") as file:
            file.seek(1_500_000)
            file.write(b"x")
        os.symlink("d/some", os.path.join(source, "link"))
        os.symlink("l" * 90, os.path.join(source, "slow"))
        os.link(os.path.join(source, "d/some"), os.path.join(source, "hard"))
        for i in range(5):
            with open(os.path.join(source, f"d/e/name-{i}"), "wb"):
                pass
        tool("mke2fs", "-q", "-F", "-t", "ext2", *options.split(), "-d", source, image, f"{kib}k")
        with open(image, "rb") as file:
            return file.read()


class Victim:
    """A volume and the places in it."""

    def __init__(self, image: bytes):
        self.image = bytearray(image)
        self.blocks = self.word(SUPER + BLOCKS)
        self.shift = 10 + self.word(SUPER + LOG_BLOCK)
        self.group = self.at(self.word(SUPER + FIRST_DATA_BLOCK) + 1)
        self.block_bitmap, self.inode_bitmap, self.inode_table = (self.word(self.group + 4 * i) for i in range(3))
        self.inode_bytes = self.word(SUPER + INODE_BYTES) & 0xffff if self.word(SUPER + REVISION) else 128

    def word(self, place: int) -> int:
        return struct.unpack_from("<I", self.image, place)[0]

    def at(self, block: int) -> int:
        return block << self.shift

    def inode(self, number: int) -> int:
        return self.at(self.inode_table) + (number - 1) * self.inode_bytes

    def pointer(self, number: int, index: int) -> int:
        return self.inode(number) + POINTERS + 4 * index

    def contents(self, number: int, index: int) -> int:
        return self.at(self.word(self.pointer(number, index)))

    def find(self, folder: int, name: str) -> int:
        """The inode of a name in a directory's first block."""
        place = self.contents(folder, 0)
        while True:
            inode, record, length = struct.unpack_from("<IHB", self.image, place)
            if self.image[place + 8:place + 8 + length] == name.encode():
                return inode
            place += record

    def put(self, place: int, size: int, value: int) -> None:
        if place + size <= len(self.image):
            self.image[place:place + size] = (value % (1 << 8 * size)).to_bytes(size, "little")


class Mutator:
    """Damages a victim, each time somewhere else."""

    def __init__(self, victim: Victim, seed: int):
        self.victim = victim
        self.numbers = random.Random(seed)

    def below(self, limit: int) -> int:
        return self.numbers.randrange(limit)

    def some_inode(self) -> int:
        return self.victim.inode(ROOT_INODE if self.below(3) == 0 else 1 + self.below(24))

    def some_block(self) -> int:
        """One that a file of the first inodes points to, so that directories and tables of pointers are met."""
        choice = self.below(8)
        return self.victim.word(self.some_inode() + POINTERS + 4 * (DIRECT + choice if choice < 3 else choice - 3))

    def some_entry(self) -> int:
        """A field of one of the first entries, if the block is a directory's."""
        place = self.victim.at(self.some_block())
        for _ in range(self.below(8)):
            if place + 8 > len(self.victim.image):
                break
            place += self.victim.word(place + 4) & 0xffff
        return place + 4 * self.below(3)

    def place(self) -> int:
        victim = self.victim
        return self.numbers.choice((
            lambda: SUPER + 4 * self.below(64),
            lambda: victim.group + 4 * self.below(8),
            lambda: victim.at(self.numbers.choice((victim.block_bitmap, victim.inode_bitmap))) + 4 * self.below(32),
            lambda: self.some_inode() + 4 * self.below(32),
            lambda: self.some_inode() + POINTERS + 4 * self.below(15),
            self.some_entry,
            lambda: victim.at(self.some_block()) + 4 * self.below(64)))()

    def damage(self) -> None:
        victim, place = self.victim, self.place()
        if place + 4 > len(victim.image):
            return
        old = victim.word(place)
        victim.put(place, 4, self.numbers.choice((
            0, 1, 0xffffffff, victim.blocks - self.below(2), self.some_block(), victim.block_bitmap + self.below(4),
            old ^ 1 << self.below(32), old & 0xffff0000 | self.below(65536), old & 0xffff | self.below(65536) << 16,
            self.below(1 << 32))))


def mutated(image: bytes, seed: int) -> bytes:
    mutator = Mutator(Victim(image), seed)
    for _ in range(1 + mutator.below(4)):
        mutator.damage()
    return bytes(mutator.victim.image)


def of_super() -> list[tuple[int, int, int]]:
    """(offset, bytes, value) of fields that make a superblock absurd."""
    huge = 0xffffffff
    return [(56, 2, 0), (LOG_BLOCK, 4, 7), (LOG_BLOCK, 4, huge), (LOG_BLOCK, 4, 1), (28, 4, 3), (BLOCKS, 4, 0),
            (BLOCKS, 4, 1), (BLOCKS, 4, huge), (0, 4, 0), (0, 4, huge), (FIRST_DATA_BLOCK, 4, 0),
            (FIRST_DATA_BLOCK, 4, 2), (32, 4, 0), (32, 4, 7), (32, 4, 0xfffffff8), (40, 4, 0), (40, 4, 0x80000000),
            (INODE_BYTES, 2, 0), (INODE_BYTES, 2, 192), (INODE_BYTES, 2, 0x8000), (84, 4, 0), (84, 4, huge),
            (REVISION, 4, 2), (96, 4, huge), (12, 4, huge), (8, 4, huge), (58, 2, 2), (232, 4, 12), (206, 2, 0xffff)]


def of_group(victim: Victim) -> list[tuple[int, int, int]]:
    return [(0, 4, 0), (0, 4, 0xffffffff), (4, 4, 1), (8, 4, 1), (8, 4, 0xfffffff0), (8, 4, 1020),
            (4, 4, victim.block_bitmap), (12, 2, 0xffff), (14, 2, 0xffff), (16, 2, 0xffff)]


def of_files(victim: Victim) -> list[tuple[int, int, int]]:
    """(place, bytes, value) in inodes, tables of pointers and directory entries."""
    folder, big, link, slow = (victim.find(ROOT_INODE, name) for name in ("d", "big", "link", "slow"))
    some = victim.find(folder, "some")
    names, table = victim.contents(folder, 0), victim.contents(big, DIRECT)
    fields = [(ROOT_INODE, MODE, 2, 0x81a4), (ROOT_INODE, LINKS, 2, 0), (folder, SIZE, 4, 0), (folder, SIZE, 4, 1000),
              (folder, SIZE, 4, 0xfffffc00), (folder, MODE, 2, 0), (folder, LINKS, 2, 0),
              (big, SIZE_HIGH, 4, 0x80000000), (big, FLAGS, 4, 0x80000), (big, BLOCKS_512, 4, 4),
              (big, ATTRIBUTES, 4, 40), (link, SIZE, 4, 60), (link, SIZE, 4, 0xffffffff), (slow, SIZE, 4, 1024)]
    pointers = [(folder, 0, 0), (folder, 0, 0xffffffff), (folder, 0, 1), (big, 3, 0x7fffffff), (big, 3, 2),
                (big, 3, victim.word(victim.pointer(big, 5))), (big, DIRECT, victim.block_bitmap),
                (big, DIRECT + 1, victim.word(victim.pointer(big, DIRECT + 1)) + 1),
                (big, 4, victim.word(victim.pointer(some, 0))), (slow, 0, 0)]
    tables = [(table + 40, 4, 0xdeadbeef),
              (victim.contents(big, DIRECT + 1), 4, victim.word(victim.pointer(big, DIRECT + 1)))]
    entries = [(4, 2, 0), (4, 2, 11), (4, 2, 13), (4, 2, 0xfffc), (0, 4, 0xffffffff), (0, 4, 1), (6, 1, 0xff),
               (6, 1, 0), (24, 4, 0x00ffffff), (28, 2, 8), (32, 1, ord("/"))]
    return [*((victim.inode(number) + offset, size, value) for number, offset, size, value in fields),
            *((victim.pointer(number, index), 4, value) for number, index, value in pointers), *tables,
            *((names + offset, size, value) for offset, size, value in entries)]


def made_by_hand(image: bytes) -> list[bytes]:
    """Each with one field that is wrong. `image` has blocks of 1 KiB."""
    victim = Victim(image)
    damages = [(SUPER + offset, size, value) for offset, size, value in of_super()]
    damages += [(victim.group + offset, size, value) for offset, size, value in of_group(victim)]
    damages += of_files(victim)
    images = []
    for place, size, value in damages:
        damaged = Victim(image)
        damaged.put(place, size, value)
        harness.check(damaged.image != image, f"{size} bytes at {place} are {value:#x} anyway")
        images.append(bytes(damaged.image))
    return images
