#!/usr/bin/python3
"""Programs: static i386 executables made by the host's compiler, on an ext2 image, run by `exec`.

Each prints KTAP (tests/user/tap.h) or lines that are compared here. The same binaries run on the host's Linux, which is
what they are right about.
"""

import atexit
import os
import re
import shutil
import subprocess
import tempfile
import threading

import harness
from ext2 import tool
from harness import Case, Skip, check

PROGRAMS = ("hello", "processes", "files", "hostile", "memory", "crowd", "elves", "hog", "jobs",
            "waiting")
SOURCES = os.path.join(harness.ROOT, "tests", "user")


_folder: str | None = None  # of the image that the cases copy
_folder_lock = threading.Lock()


def compile_programs(into: str) -> None:
    for name in PROGRAMS:
        done = subprocess.run(["gcc", "-m32", "-static", "-O1", "-Wall", "-Wextra", "-o", os.path.join(into, name),
                               os.path.join(SOURCES, f"{name}.c")], capture_output=True, text=True, check=False)
        if "cannot find -lc" in done.stderr:
            raise Skip("no 32-bit C library here (libc6-dev-i386)")
        check(done.returncode == 0, f"{name}: {done.stderr}")


def master_image() -> str:
    """Made once: every program in /bin, and a few files."""
    global _folder
    with _folder_lock:
        if _folder is None:
            folder = tempfile.mkdtemp(prefix="user-", dir=harness.build_directory())
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            source = os.path.join(folder, "source")
            os.makedirs(os.path.join(source, "bin"))
            os.makedirs(os.path.join(source, "tmp"))
            compile_programs(os.path.join(source, "bin"))
            with open(os.path.join(source, "bad"), "wb") as file:
                file.write(b"\x7fELF" + bytes(200))
            os.chmod(os.path.join(source, "bad"), 0o755)
            tool("mke2fs", "-q", "-F", "-t", "ext2", "-d", source, os.path.join(folder, "disk.img"), "32M")
            _folder = folder
    return os.path.join(_folder, "disk.img")


class Disk:
    """A copy of the image."""

    def __init__(self):
        master = master_image()
        self.folder = tempfile.mkdtemp(prefix="user-", dir=harness.build_directory())
        self.image = os.path.join(self.folder, "disk.img")
        shutil.copyfile(master, self.image)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.folder, ignore_errors=True)

    def boot(self, **settings):
        drive = ("-drive", f"if=none,id=v0,format=raw,file={self.image}", "-device", "virtio-blk-pci,drive=v0")
        append = settings.pop("append", "")
        return harness.boot(**({"memory": "64G", "extra": drive, "timeout": 400, "silence": 60,
                                "append": f"panic=exit root=vda {append}"} | settings))


def run_ktap(guest, command: str, seconds: int = 120) -> str:
    text = guest.command(command, seconds).replace("\r", "")
    failed = re.findall(r"(?m)^not ok .*\n(?:#.*)?", text)
    check(not failed, f"{command}: {' '.join(failed)}")
    totals = re.search(r"# Totals: pass:(\d+) fail:0 ", text)
    check(totals is not None, f"{command} does not end as it should: {text[-600:]}")
    return totals[1]


def hello(memory: str, append: str = "") -> str:
    with Disk() as disk, disk.boot(memory=memory, append=append) as guest:
        guest.expect_prompt()
        text = guest.command('exec /bin/hello one "two words"', 60).replace("\r", "")
        check("hello from ring 3, 2 arguments: [one] [two words]\nmemory 7, product 3543.750\n" in text, text)
        check("exit status 3" in guest.command("exec /bin/hello fail", 60), "the exit status is lost")
        check("exec: /bin/none: not found" in guest.command("exec /bin/none"), "a missing file is not named")
        check("exec: /bad: not a program" in guest.command("exec /bad"), "what is no program runs")
        check("exec: /bin: no access" in guest.command("exec /bin"), "a directory runs")
    return memory


def suite(commands: tuple[str, ...], cpus: int, memory: str = "64G", append: str = "") -> str:
    """Programs one after the other in one guest, whose memory is where it was afterwards."""
    with Disk() as disk, disk.boot(smp=cpus, memory=memory, append=append) as guest:
        guest.expect_prompt()
        counts = [f"{command.split()[0]} {run_ktap(guest, f'exec /bin/{command}')}" for command in commands]
        ledger = guest.command("lowmem")
        check(ledger.count(": exact") == 2, f"the ledger does not agree: {ledger}")
        check(re.search(r"(?m)^ +user ", ledger) is None, f"memory of programs is left behind: {ledger}")
        return ", ".join(counts) + " checks"


def thirty_thousand() -> str:
    """So many processes at once, with the options that there are by default, in half of low memory."""
    with Disk() as disk, disk.boot(smp=2) as guest:
        guest.expect_prompt()
        return run_ktap(guest, "exec /bin/crowd 30000 half") + " checks"


