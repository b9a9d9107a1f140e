#!/usr/bin/python3
"""Files at the console: every command that works on them, on the memory file system that is `/` without a disk.

What a file must hold is computed here, so that `cksum` and `hexdump` are checked against something that shares no code
with the kernel; where the host has its own, the two are compared too.
"""

import re
import shutil
import subprocess

import harness
import proc_text
from harness import Case, check

MEMORY = "512M"


def posix_cksum(data: bytes) -> int:
    """The CRC of POSIX's cksum, bit by bit."""
    crc, length, tail = 0, len(data), bytearray()
    while length:
        tail.append(length & 255)
        length >>= 8
    table = []
    for byte in range(256):
        entry = byte << 24
        for _ in range(8):
            entry = (entry << 1) ^ (0x04C11DB7 if entry & 0x80000000 else 0)
        table.append(entry & 0xFFFFFFFF)
    for byte in data + bytes(tail):
        crc = ((crc << 8) & 0xFFFFFFFF) ^ table[(crc >> 24) ^ byte]
    return crc ^ 0xFFFFFFFF


def filled(size: int, seed: int) -> bytes:
    """What `fill` writes."""
    words, state = bytearray(), seed
    while len(words) < size:
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        words += state.to_bytes(4, "little")
    return bytes(words[:size])


def at_prompt(**settings):
    return harness.boot(**({"memory": MEMORY, "append": "panic=exit"} | settings))


def expect(guest, command: str, wanted: str) -> None:
    """The command prints exactly that."""
    answer = guest.command(command, 30).strip()
    check(answer == wanted, f"`{command}` prints `{answer}`, not `{wanted}`")


def checksums() -> str:
    check(posix_cksum(b"") == 4294967295 and posix_cksum(b"123456789") == 930766865, "this test computes wrongly")
    if shutil.which("cksum"):
        host = subprocess.run(["cksum"], input=filled(5000, 7), capture_output=True, check=True).stdout.decode()
        check(host.split()[:2] == [str(posix_cksum(filled(5000, 7))), "5000"], "the host's cksum differs from this one")
    sizes = [0, 1, 3, 4095, 4096, 4097, 70000, 1 << 20]
    with at_prompt() as guest:
        guest.expect_prompt()
        for seed, size in enumerate(sizes):
            guest.command(f"fill /f{seed} {size} {seed}", 30)
            expect(guest, f"cksum /f{seed}", f"{posix_cksum(filled(size, seed))} {size} /f{seed}")
        expect(guest, "cp /f6 /copy; cksum /copy", f"{posix_cksum(filled(70000, 6))} 70000 /copy")
        expect(guest, "truncate -s 5000 /copy; cksum /copy", f"{posix_cksum(filled(5000, 6))} 5000 /copy")
        data = filled(5000, 6) + bytes(5000)
        expect(guest, "truncate -s 10000 /copy; cksum /copy", f"{posix_cksum(data)} 10000 /copy")
    return f"{len(sizes)} files"


def names() -> str:
    with at_prompt() as guest:
        guest.expect_prompt()
        for command, wanted in [
                ("mkdir /d /d/e", ""), ("write /d/f hello, world", ""), ("cat /d/f", "hello, world"),
                ("ls /d", "e\r\nf"), ("ls", "d"), ("ln /d/f /d/g; ln -s f /d/s", ""), ("cat /d/s", "hello, world"),
                ("mv /d/g /d/e", ""), ("ls /d/e", "g"), ("write -a /d/f more", ""),
                ("cat /d/e/g", "hello, world\r\nmore"), ("rm /d/s /d/f", ""), ("cat /d/e/g /d/f", "hello, world\r\nmore"
                 "\r\ncat: /d/f: not found"), ("rmdir /d", "rmdir: /d: directory not empty"),
                ("rm /d/e/g; rmdir /d/e /d", ""), ("ls", ""), ("sync", "")]:
            answer = guest.command(command, 30).strip().replace("\r", "")
            check(answer == wanted.replace("\r", ""), f"`{command}` prints `{answer}`, not `{wanted}`")
    return ""


