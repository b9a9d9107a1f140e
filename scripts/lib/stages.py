#!/usr/bin/python3
"""The part of scripts/test that comes after the packages of the build: stages, their cases added up, one summary."""

import argparse
import concurrent.futures
import dataclasses
import os
import re
import shlex
import subprocess
import sys
import time

import guest

LOGS = "build/test"
TAP_CASE = re.compile(r"^(not ok|ok) \d+\b(?!.*# SKIP)")
TAP_SKIP = re.compile(r"^(?:not ok|ok) \d+\b.*# SKIP")
LINT_CASE = re.compile(r"^(OK|FAIL) \S")
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed\b")
DOCTEST = re.compile(r"^\[doctest\] test cases:\s*\d+ \|\s*(\d+) passed \|\s*(\d+) failed")
REPRODUCE = re.compile(r"^\s*#? ?reproduce: (.+)$")

FLAVOURS = ("release", "ubsan")
FEWER_ROUNDS = "selftest.rounds=200000"
NICEST = 19  # takes only what the others leave
MISSING = (127, "packages are missing\n# reproduce: scripts/deps test\n")  # as run_one answers

# The kernel's own suites: flavour, memory, CPUs, tests, more of the command line. Each test runs in the sanitizer's
# build, which has every check of the debug build, at 4G, where DMA32 is the high zone; in the release build at 64G,
# which has every zone, and at 64M, which has no high memory. What options or holes in lowmem change is tested with them
# too; the rest of it with --full. On the machines beyond 64G: is the last frame of each range, and every power of two,
# memory of its own? With one CPU reclaim keeps its promises to the page. Guests that share the host race with fewer
# iterations: races have all of them in a stage of their own.
FORCED = "vfallback=always kmap=force"
HOLES = "memmap=96M$256M,64M$512M"
MAPPED = ("kmap*.*,highmem.*,vcompound.*,vmalloc*.*,vmap.*,slab.*,kmalloc.*,user_*.*,ukva.*,page_cache*.*,folio_io.*,"
          "bounce.*,*disk*.*,tmpfs.*,vfs.*,ext2.*,swap.*,lending.*,console.*,thread.*,fault.*")
PLACED = ("holes.*,address_space.*,layout.*,frame_words.*,zone.*,page_alloc.*,ledger.*,slab*.*,kmalloc.*,vmalloc*.*,"
          "vmap.*,vcompound.*,thread.*,lending*.*,shrink.*,user_*.*,ukva.*,bounce.*,ioremap.*,device_pages.*,"
          "page_cache.*,swap.*")
KERNEL_RUNS = (("ubsan", "4G", 2, "all"), ("release", "64G", 2, "all"), ("release", "64M", 1, "all"),
               ("release", "4G", 1, "reclaim.*"), ("release", "128G", 1, "memory.*"),
               ("release", "256G", 1, "memory.*"))
QUICK_RUNS = (("ubsan", "512M", 2, MAPPED, FORCED), ("release", "4G", 2, PLACED, HOLES))
FULL_RUNS = (("ubsan", "512M", 2, "all", FORCED), ("release", "4G", 2, "all", HOLES),
             ("release", "512M", 2, "all", "vfallback=always"))


@dataclasses.dataclass
class Result:
    stage: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    reproduce: list
    note: str = ""


@dataclasses.dataclass
class Stage:
    name: str
    commands: list      # all are run, one after the other
    reproduce: str      # when the log names nothing better
    nice: int = 0       # not 0: it fills what the stage beside it leaves of the host


# Locks, and sleeping with maps, are checked in builds with checks alone.
DEBUG_DEATHS = "boot.death.lock_order-*,boot.death.mutex_*,boot.death.spin_lock_*,boot.death.kmap_*"
GONE_EVERYWHERE = "tlb.a_page_that_was_shot_down_faults_elsewhere,vmalloc_purge.nobody_reads_what_was_purged"
RANDOM_PAUSES = "ledger.exact_at_random_pauses"
SPINNING_MUTEX = "sync.mutex_of_a_running_owner_is_waited_for"
LONG_TORTURE = "torture.a_hundred_thousand_interrupts"


def kernel_command(flavour, mem, cpus, globs, append="", name=""):
    name = name or f"{flavour}-{mem}"
    log = os.path.join(LOGS, f"kernel-{name}.serial")
    command = ["scripts/ktest", "--build", flavour, "--mem", mem, "--cpus", str(cpus), "--prefix", f"{name}.",
               "--log", log, "--timeout", "400", "--silence", "60"]  # guests share the host with each other
    if append:
        command += ["--append", append]
    return command + [guest.env("TEST", globs)]


def shared_kernel_command(flavour, mem, cpus, globs, append=""):
    """For a guest that shares the host with others."""
    name = f"{flavour}-{mem}" + ("-" + re.sub(r"[^a-z]+", "-", append).strip("-") if append else "")
    return kernel_command(flavour, mem, cpus, globs, f"{append} {FEWER_ROUNDS}".strip(), name)


