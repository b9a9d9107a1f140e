#!/usr/bin/python3
"""Runs all boot tests, --jobs of them side by side, and prints TAP.

    tests/boot/run_all.py                                everything that a pull request must pass
    tests/boot/run_all.py --only 'boot.matrix.64G-*'     some of it
    tests/boot/run_all.py --full                         the whole matrix and ten times the seeds

Environment: BUILD is the build directory (default `build`); PAEAN_KERNEL and PAEAN_ISO name other images.
Each failure is followed by `# reproduce: <command>` and the end of the guest's output.
"""

import bochs
import command_lines
import console
import cpus
import death
import disks
import disks_edu
import disks_partitions
import exhaustion
import ext2
import ext2_damage
import ext2_errors
import ext2_structures
import faults
import figures
import files
import grub
import harness
import hole_placement
import loader_state
import lowmem_holes
import matrix
import memory_numbers
import memory_options
import nmi
import profiles
import random_maps
import report
import self_check
import soak
import user

# The quick ones that tell most come first, the long series last.
PARTS = [self_check, memory_numbers, profiles, figures, console, cpus, death, ext2, ext2_damage, ext2_errors,
         ext2_structures, files, user, disks, disks_partitions, disks_edu, exhaustion, faults, loader_state,
         hole_placement, lowmem_holes, memory_options, nmi, report, grub, matrix, bochs, command_lines, random_maps,
         soak]


def cases(options) -> list[harness.Case]:
    """The longest one comes first, far from the other of its kind: side by side they push each other out of caches."""
    found = [case for part in PARTS for case in part.cases(options)]
    return sorted(found, key=lambda case: case.name != bochs.LONGEST)


if __name__ == "__main__":
    harness.main(__doc__, cases)
