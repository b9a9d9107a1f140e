#!/usr/bin/python3
"""scripts/profile: what it counts in a benchmark's loop is what the benchmark says, to the instruction."""

import json
import os
import re
import subprocess

import harness
from harness import Case, check

# kernel/bench/kbench.hpp: a count in memory and a jump. Around the loop are its function's prologue and epilogue.
LOOP_COST, AROUND = 2, 60


def run(name: str, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(["scripts/profile", name, *more], cwd=harness.ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=240, check=False)


def profile(name: str) -> dict:
    path = os.path.join(harness.build_directory(), f"profile-{name}.json")
    result = run(name, "--json", path)
    check(result.returncode == 0, f"exit status {result.returncode}: {result.stdout[-300:]}")
    check(re.search(r"^ *\d+\.\d\d% +[\d,.]+  \w", result.stdout, re.MULTILINE) is not None, "no table was printed")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def loop(name: str, rounds: int, hottest: tuple[str, ...]) -> str:
    """All instructions are the operations' and the loop's; the hottest functions are the ones that do the work."""
    found = profile(name)
    each = found["value"] + LOOP_COST
    check(found["operations"] == rounds, f"{found['operations']} operations, not {rounds}")
    check(0 <= found["instructions"] - rounds * each <= AROUND,
          f"{found['instructions']} instructions are not {rounds} times {each}")
    for table in ("linked", "written"):
        check(sum(found[table].values()) == found["instructions"], f"the functions {table} are not all of it")
    first = sorted(found["linked"], key=found["linked"].get, reverse=True)
    for expected, function in zip(hottest, first):
        check(f"paean::{expected}(" in function, f"{function} is where {expected} was expected")
    return f"{found['instructions']} instructions"


def whole() -> str:
    """A benchmark that measures itself: more runs than what it counts, and that it was all is said."""
    found = profile("user_munmap_page")
    check(found["operations"] == 0 and "itself" in found["what"], f"counted was {found['what']}")
    check(any("UserSpace::unmap" in function for function in found["linked"]), "munmap was not seen")
    return f"{found['instructions']} instructions"


def boot() -> str:
    """From the entry to the benchmark, which comes right after the prompt."""
    found = profile("boot")
    check(found["value"] <= found["instructions"] <= 1.05 * found["value"],
          f"{found['instructions']} instructions, and a boot of {found['value']:.0f}")
    return f"{found['instructions']} instructions"


def unknown() -> None:
    result = run("no_such_benchmark")
    check(result.returncode == 1, f"exit status {result.returncode}")
    check(result.stdout.count("\n") == 1 and "no benchmark no_such_benchmark" in result.stdout, result.stdout)


def cases(_options) -> list[Case]:
    named = {"kmap_hit": lambda: loop("kmap_hit", 20000, ("kmap", "kunmap_address")),
             "alloc_free_high": lambda: loop("alloc_free_high", 20000, ()),
             "itself": whole, "boot": boot, "unknown": unknown}
    return [Case(f"boot.profile.{name}", run_it) for name, run_it in named.items()]


if __name__ == "__main__":
    harness.main(__doc__, cases)