def refusals() -> str:
    wanted = {
        "cat /none": "cat: /none: not found", "cat /": "cat: /: is a directory", "ls /none": "ls: /none: not found",
        "mkdir /f": "mkdir: /f: already exists", "mkdir /f/x": "mkdir: /f/x: not a directory",
        "rmdir /f": "rmdir: /f: not a directory", "rm /d": "rm: /d: is a directory", "mv /d /d/x":
        "mv: /d: invalid argument", "cp /d /x": "cp: /d: is a directory", "cp /f /f": "cp: /f: invalid argument",
        "ln /d /x": "ln: /x: is a directory", "umount /": "umount: /: busy",
        "umount /d": "umount: /d: invalid argument",
        "mount none /none tmpfs": "mount: none: not found", "mount none /d nofs": "mount: none: not supported",
        "cat /loop": "cat: /loop: too many links", "write /ro/f x": "write: /ro/f: read-only",
        "mkdir /" + "n" * 256: "mkdir: /" + "n" * 254 + "...: name too long",
    }
    with at_prompt() as guest:
        guest.expect_prompt()
        guest.command("mkdir /d /ro; write /f text; ln -s loop /loop; mount none /ro tmpfs ro")
        for command, answer in wanted.items():
            expect(guest, command, answer)
        for command in ("cat", "cp /f", "mv", "ln", "truncate /f", "hexdump", "stat", "umount", "write"):
            check("usage: " in guest.command(command), f"`{command}` does not say how it is used")
    return f"{len(wanted)} refusals"


def shown() -> str:
    with at_prompt() as guest:
        guest.expect_prompt()
        guest.command("fill /f 40 1; write /t abc; mkdir /d; ln -s /t /l; mount none /d tmpfs ro")
        data = filled(40, 1)
        lines = []
        for at in range(0, 40, 16):
            part = data[at:at + 16]
            digits = [f"{byte:02x}" for byte in part] + ["  "] * (16 - len(part))
            text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
            lines.append(f"{at:08x}  {' '.join(digits[:8])}  {' '.join(digits[8:])}  |{text}|")
        answer = guest.command("hexdump /f").strip().replace("\r", "")
        check(answer == "\n".join(lines + ["00000028"]), f"hexdump prints\n{answer}")
        check(guest.command("truncate -s 4K /z; hexdump /z").count("\n*") == 1, "hexdump writes zeros out")
        long = guest.command("ls -l /").replace("\r", "")
        check(re.search(r"(?m)^-rw-r--r-- +1 +0 +0 +4 20\d\d-\d\d-\d\d \d\d:\d\d t$", long) is not None, long)
        check(re.search(r"(?m)^lrwxrwxrwx .* l -> /t$", long) is not None, long)
        check(re.search(r"(?m)^drwxr-xr-x .* d$", long) is not None, long)
        mounts = guest.command("mount").replace("\r", "")
        check("tmpfs / tmpfs rw 0 0\nnone /d tmpfs ro 0 0" in mounts, mounts)
        check(re.search(r"(?m)^tmpfs +\d+ +\d+ +\d+ +\d+% /\r?$", guest.command("df")) is not None, "df")
        stat = guest.command("stat /t")
        check("Size: 4 " in stat and "Links: 1" in stat and "0644/-rw-r--r--" in stat, stat)
        check("abc" in guest.command("cat /t\t"), "TAB after a whole name")
    return ""


def counted() -> str:
    """A file in memory is Shmem and Cached, and neither when it has gone."""
    fields = ("Shmem", "Cached")
    with at_prompt() as guest:
        guest.expect_prompt()
        now = [proc_text.meminfo(guest.command("meminfo"))]
        for line in ("fill /f 4M", "rm /f"):
            guest.command(line)
            now.append(proc_text.meminfo(guest.command("meminfo")))
        for name in fields:
            kb = [memory[name] for memory in now]
            check(kb[1] - kb[0] == 4096 and kb[2] == kb[0], f"{name} was {kb} kB before, with and after 4096 kB")
    return ""


def cases(_options) -> list[Case]:
    return [Case(f"boot.files.{name}", run, f"tests/boot/files.py --only 'boot.files.{name}'")
            for name, run in [("checksums", checksums), ("names", names), ("refusals", refusals), ("shown", shown),
                              ("counted", counted)]]


if __name__ == "__main__":
    harness.main(__doc__, cases)
