#!/usr/bin/python3
"""The architecture suites on Bochs, which must give the verdicts that QEMU gives.

QEMU's TCG hides PDPTE caching, reserved PDPTE bits, global translations that outlive CR3 and the P bit of
reserved-bit faults; Bochs models all four. It is deterministic and a hundred times slower, so only suites that depend
on the CPU run here: `buddy`, say, is pure code and takes more of the guest's time than its watchdog allows.
"""

import os
import pty
import re
import shutil
import signal
import subprocess
import tempfile
import time

import harness
import qemu
from harness import Case, check

SUITES = "addr,pte,address_space,pdpt,strict,fixmap,highmem,kmap,traps,tlb,smp,cpu,frame_words"
# What repeats itself in the hope of a race does so less often: on Bochs the CPUs take turns.
CMDLINE = f"selftest={SUITES} selftest.rounds=50000 exit"
# And so seldom that a busy host makes nothing inconclusive, where it is for the verdicts alone.
QEMU_CMDLINE = f"selftest={SUITES} selftest.rounds=10000 exit"
CONFIGURATION = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bochsrc")
# Bochs keeps a list of the blocks of guest memory, 65,536 of them for 8 GiB, and walks all of it for each one it adds.
# With the C library's heap the list is spread over so many cache lines that this takes minutes; with jemalloc, which
# keeps objects of one size together, it takes half a minute, and a fifth less if it has huge pages.
ALLOCATOR = {"LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2",
             "MALLOC_CONF": "thp:always,metadata_thp:always"}
# Megabytes, CPUs, seconds of a core that Bochs may take: about three times what it takes.
JOBS = [(128, 1, 90), (128, 2, 120), (8192, 1, 180), (8192, 2, 240)]
LONGEST = "boot.bochs.8192M-2"
# Seconds on the clock for each of those: others may want the core too.
PATIENCE = 5
# Rules that QEMU does not model: skipped there, and never here.
STRICT = "strict."
RESULT = re.compile(r"(?m)^(ok|not ok) \d+ (\S+)(.*)$")
END = re.compile(r"(?m)^(# Totals: .*|--- end of panic ---)$")


def verdicts(text: str) -> list[tuple[str, str]]:
    """(name, verdict) of each result; what else is printed may differ."""
    return [(name, "skip" if "# SKIP" in rest else verdict) for verdict, name, rest in RESULT.findall(text)]


def expected_verdicts(text: str) -> list[tuple[str, str]]:
    """Of Bochs, from what QEMU printed."""
    return [(name, "ok" if name.startswith(STRICT) and verdict == "skip" else verdict)
            for name, verdict in verdicts(text)]


def make_iso(folder: str) -> str:
    tree = os.path.join(folder, "tree")
    os.makedirs(os.path.join(tree, "boot/grub"))
    subprocess.run(["strip", "-g", "-o", os.path.join(tree, "boot/paean.elf"), harness.kernel_path()], check=True)
    with open(os.path.join(harness.ROOT, "boot/grub.cfg"), encoding="ascii") as file:
        menu = file.read().replace("@CMDLINE@", CMDLINE)
    with open(os.path.join(tree, "boot/grub/grub.cfg"), "w", encoding="ascii") as file:
        file.write(menu)
    iso = os.path.join(folder, "paean.iso")
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", iso, tree], check=True, capture_output=True)
    return iso


def start(folder: str, megabytes: int, cpus: int) -> tuple[subprocess.Popen, int]:
    """Bochs on a terminal of its own: its display and its debugger want one."""
    with open(CONFIGURATION, encoding="ascii") as file:
        text = file.read()
    for key, value in {"FOLDER": folder, "GUEST": megabytes, "HOST": min(megabytes, 256), "CPUS": cpus}.items():
        text = text.replace(f"@{key}@", str(value))
    settings, orders = os.path.join(folder, "bochsrc"), os.path.join(folder, "orders")
    with open(settings, "w", encoding="ascii") as file:
        file.write(text)
    with open(orders, "w", encoding="ascii") as file:
        file.write("c\n")  # Debian's Bochs is the one with the debugger: it waits to be told to go on
    master, slave = pty.openpty()
    process = subprocess.Popen(["bochs", "-q", "-f", settings, "-rc", orders], stdin=slave, stdout=slave, stderr=slave,
                               process_group=0, env=os.environ | {"TERM": "xterm"} | ALLOCATOR)
    os.close(slave)
    os.set_blocking(master, False)
    return process, master


