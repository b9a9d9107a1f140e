#!/usr/bin/python3
"""scripts/bench: its JSON says what its text says, and --check finds a figure that has grown by more than 2 %."""

import json
import os
import re
import subprocess
import tempfile

import harness
from harness import Case, check

NAME = "kmap_hit"
FIGURE = re.compile(rf"BENCH {NAME} (\d+\.\d\d) insn/op")


def run(folder: str, *more: str, name: str = NAME) -> tuple[subprocess.CompletedProcess, dict]:
    path = os.path.join(folder, "bench.json")
    result = subprocess.run(["scripts/bench", name, "--only", "counts", "--mem", "4G", "--json", path, *more],
                            cwd=harness.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200,
                            check=False)
    check(os.path.exists(path), f"no JSON was written: {result.stdout[-300:]}")
    with open(path, encoding="utf-8") as file:
        return result, json.load(file)


def with_folder(body):
    def case():
        os.makedirs(harness.build_directory(), exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="figures-", dir=harness.build_directory()) as folder:
            return body(folder)
    return case


def text_and_json(folder: str) -> str:
    result, rows = run(folder)
    check(result.returncode == 0, f"exit status {result.returncode}: {result.stdout[-300:]}")
    text = FIGURE.search(result.stdout)
    check(text is not None, "the text has no figure")
    check(rows == {NAME: {"value": float(text[1]), "unit": "insn/op"}}, f"text {text[0]}, JSON {rows}")
    return text[0]


def growth(folder: str) -> str:
    """The same kernel passes against what it costs, and against 1 % less; against 3 % less it fails by name."""
    _, rows = run(folder)
    cost = rows[NAME]["value"]
    budget = os.path.join(folder, "budget.json")
    for part, status in ((1.0, 0), (0.99, 0), (0.97, 1)):
        with open(budget, "w", encoding="utf-8") as file:
            json.dump({NAME: {"last": cost * part}}, file)
        result, _ = run(folder, "--check", "--budget", budget)
        check(result.returncode == status, f"{part} of {cost}: exit status {result.returncode}, not {status}")
        check((f"not ok 1 bench.{NAME}" in result.stdout) == bool(status), f"{part} of {cost}: {result.stdout[-300:]}")
    return f"{cost} insn/op"


def first_of_a_boot(folder: str) -> str:
    """A file is written in the tick in which the boot begins, with interrupts off: nobody has computed limits yet."""
    result, rows = run(folder, name="cache_write_page")
    check(result.returncode == 0 and "cache_write_page" in rows, result.stdout[-300:])
    return f"{rows['cache_write_page']['value']} insn/op"


def cases(_options) -> list[Case]:
    return [Case("boot.figures.json", with_folder(text_and_json)), Case("boot.figures.growth", with_folder(growth)),
            Case("boot.figures.first", with_folder(first_of_a_boot))]


if __name__ == "__main__":
    harness.main(__doc__, cases)
