"""Debian's last kernels with highmem, made bootable without installing anything: packages, module, initramfs.

Everything lies in build/peer. apt works there with lists and a status of its own for amd64 and i386, so the machine's
architectures and packages stay as they are, and nobody has to be root. What was fetched once is used again: a second
run needs no network. `make clean` throws it away.
"""

import glob
import os
import re
import shutil
import subprocess
import sys

import guest
import user_program

FOLDER = os.path.join(guest.ROOT, "build/peer")
SOURCES = os.path.join(guest.ROOT, "tests/peer")
IMAGE = re.compile(r"^linux-image-(6\.1\.0-(\d+))-686-pae$", re.MULTILINE)

APT_CONFIG = """\
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; "i386"; }};
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "{0}/apt/state";
Dir::State::lists "{0}/apt/lists";
Dir::State::status "{0}/apt/status";
Dir::Cache "{0}/apt/cache";
"""


def fail(sentence):
    sys.exit(f"scripts/bench-linux: {sentence}")


def run(command, problem, **options):
    """A command whose output shows only when it fails; `problem` is the one sentence then."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                            **options)
    if result.returncode:
        print("\n".join(result.stdout.rstrip().split("\n")[-15:]), file=sys.stderr)
        fail(problem)
    return result.stdout


def packages(release):
    return [f"linux-image-{release}-686-pae:i386", f"linux-headers-{release}-686-pae:i386",
            f"linux-headers-{release}-common", "linux-kbuild-6.1:amd64"]


def private_apt():
    """The environment that makes apt keep to build/peer/apt."""
    for folder in ("lists/partial", "cache/archives/partial", "state"):
        os.makedirs(f"{FOLDER}/apt/{folder}", exist_ok=True)
    with open(f"{FOLDER}/apt/status", "a", encoding="utf-8"):
        pass
    with open(f"{FOLDER}/apt.conf", "w", encoding="utf-8") as file:
        file.write(APT_CONFIG.format(FOLDER))
    return {**os.environ, "APT_CONFIG": f"{FOLDER}/apt.conf"}


def fetch():
    """Downloads and unpacks the newest 6.1 that Debian has for i386 with PAE."""
    environment = private_apt()
    # One list of several may be out of step on a mirror; whether what we need is there shows in the next step.
    subprocess.run(["apt-get", "-qq", "update"], env=environment, check=False)
    names = subprocess.run(["apt-cache", "pkgnames", "linux-image-6.1.0-"], env=environment, stdout=subprocess.PIPE,
                           text=True, check=False).stdout
    releases = sorted(IMAGE.findall(names), key=lambda found: int(found[1]))
    if not releases:
        fail("apt knows no linux-image-6.1.0-*-686-pae:i386; this needs Debian 12's sources and, once, the network")
    release = releases[-1][0]
    print(f"# fetching linux-image-{release}-686-pae, its headers and kbuild (66 MB, once)", flush=True)
    downloads = f"{FOLDER}/debs"
    os.makedirs(downloads, exist_ok=True)
    run(["apt-get", "-q", "download", *packages(release)],
        f"apt cannot download all of {', '.join(packages(release))}", env=environment, cwd=downloads)
    for name in glob.glob(f"{downloads}/*.deb"):
        run(["dpkg", "-x", name, f"{FOLDER}/root"], f"{name} cannot be unpacked; delete it and try again")
    with open(f"{FOLDER}/release", "w", encoding="utf-8") as file:
        file.write(release)
    return release


def have():
    """The release in the cache, fetched if there is none."""
    if os.path.exists(f"{FOLDER}/release"):
        with open(f"{FOLDER}/release", encoding="utf-8") as file:
            return file.read()
    for program in ("apt-get", "dpkg"):
        guest.need_program(program)
    return fetch()


def build_module(release):
    headers = f"{FOLDER}/root/usr/src/linux-headers-{release}-686-pae"
    # Debian's one-line makefile names the place where the package would be installed.
    with open(f"{headers}/Makefile", "w", encoding="utf-8") as file:
        file.write(f"include {FOLDER}/root/usr/src/linux-headers-{release}-common/Makefile\n")
    module = f"{FOLDER}/module"
    os.makedirs(module, exist_ok=True)
    for name in ("Kbuild", "peerbench.c"):
        shutil.copy(f"{SOURCES}/{name}", module)
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BUILD", "CXX", "V", "DEBUG")}
    run(["make", "-s", "-C", headers, f"M={module}", "ARCH=i386", "modules"],
        "the kernel module does not build; it needs gcc-12 (Debian 12's gcc)", env=environment)
    return f"{module}/peerbench.ko"


def make_archive(module):
    """The same archive is Linux's initramfs and Paean's boot module."""
    program, archive = f"{FOLDER}/init", f"{FOLDER}/initramfs.cpio"
    user_program.compile_to(program)
    user_program.write_archive(archive, [("init", program, 0o100755), ("peerbench.ko", module, 0o100644)])
    return archive


def prepare():
    """(release, kernel, archive)"""
    release = have()
    archive = make_archive(build_module(release))
    return release, f"{FOLDER}/root/boot/vmlinuz-{release}-686-pae", archive
