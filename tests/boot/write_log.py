"""What a disk was told to write, in order, as QEMU's blklogwrites driver keeps it."""

import struct

from harness import check

LOG_MAGIC = 0x6a736677736872
LOG_FLUSH, LOG_FUA, LOG_DISCARD, LOG_MARK = 1, 2, 4, 8


class WriteLog:
    """What QEMU's blklogwrites has written: a superblock, then for each write its record and its data, in sectors."""

    def __init__(self, path: str):
        with open(path, "rb") as file:
            self.data = file.read()
        magic, version, _, sector = struct.unpack_from("<QQQI", self.data)
        check(magic == LOG_MAGIC and version == 1, "not a log of writes")
        self.entries = []  # (offset on the disk, place in the log, bytes, flags)
        # The count in the superblock is of the last flush; what counts is what has been written.
        at = sector
        while at + sector <= len(self.data):
            start, sectors, flags, _ = struct.unpack_from("<QQQQ", self.data, at)
            at += sector
            size = 0 if flags & LOG_DISCARD else sectors * sector
            self.entries.append((start * sector, at, size, flags))
            at += size

    def replay(self, image: bytearray, numbers) -> None:
        for start, place, size, flags in (self.entries[number] for number in numbers):
            check(not flags & (LOG_DISCARD | LOG_MARK), "an entry that nobody asked for")
            image[start:start + size] = self.data[place:place + size]

    def flushed_before(self, end: int) -> int:
        """The entries before this one are on the medium when the power goes after `end` of them."""
        return max((n + 1 for n in range(end) if self.entries[n][3] & LOG_FLUSH), default=0)
