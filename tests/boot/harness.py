"""Cases, how they run and how they are reported: TAP, each failure with the command that reproduces it.

A case is a name and a function that returns when all is well, raises GuestFailure (or CheckFailure) when not, and
Skip when it cannot be judged here. Cases are independent, so that two run side by side.
"""

import argparse
import concurrent.futures
import dataclasses
import fnmatch
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable

from qemu import Guest, GuestConfig, GuestFailure

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts/lib"))
import guest as emulator  # noqa: E402
import turns  # noqa: E402

_iso_lock = threading.Lock()
_iso_made = False


class CheckFailure(GuestFailure):
    """Something that the guest printed is wrong."""


class Skip(Exception):
    """The case has no meaning here; the text says why."""


@dataclasses.dataclass
class Case:
    name: str
    run: Callable[[], str | None]  # returns a remark for the log, or nothing
    reproduce: str = ""

    def command(self) -> str:
        return self.reproduce or f"tests/boot/run_all.py --only '{self.name}'"


@dataclasses.dataclass
class Outcome:
    verdict: str  # ok, skip, fail
    message: str = ""
    details: tuple[str, ...] = ()
    seconds: float = 0.0


def build_directory() -> str:
    return os.path.join(ROOT, os.environ.get("BUILD", "build"))


def shim_directory() -> str:
    return os.path.join(build_directory(), "shim")


def kernel_path() -> str:
    return os.environ.get("PAEAN_KERNEL", os.path.join(build_directory(), "kernel.elf"))


def iso_path() -> str:
    """The bootable image without a command line; made when a case first asks for it."""
    global _iso_made
    if "PAEAN_ISO" in os.environ:
        return os.environ["PAEAN_ISO"]
    with _iso_lock:
        if not _iso_made:
            make("iso", f"BUILD={os.environ.get('BUILD', 'build')}", "CMDLINE=")
        _iso_made = True
    return os.path.join(build_directory(), "paean.iso")


def check(condition: bool, message: str) -> None:
    if not condition:
        raise CheckFailure(message)


class GuestScope:
    """A Guest whose failure carries its transcript and its QEMU line into the report."""

    def __init__(self, config: GuestConfig):
        self.guest = Guest(config)

    def __enter__(self) -> Guest:
        return self.guest

    def __exit__(self, kind, error, trace):
        if isinstance(error, GuestFailure) and not hasattr(error, "details"):
            error.details = (f"qemu: {self.guest.config.shell_line()}",
                             *(f"| {line}" for line in self.guest.transcript()))
            error.emulator_has_crashed = self.guest.process.poll() == emulator.CRASHED_STATUS
        self.guest.close()
        return False


def boot(**settings) -> GuestScope:
    """Starts a guest on the kernel under test, unless `kernel` or `iso` says what else."""
    if "kernel" not in settings and "iso" not in settings:
        settings["kernel"] = kernel_path()
    return GuestScope(GuestConfig(**settings))


def run_case(case: Case, is_repeated: bool = False) -> Outcome:
    """Runs it, and once more if the emulator itself has crashed."""
    start = time.monotonic()

    def outcome(verdict, message="", details=()):
        return Outcome(verdict, message, tuple(details), time.monotonic() - start)

    try:
        return outcome("ok", case.run() or "")
    except Skip as why:
        return outcome("skip", str(why))
    except GuestFailure as failure:
        if getattr(failure, "emulator_has_crashed", False) and not is_repeated:
            print(f"# {case.name}: QEMU has crashed; run once more", flush=True)
            return run_case(case, is_repeated=True)
        return outcome("fail", str(failure), getattr(failure, "details", ()))
    except Exception:  # a broken test is a failure of that test, not of the run
        return outcome("fail", "the test itself broke", traceback.format_exc().splitlines())


def report(number: int, case: Case, result: Outcome) -> None:
    if result.verdict == "fail":
        print(f"not ok {number} {case.name}")
        print(f"# reproduce: {case.command()}")
        for line in (result.message, *result.details):
            print(f"#   {line}")
    elif result.verdict == "skip":
        print(f"ok {number} {case.name} # SKIP {result.message}")
    else:
        remark = f", {result.message}" if result.message else ""
        print(f"ok {number} {case.name}")
        print(f"#   {result.seconds:.1f} s{remark}")
    sys.stdout.flush()


def run_cases(cases: Iterable[Case], only: str = "*", jobs: int = 2) -> int:
    """Runs the cases that match, prints TAP, returns the exit status."""
    patterns = only.split(",")
    chosen = [case for case in cases if any(fnmatch.fnmatchcase(case.name, p) for p in patterns)]
    print("TAP version 13")
    print(f"1..{len(chosen)}")
    if not chosen:
        print(f"# no case matches '{only}'")
        return 1
    start = time.monotonic()
    counts = {"ok": 0, "skip": 0, "fail": 0}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = [pool.submit(run_case, case) for case in chosen]
        try:
            for number, (case, future) in enumerate(zip(chosen, results), 1):
                result = future.result()
                counts[result.verdict] += 1
                report(number, case, result)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    print(f"# Totals: pass:{counts['ok']} fail:{counts['fail']} skip:{counts['skip']}"
          f" seconds:{time.monotonic() - start:.0f}")
    return 1 if counts["fail"] else 0


def make(*arguments: str) -> None:
    """Runs make; its output is shown only when it fails."""
    result = subprocess.run(["make", "-s", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        failure = GuestFailure(f"make {' '.join(arguments)} failed")
        failure.details = tuple((result.stdout + result.stderr).splitlines()[-30:])
        raise failure


def prepare() -> None:
    """Builds what the cases need beside the kernel."""
    if not os.path.exists(kernel_path()):
        sys.exit(f"{kernel_path()} is missing: run make first")
    try:
        make("-C", "tests/boot/shim", f"OUT={shim_directory()}")
    except GuestFailure as failure:
        sys.exit("\n".join([str(failure), *failure.details]))
    forget_old_files()


def forget_old_files() -> None:
    """Blobs of failed cases and stripped kernels are kept for a day."""
    for entry in os.scandir(shim_directory()):
        if entry.name.endswith((".blob", ".elf")) and entry.name != "shim.elf" and \
                entry.stat().st_mtime < time.time() - 86400:
            os.unlink(entry.path)


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--only", default="*", metavar="GLOB", help="run the cases whose names match (comma list)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="guests side by side (default 2)")
    parser.add_argument("--full", action="store_true", help="the long version")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and stop")
    return parser


def main(description: str, cases: Callable[[argparse.Namespace], list[Case]],
         parser: argparse.ArgumentParser | None = None) -> None:
    """The main program of each script here."""
    turns.be_short()
    options = (parser or arguments(description)).parse_args()
    chosen = cases(options)
    if options.list:
        print("\n".join(case.name for case in chosen))
        return
    prepare()
    sys.exit(run_cases(chosen, options.only, options.jobs))
