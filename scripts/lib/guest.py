"""QEMU command lines for Paean, in one place, and the waiting for a guest that answers on its serial port.

Why the options are what they are:
  * qemu-system-x86_64 even though the kernel is 32-bit: qemu-system-i386 7.2 cuts the addresses of page tables to
    32 bits and refuses 64 GB.
  * memory-backend-ram with reserve=off: a 64 GB guest then needs only what it touches, under 100 MB.
  * memory-backend-memfd where a guest runs tests: the host gives it pages of 4 KiB. Of the other it makes huge pages,
    and zeroes 2 MiB for each word that a test writes into gigabytes of free memory: 7 seconds instead of 1.
  * -no-reboot: a triple fault ends QEMU with status 0, so 0 is never a pass; isa-debug-exit gives the real verdict.
  * -cpu max: all that the emulator has (NX, SMEP, SMAP) and 40 physical address bits; qemu32 has 32.
"""

import dataclasses
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# The guest writes v to port 0xf4 and QEMU ends with 2v + 1.
PASS_STATUS, FAIL_STATUS, PANIC_STATUS = 33, 35, 37
EXIT_CODES = {PASS_STATUS: 0, FAIL_STATUS: 1, PANIC_STATUS: 2}
EXIT_TIMEOUT = 124
EXIT_OTHER = 3
# The emulator itself has crashed, and nothing is said of the kernel: QEMU 7.2 was seen to do so once in thousands of
# boots, in memory_region_dispatch_write() without a region. What tests the kernel starts such a guest once more.
CRASHED_STATUS = -signal.SIGSEGV


def exit_code(status):
    """What a script returns for the status of QEMU; None means that time ran out."""
    return EXIT_TIMEOUT if status is None else EXIT_CODES.get(status, EXIT_OTHER)


def env(name, default=""):
    """A setting from the environment; empty counts as unset, because make exports empty variables too."""
    return os.environ.get(name) or default


def verbose():
    """V=1: show the commands."""
    return env("V", "0") != "0"


def build_folder(flavour=None):
    """build, build/debug or build/ubsan, from the flavour or else from make's BUILD or DEBUG=1 etc."""
    if flavour is None:
        if env("BUILD"):
            return env("BUILD")
        flavour = "release"
        for name in ("DEBUG", "UBSAN"):
            if env(name, "0") != "0":
                flavour = name.lower()
    return "build" if flavour == "release" else f"build/{flavour}"


