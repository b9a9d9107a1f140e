#!/usr/bin/python3
"""Command lines on their way through GRUB: its menu's script language and its quoting change nothing that matters."""

import os
import subprocess
import tempfile

import harness
from harness import Case, check

# name, what CMDLINE holds, what the log must show, what a command of run= must have printed
LINES = [
    ("quotes", 'run="help ptov; help vtop" foo=1', '"run=help ptov; help vtop" foo=1', ["ptov PA", "vtop VA"]),
    ("script_characters", "a|b c&d e;f g$h ${i} #j <k> *", "a|b c&d e;f g$h ${i} #j <k> *", []),
    ("reserved_memory", "memmap=16M$0x2000000", "memmap=16M$0x2000000", ["user: [mem 0x0000000002000000-"]),
    ("blanks", "  foo=1 \t\n bar=2  ", "foo=1 bar=2", []),
    ("open_quote", 'loglevel=8 run="help ptov', '"run=help ptov"', ["ptov PA"]),
]


def boot_line(line: str, logged: str, printed: list[str]) -> str:
    with tempfile.TemporaryDirectory(prefix="paean-grub-") as folder:
        image = os.path.join(folder, "paean.iso")
        result = subprocess.run([os.path.join(harness.ROOT, "scripts/make-iso"), harness.kernel_path(), image],
                                env={**os.environ, "CMDLINE": line}, capture_output=True, text=True, check=False)
        check(result.returncode == 0, f"make-iso: {result.stderr.strip()}")
        with harness.boot(iso=image, memory="128M", screen=True) as guest:
            guest.expect_prompt(50)
            log = guest.text()
            check(logged in log.split("Command line: ")[-1].split("\n")[0],
                  f"the log does not show the command line `{logged}`")
            for text in printed:
                check(text in log, f"`{text}` was not printed")
    return ""


def cases(_options) -> list[Case]:
    return [Case(f"boot.grub.{name}", lambda rest=rest: boot_line(*rest)) for name, *rest in LINES]


if __name__ == "__main__":
    harness.main(__doc__, cases)
