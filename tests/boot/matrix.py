#!/usr/bin/python3
"""The boot matrix: memory sizes, machines, ways to boot, CPU models and CPU counts, every pair of them in few boots.

The normal run takes the first rows of the pairwise list: all pairs but half of those of memory size with CPU model.
--full takes all rows. Machines that Paean cannot run on follow: each must say so in one sentence on the serial line and
on the screen.
"""

import shutil

import accounting
import harness
import model
import pairwise
import proc_text
import qemu
from harness import Case, check

RAM = ["16M", "64M", "512M", "895M", "896M", "897M", "1G", "3.5G", "4G", "6G", "16G", "60G", "64G", "68G", "128G",
       "256G"]
MACHINES = ["pc", "q35"]
BOOTS = ["kernel", "iso"]
CPUS = ["qemu64", "max", "Nehalem", "max,-nx", "max,-pge", "max,-smep,-smap", "pentium3", "qemu64,-sse3,-svm"]
SMP = [1, 2, 4]
FACTORS = [RAM, MACHINES, BOOTS, CPUS, SMP]
NORMAL_ROWS = 60
SMALL_FOR_PENTIUM3 = 3 << 30  # its address lines end at 64 GB; QEMU refuses anything that could pass them
MIB_KB = 1024

# The size that Paean is about, in every way that it is booted, and the two beyond it.
FIRST = [("64G", "pc", "kernel", "qemu64", 1), ("64G", "pc", "iso", "max", 2), ("64G", "q35", "kernel", "Nehalem", 4),
         ("64G", "q35", "iso", "max,-nx", 1), ("128G", "pc", "iso", "qemu64", 4), ("256G", "q35", "kernel", "max", 1),
         ("256G", "pc", "kernel", "qemu64", 2),
         ("16M", "pc", "kernel", "pentium3", 1), ("16M", "q35", "iso", "qemu64", 1)]


def allowed(row: tuple) -> bool:
    size, _, _, cpu, _ = row
    return cpu != "pentium3" or qemu.parse_size(size) <= SMALL_FOR_PENTIUM3


def check_numbers(size: str, memory: dict[str, int]) -> str:
    """The bars for this size of machine; kB throughout."""
    whole = qemu.parse_size(size) >> 10
    if size == "64G":
        check(memory["LowFree"] >= 780 * MIB_KB, f"LowFree {memory['LowFree']} kB, the bar is {780 * MIB_KB}")
        check(memory["MemTotal"] >= 66950000, f"MemTotal {memory['MemTotal']} kB, the bar is 66950000")
    if whole >= 128 << 20:
        check(memory["MemTotal"] * 100 >= whole * 99, f"MemTotal {memory['MemTotal']} kB of {whole} is below 99 %")
    # Kernel, frame array and bitmaps: 6 MiB, and 0.15 % for the machines in between.
    least = whole - 6 * MIB_KB - whole * 15 // 10000
    check(memory["MemTotal"] >= least, f"MemTotal {memory['MemTotal']} kB of {whole}: less than {least}")
    return f"MemTotal {memory['MemTotal']} kB, LowFree {memory['LowFree']} kB"


def believed_map(log: str, size: str, machine: str) -> list[model.Entry]:
    """The firmware's map as the log shows it, after a look at whether it can be true."""
    entries = [model.Entry(begin, end - begin, 1 if kind in ("usable", "System RAM") else 2)
               for begin, end, kind in proc_text.firmware_entries(log)]
    check(bool(entries), "the log shows no BIOS-e820 line")
    usable = model.pages(model.usable_ranges(entries, 64))
    expected = model.pages(model.usable_ranges(model.firmware_map(qemu.parse_size(size), machine), 64))
    check(abs(usable - expected) <= 64, f"the log's map has {usable} usable pages, the machine {expected}")
    return entries


def physical_bits(cpu: str) -> int:
    return 36 if cpu == "pentium3" else 40


def boot_row(row: tuple) -> str:
    size, machine, way, cpu, smp = row
    settings = {"memory": size, "machine": machine, "cpu": cpu, "smp": smp, "screen": True}
    if way == "iso":
        settings |= {"iso": harness.iso_path()}
    else:
        settings |= {"append": "panic=exit"}
    with harness.boot(**settings) as guest:
        guest.expect_prompt(50)
        seconds = guest.arrivals[-1][0]
        log = guest.text()
        memory = accounting.check_all(guest, log, [believed_map(log, size, machine)], physical_bits(cpu))
        return f"{check_numbers(size, memory)}, prompt after {seconds:.1f} s"


