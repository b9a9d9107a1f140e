#!/usr/bin/python3
"""Bounce memory under a device with a mask: QEMU's `edu` as a DMA engine that reaches 24, 28 or 32 bits.

Requests of 1 to 257 segments, 64 clients without any free lowmem, pools of 16 pages. The data must come back, and the
device must never have been given an address above its mask: QEMU cuts those and says so, on its standard output or in
its log, by version. The control tells the kernel a wider mask than the device has: that must be found out.

One more run lets commands time out while the device works on them.

A transfer takes the device a tenth of a second; virtual time that jumps while the guest idles makes that short.
"""

import os
import tempfile

import harness
import qemu
from harness import Case, check

TESTS = ("moves_1_to_257_segments", "serves_64_clients")


def run(bits: int, believed: int, tests: tuple[str, ...]) -> tuple[int, str, list[str]]:
    """Exit status, what was printed, and QEMU's lines about addresses that it cut."""
    selection = ",".join(f"edu.{test}_{believed}_bits" for test in tests)
    with tempfile.TemporaryDirectory(prefix="paean-edu-") as folder:
        log = os.path.join(folder, "errors")
        extra = ("-icount", "shift=3,sleep=off", "-device", f"edu,dma_mask={(1 << bits) - 1:#x}",
                 "-d", "guest_errors", "-D", log)
        with harness.boot(memory="8G", append=f"bouncepool=16 selftest={selection} exit", extra=extra,
                          timeout=180, silence=90) as guest:
            status = guest.wait_exit(170)
            text = guest.text()
        with open(log, encoding="latin-1") as file:
            lines = (text + file.read()).splitlines()
        return status, text, [line for line in lines if "EDU: clamping" in line]


def mask(bits: int) -> None:
    status, text, cut = run(bits, bits, TESTS)
    check(status == qemu.PASS, f"ended with {qemu.describe_status(status)}")
    check(f"# Totals: pass:{len(TESTS)} fail:0 skip:0" in text, "not all tests were run")
    check(not cut, f"{len(cut)} addresses above the mask, the first: {''.join(cut[:1])}")


def late() -> None:
    status, text, _cut = run(32, 32, ("late_transfers_do_not_go_on",))
    check(status == qemu.PASS, f"ended with {qemu.describe_status(status)}")
    check("# Totals: pass:1 fail:0 skip:0" in text, "the test was not run")


def control() -> None:
    _status, _text, cut = run(24, 32, TESTS[:1])
    check(bool(cut), "QEMU does not say when an address is cut")


def cases(_options) -> list[Case]:
    return [*(Case(f"boot.edu.{bits}_bits", lambda bits=bits: mask(bits)) for bits in (24, 28, 32)),
            Case("boot.edu.late", late), Case("boot.edu.control", control)]


if __name__ == "__main__":
    harness.main(__doc__, cases)