def parse_size(text):
    """64G, 512M, 640K or plain MiB as QEMU's -m has it, in MiB; a ValueError says what is wrong."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(f"'{text}' is not a memory size; write 64G or 512M")
    mib = float(match[1]) * {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024 * 1024}[match[2].upper()]
    if mib < 1 or mib != int(mib):
        raise ValueError(f"'{text}' is not a whole number of MiB")
    return int(mib)


# Where the operating system has none, the other serves.
SPARSE_MEMORY = "memory-backend-memfd" if hasattr(os, "memfd_create") else "memory-backend-ram"


@dataclasses.dataclass
class Guest:
    """One virtual machine. Sizes as in 64G."""
    kernel: str = "build/kernel.elf"
    iso: str = ""
    mem: str = "64G"
    cpus: str = "2"
    accel: str = "tcg"
    cpu: str = "max"
    machine: str = "pc"
    cmdline: str = ""
    qemu: str = "qemu-system-x86_64"
    extra: str = ""
    icount: bool = False
    backend: str = "memory-backend-ram"
    display: tuple = ("-display", "none", "-vga", "std")

    def command(self, *serial):
        """The argument list. `serial` is what follows the machine: -serial, -monitor, -S and the like."""
        mib = parse_size(self.mem)
        accel = "tcg,thread=multi" if self.accel == "tcg" and not self.icount else self.accel
        command = [self.qemu, "-accel", accel]
        if self.icount:
            command += ["-icount", "shift=0,sleep=off"]
        command += ["-object", f"{self.backend},id=ram0,size={mib}M,reserve=off",
                    "-machine", f"{self.machine},memory-backend=ram0", "-m", f"{mib}M",
                    "-cpu", self.cpu, "-smp", str(self.cpus), "-nodefaults", "-no-reboot", *self.display,
                    "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        if self.iso:
            command += ["-cdrom", self.iso, "-boot", "d"]
        else:
            command += ["-kernel", self.kernel]
            if self.cmdline:
                command += ["-append", self.cmdline]
        return command + list(serial) + shlex.split(self.extra)


@dataclasses.dataclass
class Outcome:
    """How a captured guest ended. status is None when we stopped it, and `why` says why."""
    text: str
    status: int | None
    why: str
    seconds: float


def stop(process):
    """Ends a QEMU that we started: politely, so that it restores the terminal, then for certain."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def capture(command, timeout, silence=None, stop_at=None):
    """Runs QEMU with its serial port on our pipe until it ends, `timeout` seconds pass, nothing is printed for
    `silence` seconds, or the output matches the compiled bytes pattern `stop_at`."""
    start = last = time.monotonic()
    # Ctrl-C is for us. Not a session of its own: Linux shares the CPUs out among sessions, whatever their niceness.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               process_group=0)
    output, why = bytearray(), ""
    try:
        while True:
            now = time.monotonic()
            limit = start + timeout - now
            if silence is not None:
                limit = min(limit, last + silence - now)
            if limit <= 0:
                why = f"not finished after {timeout:g} s" if now - start >= timeout else f"silent for {silence:g} s"
                break
            if not select.select([process.stdout], [], [], limit)[0]:
                continue
            time.sleep(0.001)  # the guest writes byte after byte; each by itself would cost more than it does
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                process.wait()
                break
            output += data
            last = time.monotonic()
            if stop_at and stop_at.search(output):
                why = "found"
                break
    finally:
        status = process.poll()
        stop(process)
    text = output.decode("utf-8", "replace").replace("\r\n", "\n")
    return Outcome(text, None if why else status, why, time.monotonic() - start)


def choose_accel(accel, kernel):
    """kvm or tcg for ACCEL=auto; the probe prints its reason on stderr."""
    if accel != "auto":
        return accel
    probe = os.path.join(ROOT, "scripts/kvm-probe")
    answer = subprocess.run([probe, "--kernel", kernel], stdout=subprocess.PIPE, text=True, check=False)
    return "kvm" if answer.stdout.strip() == "kvm" else "tcg"


def make(*targets, flavour=None, quiet=True, output=None):
    """Builds, in the repository's root. The recipe lines show only with V=1. Returns make's exit status."""
    command = ["make", "--no-print-directory"] + (["-s"] if quiet and not verbose() else [])
    command.append(f"-j{min(os.cpu_count() or 1, 8)}")
    # The variables of a parent make come by the environment; its job server does not reach through Python.
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BUILD")}
    for name in ("DEBUG", "UBSAN"):
        chosen = env(name, "0") if flavour is None else str(int(flavour == name.lower()))
        environment.pop(name, None)
        command.append(f"{name}={chosen}")
    stderr = None if output is None else subprocess.STDOUT
    return subprocess.run(command + list(targets), cwd=ROOT, stdout=output, stderr=stderr, env=environment,
                          check=False).returncode


def need_program(program):
    """Ends the script with one clear line when a program is not there."""
    if not shutil.which(program):
        sys.exit(f"{os.path.basename(sys.argv[0])}: {program} is not installed; scripts/deps run installs it")


def shell(command):
    """A command as a line to paste."""
    return " ".join(shlex.quote(word) for word in command)


def end_on_signals():
    """Ctrl-C and kill end the script through its `finally` blocks, so that no QEMU is left behind."""
    def leave(number, _):
        sys.exit(128 + number)
    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
