#!/usr/bin/python3
"""Death tests: what must kill the kernel kills it, with the report that it deserves.

The kernel does each deed itself when told `selftest=death.<name>`. It says first what its last words will contain
(`# expect: ...`), and must then end in a panic whose report contains that, with a symbolised backtrace and status 37.
"""

import re

import harness
import qemu
from harness import Case, check

NAMES = ["guard_page", "wx_write_text", "wx_write_text_alias", "exec_nx", "null", "double_free", "wrong_order_free",
         "foreign_free", "double_fault", "divide", "assert"]
MEMORY = ["64M", "4G"]  # without highmem and with it
FRAME = re.compile(r"^(?:\[[ 0-9.]+\] )?#0 +[0-9a-f]{8} +\S+\+0x[0-9a-f]+/0x[0-9a-f]+", re.M)


def die(name: str, memory: str) -> str:
    with harness.boot(memory=memory, append=f"selftest=death.{name} panic=exit exit") as guest:
        found = guest.expect(rb"# expect: ([^\r\n]+)[\r\n]", 30, panic_is_expected=True)
        expected = found[1].decode("latin-1").strip()
        guest.expect(rb"PANIC: ", 20, panic_is_expected=True)
        begin = guest.position - len("PANIC: ")
        status = guest.wait_exit(20, panic_is_expected=True)
        report = qemu.clean(guest.output[begin:])
        check(expected in report, f"the report does not contain `{expected}`")
        check(FRAME.search(report) is not None, "no symbolised `#0` line in the backtrace")
        check(report.count("PANIC: ") == 1, f"{report.count('PANIC: ')} panics: reporting one caused another")
        check(status == qemu.PANIC, f"ended with {qemu.describe_status(status)}")
        return expected


def death_case(name: str, memory: str) -> Case:
    full = f"boot.death.{name}-{memory}"
    return Case(full, lambda: die(name, memory), f"tests/boot/death.py --only '{full}'")


def cases(options) -> list[Case]:
    return [death_case(name, memory) for memory in MEMORY for name in NAMES]


if __name__ == "__main__":
    harness.main(__doc__, cases)