def race_commands(full):
    """Without highmem, so that the guests are small; kmap=force has every page mapped all the same. 64 slots for the
    most reuse, 512 for 600 threads. The 100,000 reads of addresses that are gone, and the ledger's 1,000 pauses, are
    demanded here, where both CPUs run at once. A long run has ten times the interrupts."""
    tries = ["--tries", "3"]
    commands = [kernel_command("release", "192M", 2, f"race.*,{GONE_EVERYWHERE},{SPINNING_MUTEX},{RANDOM_PAUSES}",
                               "kmap=force pkmap=64", "race-64-slots") + tries,
                kernel_command("release", "256M", 2, f"contention.*,stream.*,race.slots_*,{LONG_TORTURE}",
                               "kmap=force pkmap=512", "race-512-slots") + tries]
    # Nobody waits for a slot while he has one: what the checker of such builds looks for.
    commands.append(kernel_command("ubsan", "256M", 2, "contention.*,race.slots_*",
                                   "kmap=force pkmap=512 selftest.rounds=50000", "race-512-slots-checked") + tries)
    for run in range(9 if full else 0):
        commands.append(kernel_command("release", "256M", 2, LONG_TORTURE, f"kmap=force selftest.seed={run + 2}",
                                       f"torture-{run + 2}"))
    return commands


def make_command(target):
    return ["make", "--no-print-directory", "-s", "-j2", target]


def all_stages(options):
    full = ["--full"] if options.full else []
    fuzz = make_command("fuzz-run") + (["FUZZ_SECONDS=120"] if options.full else [])
    runs = KERNEL_RUNS + (FULL_RUNS if options.full else QUICK_RUNS)
    stages = [
        Stage("build", [], "make all"),
        Stage("lint", [["scripts/lint", *([] if options.full else ["--quick"])]], "scripts/lint", nice=NICEST),
        Stage("host", [make_command("host-test")], "make host-test", nice=NICEST),
        Stage("models", [["tests/models/run"]], "tests/models/run", nice=NICEST),
        Stage("fuzz", [fuzz], "make fuzz-run", nice=NICEST),
        Stage("kernel", [shared_kernel_command(*run) for run in runs], "scripts/test kernel"),
        # Beside nothing but what fills: two CPUs race only where both have a core of the host.
        Stage("race", race_commands(options.full), "scripts/test race"),
        Stage("boot", [["env", "BUILD=build/ubsan", "tests/boot/death.py", "--only", DEBUG_DEATHS],
                       ["env", "BUILD=build/ubsan", "tests/boot/user.py", "--only", "boot.user.checked"],
                       ["tests/boot/run_all.py", "--jobs", "3", *full]],
              "tests/boot/run_all.py", nice=10),
        Stage("bench", [["scripts/bench", "--only", kind, "--check", "--mem", "64G"]
                        for kind in ("counts", "holes", "user")],
              "scripts/test bench", nice=NICEST),
        # Alone: these compare times.
        Stage("scaling", [["scripts/bench", "--only", "smp", "--check"], ["scripts/diskbench", "--check"],
                          ["scripts/netbench", "--check"]],
              "scripts/test scaling"),
    ]
    return {stage.name: stage for stage in stages}


# Stages in one group run beside each other, those that fill the rest one after the other, and so do the others. A guest
# of two CPUs keeps one core of the host busy, and both for moments; two such guests at once spend a third of their time
# in waiting for CPUs that wait for a core. So the kernel's suites run one guest after the other. Benchmarks count
# instructions, so that it does not change them how busy the host is, and boot tests, most of which have one CPU, get a
# share that keeps them within their time. Lint fills the ends of the build, where there is one source left to compile.
GROUPS = (("build", "lint"), ("scaling",), ("race", "kernel", "host", "models", "bench", "fuzz", "boot"))
ORDER = ("build", "lint", "host", "models", "fuzz", "kernel", "race", "scaling", "boot", "bench")


