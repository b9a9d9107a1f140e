"""One guest: a QEMU process that boots Paean, with its serial line in our hands.

    with Guest(GuestConfig(memory="64G", append="panic=exit")) as guest:
        guest.expect_prompt()
        text = guest.command("meminfo")

The serial line is a plain pipe. Every wait has a time-out, a guest that says nothing for `silence` seconds is a
failure, and so is one whose host memory passes `rss_limit`: tests touch samples of the guest's RAM, never all of it.
Exit statuses follow the isa-debug-exit convention: the guest writes 0x10, 0x11 or 0x12 to port 0xf4 and QEMU leaves
with 33, 35 or 37. With -no-reboot a triple fault leaves with 0, so 0 is never a pass.
"""

import ctypes
import dataclasses
import json
import os
import random
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PASS, FAIL, PANIC = 33, 35, 37
STATUS_NAMES = {PASS: "pass", FAIL: "fail", PANIC: "panic", 39: "the shim refused", 0: "reset, triple fault or quit"}

MOMENT = 0.001  # seconds: a guest writes byte after byte, and to look at each by itself takes longer than it does
LONGEST = 1 << 16  # bytes of what a pattern matches; where there was none, only so much is looked at again
PROMPT = rb"(?:^|[\r\n])(?:\x1b\[[0-9;?]*[A-Za-z])*paean> "
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class GuestFailure(Exception):
    """The guest did not do what was expected of it."""


@dataclasses.dataclass
class GuestConfig:
    """What to boot and on which machine. Exactly one of `kernel` and `iso` is set."""

    memory: str = "64G"
    machine: str = "pc"
    cpu: str = "qemu64"
    smp: int = 1
    kernel: str | None = None
    iso: str | None = None
    modules: tuple[str, ...] = ()
    append: str = ""
    extra: tuple[str, ...] = ()
    program: str = "qemu-system-x86_64"
    # The firmware takes longer than the kernel's own way to its prompt, and a third of it is for the screen. Small
    # firmware brings a kernel that needs no disks up in half the time; its memory map has one entry more.
    screen: bool = False
    small_firmware: bool = False
    exit_device: bool = True  # without it a guest that ends itself stays, and its screen can be read
    timeout: float = 60.0  # seconds for the whole guest
    silence: float = 20.0  # seconds without a byte while something is expected
    rss_limit: int = 10 << 30  # bytes of host memory: the host has 24 GB and runs two guests
    # All threads of QEMU on one CPU of the host: of a guest that waits for its disk all the time they wake each other,
    # and where a sleeping CPU has to be woken for that, each request takes twice as long.
    one_core: bool = False

    def arguments(self) -> list[str]:
        """The QEMU command line without the monitor, so that it can be typed by hand."""
        size = f"{parse_size(self.memory) >> 20}M"
        line = [self.program, "-accel", "tcg", "-cpu", self.cpu, "-smp", str(self.smp),
                # reserve=off: a 64 GB guest needs host memory only for the pages it touches.
                "-object", f"memory-backend-ram,id=ram0,size={size},reserve=off",
                "-machine", f"{self.machine},memory-backend=ram0", "-m", size,
                "-nodefaults", "-vga", "std" if self.screen else "none", "-display", "none", "-serial", "stdio",
                "-no-reboot"]
        if self.small_firmware:
            line += ["-bios", "qboot.rom"]
        if self.exit_device:
            line += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
        if self.iso:
            line += ["-cdrom", self.iso, "-boot", "d"]
        if self.kernel:
            line += ["-kernel", self.kernel]
        if self.modules:
            line += ["-initrd", ",".join(self.modules)]
        if self.append:
            line += ["-append", self.append]
        return line + list(self.extra)

    def shell_line(self) -> str:
        return shlex.join(self.arguments())


def parse_size(text: str) -> int:
    """Bytes of a size such as 64G, 3.5G or 16M."""
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    if text[-1].upper() in units:
        return int(float(text[:-1]) * (1 << units[text[-1].upper()]))
    return int(text)


def _begin(one_core: bool) -> None:
    """In the new process, before it becomes QEMU."""
    # A test run that is interrupted must not leave guests behind.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if one_core:
        os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})


