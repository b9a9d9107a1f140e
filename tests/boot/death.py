#!/usr/bin/python3
"""Death tests: what must kill the kernel kills it, with the report that it deserves.

The kernel does each deed itself when told `selftest=death.<name>`. It says first what its last words will contain
(`# expect: ...`, one or several), and must then end in one panic whose report contains that, with a symbolised
backtrace and status 37. The deeds are all those of suite `death` in tests/unit; some must be among them.
"""

import glob
import os
import re

import harness
import qemu
from harness import Case, check

NEEDED = ["guard_page", "wx_write_text", "wx_write_text_alias", "exec_nx", "null", "double_free", "wrong_order_free",
          "foreign_free", "double_fault", "divide", "assert", "boot_stack_overflow", "cpu_stack_overflow",
          "reserved_bit_in_a_directory_pointer", "reload_of_cr3_is_owed", "kernel_directory_changed_after_boot"]
MEMORY = ["64M", "4G"]  # without highmem and with it
HAS_CHECKS = os.path.basename(harness.build_directory()) in ("debug", "ubsan")  # such a build has all the deeds
SLOW = {"watchdog"}  # waits for 30 s of one test, once
CPUS = {"cpu_stack_overflow": 2, "local_map_by_another_cpu": 2, "vmap_of_a_parked_page": 2}  # others die on one
FIRST_FRAME = re.compile(r"^(?:\[[ 0-9.]+\] )?#0 +[0-9a-f]{8} ", re.M)
# Any frame: the first one has no name when what was executed is data.
NAMED_FRAME = re.compile(r"^(?:\[[ 0-9.]+\] )?#\d+ +[0-9a-f]{8} +\S.*\+0x[0-9a-f]+/0x[0-9a-f]+", re.M)
EXPECT = re.compile(r"^# expect: (.+)$", re.M)


def names() -> list[str]:
    """The deeds that must be there, and the others that the sources have."""
    found = set()
    for path in glob.glob(os.path.join(harness.ROOT, "tests", "unit", "*.cpp")):
        with open(path, encoding="utf-8") as file:
            found |= set(re.findall(r"KTEST\(death, (\w+)", file.read()))
    return NEEDED + sorted(found - set(NEEDED))


def die(name: str, memory: str) -> str:
    with harness.boot(memory=memory, smp=CPUS.get(name, 1), append=f"selftest=death.{name} panic=exit exit",
                      small_firmware=True, silence=50, timeout=90) as guest:
        guest.expect(rb"PANIC: |# Totals: ", 60, panic_is_expected=True)
        text = guest.text()
        if "no test is selected" in text:
            check(name not in NEEDED and not HAS_CHECKS, "the kernel has no such test")
            raise harness.Skip("not in this build")
        if "# SKIP" in text and "PANIC: " not in text:
            check(memory == MEMORY[0], "skipped although there is highmem")
            raise harness.Skip(text.split("# SKIP")[1].splitlines()[0].strip())
        check("PANIC: " in text, "survived")
        begin = guest.position - len("PANIC: ")
        status = guest.wait_exit(20, panic_is_expected=True)
        report = qemu.clean(guest.output[begin:])
        expected = EXPECT.findall(qemu.clean(guest.output[:begin]))
        check(bool(expected), "did not say what to expect")
        for words in expected:
            check(words.strip() in report, f"the report does not contain `{words.strip()}`")
        check(FIRST_FRAME.search(report) is not None, "no `#0` line in the backtrace")
        check(NAMED_FRAME.search(report) is not None, "no function's name in the backtrace")
        check(report.count("PANIC: ") == 1, f"{report.count('PANIC: ')} panics: reporting one caused another")
        check(status == qemu.PANIC, f"ended with {qemu.describe_status(status)}")
        return "; ".join(expected)


def death_case(name: str, memory: str) -> Case:
    full = f"boot.death.{name}-{memory}"
    return Case(full, lambda: die(name, memory), f"tests/boot/death.py --only '{full}'")


def cases(options) -> list[Case]:
    return [death_case(name, memory) for memory in MEMORY for name in names()
            if name not in SLOW or memory == MEMORY[0]]


if __name__ == "__main__":
    harness.main(__doc__, cases)