def forget_settings():
    """Settings meant for `make run` must not change what the tests test."""
    for name in ("MEM", "CPUS", "CPU", "MACHINE", "CMDLINE", "ACCEL", "BUILD", "DEBUG", "UBSAN", "TEST", "TIMEOUT",
                 "QEMU", "QEMUEXTRA", "UNITS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        os.environ.pop(name, None)


def run_one(command, nice):
    """(status, output) of a command; one that cannot start is a failure with its reason as the output."""
    try:
        result = subprocess.run([*(("nice", "-n", str(nice)) if nice else ()), *command], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                check=False)
    except OSError as error:
        return 127, f"{command[0]}: {error.strerror}\n"
    return result.returncode, result.stdout


def count(text):
    """(passed, failed, skipped) of whatever kinds of cases a log has. A closing `N passed, N failed` covers the rest;
    otherwise TAP, lint lines and doctest summaries are added up."""
    lines = text.rstrip().split("\n")
    if match := SUMMARY.match(lines[-1]):
        return int(match[1]), int(match[2]), 0
    passed = failed = skipped = 0
    for line in lines:
        if match := TAP_CASE.match(line):
            passed, failed = passed + (match[1] == "ok"), failed + (match[1] != "ok")
        elif TAP_SKIP.match(line):
            skipped += 1
        elif match := LINT_CASE.match(line):
            passed, failed = passed + (match[1] == "OK"), failed + (match[1] != "OK")
        elif match := DOCTEST.match(line):
            passed, failed = passed + int(match[1]), failed + int(match[2])
    return passed, failed, skipped


def reproductions(stage, command, text, failed):
    """Reproducing commands: those that the log names, the failed lint checks, or the command itself."""
    found = [match[1] for match in map(REPRODUCE.match, text.split("\n")) if match]
    if stage.name == "lint":
        found += [f"scripts/lint {line.split()[1]}" for line in text.split("\n") if line.startswith("FAIL ")]
    if not found and failed:
        found = [shlex.join(command) if len(stage.commands) > 1 else stage.reproduce]
    return found


def run_stage(stage, packages):
    """`packages` is the process that installs what only the tests need; the build does not wait for it."""
    if stage.name == "build":
        return run_build()
    start = time.monotonic()
    result = Result(stage.name, 0, 0, 0, 0.0, [])
    answers = [run_one(command, stage.nice) if packages.wait() == 0 else MISSING for command in stage.commands]
    with open(os.path.join(LOGS, f"{stage.name}.log"), "w", encoding="utf-8") as log:
        for command, (status, text) in zip(stage.commands, answers):
            log.write(f"$ {shlex.join(command)}\n{text}\n")
            passed, failed, skipped = count(text)
            if not failed and (status != 0 or not passed):
                failed = 1
                result.note = f"exit status {status}" if status else "no case was reported"
            result.passed, result.failed = result.passed + passed, result.failed + failed
            result.skipped += skipped
            result.reproduce += reproductions(stage, command, text, failed)
    result.seconds = time.monotonic() - start
    return result


def run_build():
    """Each flavour is one case. The sanitizer's has all that the debug build has."""
    start = time.monotonic()
    result = Result("build", 0, 0, 0, 0.0, [])
    with open(os.path.join(LOGS, "build.log"), "w", encoding="utf-8") as log:
        for flavour in FLAVOURS:
            log.write(f"$ make {flavour}\n")
            log.flush()
            if guest.make("all", *(("iso",) if flavour == "release" else ()), flavour=flavour, output=log) == 0:
                result.passed += 1
            else:
                result.failed += 1
                result.reproduce.append("make all" + ("" if flavour == "release" else f" {flavour.upper()}=1"))
    result.seconds = time.monotonic() - start
    return result


def report(result):
    verdict = "FAIL" if result.failed else "ok  "
    skipped = f", {result.skipped} skipped" if result.skipped else ""
    note = f" ({result.note})" if result.note else ""
    print(f"{verdict} {result.stage:7}{result.seconds:6.1f} s  {result.passed} passed, {result.failed} failed{skipped}"
          f"{note}  {LOGS}/{result.stage}.log", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="scripts/test",
                                     description="Build Paean and run everything that a pull request must pass.")
    parser.add_argument("--full", action="store_true", help="all suites on every machine, more seeds, longer fuzzing")
    parser.add_argument("--list", action="store_true", help="name the stages")
    parser.add_argument("stages", nargs="*", metavar="stage", help=" ".join(ORDER))
    options = parser.parse_args()
    for name in options.stages:
        if name not in ORDER:
            parser.error(f"there is no stage {name}; stages: {' '.join(ORDER)}")
    return options


def run_groups(stages, wanted):
    """Runs the wanted stages group by group; yields results in the order of ORDER within what has finished."""
    packages = subprocess.Popen(["scripts/deps", "test"])
    for group in GROUPS:
        chosen = [stages[name] for name in group if name in wanted]
        with concurrent.futures.ThreadPoolExecutor(1) as first, concurrent.futures.ThreadPoolExecutor(1) as filling:
            results = [(filling if stage.nice else first).submit(run_stage, stage, packages) for stage in chosen]
            yield from (result.result() for result in results)


def summary(results):
    """The closing lines; returns whether all is well."""
    failures = [(result, line) for result in results for line in dict.fromkeys(result.reproduce)]
    if failures:
        print("\nTo reproduce:")
        for result, line in failures:
            print(f"  {result.stage}: {line}")
    passed, failed = sum(result.passed for result in results), sum(result.failed for result in results)
    print(f"{passed} passed, {failed} failed")
    return failed == 0


def main():
    guest.end_on_signals()
    os.chdir(guest.ROOT)
    options = parse_arguments()
    if options.list:
        print("\n".join(ORDER))
        return
    wanted = {"build", *options.stages} if options.stages else ORDER  # an up-to-date build takes no time
    stages = all_stages(options)
    forget_settings()
    os.makedirs(LOGS, exist_ok=True)
    guest.make("build/compile_commands.json", flavour="release")  # lint reads it while the build runs
    results = []
    for result in run_groups(stages, wanted):
        report(result)
        results.append(result)
    sys.exit(0 if summary(results) else 1)


if __name__ == "__main__":
    main()
