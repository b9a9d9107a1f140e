#!/usr/bin/python3
"""Runs programs that print TAP and adds up their cases.

    run.py PROGRAM [ARG...] [-- PROGRAM [ARG...]]...

The output passes through. A 32-bit program runs in qemu-user if the machine's kernel has no 32-bit programs. A program
that crashes, or prints no case at all, counts as one failure more. The last line is `N passed, N failed`; the exit
status is 0 only if nothing failed.
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts/lib"))
import i386

CASE = re.compile(r"(not )?ok \d+ ")


def run(command):
    """Returns (passed, failed) of one program."""
    passed = failed = 0
    process = subprocess.Popen([*i386.words_before(command[0]), *command], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace")
    for line in process.stdout:
        sys.stdout.write(line)
        case = CASE.match(line)
        if case and case.group(1):
            failed += 1
        elif case:
            passed += 1
    status = process.wait()
    if (status != 0 and failed == 0) or passed + failed == 0:
        print(f"not ok {passed + failed + 1} {command[0]} ended with status {status}")
        failed += 1
    sys.stdout.flush()
    return passed, failed


def main(argv):
    commands = [[]]
    for word in argv[1:]:
        if word == "--":
            commands.append([])
        else:
            commands[-1].append(word)
    passed = failed = 0
    for command in commands:
        more_passed, more_failed = run(command)
        passed += more_passed
        failed += more_failed
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