def serial_text(folder: str) -> str:
    try:
        with open(os.path.join(folder, "serial"), "rb") as file:
            return qemu.clean(file.read())
    except FileNotFoundError:
        return ""


def core_seconds(process: subprocess.Popen) -> float:
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_end(process: subprocess.Popen, master: int, folder: str, seconds: float) -> str:
    """What the guest printed up to its end, which is a line of text: Bochs has no port that ends it with a status."""
    deadline = time.monotonic() + PATIENCE * seconds
    while True:
        try:
            while os.read(master, 65536):  # nobody looks at the screen, but it must not block
                pass
        except OSError:
            pass
        text = serial_text(folder)
        if END.search(text):
            return text
        why = "Bochs ended" if process.poll() is not None else f"no end after {seconds:.0f} s of a core"
        if process.returncode is not None or core_seconds(process) > seconds or time.monotonic() > deadline:
            failure = harness.CheckFailure(why)
            failure.details = tuple(f"| {line}" for line in text.splitlines()[-30:])
            raise failure
        time.sleep(0.2)


def run_bochs(megabytes: int, cpus: int, seconds: float) -> tuple[str, float]:
    """What the guest printed, and what of a core's time it took."""
    check(shutil.which("bochs") is not None, "bochs is missing: scripts/deps test")
    check(os.path.exists(ALLOCATOR["LD_PRELOAD"]), "libjemalloc2 is missing: scripts/deps test")
    folder = tempfile.mkdtemp(prefix="paean-bochs-")
    try:
        make_iso(folder)
        process, master = start(folder, megabytes, cpus)
        try:
            return wait_for_end(process, master, folder, seconds), core_seconds(process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # it does not listen to SIGTERM while it reads its settings
            process.wait()
            os.close(master)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_qemu(megabytes: int, cpus: int) -> str:
    with harness.boot(memory=f"{megabytes}M", smp=cpus, cpu="max", append=QEMU_CMDLINE) as guest:
        status = guest.wait_exit(100)
        check(status == qemu.PASS, f"QEMU ended with {qemu.describe_status(status)}")
        return guest.text()


def run_job(megabytes: int, cpus: int, seconds: float) -> str:
    expected = expected_verdicts(run_qemu(megabytes, cpus))
    text, took = run_bochs(megabytes, cpus, seconds)
    found = verdicts(text)
    failure = harness.CheckFailure("Bochs and QEMU disagree")
    failure.details = tuple([f"QEMU: {verdict} {name}" for name, verdict in expected if (name, verdict) not in found] +
                            [f"Bochs: {verdict} {name}" for name, verdict in found if (name, verdict) not in expected] +
                            [f"| {line}" for line in text.splitlines()[-30:]])
    if found != expected:
        raise failure
    strict = [name for name, _ in found if name.startswith(STRICT)]
    check(len(strict) > 0, "none of the rules that QEMU does not model was tested")
    return (f"{len(found) - len(strict)} verdicts as on QEMU, {len(strict)} rules that QEMU has not; "
            f"{took:.0f} s of a core")


def cases(_options) -> list[Case]:
    result = []
    for megabytes, cpus, seconds in JOBS:
        name = f"boot.bochs.{megabytes}M-{cpus}"
        result.append(Case(name, lambda m=megabytes, c=cpus, s=seconds: run_job(m, c, s),
                           f"tests/boot/bochs.py --only '{name}'"))
    return result


if __name__ == "__main__":
    harness.main(__doc__, cases)