def row_case(row: tuple) -> Case:
    name = "boot.matrix." + "-".join(str(value).replace(",-", "-no_") for value in row[:4]) + f"-smp{row[4]}"
    return Case(name, lambda: boot_row(row), f"tests/boot/matrix.py --full --only '{name}'")


# --- machines that Paean cannot run on -------------------------------------------------------------------------------

# CPU, memory, and a word that the sentence must contain. The kernel image alone needs the memory above 1 MiB.
HOPELESS = [("486", "64M", "PAE"), ("qemu64,-pae", "1G", "PAE"), ("max,-pae", "64G", "PAE"),
            ("qemu64,-cx8", "64M", "CX8|CMPXCHG8B"),
            ("qemu64", "2M", "memory")]
SMALL = ["3M", "4M", "5M", "6M", "7M", "8M", "9M", "10M", "12M", "14M"]
SENTENCE = rb"Paean cannot boot: [^\r\n]+[\r\n]"


def check_refusal(guest: qemu.Guest, sentence: str) -> None:
    """A guest without an exit device has refused and now stands still."""
    guest.listen(0.3)
    check(guest.text().count("Paean cannot boot:") == 1, "said more than once")
    check("PANIC" not in guest.text(), "panicked after refusing")
    # The sentence may be wrapped anywhere on the screen, so blanks do not count.
    screen = guest.screen()
    check("".join(sentence.split()) in "".join(screen.split()),
          f"the screen does not show `{sentence}` but `{' '.join(screen.split())[:200]}`")


def check_refusal_status(settings: dict) -> None:
    with harness.boot(**settings) as guest:
        status = guest.wait_exit(20)
        check(status == qemu.FAIL, f"refused, but ended with {qemu.describe_status(status)}")


def refuse_machine(cpu: str, size: str, word: str) -> str:
    settings = {"memory": size, "cpu": cpu, "append": "panic=exit"}
    with harness.boot(exit_device=False, screen=True, **settings) as guest:
        sentence = guest.expect(SENTENCE, 20)[0].decode("latin-1").strip()
        check(any(w.lower() in sentence.lower() for w in word.split("|")), f"`{sentence}` does not name {word}")
        check_refusal(guest, sentence)
    check_refusal_status(settings)
    return sentence


def broken_emulator() -> str:
    """qemu-system-i386 7.2 reads page tables above 4 GB from addresses cut to 32 bits. The kernel must name it instead
    of dying of it."""
    program = "qemu-system-i386"
    if shutil.which(program) is None:
        raise harness.Skip(f"{program} is not installed")
    settings = {"memory": "5G", "program": program}
    with harness.boot(exit_device=False, screen=True, **settings) as guest:
        found = guest.expect(qemu.PROMPT + b"|" + SENTENCE, 40)
        if b"cannot boot" not in found[0]:
            raise harness.Skip("this one reads page tables above 4 GB rightly")
        sentence = found[0].decode("latin-1").strip()
        check("use qemu-system-x86_64" in sentence, f"`{sentence}` does not name the way out")
        check_refusal(guest, sentence)
    check_refusal_status(settings)
    return sentence


def refusal_case(cpu: str, size: str, word: str) -> Case:
    name = f"boot.refuse.{cpu.replace(',-', '-no_')}-{size}"
    return Case(name, lambda: refuse_machine(cpu, size, word), f"tests/boot/matrix.py --only '{name}'")


def small_machine(size: str) -> str:
    """Machines below 16 MB may boot or refuse, but clearly."""
    settings = {"memory": size, "append": "panic=exit"}
    with harness.boot(exit_device=False, screen=True, **settings) as guest:
        found = guest.expect(qemu.PROMPT + b"|" + SENTENCE, 40)
        if b"cannot boot" not in found[0]:
            memory = proc_text.meminfo(guest.command("meminfo"))
            return f"booted, MemFree {memory['MemFree']} kB"
        sentence = found[0].decode("latin-1").strip()
        check("memory" in sentence.lower(), f"`{sentence}` does not name memory")
        check_refusal(guest, sentence)
    check_refusal_status(settings)
    return sentence


def small_case(size: str) -> Case:
    name = f"boot.small.{size}"
    return Case(name, lambda: small_machine(size), f"tests/boot/matrix.py --only '{name}'")


def cases(options) -> list[Case]:
    rows = pairwise.rows(FACTORS, allowed, FIRST)
    if not options.full:
        rows = rows[:NORMAL_ROWS]
    return ([row_case(row) for row in rows] + [refusal_case(*hopeless) for hopeless in HOPELESS]
            + [Case("boot.refuse.broken_emulator", broken_emulator)] + [small_case(size) for size in SMALL])


if __name__ == "__main__":
    harness.main(__doc__, cases)
