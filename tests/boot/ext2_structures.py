#!/usr/bin/python3
"""Each structure of an ext2 volume cannot be read, or not be written: whoever needs it hears of it, the rest goes on.

One guest has a disk for each structure and direction, on which QEMU's blkdebug fails the sectors of that structure. The
driver's message proves that the rule was met where it was meant to be.
"""

import dataclasses
import json
import os
import re
import shutil
import struct

import harness
from ext2 import Volume, command, tool
from harness import Case, check

BLOCK, SECTOR = 1024, 512
# By the command, not in the log.
COMPLAINT = re.compile(r"^(\w+): .*(input/output error|read-only|corrupt)", re.MULTILINE)


@dataclasses.dataclass
class Structure:
    name: str
    block: int
    to_read: tuple[str, ...]  # commands that need it; {} is where the volume is mounted
    to_write: tuple[str, ...]


def number(volume: Volume, request: str, pattern: str) -> int:
    """The last number that debugfs says behind the pattern."""
    found = re.findall(pattern, tool("debugfs", "-R", request, volume.image))
    check(bool(found), f"debugfs {request} does not say {pattern}")
    return int(found[-1])


def structures(volume: Volume) -> list[Structure]:
    with open(volume.image, "rb") as file:
        file.seek(2 * BLOCK)
        block_bitmap, inode_bitmap, _ = struct.unpack("<III", file.read(12))
    old_inode = number(volume, "imap /old", r"located at block (\d+)")
    names = number(volume, "blocks /deep", r"(\d+)")
    pointers = number(volume, "stat /big", r"\(IND\):(\d+)")
    data = number(volume, "blocks /old", r"(\d+)")
    copy = ("cp {}/old {}/copy", "sync")
    return [Structure("superblock", 1, (), ("sync",)),
            Structure("group-descriptors", 2, (), copy),
            Structure("block-bitmap", block_bitmap, copy, copy),
            Structure("inode-bitmap", inode_bitmap, ("mkdir {}/d",), ("mkdir {}/d", "sync")),
            Structure("inode-table", old_inode, ("cat {}/old",), ("write -a {}/old more", "sync")),
            Structure("directory", names, ("ls {}/deep",), ("write {}/deep/more text", "sync")),
            Structure("indirect-block", pointers, ("cksum {}/big",), ("write -a {}/big more", "sync")),
            Structure("data", data, ("cksum {}/old",), ("write -a {}/old more", "sync"))]


@dataclasses.dataclass
class Disk:
    name: str
    image: str
    structure: Structure
    kind: str  # read or write

    def options(self) -> tuple[str, ...]:
        first = self.structure.block * BLOCK // SECTOR
        rules = [{"event": "none", "iotype": self.kind, "errno": 5, "sector": sector}
                 for sector in range(first, first + BLOCK // SECTOR)]
        node = json.dumps({"driver": "raw", "node-name": self.name, "file": {
            "driver": "blkdebug", "inject-error": rules, "image": {"driver": "file", "filename": self.image}}})
        return ("-blockdev", node, "-device", f"virtio-blk-pci,drive={self.name}")

    def use(self, guest) -> None:
        """Runs what needs the structure."""
        top = f"/{self.name}"
        what = f"{self.name}: {self.kind} of {self.structure.name}"
        command(guest, f"mkdir {top}")
        lines = [f"mount {self.name} {top} ext2"]
        lines += self.structure.to_read if self.kind == "read" else self.structure.to_write
        text = "".join(command(guest, line.replace("{}", top), fails=True) for line in [*lines, f"umount {top}"])
        check(bool(COMPLAINT.search(text)), f"{what}: nobody heard of it: {text}")
        first = self.structure.block * BLOCK // SECTOR
        failed = re.findall(rf"\b{self.name}: {self.kind} of (\d+) sectors at (\d+) failed", guest.text())
        check(any(int(at) <= first < int(at) + int(count) for count, at in failed),
              f"{what}: no transfer of sector {first} failed, only {failed}")


def each_structure() -> str:
    with Volume("-b 1024", 8) as volume:
        disks = []
        for structure in structures(volume):
            for kind in ("read", "write"):
                name = f"vd{chr(ord('a') + len(disks))}"
                image = os.path.join(volume.folder, f"{name}.img")
                shutil.copy(volume.image, image)
                disks.append(Disk(name, image, structure, kind))
        extra = [option for disk in disks for option in disk.options()]
        extra += ["-drive", f"if=ide,index=0,format=raw,file={volume.image}"]
        with harness.boot(memory="1G", extra=tuple(extra), append="panic=exit", timeout=120) as guest:
            guest.expect_prompt()
            for disk in disks:
                disk.use(guest)
            for line in ("mkdir /sound", "mount hda /sound ext2", "cp /sound/big /sound/copy", "umount /sound"):
                command(guest, line)
        for disk in disks:
            tool("e2fsck", "-fy", disk.image, allowed=(0, 1))
        volume.files["copy"] = volume.files["big"]
        volume.clean()
        volume.compare()
    return f"{len(disks)} disks"


def cases(options) -> list[Case]:
    return [Case("boot.ext2_structures.each", each_structure)]


if __name__ == "__main__":
    harness.main(__doc__, cases)