def archive(source: str, into: str) -> str:
    """A cpio archive of a folder, as `cpio -o -H newc` makes it, with two names of one file."""
    os.link(os.path.join(source, "bin", "hello"), os.path.join(source, "bin", "again"))
    names = sorted(os.path.relpath(os.path.join(folder, name), source)
                   for folder, folders, files in os.walk(source) for name in [*folders, *files])
    seen: dict[int, int] = {}
    with open(into, "wb") as out:
        def entry(name: str, mode: int, inode: int, links: int, contents: bytes) -> None:
            fields = (inode, mode, 0, 0, links, 1234567890, len(contents), 0, 0, 0, 0, len(name) + 1, 0)
            head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
            out.write(head + bytes(-len(head) % 4) + contents + bytes(-len(contents) % 4))
        entry(".", 0o40755, 1, 2, b"")
        for name in names:
            path = os.path.join(source, name)
            status = os.lstat(path)
            contents = b""
            if os.path.islink(path):
                contents = os.readlink(path).encode()
            elif os.path.isfile(path):
                seen[status.st_ino] = seen.get(status.st_ino, 0) + 1
                if seen[status.st_ino] == status.st_nlink:  # the last of its names has the contents
                    with open(path, "rb") as file:
                        contents = file.read()
            entry(name, status.st_mode, status.st_ino & 0xffffffff, status.st_nlink, contents)
        entry("TRAILER!!!", 0, 0, 1, b"")
    return into


def init_of_archive(memory: str) -> str:
    """`init=` from an archive given as a boot module; one before it is cut short, one is none."""
    with tempfile.TemporaryDirectory(prefix="cpio-", dir=harness.build_directory()) as folder:
        source = os.path.join(folder, "source")
        os.makedirs(os.path.join(source, "bin"))
        shutil.copy(os.path.join(os.path.dirname(master_image()), "source", "bin", "hello"),
                    os.path.join(source, "bin", "hello"))
        os.symlink("bin/hello", os.path.join(source, "link"))
        good, cut, other = (os.path.join(folder, name) for name in ("good", "cut", "other"))
        archive(source, good)
        with open(good, "rb") as file, open(cut, "wb") as part:
            part.write(file.read(100000))
        with open(other, "wb") as file:
            file.write(b"nothing" * 100)
        with harness.boot(memory=memory, modules=(cut, good, other), append="panic=exit init=/link") as guest:
            guest.expect_prompt()
            log = "\n".join(guest.transcript())
            cut_short = re.search(r"module 0: \d files unpacked into /; at byte \d+: ", log)
            check(cut_short is not None, "not a word of the one that is cut short")
            check(re.search(r"(?m)module 1: 4 files unpacked into /\r?$", log) is not None, "module 1 is not unpacked")
            check("module 2" not in log, "what is no archive is taken for one")
            check("hello from ring 3, 0 arguments:" in log, "init= has not run")
            again = guest.command("exec /bin/again x")
            check("hello from ring 3, 1 arguments: [x]" in again, "the second name is empty")
    return memory


def init() -> str:
    with Disk() as disk, disk.boot(append="init=/bin/hello") as guest:
        guest.expect_prompt()
        check(any("hello from ring 3, 0 arguments:" in line for line in guest.transcript()), "init= has not run")
    return ""


def suites(full: bool) -> list[tuple]:
    """Name, programs with arguments, CPUs, memory, kernel options. The long series are the same programs, longer."""
    calls, files = "hostile 4000 1", "elves 40 1 /bin/hello"
    if full:
        calls, files = "hostile 100000 1", "elves 500 1 /bin/hello"
    chosen = [("one_cpu", ("processes", "jobs", "files", "waiting", "memory", calls), 1, "64G", ""),
              ("two_cpus", ("processes", "files", "waiting", "memory", files, "crowd 1000"), 2, "64G", ""),
              ("four_cpus", ("processes", "memory", calls), 4, "64G", ""),
              ("jobs", ("jobs",), 2, "64G", ""),
              # For builds with checks, which look at each way back to a program: BUILD=build/ubsan.
              ("checked", ("processes", "jobs", "files", "waiting", "memory", "hostile 300 1", "crowd 200"), 2, "4G",
               ""),
              ("no_memory", ("hog 3", "crowd 50 bomb"), 2, "64M", ""),
              ("no_window", ("processes", "memory"), 2, "4G", "ukva=off pte=low")]
    splits = [("1G", 1), ("2G", 4), ("3.5G", 2)]
    if full:
        splits = [(split, cpus) for split in ("1G", "2G", "3G", "3.5G") for cpus in (1, 2, 4)]
    chosen += [(f"split_{split}_{cpus}", ("processes", "memory"), cpus, "64G", f"vmsplit={split}")
               for split, cpus in splits]
    return chosen


def cases(options) -> list[Case]:
    chosen = [(f"hello_{name}", lambda append=append, memory=memory: hello(memory, append))
              for name, memory, append in [("64G", "64G", ""), ("512M", "512M", ""), ("1G_user", "4G", "vmsplit=1G"),
                                           ("3.5G_user", "4G", "vmsplit=3.5G")]]
    for name, commands, cpus, memory, append in suites(options.full):
        chosen.append((name, lambda *_, given=(commands, cpus, memory, append): suite(*given)))
    chosen += [("init", init), ("thirty_thousand", thirty_thousand)]
    chosen += [(f"archive_{memory}", lambda *_, memory=memory: init_of_archive(memory)) for memory in ("64M", "64G")]
    return [Case(f"boot.user.{name}", run, f"tests/boot/user.py --only 'boot.user.{name}'") for name, run in chosen]


if __name__ == "__main__":
    harness.main(__doc__, cases)
