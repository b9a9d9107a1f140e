#!/usr/bin/python3
"""The part of scripts/run that comes after the packages: build, choose an accelerator, boot, translate the exit."""

import argparse
import os
import signal
import subprocess
import sys
import termios

import guest

HELP = """
environment (make run passes the same names on, and make reads them from local.mk too):
  MEM=64G        memory of the machine          CPUS=2      processors
  ACCEL=auto     kvm, tcg, or auto: KVM if a trial boot shows that it works here
  CPU=max        -cpu of QEMU                   MACHINE=pc  or q35
  CMDLINE=       kernel command line            TIMEOUT=    seconds until the guest is stopped
  DEBUG=1 UBSAN=1  which build                  GDBPORT=1234
  QEMU=          the emulator                   QEMUEXTRA=  more arguments for it

exit status: 0 the guest reported success (poweroff, exit), 1 it reported failure, 2 it panicked, 124 TIMEOUT,
3 anything else: a triple fault, QEMU's own error, or leaving by Ctrl-A X, which QEMU does not tell from a
triple fault except by its message. Through `make` each of these that is not 0 becomes make's 2.
"""


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/run", epilog=HELP,
                                     description="Build Paean and boot it in QEMU, console on this terminal.",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iso", action="store_true", help="boot build/paean.iso through GRUB instead of -kernel")
    parser.add_argument("--gdb", action="store_true",
                        help="stop before the first instruction and wait for gdb (qemu-system-i386, 3 GB)")
    parser.add_argument("--kernel", metavar="FILE", help="boot this ELF and build nothing")
    parser.add_argument("--no-build", action="store_true", help="boot what is there")
    return parser.parse_args()


def build(options, folder):
    """Makes what we boot; returns its path."""
    if options.kernel:
        path = options.kernel
    else:
        path = f"{folder}/paean.iso" if options.iso else f"{folder}/kernel.elf"
        if not options.no_build and guest.make("iso" if options.iso else "all") != 0:
            sys.exit("scripts/run: the build failed")
    if not os.path.exists(path):
        sys.exit(f"scripts/run: {path} does not exist")
    return path


def for_gdb(vm):
    """gdb cannot attach a 32-bit ELF to the x86_64 stub, and qemu-system-i386 cannot give a guest more than 3 GB or
    so. Settings that were meant for the other emulator do not count here."""
    vm.accel = "tcg"
    if "i386" not in vm.qemu:
        vm.qemu, vm.cpu = "qemu-system-i386", "pentium3"
    if guest.parse_size(vm.mem) > 3072:
        vm.mem = "3G"
    vm.cpus = guest.env("CPUS", "1")


def machine(options, path):
    """The guest that the environment asks for."""
    env = guest.env
    vm = guest.Guest(mem=env("MEM", "64G"), cpus=env("CPUS", "2"), cpu=env("CPU", "max"),
                     qemu=env("QEMU", "qemu-system-x86_64"), machine=env("MACHINE", "pc"), cmdline=env("CMDLINE"),
                     extra=env("QEMUEXTRA"), accel=env("ACCEL", "auto"))
    if options.gdb:
        for_gdb(vm)
    if options.iso:
        vm.iso = path
    else:
        vm.kernel = path
    guest.need_program(vm.qemu)
    if vm.accel == "auto":
        kernel = path if not options.iso else os.path.join(os.path.dirname(path), "kernel.elf")
        vm.accel = guest.choose_accel("auto", kernel)
    return vm


def boot(command, timeout):
    """Runs QEMU on our terminal. Returns its status, or None when time ran out."""
    guest.end_on_signals()
    if sys.stdin.isatty():
        # Ctrl-C belongs to the guest: QEMU has the terminal in raw mode and passes it on.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    saved = termios.tcgetattr(0) if sys.stdin.isatty() else None
    process = subprocess.Popen(command)
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        guest.stop(process)
        return None
    finally:
        guest.stop(process)
        if saved is not None:
            termios.tcsetattr(0, termios.TCSANOW, saved)


def explain(status, timeout):
    """One line about the way it ended; nothing after a plain success."""
    if status is None:
        return f"stopped after TIMEOUT={timeout:g} s"
    if status == 0:
        hint = "you left with Ctrl-A X, or " if sys.stdin.isatty() else ""
        return f"QEMU ended with status 0: {hint}the guest reset itself (triple fault); neither counts as success"
    return {guest.PASS_STATUS: "", guest.FAIL_STATUS: "the guest reported failure",
            guest.PANIC_STATUS: "the guest panicked"}.get(status, f"QEMU ended with status {status}")


def main():
    options = parse_arguments()
    os.chdir(guest.ROOT)
    try:
        timeout = float(guest.env("TIMEOUT")) if guest.env("TIMEOUT") else None
    except ValueError:
        sys.exit(f"scripts/run: TIMEOUT={guest.env('TIMEOUT')} is not a number of seconds")
    print("Paean in QEMU. Ctrl-A X leaves, Ctrl-A C is QEMU's monitor, Ctrl-A H helps.", flush=True)
    try:
        vm = machine(options, build(options, guest.build_folder()))
    except ValueError as problem:
        sys.exit(f"scripts/run: MEM: {problem}")
    serial = ["-serial", "mon:stdio" if sys.stdin.isatty() else "stdio"]
    if options.gdb:
        port = guest.env("GDBPORT", "1234")
        serial += ["-S", "-gdb", f"tcp:127.0.0.1:{port}"]
        print(f"Waiting for gdb on port {port}: make gdb, in another terminal.", flush=True)
    try:
        command = vm.command(*serial)
    except ValueError as problem:
        sys.exit(f"scripts/run: MEM: {problem}")
    if guest.verbose():
        print(guest.shell(command), flush=True)
    status = boot(command, timeout)
    message = explain(status, timeout)
    if message:
        print(f"scripts/run: {message}")
    sys.exit(guest.exit_code(status))


if __name__ == "__main__":
    main()
