"""How 32-bit programs run on this machine: by its kernel, or, where that was started without them, in qemu-user.

Host tests and fuzzers are 32-bit, so that `usize` and structures are as wide as in the kernel. Some hosts' kernels
refuse such programs (`ia32_emulation=off`, the rule in many virtual machines).
"""

import errno
import os
import shutil
import subprocess
import sys

EMULATOR = "qemu-i386"


def is_32_bit(program):
    with open(program, "rb") as file:
        return file.read(5) == b"\x7fELF\x01"


def starts(program):
    """Whether the kernel here takes the program; it is ended at once."""
    try:
        with subprocess.Popen([program], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            process.kill()
        return True
    except OSError as problem:
        if problem.errno != errno.ENOEXEC:
            raise
        return False


def words_before(program):
    """What to put in front of a program's command: nothing, or the emulator."""
    if not is_32_bit(program) or starts(program):
        return []
    if not shutil.which(EMULATOR):
        sys.exit(f"{os.path.basename(sys.argv[0])}: the kernel of this machine runs no 32-bit programs, and {EMULATOR} "
                 "is missing: apt-get install -y qemu-user")
    # The leak sanitizer stops threads by ptrace, which the emulator does not have. The address sanitizer has no
    # shadow for the last of four gigabytes, nor for the last bytes of the third: programs get less.
    return ["env", "ASAN_OPTIONS=detect_leaks=0:" + os.environ.get("ASAN_OPTIONS", ""), EMULATOR, "-R", "0xb0000000"]
