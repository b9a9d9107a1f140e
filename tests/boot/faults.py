#!/usr/bin/python3
"""Boots with fault=: whatever cannot be had on the way to the prompt, the kernel comes up without it or says in one
sentence why it cannot.

The sites are those that `fault` lists. Malformed values are named and ignored.
"""

import re

import harness
import qemu
from harness import Case, check

PASSAGES = ("1", "2", "3", "5", "8", "13", "1+", "4+", "9+")
MORE = 2  # passages than were counted: what the CPUs do at the same time is not the same in every boot
WITHOUT = re.compile(r"PANIC: (no memory for .+|not enough memory.+|.*cannot.+)")
SITE = re.compile(r"^(\w+) +\d+[+ ] +(\d+) +\d+  \S", re.M)
WRONG = {"page_alloc": "has no :n", "page_alloc:": "has no number", "page_alloc:0": "has no number",
         "nobody:1": "names no site", "page_alloc:1x": "has no number", ":1": "names no site"}


def boot_with(value: str, commands: str) -> str:
    """What the guest printed until it ended well, or with one of the permitted sentences."""
    with harness.boot(memory="512M", smp=2, append=f'fault={value} run="fault off; {commands}" exit') as guest:
        status = guest.wait_exit(30, panic_is_expected=True)
        text = guest.text()
        if status == qemu.PANIC:
            check(text.count("PANIC: ") == 1, "more than one panic")
            check(WITHOUT.search(text) is not None, "the panic does not say what cannot be had")
        else:
            check(status == qemu.PASS, f"ended with {qemu.describe_status(status)}")
        return text


def boot_without(site: str, most: int) -> str:
    """Not with a failure that comes behind `most` passages: it would be a boot like any other."""
    chosen = [passage for passage in PASSAGES if int(passage.rstrip("+")) <= most]
    deaths = sum("PANIC: " in boot_with(f"{site}:{passage}", "meminfo; lowmem") for passage in chosen)
    return f"{len(chosen)} boots, {deaths} of them refused"


def every_site() -> str:
    listed = SITE.findall(boot_with("page_alloc:1000000", "fault"))
    check("page_alloc" in dict(listed), "`fault` lists no page_alloc")
    remarks = [f"{site}: {boot_without(site, int(passages) + MORE)}" for site, passages in listed]
    return "; ".join(remarks)


def malformed() -> str:
    for value, complaint in WRONG.items():
        text = boot_with(value, "fault")
        check(f"fault={value} {complaint}" in text, f"`fault={value}` is not complained about")
    return f"{len(WRONG)} values"


def cases(_options) -> list[Case]:
    return [Case("boot.faults.every_site", every_site), Case("boot.faults.malformed", malformed)]


if __name__ == "__main__":
    harness.main(__doc__, cases)
