#!/usr/bin/python3
"""The console over a plain pipe: editing, history, completion, help, every command, floods and noise."""

import random
import re
import time

import harness
import proc_text
import qemu
from harness import Case, check

MEMORY = "1G"
ENDING = ["panic", "reboot", "poweroff"]  # commands that end the guest: each has a case of its own
SLOW = {"selftest": "selftest no.such.test", "bench": "bench no_such_bench", "repeat": "repeat 2 echo again"}
NEEDED = """help meminfo zoneinfo buddyinfo pagetypeinfo iomem lowmem map pageinfo ptdump vtop ptov showmappings dmesg
cpus selftest bench alloc free repeat sysrq panic reboot poweroff""".split()
ARGUMENTS = {"pageinfo": ["0", "100000", "ffffffff"], "vtop": ["ff000000", "c0000000", "0"],
             "ptov": ["100000", "ffffffffff"], "showmappings": ["0 ffffffff", "c0000000"], "sysrq": ["m"],
             "alloc": ["1", "high 3"]}
HOSTILE = ["0", "-1", "ffffffffffffffffffffffff", "0x", "x" * 400, "\"", "1 2 3 4 5 6 7 8 9", "%s%n", "99999999999999"]
NOISE_BYTES = 65536
ANSWER_SECONDS = 2.0


def at_prompt(**settings):
    return harness.boot(**({"memory": MEMORY, "append": "panic=exit", "small_firmware": True} | settings))


def commands_of(guest: qemu.Guest) -> list[str]:
    return [line.split()[0] for line in guest.command("help").splitlines() if re.match(r" {0,4}[a-z]\w*( |$)", line)]


def banner() -> str:
    with at_prompt() as guest:
        log = guest.expect_prompt()
        check("Paean" in log, "no banner before the prompt")
        check(re.search(r"(?m)^\[ *\d+\.\d{6}\] ", log) is not None, "the log lines carry no time")
        missing = [name for name in NEEDED if name not in commands_of(guest)]
        check(not missing, f"help does not list {', '.join(missing)}")
        return f"{len(commands_of(guest))} commands"


def typed_before_boot() -> str:
    """What stands in the pipe before the machine starts is read from its first byte on."""
    with at_prompt() as guest:
        guest.process.stdin.write(b"echo early bird\nmeminfo\n")
        guest.expect(rb"[\r\n]early bird\r?\n", 40)
        guest.expect(rb"MemTotal:", 10)
    return ""


def every_command() -> str:
    """Each command alone, with arguments that make sense and with arguments that do not."""
    runs = 0
    with at_prompt(timeout=180) as guest:
        guest.expect_prompt()
        for name in commands_of(guest):
            text = guest.command(f"help {name}")
            check(name in text and len(text.strip()) > len(name), f"help {name} says nothing")
            if name in ENDING:
                continue
            lines = [SLOW[name]] if name in SLOW else [name]
            lines += [f"{name} {words}" for words in ARGUMENTS.get(name, [])]
            if name not in ("fault",):
                lines += [f"{name} {words}" for words in HOSTILE]
            for line in lines:
                if name == "repeat" and line.split()[1:2] == ["99999999999999"]:
                    continue
                guest.command(line, 60)
                runs += 1
        check("MemTotal" in guest.command("meminfo"), "meminfo does not answer at the end")
    return f"{runs} commands run"


def editing() -> str:
    with at_prompt() as guest:
        guest.expect_prompt()
        check("wrong" in guest.command("echo wromg\x7f\x7fng"), "backspace does not rub out")
        check("begin" in guest.command("gin\x01echo be"), "ctrl-A and typing in the middle does not insert")
        check("left" in guest.command("echo lft\x1b[D\x1b[De"), "the left arrow does not move")
        check("kept" in guest.command("nonsense\x15echo kept"), "ctrl-U does not clear the line")
        for word in ("oldest", "older", "newest"):
            guest.command(f"echo {word}")
        check("oldest" in last_line(guest.command("\x1b[A\x1b[A\x1b[A")), "three up arrows are not three lines")
        check("oldest" in last_line(guest.command("\x1b[A")), "up arrow does not bring the last line back")
        check("MemTotal" in guest.command("memi\t"), "TAB does not complete memi to meminfo")
        text = guest.command("meminof")
        check("meminfo" in text, f"a mistyped command does not say what it might have been: `{text.strip()}`")
        check("usage" in guest.command("vtop").lower(), "vtop without an address does not say how it is used")
        return ""


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def line_ends() -> str:
    """LF, CR and CRLF end a line, once each."""
    with at_prompt() as guest:
        guest.expect_prompt()
        for end in (b"\n", b"\r", b"\r\n"):
            guest.send(b"echo once" + end)
            guest.expect(rb"\nonce", 5)
            guest.expect(qemu.PROMPT, 5)
            guest.listen(0.2)
            rest = bytes(guest.output[guest.position:])
            check(b"paean>" not in rest, f"{end!r} gave two prompts")
        return ""


