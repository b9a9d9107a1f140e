#!/usr/bin/python3
"""Runs all boot tests, two guests side by side, and prints TAP.

    tests/boot/run_all.py                                everything that a pull request must pass, about 4 minutes
    tests/boot/run_all.py --only 'boot.matrix.64G-*'     some of it
    tests/boot/run_all.py --full                         the whole matrix and ten times the seeds

Environment: BUILD is the build directory (default `build`); PAEAN_KERNEL and PAEAN_ISO name other images.
Each failure is followed by `# reproduce: <command>` and the end of the guest's output.
"""

import bochs
import command_lines
import console
import death
import grub
import harness
import hole_placement
import loader_state
import matrix
import memory_numbers
import memory_options
import random_maps
import self_check

# The quick ones that tell most come first, the long series last.
PARTS = [self_check, memory_numbers, console, death, loader_state, hole_placement, memory_options, grub, matrix,
         bochs, command_lines, random_maps]


def cases(options) -> list[harness.Case]:
    return [case for part in PARTS for case in part.cases(options)]


if __name__ == "__main__":
    harness.main(__doc__, cases)
