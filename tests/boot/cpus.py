#!/usr/bin/python3
"""How many CPUs there are: as ACPI says, as the command line says, and one without ACPI."""

import re

import harness
from harness import Case, check

# QEMU's CPUs, more of its command line, ours, and how many are online.
MACHINES = {"without_acpi": (2, ("-no-acpi",), "", 1), "nosmp": (4, (), "nosmp", 1), "maxcpus": (4, (), "maxcpus=2", 2),
            "32": (32, (), "", 32), "33": (33, (), "", 32)}
ONLINE = re.compile(r"(?m)^(\d+) online of (\d+) present")


def count(name: str) -> str:
    smp, extra, append, expected = MACHINES[name]
    with harness.boot(memory="1G", smp=smp, cpu="max", extra=extra, append=append, silence=60, timeout=120) as guest:
        guest.expect_prompt(90)
        text = guest.command("cpus", 30)
        found = ONLINE.search(text)
        check(found is not None, "cpus does not say how many are online")
        check(int(found[1]) == expected, f"{found[1]} CPUs are online, not {expected}")
        check(len(re.findall(r"(?m)^cpu \d+: ", text)) == expected, "cpus has not a line for each")
        return f"{found[1]} of {found[2]}"


def cases(_options) -> list[Case]:
    return [Case(f"boot.cpus.{name}", lambda name=name: count(name), f"tests/boot/cpus.py --only 'boot.cpus.{name}'")
            for name in MACHINES]


if __name__ == "__main__":
    harness.main(__doc__, cases)