def long_line() -> str:
    with at_prompt(timeout=120) as guest:
        guest.expect_prompt()
        guest.send(b"x" * (100 * 1024), 60)
        guest.send(b"\r")
        guest.expect(qemu.PROMPT, 60)
        check("MemTotal" in guest.command("meminfo"), "no answer after a line of 100 KiB")
        return ""


def paste() -> str:
    """Far more than the kernel keeps, while it is busy: every line arrives, whole and in order."""
    count = 600
    with at_prompt(timeout=180) as guest:
        guest.expect_prompt()
        guest.send(b"fill /busy 64M\r" + b"".join(b"echo nth-%04d %s\r" % (i, b"x" * 20) for i in range(count)), 120)
        guest.expect(rb"[\r\n]nth-%04d x+\r?\n" % (count - 1), 120)
        lines = re.findall(r"(?m)^nth-(\d+) (x+)\r?$", guest.text())
        check(lines == [(f"{i:04d}", "x" * 20) for i in range(count)], f"only {len(lines)} lines of {count} are whole")
        return f"{count} lines"


def noise(seed: int) -> str:
    """Binary noise of any kind, then an ordinary command at once."""
    rng = random.Random(seed)
    data = bytes(rng.getrandbits(8) for _ in range(NOISE_BYTES))
    if seed % 2:  # mostly escape sequences and control bytes
        data = b"".join(rng.choice([b"\x1b[", b"\x1bO", b"\x1b[1;5", b"\x1b[A", b"\t", b"\x7f", b"\r", b"\x0c", b"\x17",
                                    b"he", bytes([rng.getrandbits(8)])]) for _ in range(NOISE_BYTES // 2))
    with at_prompt(timeout=180) as guest:
        guest.expect_prompt()
        guest.send(data, 120)
        guest.send(b"\x03\r\r", 60)
        guest.listen(0.3)
        # What the noise typed may still be running; wait until the guest has nothing more to say.
        while True:
            before = len(guest.output)
            guest.listen(0.5)
            if len(guest.output) == before:
                break
        guest.position = len(guest.output)
        start = time.monotonic()
        guest.send(b"help\r")
        guest.expect(rb"meminfo", ANSWER_SECONDS)
        guest.expect(qemu.PROMPT, ANSWER_SECONDS)
        return f"help answered after {time.monotonic() - start:.2f} s"


def run_and_exit() -> str:
    with at_prompt(append='run="meminfo; zoneinfo" panic=exit exit') as guest:
        status = guest.wait_exit(40)
        check(status == qemu.PASS, f"ended with {qemu.describe_status(status)}")
        proc_text.meminfo(guest.text())
        proc_text.zoneinfo(guest.text())
        return ""


def ends(command: str) -> str:
    with at_prompt() as guest:
        guest.expect_prompt()
        guest.send(command.encode() + b"\r")
        status = guest.wait_exit(15, panic_is_expected=True)
        wanted = {"panic": {qemu.PANIC}, "reboot": {0}, "poweroff": {qemu.PASS}}[command]
        check(status in wanted, f"{command} ended with {qemu.describe_status(status)}")
        check(command == "panic" or "PANIC" not in guest.text(), f"{command} panicked")
        return ""


def panic_reboots() -> str:
    """panic=n: the report stays on the console for n seconds, then the machine starts again."""
    with at_prompt(append="panic=2") as guest:
        guest.expect_prompt()
        guest.send(b"panic\r")
        guest.expect(rb"end of panic", 15, panic_is_expected=True)
        start = time.monotonic()
        status = guest.wait_exit(15, panic_is_expected=True)
        seconds = time.monotonic() - start
        check(status == 0, f"panic=2 ended with {qemu.describe_status(status)}")
        check(1.0 < seconds < 12.0, f"the machine was reset after {seconds:.1f} s")
    return f"reset after {seconds:.1f} s"


def same_pages(seed: int) -> str:
    """alloc and free from the console give back what they took: free pages before and after are equal."""
    with at_prompt() as guest:
        guest.expect_prompt()
        before = guest.command("meminfo")
        for _ in range(3):
            guest.command(f"repeat {50 + seed} meminfo", 30)
        check(free_kb(before) == free_kb(guest.command("meminfo")), "printing costs memory")
        return ""


def free_kb(text: str) -> int:
    return proc_text.meminfo(text)["MemFree"]


def cases(options) -> list[Case]:
    named = [("banner", banner), ("typed_before_boot", typed_before_boot), ("panic_reboots", panic_reboots),
             ("every_command", every_command), ("editing", editing), ("line_ends", line_ends),
             ("long_line", long_line), ("paste", paste), ("run_and_exit", run_and_exit),
             ("same_pages", lambda: same_pages(1))]
    named += [(f"noise-{seed}", lambda seed=seed: noise(seed)) for seed in range(20 if options.full else 2)]
    named += [(f"ends-{command}", lambda command=command: ends(command)) for command in ENDING]
    return [Case(f"boot.console.{name}", run, f"tests/boot/console.py --full --only 'boot.console.{name}'")
            for name, run in named]


if __name__ == "__main__":
    harness.main(__doc__, cases)
