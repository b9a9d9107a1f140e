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

SUITES = "addr,pte,address_space,fixmap,traps,tlb,smp,cpu,frame_words"
CMDLINE = f"selftest={SUITES} exit"
CONFIGURATION = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bochsrc")
# Megabytes, CPUs, seconds that Bochs may take: about three times what it takes on an idle machine.
JOBS = [(128, 1, 90), (128, 2, 180)]
# Bochs itself needs half a minute and more before it starts a machine of this size.
FULL_JOBS = [(8192, 1, 300), (8192, 2, 400)]
RESULT = re.compile(r"(?m)^(ok|not ok) \d+ (\S+)(.*)$")
END = re.compile(r"(?m)^(# Totals: .*|--- end of panic ---)$")


def verdicts(text: str) -> list[tuple[str, str]]:
    """(name, verdict) of each result; what else is printed may differ."""
    return [(name, "skip" if "# SKIP" in rest else verdict) for verdict, name, rest in RESULT.findall(text)]


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
                               start_new_session=True, env=os.environ | {"TERM": "xterm"})
    os.close(slave)
    os.set_blocking(master, False)
    return process, master


def serial_text(folder: str) -> str:
    try:
        with open(os.path.join(folder, "serial"), "rb") as file:
            return qemu.clean(file.read())
    except FileNotFoundError:
        return ""


def wait_for_end(process: subprocess.Popen, master: int, folder: str, seconds: float) -> str:
    """What the guest printed up to its end, which is a line of text: Bochs has no port that ends it with a status."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            while os.read(master, 65536):  # nobody looks at the screen, but it must not block
                pass
        except OSError:
            pass
        text = serial_text(folder)
        if END.search(text):
            return text
        why = "Bochs ended" if process.poll() is not None else f"no end after {seconds:.0f} s"
        if process.returncode is not None or time.monotonic() > deadline:
            failure = harness.CheckFailure(why)
            failure.details = tuple(f"| {line}" for line in text.splitlines()[-30:])
            raise failure
        time.sleep(0.2)


def run_bochs(megabytes: int, cpus: int, seconds: float) -> str:
    check(shutil.which("bochs") is not None, "bochs is missing: scripts/deps test")
    folder = tempfile.mkdtemp(prefix="paean-bochs-")
    try:
        make_iso(folder)
        process, master = start(folder, megabytes, cpus)
        try:
            return wait_for_end(process, master, folder, seconds)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # it does not listen to SIGTERM while it reads its settings
            process.wait()
            os.close(master)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_qemu(megabytes: int, cpus: int) -> str:
    with harness.boot(memory=f"{megabytes}M", smp=cpus, cpu="max", append=CMDLINE) as guest:
        status = guest.wait_exit(60)
        check(status == qemu.PASS, f"QEMU ended with {qemu.describe_status(status)}")
        return guest.text()


def run_job(megabytes: int, cpus: int, seconds: float) -> str:
    expected = verdicts(run_qemu(megabytes, cpus))
    text = run_bochs(megabytes, cpus, seconds)
    found = verdicts(text)
    failure = harness.CheckFailure("Bochs and QEMU disagree")
    failure.details = tuple([f"QEMU: {verdict} {name}" for name, verdict in expected if (name, verdict) not in found] +
                            [f"Bochs: {verdict} {name}" for name, verdict in found if (name, verdict) not in expected] +
                            [f"| {line}" for line in text.splitlines()[-30:]])
    if found != expected:
        raise failure
    check(len(found) > 0, "no test was run")
    return f"{len(found)} verdicts as on QEMU"


def cases(options) -> list[Case]:
    result = []
    for megabytes, cpus, seconds in JOBS + (FULL_JOBS if options.full else []):
        name = f"boot.bochs.{megabytes}M-{cpus}"
        result.append(Case(name, lambda m=megabytes, c=cpus, s=seconds: run_job(m, c, s),
                           f"tests/boot/bochs.py --full --only '{name}'"))
    return result


if __name__ == "__main__":
    harness.main(__doc__, cases)
