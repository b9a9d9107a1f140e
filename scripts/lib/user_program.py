"""tests/peer/init.c, the program that measures the user side: compiled, and put into an archive to boot with.

One static i386 binary runs on Linux and on Paean; the same archive is Linux's initramfs and Paean's boot module.
"""

import os
import subprocess
import sys

import guest

SOURCE = os.path.join(guest.ROOT, "tests/peer/init.c")
# What `init user` reports, by name.
NAMES = ("syscall", "anon_fault", "munmap_page", "fork_exit_wait_16M", "fork_cow_page", "exec", "file_write_page",
         "file_read_page", "file_map_touch_page", "pipe_roundtrip")
COMPLETE = "PEER complete"


def compile_to(path):
    """Builds the program, or ends the script with the reason."""
    result = subprocess.run(["gcc", "-m32", "-O2", "-static", "-o", path, SOURCE], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        print(result.stdout.rstrip(), file=sys.stderr)
        sys.exit(f"{os.path.basename(sys.argv[0])}: the user program does not build; it needs g++-multilib, which "
                 "scripts/deps run installs")


def archive_entry(name, mode, data):
    """A file of a cpio archive in the new ASCII format."""
    fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def write_archive(archive, files):
    """`files`: (name, path on the host, mode)"""
    with open(archive, "wb") as out:
        for name, path, mode in files:
            with open(path, "rb") as file:
                out.write(archive_entry(name, mode, file.read()))
        out.write(archive_entry("TRAILER!!!", 0, b""))


def prepare(folder):
    """The archive with /init alone."""
    os.makedirs(folder, exist_ok=True)
    program, archive = os.path.join(folder, "init"), os.path.join(folder, "init.cpio")
    compile_to(program)
    write_archive(archive, [("init", program, 0o100755)])
    return archive
