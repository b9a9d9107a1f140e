#!/usr/bin/python3
"""Non-maskable interrupts, sent from outside: they hit whatever the kernel is doing, and it goes on.

The torture test `torture.nmis_from_outside` says when it is ready and when every CPU has counted a thousand; meanwhile
we inject. An NMI that comes while one is pending is merged with it, so CPUs may count fewer than were sent, never more.
"""

import re
import time

import harness
from harness import Case, check

TEST = "torture.nmis_from_outside"
MOST = 50_000  # a host that starves the guest merges many
PER_CPU = re.compile(r"CPU (\d+): (\d+) NMIs, (\d+) of them in page faults, (\d+) in code that maps")
UNASKED = rb"(\d+) NMIs on CPU 0 that nobody asked for"


def torture(memory: str, words: str) -> str:
    append = f"selftest={TEST} {words} panic=exit exit"
    with harness.boot(memory=memory, smp=2, append=append, silence=110, timeout=150) as guest:
        guest.expect(rb"# ready for NMIs", 30)
        sent = 0
        while b"# enough NMIs" not in guest.output and b"# Totals" not in guest.output and sent < MOST:
            guest.monitor("inject-nmi")
            sent += 1
            guest.listen(0.002)
            guest.check_no_panic()
        guest.expect(rb"# Totals: pass:1 fail:0 skip:0", 100)
        counts = [tuple(map(int, found)) for found in PER_CPU.findall(guest.text())]
        check(len(counts) == 2, f"{len(counts)} CPUs told their counts")
        for cpu, counted, _, _ in counts:
            check(counted <= sent, f"CPU {cpu} counted {counted} of {sent} NMIs")
        status = guest.wait_exit(20)
        check(status == 33, f"ended with status {status}")
        return f"{sent} sent; " + "; ".join(f"CPU {cpu}: {all_} counted, {faults} in faults, {maps} in maps"
                                            for cpu, all_, faults, maps in counts)


def unasked() -> str:
    """At the prompt, where CPUs are idle: a line in the log, no crash, and idle CPUs still flush before they work."""
    # Races have all their rounds where they have the host to themselves.
    with harness.boot(memory="2G", smp=2, append="selftest.rounds=200000", timeout=90, silence=60) as guest:
        guest.expect_prompt(40)
        for _ in range(100):
            guest.monitor("inject-nmi")
            time.sleep(0.002)
        guest.expect(UNASKED, 20)
        guest.listen(1.0)
        answer = guest.command("selftest tlb.*,kmap.*", 60)
        check(" fail:0 " in answer, "tests fail after NMIs:\n" + answer[-800:])
        return ""


def cases(options) -> list[Case]:
    again = "tests/boot/nmi.py --only "
    return [Case("boot.nmi.torture-4G", lambda: torture("4G", ""), again + "boot.nmi.torture-4G"),
            Case("boot.nmi.torture-192M", lambda: torture("192M", "kmap=force pkmap=64"),
                 again + "boot.nmi.torture-192M"),
            Case("boot.nmi.unasked-2G", unasked, again + "boot.nmi.unasked-2G")]


if __name__ == "__main__":
    harness.main(__doc__, cases)