class Guest:
    """A running QEMU. Use as a context manager: leaving the block ends the process."""

    def __init__(self, config: GuestConfig):
        self.config = config
        self.output = bytearray()  # all serial bytes so far
        self.position = 0  # where the next expect() starts to look
        self.arrivals: list[tuple[float, int]] = []  # (seconds since start, bytes so far)
        self.max_rss = 0
        self._directory = tempfile.mkdtemp(prefix="paean-boot-")
        self._monitor_path = os.path.join(self._directory, "qmp")
        self._monitor = None
        self._stderr = open(os.path.join(self._directory, "stderr"), "w+b")
        self._next_rss_check = 0.0
        self.start = time.monotonic()
        line = config.arguments() + ["-qmp", f"unix:{self._monitor_path},server=on,wait=off"]
        self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr,
                                        bufsize=0, preexec_fn=lambda: _begin(config.one_core))
        os.set_blocking(self.process.stdin.fileno(), False)
        os.set_blocking(self.process.stdout.fileno(), False)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._stderr, self._monitor):
            try:
                if stream:
                    stream.close()
            except OSError:
                pass
        shutil.rmtree(self._directory, ignore_errors=True)

    # --- output -------------------------------------------------------------------------------------------------

    def expect(self, pattern: bytes, timeout: float = 30.0, panic_is_expected: bool = False) -> re.Match:
        """Waits for `pattern` after the last match and returns it. A panic meanwhile is a failure at once."""
        regex = re.compile(pattern)
        look_from = self.position
        deadline = min(time.monotonic() + timeout, self.start + self.config.timeout)
        last_byte = time.monotonic()
        while True:
            found = regex.search(self.output, look_from)
            if found:
                self.position = found.end()
                return found
            if not panic_is_expected:
                self.check_no_panic(look_from)
            look_from = max(look_from, len(self.output) - LONGEST)
            now = time.monotonic()
            if now >= deadline:
                raise GuestFailure(f"no {pattern!r} in {timeout:.0f} s")
            if now - last_byte > self.config.silence:
                raise GuestFailure(f"silent for {self.config.silence:.0f} s while waiting for {pattern!r}")
            state = self._pump(min(0.25, deadline - now))
            if state == "data":
                last_byte = time.monotonic()
            elif state == "end":
                status = self.wait_exit(5, panic_is_expected=True)
                found = regex.search(self.output, self.position)
                if not found:
                    raise GuestFailure(f"QEMU ended with {describe_status(status)} while waiting for {pattern!r}"
                                       + self._stderr_text())

    def check_no_panic(self, look_from: int | None = None) -> None:
        # Only whole lines: the report after the first line is what a reader needs to see.
        at = self.output.find(b"PANIC: ", self.position if look_from is None else look_from)
        if at >= 0:
            self._drain(1.0)
            line = bytes(self.output[at:]).split(b"\n", 1)[0].decode("latin-1").strip()
            raise GuestFailure(f"the kernel panicked: {line}")

    def expect_prompt(self, timeout: float = 40.0) -> str:
        """Waits for the prompt; returns everything printed since the last match."""
        begin = self.position
        found = self.expect(PROMPT, timeout)
        return clean(self.output[begin:found.start()])

    def listen(self, seconds: float) -> None:
        """Takes in what comes for so long, whatever it is."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._pump(deadline - time.monotonic()) != "end":
            pass

    def send(self, data: bytes, timeout: float = 30.0) -> None:
        """Types bytes. Reads meanwhile, so that neither side can block the other."""
        view = memoryview(data)
        deadline = time.monotonic() + timeout
        while view:
            if time.monotonic() > deadline:
                raise GuestFailure(f"the guest takes no input: {len(view)} bytes left after {timeout:.0f} s")
            state = self._pump(0.25, want_write=True)
            if state == "end":
                raise GuestFailure(f"QEMU ended with {describe_status(self.wait_exit(5))} while we typed")
            if state == "writable":
                try:
                    view = view[os.write(self.process.stdin.fileno(), view[:4096]):]
                except BlockingIOError:
                    continue
                except BrokenPipeError as error:
                    raise GuestFailure("QEMU closed its input") from error

    def command(self, text: str, timeout: float = 20.0) -> str:
        """Types a command at the prompt; returns what it printed, without the echo and the next prompt."""
        self.send(text.encode("latin-1") + b"\r")
        self.expect(rb"\n", timeout)
        begin = self.position - 1  # the newline of the echo may be the one before the next prompt
        self.position = begin
        found = self.expect(PROMPT, timeout)
        return clean(self.output[begin:found.start()]).lstrip("\n")

    def wait_exit(self, timeout: float = 30.0, panic_is_expected: bool = False) -> int:
        """Waits for the end of QEMU; returns its status. Output that comes meanwhile is kept."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise GuestFailure(f"QEMU is still running after {timeout:.0f} s")
            if not panic_is_expected:
                self.check_no_panic()
            if self._pump(0.1) == "end":
                time.sleep(0.005)
        self._drain(0.05)
        return self.process.returncode

    def text(self) -> str:
        return clean(self.output)

    def transcript(self, lines: int = 30) -> list[str]:
        """The last lines with the seconds at which they arrived, for a report."""
        result, offset, arrival = [], 0, iter(self.arrivals + [(0.0, 1 << 60)])
        seconds, end = next(arrival)
        for raw in bytes(self.output).rstrip(b"\n").split(b"\n"):
            while end <= offset:
                seconds, end = next(arrival)
            printable = "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in clean(raw).rstrip("\n"))
            result.append(f"{seconds:7.3f} {printable[:300]}")
            offset += len(raw) + 1
        return result[-lines:]

    # --- monitor ------------------------------------------------------------------------------------------------

    def monitor(self, command: str, **arguments):
        """One QMP command; returns its result."""
        if self._monitor is None:
            connection = self._connect_monitor()
            self._monitor = connection.makefile("rwb")
            connection.close()  # the file object keeps the connection
            self._monitor.readline()
            self.monitor("qmp_capabilities")
        self._monitor.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._monitor.flush()
        while True:
            reply = json.loads(self._monitor.readline())
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise GuestFailure(f"monitor: {command}: {reply['error']}")

    def _connect_monitor(self) -> socket.socket:
        """QEMU makes the socket, and a moment later listens to it."""
        deadline = time.monotonic() + 10
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(10)
            try:
                connection.connect(self._monitor_path)
                return connection
            except (FileNotFoundError, ConnectionRefusedError) as error:
                connection.close()
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise GuestFailure(f"QEMU's monitor cannot be reached: {error.strerror}") from error
            time.sleep(0.01)

    def physical_memory(self, address: int, length: int) -> bytes:
        path = os.path.join(self._directory, "memory")
        self.monitor("pmemsave", val=address, size=length, filename=path)
        with open(path, "rb") as file:
            return file.read()

    def screen(self) -> str:
        """The text on the VGA screen, 25 lines of 80 columns."""
        cells = self.physical_memory(0xB8000, 80 * 25 * 2)
        text = bytes(c if 32 <= c < 127 else 32 for c in cells[::2]).decode("ascii")
        return "\n".join(text[row * 80:row * 80 + 80].rstrip() for row in range(25))

    # --- inside -------------------------------------------------------------------------------------------------

    def _pump(self, seconds: float, want_write: bool = False) -> str:
        """Waits for something to do: returns data, writable, idle or end."""
        self._check_rss()
        source = self.process.stdout.fileno()
        sinks = [self.process.stdin.fileno()] if want_write else []
        readable, writable, _ = select.select([source], sinks, [], max(0.0, seconds))
        if readable:
            if not want_write:
                time.sleep(MOMENT)
            chunk = os.read(source, 65536)
            if not chunk:
                return "end"
            self.output += chunk
            self.arrivals.append((time.monotonic() - self.start, len(self.output)))
            return "writable" if writable else "data"
        return "writable" if writable else "idle"

    def _drain(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._pump(0.05) == "data":
            pass

    def _check_rss(self) -> None:
        now = time.monotonic()
        if now < self._next_rss_check:
            return
        self._next_rss_check = now + 0.25
        try:
            with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
                rss = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return
        self.max_rss = max(self.max_rss, rss)
        if rss > self.config.rss_limit:
            self.process.kill()
            raise GuestFailure(f"the guest uses {rss >> 20} MB of host memory, more than allowed")

    def _stderr_text(self) -> str:
        self._stderr.seek(0)
        text = self._stderr.read().decode("latin-1").strip()
        return f"; QEMU says: {text}" if text else ""


def clean(data: bytes | bytearray) -> str:
    """Serial bytes as text with plain newlines and without terminal escapes."""
    return ANSI.sub("", bytes(data).decode("latin-1")).replace("\r\n", "\n").replace("\n\r", "\n").replace("\r", "\n")


def describe_status(status: int) -> str:
    name = STATUS_NAMES.get(status, "killed by a signal" if status < 0 else "an unknown status")
    return f"status {status} ({name})"
